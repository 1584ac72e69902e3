//! Which filter a jail gets: ours of the same name where fail2ban's was left as it came, else a copy brought over.

use std::collections::{BTreeMap, BTreeSet};

use super::super::problem::Place;
use super::definition::shown;
use super::draft::{Draft, Line, is_attested};
use super::error::ImportError;
use super::report::Remarks;
use super::sections::{Overrides, Value};
use super::stock;
use super::translate::{Translator, branches};
use super::tree::Tree;
use super::words::Named;
use crate::config::source::NORMAL;
use crate::config::{Layout, LoadedFilter, any_error, load_filter};
use crate::engine::ban::JailName;
use crate::engine::filter::{Definition, Trust};

/// Which filters to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Preference {
    /// Ours of the same name where fail2ban's is as it was shipped and has no parameters that ours lacks.
    #[default]
    Unchanged,
    /// Ours wherever there is one of the name and mode.
    Shipped,
    /// Always fail2ban's.
    Translated,
}

/// The filters that were chosen so far, and where ours are.
pub(super) struct Filters {
    /// The directories that have our filters, lowest first.
    pub(super) ours: Layout,
    pub(super) preference: Preference,
    /// Copies by name.
    pub(super) written: BTreeMap<String, Draft>,
    /// The names of ours that jails use.
    pub(super) used: BTreeSet<String>,
}

/// A jail's filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) name: String,
    pub(super) mode: Option<String>,
    /// The jail's own lines, for a filter of ours.
    pub(super) journalmatch: Option<(Vec<String>, Place)>,
    /// Why the jail cannot run as it is.
    pub(super) off: Option<String>,
}

impl Filters {
    /// The filter for `jail`, which names this one; `own` is what the jail says in the filter's place.
    ///
    /// # Errors
    /// There is no such filter, it cannot be read, or nothing of it can be used.
    pub(super) fn choose(
        &mut self,
        tree: &mut Tree,
        jail: &str,
        (named, place): (&Named, &Place),
        own: &Overrides,
        remarks: &mut Remarks<'_>,
    ) -> Result<Chosen, ImportError> {
        if let Some(chosen) = self.ours(tree, named, own, remarks) {
            return Ok(chosen);
        }
        let value = |text: &String| Value { text: text.clone(), place: place.clone() };
        let given = named.parameters.iter().filter(|(key, _)| key != "logtype");
        let parameters: Vec<(String, Value)> = given.map(|(key, text)| (key.clone(), value(text))).collect();
        self.copy(tree, jail, &named.name, &parameters, own, remarks)
    }

    /// Ours, where it is to be taken.
    fn ours(&mut self, tree: &mut Tree, named: &Named, own: &Overrides, remarks: &mut Remarks<'_>) -> Option<Chosen> {
        let mode = named.parameters.iter().find(|(key, _)| key == "mode").map_or(NORMAL, |(_, value)| value.as_str());
        let more = named.parameters.iter().any(|(key, _)| !matches!(key.as_str(), "mode" | "logtype"));
        let patterns = ["failregex", "ignoreregex", "prefregex"].iter().any(|option| own.contains_key(*option));
        let lines = match self.preference {
            Preference::Translated => return None,
            Preference::Unchanged if more || patterns || !stock::is_stock(tree, &named.name) => return None,
            Preference::Unchanged | Preference::Shipped => self.shipped(&named.name, mode)?,
        };
        if more || patterns {
            remarks
                .changed(None, "has a filter with parameters or patterns of its own, for which ours is taken as it is");
        }
        let mut chosen = Chosen {
            name: named.name.clone(),
            mode: (mode != NORMAL).then(|| mode.to_owned()),
            journalmatch: None,
            off: None,
        };
        if let Some(value) = own.get("journalmatch") {
            let lines = self.lines(&lines, value, remarks);
            chosen.journalmatch = lines.map(|lines| (lines, value.place.clone()));
        }
        self.used.insert(chosen.name.clone());
        Some(chosen)
    }

    /// What a jail with our filter, which has `ours`, gets for its journalmatch; `None` where ours has it all.
    fn lines(&self, ours: &[String], value: &Value, remarks: &mut Remarks<'_>) -> Option<Vec<String>> {
        let mut notes = Vec::new();
        let (good, bad): (Vec<Line>, Vec<Line>) =
            branches(value, &mut notes).into_iter().partition(|line| is_attested(&line.text));
        notes.into_iter().for_each(|note| remarks.lost(note.place.as_ref(), note.text));
        for line in &bad {
            let text = "pins nothing that the journal attests; the lines of banish's own filter stand for it";
            remarks.changed(Some(&value.place), format!("journalmatch {}: {text}", shown(&line.text)));
        }
        // Ours asks for more of the same unit, and knows the entries that have none.
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let covered =
            |line: &Line| ours.iter().any(|known| words(&line.text).iter().all(|word| words(known).contains(word)));
        let (known, more): (Vec<Line>, Vec<Line>) = good.into_iter().partition(covered);
        let mut lines: Vec<String> = more.into_iter().map(|line| line.text).collect();
        if lines.is_empty() {
            return None;
        }
        // The jail's list stands in the place of the filter's.
        if !bad.is_empty() || !known.is_empty() {
            lines.extend(ours.iter().cloned());
        }
        Some(lines)
    }

    /// The journalmatch of our filter of this name, if it has this mode and is right.
    fn shipped(&self, name: &str, mode: &str) -> Option<Vec<String>> {
        let LoadedFilter { filter, problems, .. } = load_filter(&self.ours, name, mode);
        // Nobody is made to believe what a stranger may write.
        let attested = |definition: &Definition| definition.trust == Trust::Attested;
        let (definition, _) = filter.filter(|(found, _)| attested(found) && !any_error(&problems))?;
        Some(definition.journalmatch.clone())
    }

    /// Is there one of ours of this name, right or wrong?
    fn is_ours(&self, name: &str) -> bool {
        !load_filter(&self.ours, name, NORMAL).files.is_empty()
    }

    /// fail2ban's filter, as a file of its own for each way in which it is used.
    fn copy(
        &mut self,
        tree: &mut Tree,
        jail: &str,
        name: &str,
        parameters: &[(String, Value)],
        own: &Overrides,
        remarks: &mut Remarks<'_>,
    ) -> Result<Chosen, ImportError> {
        let shipped = self.shipped(name, NORMAL).unwrap_or_default();
        let (mut draft, notes) = Translator { tree, shipped: &shipped }.translate(name, parameters, own)?;
        for note in notes {
            remarks.lost(note.place.as_ref(), format!("filter {}: {}", shown(name), note.text));
        }
        let guessed = draft.journalmatch.is_empty();
        let mode = parameters.iter().find(|(key, _)| key == "mode").map(|(_, value)| value.text.as_str());
        let candidates = [name.to_owned(), format!("{name}-{}", mode.unwrap_or(NORMAL)), format!("{name}.{jail}")];
        for candidate in candidates {
            if candidate.parse::<JailName>().is_err() {
                continue;
            }
            draft.name.clone_from(&candidate);
            let mut draft = draft.clone();
            let off = guessed.then(|| draft.guess(name));
            let taken = self.written.get(&candidate).is_some_and(|other| !other.says_the_same(&draft));
            // A file of one of our names would be merged over ours, and jails which run by themselves have that filter.
            if taken || self.is_ours(&candidate) {
                continue;
            }
            self.written.insert(candidate.clone(), draft);
            return Ok(Chosen { name: candidate, mode: None, journalmatch: None, off });
        }
        Err(ImportError::Missing(format!("no name is left for a copy of filter {}", shown(name))))
    }
}
