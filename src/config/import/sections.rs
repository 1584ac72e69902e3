//! Files merged in their order, and `%(name)s` in their values put in.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::problem::Place;
use super::definition::shown;
use super::error::ImportError;
use super::ini::{DEFAULT, Ini, Options, Raw};
use super::{SIZE_LIMIT, prefix};

/// `%(name)s` may stand in what `%(name)s` stands for so many times.
const DEPTH_LIMIT: usize = 20;
/// … and all together so often in one value.
const STEP_LIMIT: usize = 20_000;

/// Merged sections.
#[derive(Clone, Debug, Default)]
pub(super) struct Sections {
    pub(super) defaults: Options,
    sections: BTreeMap<String, Options>,
    /// By section: what an option was before a later file set it.
    known: BTreeMap<String, Options>,
    /// The names of the sections in the order in which they came.
    names: Vec<String>,
}

/// An option expanded, and where it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) place: Place,
}

/// Values that go before a section's own, by their names in lower case; nothing in them is expanded.
pub(super) type Overrides = BTreeMap<String, Value>;

impl Sections {
    /// Lets `ini`, read from `file`, override what is there.
    pub(super) fn merge(&mut self, file: &Path, ini: &Ini) {
        for (name, options) in &ini.sections {
            let mut options = options.clone();
            prefix::mark(file, name, &mut options);
            if name == DEFAULT {
                self.defaults.extend(options);
                continue;
            }
            // [Init?family=inet6] is [Init] with a condition behind each name.
            let (name, condition) =
                name.split_once('?').map_or((name.as_str(), None), |(name, rest)| (name, Some(rest)));
            if !self.sections.contains_key(name) {
                self.names.push(name.into());
            }
            let section = self.sections.entry(name.into()).or_default();
            let known = self.known.entry(name.into()).or_default();
            for (option, mut raw) in options {
                let option = condition.map_or_else(|| option.clone(), |condition| format!("{option}?{condition}"));
                if let Some(mut former) = section.remove(&option) {
                    // What was known before the former value was set is in it, not in itself.
                    if let Some(older) = known.get(&option) {
                        let own = format!("%(known/{option})s");
                        if former.value.len().saturating_add(older.value.len()) < SIZE_LIMIT {
                            former.value = former.value.replacen(&own, &older.value, 1);
                        }
                    }
                    known.insert(option.clone(), former);
                }
                raw.value.truncate(raw.value.trim_end().len());
                section.insert(option, raw);
            }
        }
    }

    /// The sections' names, without `DEFAULT` and `INCLUDES`, in the order in which they came.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| *name != "INCLUDES")
    }

    /// The options that stand in the section itself.
    pub(super) fn own(&self, section: &str) -> Option<&Options> {
        self.sections.get(section)
    }

    /// The value of an option as it is in force in `section`: of `overrides`, else its own, else of `DEFAULT`.
    ///
    /// # Errors
    /// `%(name)s` without an option of that name, a lone `%`, or no end to it.
    pub(super) fn get(&self, section: &str, option: &str, overrides: &Overrides) -> Result<Option<Value>, ImportError> {
        let option = option.to_lowercase();
        if let Some(value) = overrides.get(&option) {
            return Ok(Some(value.clone()));
        }
        self.raw(section, &option).map(|raw| self.expanded(section, &option, raw, overrides)).transpose()
    }

    /// As [`Sections::get`], where the name may say the section: `section/option`, `known/option`, `default/option`.
    ///
    /// # Errors
    /// As [`Sections::get`].
    pub(super) fn get_anywhere(
        &self,
        section: &str,
        name: &str,
        overrides: &Overrides,
    ) -> Result<Option<Value>, ImportError> {
        let none = Overrides::new();
        let Some((other, option)) = name.split_once('/') else { return self.get(section, name, overrides) };
        let option = option.to_lowercase();
        if other.eq_ignore_ascii_case("known") {
            return match self.known.get(section).and_then(|known| known.get(&option)) {
                Some(raw) => self.expanded(section, &option, raw, &none).map(Some),
                None => self.get(section, &option, &none),
            };
        }
        if other.eq_ignore_ascii_case(DEFAULT) {
            return self.get(DEFAULT, &option, &none);
        }
        if self.sections.contains_key(other) { self.get(other, &option, &none) } else { Ok(None) }
    }

    /// The option as it is written: in the section, else in `DEFAULT`. Its name is in lower case.
    pub(super) fn raw(&self, section: &str, option: &str) -> Option<&Raw> {
        let own = self.sections.get(section).and_then(|options| options.get(option));
        own.or_else(|| self.defaults.get(option))
    }

    fn expanded(&self, section: &str, what: &str, raw: &Raw, overrides: &Overrides) -> Result<Value, ImportError> {
        let place = &raw.place;
        let mut expansion = Expansion { sections: self, section, overrides, place, what, steps: 0, out: String::new() };
        expansion.put(&raw.value, 0)?;
        Ok(Value { text: expansion.out, place: place.clone() })
    }
}

struct Expansion<'a> {
    sections: &'a Sections,
    section: &'a str,
    overrides: &'a Overrides,
    place: &'a Place,
    what: &'a str,
    steps: usize,
    out: String,
}

impl<'a> Expansion<'a> {
    fn put(&mut self, mut text: &'a str, depth: usize) -> Result<(), ImportError> {
        while let Some(at) = text.find('%') {
            self.push(&text[..at])?;
            let rest = &text[at + 1..];
            if let Some(rest) = rest.strip_prefix('%') {
                self.push("%")?;
                text = rest;
                continue;
            }
            let Some((name, rest)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(")s")) else {
                return Err(ImportError::at(self.place, format!("{}: % is written %% or %(name)s", self.what)));
            };
            self.steps += 1;
            if depth > DEPTH_LIMIT || self.steps > STEP_LIMIT {
                return Err(self.endless());
            }
            self.name(name, depth)?;
            text = rest;
        }
        self.push(text)
    }

    fn name(&mut self, name: &str, depth: usize) -> Result<(), ImportError> {
        if name == "__name__" {
            let section = self.section;
            return self.push(section);
        }
        let lower = name.to_lowercase();
        if let Some(value) = self.overrides.get(&lower) {
            return self.push(&value.text);
        }
        match self.raw(name, &lower) {
            Some(raw) => self.put(raw, depth + 1),
            None => {
                let name = shown(name);
                Err(ImportError::at(self.place, format!("{}: no option \"{name}\" for %({name})s", self.what)))
            }
        }
    }

    fn raw(&self, name: &str, lower: &str) -> Option<&'a str> {
        let plain = self.sections.raw(self.section, lower);
        let Some((other, option)) = name.split_once('/').filter(|_| plain.is_none()) else {
            return plain.map(|raw| raw.value.as_str());
        };
        let option = option.to_lowercase();
        let default = || self.sections.defaults.get(&option);
        let raw = if other.eq_ignore_ascii_case("known") {
            self.sections.known.get(self.section).and_then(|known| known.get(&option)).or_else(default)
        } else if other.eq_ignore_ascii_case(DEFAULT) {
            default()
        } else {
            self.sections.sections.get(other)?.get(&option).or_else(default)
        };
        raw.map(|raw| raw.value.as_str())
    }

    fn push(&mut self, text: &str) -> Result<(), ImportError> {
        if self.out.len().saturating_add(text.len()) > SIZE_LIMIT {
            return Err(self.endless());
        }
        self.out.push_str(text);
        Ok(())
    }

    fn endless(&self) -> ImportError {
        ImportError::Endless { place: self.place.clone(), what: self.what.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(texts: &[&str]) -> Sections {
        let mut sections = Sections::default();
        for text in texts {
            let file = Path::new("x.conf");
            sections.merge(file, &Ini::parse(file, text).unwrap());
        }
        sections
    }

    fn get(texts: &[&str], option: &str) -> Result<String, String> {
        let value = merged(texts).get("s", option, &Overrides::new()).map_err(|error| error.to_string())?;
        Ok(value.map(|value| value.text).unwrap_or_default())
    }

    #[test]
    fn names_are_put_in_from_the_section_the_default_and_others() {
        let text =
            "[DEFAULT]\nd = D\n[o]\nx = O%(d)s\n[s]\na = %(B)s-%(d)s-%(o/x)s-%(default/d)s-%(__name__)s-100%%\nb = B\n";
        assert_eq!(get(&[text], "a").unwrap(), "B-D-OD-D-s-100%");
    }

    #[test]
    fn known_is_what_it_was_before() {
        let files =
            ["[s]\na = 1\nb = x\n", "[s]\na = %(known/a)s\n  2\n", "[s]\na = %(known/a)s\n  3 %(b)s\n", "[s]\nb = y\n"];
        assert_eq!(get(&files, "a").unwrap(), "1\n2\n3 y");
        let sections = merged(&files);
        let known = sections.get_anywhere("s", "known/b", &Overrides::new()).unwrap().unwrap();
        assert_eq!(known.text, "x");
    }

    #[test]
    fn what_cannot_be_put_in_is_told_with_its_place() {
        assert_eq!(get(&["[s]\na = 5%\n"], "a").unwrap_err(), "x.conf:2:1: a: % is written %% or %(name)s");
        assert_eq!(get(&["[s]\na = %(c)s\n"], "a").unwrap_err(), "x.conf:2:1: a: no option \"c\" for %(c)s");
        for endless in ["[s]\na = %(a)s", "[s]\na = %(b)s%(b)s\nb = %(a)s%(a)s"] {
            assert!(get(&[endless], "a").unwrap_err().contains("without an end"));
        }
        let wide: String =
            (0..18).map(|at| format!("x{at} = %(x{})s%(x{})s%(x{})s\n", at + 1, at + 1, at + 1)).collect();
        for last in ["x18 =", "x18 = 0123456789"] {
            assert!(get(&[&format!("[s]\n{wide}{last}\n")], "x0").unwrap_err().contains("without an end"));
        }
    }

    #[test]
    fn a_condition_of_a_section_is_one_of_its_options() {
        assert_eq!(get(&["[s]\na = 4\n[s?family=inet6]\na = 6\n"], "a").unwrap(), "4");
        assert_eq!(get(&["[s]\na = 4\n[s?family=inet6]\na = 6\n"], "a?family=inet6").unwrap(), "6");
    }
}
