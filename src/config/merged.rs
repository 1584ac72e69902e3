//! The fragments merged into one tree, each value of which still knows the file, line and column it came from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use figment::value::{Dict, Tag, Value};
use figment::{Figment, Profile, Provider};

use super::fragment::{Fragment, Step};
use super::length;
use super::problem::{Place, Problem, Severity};

/// A merged tree.
pub(super) struct Merged {
    figment: Figment,
    root: Value,
    /// Lowest first.
    fragments: Vec<Fragment>,
    by_file: BTreeMap<PathBuf, usize>,
    /// What messages put before a key of this tree: nothing, or `filter`, `sshd`.
    prefix: Vec<String>,
}

impl Merged {
    /// Merges `fragments` key by key, later ones over earlier ones and all of them over `built_in`.
    pub(super) fn of(prefix: &[&str], built_in: Figment, fragments: Vec<Fragment>) -> Merged {
        let figment = fragments.iter().fold(built_in, |merged, fragment| merged.merge(fragment));
        let mut profiles = figment.data().expect("a provider of ours has its values already");
        let root = Value::from(profiles.remove(&Profile::Default).unwrap_or_default());
        let by_file = fragments.iter().enumerate().map(|(at, fragment)| (fragment.file().to_path_buf(), at)).collect();
        Merged { figment, root, fragments, by_file, prefix: prefix.iter().map(|part| (*part).to_owned()).collect() }
    }

    /// The whole tree.
    pub(super) fn root(&self) -> Item<'_> {
        Item { merged: self, within: None, value: &self.root, path: Vec::new() }
    }

    /// The tree in TOML.
    pub(super) fn text(&self) -> String {
        toml::Value::try_from(&self.root)
            .map_or_else(|_| String::new(), |value| toml::to_string(&value).unwrap_or_default())
    }

    fn fragment(&self, tag: Tag) -> Option<&Fragment> {
        let file = self.figment.get_metadata(tag)?.source.as_ref()?.file_path()?;
        self.by_file.get(file).map(|at| &self.fragments[*at])
    }
}

/// A value of the tree and the way to it.
#[derive(Clone)]
pub(super) struct Item<'a> {
    merged: &'a Merged,
    /// The file whose own value it is, where it is not the merged one.
    within: Option<&'a Fragment>,
    value: &'a Value,
    path: Vec<Step>,
}

impl<'a> Item<'a> {
    /// Its key as messages name it: `jail.sshd.maxretry`. The items of a list have the list's.
    pub(super) fn key(&self) -> String {
        let steps = self.path.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key),
            Step::Index(_) => None,
        });
        self.merged.prefix.iter().chain(steps).map(|part| quoted(part)).collect::<Vec<_>>().join(".")
    }

    /// Its own name: the last key on the way to it.
    pub(super) fn name(&self) -> &str {
        self.path
            .iter()
            .rev()
            .find_map(|step| if let Step::Key(key) = step { Some(&**key) } else { None })
            .unwrap_or("")
    }

    /// The jail that it belongs to, as it was written.
    fn jail(&self) -> Option<String> {
        match self.path.as_slice() {
            [Step::Key(jail), Step::Key(name), ..] if jail == "jail" && self.merged.prefix.is_empty() => {
                Some(name.clone())
            }
            _ => None,
        }
    }

    /// Where the value stands; `None` for one that is built in.
    pub(super) fn place(&self) -> Option<Place> {
        self.fragment()?.value_place(&self.path)
    }

    /// Where its key stands; for a table, in the last file that has it.
    pub(super) fn key_place(&self) -> Option<Place> {
        self.fragment()?.key_place(&self.path)
    }

    /// The place of byte `offset` of this string; `None` where escapes make that unknowable.
    pub(super) fn place_within(&self, offset: usize) -> Option<Place> {
        self.fragment()?.place_within(&self.path, self.value.as_str()?, offset)
    }

    /// An error about the value.
    pub(super) fn error(&self, text: impl Into<String>) -> Problem {
        self.problem(Severity::Error, self.place(), text)
    }

    /// An error about the key.
    pub(super) fn key_error(&self, text: impl Into<String>) -> Problem {
        self.problem(Severity::Error, self.key_place(), text)
    }

    /// A warning about the key.
    pub(super) fn warning(&self, text: impl Into<String>) -> Problem {
        self.problem(Severity::Warning, self.key_place(), text)
    }

    /// A problem of this key at a place of its own.
    pub(super) fn problem(&self, severity: Severity, place: Option<Place>, text: impl Into<String>) -> Problem {
        Problem { severity, place, key: self.key(), jail: self.jail(), text: text.into() }
    }

    /// An error about a value of the wrong kind.
    pub(super) fn expected(&self, what: &str) -> Problem {
        self.error(format!("expected {what}, found {}", found(self.value)))
    }

    /// The table that it should be.
    pub(super) fn table(&self) -> Result<Table<'a>, Problem> {
        match self.value {
            Value::Dict(_, dict) => Ok(Table { item: self.clone(), dict }),
            _ => Err(self.expected("a table")),
        }
    }

    /// The items of a list; what is no list is a list of one.
    pub(super) fn list(&self) -> Vec<Item<'a>> {
        let Value::Array(_, values) = self.value else { return vec![self.clone()] };
        values.iter().enumerate().map(|(index, value)| self.step(Step::Index(index), value)).collect()
    }

    /// What each file says in this place, lowest first; the value itself where none does.
    pub(super) fn in_each_file(&self) -> Vec<Item<'a>> {
        let fragments = self.merged.fragments.iter();
        let each = fragments.filter_map(|fragment| {
            let value = fragment.value(&self.path)?;
            Some(Item { within: Some(fragment), value, ..self.clone() })
        });
        let each: Vec<Item<'a>> = each.collect();
        if each.is_empty() { vec![self.clone()] } else { each }
    }

    /// Does it stand in a file over which that of the other is merged?
    pub(super) fn is_below(&self, other: &Item<'_>) -> bool {
        let at = |item: &Item<'_>| item.merged.by_file.get(&**item.fragment()?.file()).copied();
        at(self) < at(other)
    }

    /// Do the lists of all files add up here, instead of the last one counting?
    fn adds_up(&self) -> bool {
        let keys: Vec<&str> = self.path.iter().map_while(Step::key).collect();
        self.merged.prefix.is_empty() && matches!(keys[..], ["default", "ignoreip"] | ["jail", _, "ignoreip"])
    }

    /// A string.
    pub(super) fn text(&self) -> Result<&'a str, Problem> {
        self.value.as_str().ok_or_else(|| self.expected("a string"))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self) -> Result<bool, Problem> {
        match self.value {
            Value::Bool(_, flag) => Ok(*flag),
            _ => Err(self.expected("true or false")),
        }
    }

    /// A whole number within these bounds.
    pub(super) fn number(&self, least: u32, most: u32) -> Result<u32, Problem> {
        self.integer()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.expected(&format!("a number from {least} to {most}")))
    }

    /// A whole number, if it is one.
    pub(super) fn integer(&self) -> Option<i128> {
        match self.value {
            Value::Num(_, number) if number.to_f64().is_none() => {
                number.to_i128().or_else(|| number.to_u128().and_then(|number| i128::try_from(number).ok()))
            }
            _ => None,
        }
    }

    /// A length of time within these bounds: a string that [`length::parse`] reads, or a number of seconds.
    pub(super) fn length(&self, least: Duration, most: Duration) -> Result<Duration, Problem> {
        let bounds = || format!("a time from {} to {}", length::show(least), length::show(most));
        let given = match (self.value.as_str(), self.integer()) {
            (Some(text), _) => length::parse(text).map_err(|error| match error {
                length::LengthError::Unreadable => self.error(format!("{error}, found {}", found(self.value))),
                length::LengthError::Unit(_) => self.error(error.to_string()),
                length::LengthError::TooLong => self.expected(&bounds()),
            })?,
            (None, Some(seconds)) => Duration::from_secs(u64::try_from(seconds).map_err(|_| self.expected(&bounds()))?),
            (None, None) => return Err(self.expected("a time such as \"10m\" or a number of seconds")),
        };
        if (least..=most).contains(&given) { Ok(given) } else { Err(self.expected(&bounds())) }
    }

    /// One of these words, and what it stands for.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Problem> {
        let known = self.value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        known.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.expected(&any_of(&words))
        })
    }

    /// The values below it that are no tables, each with its key, in the keys' order; where lists add up, that of each file.
    pub(super) fn leaves(&self) -> Vec<Item<'a>> {
        match self.value {
            _ if self.adds_up() => self.in_each_file(),
            Value::Dict(_, dict) => {
                dict.iter().flat_map(|(key, value)| self.step(Step::Key(key.clone()), value).leaves()).collect()
            }
            _ => vec![self.clone()],
        }
    }

    /// The value in TOML, on one line.
    pub(super) fn shown(&self) -> String {
        toml::Value::try_from(self.value).map_or_else(|_| found(self.value), |value| value.to_string())
    }

    fn step(&self, step: Step, value: &'a Value) -> Item<'a> {
        let mut path = self.path.clone();
        path.push(step);
        Item { merged: self.merged, within: self.within, value, path }
    }

    fn fragment(&self) -> Option<&'a Fragment> {
        self.within.or_else(|| self.merged.fragment(self.value.tag()))
    }
}

/// A table of the tree.
pub(super) struct Table<'a> {
    item: Item<'a>,
    dict: &'a Dict,
}

impl<'a> Table<'a> {
    /// The value of `key`, if it is there.
    pub(super) fn at(&self, key: &str) -> Option<Item<'a>> {
        self.dict.get(key).map(|value| self.item.step(Step::Key(key.into()), value))
    }

    /// All values, in the order of their keys.
    pub(super) fn items(&self) -> impl Iterator<Item = Item<'a>> {
        self.dict.iter().map(|(key, value)| self.item.step(Step::Key(key.clone()), value))
    }

    /// The table as a value.
    pub(super) fn item(&self) -> &Item<'a> {
        &self.item
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn any_of(words: &[String]) -> String {
    match words {
        [] => "nothing".into(),
        [word] => word.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// A key as TOML writes it.
fn quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { key.into() } else { excerpt(key) }
}

/// A text in quotes, on one line and not too long.
pub(super) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn found(value: &Value) -> String {
    match value {
        Value::String(_, text) => excerpt(text),
        Value::Char(_, letter) => excerpt(&letter.to_string()),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, number) => match number.to_f64() {
            Some(fraction) => fraction.to_string(),
            None => number.to_i128().map_or_else(|| "a number".into(), |number| number.to_string()),
        },
        Value::Empty(..) => "nothing".into(),
        Value::Dict(..) => "a table".into(),
        Value::Array(..) => "a list".into(),
    }
}
