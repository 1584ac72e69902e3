//! Compiled patterns: which of many matches a text, and what its groups mean.

use regex::bytes::{CaptureLocations, Regex, RegexBuilder};
use regex_automata::meta;
use regex_automata::nfa::thompson::pikevm::{self, PikeVM};
use regex_automata::nfa::thompson::{self, backtrack};
use regex_automata::util::captures::{Captures, GroupInfo};
use regex_automata::util::primitives::PatternID;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, Span};
use regex_syntax::hir::{Hir, Look};

use super::dialect::{self, Flaw};
use super::halves::{self, Halves};
use crate::engine::entry::Text;

/// The most that one set of patterns may need when compiled, in bytes: some thousand ordinary patterns.
const PROGRAM_LIMIT: usize = 32 << 20;
/// What the engine may keep of the automaton it builds as it goes, per set, in bytes.
const CACHE_LIMIT: usize = 2 << 20;

/// One pattern, understood and known to compile.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    engine: Engine,
    roles: Roles,
    from_start: bool,
    to_end: bool,
}

impl Pattern {
    pub(super) fn new(source: &str) -> Result<Pattern, Flaw> {
        let translation = dialect::translate(source)?;
        let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(&translation.text);
        let hir = hir.map_err(|error| {
            let (offset, reason) = match &error {
                regex_syntax::Error::Parse(error) => (error.span().start.offset, error.kind().to_string()),
                regex_syntax::Error::Translate(error) => (error.span().start.offset, error.kind().to_string()),
                _ => (0, error.to_string()),
            };
            Flaw { offset: Some(translation.source_of(offset)), reason }
        })?;
        let from_start = hir.properties().look_set_prefix().contains(Look::Start);
        let to_end = hir.properties().look_set_suffix().contains(Look::End);
        let engine = Engine::new(&translation.text, &hir, to_end)?;
        let roles = Roles::of(engine.names());
        Ok(Pattern { text: translation.text, engine, roles, from_start, to_end })
    }

    /// Makes it ready to be searched for by itself.
    pub(super) fn alone(self) -> Result<Pattern, Flaw> {
        Ok(Pattern { engine: self.engine.alone(&self.text)?, ..self })
    }

    pub(super) fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Does it say where the text begins and where it ends?
    pub(super) fn is_anchored(&self) -> bool {
        self.from_start && self.to_end
    }
}

fn build(texts: &[&str]) -> Result<meta::Regex, Flaw> {
    let config =
        meta::Config::new().utf8_empty(false).nfa_size_limit(Some(PROGRAM_LIMIT)).hybrid_cache_capacity(CACHE_LIMIT);
    meta::Builder::new().syntax(bytes()).configure(config).build_many(texts).map_err(|error| match error.size_limit() {
        Some(limit) => Flaw::whole(format!("needs more than {limit} bytes when compiled")),
        None => Flaw::whole(error.to_string()),
    })
}

/// Patterns are about bytes: what they match need not be UTF-8.
fn bytes() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

/// One pattern that tells its groups.
#[derive(Clone, Debug)]
struct Engine {
    /// For whole texts that may or may not match: only where the pattern is searched for alone.
    single: Option<Regex>,
    /// The quickest at groups, for whole texts known to match, where the pattern allows it.
    halves: Option<Halves>,
    /// The next quickest in short texts, for those known to match.
    groups: backtrack::BoundedBacktracker,
    /// For texts whose end is not known, which the others cannot be told of, and for those that `groups` gives up on.
    patient: PikeVM,
    /// Does it say where the text ends?
    to_end: bool,
}

/// The memory of an engine.
#[derive(Debug)]
struct Memory {
    locations: Option<CaptureLocations>,
    halves: Option<halves::Memory>,
    groups: backtrack::Cache,
    /// Made when first needed.
    patient: Option<pikevm::Cache>,
    captures: Captures,
    /// Where each group of the last match stands, by its number.
    spans: Vec<Option<Span>>,
}

impl Engine {
    fn new(text: &str, hir: &Hir, to_end: bool) -> Result<Engine, Flaw> {
        let nfa = thompson::Config::new().utf8(false).nfa_size_limit(Some(PROGRAM_LIMIT));
        let groups = backtrack::Builder::new().syntax(bytes()).thompson(nfa).build(text);
        let groups = groups.map_err(|error| match error.size_limit() {
            Some(limit) => Flaw::whole(format!("needs more than {limit} bytes when compiled")),
            None => Flaw::whole(error.to_string()),
        })?;
        let patient = PikeVM::new_from_nfa(groups.get_nfa().clone()).map_err(|error| Flaw::whole(error.to_string()))?;
        Ok(Engine { single: None, halves: Halves::of(hir), groups, patient, to_end })
    }

    /// The names of its groups.
    fn names(&self) -> &GroupInfo {
        self.groups.get_nfa().group_info()
    }

    fn memory(&self) -> Memory {
        Memory {
            locations: self.single.as_ref().map(Regex::capture_locations),
            halves: self.halves.as_ref().map(Halves::memory),
            groups: self.groups.create_cache(),
            patient: None,
            captures: self.groups.create_captures(),
            spans: Vec::new(),
        }
    }

    /// Does it match? Where its groups stand is then in the memory.
    fn search(&self, text: Text<'_>, memory: &mut Memory) -> bool {
        memory.spans.clear();
        if text.cut && (self.to_end || text.bytes.is_empty()) {
            return false;
        }
        let (Some(single), Some(locations)) = (&self.single, &mut memory.locations) else {
            return self.search_patiently(&input(text), memory);
        };
        let Some(found) = single.captures_read(locations, text.bytes) else { return false };
        if text.cut && found.end() == text.bytes.len() {
            // Perhaps another one ends before. What ends before anyhow is found by both, and by this one quicker.
            return self.search_patiently(&input(text), memory);
        }
        let places = (0..locations.len()).map(|group| locations.get(group).map(|(start, end)| Span { start, end }));
        memory.spans.extend(places);
        true
    }

    /// Makes ready for texts that may or may not match.
    fn alone(self, text: &str) -> Result<Engine, Flaw> {
        let single =
            RegexBuilder::new(text).unicode(false).size_limit(PROGRAM_LIMIT).dfa_size_limit(CACHE_LIMIT).build();
        let single = single.map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => Flaw::whole(format!("needs more than {limit} bytes when compiled")),
            error => Flaw::whole(error.to_string()),
        })?;
        Ok(Engine { single: Some(single), ..self })
    }

    /// The groups of a match that starts where the text does and is known to be there.
    fn read(&self, text: Text<'_>, memory: &mut Memory) {
        if let (Some(halves), Some(own), false) = (&self.halves, &mut memory.halves, text.cut) {
            memory.spans.clear();
            memory.spans.resize(self.names().group_len(PatternID::ZERO), None);
            if halves.read(text.bytes, own, &mut memory.spans) {
                return;
            }
        }
        let input = &input(text).anchored(Anchored::Yes);
        // It gives up on texts that are too long for its memory.
        if self.groups.try_captures(&mut memory.groups, input.clone(), &mut memory.captures).is_ok() {
            memory.take_captures();
        } else {
            self.search_patiently(input, memory);
        }
    }

    fn search_patiently(&self, input: &Input<'_>, memory: &mut Memory) -> bool {
        let cache = memory.patient.get_or_insert_with(|| self.patient.create_cache());
        self.patient.search(cache, input, &mut memory.captures);
        memory.take_captures();
        memory.captures.is_match()
    }
}

impl Memory {
    fn take_captures(&mut self) {
        self.spans.clear();
        self.spans.extend((0..self.captures.group_len()).map(|group| self.captures.get_group(group)));
    }

    fn span(&self, group: usize) -> Option<Span> {
        self.spans.get(group).copied().flatten()
    }
}

/// What a pattern's groups mean: their numbers in the engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Roles {
    /// Where an address may stand, the first that took part decides.
    address: Vec<usize>,
    user: Vec<usize>,
    nofail: Option<usize>,
    forget: Option<usize>,
    gained: Option<usize>,
    once: Option<usize>,
    content: Option<usize>,
}

impl Roles {
    fn of(groups: &GroupInfo) -> Roles {
        let pattern = PatternID::ZERO;
        let group = |name: &str| groups.to_index(pattern, name);
        let mut user: Vec<usize> = group("user").into_iter().collect();
        let names = groups.pattern_names(pattern).enumerate();
        user.extend(names.filter(|(_, name)| name.is_some_and(|name| name.starts_with("alt_user"))).map(|(at, _)| at));
        Roles {
            address: ["fid", "addr", "host", "ip4", "ip6"].into_iter().filter_map(group).collect(),
            user,
            nofail: group("nofail"),
            forget: group("mlfforget"),
            gained: group("mlfgained"),
            once: group("once"),
            content: group("content"),
        }
    }

    pub(super) fn gives_address(&self) -> bool {
        !self.address.is_empty()
    }

    pub(super) fn has_content(&self) -> bool {
        self.content.is_some()
    }

    /// Can a match be a failure, or does it only ever tell something about its session?
    pub(super) fn may_fail(&self) -> bool {
        self.nofail.is_none() && self.gained.is_none()
    }

    /// Does the pattern report an attempt that others may report too?
    pub(super) fn is_once(&self) -> bool {
        self.once.is_some()
    }
}

/// What one match says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Finding<'t> {
    /// The text where the address stands, if a group for it took part.
    pub(super) address: Option<&'t [u8]>,
    pub(super) user: Option<&'t [u8]>,
    pub(super) nofail: bool,
    pub(super) forget: bool,
    pub(super) gained: bool,
    pub(super) once: bool,
    /// The part of the text that is left to the other patterns.
    pub(super) content: Option<Span>,
}

impl Finding<'_> {
    fn read<'t>(roles: &Roles, memory: &Memory, text: &'t [u8]) -> Finding<'t> {
        let group = |index: usize| memory.span(index);
        let bytes = |index: usize| group(index).map(|span| &text[span.start..span.end]);
        let took_part = |index: Option<usize>| index.and_then(group).is_some();
        Finding {
            address: roles.address.iter().find_map(|index| bytes(*index)),
            user: roles.user.iter().find_map(|index| bytes(*index).filter(|user| !user.is_empty())),
            nofail: took_part(roles.nofail),
            forget: took_part(roles.forget),
            gained: took_part(roles.gained),
            once: took_part(roles.once),
            content: roles.content.and_then(group),
        }
    }
}

/// Several patterns, of which the first that matches decides.
#[derive(Debug)]
pub(super) struct PatternSet {
    /// Which pattern matches, asked of all at once: where all are tied to the start of the text.
    ///
    /// There the patterns' order decides, as it does one by one.
    which: Option<meta::Regex>,
    engines: Vec<Engine>,
    roles: Vec<Roles>,
}

/// The memory of a search, made once and used again.
#[derive(Debug)]
pub(super) struct Scratch {
    which: Option<meta::Cache>,
    engines: Vec<Memory>,
}

impl PatternSet {
    pub(super) fn new(patterns: Vec<Pattern>) -> Result<PatternSet, Flaw> {
        let together = !patterns.is_empty() && patterns.iter().all(|pattern| pattern.from_start);
        let texts: Vec<&str> = patterns.iter().map(|pattern| pattern.text.as_str()).collect();
        let which = if together { Some(build(&texts)?) } else { None };
        let patterns: Vec<Pattern> =
            if together { patterns } else { patterns.into_iter().map(Pattern::alone).collect::<Result<_, _>>()? };
        let (engines, roles) = patterns.into_iter().map(|pattern| (pattern.engine, pattern.roles)).unzip();
        Ok(PatternSet { which, engines, roles })
    }

    pub(super) fn len(&self) -> usize {
        self.engines.len()
    }

    pub(super) fn scratch(&self) -> Scratch {
        Scratch {
            which: self.which.as_ref().map(meta::Regex::create_cache),
            engines: self.engines.iter().map(Engine::memory).collect(),
        }
    }

    /// The number of the first pattern that matches; its groups are then in `scratch`.
    pub(super) fn find(&self, text: Text<'_>, scratch: &mut Scratch) -> Option<usize> {
        if text.cut && text.bytes.is_empty() {
            return None;
        }
        if let (Some(which), Some(cache)) = (&self.which, &mut scratch.which) {
            let pattern = which.search_half_with(cache, &input(text).anchored(Anchored::Yes))?.pattern().as_usize();
            self.engines[pattern].read(text, &mut scratch.engines[pattern]);
            return Some(pattern);
        }
        let mut engines = self.engines.iter().zip(&mut scratch.engines);
        engines.position(|(engine, memory)| engine.search(text, memory))
    }

    /// What the match of this pattern that `scratch` holds says about `text`.
    pub(super) fn read<'t>(&self, pattern: usize, text: &'t [u8], scratch: &Scratch) -> Finding<'t> {
        Finding::read(&self.roles[pattern], &scratch.engines[pattern], text)
    }

    /// The groups of that match by name.
    pub(super) fn named(&self, pattern: usize, text: &[u8], scratch: &Scratch) -> Vec<(String, Vec<u8>)> {
        named(self.engines[pattern].names(), &scratch.engines[pattern], text)
    }

    /// Which of the patterns report what others may report too.
    pub(super) fn once_patterns(&self) -> impl Iterator<Item = bool> {
        self.roles.iter().map(Roles::is_once)
    }
}

/// One pattern, [`alone`](Pattern::alone), and the memory to search it with.
#[derive(Debug)]
pub(super) struct Single {
    engine: Engine,
    roles: Roles,
    memory: Memory,
}

impl Single {
    pub(super) fn new(pattern: &Pattern) -> Single {
        let engine = pattern.engine.clone();
        Single { roles: pattern.roles.clone(), memory: engine.memory(), engine }
    }

    pub(super) fn find<'t>(&mut self, text: Text<'t>) -> Option<Finding<'t>> {
        let matches = self.engine.search(text, &mut self.memory);
        matches.then(|| Finding::read(&self.roles, &self.memory, text.bytes))
    }

    pub(super) fn named(&self, text: &[u8]) -> Vec<(String, Vec<u8>)> {
        named(self.engine.names(), &self.memory, text)
    }
}

/// A cut text is searched up to its last byte but one: there `$` cannot match, and what stands at the cut is known.
fn input(text: Text<'_>) -> Input<'_> {
    let end = if text.cut { text.bytes.len().saturating_sub(1) } else { text.bytes.len() };
    Input::new(text.bytes).span(0..end)
}

fn named(groups: &GroupInfo, memory: &Memory, text: &[u8]) -> Vec<(String, Vec<u8>)> {
    let names = groups.pattern_names(PatternID::ZERO).enumerate();
    names
        .filter_map(|(index, name)| {
            let span = memory.span(index)?;
            Some((name?.to_owned(), text[span.start..span.end].to_vec()))
        })
        .collect()
}
