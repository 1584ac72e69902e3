//! Compiled patterns: which of many matches a text, and what its groups mean.

use regex_automata::meta::{self, Cache};
use regex_automata::util::captures::Captures;
use regex_automata::util::primitives::PatternID;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, Span};
use regex_syntax::hir::Look;

use super::dialect::{self, Flaw};
use crate::engine::entry::Text;

/// The most that one set of patterns may need when compiled, in bytes: some thousand ordinary patterns.
const PROGRAM_LIMIT: usize = 32 << 20;
/// What the engine may keep of the automaton it builds as it goes, per set, in bytes.
const CACHE_LIMIT: usize = 2 << 20;

/// One pattern, understood and known to compile.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    regex: meta::Regex,
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
        let regex = build(&[&translation.text])?;
        let roles = Roles::of(&regex, PatternID::ZERO);
        let from_start = hir.properties().look_set_prefix().contains(Look::Start);
        let to_end = hir.properties().look_set_suffix().contains(Look::End);
        Ok(Pattern { text: translation.text, regex, roles, from_start, to_end })
    }

    pub(super) fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Does it say where the text begins and where it ends?
    pub(super) fn is_anchored(&self) -> bool {
        self.from_start && self.to_end
    }

    pub(super) fn regex(&self) -> &meta::Regex {
        &self.regex
    }
}

fn build(texts: &[&str]) -> Result<meta::Regex, Flaw> {
    let config =
        meta::Config::new().utf8_empty(false).nfa_size_limit(Some(PROGRAM_LIMIT)).hybrid_cache_capacity(CACHE_LIMIT);
    let syntax = syntax::Config::new().unicode(false).utf8(false);
    meta::Builder::new().syntax(syntax).configure(config).build_many(texts).map_err(|error| match error.size_limit() {
        Some(limit) => Flaw::whole(format!("needs more than {limit} bytes when compiled")),
        None => Flaw::whole(error.to_string()),
    })
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
    fn of(regex: &meta::Regex, pattern: PatternID) -> Roles {
        let group = |name: &str| regex.group_info().to_index(pattern, name);
        let mut user: Vec<usize> = group("user").into_iter().collect();
        let names = regex.group_info().pattern_names(pattern).enumerate();
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
    fn read<'t>(roles: &Roles, captures: &Captures, text: &'t [u8]) -> Finding<'t> {
        let group = |index: usize| captures.get_group(index);
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
    /// All patterns in one engine where all are tied to the start of the text, else an engine each.
    engines: Vec<meta::Regex>,
    anchored: Anchored,
    roles: Vec<Roles>,
}

/// The memory of a search, made once and used again.
#[derive(Debug)]
pub(super) struct Scratch {
    engines: Vec<(Cache, Captures)>,
}

/// Which pattern of a set matched, and in which of its engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) pattern: usize,
    engine: usize,
}

impl PatternSet {
    pub(super) fn new(patterns: Vec<Pattern>) -> Result<PatternSet, Flaw> {
        // A text is searched from its start in any case, so the patterns' order decides, as it does one by one.
        if patterns.is_empty() || patterns.iter().any(|pattern| !pattern.from_start) {
            let (engines, roles) = patterns.into_iter().map(|pattern| (pattern.regex, pattern.roles)).unzip();
            return Ok(PatternSet { engines, anchored: Anchored::No, roles });
        }
        let texts: Vec<&str> = patterns.iter().map(|pattern| pattern.text.as_str()).collect();
        let engine = build(&texts)?;
        let roles = (0..patterns.len()).map(|at| Roles::of(&engine, PatternID::must(at))).collect();
        Ok(PatternSet { engines: vec![engine], anchored: Anchored::Yes, roles })
    }

    pub(super) fn scratch(&self) -> Scratch {
        let engines = self.engines.iter().map(|engine| (engine.create_cache(), engine.create_captures())).collect();
        Scratch { engines }
    }

    /// The first pattern that matches.
    pub(super) fn find(&self, text: Text<'_>, scratch: &mut Scratch) -> Option<Match> {
        let input = input(text).anchored(self.anchored);
        for (engine, (regex, (cache, captures))) in self.engines.iter().zip(&mut scratch.engines).enumerate() {
            regex.search_captures_with(cache, &input, captures);
            if let Some(pattern) = captures.pattern() {
                let pattern = if self.anchored == Anchored::Yes { pattern.as_usize() } else { engine };
                return Some(Match { pattern, engine });
            }
        }
        None
    }

    /// What the match that `scratch` holds says about `text`.
    pub(super) fn read<'t>(&self, found: Match, text: &'t [u8], scratch: &Scratch) -> Finding<'t> {
        Finding::read(&self.roles[found.pattern], &scratch.engines[found.engine].1, text)
    }

    /// The groups of that match by name.
    pub(super) fn named(&self, found: Match, text: &[u8], scratch: &Scratch) -> Vec<(String, Vec<u8>)> {
        named(&self.engines[found.engine], &scratch.engines[found.engine].1, text)
    }

    pub(super) fn len(&self) -> usize {
        self.roles.len()
    }

    /// Which of the patterns report what others may report too.
    pub(super) fn once_patterns(&self) -> impl Iterator<Item = bool> {
        self.roles.iter().map(Roles::is_once)
    }
}

/// One pattern and the memory to search it with.
#[derive(Debug)]
pub(super) struct Single {
    regex: meta::Regex,
    roles: Roles,
    cache: Cache,
    captures: Captures,
}

impl Single {
    pub(super) fn new(pattern: &Pattern) -> Single {
        let regex = pattern.regex().clone();
        Single { roles: pattern.roles.clone(), cache: regex.create_cache(), captures: regex.create_captures(), regex }
    }

    pub(super) fn find<'t>(&mut self, text: Text<'t>) -> Option<Finding<'t>> {
        self.regex.search_captures_with(&mut self.cache, &input(text), &mut self.captures);
        self.captures.is_match().then(|| Finding::read(&self.roles, &self.captures, text.bytes))
    }

    pub(super) fn named(&self, text: &[u8]) -> Vec<(String, Vec<u8>)> {
        named(&self.regex, &self.captures, text)
    }
}

/// A cut text is searched up to its last byte but one: there `$` cannot match, and what stands at the cut is known.
fn input(text: Text<'_>) -> Input<'_> {
    let end = if text.cut { text.bytes.len().saturating_sub(1) } else { text.bytes.len() };
    Input::new(text.bytes).span(0..end)
}

fn named(regex: &meta::Regex, captures: &Captures, text: &[u8]) -> Vec<(String, Vec<u8>)> {
    let Some(pattern) = captures.pattern() else { return Vec::new() };
    let names = regex.group_info().pattern_names(pattern).enumerate();
    names
        .filter_map(|(index, name)| {
            let span = captures.get_group(index)?;
            Some((name?.to_owned(), text[span.start..span.end].to_vec()))
        })
        .collect()
}
