//! Patterns that need no backtracking: a search takes time in proportion to the text, whatever the two are.

use std::sync::OnceLock;

use regex::bytes::{CaptureLocations, Regex, RegexBuilder};
use regex_automata::meta;
use regex_automata::nfa::thompson::pikevm::{self, PikeVM};
use regex_automata::nfa::thompson::{self, backtrack};
use regex_automata::util::captures::Captures;
use regex_automata::util::primitives::PatternID;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, Span};

use super::dialect::Flaw;
use super::halves::{self, Halves, Room};
use crate::engine::entry::Text;

/// The most that one set of patterns may need when compiled, in bytes. What is as large has been refused before it is
/// compiled.
pub(super) const PROGRAM_LIMIT: usize = 32 << 20;
/// What the engine may keep of the automaton it builds as it goes, per set, in bytes.
const CACHE_LIMIT: usize = 2 << 20;
/// What it may keep of all automata of patterns that are asked one by one.
const ALL_CACHES_LIMIT: usize = 8 << 20;
/// What it may keep of each of these where they are many. Which texts come is a stranger's choice, and they fill it.
pub(super) const SMALL_CACHE_LIMIT: usize = 32 << 10;

/// Several patterns that are asked all at once.
pub(super) fn together(texts: &[&str]) -> Result<meta::Regex, Flaw> {
    let config =
        meta::Config::new().utf8_empty(false).nfa_size_limit(Some(PROGRAM_LIMIT)).hybrid_cache_capacity(CACHE_LIMIT);
    meta::Builder::new().syntax(bytes()).configure(config).build_many(texts).map_err(|error| match error.size_limit() {
        Some(limit) => too_large(limit),
        None => Flaw::whole(error.to_string()),
    })
}

/// One pattern that is asked by itself, for whole texts, and what the engine may keep of its automaton.
pub(super) fn single(text: &str, cache: usize) -> Result<Regex, Flaw> {
    let single = RegexBuilder::new(text).unicode(false).size_limit(PROGRAM_LIMIT).dfa_size_limit(cache).build();
    single.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => too_large(limit),
        error => Flaw::whole(error.to_string()),
    })
}

/// A cut text is searched up to its last byte but one: there `$` cannot match, and what stands at the cut is known.
pub(super) fn input(text: Text<'_>) -> Input<'_> {
    let end = if text.cut { text.bytes.len().saturating_sub(1) } else { text.bytes.len() };
    Input::new(text.bytes).span(0..end)
}

fn too_large(limit: usize) -> Flaw {
    Flaw::whole(format!("needs more than {limit} bytes when compiled"))
}

/// Patterns are about bytes: what they match need not be UTF-8.
fn bytes() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

/// One pattern that tells its groups.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    text: Box<str>,
    /// For whole texts that may or may not match: only where the pattern is searched for alone.
    single: Option<Regex>,
    /// The quickest at groups, for whole texts known to match, where the pattern allows it. Made at the first match:
    /// most patterns never match anything, and these automata are larger than everything else here.
    halves: OnceLock<Option<Box<Halves>>>,
    /// The next quickest in short texts, for those known to match.
    groups: backtrack::BoundedBacktracker,
    /// For texts whose end is not known, which the others cannot be told of, and for those that `groups` gives up on.
    patient: PikeVM,
    /// Does it say where the text ends?
    to_end: bool,
}

/// The memory of a pattern.
#[derive(Debug)]
pub(super) struct Memory {
    locations: Option<CaptureLocations>,
    /// Made when first needed.
    halves: Option<halves::Memory>,
    groups: backtrack::Cache,
    /// Made when first needed.
    patient: Option<pikevm::Cache>,
    captures: Captures,
}

type Spans = Vec<Option<Span>>;

impl Linear {
    pub(super) fn new(text: &str, to_end: bool) -> Result<Linear, Flaw> {
        let nfa = thompson::Config::new().utf8(false).nfa_size_limit(Some(PROGRAM_LIMIT));
        let groups = backtrack::Builder::new().syntax(bytes()).thompson(nfa).build(text);
        let groups = groups.map_err(|error| match error.size_limit() {
            Some(limit) => too_large(limit),
            None => Flaw::whole(error.to_string()),
        })?;
        let patient = PikeVM::new_from_nfa(groups.get_nfa().clone()).map_err(|error| Flaw::whole(error.to_string()))?;
        Ok(Linear { text: text.into(), single: None, halves: OnceLock::new(), groups, patient, to_end })
    }

    /// The names of its groups, by their numbers.
    pub(super) fn names(&self) -> Vec<Option<String>> {
        let groups = self.groups.get_nfa().group_info();
        groups.pattern_names(PatternID::ZERO).map(|name| name.map(str::to_owned)).collect()
    }

    pub(super) fn memory(&self) -> Memory {
        Memory {
            locations: self.single.as_ref().map(Regex::capture_locations),
            halves: None,
            groups: self.groups.create_cache(),
            patient: None,
            captures: self.groups.create_captures(),
        }
    }

    /// Makes ready for texts that may or may not match; so many share the room for automata.
    pub(super) fn alone(self, among: usize) -> Result<Linear, Flaw> {
        let cache = (ALL_CACHES_LIMIT / among.max(1)).clamp(SMALL_CACHE_LIMIT, CACHE_LIMIT);
        Ok(Linear { single: Some(single(&self.text, cache)?), ..self })
    }

    /// Does it match? Where its groups stand is then in `spans`.
    pub(super) fn search(&self, text: Text<'_>, memory: &mut Memory, spans: &mut Spans) -> bool {
        spans.clear();
        if text.cut && (self.to_end || text.bytes.is_empty()) {
            return false;
        }
        let (Some(single), Some(locations)) = (&self.single, &mut memory.locations) else {
            return self.search_patiently(&input(text), memory, spans);
        };
        let Some(found) = single.captures_read(locations, text.bytes) else { return false };
        if text.cut && found.end() == text.bytes.len() {
            // Perhaps another one ends before. What ends before anyhow is found by both, and by this one quicker.
            return self.search_patiently(&input(text), memory, spans);
        }
        let places = (0..locations.len()).map(|group| locations.get(group).map(|(start, end)| Span { start, end }));
        spans.extend(places);
        true
    }

    /// The groups of a match that starts where the text does and is known to be there.
    pub(super) fn read(&self, text: Text<'_>, memory: &mut Memory, spans: &mut Spans, room: &Room) {
        let halves =
            if text.cut { None } else { self.halves.get_or_init(|| Halves::within(room, &self.text)).as_ref() };
        if let Some(halves) = halves {
            let own = memory.halves.get_or_insert_with(|| halves.memory());
            spans.clear();
            spans.resize(memory.captures.group_info().group_len(PatternID::ZERO), None);
            if halves.read(text.bytes, own, spans) {
                return;
            }
        }
        let input = &input(text).anchored(Anchored::Yes);
        // It gives up on texts that are too long for its memory.
        if self.groups.try_captures(&mut memory.groups, input.clone(), &mut memory.captures).is_ok() {
            take(&memory.captures, spans);
        } else {
            self.search_patiently(input, memory, spans);
        }
    }

    fn search_patiently(&self, input: &Input<'_>, memory: &mut Memory, spans: &mut Spans) -> bool {
        let cache = memory.patient.get_or_insert_with(|| self.patient.create_cache());
        self.patient.search(cache, input, &mut memory.captures);
        take(&memory.captures, spans);
        memory.captures.is_match()
    }
}

fn take(captures: &Captures, spans: &mut Spans) {
    spans.clear();
    spans.extend((0..captures.group_len()).map(|group| captures.get_group(group)));
}
