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
    let mut rest = match pattern.starts_with('^') {
        true => rest(pattern, &format!("host {name}[123]: "))?,
        false => {
            // It may begin anywhere in a prefix, and what is behind that begins the message, if it needs the prefix.
            let free = parse::parse(pattern)?.may_lack_its_first_group();
            let pattern = format!("^{pattern}");
            let texts = [
                format!("host {name}[123]: "),
                format!(" {name}[123]: "),
                format!("{name}[123]: "),
                "[123]: ".to_owned(),
            ];
            let rest = texts.iter().find_map(|text| rest(&pattern, text))?;
            if free {
                return Some(rest);
            }
            rest
        }
    };
    rest.insert(0, '^');
    if rest.starts_with(r"^\s*\s*") {
        rest.replace_range(1..4, "");
    }
    Some(rest)
}

/// The pattern of what such a prefix leaves to it without the blank before the message; `None` where it needs no blank.
pub(super) fn behind_blank(pattern: &str) -> Option<String> {
    Some(format!("^ ?{}", rest(pattern, " ")?))
}

/// Does the pattern need the prefix of a process, whether its rest is understood or not: `name[123]:`, where the name is
/// one of these or one of no log level?
pub(super) fn needs(pattern: &str, names: &[String]) -> bool {
    const NUMBERS: [&str; 6] = [r"\d+", r"\d*", r"\d+?", "[0-9]+", "[0-9]*", r"\d{1,}"];
    const ANY: [&str; 8] = [r"\S+", r"\S*", r"\w+", r"\w*", ".*", ".+", "]+", "]*"];
    let flat = flat(&without_what_may_lack(pattern));
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut open = None;
    for (at, sign) in flat.match_indices(['[', ']']).filter(|(at, _)| flat[..*at].ends_with('\\')) {
        if sign == "[" {
            open = Some(at);
            continue;
        }
        let Some(start) = open else { continue };
        if !flat[at + 1..].trim_start_matches(['?', '\\']).starts_with(':') {
            continue;
        }
        let (before, inside) = (&flat[..start - 1], &flat[start + 1..at - 1]);
        let head = before.trim_end_matches(word);
        let name = &before[head.len()..];
        // What an escape ends with is no part of a name.
        let name = if head.ends_with('\\') { name.get(1..).unwrap_or_default() } else { name };
        let is_level = !name.bytes().any(|byte| byte.is_ascii_lowercase());
        let any = before.is_empty() || ANY.iter().any(|any| before.ends_with(any));
        if names.iter().any(|known| known == name) || NUMBERS.contains(&inside) && (any || !is_level) {
            return true;
        }
    }
    false
}

/// The pattern without the signs of its groups.
fn flat(pattern: &str) -> String {
    ["(?:", ")?", "(", ")"].iter().fold(pattern.to_owned(), |flat, sign| flat.replace(sign, ""))
}

/// The pattern without the groups that have a whole prefix in them and may be missing.
fn without_what_may_lack(pattern: &str) -> String {
    let mut kept = String::with_capacity(pattern.len());
    let mut open = Vec::new();
    let (mut escaped, mut class) = (false, false);
    // Where the latest prefix ended.
    let mut colon = 0;
    for (at, c) in pattern.char_indices() {
        kept.push(c);
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            ':' if kept[..kept.len() - 1].trim_end_matches([')', '?']).ends_with(r"\]") => colon = kept.len(),
            '(' if !class => open.push(kept.len() - 1),
            ')' if !class => {
                let start = open.pop().unwrap_or(kept.len());
                if colon > start && pattern[at + 1..].starts_with(['?', '*']) {
                    kept.truncate(start);
                    // What says how often an empty group stands there says nothing.
                    kept.push_str("()");
                    colon = 0;
                }
            }
            _ => {}
        }
    }
    kept
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
            // One that is not anchored may begin anywhere in it.
            (r"zn\[\d+\]: failed <HOST>$", "zn", Some("^failed <HOST>$")),
            (r"\S+ zn(?:\[\d+\])?: failed <HOST>$", "zn", Some("^failed <HOST>$")),
            (r".*zn\[\d+\]:\s+failed <HOST>$", "zn", Some(r"^\s*failed <HOST>$")),
            (r"\[\d+\]: failed <HOST>$", "zn", Some("^failed <HOST>$")),
            (r"(?:zn\[\d+\]: )?failed <HOST>$", "zn", Some("failed <HOST>$")),
            (r"other\[\d+\]: failed <HOST>$", "zn", None),
            (r"\S+ failed <HOST>$", "zn", None),
        ] {
            assert_eq!(behind(pattern, name).as_deref(), rest, "{pattern}");
        }
    }

    #[test]
    fn a_prefix_that_is_needed_is_known_whatever_is_behind_it() {
        let names = ["zn".to_owned(), "NET".to_owned()];
        for (pattern, needed) in [
            (r"(?i)zn\[\d+\]: failed <HOST>$", true),
            (r"^\S+ other(?:\[\d+\])?: (?#x)failed <HOST>$", true),
            (r"\bzn\[[^]]+\]: failed <HOST>$", true),
            (r"NET\[\d+\]: failed <HOST>$", true),
            (r"^\S+ \S+\[[0-9]+\]: \Qfailed <HOST>$", true),
            // It may be missing, or these are a daemon's own words.
            (r"^(?: \[\d+\]| \w+ zn\[\d+\]:)? \Qfailed <HOST>$", false),
            (r"^((?:\S+ )?zn(?:\[\d+\])?: )*\Qfailed <HOST>$", false),
            (r"^WARNING\[\d+\]: failed <HOST>$", false),
            (r"^(?:NOTICE|WARNING)(?:\s*\[\d+\]):? failed <HOST>$", false),
            (r"^\[\d+\]: failed <HOST>$", false),
            (r"^ app \[\d+\]: failed <HOST>$", false),
            (r"^(?:\S+ )?\[<HOST>\]: failed$", false),
            (r"^failed \[\d+\] <HOST>$", false),
            ("^failed <HOST>$", false),
        ] {
            assert_eq!(needs(pattern, &names), needed, "{pattern}");
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
            assert_eq!(behind(&format!("{pattern} <HOST>$"), "zn"), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_is_too_much(pattern in "\\^(\\(|\\)|\\(\\?:|\\(\\?!|\\||\\*|\\+|\\?|\\[|\\]|\\\\S|\\\\d|\\\\|\\{|\\}|1|,|<F-A>|</F-A>|<|>|a|:| |é){0,40}") {
            let _ = behind(&pattern, "a");
            let _ = needs(&pattern, &["a".to_owned()]);
            let _ = behind_blank(&pattern);
        }
    }
}
