//! Filters against hostile text: whatever they say of a message is what a slow and plain reading of their patterns says,
//! one by one, and what they say of entries does not depend on who asks.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use banish::config::load_filter_file;
use banish::engine::entry::{EntryRef, Page, VALUE_LIMIT};
use banish::engine::filter::{Definition, Filter, Hit, Outcome, Part, Sieve, Trial};
use banish::engine::time::Stamp;
use regex::bytes::{Regex, RegexBuilder};
use regex_automata::util::syntax;
use regex_automata::{Input, meta};

use super::Dice;

/// The first byte chooses the filter; the second whether a message follows, and how often it is repeated, or entries.
pub fn run(data: &[u8]) {
    let mut dice = Dice(data);
    let subject = &SUBJECTS[dice.below(SUBJECTS.len())];
    match dice.byte() {
        entries @ 192.. => same_for_everybody(subject, entries, dice.0),
        times => as_plainly_read(subject, &dice.0.repeat(usize::from(times) / 8 * usize::from(times) + 1)),
    }
}

struct Subject {
    definition: Arc<Definition>,
    filter: Arc<Filter>,
    plain: Plain,
    /// Do its patterns run on the engine that backtracks, although they need not?
    forced: bool,
}

static SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(|| {
    let mut all: Vec<Subject> = NASTY.iter().map(|texts| nasty(texts, false)).collect();
    all.extend(NASTY.iter().map(|texts| nasty(texts, true)));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find_map(|above| {
        let folder = above.join("etc/filter.d");
        folder.is_dir().then_some(folder)
    });
    let mut files: Vec<_> = std::fs::read_dir(folder.unwrap()).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    for file in files {
        for mode in ["normal", "aggressive"] {
            all.extend(load_filter_file(&file, mode).filter.map(|(definition, filter)| subject(definition, filter)));
        }
    }
    all
});

/// Prefregex (or nothing), ignoreregex (or nothing), failregexes.
const NASTY: [[&[&str]; 3]; 8] = [
    [&[], &[], &["^bad (?:a|aa|aaa)*b from <ADDR>$", "^bad <F-USER>.*</F-USER> from <ADDR>$"]],
    [&[], &[], &["(?i)(x+x+)+y <HOST>", r"\b<IP4>\b.*\b<F-USER>\w+</F-USER>$", "^<IP6>$"]],
    [
        &["^app(?:\\[\\d+\\])?: <F-CONTENT>.*</F-CONTENT>$"],
        &["monitor$"],
        &["^from <HOST>(?: user <F-USER>.*</F-USER>)?$"],
    ],
    [&["<F-CONTENT>.+?</F-CONTENT> <ADDR>$"], &[], &["^a*a*a*a*b?$", "(?s)^.*.*.*$"]],
    [&[], &["^[\\s\\S]{500}"], &["^<F-ID>[^ ]+</F-ID> (?:.*,)*.*$", "^(?:[^,]*,){3}<ADDR>(?:,.*)?$"]],
    [&[], &[], &["<ADDR>", "x<F-NOFAIL>y</F-NOFAIL>", "<F-MLFGAINED>ok</F-MLFGAINED> <ADDR>"]],
    [&[], &[], &["^(?:a?){30}a{30} <ADDR>$", "^(?:[ab]*[ac]*)*<ADDR>$", "^é<ADDR>$"]],
    [&[], &["$"], &["^<SUBNET>$", "^<F-PORT>.*</F-PORT>:<ADDR>?$"]],
];

/// What no text has before a match.
const NEVER: &[u8] = &[0, 1, 2, 3, 4, 5];

fn nasty([prefregex, ignoreregex, failregex]: &[&[&str]; 3], forced: bool) -> Subject {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let definition = Definition {
        name: "nasty".into(),
        journalmatch: vec!["_SYSTEMD_UNIT=a.service".into(), "_UID=0 _SYSTEMD_UNIT= SYSLOG_IDENTIFIER=a".into()],
        session: Some("_PID".parse().unwrap()),
        prefregex: prefregex.first().map(|text| (*text).to_owned()),
        failregex: texts(failregex),
        ignoreregex: texts(ignoreregex),
        ..Definition::default()
    };
    let mut compiled = definition.clone();
    if forced {
        let all = compiled.prefregex.iter_mut().chain(&mut compiled.failregex).chain(&mut compiled.ignoreregex);
        all.for_each(|text| {
            let flags = if text.starts_with("(?i)") || text.starts_with("(?s)") { 4 } else { 0 };
            text.insert_str(flags, r"(?<!\x00\x01\x02\x03\x04\x05)");
        });
    }
    let filter = Filter::compile(&compiled).unwrap_or_else(|faults| panic!("{failregex:?}: {faults:?}"));
    let patterns = prefregex.len() + ignoreregex.len() + failregex.len();
    assert_eq!(filter.needs_backtracking().len(), if forced { patterns } else { 0 });
    Subject { forced, ..subject(Arc::new(definition), Arc::new(filter)) }
}

fn subject(definition: Arc<Definition>, filter: Arc<Filter>) -> Subject {
    Subject { plain: Plain::of(&definition), definition, filter, forced: false }
}

/// A filter's patterns, each by itself.
struct Plain {
    prefregex: Option<PlainPattern>,
    failregex: Vec<PlainPattern>,
    ignoreregex: Vec<PlainPattern>,
}

struct PlainPattern {
    regex: Regex,
    /// For texts whose end is not known: `regex` cannot be told of those.
    open: meta::Regex,
}

/// `[^[]` and `\<`, which `regex` reads otherwise.
fn brackets_escaped(source: &str) -> String {
    let mut text = String::new();
    let mut class = None;
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        // Where in a class we are, behind its `^`.
        let at = class.map(|at: usize| at + 1);
        match (c, at) {
            ('\\', _) => match chars.next() {
                Some(c @ ('<' | '>')) => {
                    text.extend(['[', c, ']'].iter().filter(|c| at.is_none() || **c != '[' && **c != ']'))
                }
                next => text.extend(std::iter::once(c).chain(next)),
            },
            ('[', None) => {
                text.push(c);
                class = Some(0);
                continue;
            }
            ('^', Some(1)) if text.ends_with('[') => {
                text.push(c);
                continue;
            }
            (']', Some(at)) if at > 1 => {
                text.push(c);
                class = None;
                continue;
            }
            ('[' | ']', Some(_)) => text.extend(['\\', c]),
            (c, _) => text.push(c),
        }
        class = at;
    }
    text
}

/// The groups of a match, by name, in the order of the pattern.
type Groups<'t> = Vec<(String, Option<&'t [u8]>, usize)>;

impl Plain {
    fn of(definition: &Definition) -> Plain {
        let all = |texts: &[String]| texts.iter().map(|text| PlainPattern::new(text)).collect();
        Plain {
            prefregex: definition.prefregex.as_deref().map(PlainPattern::new),
            failregex: all(&definition.failregex),
            ignoreregex: all(&definition.ignoreregex),
        }
    }
}

impl PlainPattern {
    /// The tags are put in their places as text; everything else stays as it stands, but for brackets in classes and \<.
    fn new(source: &str) -> PlainPattern {
        const IP4: &str = r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+";
        const IP6: &str = r"(?:[0-9A-Fa-f]*:)+(?:[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|[0-9A-Fa-f]+|:)";
        const NAME: &str = r"[0-9A-Za-z_.^-]*[0-9A-Za-z_]";
        let mut text = brackets_escaped(source);
        for (tag, stands_for) in [
            ("<ADDR>", format!(r"(?:\[?(?P<addr>{IP4}|{IP6})\]?)")),
            ("<SUBNET>", format!(r"(?:\[?(?P<addr>{IP4}|{IP6})(?:/(?P<cidr>[0-9]{{1,3}}))?\]?)")),
            ("<HOST>", format!(r"(?:\[?(?P<host>{IP4}|{IP6}|{NAME})\]?)")),
            ("<IP4>", format!("(?:(?P<ip4>{IP4}))")),
            ("<IP6>", format!(r"(?:\[?(?P<ip6>{IP6})\]?)")),
            ("<F-ID>", "(?P<fid>".into()),
            ("<F-PORT>", "(?P<fport>".into()),
        ] {
            text = text.replace(tag, &stands_for);
        }
        while let Some(at) = text.find("<F-") {
            let end = at + text[at..].find('>').unwrap();
            let name = text[at + 3..end].to_ascii_lowercase();
            text.replace_range(at..=end, &format!("(?P<{name}>"));
        }
        while let Some(at) = text.find("</F-") {
            let end = at + text[at..].find('>').unwrap();
            text.replace_range(at..=end, ")");
        }
        let bytes = syntax::Config::new().unicode(false).utf8(false);
        let config = meta::Config::new().utf8_empty(false);
        PlainPattern {
            regex: RegexBuilder::new(&text).unicode(false).build().unwrap_or_else(|error| panic!("{text}: {error}")),
            open: meta::Builder::new().syntax(bytes).configure(config).build(&text).unwrap(),
        }
    }

    fn find<'t>(&self, text: &'t [u8], cut: bool) -> Option<Groups<'t>> {
        let names = self.regex.capture_names().enumerate();
        if cut && text.is_empty() {
            None
        } else if cut {
            let mut captures = self.open.create_captures();
            self.open.search_captures(&Input::new(text).span(0..text.len().saturating_sub(1)), &mut captures);
            captures.is_match().then(|| {
                let group = |at| captures.get_group(at).map(|span| (&text[span.range()], span.end));
                names.filter_map(|(at, name)| Some((name?.to_owned(), group(at)))).map(flat).collect()
            })
        } else {
            let captures = self.regex.captures(text)?;
            let group = |at| captures.get(at).map(|group| (group.as_bytes(), group.end()));
            Some(names.filter_map(|(at, name)| Some((name?.to_owned(), group(at)))).map(flat).collect())
        }
    }
}

fn flat((name, group): (String, Option<(&[u8], usize)>)) -> (String, Option<&[u8]>, usize) {
    (name, group.map(|(bytes, _)| bytes), group.map_or(0, |(_, end)| end))
}

fn took_part<'t>(groups: &Groups<'t>, name: &str) -> Option<&'t [u8]> {
    groups.iter().find(|(known, ..)| known == name)?.1
}

fn address<'t>(groups: &Groups<'t>) -> Option<&'t [u8]> {
    ["addr", "host", "ip4", "ip6"].into_iter().find_map(|name| took_part(groups, name).filter(|text| !text.is_empty()))
}

/// What the filter is to say of a message that belongs to no session.
fn plainly(plain: &Plain, definition: &Definition, message: &[u8]) -> (Outcome, Option<Part>) {
    let kept = &message[..message.len().min(VALUE_LIMIT)];
    let cut = kept.len() < message.len();
    let (mut text, mut text_cut, mut prefix) = (kept, cut, Groups::new());
    if let Some(prefregex) = &plain.prefregex {
        let Some(groups) = prefregex.find(kept, cut) else { return (Outcome::NoMatch, None) };
        let Some((_, Some(content), end)) = groups.iter().find(|(name, ..)| name == "content").cloned() else {
            return (Outcome::NoMatch, None);
        };
        (text, text_cut, prefix) = (content, cut && end + 1 >= kept.len(), groups);
    }
    let found = plain.failregex.iter().enumerate().find_map(|(at, pattern)| Some((at, pattern.find(text, text_cut)?)));
    let Some((at, groups)) = found else { return (Outcome::NoMatch, None) };
    let part = Some(Part::Failregex(at));
    if let Some(by) = plain.ignoreregex.iter().position(|pattern| pattern.find(text, text_cut).is_some()) {
        return (Outcome::Ignored(by), part);
    }
    let either = |name: &str| {
        let says = |groups| took_part(groups, name).is_some_and(|text| !text.is_empty());
        says(&groups) || says(&prefix)
    };
    let id = took_part(&groups, "fid").or_else(|| took_part(&prefix, "fid"));
    let id = id.filter(|text| std::str::from_utf8(text).is_ok_and(|text| text.parse::<IpAddr>().is_ok()));
    let captured = id.or_else(|| address(&groups)).or_else(|| address(&prefix));
    let address = captured.map(|text| std::str::from_utf8(text).ok().and_then(|text| text.parse::<IpAddr>().ok()));
    let outcome = match address {
        Some(None) => Outcome::NoAddress,
        None if definition.address.is_some() => Outcome::NoAddress,
        _ if either("mlfgained") => Outcome::Success,
        _ if either("nofail") || either("refusal") => Outcome::NoFail,
        Some(Some(address)) => Outcome::Failure(address),
        None => Outcome::Pending,
    };
    (outcome, part)
}

fn as_plainly_read(subject: &Subject, message: &[u8]) {
    if !subject.definition.fields.is_empty() {
        return;
    }
    let mut trial = Trial::new(Arc::clone(&subject.filter));
    let verdict = trial.message(message);
    if subject.forced {
        // It may give up, and of a text whose end is not known it says less.
        let known = message.len() <= VALUE_LIMIT && !message.windows(NEVER.len()).any(|window| window == NEVER);
        if !known || !verdict.gave_up.is_empty() {
            return;
        }
    }
    let expected = plainly(&subject.plain, &subject.definition, message);
    assert_eq!((verdict.outcome, verdict.pattern), expected, "{}", message.escape_ascii());
    if let Outcome::Failure(address) = verdict.outcome {
        let named = verdict.captures.iter().any(|(_, text)| {
            std::str::from_utf8(text).is_ok_and(|text| text.parse::<IpAddr>().is_ok_and(|named| named == address))
        });
        assert!(named, "nobody wrote {address}");
    }
    let again = Trial::new(Arc::clone(&subject.filter)).message(message);
    assert_eq!(again, verdict, "the same message again");
}

/// Entries between empty lines, fields between newlines; those of the right origin are given its fields.
fn same_for_everybody(subject: &Subject, flags: u8, data: &[u8]) {
    let mut sieve = Sieve::new(vec![
        ("a".parse().unwrap(), Arc::clone(&subject.filter)),
        ("b".parse().unwrap(), Arc::clone(&subject.filter)),
    ]);
    let mut trial = Trial::new(Arc::clone(&subject.filter));
    let line = subject.definition.journalmatch.get(usize::from(flags) % subject.definition.journalmatch.len().max(1));
    let origin: Vec<String> = match line {
        Some(line) if flags.is_multiple_of(2) => {
            line.split(' ').filter(|word| !word.ends_with('=')).map(|word| word.replace('*', "x")).collect()
        }
        _ => Vec::new(),
    };
    let mut page = Page::default();
    let mut other = Page::default();
    for (number, entry) in data.split(|byte| *byte == 0).take(64).enumerate() {
        let stamp = Stamp::from_usec(number as u64 * 1_000_000);
        page.begin(stamp, 1);
        other.begin(stamp, 1);
        let fields: Vec<&[u8]> =
            origin.iter().map(String::as_bytes).chain(entry.split(|byte| *byte == b'\n')).collect();
        for field in &fields {
            page.offer(sieve.wanted(), field);
            other.offer(trial.wanted(), field);
        }
        let mut hits = Vec::new();
        let this = number as u64 + 1;
        sieve.examine(page.entry(), &mut || Some(EntryRef::attempt(this)), &mut hits);
        let unit = fields.iter().find(|field| field.starts_with(b"_SYSTEMD_UNIT="));
        let own = unit.is_some_and(|unit| *unit == b"_SYSTEMD_UNIT=banishd.service");
        if own {
            // The sieve looks at none of our own, but its time passes.
            other.begin(stamp, 1);
        }
        let outcome = trial.examine(other.entry()).outcome;
        let mut failures: Vec<_> = trial.overdue().iter().map(|one| (one.address, Some(one.number))).collect();
        if let Outcome::Failure(address) = outcome {
            failures.push((address, None));
        }
        let twice = |(address, at)| [("a".to_owned(), address, at), ("b".to_owned(), address, at)];
        let expected: Vec<_> = failures.into_iter().flat_map(twice).collect();
        let entry_of = |hit: &Hit| hit.evidence.map(|evidence| evidence.entry.seqnum);
        let told: Vec<_> = hits.iter().map(|hit| (hit.jail.to_string(), hit.address, entry_of(hit))).collect();
        assert_eq!(told, expected, "{}", entry.escape_ascii());
    }
}
