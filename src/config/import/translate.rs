//! From a filter of fail2ban's to a draft of ours.

use super::super::problem::Place;
use super::definition::{Definition, shown};
use super::draft::{Draft, Line, Origin, Part};
use super::error::ImportError;
use super::sections::{Overrides, Value};
use super::tree::Tree;
use super::{prefix, spelled, toml, words};

/// What was left out or changed, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) place: Option<Place>,
    pub(super) text: String,
}

impl Note {
    fn at(place: &Place, text: impl Into<String>) -> Note {
        Note { place: Some(place.clone()), text: text.into() }
    }
}

/// Translates filters.
pub(super) struct Translator<'a> {
    pub(super) tree: &'a mut Tree,
    /// Lines of a shipped filter's journalmatch, for what pins nothing attested and for what says nothing.
    pub(super) shipped: &'a [String],
}

impl Translator<'_> {
    /// The filter called `name` with these parameters and with the jail's own options, and what was lost.
    ///
    /// # Errors
    /// It is not there, cannot be read or expanded, or nothing of it can be used.
    pub(super) fn translate(
        &mut self,
        name: &str,
        parameters: &[(String, Value)],
        jail: &Overrides,
    ) -> Result<(Draft, Vec<Note>), ImportError> {
        let mut parameters = parameters.to_vec();
        if !parameters.iter().any(|(known, _)| known == "logtype") {
            parameters
                .push(("logtype".into(), Value { text: "journal".into(), place: Place::whole(self.tree.root()) }));
        }
        let definition = Definition::read(self.tree, "filter.d", name, &parameters, jail)?;
        let root = self.tree.root().to_path_buf();
        let mut notes = Vec::new();
        // An option of the jail goes before the filter's, and nothing in it is a parameter of the filter's.
        let given = |option: &str| match jail.get(option) {
            Some(value) => Ok(Some(value.clone())),
            None => definition.get(option),
        };
        let daemons = daemons(&definition, name);
        let chosen = given("prefregex")?.is_some_and(|value| !value.text.trim().is_empty());
        let (mut session, mut by_hand, mut never) = (false, false, Vec::new());
        // What a prefregex leaves to the others has no prefix.
        let mut patterns = |option: &'static str, whole: bool| -> Result<Vec<Line>, ImportError> {
            let Some(value) = given(option)? else { return Ok(Vec::new()) };
            let mut kept = Vec::new();
            for line in value.text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let marked = line.contains(prefix::MARK);
                let rest = if marked { None } else { daemons.iter().find_map(|name| spelled::behind(line, name)) };
                let spells = marked || rest.is_some() || spelled::needs(line, &daemons);
                let taken = marked || rest.is_some();
                // fail2ban tries an ignoreregex on the whole line, too.
                let asked = whole || option == "ignoreregex";
                if asked && spells && !(whole && taken) {
                    never.push((option, value.place.clone(), line.to_owned()));
                    continue;
                }
                let rest = rest.filter(|_| whole);
                by_hand |= option == "prefregex" && rest.is_some();
                let line = rest.as_deref().unwrap_or(line);
                let bare = if option == "prefregex" { prefix::bare_prefregex(line) } else { prefix::bare(line) };
                session |= bare.session;
                kept.push(Line { text: bare.text, origin: Origin::At(value.place.clone()) });
            }
            Ok(kept)
        };
        let prefregex = patterns("prefregex", true)?;
        let mut failregex = patterns("failregex", !chosen)?;
        let begins = prefregex.first().is_some_and(|line| prefix::leaves_all(&line.text));
        let ignoreregex = patterns("ignoreregex", !chosen || begins)?;
        for (option, place, line) in never {
            const WHY: &str = "it spells what a file has before the message, and an entry has not";
            match option {
                "failregex" => {
                    notes.push(Note::at(&place, format!("failregex {} is left out: {WHY}", toml::excerpt(&line))));
                }
                "ignoreregex" => {
                    let text = format!("an ignoreregex cannot be used, and without it too much would count: {WHY}");
                    return Err(ImportError::at(&place, text));
                }
                _ => return Err(ImportError::at(&place, format!("{option}: {WHY}"))),
            }
        }
        if by_hand {
            for line in &mut failregex {
                line.text = spelled::behind_blank(&line.text).unwrap_or_else(|| std::mem::take(&mut line.text));
            }
        }
        if failregex.is_empty() {
            let reason = notes.first().map_or_else(|| "it has no failregex".into(), |note| note.text.clone());
            return Err(ImportError::Nothing { place: definition.place, reason });
        }
        let said: Vec<String> = parameters
            .iter()
            .filter(|(key, _)| key != "logtype")
            .map(|(key, value)| format!("{key}={}", value.text.lines().next().unwrap_or_default()))
            .collect();
        let said = if said.is_empty() { String::new() } else { format!("[{}]", said.join(", ")) };
        let file = toml::place(&root, &definition.place);
        let mut draft = Draft {
            name: name.into(),
            place: definition.place.clone(),
            head: vec![format!(
                "Brought over from fail2ban by banishctl import: {file}{said}, beside each list its place."
            )],
            description: format!("{}{said}, brought over from fail2ban", shown(name)),
            journalmatch: Vec::new(),
            session,
            prefregex: prefregex.into_iter().next(),
            failregex,
            ignoreregex,
            root,
        };
        if let Some(value) = given("journalmatch")? {
            draft.journalmatch = branches(&value, &mut notes);
        }
        for (option, why) in [
            ("maxlines", "an entry of the journal is one text, whatever lines it has"),
            ("datepattern", "entries have their times"),
        ] {
            let said = given(option)?.filter(|value| !is_plain(option, &value.text));
            notes.extend(said.map(|value| Note::at(&value.place, format!("{option} is for files: {why}"))));
        }
        if let Some(value) = given("usedns")?.filter(|value| value.text.trim() != "no") {
            let text = "usedns: names are never looked up, for whoever owns a name says what it means";
            notes.push(Note::at(&value.place, text));
        }
        self.finish(&mut draft, &mut notes)?;
        Ok((draft, notes))
    }

    /// Takes out what cannot be used, and puts the shipped journalmatch where it is missed.
    fn finish(&self, draft: &mut Draft, notes: &mut Vec<Note>) -> Result<(), ImportError> {
        let refused = draft.prune()?;
        let mut unpinned = draft.journalmatch.is_empty();
        for refused in refused {
            unpinned |= refused.part == Part::Journalmatch;
            let text = toml::excerpt(&refused.line.text);
            let text = format!("{} {text} is left out: {}", refused.part.key(), refused.reason);
            notes.push(Note { place: refused.line.origin.place().cloned(), text });
        }
        if unpinned && !self.shipped.is_empty() {
            let missing =
                self.shipped.iter().filter(|line| !draft.journalmatch.iter().any(|known| known.text == **line));
            let lines: Vec<Line> =
                missing.map(|line| Line { text: line.clone(), origin: Origin::Said("the shipped filter's") }).collect();
            draft.journalmatch.extend(lines);
            draft.prune()?;
        }
        if draft.journalmatch.is_empty() {
            let text = "no journalmatch of it pins what the journal attests, such as _SYSTEMD_UNIT=….service";
            notes.push(Note { place: None, text: text.into() });
        }
        Ok(())
    }
}

/// The names that a prefix may have: of the daemon as far as it is one word, and of the filter.
fn daemons(definition: &Definition, name: &str) -> Vec<String> {
    let daemon = definition.get("_daemon").ok().flatten().map(|value| value.text).unwrap_or_default();
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect()
    };
    let first = name.split('-').next().unwrap_or(name);
    let mut names: Vec<String> =
        [word(&daemon), word(name), word(first)].into_iter().filter(|name| !name.is_empty()).collect();
    names.dedup();
    names
}

/// Is it what every filter says?
fn is_plain(option: &str, text: &str) -> bool {
    let text = text.trim();
    match option {
        "maxlines" => matches!(text, "" | "1"),
        _ => matches!(text, "" | "{^LN-BEG}"),
    }
}

/// The alternatives of a journalmatch: several lines, and in each of them what stands between `+`.
pub(super) fn branches(value: &Value, notes: &mut Vec<Note>) -> Vec<Line> {
    let mut found: Vec<Line> = Vec::new();
    for line in value.text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words = match words::shell(line) {
            Ok(words) => words,
            Err(reason) => {
                notes.push(Note::at(&value.place, format!("journalmatch: a line is left out: {reason}")));
                continue;
            }
        };
        for branch in words.split(|word| word == "+").filter(|branch| !branch.is_empty()) {
            if branch.iter().any(|word| word.contains(char::is_whitespace)) {
                notes.push(Note::at(&value.place, "journalmatch: a value with a space in it cannot be written here"));
                continue;
            }
            let text = branch.join(" ");
            if !found.iter().any(|known| known.text == text) {
                found.push(Line { text, origin: Origin::At(value.place.clone()) });
            }
        }
    }
    found
}
