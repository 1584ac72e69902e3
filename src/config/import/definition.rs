//! A filter or action of fail2ban's with its parameters: every option expanded, `%(name)s` first and then `<tags>`.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::problem::Place;
use super::SIZE_LIMIT;
use super::error::ImportError;
use super::sections::{Overrides, Sections, Value};
use super::tree::Tree;

/// Tags may stand in what tags stand for so many times.
const DEPTH_LIMIT: usize = 25;
/// … and all together so often in one filter.
const STEP_LIMIT: usize = 20_000;

const SECTION: &str = "Definition";

/// The files of a filter or an action, and what is said about it where it is used.
pub(super) struct Definition {
    sections: Sections,
    pub(super) place: Place,
    /// The parameters, by their names as they were written, and what `[Init]` has besides.
    parameters: BTreeMap<String, Value>,
    /// The jail's own options and the parameters, which go before `[Definition]`.
    overrides: Overrides,
}

impl Definition {
    /// Reads what is called `name` in `folder`, which is `filter.d` or `action.d`. `jail` has the options of the jail that go before the filter's.
    ///
    /// # Errors
    /// It is not there, or has files that cannot be read or expanded.
    pub(super) fn read(
        tree: &mut Tree,
        folder: &str,
        name: &str,
        parameters: &[(String, Value)],
        jail: &Overrides,
    ) -> Result<Definition, ImportError> {
        let missing = || ImportError::Missing(format!("there is no {folder}/{}.conf", shown(name)));
        if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
            return Err(missing());
        }
        let file = format!("{folder}/{name}");
        let place = tree.files_of(&file)?.first().map(|file| Place::whole(file)).ok_or_else(missing)?;
        let sections = tree.sections(&file)?.ok_or_else(missing)?;
        let mut overrides = jail.clone();
        overrides.extend(parameters.iter().map(|(name, value)| (name.to_lowercase(), value.clone())));
        let mut definition =
            Definition { sections, place, parameters: parameters.iter().cloned().collect(), overrides };
        let init: Vec<String> =
            definition.sections.own("Init").map(|own| own.keys().cloned().collect()).unwrap_or_default();
        for option in init {
            let Some(value) = definition.sections.get("Init", &option, &Overrides::new())? else { continue };
            definition.parameters.insert(format!("known/{option}"), value.clone());
            definition.parameters.entry(option).or_insert(value);
        }
        Ok(definition)
    }

    /// An option's value, with all in it expanded that has a meaning; tags of patterns such as `<HOST>` stay.
    ///
    /// # Errors
    /// What cannot be expanded, or has no end.
    pub(super) fn get(&self, option: &str) -> Result<Option<Value>, ImportError> {
        let mut tags = Tags { definition: self, open: vec![option.to_owned()], known: BTreeMap::new(), steps: 0 };
        let Some(value) = tags.lookup(option)? else { return Ok(None) };
        let text = tags.expand(value.text, &value.place)?;
        Ok(Some(Value { text, place: value.place }))
    }

    /// The names of all options that [`Definition::get`] may know.
    pub(super) fn options(&self) -> Vec<String> {
        let own = self.sections.own(SECTION).into_iter().flat_map(|own| own.keys());
        let mut names: Vec<String> =
            own.chain(self.sections.defaults.keys()).chain(self.parameters.keys()).cloned().collect();
        names.sort();
        names.dedup();
        names
    }
}

/// A name as an error shows it.
pub(super) fn shown(name: &str) -> String {
    Path::new(&name.chars().take(80).collect::<String>()).display().to_string().escape_debug().collect()
}

/// Tags being put in.
struct Tags<'a> {
    definition: &'a Definition,
    /// The tags whose values are being expanded: none of them may come up again.
    open: Vec<String>,
    known: BTreeMap<String, Option<String>>,
    steps: usize,
}

impl Tags<'_> {
    /// The value of a tag before the tags in it are put in.
    fn lookup(&self, tag: &str) -> Result<Option<Value>, ImportError> {
        let definition = self.definition;
        if let Some(value) = definition.parameters.get(tag) {
            return Ok(Some(value.clone()));
        }
        definition.sections.get_anywhere(SECTION, tag, &definition.overrides)
    }

    fn expand(&mut self, mut text: String, place: &Place) -> Result<String, ImportError> {
        let mut at = 0;
        let mut changed = false;
        loop {
            let Some((start, end)) = innermost(&text, at) else {
                // What was put in may have completed a tag around it.
                if !std::mem::take(&mut changed) {
                    return Ok(text);
                }
                at = 0;
                continue;
            };
            let tag = text[start + 1..end - 1].to_owned();
            match self.value(&tag, place)? {
                Some(value) => {
                    let whole = format!("<{tag}>");
                    let count = text.matches(&whole).count();
                    if text.len().saturating_add(count.saturating_mul(value.len())) > SIZE_LIMIT {
                        return Err(self.endless(place));
                    }
                    text = text.replace(&whole, &value);
                    changed = true;
                    at = start;
                }
                None => at = end,
            }
        }
    }

    /// What a tag stands for, all in it expanded; `None` for one that is none of the configuration's.
    fn value(&mut self, tag: &str, place: &Place) -> Result<Option<String>, ImportError> {
        self.steps += 1;
        if self.steps > STEP_LIMIT || self.open.len() > DEPTH_LIMIT {
            return Err(self.endless(place));
        }
        if let Some(known) = self.known.get(tag) {
            return Ok(known.clone());
        }
        if self.open.iter().any(|open| open == tag) {
            return Err(ImportError::at(place, format!("<{}> stands in its own value", shown(tag))));
        }
        let value = match self.lookup(tag)? {
            Some(value) => {
                self.open.push(tag.into());
                let text = self.expand(value.text, &value.place)?;
                self.open.pop();
                Some(text)
            }
            None => None,
        };
        self.known.insert(tag.into(), value.clone());
        Ok(value)
    }

    fn endless(&self, place: &Place) -> ImportError {
        ImportError::Endless { place: place.clone(), what: self.open.first().cloned().unwrap_or_default() }
    }
}

/// The first tag from `at` on that has no other in it: where it starts and ends.
fn innermost(text: &str, at: usize) -> Option<(usize, usize)> {
    let mut start = None;
    for (offset, byte) in text.as_bytes().iter().enumerate().skip(at) {
        match byte {
            b'<' => start = Some(offset),
            b' ' => start = None,
            b'>' => match start.take() {
                Some(start) if offset > start + 1 => return Some((start, offset + 1)),
                _ => {}
            },
            _ => {}
        }
    }
    None
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests are an edge")]
mod tests {
    use super::*;

    fn get(text: &str, parameters: &[(&str, &str)], option: &str) -> Result<Option<String>, String> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("filter.d")).unwrap();
        std::fs::write(root.path().join("filter.d/x.conf"), text).unwrap();
        let mut tree = Tree::open(root.path()).unwrap();
        let place = Place::whole(Path::new("jail.conf"));
        let parameters: Vec<(String, Value)> = parameters
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Value { text: (*value).to_owned(), place: place.clone() }))
            .collect();
        let definition = Definition::read(&mut tree, "filter.d", "x", &parameters, &Overrides::new());
        let value = definition.and_then(|definition| definition.get(option)).map_err(|error| error.to_string())?;
        Ok(value.map(|value| value.text))
    }

    const MODES: &str = "[Definition]\nmre-normal = ^n\nmre-hard = <mre-normal>\n  ^h <HOST> <F-USER>x</F-USER>\n\
                         failregex = <mre-<mode>>\nmode = normal\n[Init]\nzone = a\n";

    #[test]
    fn tags_are_put_in_from_the_inside_and_patterns_tags_stay() {
        assert_eq!(get(MODES, &[], "failregex"), Ok(Some("^n".into())));
        assert_eq!(get(MODES, &[("mode", "hard")], "failregex"), Ok(Some("^n\n^h <HOST> <F-USER>x</F-USER>".into())));
        assert_eq!(get(MODES, &[("mode", "none")], "failregex"), Ok(Some("<mre-none>".into())));
    }

    #[test]
    fn init_is_a_default_and_known_is_what_it_says() {
        assert_eq!(get(MODES, &[], "zone"), Ok(Some("a".into())));
        assert_eq!(get(MODES, &[("zone", "b|<known/zone>")], "zone"), Ok(Some("b|a".into())));
    }

    #[test]
    fn a_tag_in_itself_and_one_without_an_end_are_errors() {
        for text in [
            "[Definition]\na = <a>\n",
            "[Definition]\na = <b>\nb = <a>\n",
            "[Definition]\na = <c-<b>>\nb = x\nc-x = <c-<b>>\n",
        ] {
            assert!(get(text, &[], "a").unwrap_err().contains("stands in its own value"), "{text}");
        }
        let wide: String = (0..24).map(|at| format!("x{at} = <x{}><x{}>y\n", at + 1, at + 1)).collect();
        let error = get(&format!("[Definition]\n{wide}x24 = z\n"), &[], "x0").unwrap_err();
        assert!(error.contains("without an end"), "{error}");
    }

    #[test]
    fn sections_are_named_in_tags() {
        let text =
            "[Definition]\nlogtype = a\nprefregex = <L_<logtype>/p> <none/p>\nk = v\n[L_a]\np = %(q)s\nq = Q<k>\n";
        assert_eq!(get(text, &[], "prefregex"), Ok(Some("Qv <none/p>".into())));
    }
}
