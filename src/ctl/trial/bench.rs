//! A filter on trial, and how inputs are put before it.

use std::sync::Arc;

use super::input;
use crate::ctl::args::TestArgs;
use crate::engine::entry::{Entry, Field, Page, Slot, Wanted};
use crate::engine::filter::{Definition, Filter, Overdue, Trial, Verdict};
use crate::engine::time::Stamp;

/// The filter on trial, and how inputs are put before it.
pub(super) struct Bench {
    trial: Trial,
    page: Page,
    message: Option<Slot>,
    session: Option<Slot>,
    entries: bool,
    any_source: bool,
}

impl Bench {
    pub(super) fn new(definition: &Definition, filter: Arc<Filter>, args: &TestArgs) -> Bench {
        let trial = Trial::new(filter);
        let session = definition.session.as_ref().filter(|_| args.one_session);
        Bench {
            message: trial.wanted().slot(b"MESSAGE"),
            session: session.and_then(|field| trial.wanted().slot(field.name().as_bytes())),
            page: Page::default(),
            entries: args.entries.is_some(),
            // What says nothing of where entries come from takes them from anywhere.
            any_source: args.any_source || definition.journalmatch.is_empty(),
            trial,
        }
    }

    /// Tries a line, as a MESSAGE or as the entry that it holds.
    pub(super) fn try_on(&mut self, line: &[u8]) -> Result<Verdict, input::EntryError> {
        let mut page = std::mem::take(&mut self.page);
        let verdict = if self.entries {
            input::read_entry(line, self.trial.wanted(), &mut page).map(|()| self.try_entry(page.entry()))
        } else {
            page.begin(Stamp::EPOCH, 0);
            if let Some(message) = self.message {
                page.put(message, line);
            }
            if let Some(session) = self.session {
                page.put(session, b"1");
            }
            Ok(self.trial.examine_anywhere(page.entry()))
        };
        self.page = page;
        verdict
    }

    /// Tries an entry.
    pub(super) fn try_entry(&mut self, entry: Entry<'_>) -> Verdict {
        if self.any_source { self.trial.examine_anywhere(entry) } else { self.trial.examine(entry) }
    }

    /// How many inputs were tried.
    pub(super) fn tried(&self) -> u64 {
        self.trial.tried()
    }

    /// The refused inputs that have become failures since this was last asked.
    pub(super) fn overdue(&mut self) -> Vec<Overdue> {
        self.trial.overdue()
    }

    /// There is no further input: what was refused and is not settled has become a failure.
    pub(super) fn end(&mut self) {
        self.trial.pass(Stamp::NEVER);
    }

    /// The fields that entries must have copied.
    pub(super) fn wanted(&self) -> &Wanted {
        self.trial.wanted()
    }

    /// What sd-journal is asked for; `None`: all entries.
    pub(super) fn terms(&self) -> Option<Vec<(Field, Vec<u8>)>> {
        if self.any_source { None } else { self.trial.terms() }
    }

    /// What is shown of the input tried last.
    pub(super) fn text(&self, line: &[u8]) -> Vec<u8> {
        if self.entries { self.message_of(self.page.entry()) } else { line.to_vec() }
    }

    /// What is shown of an entry.
    pub(super) fn message_of(&self, entry: Entry<'_>) -> Vec<u8> {
        let message = self.message.and_then(|slot| entry.first(slot));
        message.map(|text| text.bytes.to_vec()).unwrap_or_default()
    }
}
