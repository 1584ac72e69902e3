//! What is tried: lines from anywhere, and entries as `journalctl -o json` writes them.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde_json::{Map, Value};

use crate::ctl::args::TestArgs;
use crate::engine::entry::{Page, Wanted};
use crate::engine::time::Stamp;

/// The inputs, one after the other.
pub(super) struct Inputs {
    source: Box<dyn BufRead>,
    name: String,
    line: Vec<u8>,
    /// Lines read so far.
    lines: u64,
    /// Inputs given so far.
    given: u64,
    skip_empty: bool,
    live: bool,
}

impl Inputs {
    pub(super) fn open(args: &TestArgs) -> Result<Inputs> {
        let (source, name): (Box<dyn BufRead>, String) = match args.entries.as_ref().or(args.line_file.as_ref()) {
            None => (Box::new(io::Cursor::new(joined(&args.lines))), "arguments".into()),
            Some(path) if path == Path::new("-") => (Box::new(io::stdin().lock()), "standard input".into()),
            Some(path) => {
                #[expect(clippy::disallowed_methods, reason = "the file that is asked for")]
                let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                (Box::new(BufReader::new(file)), path.display().to_string())
            }
        };
        let live = name == "standard input";
        Ok(Inputs { source, name, line: Vec::new(), lines: 0, given: 0, skip_empty: args.entries.is_some(), live })
    }

    /// Goes to the next input, if there is one.
    pub(super) fn advance(&mut self) -> Result<bool> {
        loop {
            self.line.clear();
            let read = self.source.read_until(b'\n', &mut self.line);
            if read.with_context(|| format!("cannot read {}", self.name))? == 0 {
                return Ok(false);
            }
            self.lines += 1;
            self.line.pop_if(|byte| *byte == b'\n');
            if !self.skip_empty || !self.line.trim_ascii().is_empty() {
                self.given += 1;
                return Ok(true);
            }
        }
    }

    /// The current input, without its newline.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// The number of the current input, from 1.
    pub(super) fn number(&self) -> u64 {
        self.given
    }

    /// May somebody wait for an answer before the next input comes?
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// An error about the current input.
    pub(super) fn at(&self, error: EntryError) -> anyhow::Error {
        anyhow!("{}:{}: {error}", self.name, self.lines)
    }
}

/// Arguments as lines; a newline within one of them begins another.
fn joined(lines: &[OsString]) -> Vec<u8> {
    let mut all = Vec::new();
    for line in lines {
        all.extend(line.clone().into_vec());
        all.push(b'\n');
    }
    all
}

/// Why a line is no journal entry.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntryError {
    /// No JSON object.
    #[error("no journal entry as journalctl -o json writes it: {0}")]
    Json(#[source] serde_json::Error),
    /// A field whose value no journal entry has.
    #[error("the field {0:?} is neither a text nor bytes nor a list of these")]
    Value(String),
    /// An address field that is none.
    #[error("{0} is not what journalctl writes there")]
    Address(&'static str),
}

/// Fills `page` with the entry that `line` holds: fields are strings, lists of bytes where they are no UTF-8, lists of
/// both where a field comes more than once, and null where they were too long for journalctl.
pub(super) fn read_entry(line: &[u8], wanted: &Wanted, page: &mut Page) -> Result<(), EntryError> {
    let fields: Map<String, Value> = serde_json::from_slice(line).map_err(EntryError::Json)?;
    let stamp = match fields.get("__REALTIME_TIMESTAMP") {
        None => Stamp::EPOCH,
        Some(usec) => {
            let usec = usec.as_str().and_then(|usec| usec.parse().ok());
            Stamp::from_usec(usec.ok_or(EntryError::Address("__REALTIME_TIMESTAMP"))?)
        }
    };
    let boot = match fields.get("_BOOT_ID") {
        None => 0,
        Some(boot) => {
            let boot = boot.as_str().and_then(|boot| u128::from_str_radix(boot, 16).ok());
            boot.ok_or(EntryError::Address("_BOOT_ID"))?
        }
    };
    page.begin(stamp, boot);
    for (name, value) in &fields {
        let refused = || EntryError::Value(name.clone());
        let Some(slot) = wanted.slot(name.as_bytes()) else { continue };
        match value {
            Value::Null => {}
            Value::Array(items) if items.iter().any(|item| !item.is_number()) => {
                for item in items.iter().filter(|item| !item.is_null()) {
                    page.put(slot, &bytes(item).ok_or_else(refused)?);
                }
            }
            one => page.put(slot, &bytes(one).ok_or_else(refused)?),
        }
    }
    Ok(())
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Array(items) => items.iter().map(|item| u8::try_from(item.as_u64()?).ok()).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::entry::Field;
    use proptest::prelude::*;

    fn messages(line: &str) -> Result<Vec<Vec<u8>>, EntryError> {
        let mut wanted = Wanted::default();
        let slot = wanted.want(&Field::message());
        let mut page = Page::default();
        read_entry(line.as_bytes(), &wanted, &mut page)?;
        Ok(page.entry().values(slot).map(|text| text.bytes.to_vec()).collect())
    }

    #[test]
    fn a_field_has_every_shape_that_journalctl_gives_it() {
        for (line, expected) in [
            (r#"{"MESSAGE":"a\u001b","X":{"y":1}}"#, vec![b"a\x1b".to_vec()]),
            (r#"{"MESSAGE":[97,255,0]}"#, vec![b"a\xff\0".to_vec()]),
            (r#"{"MESSAGE":["a","b"]}"#, vec![b"a".to_vec(), b"b".to_vec()]),
            (r#"{"MESSAGE":["a",[255]]}"#, vec![b"a".to_vec(), b"\xff".to_vec()]),
            (r#"{"MESSAGE":[[1],[2,3],null]}"#, vec![vec![1], vec![2, 3]]),
            (r#"{"MESSAGE":null}"#, vec![]),
            (r#"{"MESSAGE":[]}"#, vec![vec![]]),
            ("{}", vec![]),
        ] {
            assert_eq!(messages(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for line in [
            "",
            "[]",
            "MESSAGE=x",
            r#"{"MESSAGE":5}"#,
            r#"{"MESSAGE":[256]}"#,
            r#"{"MESSAGE":[1.5]}"#,
            r#"{"MESSAGE":["a",5]}"#,
            r#"{"MESSAGE":{}}"#,
            r#"{"__REALTIME_TIMESTAMP":"soon"}"#,
            r#"{"_BOOT_ID":"xyz"}"#,
        ] {
            assert!(messages(line).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_much(line in any::<Vec<u8>>()) {
            let _ = read_entry(&line, &Wanted::default(), &mut Page::default());
        }
    }
}
