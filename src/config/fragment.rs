//! One raw TOML file: its values for merging, and the line and column of every key and value in it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem};

/// A step from a table or a list into it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// To the value of this key.
    Key(String),
    /// To the list's item of this number, from 0.
    Index(usize),
}

impl Step {
    /// The key, if it is one.
    pub(super) fn key(&self) -> Option<&str> {
        if let Step::Key(key) = self { Some(key) } else { None }
    }
}

/// A file's text, its values, and where they stand.
#[derive(Debug)]
pub(super) struct Fragment {
    file: Arc<Path>,
    text: String,
    /// The byte at which each line starts.
    lines: Vec<usize>,
    dict: Dict,
    root: Spot,
}

/// Where a value stands and, for what has parts, where these stand. Ranges are bytes of the text.
#[derive(Debug)]
struct Spot {
    key: Option<Range<usize>>,
    value: Range<usize>,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    None,
    Table(BTreeMap<String, Spot>),
    List(Vec<Spot>),
}

impl Fragment {
    /// Reads `text` as `file`'s. With syntax errors, what could be read between them is there all the same, and is not to be
    /// relied on.
    pub(super) fn parse(file: &Path, text: String) -> (Fragment, Vec<Problem>) {
        let (table, errors) = DeTable::parse_recoverable(&text);
        let (dict, parts) = taken_apart(table.get_ref());
        let root = Spot { key: None, value: 0..0, parts };
        let faults: Vec<(usize, String)> = errors
            .iter()
            .map(|error| {
                let at = error.span().map_or(0, |span| span.start);
                (at, explained(&text, at, &error.message().replace('\n', ", ")))
            })
            .collect();
        drop(table);
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let fragment = Fragment { file: file.into(), text, lines, dict, root };
        let problems = faults
            .into_iter()
            .map(|(at, message)| Problem::about_file(fragment.place(at), format!("no valid TOML: {message}")))
            .collect();
        (fragment, problems)
    }

    /// The file it was read from.
    pub(super) fn file(&self) -> &Arc<Path> {
        &self.file
    }

    /// Its own value at the end of `path`, which has keys alone.
    pub(super) fn value(&self, path: &[Step]) -> Option<&Value> {
        let (last, tables) = path.split_last()?;
        let table = tables.iter().try_fold(&self.dict, |dict, step| dict.get(step.key()?)?.as_dict())?;
        table.get(last.key()?)
    }

    /// Its tables and values outside of all tables.
    pub(super) fn top_keys(&self) -> impl Iterator<Item = &str> {
        self.dict.keys().map(String::as_str)
    }

    /// Where the key at the end of `path` stands; for an item of a list the item itself.
    pub(super) fn key_place(&self, path: &[Step]) -> Option<Place> {
        let spot = self.spot(path)?;
        Some(self.place(spot.key.as_ref().unwrap_or(&spot.value).start))
    }

    /// Where the value at the end of `path` starts.
    pub(super) fn value_place(&self, path: &[Step]) -> Option<Place> {
        Some(self.place(self.spot(path)?.value.start))
    }

    /// The place of byte `offset` of the string at the end of `path`; `None` where escapes make that unknowable.
    pub(super) fn place_within(&self, path: &[Step], value: &str, offset: usize) -> Option<Place> {
        let span = self.spot(path)?.value.clone();
        let raw = self.text.get(span.clone())?;
        let quote = ["'''", "\"\"\"", "'", "\""].into_iter().find(|quote| raw.starts_with(quote))?;
        let inner = raw.strip_prefix(quote)?.strip_suffix(quote)?;
        // TOML drops a newline that follows an opening triple quote at once.
        let skipped = if quote.len() == 3 { inner.len() - inner.trim_start_matches('\r').len() } else { 0 };
        let skipped = if quote.len() == 3 && inner[skipped..].starts_with('\n') { skipped + 1 } else { 0 };
        (&inner[skipped..] == value && offset <= value.len())
            .then(|| self.place(span.start + quote.len() + skipped + offset))
    }

    fn spot(&self, path: &[Step]) -> Option<&Spot> {
        path.iter().try_fold(&self.root, |spot, step| match (step, &spot.parts) {
            (Step::Key(key), Parts::Table(table)) => table.get(key),
            (Step::Index(index), Parts::List(list)) => list.get(*index),
            _ => None,
        })
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= offset).saturating_sub(1);
        let start = self.lines.get(line).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(start..offset).unwrap_or_default();
        // Behind so much nobody counts characters, and counting them for every item of a list takes its square of time.
        let column = if before.len() > 4096 { before.len() } else { String::from_utf8_lossy(before).chars().count() };
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Place { file: self.file.clone(), line: number(line + 1), column: number(column + 1) }
    }
}

impl Provider for Fragment {
    fn metadata(&self) -> Metadata {
        Metadata::from("TOML file", &*self.file)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

/// What is wrong at byte `at`, in the words of somebody who has not learnt TOML where the parser has none.
fn explained(text: &str, at: usize, message: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || "_-.:/%".contains(c);
    // A line may have millions of errors: no more than this much of it is looked at for each.
    const NEAR: usize = 256;
    let from = (at.saturating_sub(NEAR)..at).find(|from| text.is_char_boundary(*from)).unwrap_or(at);
    let before = text.get(from..at).unwrap_or_default();
    let start = before.trim_end_matches(is_part);
    let behind = text.get(at..).unwrap_or_default().chars().take(NEAR).take_while(|c| is_part(*c));
    let word: String = before[start.len()..].chars().chain(behind).collect();
    let line = start.rsplit('\n').next().unwrap_or_default().trim_end();
    if message.contains("escape") {
        return format!("{message} (in single quotes a backslash is a backslash)");
    }
    match line.chars().next_back() {
        Some('=' | '[' | ',') if line.contains('=') && !word.is_empty() => {
            let quoted = super::merged::excerpt(&word);
            format!(
                "{word} is no number and neither true nor false; text needs quotes: {quoted}",
                word = quoted.trim_matches('"')
            )
        }
        Some('=') => "a value is missing behind =".into(),
        _ => message.to_owned(),
    }
}

fn taken_apart(table: &DeTable<'_>) -> (Dict, Parts) {
    let mut dict = Dict::new();
    let mut spots = BTreeMap::new();
    for (key, value) in table {
        let (taken, parts) = value_of(value);
        dict.insert(key.get_ref().to_string(), taken);
        spots.insert(key.get_ref().to_string(), Spot { key: Some(key.span()), value: value.span(), parts });
    }
    (dict, Parts::Table(spots))
}

/// The depth is bounded by the parser's own limit of 80.
fn value_of(value: &Spanned<DeValue<'_>>) -> (Value, Parts) {
    let plain = match value.get_ref() {
        DeValue::String(text) => Value::from(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::from(number),
            // Beyond 64 bits: kept as it was written, for the message that refuses it.
            Err(_) => Value::from(number.to_string()),
        },
        DeValue::Float(number) => Value::from(number.as_str().parse::<f64>().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Datetime(datetime) => Value::from(datetime.to_string()),
        DeValue::Array(items) => {
            let (values, spots): (Vec<Value>, Vec<Spot>) = items
                .iter()
                .map(|item| {
                    let (taken, parts) = value_of(item);
                    (taken, Spot { key: None, value: item.span(), parts })
                })
                .unzip();
            return (Value::from(values), Parts::List(spots));
        }
        DeValue::Table(table) => {
            let (dict, parts) = taken_apart(table);
            return (Value::from(dict), parts);
        }
    };
    (plain, Parts::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(keys: &str) -> Vec<Step> {
        keys.split('.').map(|k| k.parse().map_or_else(|_| Step::Key(k.into()), Step::Index)).collect()
    }

    fn parsed(text: &str) -> Fragment {
        let (fragment, problems) = Fragment::parse(Path::new("f"), text.into());
        assert_eq!(problems, []);
        fragment
    }

    fn at(place: Option<Place>) -> (u32, u32) {
        place.map_or((0, 0), |place| (place.line, place.column))
    }

    #[test]
    fn every_key_and_value_has_its_line_and_column() {
        let fragment =
            parsed("a = 1\n[jail.x]\n  'ü' = \"é\"\n  l = [1,\n    [22]]\nb.c = true\n[[t]]\nq=1\n[[t]]\nq=2");
        for (keys, key, value) in [
            ("a", (1, 1), (1, 5)),
            ("jail.x", (2, 7), (2, 1)),
            ("jail.x.ü", (3, 3), (3, 9)),
            ("jail.x.l.0", (4, 8), (4, 8)),
            ("jail.x.l.1.0", (5, 6), (5, 6)),
            ("jail.x.b.c", (6, 3), (6, 7)),
            ("t.1.q", (10, 1), (10, 3)),
        ] {
            assert_eq!(at(fragment.key_place(&path(keys))), key, "{keys}");
            assert_eq!(at(fragment.value_place(&path(keys))), value, "{keys}");
        }
        assert_eq!(fragment.key_place(&path("a.b")), None);
    }

    #[test]
    fn a_place_within_a_string_is_exact_unless_escapes_hide_it() {
        let fragment = parsed("l = 'ab('\nb = \"ab(\"\nm = '''\nab\ncd('''\ne = \"a\\u0062(\"\nq = ''''a'b('''");
        let within = |key: &str, value: &str| at(fragment.place_within(&path(key), value, value.len() - 1));
        assert_eq!(within("l", "ab("), (1, 8));
        assert_eq!(within("b", "ab("), (2, 8));
        assert_eq!(within("m", "ab\ncd("), (5, 3));
        assert_eq!(within("e", "ab("), (0, 0));
        assert_eq!(within("q", "'a'b("), (7, 12));
    }

    #[test]
    fn all_syntax_errors_of_a_file_are_told_and_the_rest_is_still_there() {
        let text = "[jail.a]\nx = \n[jail.b]\ny = 'z\n[default]\nignoreip = ['192.0.2.1']\nmaxretry = 1\n";
        let (fragment, problems) = Fragment::parse(Path::new("f"), text.into());
        let lines: Vec<u32> = problems.iter().filter_map(|p| Some(p.place.as_ref()?.line)).collect();
        assert_eq!(lines, [2, 4], "{problems:?}");
        assert!(fragment.spot(&path("jail.b")).is_some());
    }

    #[test]
    fn text_without_quotes_is_told_in_plain_words() {
        for (text, told) in [
            ("maxretry = three\n", "three is no number and neither true nor false; text needs quotes: \"three\""),
            ("enabled = yes # on\n", "yes is no number"),
            ("findtime = 10m\n", "10m is no number"),
            ("ignoreip = 192.0.2.1\n", "192.0.2.1 is no number"),
            ("ignoreip = [\"::1\", 192.0.2.0/24]\n", "192.0.2.0/24 is no number"),
            ("port = [ssh]\n", "ssh is no number"),
            ("filter = sshd", "sshd is no number"),
            ("maxretry = \n", "a value is missing"),
            ("failregex = \"^\\S+$\"\n", "(in single quotes a backslash is a backslash)"),
        ] {
            let (_, problems) = Fragment::parse(Path::new("f"), text.into());
            let first = &problems[0].text;
            assert!(first.starts_with("no valid TOML: ") && first.contains(told), "{text}: {first}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "(\\PC|[\\[\\]\\{\\}='\"\n.a#\\\\]){0,80}") {
            let _ = Fragment::parse(Path::new("f"), text);
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        for text in [format!("a = {}", "[".repeat(100_000)), format!("{} = 1", vec!["a"; 100_000].join("."))] {
            assert_ne!(Fragment::parse(Path::new("f"), text).1, []);
        }
    }
}
