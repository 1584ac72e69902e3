//! A prefix that a filter spells by hand: `\S+ name\[\d+\]:` goes, and the blanks between it and the message may be missing.

use std::sync::LazyLock;

use regex::Regex;

/// A host and a daemon with its process's number, as filters write them.
static PREFIX: LazyLock<Regex> = LazyLock::new(|| {
    let (host, blank, name) = (r"(?:\\S\+|\[\\w\\?\.-\]\+)", r"(?:\\s[+*]| )", r"[\w.-]+");
    let daemon = format!(r"(?:{name}\\\[\\d\+\\\]:|\(\?:{name}\(\?:\\\[\(?\\d[+*]\)?\\\]\)\?:\)\?)");
    // Nothing in it comes from outside, and the tests compile it.
    Regex::new(&format!(r"(?:\(\?!\\\[\))?{host}{blank}{daemon}")).expect("a pattern of our own is right")
});

/// Longer patterns, and groups in each other deeper than this, stay as they are.
const LENGTH_LIMIT: usize = 8192;
const DEPTH_LIMIT: usize = 16;

/// A pattern without the prefix; `None` for one that does not spell it.
pub(super) fn bare(pattern: &str) -> Option<String> {
    let prefix = PREFIX.find(pattern).filter(|_| pattern.len() <= LENGTH_LIMIT)?;
    let (rest, _) = relaxed(&pattern[prefix.end()..], 0);
    Some(format!("{}{rest}", &pattern[..prefix.start()]))
}

/// A pattern for what a prefregex without its prefix leaves: the blank in front may be missing.
pub(super) fn behind(pattern: &str) -> String {
    match pattern.strip_prefix('^').filter(|_| pattern.len() <= LENGTH_LIMIT) {
        Some(rest) => format!("^{}", relaxed(rest, 0).0),
        None => pattern.into(),
    }
}

/// Makes the blanks optional with which a match may begin; and does nothing else have to be there?
fn relaxed(pattern: &str, depth: usize) -> (String, bool) {
    let mut out = String::with_capacity(pattern.len());
    let mut at = 0;
    while at < pattern.len() {
        let rest = &pattern[at..];
        let length = token(rest);
        let count = quantifier(&rest[length..]);
        let (text, times) = (&rest[..length], &rest[length..length + count]);
        let optional = times.starts_with(['?', '*']) || times.starts_with("{0") || times.starts_with("{,");
        match text {
            // The end of a group that began before the prefix.
            ")" => out.push_str(&rest[..length + count]),
            " " | r"\s" => {
                out.push_str(text);
                out.push_str(match times {
                    "" => "?",
                    "+" => "*",
                    times => times,
                });
            }
            _ if text.starts_with("(?!") || text.starts_with("(?=") || text.starts_with("(?<") => out.push_str(text),
            _ if text.len() > 1 && text.starts_with('(') && depth < DEPTH_LIMIT => {
                let opened = opening(text);
                let (inner, empty) = relaxed(&text[opened..length - 1], depth + 1);
                out.push_str(&text[..opened]);
                out.push_str(&inner);
                out.push(')');
                out.push_str(times);
                if !empty && !optional {
                    out.push_str(&rest[length + count..]);
                    return (out, false);
                }
            }
            _ if optional && text != "|" => out.push_str(&rest[..length + count]),
            _ => {
                out.push_str(rest);
                return (out, false);
            }
        }
        at += length + count;
    }
    (out, true)
}

/// How long the group's opening is.
fn opening(group: &str) -> usize {
    match group.as_bytes() {
        [b'(', b'?', b':', ..] => 3,
        [b'(', b'?', ..] => group.find('>').map_or(group.len() - 1, |end| end + 1),
        _ => 1,
    }
}

/// How long the first token is: a character, an escape, a class or a group with all in it.
fn token(pattern: &str) -> usize {
    let first = pattern.chars().next().map_or(0, char::len_utf8);
    match pattern.as_bytes().first() {
        Some(b'\\') => first + pattern[first..].chars().next().map_or(0, char::len_utf8),
        Some(b'[') => class(pattern),
        Some(b'(') => {
            let (mut depth, mut at) = (0_usize, 0);
            while at < pattern.len() {
                match pattern.as_bytes()[at] {
                    b'(' => depth += 1,
                    b')' => depth -= 1,
                    _ => {}
                }
                at += if pattern[at..].starts_with('(') { 1 } else { token(&pattern[at..]) };
                if depth == 0 {
                    return at;
                }
            }
            // It has no end: what compiles it says so.
            first
        }
        _ => first,
    }
}

fn class(pattern: &str) -> usize {
    let negated = usize::from(pattern[1..].starts_with('^'));
    // A bracket that comes first is one of the class.
    let mut at = 1 + negated + usize::from(pattern[1 + negated..].starts_with(']'));
    while at < pattern.len() {
        match pattern.as_bytes()[at] {
            b']' => return at + 1,
            b'\\' => at += token(&pattern[at..]),
            _ => at += pattern[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    1
}

fn quantifier(rest: &str) -> usize {
    let length = match rest.as_bytes().first() {
        Some(b'?' | b'*' | b'+') => 1,
        Some(b'{') => rest.find('}').map_or(0, |end| end + 1),
        _ => 0,
    };
    length + usize::from(length > 0 && rest[length..].starts_with(['?', '+']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_prefix_by_hand_goes_with_its_blanks() {
        for (given, expected) in [
            (r"^(?:\S+\s+app\[\d+\]:)\s+\[[^]]+\] no <ADDR>", r"^(?:)\s*\[[^]]+\] no <ADDR>"),
            (r"^(?:\S+\s+app\[\d+\]:(?:\s+W[\d ]+)?)?\s+\d+ no", r"^(?:(?:\s*W[\d ]+)?)?\s*\d+ no"),
            (r"^\s*(?:(?!\[)\S+ app\[\d+\]: [^\[]*)?\[error\] no", r"^\s*(?: ?[^\[]*)?\[error\] no"),
            (
                r"^(?:\s?\[\d+\]|\s?[\w\.-]+ app\[\d+\]:){0,2}(?: \d{4})? no",
                r"^(?:\s?\[\d+\]|\s?){0,2}(?: ?\d{4})? ?no",
            ),
            (r"^(\[\])?(\S+\s*(?:app(?:\[(\d*)\])?:)?\s*(<\w+>)? Error)?: x", r"^(\[\])?(\s*(<\w+>)? ?Error)?: x"),
        ] {
            assert_eq!(bare(given).as_deref(), Some(expected), "{given}");
        }
        for given in [r"^app\[\d+\]: no <ADDR>$", r"^no \S+ from <ADDR>$"] {
            assert_eq!(bare(given), None, "{given}");
        }
        assert_eq!(behind(r"^(?: \(\w+\))? (?:H=)?\[<ADDR>\] no"), r"^(?: ?\(\w+\))? ?(?:H=)?\[<ADDR>\] no");
    }

    proptest! {
        #[test]
        fn no_pattern_is_too_strange(pattern in r"(\\S\+ a\\\[\\d\+\\\]:)?[()\[\]\\?*+{},|a <>é!:=-]{0,24}") {
            bare(&pattern);
            behind(&format!("^{pattern}"));
        }
    }
}
