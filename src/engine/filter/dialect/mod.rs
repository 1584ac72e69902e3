//! fail2ban's patterns in the words of our engines: Python's syntax and the address and session tags.
//!
//! What it does not know it refuses: a pattern never means here something else than where it came from. As everywhere
//! in filters a text is bytes, and `\w`, `\d`, `\s` and `\b` know ASCII alone; a character that is not ASCII is the bytes
//! of its UTF-8, in a class too.

mod class;
mod escape;
mod group;
mod tag;

use regex_syntax::is_meta_character;

use group::{Groups, Kind, Open};

/// What is wrong in a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    /// In bytes from the start of the text.
    pub(super) offset: Option<usize>,
    pub(super) reason: String,
}

impl Flaw {
    pub(super) fn whole(reason: impl Into<String>) -> Flaw {
        Flaw { offset: None, reason: reason.into() }
    }

    fn at(offset: usize, reason: impl Into<String>) -> Flaw {
        Flaw { offset: Some(offset), reason: reason.into() }
    }
}

/// The most bytes of a pattern: several times those of the longest list of names that a filter of fail2ban's looks for.
const LENGTH_LIMIT: usize = 64 << 10;
/// The most groups that are open at one place.
const DEPTH_LIMIT: usize = 100;

/// A pattern in an engine's syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Translation {
    /// About how many states its automaton has.
    pub(super) states: usize,
    /// What the linear-time engine takes; where there is [`Demanding`] text only the shadow of it: it matches wherever
    /// that one does, and elsewhere too.
    pub(super) plain: Script,
    /// For patterns that the linear-time engine cannot express.
    pub(super) demanding: Option<Demanding>,
}

/// A pattern for an engine that backtracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Demanding {
    pub(super) script: Script,
    /// Does it ask what comes behind: the text's end, a word's end, or what must not follow? Where a text was cut that
    /// cannot be known.
    pub(super) looks_behind_end: bool,
    /// Where look-behinds stand in the source and in the script.
    pub(super) behinds: Vec<(usize, std::ops::Range<usize>)>,
}

/// Text of an engine's syntax that knows where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) text: String,
    /// Pairs of a place in `text` and the place in the source it came from, both ascending.
    places: Vec<(usize, usize)>,
}

impl Script {
    /// The place in the source that became the byte at `offset` of the text.
    pub(super) fn source_of(&self, offset: usize) -> usize {
        let after = self.places.partition_point(|(out, _)| *out <= offset);
        after.checked_sub(1).map_or(0, |at| self.places[at].1)
    }
}

/// Translates one pattern.
pub(super) fn translate(source: &str) -> Result<Translation, Flaw> {
    if source.len() > LENGTH_LIMIT {
        let reason = format!("is longer than {LENGTH_LIMIT} bytes: write several patterns instead");
        return Err(Flaw::at(0, reason));
    }
    let mut translator = Translator {
        source,
        at: 0,
        full: Script::default(),
        plain: Script::default(),
        hidden: 0,
        demands: false,
        looks_behind_end: false,
        behinds: Vec::new(),
        open: Vec::new(),
        groups: Groups::default(),
        flags: Flags::default(),
        last: Last::default(),
        states: 0,
        flags_end: 0,
    };
    translator.run()?;
    let Translator { full, plain, demands, looks_behind_end, behinds, states, .. } = translator;
    Ok(Translation {
        states,
        plain,
        demanding: demands.then_some(Demanding { script: full, looks_behind_end, behinds }),
    })
}

struct Translator<'a> {
    source: &'a str,
    at: usize,
    full: Script,
    plain: Script,
    /// In how many groups we are that have no place in the shadow.
    hidden: usize,
    demands: bool,
    looks_behind_end: bool,
    behinds: Vec<(usize, std::ops::Range<usize>)>,
    open: Vec<Open<'a>>,
    groups: Groups,
    flags: Flags,
    last: Last,
    /// About how many states what stands outside of all groups has.
    states: usize,
    /// The length of the text while there is nothing in it but flags for the whole pattern.
    flags_end: usize,
}

/// The flags that change how what follows is read.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    ignore_case: bool,
    verbose: bool,
}

/// What stands before the place that is read.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    /// May it be repeated?
    repeatable: bool,
    /// Is there an unbounded repetition in it?
    unbounded: bool,
    /// Where in it something stands that looks over the rest of the text, however long, and takes nothing of it.
    dear: Option<usize>,
    /// About how many states of an automaton it is.
    states: usize,
}

impl Last {
    const ATOM: Last = Last { repeatable: true, unbounded: false, dear: None, states: 1 };
}

impl<'a> Translator<'a> {
    fn run(&mut self) -> Result<(), Flaw> {
        while let Some(c) = self.rest().chars().next() {
            if self.passes_over(c)? {
                continue;
            }
            self.mark();
            let before = self.full.text.len();
            let mut last = match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                ')' => self.close_group()?,
                '<' => self.tag()?,
                '*' => self.repeat(1, "*", None)?,
                '+' => self.repeat(1, "+", None)?,
                '?' => self.repeat(1, "?", Some(1))?,
                '{' => self.braces()?,
                '|' => self.bar()?,
                '^' => self.syntax(1, "^", Last::default()),
                '$' => {
                    self.looks_behind_end = true;
                    self.syntax(1, "$", Last::default())
                }
                '.' => self.syntax(1, ".", Last::ATOM),
                _ => self.literal(c),
            };
            // What one character of the source becomes may be long: an address, a class of what is not ASCII.
            last.states = last.states.max((self.full.text.len() - before) / 4).max(1);
            self.count(last.states);
            self.last = last;
        }
        match self.open.pop() {
            Some(Open { at, kind: Kind::Tag(tag), .. }) => {
                Err(Flaw::at(at, format!("<F-{tag}> is never closed with </F-{tag}>")))
            }
            Some(open) => Err(Flaw::at(open.at, "this parenthesis is never closed")),
            None => Ok(()),
        }
    }

    /// So many states more stand in the innermost group that is open.
    fn count(&mut self, states: usize) {
        let around = self.open.last_mut().map_or(&mut self.states, |open| &mut open.states);
        *around = around.saturating_add(states);
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Passes over a comment, and in verbose patterns over space: what stood before may still be repeated.
    fn passes_over(&mut self, c: char) -> Result<bool, Flaw> {
        let rest = self.rest();
        if rest.starts_with("(?#") {
            let end = rest.find(')').ok_or_else(|| Flaw::at(self.at, "this comment is never closed"))?;
            self.at += end + 1;
            return Ok(true);
        }
        if !self.flags.verbose {
            return Ok(false);
        }
        if matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c') {
            self.at += 1;
            return Ok(true);
        }
        if c == '#' {
            self.at += rest.find('\n').unwrap_or(rest.len());
            return Ok(true);
        }
        Ok(false)
    }

    /// What comes next in the scripts comes from here.
    fn mark(&mut self) {
        self.full.places.push((self.full.text.len(), self.at));
        if self.hidden == 0 {
            self.plain.places.push((self.plain.text.len(), self.at));
        }
    }

    /// Writes the same into both.
    fn push(&mut self, text: &str) {
        self.push_apart(text, text);
    }

    /// Writes what differs in the shadow.
    fn push_apart(&mut self, full: &str, plain: &str) {
        self.full.text.push_str(full);
        if self.hidden == 0 {
            self.plain.text.push_str(plain);
        }
    }

    /// `length` bytes of the source read `text`.
    fn syntax(&mut self, length: usize, text: &str, last: Last) -> Last {
        self.push(text);
        self.at += length;
        last
    }

    /// A character that stands for itself.
    fn literal(&mut self, c: char) -> Last {
        self.push_literal(c);
        self.at += c.len_utf8();
        Last::ATOM
    }

    fn push_literal(&mut self, c: char) {
        if c.is_ascii() {
            self.push(&escaped(c));
            return;
        }
        // Several bytes that are repeated together; the engines know the cases of ASCII alone.
        let other = |mut cases: Box<dyn Iterator<Item = char>>| {
            let case = cases.next().filter(|case| *case != c && self.flags.ignore_case);
            case.filter(|_| cases.next().is_none())
        };
        let cases = [other(Box::new(c.to_lowercase())), other(Box::new(c.to_uppercase()))];
        let cases: Vec<String> = cases.into_iter().flatten().map(|case| format!("|{case}")).collect();
        self.push(&format!("(?:{c}{})", cases.concat()));
    }

    fn bar(&mut self) -> Result<Last, Flaw> {
        if let Some(Open { kind: Kind::Conditional { bars }, .. }) = self.open.last_mut() {
            *bars += 1;
            if *bars > 1 {
                return Err(Flaw::at(self.at, "a conditional has two cases: (?(name)yes|no)"));
            }
        }
        Ok(self.syntax(1, "|", Last::default()))
    }

    /// `{m,n}` where it repeats something, else plain braces.
    fn braces(&mut self) -> Result<Last, Flaw> {
        let inner = self.rest()[1..].split(|c: char| !c.is_ascii_digit() && c != ',').next().unwrap_or_default();
        let (from, to) = match inner.split_once(',') {
            _ if self.rest().as_bytes().get(inner.len() + 1) != Some(&b'}') => return Ok(self.literal('{')),
            Some((from, to)) if !to.contains(',') => (from, to),
            None if !inner.is_empty() => (inner, inner),
            _ => return Ok(self.literal('{')),
        };
        let number = |text: &str| match text {
            "" => Ok(None),
            text => text.parse::<u32>().map(Some).map_err(|_| Flaw::at(self.at, "repeats too often")),
        };
        let (least, most) = (number(from)?.unwrap_or(0), number(to)?);
        if most.is_some_and(|most| most < least) {
            return Err(Flaw::at(self.at, "repeats at least more often than at most"));
        }
        let text = match most {
            Some(most) if most == least => format!("{{{least}}}"),
            Some(most) => format!("{{{least},{most}}}"),
            None => format!("{{{least},}}"),
        };
        // The automaton has what is repeated as often as it may be there, or has to be.
        let more = most.unwrap_or(least).max(1) - 1;
        self.count(self.last.states.saturating_mul(more as usize));
        self.repeat(inner.len() + 2, &text, most)
    }

    /// A repetition of `length` bytes of the source, which reads `text`, with its `?` where it is lazy.
    fn repeat(&mut self, length: usize, text: &str, most: Option<u32>) -> Result<Last, Flaw> {
        /// What is repeated more often may as well be repeated without end.
        const FEW: u32 = 16;
        if !self.last.repeatable {
            return Err(Flaw::at(self.at, "nothing to repeat here"));
        }
        let start = self.at;
        let unbounded = most.is_none_or(|most| most > FEW);
        if let (true, Some(dear)) = (unbounded, self.last.dear) {
            let reason = "looks over the rest of the text, and in a repetition again and again: bound what it looks for \
                          ([^ ]{1,16} instead of .*), or take it out of the repetition";
            return Err(Flaw::at(dear, reason));
        }
        self.syntax(length, text, Last::default());
        match self.rest().as_bytes().first() {
            Some(b'?') => {
                self.syntax(1, "?", Last::default());
            }
            Some(b'+') => {
                self.demands = true;
                self.push_apart("+", "");
                self.at += 1;
                if self.last.unbounded {
                    self.open.iter_mut().for_each(|open| open.dear = Some(start));
                }
            }
            _ => {}
        }
        if unbounded {
            self.open.iter_mut().for_each(|open| open.unbounded = true);
        }
        Ok(Last::default())
    }
}

/// A character of ASCII that stands for itself, inside and outside of a class.
fn escaped(c: char) -> String {
    match c {
        c if c.is_ascii_control() => format!(r"\x{:02X}", u32::from(c)),
        c if is_meta_character(c) => format!(r"\{c}"),
        c => c.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::allowance::{Allowance, STATES_LIMIT};
    use super::*;
    use proptest::prelude::*;

    fn translated(source: &str) -> String {
        let translation = translate(source).unwrap_or_else(|flaw| panic!("{source}: {flaw:?}"));
        translation.demanding.map_or(translation.plain, |demanding| demanding.script).text
    }

    #[test]
    fn python_means_the_same_here() {
        for (source, text) in [
            (r"\<a\>", "<a>"),
            (r"[^\>]", "[^>]"),
            (r"[^[]", r"[^\[]"),
            (r"[]a]", r"[\]a]"),
            (r"[a-c&&~~-]", r"[a-c\&\&\~\~\-]"),
            (r"[\b]", r"[\x08]"),
            (r"[\w.-]", r"[\w\.\-]"),
            (r"a{,3}", "a{0,3}"),
            (r"a{2}b{2,}?", "a{2}b{2,}?"),
            (r"{a}", r"\{a\}"),
            (r"a{b}", r"a\{b\}"),
            (r"^a\Z", r"^a\z"),
            (r"(?P<n>a)(?:b)(?i:c)(?#d)*", r"(?P<n>a)(?:b)(?i:c)*"),
            ("(?i)(?u)(?s)a(?-i:b)", "(?i)(?s)a(?-i:b)"),
            ("((?i)a)(?:(?i)b)(?a:c)", "(?i:a)(?i:b)(?:c)"),
            ("(?x) a\\ b # <c>\n [ d] +", "a b[ d]+"),
            (r"\x41\-\/\@\ \101\0\n", r"A\-/@ A\x00\x0A"),
            (r"\xe9?\u00e9\U000000e9é", "(?:é)?(?:é)(?:é)(?:é)"),
            ("(?i)é", "(?i)(?:é|É)"),
            ("[aé]", r"(?:[\x61-\x61]|[\xC3-\xC3][\xA9-\xA9])"),
            ("(?P<a>b)(?P=a)(?(a)c|d)", "(?P<a>b)(?P=a)(?(<a>)c|d)"),
            (r"(<F-USER>a</F-USER>)(?:\2|\1)(?(1)b)", r"((?P<user>a))(?:(?:\2)|(?:\1))(?(1)b)"),
            (r"<ADDR>(a)\3", &format!(r"(?:{})(a)(?:\2)", address())),
            ("(?=a)(?!b)(?<=c)(?<!d)(?>e)f*+", "(?=a)(?!b)(?<=c)(?<!d)(?>e)f*+"),
            ("a < b <= c <1> <é>", "a < b <= c <1> <(?:é)>"),
            ("<F-USER>a</F-USER><F-ID>b</F-ID><F-PORT>c</F-PORT>", "(?P<user>a)(?P<fid>b)(?P<fport>c)"),
            ("<F-PORT/><F-ID/>", r"(?:(?P<fport>\w+))(?:(?P<fid>\S+))"),
            ("<F-MLFID>a</F-MLFID><F-TUPLE_ID>b</F-TUPLE_ID>", "(?P<mlfid>a)(?P<tuple_id>b)"),
        ] {
            assert_eq!(translated(source), text, "{source}");
        }
    }

    fn address() -> String {
        translated("<ADDR>").strip_prefix("(?:").and_then(|text| text.strip_suffix(')')).unwrap().to_owned()
    }

    #[test]
    fn only_what_demands_it_has_a_shadow() {
        for (source, shadow) in [
            (r"^a(?!b(?=c)).*(?<=d)$", Some("^a.*$")),
            ("(?P<a>b)(?P=a)", Some(r"(?P<a>b)[\s\S]*?")),
            ("(a)(?(1)b)(?(1)c|d)", Some("(a)(?:b|)(?:c|d)")),
            ("(?>a)b++c", Some("(?:a)b+c")),
            ("^<ADDR>$", None),
        ] {
            let translation = translate(source).ok();
            let found = translation.and_then(|t| t.demanding.map(|_| t.plain.text));
            assert_eq!(found.as_deref(), shadow, "{source}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_place() {
        for (source, offset, reason) in [
            ("ab**", 3, "nothing to repeat"),
            ("a{2}{3}", 4, "nothing to repeat"),
            ("ab*+*", 4, "nothing to repeat"),
            ("(?=a)*", 5, "nothing to repeat"),
            ("a{3,2}", 1, "more often"),
            ("a{99999999999}", 1, "too often"),
            ("^*", 1, "nothing to repeat"),
            ("a(?i)b", 1, "at its very beginning"),
            ("(?L)a", 0, "Python's flags"),
            ("(?-i)a", 0, "taken away"),
            ("(?~a)", 0, "no group of Python's"),
            ("(?P>a)", 0, "(?P=name)"),
            (r"a\q", 1, "unknown escape"),
            (r"a\N{DASH}", 1, "character itself"),
            (r"a\", 1, "nothing follows"),
            (r"\xg1", 0, "hexadecimal"),
            (r"\u12", 0, "hexadecimal"),
            (r"\ud800", 0, "no character"),
            ("a[b", 1, "never closed"),
            ("a[z-a]", 2, "backwards"),
            (r"a[\w-z]", 2, "no range"),
            ("(a", 0, "never closed"),
            ("a)", 1, "never opened"),
            (r"(a\1)", 2, "still open"),
            (r"\1(a)", 0, "no group 1"),
            (r"<HOST>(a)\4", 9, "usedns"),
            (r"<ADDR>\1", 6, "part of an address"),
            ("(?P=a)", 0, "no group named"),
            ("(?P<a>b(?P=a))", 7, "still open"),
            ("(?(a)b|c)", 0, "no group named"),
            ("(?P<a>b)(?(a)b|c|d)", 16, "two cases"),
            ("(?(a", 0, "names its group"),
            ("(?:(?=.*a)b)*", 3, "again and again"),
            ("(?:(?>.*a)?b)+", 3, "again and again"),
            ("(?:(?:a(?!b*c))d){2,}", 7, "again and again"),
            ("<F-USER>a", 0, "never closed"),
            ("a</F-USER>", 1, "closes no"),
            ("(<F-USER>a)</F-USER>", 10, "closes a parenthesis"),
            ("<F-USER>(a</F-USER>)", 10, "closes no"),
            ("<F-USER/>", 0, "unknown tag"),
            ("a<unknown>", 1, "unknown tag"),
            ("a<F-lower>b", 1, "unknown tag"),
            ("<HOST> <HOST>", 7, "twice"),
            ("a<SKIPLINES>b", 1, "one text"),
        ] {
            let flaw = translate(source).expect_err(source);
            assert_eq!(flaw.offset, Some(offset), "{source}: {}", flaw.reason);
            assert!(flaw.reason.contains(reason), "{source}: {}", flaw.reason);
        }
    }

    #[test]
    fn a_place_in_the_translation_leads_back() {
        let script = translate(r"<ADDR>\Zab").unwrap().plain;
        let at = script.text.find("ab").unwrap();
        assert_eq!((script.source_of(0), script.source_of(at), script.source_of(at + 1)), (0, 8, 9));
    }

    proptest! {
        #[test]
        fn no_text_panics(source in r"[\\\[\](){}<>?*+^$|,a-cFPHOST0-9=!:/éu -]{0,40}") {
            let _ = super::super::patterns::Pattern::new(&source, &mut Allowance::new(STATES_LIMIT));
        }
    }
}
