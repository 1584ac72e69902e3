//! A prefix that a pattern spells by itself, taken off: what is left of the pattern behind `host name[123]: `.
//!
//! The rest of a regular expression behind a text is its derivative by the text's characters. Brackets, colons and
//! numbers must be spelled; `\S`, `.` and the like stand for letters only, so that no pattern loses a part of its message.

mod node;
mod parse;

use node::{Node, Undecided};

/// No pattern grows by more than that.
const GROWTH_LIMIT: usize = 2000;

/// The rest of `pattern` behind the prefix of a process called `name`; `None` where it spells no such prefix.
pub(super) fn behind(pattern: &str, name: &str) -> Option<String> {
    let mut node = parse::parse(pattern.strip_prefix('^')?)?;
    if matches!(node, Node::Either(_)) {
        // Only its first alternative is anchored.
        return None;
    }
    let before = node.names();
    for c in format!("host {name}[123]: ").chars() {
        node = node.behind(c).map_err(|Undecided| ()).ok()?;
        if node == Node::Never {
            return None;
        }
    }
    let mut rest = if matches!(node, Node::Either(_)) { format!("^(?:{node})") } else { format!("^{node}") };
    // A group told twice would be refused, or mean another.
    let doubled = node.names().iter().any(|(name, count)| count > before.get(name).unwrap_or(&0));
    if doubled || rest.len() > pattern.len() + GROWTH_LIMIT {
        return None;
    }
    if rest.starts_with(r"^\s*\s*") {
        rest.replace_range(1..4, "");
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_that_is_spelled_goes() {
        for (pattern, name, rest) in [
            (r"^(?:\S+\s+znc\[\d+\]:)\s+\[[^]]+\] failed <ADDR>$", "znc", Some(r"^\s*\[[^]]+\] failed <ADDR>$")),
            (r"^\s*(?:(?!\[)\S+ nginx\[\d+\]: [^\[]*)?\[error\] <HOST>", "nginx", Some(r"^[^\[]*\[error\] <HOST>")),
            (
                r"^(?:\S+\s+mur\[\d+\]:(?:\s+\<W\>[\d\-]+)?)?\s+\d+ => <HOST>:",
                "mur",
                Some(r"^(?:\s*\<W\>[\d\-]+\s+|\s*)\d+ => <HOST>:"),
            ),
            (
                r"^\s*(\[\])?(\S+\s*(?:rc(?:\[(\d*)\])?:)?\s*(<[\w]+>)? IMAP)?: <F-CONTENT>.+</F-CONTENT>$",
                "rc",
                Some(r"^((?:\s*(<[\w]+>)? |)IMAP): <F-CONTENT>.+</F-CONTENT>$"),
            ),
            (
                r"^\s*(?:\S+ (?:\[\d+\]?:\s+na|na(?:-\w+)?\[\d+\]?:)\s+)?(?!er)\w+: c <HOST>$",
                "na",
                Some(r"^\s*(?!er)\w+: c <HOST>$"),
            ),
            // Nothing of these is a prefix.
            (r"^<HOST> - - \[\] x$", "x", None),
            (r"^\S+ \S+ \S+ failed <HOST>$", "x", None),
            (r"^.*failed <HOST>$", "x", None),
            (r"^[^a]+ [^a]+: failed <HOST>$", "x", None),
            (r"failed <HOST>$", "x", None),
            (r"^\[\d+\]: <HOST>$", "x", None),
            ("^(", "x", None),
            (r"^a <HOST>|x\[\d+\]: b$", "x", None),
        ] {
            assert_eq!(behind(pattern, name).as_deref(), rest, "{pattern}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_is_too_much(pattern in "\\^(\\(|\\)|\\(\\?:|\\(\\?!|\\||\\*|\\+|\\?|\\[|\\]|\\\\S|\\\\d|\\\\|\\{|\\}|1|,|<F-A>|</F-A>|<|>|a|:| |é){0,40}") {
            let _ = behind(&pattern, "a");
        }
    }
}
