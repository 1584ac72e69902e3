//! What stands in front of a message in a file and not in the journal: `host name[pid]: `, as `__prefix_line` spells it.

use std::path::Path;

use super::ini::{DEFAULT, Options};

/// Stands for the prefix while options are expanded; no file of a configuration may have it.
pub(super) const MARK: char = '\u{f2b0}';

/// Puts [`MARK`] in the place of the prefix, where `file` is the one that spells it for all filters.
pub(super) fn mark(file: &Path, section: &str, options: &mut Options) {
    let common = file.file_stem().is_some_and(|name| name == "common")
        && file.parent().and_then(Path::file_name).is_some_and(|name| name == "filter.d");
    if !common {
        return;
    }
    if let Some(raw) = options.get_mut("__prefix_line") {
        // Since 0.10.5 the default chooses among the sections that spell it.
        let chooses = matches!(section, DEFAULT | "Definition" | "Init") && raw.value.contains("<lt_");
        if !chooses {
            raw.value = MARK.into();
        }
    }
}

/// A pattern without the prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bare {
    pub(super) text: String,
    /// Did the prefix, and in it the process's number, say what belongs together?
    pub(super) session: bool,
}

/// What the prefix has behind the daemon: a stamp of the kernel's, or what Solaris puts there. A message may have them.
const STAMPS: &str = r"\s*(?:kernel:\s?\[ *\d+\.\d+\]:?\s+)?(?:\[ID \d+ \S+\]\s+)?";

/// Takes the prefix out of an expanded prefregex; as this is one pattern for all, messages may have stamps.
pub(super) fn bare_prefregex(pattern: &str) -> Bare {
    without(pattern, STAMPS)
}

/// Does a prefregex that is rid of the prefix leave the whole message to the others?
pub(super) fn leaves_all(bare: &str) -> bool {
    let rest = bare.strip_prefix('^').unwrap_or(bare);
    rest.strip_prefix(STAMPS).or_else(|| rest.strip_prefix(r"\s*")).unwrap_or(rest).starts_with("<F-CONTENT>")
}

/// Takes the prefix out of an expanded pattern.
pub(super) fn bare(pattern: &str) -> Bare {
    without(pattern, r"\s*")
}

fn without(pattern: &str, instead: &str) -> Bare {
    let mut bare = Bare { text: pattern.into(), session: false };
    for (open, close) in [("<F-MLFID>", "</F-MLFID>"), ("(?P<mlfid>", ")")] {
        bare.key(open, close);
    }
    bare.named();
    let mut out = String::with_capacity(bare.text.len());
    let mut parts = bare.text.split(MARK);
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        // The prefix took the blanks behind it; a message may begin with some all the same.
        if instead == STAMPS || !part.starts_with(r"\s") && !out.ends_with(r"\s*") {
            out.push_str(instead);
        }
        out.push_str(part);
    }
    bare.text = plain(&out);
    bare
}

/// Tags that patterns of fail2ban's have, and of ours.
const TAGS: [&str; 8] = ["HOST", "ADDR", "IP4", "IP6", "SUBNET", "CIDR", "DNS", "SKIPLINES"];

/// What looks like a tag and is none stands for itself.
fn plain(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('<') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/');
        let name =
            from[1..].split_once('>').map(|(name, _)| name).filter(|name| !name.is_empty() && name.chars().all(word));
        let known = name.is_none_or(|name| {
            let named = name.trim_matches('/');
            TAGS.contains(&name)
                || named.strip_prefix("F-").is_some_and(|tag| !tag.is_empty() && tag == tag.to_uppercase())
        });
        // A group's name, and what is escaped already.
        let group = out.ends_with("(?P") || out.ends_with("(?");
        let escaped = out.len() - out.trim_end_matches('\\').len();
        if !known && !group && escaped.is_multiple_of(2) {
            out.push('\\');
        }
        out.push('<');
        rest = &from[1..];
    }
    out.push_str(rest);
    out
}

impl Bare {
    /// The key of a session that has the prefix in it has only the rest in it; without a rest there is none.
    fn key(&mut self, open: &str, close: &str) {
        let Some(start) = self.text.find(open) else { return };
        let inner = start + open.len();
        let Some(length) = self.text[inner..].find(close) else { return };
        let key = &self.text[inner..inner + length];
        if !key.contains(MARK) {
            return;
        }
        self.session = true;
        let rest: String = key.chars().filter(|c| *c != MARK).collect();
        let after = &self.text[inner + length + close.len()..];
        self.text = match rest.as_str() {
            "" | "(?:)" => format!("{}{MARK}{after}", &self.text[..start]),
            rest => format!("{}{MARK}{open}{rest}{close}{after}", &self.text[..start]),
        };
    }

    /// A group that holds nothing but the prefix, and what refers back to it.
    fn named(&mut self) {
        let close = format!(">{MARK})");
        while let Some(end) = self.text.find(&close) {
            let Some(start) = self.text[..end].rfind("(?P<") else { return };
            let name = self.text[start + 4..end].to_owned();
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                return;
            }
            self.text = self.text.replace(&format!("(?P<{name}>{MARK})"), &MARK.to_string());
            self.text = self.text.replace(&format!("(?P={name})"), "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_goes_and_what_it_keyed_is_keyed_by_the_process() {
        for (given, text, session) in [
            ("^@failed <HOST>$", r"^\s*failed <HOST>$", false),
            (r"^@\s+failed <HOST>$", r"^\s+failed <HOST>$", false),
            (
                "^<F-MLFID>@</F-MLFID>(?:error: )?<F-CONTENT>.+</F-CONTENT>$",
                r"^\s*(?:error: )?<F-CONTENT>.+</F-CONTENT>$",
                true,
            ),
            (r"^<F-MLFID>@(?:\w{14}: )?</F-MLFID>x", r"^\s*<F-MLFID>(?:\w{14}: )?</F-MLFID>x", true),
            (r"^(?P<mlfid>@)x <HOST>", r"^\s*x <HOST>", true),
            ("^(?P<p>@)conn (?P=p)x", r"^\s*conn x", false),
            (r"^(@|\[\]\s*W)x", r"^(\s*|\[\]\s*W)x", false),
            ("^no <F-MLFID>prefix</F-MLFID>", "^no <F-MLFID>prefix</F-MLFID>", false),
        ] {
            let given = given.replace('@', &MARK.to_string());
            assert_eq!(bare(&given), Bare { text: text.into(), session }, "{given}");
        }
    }

    #[test]
    fn a_prefregex_lets_stamps_stand_in_front() {
        let bare = bare_prefregex(&format!("^<F-MLFID>{MARK}</F-MLFID><F-CONTENT>.+</F-CONTENT>$"));
        assert_eq!(bare.text, format!("^{STAMPS}<F-CONTENT>.+</F-CONTENT>$"));
        assert!(bare.session);
    }

    #[test]
    fn what_is_no_tag_stands_for_itself() {
        for (given, expected) in [
            ("<HOST> <NOSRV> <F-USER>a</F-USER>", r"<HOST> \<NOSRV> <F-USER>a</F-USER>"),
            (r"\<NOSRV> (?P<name>x)<F-ID/>", r"\<NOSRV> (?P<name>x)<F-ID/>"),
            (r"\\<b></b><F-ip4/>", r"\\\<b>\</b>\<F-ip4/>"),
            ("a<b <[^>]+> <", "a<b <[^>]+> <"),
        ] {
            assert_eq!(bare(given).text, expected);
        }
    }

    #[test]
    fn only_what_all_filters_include_is_marked() {
        let marked = |file: &str, section: &str, value: &str| {
            let place = super::super::super::problem::Place::whole(Path::new(file));
            let raw = super::super::ini::Raw { value: value.into(), place };
            let mut options = Options::from([("__prefix_line".to_owned(), raw)]);
            mark(Path::new(file), section, &mut options);
            options["__prefix_line"].value.contains(MARK)
        };
        assert!(marked("/f/filter.d/common.conf", "lt_journal", r"\s*"));
        assert!(marked("/f/filter.d/common.local", "DEFAULT", r"\s*host "));
        assert!(!marked("/f/filter.d/common.conf", "DEFAULT", "<lt_<logtype>/__prefix_line>"));
        assert!(!marked("/f/filter.d/sshd.conf", "Definition", r"\s*host "));
        assert!(!marked("/f/common.conf", "DEFAULT", r"\s*host "));
    }
}
