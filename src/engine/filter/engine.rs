//! One pattern that tells its groups, by the engine that it needs.

use std::sync::Arc;

use regex_automata::Span;
use regex_syntax::hir::{Hir, Look};

use super::allowance::Allowance;
use super::backtracking::Backtracking;
use super::dialect::{self, Flaw};
use super::halves::Room;
use super::linear::{self, Linear};
use crate::engine::entry::Text;

/// One pattern, in the engine that it needs.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    kind: Kind,
    /// The names of its groups, by their numbers.
    names: Arc<[Option<Box<str>>]>,
}

#[derive(Clone, Debug)]
enum Kind {
    Linear(Box<Linear>),
    Backtracking(Arc<Backtracking>),
}

/// The memory of an engine.
#[derive(Debug)]
pub(super) struct Memory {
    linear: Option<linear::Memory>,
    /// Where each group of the last match stands, by its number.
    spans: Vec<Option<Span>>,
    /// Did the last search end without an answer?
    gave_up: bool,
}

/// A pattern as it was understood.
pub(super) struct Understood {
    pub(super) engine: Engine,
    /// What the linear-time engine takes of it.
    pub(super) text: String,
    pub(super) from_start: bool,
    pub(super) to_end: bool,
}

impl Engine {
    /// Understands a pattern of fail2ban's.
    pub(super) fn of(source: &str, allowance: &mut Allowance) -> Result<Understood, Flaw> {
        let translation = dialect::translate(source)?;
        allowance.take(&translation)?;
        let plain = &translation.plain;
        let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(&plain.text);
        let hir: Hir = hir.map_err(|error| {
            let (offset, reason) = match &error {
                regex_syntax::Error::Parse(error) => (error.span().start.offset, error.kind().to_string()),
                regex_syntax::Error::Translate(error) => (error.span().start.offset, error.kind().to_string()),
                _ => (0, error.to_string()),
            };
            Flaw { offset: Some(plain.source_of(offset)), reason }
        })?;
        let from_start = hir.properties().look_set_prefix().contains(Look::Start);
        let to_end = hir.properties().look_set_suffix().contains(Look::End);
        let (kind, names) = match &translation.demanding {
            None => {
                let linear = Linear::new(&plain.text, to_end)?;
                let names = linear.names();
                (Kind::Linear(Box::new(linear)), names)
            }
            Some(demanding) => {
                let engine = Backtracking::new(demanding, &plain.text, from_start)?;
                let names = engine.names();
                (Kind::Backtracking(Arc::new(engine)), names)
            }
        };
        let names = names.into_iter().map(|name| name.map(Into::into)).collect();
        Ok(Understood { engine: Engine { kind, names }, text: translation.plain.text, from_start, to_end })
    }

    /// Makes a linear one, one of so many, ready for texts that may or may not match; the other is.
    pub(super) fn alone(self, among: usize) -> Result<Engine, Flaw> {
        let kind = match self.kind {
            Kind::Linear(linear) => Kind::Linear(Box::new(linear.alone(among)?)),
            Kind::Backtracking(engine) => Kind::Backtracking(engine),
        };
        Ok(Engine { kind, ..self })
    }

    pub(super) fn backtracks(&self) -> bool {
        matches!(self.kind, Kind::Backtracking(_))
    }

    /// How many searches ended without an answer.
    pub(super) fn given_up(&self) -> u64 {
        match &self.kind {
            Kind::Linear(_) => 0,
            Kind::Backtracking(engine) => engine.given_up(),
        }
    }

    /// The number of the group of this name.
    pub(super) fn group(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known.as_deref() == Some(name))
    }

    /// The names of its groups, with their numbers.
    pub(super) fn names(&self) -> impl Iterator<Item = (usize, &str)> {
        self.names.iter().enumerate().filter_map(|(at, name)| Some((at, name.as_deref()?)))
    }

    pub(super) fn memory(&self) -> Memory {
        let linear = match &self.kind {
            Kind::Linear(linear) => Some(linear.memory()),
            Kind::Backtracking(_) => None,
        };
        Memory { linear, spans: Vec::new(), gave_up: false }
    }

    /// Does it match? Where its groups stand is then in the memory.
    pub(super) fn search(&self, text: Text<'_>, memory: &mut Memory) -> bool {
        match (&self.kind, &mut memory.linear) {
            (Kind::Linear(linear), Some(own)) => linear.search(text, own, &mut memory.spans),
            (Kind::Backtracking(engine), _) => {
                let found = engine.search(text, &mut memory.spans);
                memory.gave_up = found.is_none();
                found.unwrap_or(false)
            }
            (Kind::Linear(_), None) => false,
        }
    }

    /// The groups of a match that starts where the text does and is known to be there.
    pub(super) fn read(&self, text: Text<'_>, memory: &mut Memory, room: &Room) {
        match (&self.kind, &mut memory.linear) {
            (Kind::Linear(linear), Some(own)) => linear.read(text, own, &mut memory.spans, room),
            // What this one finds is read already.
            (Kind::Backtracking(_), _) | (Kind::Linear(_), None) => {}
        }
    }

    /// The groups of the last match by name.
    pub(super) fn named(&self, memory: &Memory, text: &[u8]) -> Vec<(String, Vec<u8>)> {
        let groups = self.names().filter_map(|(at, name)| Some((name, memory.span(at)?)));
        groups.map(|(name, span)| (name.to_owned(), text[span.start..span.end].to_vec())).collect()
    }
}

impl Memory {
    pub(super) fn span(&self, group: usize) -> Option<Span> {
        self.spans.get(group).copied().flatten()
    }

    /// Did the last search end without an answer?
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Before another entry.
    pub(super) fn forget(&mut self) {
        self.gave_up = false;
    }
}
