//! What `--dry-run` prints: each decision as a JSON line, and the totals when the journal ends.

use std::io::{self, Write};

use serde::Serialize;

use crate::engine::ban::Ban;
use crate::engine::time::Stamp;
use crate::engine::warden::Decision;

/// Counts what it prints.
#[derive(Debug, Default)]
pub struct Printer {
    bans: u64,
    past: u64,
    reports: u64,
    ended: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    decision: &'static str,
    jail: &'a str,
    subject: String,
    since: u64,
    /// `null`: permanent.
    until: Option<u64>,
    failures: u32,
    cause: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evidence: Vec<String>,
}

/// The last line of a dry run.
#[derive(Serialize)]
struct Totals {
    decision: &'static str,
    entries: u64,
    failures: u64,
    bans: u64,
    past: u64,
    reports: u64,
    ended: u64,
}

impl Printer {
    /// Prints a decision: `ban` (in force now), `past` (its end is over already), `report` (the jail only logs), `end`.
    /// Times are µs since the epoch.
    ///
    /// # Errors
    /// Where standard output is gone.
    pub fn decision(&mut self, decision: &Decision) -> io::Result<()> {
        let (word, ban, end, count) = match decision {
            Decision::Ban(ban) => ("ban", ban, None, &mut self.bans),
            Decision::Past(ban) => ("past", ban, None, &mut self.past),
            Decision::Report(ban) => ("report", ban, None, &mut self.reports),
            Decision::End { ban, end, .. } => ("end", ban, Some(end.word()), &mut self.ended),
        };
        *count += 1;
        print(&line(word, ban, end))
    }

    /// Prints the totals.
    ///
    /// # Errors
    /// Where standard output is gone.
    pub fn totals(&self, entries: u64, failures: u64) -> io::Result<()> {
        let Printer { bans, past, reports, ended } = *self;
        print(&Totals { decision: "totals", entries, failures, bans, past, reports, ended })
    }
}

fn line<'a>(decision: &'static str, ban: &'a Ban, end: Option<&'static str>) -> Line<'a> {
    Line {
        decision,
        jail: ban.place.jail.as_str(),
        subject: ban.place.subject.to_string(),
        since: ban.since.usec(),
        until: (ban.until != Stamp::NEVER).then(|| ban.until.usec()),
        failures: ban.failures,
        cause: ban.cause.to_string(),
        end,
        evidence: ban.cause.evidence().iter().map(ToString::to_string).collect(),
    }
}

fn print(value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(value).map_err(io::Error::other)?;
    text.push(b'\n');
    io::stdout().lock().write_all(&text)
}
