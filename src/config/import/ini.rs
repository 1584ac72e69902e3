//! One file of fail2ban's, as Python's `ConfigParser` reads it: sections of options, values over several lines.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::super::problem::Place;
use super::error::ImportError;

/// The section whose options hold in all others.
pub(super) const DEFAULT: &str = "DEFAULT";

/// What an option was set to, before anything in it is expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raw {
    pub(super) value: String,
    pub(super) place: Place,
}

/// Options by name; the names are in lower case.
pub(super) type Options = BTreeMap<String, Raw>;

/// The sections of one file, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Ini {
    pub(super) sections: Vec<(String, Options)>,
}

impl Ini {
    /// Reads `text` as `file`'s.
    ///
    /// # Errors
    /// A line that belongs to no section, or is no option.
    pub(super) fn parse(file: &Path, text: &str) -> Result<Ini, ImportError> {
        let mut reader = Reader { file: file.into(), ini: Ini::default(), open: None, indent: 0 };
        for (line, number) in text.lines().zip(1..) {
            reader.line(line, number)?;
        }
        Ok(reader.finish())
    }

    pub(super) fn section(&self, name: &str) -> Option<&Options> {
        self.sections.iter().find(|(known, _)| known == name).map(|(_, options)| options)
    }
}

struct Reader {
    file: Arc<Path>,
    ini: Ini,
    /// The option whose value may go on in the next line.
    open: Option<(String, Raw)>,
    /// How far its first line was indented.
    indent: usize,
}

impl Reader {
    fn line(&mut self, line: &str, number: u32) -> Result<(), ImportError> {
        let Some(text) = without_comment(line) else { return Ok(()) };
        if text.is_empty() {
            if let Some((_, raw)) = &mut self.open {
                raw.value.push('\n');
            }
            return Ok(());
        }
        let indent = line.chars().take_while(|c| c.is_whitespace()).count();
        if let Some((_, raw)) = self.open.as_mut().filter(|_| indent > self.indent) {
            raw.value.push('\n');
            raw.value.push_str(text);
            return Ok(());
        }
        self.close();
        self.indent = indent;
        let column = u32::try_from(indent + 1).unwrap_or(u32::MAX);
        let place = Place { file: self.file.clone(), line: number, column };
        if let Some(name) = text.strip_prefix('[').and_then(|rest| rest.rsplit_once(']')).map(|(name, _)| name) {
            if name.is_empty() {
                return Err(ImportError::at(&place, "a section needs a name"));
            }
            if self.ini.section(name).is_none() {
                self.ini.sections.push((name.into(), Options::new()));
            } else if let Some(at) = self.ini.sections.iter().position(|(known, _)| known == name) {
                let again = self.ini.sections.remove(at);
                self.ini.sections.push(again);
            }
            return Ok(());
        }
        if self.ini.sections.is_empty() {
            return Err(ImportError::at(&place, "no section begins before this line: no configuration of fail2ban's"));
        }
        let (name, value) = option(text)
            .ok_or_else(|| ImportError::at(&place, "neither a section, nor an option, nor the rest of a value"))?;
        self.open = Some((name, Raw { value: value.into(), place }));
        Ok(())
    }

    fn close(&mut self) {
        let Some((name, mut raw)) = self.open.take() else { return };
        raw.value.truncate(raw.value.trim_end().len());
        if let Some((_, options)) = self.ini.sections.last_mut() {
            options.insert(name, raw);
        }
    }

    fn finish(mut self) -> Ini {
        self.close();
        self.ini
    }
}

/// What a line says beside comments; `None` for one that is nothing else.
fn without_comment(line: &str) -> Option<&str> {
    if line.trim_start().starts_with(['#', ';']) {
        return None;
    }
    let comment =
        line.char_indices().zip(line.chars().skip(1)).find(|((_, before), c)| *c == ';' && before.is_whitespace());
    let end = comment.map_or(line.len(), |((at, before), _)| at + before.len_utf8());
    Some(line[..end].trim())
}

/// `name = value` or `name: value`; `name?family=inet6 = value` has a sign of equality in its name.
fn option(text: &str) -> Option<(String, &str)> {
    let from =
        text.find("?family=").filter(|at| !text[..*at].contains(['=', ':'])).map_or(0, |at| at + "?family=".len());
    let sign = text[from..].find(['=', ':'])? + from;
    let name = text[..sign].trim_end().to_lowercase();
    (!name.is_empty()).then(|| (name, text[sign + 1..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, section: &str, name: &str) -> Option<String> {
        let ini = Ini::parse(Path::new("x.conf"), text).unwrap();
        Some(ini.section(section)?.get(name)?.value.clone())
    }

    #[test]
    fn a_value_goes_on_in_lines_that_are_indented_further() {
        let text = "[Definition]\nfailregex = ^a\n  ^b\n# no\n\t^c ; said aside\n\n  ^d\n\nnext: x;y\n";
        assert_eq!(value(text, "Definition", "failregex").as_deref(), Some("^a\n^b\n^c\n\n^d"));
        assert_eq!(value(text, "Definition", "next").as_deref(), Some("x;y"));
    }

    #[test]
    fn names_are_in_lower_case_and_the_first_sign_divides() {
        let text = "[s]\n Before = a=b\nbanaction?family=inet6 = x\nc =\n";
        assert_eq!(value(text, "s", "before").as_deref(), Some("a=b"));
        assert_eq!(value(text, "s", "banaction?family=inet6").as_deref(), Some("x"));
        assert_eq!(value(text, "s", "c").as_deref(), Some(""));
    }

    #[test]
    fn a_section_may_come_twice_and_counts_on() {
        let text = "[a]\nx = 1\n[b]\nx = 2\n[a]\ny = 3\n";
        assert_eq!(value(text, "a", "x").as_deref(), Some("1"));
        assert_eq!(value(text, "a", "y").as_deref(), Some("3"));
        assert_eq!(value(text, "b", "x").as_deref(), Some("2"));
    }

    #[test]
    fn what_is_no_configuration_is_told_by_its_place_alone() {
        for (text, place) in [
            ("root:$6$secret:1\n", "x.conf:1:1"),
            ("[a]\nsecret\n", "x.conf:2:1"),
            ("[a]\nb = 1\n  c\n[]\n", "x.conf:4:1"),
        ] {
            let error = Ini::parse(Path::new("x.conf"), text).unwrap_err().to_string();
            assert!(error.starts_with(place) && !error.contains("secret"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_much(text in "(\\[|\\]|=|:|;|#|\n| |\t|a|é|\\PC){0,80}") {
            let _ = Ini::parse(Path::new("x"), &text);
        }
    }
}
