//! A prefix that a pattern spells by itself, taken off: what is left of the pattern behind `host name[123]: `.
//!
//! The rest of a regular expression behind a text is its derivative by the text's characters. Brackets, colons and
//! numbers must be spelled; `\S`, `.` and the like stand for letters only, so that no pattern loses a part of its message.

mod node;
mod parse;

use node::{Node, Steps, Undecided};

/// No pattern grows by more than that.
const GROWTH_LIMIT: usize = 2000;

/// The rest of `pattern` behind the prefix of a process called `name`; `None` where it spells no such prefix.
pub(super) fn behind(pattern: &str, name: &str) -> Option<String> {
    let mut rest = format!("^{}", rest(pattern, &format!("host {name}[123]: "))?);
    if rest.starts_with(r"^\s*\s*") {
        rest.replace_range(1..4, "");
    }
    Some(rest)
}

/// The pattern of what such a prefix leaves to it without the blank before the message; `None` where it needs no blank.
pub(super) fn behind_blank(pattern: &str) -> Option<String> {
    Some(format!("^ ?{}", rest(pattern, " ")?))
}

/// What is left of an anchored pattern behind this text.
fn rest(pattern: &str, text: &str) -> Option<String> {
    let mut node = parse::parse(pattern.strip_prefix('^')?)?;
    if matches!(node, Node::Either(_)) {
        // Only its first alternative is anchored.
        return None;
    }
    let before = node.names();
    let mut steps = Steps::new();
    for c in text.chars() {
        node = node.behind(c, &mut steps).map_err(|Undecided| ()).ok()?;
        if node == Node::Never {
            return None;
        }
    }
    let doubled = |node: &Node| node.names().iter().any(|(name, count)| count > before.get(name).unwrap_or(&0));
    let (ways, tail): (&[Node], &[Node]) = match &node {
        Node::Either(ways) => (ways, &[]),
        Node::Chain(nodes) => match nodes.split_first() {
            Some((Node::Either(ways), tail)) => (ways, tail),
            _ => (&[], &[]),
        },
        _ => (&[], &[]),
    };
    if doubled(&node) && !ways.is_empty() {
        // What a group would have taken of the prefix's blank is not worth a way of its own.
        let groups = groups(pattern, before.keys());
        let whole = |way: &&Node| groups.iter().all(|group| way.to_string().contains(group));
        let ways = node::shared(ways.iter().filter(whole).cloned().collect());
        node = node::chain(std::iter::once(ways).chain(tail.iter().cloned()).collect());
    }
    let rest = if matches!(node, Node::Either(_)) { format!("(?:{node})") } else { node.to_string() };
    // A group told twice would be refused, or mean another.
    if node == Node::Never || doubled(&node) || rest.len() > pattern.len() + GROWTH_LIMIT {
        return None;
    }
    Some(rest)
}

/// The groups and tags of these names, each with all in it.
fn groups<'a>(pattern: &'a str, names: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    names
        .filter_map(|name| {
            let start = pattern.find(&format!("<{name}>"))?;
            let close = format!("</{name}>");
            let end = pattern[start..].find(&close).map_or(name.len() + 2, |end| end + close.len());
            Some(&pattern[start..start + end])
        })
        .collect()
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
            (
                r"^(?:\s?\[\d+\]|\s?[\w\.-]+ ex\[\d+\]:){0,2}(?: \d{4})?<F-CONTENT>.+</F-CONTENT>$",
                "ex",
                Some(r"^(?:(?:\[\d+\]|[\w\.-]+ ex\[\d+\]:)(?: \d{4})?|\d{4})<F-CONTENT>.+</F-CONTENT>$"),
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

    #[test]
    fn a_blank_before_the_message_may_be_missing() {
        for (pattern, rest) in [
            (r"^ (?:H=)?\[<HOST>\] rejected$", Some(r"^ ?(?:H=)?\[<HOST>\] rejected$")),
            (r"^\s?\w+ failed <HOST>$", Some(r"^ ?\w+ failed <HOST>$")),
            (r"^failed <HOST>$", None),
        ] {
            assert_eq!(behind_blank(pattern).as_deref(), rest, "{pattern}");
        }
    }

    #[test]
    fn what_multiplies_itself_is_left() {
        let wide = r"(?:(?:(?:(?:(?:(?:[^<]*\s*)*[^>]*)*[^<]*)*[^>]*)*[^<]*)*[^>]*)*".to_owned();
        let deep = "(?!".repeat(45) + "x" + &")y".repeat(45);
        for pattern in [wide, deep] {
            assert_eq!(behind(&format!("^{pattern} <HOST>$"), "zn"), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_is_too_much(pattern in "\\^(\\(|\\)|\\(\\?:|\\(\\?!|\\||\\*|\\+|\\?|\\[|\\]|\\\\S|\\\\d|\\\\|\\{|\\}|1|,|<F-A>|</F-A>|<|>|a|:| |é){0,40}") {
            let _ = behind(&pattern, "a");
            let _ = behind_blank(&pattern);
        }
    }
}
