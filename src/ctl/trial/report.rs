//! What a trial showed: for people a summary, for programs an object for each input.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::timing::Timing;
use crate::ctl::args::TestArgs;
use crate::ctl::escape::{shown, shown_bytes};
use crate::ctl::screen::{Colour, Screen};
use crate::ctl::table::{Column, Table};
use crate::engine::filter::{Definition, Outcome, Part, Verdict};
use crate::engine::subject::Subject;

/// So many inputs of a kind are shown to people.
const SHOWN: usize = 500;

/// A summary in the making; its size does not depend on how many inputs there are.
pub(super) struct Report {
    title: String,
    patterns: Vec<(Part, String)>,
    hits: BTreeMap<Part, u64>,
    outcomes: BTreeMap<&'static str, u64>,
    matched: List<[String; 5]>,
    missed: List<(u64, String)>,
    /// On how many inputs a pattern gave no answer.
    gave_up: BTreeMap<Part, u64>,
    inputs: u64,
}

fn title(definition: &Definition, args: &TestArgs) -> String {
    let name = shown(&definition.name);
    match &args.jail {
        Some(jail) => format!("Jail {jail}, filter {name}"),
        None if definition.journalmatch.is_empty() => format!("Filter {name}"),
        None => format!("Filter {name}, mode {}", shown(&args.mode)),
    }
}

/// The first of many.
struct List<T> {
    first: Vec<T>,
    more: u64,
}

impl<T> List<T> {
    fn new() -> List<T> {
        List { first: Vec::new(), more: 0 }
    }

    fn add(&mut self, item: impl FnOnce() -> T) {
        if self.first.len() < SHOWN { self.first.push(item()) } else { self.more += 1 }
    }
}

impl Report {
    pub(super) fn new(definition: &Definition, args: &TestArgs) -> Report {
        let listed = |part: fn(usize) -> Part, texts: &[String]| {
            texts.iter().enumerate().map(|(at, text)| (part(at), text.clone())).collect::<Vec<_>>()
        };
        let mut patterns = listed(Part::Failregex, &definition.failregex);
        for (rule, field) in definition.fields.iter().enumerate() {
            let texts = field.failregex.iter().enumerate();
            patterns.extend(texts.map(|(at, text)| (Part::Field(rule, Some(at)), format!("{}: {text}", field.field))));
        }
        if patterns.is_empty() {
            patterns.extend(definition.address.as_ref().map(|field| (Part::Address, field.name().to_owned())));
        }
        patterns.extend(listed(Part::Ignoreregex, &definition.ignoreregex));
        Report {
            title: title(definition, args),
            patterns,
            hits: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            matched: List::new(),
            missed: List::new(),
            gave_up: BTreeMap::new(),
            inputs: 0,
        }
    }

    /// An input that was refused has become what this verdict says.
    pub(super) fn add_late(&mut self, number: u64, text: &[u8], verdict: &Verdict) {
        if let Some(refused) = self.outcomes.get_mut(word(Outcome::Refused)) {
            *refused = refused.saturating_sub(1);
        }
        self.outcomes.retain(|_, count| *count > 0);
        *self.outcomes.entry(word(verdict.outcome)).or_default() += 1;
        self.list(number, text, verdict);
    }

    pub(super) fn add(&mut self, number: u64, text: &[u8], verdict: &Verdict) {
        self.inputs += 1;
        *self.outcomes.entry(word(verdict.outcome)).or_default() += 1;
        for part in verdict.pattern.into_iter().chain(ignoring(verdict.outcome)) {
            *self.hits.entry(part).or_default() += 1;
        }
        verdict.gave_up.iter().for_each(|part| *self.gave_up.entry(*part).or_default() += 1);
        self.list(number, text, verdict);
    }

    fn list(&mut self, number: u64, text: &[u8], verdict: &Verdict) {
        match verdict.outcome {
            Outcome::Elsewhere => {}
            Outcome::NoMatch => self.missed.add(|| (number, shown_bytes(text))),
            outcome => self.matched.add(|| {
                let pattern = verdict.pattern.map(|part| part.to_string()).unwrap_or_default();
                let captures = verdict.captures.iter().map(|(name, value)| format!("{name}={}", shown_bytes(value)));
                let captures = captures.collect::<Vec<_>>().join(" ");
                [number.to_string(), word(outcome).into(), subject(outcome).unwrap_or_default(), pattern, captures]
            }),
        }
    }

    pub(super) fn write(&self, timing: &Timing, screen: &mut Screen) -> Result<()> {
        let look = screen.look();
        writeln!(screen, "{}\n", self.title)?;
        let mut table = Table::new(&[
            Column::Right("HITS"),
            Column::Right("µs"),
            Column::Right("MOST"),
            Column::Left("PATTERN"),
            Column::Left("TEXT"),
        ]);
        for (part, text) in &self.patterns {
            let hits = self.hits.get(part).copied().unwrap_or(0).to_string();
            let (mean, longest) = timing.of(*part).unwrap_or_default();
            table.row([hits.as_str(), &mean, &longest, &part.to_string(), text]);
        }
        table.write(screen)?;
        if !self.matched.first.is_empty() {
            writeln!(screen)?;
            let mut table = Table::new(&[
                Column::Right("INPUT"),
                Column::Left("OUTCOME"),
                Column::Left("SUBJECT"),
                Column::Left("PATTERN"),
                Column::Left("CAPTURES"),
            ]);
            self.matched.first.iter().for_each(|row| table.row(row));
            table.write(screen)?;
            more(screen, self.matched.more)?;
        }
        if !self.missed.first.is_empty() {
            writeln!(screen)?;
            let mut table = Table::new(&[Column::Right("INPUT"), Column::Left("MISSED")]);
            self.missed.first.iter().for_each(|(number, text)| table.row([&number.to_string(), text]));
            table.write(screen)?;
            more(screen, self.missed.more)?;
        }
        if !self.gave_up.is_empty() {
            writeln!(screen)?;
            let mut table = Table::new(&[Column::Right("INPUTS"), Column::Left("TOO LONG FOR")]);
            self.gave_up.iter().for_each(|(part, count)| table.row([&count.to_string(), &part.to_string()]));
            table.write(screen)?;
        }
        if look.legend {
            let failures = self.outcomes.get("failure").copied().unwrap_or(0);
            let colour = if failures > 0 { Colour::Green } else { Colour::Yellow };
            let counts: Vec<String> = self.outcomes.iter().map(|(word, count)| format!("{count} {word}")).collect();
            let inputs = if self.inputs == 1 { "input" } else { "inputs" };
            let counts = if counts.is_empty() { "nothing".into() } else { counts.join(", ") };
            writeln!(screen, "\n{} {} {inputs}: {counts}.", look.dot(colour), self.inputs)?;
        }
        Ok(())
    }
}

fn more(screen: &mut Screen, count: u64) -> Result<()> {
    if count > 0 {
        writeln!(screen, "… and {count} more (--json tells them all)")?;
    }
    Ok(())
}

/// The object of one input.
pub(super) fn json(number: u64, verdict: &Verdict) -> Value {
    let captures: Map<String, Value> =
        verdict.captures.iter().map(|(name, value)| (name.clone(), bytes_json(value))).collect();
    let subject = subject(verdict.outcome);
    json!({
        "n": number,
        "match": subject.is_some(),
        "subject": subject,
        "captures": captures,
        "outcome": word(verdict.outcome),
        "pattern": verdict.pattern.map(|part| part.to_string()),
        "gave_up": verdict.gave_up.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn bytes_json(bytes: &[u8]) -> Value {
    str::from_utf8(bytes).map_or_else(|_| Value::from(bytes.to_vec()), Value::from)
}

/// Whose failure is completed.
fn subject(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::Failure(address) => Some(Subject::host(address).to_string()),
        _ => None,
    }
}

fn ignoring(outcome: Outcome) -> Option<Part> {
    match outcome {
        Outcome::Ignored(by) => Some(Part::Ignoreregex(by)),
        _ => None,
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Elsewhere => "elsewhere",
        Outcome::Unvouched => "unvouched",
        Outcome::NoMatch => "no-match",
        Outcome::Ignored(_) => "ignored",
        Outcome::NoAddress => "no-address",
        Outcome::Pending => "pending",
        Outcome::NoFail => "nofail",
        Outcome::Refused => "refused",
        Outcome::Success => "success",
        Outcome::Counted => "counted",
        Outcome::Failure(_) => "failure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_says_whether_a_failure_is_complete() {
        let captures = vec![("user".to_owned(), b"a\xff".to_vec()), ("addr".to_owned(), b"::ffff:192.0.2.1".to_vec())];
        let address = "::ffff:192.0.2.1".parse().unwrap();
        let verdict = Verdict {
            outcome: Outcome::Failure(address),
            pattern: Some(Part::Failregex(2)),
            captures,
            gave_up: vec![],
        };
        let expected = json!({
            "n": 7, "match": true, "subject": "192.0.2.1", "outcome": "failure", "pattern": "failregex[2]", "gave_up": [],
            "captures": { "user": [97, 255], "addr": "::ffff:192.0.2.1" },
        });
        assert_eq!(json(7, &verdict), expected);
        let pending =
            Verdict { outcome: Outcome::Pending, pattern: None, captures: vec![], gave_up: vec![Part::Failregex(0)] };
        assert_eq!(json(1, &pending)["match"], json!(false));
        assert_eq!(json(1, &pending)["subject"], Value::Null);
        assert_eq!(json(1, &pending)["gave_up"], json!(["failregex[0]"]));
    }
}
