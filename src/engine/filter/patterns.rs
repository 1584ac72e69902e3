//! Compiled patterns: which of many matches a text, and what its groups mean.

use regex_automata::{Anchored, Span, meta};

use super::allowance::Allowance;
use super::dialect::Flaw;
use super::engine::{Engine, Memory, Understood};
use super::halves::Room;
use super::linear;
use crate::engine::entry::Text;

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
    pub(super) fn new(source: &str, allowance: &mut Allowance) -> Result<Pattern, Flaw> {
        let Understood { engine, text, from_start, to_end } = Engine::of(source, allowance)?;
        Ok(Pattern { text, roles: Roles::of(&engine)?, engine, from_start, to_end })
    }

    /// Makes it ready to be searched for by itself, one of so many.
    pub(super) fn alone(self, among: usize) -> Result<Pattern, Flaw> {
        Ok(Pattern { engine: self.engine.alone(among)?, ..self })
    }

    pub(super) fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Does it surely say where the text begins and where it ends?
    pub(super) fn is_anchored(&self) -> bool {
        self.from_start && self.to_end
    }

    /// Does it need an engine that backtracks?
    pub(super) fn backtracks(&self) -> bool {
        self.engine.backtracks()
    }

    /// How many searches ended without an answer.
    pub(super) fn given_up(&self) -> u64 {
        self.engine.given_up()
    }
}

/// What a pattern's groups mean: their numbers in the engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Roles {
    /// Where an address may stand, the first that holds anything decides.
    address: Vec<usize>,
    user: Vec<usize>,
    /// What tells sessions apart.
    session: Vec<usize>,
    /// What fail2ban would ban: an address, or what belongs together.
    id: Vec<usize>,
    nofail: Option<usize>,
    forget: Option<usize>,
    gained: Option<usize>,
    once: Option<usize>,
    refusal: Option<usize>,
    apart: Option<usize>,
    content: Option<usize>,
}

impl Roles {
    fn of(engine: &Engine) -> Result<Roles, Flaw> {
        let group = |name: &str| engine.group(name);
        // `alt_user`, `alt_user_1`, …: in the order of their names, as fail2ban takes them.
        let named_as = |prefix: &str| {
            let mut names: Vec<(&str, usize)> =
                engine.names().filter(|(_, name)| name.starts_with(prefix)).map(|(at, name)| (name, at)).collect();
            names.sort_unstable();
            names.into_iter().map(|(_, at)| at).collect::<Vec<_>>()
        };
        let either = |name: &str| group(name).into_iter().chain(named_as(&format!("alt_{name}"))).collect::<Vec<_>>();
        let parts = |name: &str, tuple: &str| {
            let parts: Vec<usize> = group(name).into_iter().chain(named_as(tuple)).collect();
            let too_many = || Flaw::whole(format!("a key has at most {PARTS} parts"));
            if parts.len() > PARTS { Err(too_many()) } else { Ok(parts) }
        };
        Ok(Roles {
            address: ["addr", "host", "ip4", "ip6"].into_iter().flat_map(either).collect(),
            user: either("user"),
            session: parts("mlfid", "tuple_mlfid")?,
            id: parts("fid", "tuple_id")?,
            nofail: group("nofail"),
            forget: group("mlfforget"),
            gained: group("mlfgained"),
            once: group("once"),
            refusal: group("refusal"),
            apart: group("apart"),
            content: group("content"),
        })
    }

    pub(super) fn gives_address(&self) -> bool {
        !self.address.is_empty() || !self.id.is_empty()
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

    /// Does the pattern take a refusal that waits for its session to tell what came of it?
    pub(super) fn is_refusal(&self) -> bool {
        self.refusal.is_some()
    }

    /// Does it say which session a line belongs to?
    pub(super) fn names_session(&self) -> bool {
        !self.session.is_empty()
    }

    /// Does it say what belongs together, if it is no address?
    pub(super) fn names_id(&self) -> bool {
        !self.id.is_empty()
    }
}

/// A key has no more parts than these.
const PARTS: usize = 4;

/// What the groups of a key captured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts<'t>([Option<&'t [u8]>; PARTS]);

impl<'t> Parts<'t> {
    pub(super) fn iter(self) -> impl Iterator<Item = &'t [u8]> {
        self.0.into_iter().flatten()
    }

    /// These, or where none took part the others.
    pub(super) fn or(self, others: Parts<'t>) -> Parts<'t> {
        if self.iter().next().is_some() { self } else { others }
    }
}

/// What one match says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Finding<'t> {
    /// The text where the address stands, if a group for it took part.
    pub(super) address: Option<&'t [u8]>,
    pub(super) user: Option<&'t [u8]>,
    pub(super) session: Parts<'t>,
    pub(super) id: Parts<'t>,
    pub(super) nofail: bool,
    pub(super) forget: bool,
    pub(super) gained: bool,
    pub(super) once: bool,
    /// Who refused.
    pub(super) refusal: Option<&'t [u8]>,
    pub(super) apart: bool,
    /// The part of the text that is left to the other patterns.
    pub(super) content: Option<Span>,
}

impl Finding<'_> {
    fn read<'t>(roles: &Roles, memory: &Memory, text: &'t [u8]) -> Finding<'t> {
        let bytes = |index: usize| memory.span(index).map(|span| &text[span.start..span.end]);
        let first = |groups: &[usize]| groups.iter().find_map(|index| bytes(*index).filter(|text| !text.is_empty()));
        let parts = |groups: &[usize]| {
            let mut parts = Parts::default();
            parts.0.iter_mut().zip(groups).for_each(|(part, group)| *part = bytes(*group));
            parts
        };
        // As in fail2ban, what captures nothing says nothing.
        let said = |index: Option<usize>| index.and_then(bytes).filter(|text| !text.is_empty());
        let says = |index: Option<usize>| said(index).is_some();
        Finding {
            address: first(&roles.address),
            user: first(&roles.user),
            session: parts(&roles.session),
            id: parts(&roles.id),
            nofail: says(roles.nofail),
            forget: says(roles.forget),
            gained: says(roles.gained),
            once: says(roles.once),
            refusal: said(roles.refusal),
            apart: says(roles.apart),
            content: roles.content.and_then(|index| memory.span(index)),
        }
    }
}

/// Several patterns, of which the first that matches decides.
#[derive(Debug)]
pub(super) struct PatternSet {
    /// Which of the linear patterns matches, asked of all at once: where all of them are tied to the start of the text.
    ///
    /// There the patterns' order decides, as it does one by one.
    which: Option<Which>,
    engines: Vec<Engine>,
    roles: Vec<Roles>,
    /// For what the engines make only when they need it.
    room: Room,
}

#[derive(Debug)]
struct Which {
    linear: meta::Regex,
    /// The numbers of its patterns.
    numbers: Vec<usize>,
    /// The numbers of the others, which backtrack and are asked one by one.
    others: Vec<usize>,
}

/// The memory of a search, made once and used again.
#[derive(Debug)]
pub(super) struct Scratch {
    which: Option<meta::Cache>,
    engines: Vec<Memory>,
}

impl PatternSet {
    pub(super) fn new(patterns: Vec<Pattern>) -> Result<PatternSet, Flaw> {
        let (others, numbers): (Vec<usize>, Vec<usize>) =
            (0..patterns.len()).partition(|number| patterns[*number].backtracks());
        let together = !numbers.is_empty() && numbers.iter().all(|number| patterns[*number].from_start);
        let texts: Vec<&str> = numbers.iter().map(|number| patterns[*number].text.as_str()).collect();
        let which = if together { Some(Which { linear: linear::together(&texts)?, numbers, others }) } else { None };
        let among = patterns.len();
        let patterns: Vec<Pattern> = match together {
            true => patterns,
            false => patterns.into_iter().map(|pattern| pattern.alone(among)).collect::<Result<_, _>>()?,
        };
        let (engines, roles) = patterns.into_iter().map(|pattern| (pattern.engine, pattern.roles)).unzip();
        Ok(PatternSet { which, engines, roles, room: Room::default() })
    }

    pub(super) fn len(&self) -> usize {
        self.engines.len()
    }

    pub(super) fn scratch(&self) -> Scratch {
        Scratch {
            which: self.which.as_ref().map(|which| which.linear.create_cache()),
            engines: self.engines.iter().map(Engine::memory).collect(),
        }
    }

    /// The number of the first pattern that matches; its groups are then in `scratch`.
    pub(super) fn find(&self, text: Text<'_>, scratch: &mut Scratch) -> Option<usize> {
        if text.cut && text.bytes.is_empty() {
            return None;
        }
        let Scratch { which: cache, engines: memories } = scratch;
        let (Some(which), Some(cache)) = (&self.which, cache) else {
            let mut engines = self.engines.iter().zip(memories);
            return engines.position(|(engine, memory)| engine.search(text, memory));
        };
        let found = which.linear.search_half_with(cache, &linear::input(text).anchored(Anchored::Yes));
        let found = found.map(|found| which.numbers[found.pattern().as_usize()]);
        let mut before = which.others.iter().copied().take_while(|number| found.is_none_or(|found| *number < found));
        if let Some(number) = before.find(|number| self.engines[*number].search(text, &mut memories[*number])) {
            return Some(number);
        }
        let found = found?;
        self.engines[found].read(text, &mut memories[found], &self.room);
        Some(found)
    }

    /// What the match of this pattern that `scratch` holds says about `text`.
    pub(super) fn read<'t>(&self, pattern: usize, text: &'t [u8], scratch: &Scratch) -> Finding<'t> {
        Finding::read(&self.roles[pattern], &scratch.engines[pattern], text)
    }

    /// The groups of that match by name.
    pub(super) fn named(&self, pattern: usize, text: &[u8], scratch: &Scratch) -> Vec<(String, Vec<u8>)> {
        self.engines[pattern].named(&scratch.engines[pattern], text)
    }

    /// Which of the patterns report what others may report too.
    pub(super) fn once_patterns(&self) -> impl Iterator<Item = bool> {
        self.roles.iter().map(Roles::is_once)
    }

    /// For each of the patterns, how many searches ended without an answer; `None` for those that always give one.
    pub(super) fn given_up(&self) -> impl Iterator<Item = Option<u64>> {
        self.engines.iter().map(|engine| engine.backtracks().then(|| engine.given_up()))
    }
}

impl Scratch {
    /// The numbers of the patterns that gave no answer on the last entry.
    pub(super) fn gave_up(&self) -> impl Iterator<Item = usize> {
        let memories = self.engines.iter().enumerate();
        memories.filter(|(_, memory)| memory.gave_up()).map(|(number, _)| number)
    }

    /// Before another entry.
    pub(super) fn forget(&mut self) {
        self.engines.iter_mut().for_each(Memory::forget);
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
        self.engine.named(&self.memory, text)
    }

    /// Did it give no answer on the last entry?
    pub(super) fn gave_up(&self) -> bool {
        self.memory.gave_up()
    }

    /// Before another entry.
    pub(super) fn forget(&mut self) {
        self.memory.forget();
    }
}
