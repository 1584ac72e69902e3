//! Files that are no valid TOML: which jails such a file speaks of, or that it may say anything.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

/// The jails that `text` speaks of, if it certainly speaks of these alone; `None` where it may say something for all jails.
///
/// A parser goes on behind an error at a place of its own choice, so lines are looked at instead: every table must be
/// `[jail.NAME]` or one in it, and every other line must be part of such a table.
pub(super) fn jails(text: &str) -> Option<BTreeSet<String>> {
    let mut jails = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(jail) = header(line) {
            jails.insert(jail);
        } else if jails.is_empty() || !is_of_a_table(line) {
            return None;
        }
    }
    Some(jails)
}

/// The jail of a table's first line.
fn header(line: &str) -> Option<String> {
    if !line.starts_with('[') {
        return None;
    }
    let table = DeTable::parse(line).ok()?;
    let [(key, value)] = table.get_ref().iter().collect::<Vec<_>>()[..] else { return None };
    let DeValue::Table(jails) = value.get_ref() else { return None };
    let [(jail, _)] = jails.iter().collect::<Vec<_>>()[..] else { return None };
    (key.get_ref() == "jail").then(|| jail.get_ref().to_string())
}

/// Is it a value with its key, or the rest of a list, and surely no table's first line that was misspelt?
fn is_of_a_table(line: &str) -> bool {
    let goes_on = line.starts_with(['"', '\'', ']', '}', ',']) || line.starts_with(|c: char| c.is_ascii_digit());
    let has_key = line.split_once('=').is_some_and(|(key, _)| !key.contains(['[', ']', '{', '}']));
    (goes_on || has_key) && !line.to_lowercase().contains("default")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_jails_alone_speaks_of_these() {
        for (text, expected) in [
            ("[jail.a]\nmaxretry = \n", &["a"][..]),
            (
                "# for\n\n[ jail . \"a.b\" ] # this\nport = [\n  'x',\n  80\n]\n[jail.c.subnet]\n'k' = '\n",
                &["a.b", "c"],
            ),
            ("\r\n[jail.a]\r\nenabled = yes\r\n[jail.a]\r\n", &["a"]),
            ("[[jail.a]]\nx", &[]),
        ] {
            let found = jails(text).unwrap_or_default();
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn any_other_file_may_say_anything() {
        for text in [
            "ignoreip = [\n[jail.a]\n",
            "[jail.a]\nmaxretry =\n[default]\nignoreip = []\n",
            "[jail.a]\nmaxretry =\n[default\nignoreip = []\n",
            "[jail.a]\nmaxretry =\ndefault]\nignoreip = []\n",
            "[jail.a]\nmaxretry =\ndefualt]\nignoreip = []\n",
            "[jail.a]\nmaxretry =\n(default)\nignoreip = []\n",
            "[jail.a]\nmaxretry =\n[defaults]\nignoreip = []\n",
            "[jail.a]\nmaxretry =\n[firewall]\nscope = 'local'\n",
            "[jail.a\nmaxretry = 1\n",
            "jail.a.maxretry = \n",
            "[jail.a]\nmaxretry = [[\n  [1], [default\n",
            "[jail]\na = \n",
            "[jail.a]\nx = 1\n\u{feff}[default]\nignoreip = 1 2\n",
            "\"\"\"",
        ] {
            assert_eq!(jails(text), None, "{text}");
        }
    }
}
