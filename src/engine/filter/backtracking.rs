//! Patterns that need backtracking — look-around, back-references, conditionals, atomic groups — each search of which
//! takes a bounded number of steps.
//!
//! Which texts come is a stranger's choice. So a pattern's shadow in the linear-time engine, which matches wherever the
//! pattern does, is asked first; a search that takes too many steps ends without an answer, and is counted.

use std::sync::atomic::{AtomicU64, Ordering};

use fancy_regex::{BytesMode, CompileError, Error, RegexBuilder, RegexInput};
use regex_automata::Span;

use super::dialect::{Demanding, Flaw};
use super::linear;
use crate::engine::entry::{Text, VALUE_LIMIT};

/// How many times a search may go back to try another way: one takes 30 to 50 ns, all together half a millisecond.
///
/// Each way may run over the rest of the text by the linear-time engine. The worst pattern found,
/// `^(?:a(?!x))*.*z$` on nothing but `a`, takes 0.05 ms for 200 bytes, 1.1 ms for 1 KiB, and would take 8 ms for 8 KiB: so
/// in longer texts a search may go back less often. Worse ones, a look-around without bound in a repetition, the dialect
/// refuses.
const BACKTRACK_LIMIT: usize = 10_000;
/// The same in texts that are longer than [`SHORT`].
const BACKTRACK_LIMIT_LONG: usize = BACKTRACK_LIMIT * SHORT / VALUE_LIMIT;
/// In bytes.
const SHORT: usize = 1024;
/// The most instructions of a compiled pattern.
const PROGRAM_LIMIT: usize = 100_000;
/// The most bytes of each piece of it that the linear-time engine searches for.
const PIECE_LIMIT: usize = 8 << 20;

/// A pattern that backtracks.
#[derive(Debug)]
pub(super) struct Backtracking {
    short: fancy_regex::Regex,
    /// The same for long texts.
    long: fancy_regex::Regex,
    shadow: regex::bytes::Regex,
    from_start: bool,
    looks_behind_end: bool,
    /// How many searches ended without an answer.
    given_up: AtomicU64,
}

impl Backtracking {
    pub(super) fn new(pattern: &Demanding, shadow: &str, from_start: bool) -> Result<Backtracking, Flaw> {
        let regex = |limit| build(&pattern.script.text, limit).map_err(|error| flaw(pattern, &error));
        Ok(Backtracking {
            short: regex(BACKTRACK_LIMIT)?,
            long: regex(BACKTRACK_LIMIT_LONG)?,
            shadow: linear::single(shadow, linear::SMALL_CACHE_LIMIT)?,
            from_start,
            looks_behind_end: pattern.looks_behind_end,
            given_up: AtomicU64::new(0),
        })
    }

    /// The names of its groups, by their numbers.
    pub(super) fn names(&self) -> Vec<Option<String>> {
        self.short.capture_names().map(|name| name.map(str::to_owned)).collect()
    }

    pub(super) fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Does it match? Where its groups stand is then in `spans`. `None` where the search ended without an answer.
    pub(super) fn search(&self, text: Text<'_>, spans: &mut Vec<Option<Span>>) -> Option<bool> {
        spans.clear();
        let bytes = match text.bytes.split_last() {
            Some((_, kept)) if text.cut => kept,
            _ => text.bytes,
        };
        if text.cut && (self.looks_behind_end || text.bytes.is_empty()) || !self.shadow.is_match(bytes) {
            return Some(false);
        }
        let regex = if bytes.len() <= SHORT { &self.short } else { &self.long };
        match regex.captures_input(RegexInput::new(bytes).anchored(self.from_start)) {
            Ok(Some(captures)) => {
                let groups = (0..captures.len()).map(|group| captures.get(group));
                spans.extend(groups.map(|group| group.map(|found| Span { start: found.start(), end: found.end() })));
                Some(true)
            }
            Ok(None) => Some(false),
            Err(_) => {
                self.given_up.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

fn build(text: &str, limit: usize) -> Result<fancy_regex::Regex, Error> {
    RegexBuilder::new(text)
        .bytes_mode(BytesMode::Ascii)
        .unicode_mode(false)
        .backtrack_limit(limit)
        .max_prog_size(PROGRAM_LIMIT)
        .delegate_size_limit(PIECE_LIMIT)
        .delegate_dfa_size_limit(linear::SMALL_CACHE_LIMIT)
        .build()
}

/// What the engine refuses, and where in the source.
fn flaw(pattern: &Demanding, error: &Error) -> Flaw {
    match error {
        Error::ParseError(offset, error) => {
            Flaw { offset: Some(pattern.script.source_of(*offset)), reason: error.to_string() }
        }
        Error::CompileError(error) if is_about_length(error) => {
            let refused = |script: &str| matches!(build(script, BACKTRACK_LIMIT), Err(Error::CompileError(error)) if is_about_length(&error));
            let text = &pattern.script.text;
            let place = pattern.behinds.iter().find(|(_, span)| refused(&text[span.clone()]));
            let place = place.or(pattern.behinds.first()).map(|(at, _)| *at);
            let reason = "what a look-behind looks for has one length: write no *, + or ? in it, and cases of different \
                          length as look-behinds of their own";
            Flaw { offset: place, reason: reason.into() }
        }
        Error::CompileError(error) => Flaw::whole(error.to_string()),
        error => Flaw::whole(error.to_string()),
    }
}

fn is_about_length(error: &CompileError) -> bool {
    matches!(error, CompileError::LookBehindNotConst | CompileError::VariableLookBehindRequiresFeature)
}

#[cfg(test)]
mod tests {
    use super::super::allowance::{Allowance, STATES_LIMIT};
    use super::super::engine::{Engine, Understood};
    use super::super::patterns::Pattern;
    use super::*;
    use proptest::prelude::*;

    fn understood(pattern: &str) -> Result<Understood, Flaw> {
        Engine::of(pattern, &mut Allowance::new(STATES_LIMIT))
    }

    fn text(bytes: &[u8], cut: bool) -> Text<'_> {
        Text { bytes, cut }
    }

    /// The groups by name, or nothing where it does not match.
    fn groups(pattern: &str, bytes: &[u8], cut: bool) -> Option<Vec<(String, Vec<u8>)>> {
        let understood = understood(pattern).unwrap_or_else(|flaw| panic!("{pattern}: {flaw:?}"));
        let engine = understood.engine.alone(1).unwrap();
        let mut memory = engine.memory();
        engine.search(text(bytes, cut), &mut memory).then(|| engine.named(&memory, bytes))
    }

    fn matches(pattern: &str, bytes: &[u8]) -> bool {
        assert!(Pattern::new(pattern, &mut Allowance::new(STATES_LIMIT)).unwrap().backtracks(), "{pattern}");
        groups(pattern, bytes, false).is_some()
    }

    #[test]
    fn what_python_can_is_done() {
        for (pattern, yes, no) in [
            ("^a(?=b)", "ab", "ac"),
            ("^a(?!b)", "ac", "ab"),
            ("(?<=a)b$", "ab", "cb"),
            ("(?<!a)b$", "cb", "ab"),
            ("^(?P<a>.)(?P=a)$", "xx", "xy"),
            (r"^(.)(.)\2\1$", "xyyx", "xyxy"),
            ("^(?i:(?P<a>[a-z]))(?i:(?P=a))$", "xX", "xY"),
            ("^(?P<a>x)?(?(a)y|z)$", "xy", "xz"),
            ("^(?P<a>x)?(?(a)y)$", "", "y"),
            ("^(?>a|ab)c$", "ac", "abc"),
            ("^a*+b$", "aab", "aaa"),
            ("^[é-ü]+(?!x)$", "éü", "e"),
            ("^[^é](?!x)$", "e", "é"),
            ("(?i)^É(?!x)$", "é", "e"),
            ("(?x)^ a # b\n (?! c )$", "a", "ac"),
        ] {
            let found = (matches(pattern, yes.as_bytes()), matches(pattern, no.as_bytes()));
            assert_eq!(found, (true, false), "{pattern}");
        }
        assert!(matches(r"^.{3}(?!x)$", b"\xff\xfe\x00"), "a text is bytes");
    }

    #[test]
    fn a_search_that_takes_too_long_ends_and_is_counted() {
        let engine = understood("^(?:a|aa|aaa)*b(?!c)$").unwrap().engine;
        let mut memory = engine.memory();
        assert!(!engine.search(text(&[b'a'; 200], false), &mut memory));
        assert!(!memory.gave_up(), "it gave an answer");
        let engine = understood("^(?:a|aa|aaa)*(?<=b)$").unwrap().engine;
        let mut memory = engine.memory();
        assert!(!engine.search(text(&[b'a'; 200], false), &mut memory));
        assert!(memory.gave_up());
        assert!(!engine.search(text(&[b'c'; 200], false), &mut memory));
        assert_eq!((memory.gave_up(), engine.given_up()), (false, 1));
    }

    #[test]
    fn in_long_texts_a_search_ends_sooner() {
        let engine = understood("^(?:a(?!x))*z(?!y)y$").unwrap().engine;
        let mut memory = engine.memory();
        let tried = |length: usize, memory: &mut _| {
            let bytes = [&vec![b'a'; length][..], b"zy"].concat();
            engine.search(text(&bytes, false), memory)
        };
        assert!(!tried(900, &mut memory));
        assert!(!memory.gave_up());
        assert!(!tried(4000, &mut memory));
        assert!(memory.gave_up());
    }

    #[test]
    fn a_cut_text_does_not_match_at_its_cut() {
        for pattern in ["^a(?=b)[bc]+$", "^a(?!c)[bc]+", r"^a(?=b)[bc]+\b", "^ab(?=cc)"] {
            assert_eq!(groups(pattern, b"abc", true), None, "{pattern}");
        }
        assert_eq!(groups("^ab(?=c)", b"abc", true), None, "the last byte may be part of something");
        let found = groups("^(?P<x>a(?=b)[bc]*)", b"abcc", true);
        assert_eq!(found, Some(vec![("x".to_owned(), b"abc".to_vec())]));
    }

    #[test]
    fn what_the_engine_refuses_has_its_place() {
        for (pattern, place) in [("^(?<=a)(?<=ab?)c", 7), ("(?<!a+)b", 0), ("(?<=(a|bc*))d", 0)] {
            let flaw = Pattern::new(pattern, &mut Allowance::new(STATES_LIMIT)).expect_err(pattern);
            assert_eq!(flaw.offset, Some(place), "{pattern}: {flaw:?}");
            assert!(flaw.reason.contains("one length"), "{flaw:?}");
        }
    }

    /// The same pattern in both engines: a look-around that always holds makes the other one take it.
    fn both(pattern: &str, text: &[u8], cut: bool) {
        let Ok(linear) = understood(pattern) else { return };
        assert!(!linear.engine.backtracks());
        // It gives up where the other one never does.
        let forced = understood(&format!(r"(?<!\x00\x01\x02){pattern}")).unwrap();
        let mut memory = forced.engine.memory();
        let found = forced.engine.search(Text { bytes: text, cut }, &mut memory);
        if memory.gave_up() {
            return;
        }
        let found = found.then(|| forced.engine.named(&memory, text));
        assert_eq!(found, groups(pattern, text, cut), "{pattern} in {:?}", text.escape_ascii().to_string());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

        #[test]
        fn both_engines_say_the_same(
            start in "\\^?",
            parts in prop::collection::vec(
                "a|b|\\[ab\\]\\*|\\.\\*|\\.\\+\\?|\\(\\?P<x>a\\|ab\\)|\\(b\\|c\\)\\?|\\\\S\\+|\\\\w\\*|\\\\W|\\[\\^a\\]|é|\\[é-ü\\]|\\\\b|\
                 \\(\\?i:A\\)|<ADDR>|<F-USER>\\.\\*</F-USER>|(?: from )|\\\\d\\{1,3\\}|\\[\\\\D_\\]|\\(\\?s:\\.\\)", 1..7),
            end in "\\$?|\\\\Z",
            text in "[abcA]{0,9}|[abé ü]{0,9}|[ab]{0,3}( from )?([0-9.]{1,4}|192\\.0\\.2\\.1|::1)[ab]{0,3}",
            junk in prop::collection::vec(any::<u8>(), 0..2),
            cut in any::<bool>(),
        ) {
            let pattern = format!("{start}{}{end}", parts.concat());
            let text = [text.as_bytes(), &junk].concat();
            // Where a text was cut the other engine says less: it does not tell what it asks behind the end.
            if !cut {
                both(&pattern, &text, false);
            } else if let Ok(forced) = understood(&format!(r"(?<!\x00\x01\x02){pattern}")) {
                let mut memory = forced.engine.memory();
                if forced.engine.search(Text { bytes: &text, cut }, &mut memory) {
                    prop_assert!(groups(&pattern, &text, true).is_some(), "{}", pattern);
                }
            }
        }
    }
}
