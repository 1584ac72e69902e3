//! What the slowest messages of 8 KiB cost that a stranger may have written, per filter: µs a message.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs, reason = "a benchmark is an edge")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use banish::config::load_filter_file;
use banish::engine::filter::{Definition, Filter, Trial};

/// What a user may write who does not think of those who write the messages.
const CARELESS: [&str; 4] = [
    "^(?:[a-z]+[0-9a-z]*[.,;: ]*)*login failed for <F-USER>.*</F-USER> from <ADDR>$",
    "(?i)(?:fail(?:ed|ure)|invalid|refused).{0,200}<HOST>.{0,100}end$",
    "^<F-USER>.*</F-USER> <ADDR> .* <F-PORT>\\d+</F-PORT> (?:a?){20}a{20}$",
    "^(?:a|aa|aaa)*(?:b|bb)*<ADDR>",
];

fn main() {
    println!("{:24} {:>9} {:>9}  slowest message", "filter", "median µs", "most µs");
    let mut files: Vec<_> = std::fs::read_dir("etc/filter.d").unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    for file in files {
        for mode in ["normal", "aggressive"] {
            if let Some((definition, filter)) = load_filter_file(&file, mode).filter {
                measure(&format!("{} {mode}", name(&file)), &definition.failregex, &filter);
            }
        }
    }
    for pattern in CARELESS {
        let definition = Definition {
            name: "careless".into(),
            journalmatch: vec!["_SYSTEMD_UNIT=a.service".into()],
            failregex: vec![pattern.into()],
            ..Definition::default()
        };
        measure(&pattern[..20], &definition.failregex, &Arc::new(Filter::compile(&definition).unwrap()));
    }
}

fn name(file: &Path) -> String {
    file.file_stem().unwrap().to_string_lossy().into_owned()
}

fn measure(name: &str, patterns: &[String], filter: &Arc<Filter>) {
    let mut trial = Trial::new(Arc::clone(filter));
    let mut times: Vec<(u128, String)> = messages(patterns)
        .into_iter()
        .map(|message| {
            trial.message(message.as_bytes());
            let begun = Instant::now();
            for _ in 0..4 {
                trial.message(message.as_bytes());
            }
            (begun.elapsed().as_nanos() / 4000, message)
        })
        .collect();
    times.sort();
    let (most, worst) = times.last().unwrap();
    let shown: String = worst.chars().take(60).collect();
    println!("{name:24} {:9} {most:9}  {shown:?} ({} bytes)", times[times.len() / 2].0, worst.len());
}

/// The patterns' own literals as often as they fit, alone and with what makes the whole match at last, whole and cut.
fn messages(patterns: &[String]) -> Vec<String> {
    let mut texts = Vec::new();
    for pattern in patterns {
        let plain = plain(pattern);
        let words: Vec<&str> = plain.split("192.0.2.1").collect();
        let (first, last) = (words[0], words.last().copied().unwrap_or_default());
        for unit in [plain.as_str(), first, last, " from 192.0.2.1 port 1", "a", "aA0 ", "1.1.1.1 ", "::1 "] {
            if unit.is_empty() {
                continue;
            }
            let filling = unit.repeat(8000 / unit.len());
            let whole = format!("{first}{filling}192.0.2.1{last}");
            texts.extend([filling.clone(), format!("{first}{filling}"), whole.chars().take(8192).collect()]);
            texts.push(format!("{first}{filling}{filling}"));
            let room = 8190usize.saturating_sub(first.len() + last.len() + 9);
            texts.push(format!("{first}{}192.0.2.1{last}", &filling[..filling.len().min(room)]));
        }
    }
    texts
}

/// A text that a simple pattern matches, more or less.
fn plain(pattern: &str) -> String {
    let mut text = pattern.replace("<ADDR>", "192.0.2.1").replace("<HOST>", "192.0.2.1").replace(r"\d+", "22");
    for (tag, word) in [
        (".*", "x"),
        (r"\S+", "x"),
        (r"\w+", "x"),
        ("[12]", "2"),
        ("(?:", ""),
        (")?", ""),
        (")", ""),
        ("^", ""),
        ("$", ""),
    ] {
        text = text.replace(tag, word);
    }
    while let (Some(from), Some(to)) = (text.find('<'), text.find('>')) {
        if from > to {
            break;
        }
        text.replace_range(from..=to, "");
    }
    text.split('|').next().unwrap_or_default().replace('\\', "")
}
