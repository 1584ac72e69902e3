//! A filter tried on the journal's past.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Error, Result};

use super::Told;
use super::bench::Bench;
use crate::ctl::when::{self, Since};
use crate::engine::entry::{Entry, Field, Locate, Wanted};
use crate::engine::filter::{Hit, Outcome};
use crate::journal::{Examine, Source, read_between};

/// Tries the entries since then, up to the present end.
///
/// # Errors
/// The journal cannot be read, or the verdicts cannot be written.
pub(super) fn read(since: Since, directory: Option<&Path>, bench: Bench, told: &mut Told) -> Result<()> {
    let source = directory.map_or(Source::Live, |directory| Source::Directory(directory.into()));
    let ended = AtomicBool::new(false);
    let mut past = Past { bench, tried: 0, told, failed: None, ended: &ended };
    let go_on = || !ended.load(Ordering::Relaxed);
    let outcome = read_between(&source, since.instant(when::now()), None, &mut past, &mut |_| {}, &go_on);
    let Past { mut bench, told, failed, .. } = past;
    match failed {
        Some(error) => Err(error),
        None => {
            outcome.context("cannot read the journal")?;
            told.end(&mut bench)
        }
    }
}

/// The bench as the reader's examiner: it sights nothing and tells everything.
struct Past<'a> {
    bench: Bench,
    tried: u64,
    told: &'a mut Told,
    failed: Option<Error>,
    /// Nobody listens any more.
    ended: &'a AtomicBool,
}

impl Examine for Past<'_> {
    fn wanted(&self) -> &Wanted {
        self.bench.wanted()
    }

    fn terms(&self) -> Option<Vec<(Field, Vec<u8>)>> {
        self.bench.terms()
    }

    fn examine(&mut self, entry: Entry<'_>, _locate: Locate<'_>, _sighted: &mut dyn FnMut(Hit)) {
        let verdict = self.bench.try_entry(entry);
        // The journal's index finds more than journalmatch asks for.
        if verdict.outcome == Outcome::Elsewhere || self.failed.is_some() {
            return;
        }
        self.tried += 1;
        if let Err(error) = self.told.tell(self.tried, &self.bench.message_of(entry), verdict, &mut self.bench) {
            self.failed = Some(error);
            self.ended.store(true, Ordering::Relaxed);
        }
    }
}
