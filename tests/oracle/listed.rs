//! The differences that are meant, as `docs/differences.md` lists them.

use std::collections::{BTreeMap, BTreeSet};

/// By filter: the keys of the samples.
pub type Differences = BTreeMap<String, BTreeSet<String>>;

/// The list below the heading `## WHOSE filters`; each `### NAME` has bullets with keys in backticks.
pub fn listed(whose: &str) -> Differences {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/differences.md");
    let text = std::fs::read_to_string(path).unwrap();
    let heading = format!("## {whose} filters");
    let section = text.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with("## "));
    let mut listed = Differences::new();
    let mut filter = None;
    for line in section {
        if let Some(name) = line.strip_prefix("### ") {
            filter = Some(listed.entry(name.to_owned()).or_default());
        } else if let Some(keys) = &mut filter {
            keys.extend(line.split('`').filter(|word| is_key(word)).map(str::to_owned));
        }
    }
    assert!(!listed.is_empty(), "{path} has no {heading:?}");
    listed
}

fn is_key(word: &str) -> bool {
    word.len() == 12 && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
