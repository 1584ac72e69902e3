//! A filter's texts as somebody may write them: they compile, or every fault is told with its place. What compiles ends
//! soon, whatever it is asked about.

use std::sync::Arc;
use std::time::{Duration, Instant};

use banish::engine::filter::{Definition, Filter, Part, Trial, Trust};

/// Lines: journalmatch, prefregex (empty for none), ignoreregex (empty for none), then failregexes.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n').map(str::to_owned);
    let mut optional = || lines.next().filter(|line| !line.is_empty());
    let (journalmatch, prefregex, ignoreregex) = (optional(), optional(), optional());
    let definition = Definition {
        name: "fuzzed".into(),
        journalmatch: journalmatch.into_iter().collect(),
        trust: if data.len().is_multiple_of(2) { Trust::Attested } else { Trust::Claimed },
        prefregex,
        failregex: lines.take(8).collect(),
        ignoreregex: ignoreregex.into_iter().collect(),
        ..Definition::default()
    };
    let source = |part: Part| match part {
        Part::Journalmatch(at) => definition.journalmatch.get(at),
        Part::Prefregex => definition.prefregex.as_ref(),
        Part::Failregex(at) => definition.failregex.get(at),
        Part::Ignoreregex(at) => definition.ignoreregex.get(at),
        Part::Field(..) | Part::Session | Part::Address | Part::Whole => None,
    };
    match Filter::compile(&definition) {
        Ok(filter) => {
            assert!(filter.unanchored().iter().all(|part| source(*part).is_some()));
            let backtracking = filter.needs_backtracking();
            let mut trial = Trial::new(Arc::new(filter));
            let begun = Instant::now();
            for message in [&[b'a'; 1024][..], &b"ab ".repeat(300), &b"192.0.2.1 ".repeat(100)] {
                let verdict = trial.message(message);
                assert!(verdict.gave_up.iter().all(|part| backtracking.contains(part)));
            }
            // A generous bound for a slow machine and an engine that is not optimized.
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
            for message in [&b""[..], b"192.0.2.1", b"bad login from 192.0.2.1 port 22", text.as_bytes()] {
                let verdict = trial.message(message);
                // Whatever was captured stands in the message.
                for (name, value) in &verdict.captures {
                    let found = value.is_empty() || message.windows(value.len()).any(|window| window == value);
                    assert!(found, "{name} is not in the message");
                }
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults {
                assert!(!fault.reason.is_empty() && !fault.to_string().is_empty());
                let (Some(offset), Some(source)) = (fault.offset, source(fault.at)) else { continue };
                assert!(source.is_char_boundary(offset), "{fault} at {offset} of {source:?}");
            }
        }
    }
}
