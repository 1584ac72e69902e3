//! Reading the groups of a match from both ends of the text, where a pattern is `^ head run tail $`: a backtracker that
//! runs through `.*` up to the end of the text and back to where the rest matches pays for every byte twice.
//!
//! The tail is tied to the end of the text. Walking back from there, an automaton finds the last place where it can
//! begin. A greedy run prefers just that place, whatever the head is; so if the head's own first choice ends before it
//! and all bytes between are the run's, this is the match that backtracking finds first. Otherwise nothing is said.

use std::sync::atomic::{AtomicUsize, Ordering};

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::backtrack::{self, BoundedBacktracker};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Anchored, Input, MatchKind, Span};
use regex_automata::{dfa::onepass, hybrid};
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Capture, Class, ClassBytes, ClassBytesRange, Hir, HirKind, Look, Repetition};

/// The most that the automata of a half may need, in bytes. A half that needs more has another engine, or none.
const AUTOMATON_LIMIT: usize = 256 << 10;

/// The most that the halves of all patterns of a set may need, in bytes: those of some forty, the most that a shipped
/// filter has.
const ROOM: usize = 8 << 20;

/// A pattern cut at its first greedy run.
#[derive(Clone, Debug)]
pub(super) struct Halves {
    head: Half,
    run: Run,
    tail: Half,
    /// The tail, read backwards.
    back: DFA,
}

/// `[…]*` or `[…]{n,}`.
#[derive(Clone, Debug)]
struct Run {
    least: usize,
    bytes: Box<[bool; 256]>,
    /// The group that holds the run and nothing else.
    group: Option<usize>,
}

#[derive(Clone, Debug)]
enum Half {
    /// There is only one way to match.
    OnePass(Box<onepass::DFA>),
    /// There are more. The first is what matches where a group holds the first of its alternatives, an IPv4 address for
    /// instance, and if there is such a match, it is the one to be found.
    Backtrack(Option<Box<onepass::DFA>>, BoundedBacktracker),
}

/// The memory of a search.
#[derive(Debug)]
pub(super) struct Memory {
    head: HalfMemory,
    tail: HalfMemory,
    back: Cache,
}

#[derive(Debug)]
struct HalfMemory {
    engine: EngineMemory,
    slots: Vec<Option<NonMaxUsize>>,
}

#[derive(Debug)]
enum EngineMemory {
    OnePass(onepass::Cache),
    Backtrack(Option<onepass::Cache>, backtrack::Cache),
}

/// The room that the halves of all patterns of a set share, in bytes.
#[derive(Debug)]
pub(super) struct Room(AtomicUsize);

impl Default for Room {
    fn default() -> Room {
        Room(AtomicUsize::new(ROOM))
    }
}

impl Room {
    /// Takes so much of it; `false` where that is not left.
    fn take(&self, bytes: usize) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
}

impl Halves {
    /// The halves of a pattern of the linear-time engine's, where there are any and there is room for them.
    pub(super) fn within(room: &Room, text: &str) -> Option<Box<Halves>> {
        let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(text).ok()?;
        Halves::of(&hir).filter(|halves| room.take(halves.size())).map(Box::new)
    }

    /// In bytes, with the memory of one search.
    fn size(&self) -> usize {
        self.head.size() + self.tail.size() + self.back.memory_usage() + AUTOMATON_LIMIT
    }

    /// Cuts a pattern that is tied to both ends of the text; `None` where there is no place to cut it at.
    pub(super) fn of(pattern: &Hir) -> Option<Halves> {
        let HirKind::Concat(parts) = pattern.kind() else { return None };
        let (at, run) = parts.iter().enumerate().find_map(|(at, part)| Some((at, Run::of(part)?)))?;
        let (head, tail) = (Hir::concat(parts[..at].to_vec()), Hir::concat(parts[at + 1..].to_vec()));
        let tied = head.properties().look_set_prefix().contains(Look::Start)
            && tail.properties().look_set_suffix().contains(Look::End);
        if !tied {
            return None;
        }
        let config = thompson::Config::new().reverse(true).which_captures(WhichCaptures::None);
        let backwards = thompson::Compiler::new().configure(config.utf8(false)).build_from_hir(&tail).ok()?;
        // All threads: the first to arrive is the shortest way back.
        let config = hybrid::dfa::Config::new().match_kind(MatchKind::All).cache_capacity(AUTOMATON_LIMIT);
        let back = hybrid::dfa::Builder::new().configure(config).build_from_nfa(backwards).ok()?;
        Some(Halves { head: Half::of(&head)?, run, tail: Half::of(&tail)?, back })
    }

    pub(super) fn memory(&self) -> Memory {
        Memory { head: self.head.memory(), tail: self.tail.memory(), back: self.back.create_cache() }
    }

    /// Where the groups of the whole pattern stand in a text that it is known to match; `false` where this way cannot
    /// tell.
    pub(super) fn read(&self, text: &[u8], memory: &mut Memory, spans: &mut [Option<Span>]) -> bool {
        let back = Input::new(text).anchored(Anchored::Yes).earliest(true);
        let Ok(Some(begin)) = self.back.try_search_rev(&mut memory.back, &back) else { return false };
        let begin = begin.offset();
        let Some(end) = self.head.read(text, 0..begin, &mut memory.head) else { return false };
        if begin - end < self.run.least || !text[end..begin].iter().all(|byte| self.run.bytes[usize::from(*byte)]) {
            return false;
        }
        if self.tail.read(text, begin..text.len(), &mut memory.tail) != Some(text.len()) {
            return false;
        }
        for (group, span) in spans.iter_mut().enumerate() {
            *span = memory.head.span(group).or_else(|| memory.tail.span(group));
        }
        if let Some(span) = self.run.group.and_then(|group| spans.get_mut(group)) {
            *span = Some(Span { start: end, end: begin });
        }
        if let Some(whole) = spans.first_mut() {
            *whole = Some(Span { start: 0, end: text.len() });
        }
        true
    }
}

impl Run {
    fn of(part: &Hir) -> Option<Run> {
        match part.kind() {
            HirKind::Capture(capture) => {
                let group = usize::try_from(capture.index).ok();
                Run::of(&capture.sub).filter(|run| run.group.is_none()).map(|run| Run { group, ..run })
            }
            HirKind::Repetition(Repetition { min, max: None, greedy: true, sub }) => {
                let HirKind::Class(Class::Bytes(class)) = sub.kind() else { return None };
                let mut bytes = Box::new([false; 256]);
                for range in class.ranges() {
                    bytes[usize::from(range.start())..=usize::from(range.end())].fill(true);
                }
                Some(Run { least: usize::try_from(*min).ok()?, bytes, group: None })
            }
            _ => None,
        }
    }
}

impl Half {
    fn of(half: &Hir) -> Option<Half> {
        let nfa = nfa(half)?;
        if let Some(engine) = one_pass(nfa.clone()) {
            return Some(Half::OnePass(engine));
        }
        let first = first_choice(half).and_then(|first| one_pass(self::nfa(&first)?));
        BoundedBacktracker::new_from_nfa(nfa).ok().map(|engine| Half::Backtrack(first, engine))
    }

    /// In bytes.
    fn size(&self) -> usize {
        match self {
            Half::OnePass(engine) => engine.memory_usage() + engine.get_nfa().memory_usage(),
            Half::Backtrack(first, engine) => {
                let first = first.as_ref().map_or(0, |first| first.memory_usage() + first.get_nfa().memory_usage());
                first + engine.get_nfa().memory_usage()
            }
        }
    }

    fn memory(&self) -> HalfMemory {
        let (engine, nfa) = match self {
            Half::OnePass(engine) => (EngineMemory::OnePass(engine.create_cache()), engine.get_nfa()),
            Half::Backtrack(first, engine) => {
                let first = first.as_ref().map(|first| first.create_cache());
                (EngineMemory::Backtrack(first, engine.create_cache()), engine.get_nfa())
            }
        };
        HalfMemory { engine, slots: vec![None; nfa.group_info().slot_len()] }
    }

    /// Where the match that begins where `span` does ends, if there is one.
    fn read(&self, text: &[u8], span: std::ops::Range<usize>, memory: &mut HalfMemory) -> Option<usize> {
        let input = Input::new(text).span(span).anchored(Anchored::Yes);
        let slots = &mut memory.slots;
        let found = match (self, &mut memory.engine) {
            (Half::OnePass(engine), EngineMemory::OnePass(cache)) => engine.try_search_slots(cache, &input, slots),
            (Half::Backtrack(first, engine), EngineMemory::Backtrack(own, cache)) => {
                let quick =
                    first.as_ref().zip(own.as_mut()).map(|(first, own)| first.try_search_slots(own, &input, slots));
                match quick {
                    Some(Ok(Some(found))) => Ok(Some(found)),
                    _ => engine.try_search_slots(cache, &input, slots),
                }
            }
            _ => return None,
        };
        found.ok().flatten()?;
        slots.get(1).copied().flatten().map(|end| end.get())
    }
}

fn nfa(half: &Hir) -> Option<NFA> {
    let config = thompson::Config::new().utf8(false);
    thompson::Compiler::new().configure(config).build_from_hir(half).ok()
}

fn one_pass(nfa: NFA) -> Option<Box<onepass::DFA>> {
    let config = onepass::Config::new().size_limit(Some(AUTOMATON_LIMIT));
    onepass::Builder::new().configure(config).build_from_nfa(nfa).ok().map(Box::new)
}

/// The half with the first alternative of its first group that has some in place of the group's; `None` where a match of
/// that need not be the first choice: where there is more than one way to get to the group.
fn first_choice(half: &Hir) -> Option<Hir> {
    let HirKind::Concat(parts) = half.kind() else { return None };
    let (at, group, alternatives) = parts.iter().enumerate().find_map(|(at, part)| match part.kind() {
        HirKind::Capture(group) => match group.sub.kind() {
            HirKind::Alternation(alternatives) => Some((at, group, alternatives)),
            _ => None,
        },
        _ => None,
    })?;
    // One way to get there for whatever the group begins with.
    let begins = Extractor::new().limit_class(256).limit_literal_len(1).extract(&group.sub);
    let begins = begins.literals()?.iter().map(|literal| literal.as_bytes().first().copied());
    let begins: Vec<ClassBytesRange> =
        begins.map(|byte| byte.map(|byte| ClassBytesRange::new(byte, byte))).collect::<Option<_>>()?;
    let way = parts[..at].iter().cloned().chain([Hir::class(Class::Bytes(ClassBytes::new(begins)))]);
    one_pass(nfa(&Hir::concat(way.collect()))?)?;
    let sub = Box::new(alternatives.first()?.clone());
    let chosen = Hir::capture(Capture { index: group.index, name: group.name.clone(), sub });
    Some(Hir::concat(parts[..at].iter().cloned().chain([chosen]).chain(parts[at + 1..].iter().cloned()).collect()))
}

impl HalfMemory {
    fn span(&self, group: usize) -> Option<Span> {
        let slot = |at: usize| self.slots.get(at).copied().flatten().map(|offset| offset.get());
        Some(Span { start: slot(2 * group)?, end: slot(2 * group + 1)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex_automata::nfa::thompson::pikevm::PikeVM;
    use regex_automata::util::syntax;

    /// Where the groups stand by both ways; `None` where the halves say nothing or there is no match.
    fn both(pattern: &str, text: &[u8]) -> Option<[Vec<Option<Span>>; 2]> {
        let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(pattern).ok()?;
        let plain = PikeVM::builder()
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .thompson(thompson::Config::new().utf8(false))
            .build(pattern)
            .unwrap();
        let mut captures = plain.create_captures();
        plain.captures(&mut plain.create_cache(), Input::new(text).anchored(Anchored::Yes), &mut captures);
        let expected: Vec<_> = (0..captures.group_len()).map(|group| captures.get_group(group)).collect();
        let halves = Halves::of(&hir)?;
        let mut spans = vec![None; expected.len()];
        (captures.is_match() && halves.read(text, &mut halves.memory(), &mut spans)).then_some([spans, expected])
    }

    #[test]
    fn a_failed_password_is_read_from_both_ends() {
        let pattern = r"^Failed password for (?:(invalid) user )?(?P<user>.*) from (?P<addr>[0-9.]+|[0-9a-f:]+) port \d+ ssh[12]$";
        for text in [
            "Failed password for root from 192.0.2.1 port 4711 ssh2",
            "Failed password for invalid user a from 192.0.2.2 port 1 ssh2 from 2001:db8::1 port 4711 ssh2",
            "Failed password for invalid user  from 192.0.2.1 port 4711 ssh1",
        ] {
            let [found, expected] = both(pattern, text.as_bytes()).expect("it says something");
            assert_eq!(found, expected, "{text}");
        }
        let tail = r" from (?:\[?(?P<addr>[0-9]+\.[0-9]+|(?:[0-9a-f]*:)+[0-9a-f]+)\]?) port \d+(?: ssh[12])?$";
        let tail = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(tail).unwrap();
        assert!(matches!(Half::of(&tail), Some(Half::Backtrack(Some(_), _))), "an IPv4 address is read in one pass");
        // "invalid user " cannot be the head where the tail begins within it.
        let [found, expected] = both("^a(?:b c)?(.*) c$", b"ab c").expect("it says something");
        assert_eq!(found, expected);
        assert_eq!(both("^a(.*)b$", b"a\nb"), None, "the dot does not match a line end, so there is no match");
        assert_eq!(both("^(?:a|ab\n)(.*)c$", b"ab\nc"), None, "the head's first choice does not reach the tail");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn what_they_say_is_what_the_plain_engine_says(
            head in prop::collection::vec("a|b|\\(a\\)|\\(\\?:ab\\)\\?|\\(a\\|ab\\)|\\(b\\+\\?\\)|\\\\b|c\\?\\(a\\+b\\|b\\*a\\)", 0..4),
            run in "\\.\\*|\\(\\.\\*\\)|\\(\\[ab\\]\\*\\)|\\(\\.\\+\\)|\\(\\(a\\)\\*\\)",
            tail in prop::collection::vec("a|b|\\(b\\)|\\(a\\|ab\\)|\\(\\?:ba\\)\\?|\\(a\\*\\)|\\.\\*|\\\\b|\\(b\\*\\?\\)|c\\?\\(a\\+b\\|\\(\\?:a\\*c\\)\\+b\\?\\)", 0..4),
            text in "[ab]{0,12}|[ab\n]{0,12}|[ab c]{0,12}",
        ) {
            let pattern = format!("^{}{run}{}$", head.concat(), tail.concat());
            if let Some([found, expected]) = both(&pattern, text.as_bytes()) {
                prop_assert_eq!(found, expected, "{} in {:?}", pattern, text);
            }
        }
    }
}
