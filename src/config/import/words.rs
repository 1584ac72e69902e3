//! What fail2ban writes in one value: `name[parameter=value]`, several of them, lists of words, and a shell's words.

/// `name[p="v", q=w][r='x']`, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    /// In the order in which they stand.
    pub(super) parameters: Vec<(String, String)>,
}

impl Named {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Named, String> {
        let text = text.trim();
        let Some((name, rest)) = text.split_once('[') else {
            return Ok(Named { name: text.into(), ..Named::default() });
        };
        let inner = rest.strip_suffix(']').ok_or("the parameters do not end with ]")?;
        let mut named = Named { name: name.trim_end().into(), ..Named::default() };
        let mut rest = inner.trim_start();
        while !rest.is_empty() {
            let (key, after) = rest.split_once('=').ok_or("a parameter has the form name=value")?;
            let key = key.trim();
            let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '?');
            if key.is_empty() || !key.replace("?family", "?").chars().all(plain) {
                return Err("a parameter's name has letters, digits, -, _ and . only".into());
            }
            let (key, after) = match key.ends_with("?family") {
                true => {
                    let (family, after) = after.split_once('=').ok_or("a parameter has the form name=value")?;
                    (format!("{key}={}", family.trim()), after)
                }
                false => (key.to_owned(), after),
            };
            let (value, after) = value(after)?;
            named.parameters.retain(|(known, _)| *known != key);
            named.parameters.push((key, value.trim().into()));
            rest = after;
        }
        Ok(named)
    }
}

/// A value in quotes or up to a comma or bracket, and what follows the separator.
fn value(text: &str) -> Result<(&str, &str), String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let (value, after) = match quote {
        Some(quote) => text[1..].split_once(quote).ok_or("a quote is not closed")?,
        None => text.split_at(text.find([',', ']']).unwrap_or(text.len())),
    };
    let after = after.trim_start();
    if after.is_empty() {
        return Ok((value, after));
    }
    let next = after
        .strip_prefix(',')
        .or_else(|| after.strip_prefix(']').and_then(|rest| rest.trim_start().strip_prefix('[')));
    next.map(|next| (value, next.trim_start())).ok_or_else(|| "a comma is missing between two parameters".into())
}

/// Several of them, each on its line or behind spaces; spaces and lines inside brackets and quotes divide nothing.
pub(super) fn several(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut depth, mut quote) = (None, 0usize, None);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('"' | '\'', None) if depth > 0 => quote = Some(c),
            ('[', None) => depth += 1,
            (']', None) => depth = depth.saturating_sub(1),
            (c, None) if c.is_whitespace() && depth == 0 => {
                // `name [p=v]` is one, too.
                if !text[at..].trim_start_matches([' ', '\t']).starts_with('[') {
                    found.extend(start.take().map(|start: usize| &text[start..at]));
                }
                continue;
            }
            _ => {}
        }
        start.get_or_insert(at);
    }
    found.extend(start.map(|start| text[start..].trim_end()));
    found
}

/// Words between spaces, commas and ends of lines.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '\n', '\t']).filter(|word| !word.is_empty())
}

/// The words of a line as a shell divides them.
///
/// # Errors
/// A quote that is not closed, or a backslash at the end.
pub(super) fn shell(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next().ok_or("nothing follows the backslash")?),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("a quote is not closed")? {
                        end if end == c => break,
                        '\\' if c == '"' => match chars.next().ok_or("a quote is not closed")? {
                            escaped @ ('"' | '\\') => word.push(escaped),
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// fail2ban's truth: `1`, `on`, `true`, `yes`.
pub(super) fn truth(text: &str) -> bool {
    matches!(text.trim().to_lowercase().as_str(), "1" | "on" | "true" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Result<(String, Vec<(String, String)>), String> {
        Named::parse(text).map(|named| (named.name, named.parameters))
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn parameters_are_read_in_all_their_forms() {
        for (text, name, expected) in [
            ("sshd", "sshd", &[][..]),
            ("sshd[]", "sshd", &[]),
            ("sshd[mode=aggressive]", "sshd", &[("mode", "aggressive")]),
            ("x[a=1, b=\"2,]3\"][c='4 5']", "x", &[("a", "1"), ("b", "2,]3"), ("c", "4 5")]),
            ("x [a=\"1\n2\",\n b=,c=3]", "x", &[("a", "1\n2"), ("b", ""), ("c", "3")]),
            ("x[a=1, a=2]", "x", &[("a", "2")]),
            ("x[block?family=inet6=y]", "x", &[("block?family=inet6", "y")]),
        ] {
            assert_eq!(named(text), Ok((name.into(), pairs(expected))), "{text}");
        }
        for bad in ["x[a=1", "x[a]", "x[a=\"1]", "x[a=\"1\"b=2]", "x[a b=1]", "x[=1]"] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn several_are_divided_outside_of_brackets() {
        let text = "a[x=\"1 2\",\n y=']']\n  b [z=3]\n\nc d";
        assert_eq!(several(text), ["a[x=\"1 2\",\n y=']']", "b [z=3]", "c", "d"]);
        assert_eq!(several(" \n"), [""; 0]);
    }

    #[test]
    fn a_shells_words_are_divided_as_a_shell_does() {
        assert_eq!(shell("a \"b c\" 'd\\e'\\ f \"\\\"\\x\"").unwrap(), ["a", "b c", "d\\e f", "\"\\x"]);
        assert!(shell("'a").is_err() && shell("\"a\\").is_err() && shell("a\\").is_err());
        assert_eq!(shell("''").unwrap(), [""]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_much(text in "(\\[|\\]|=|\"|'|,| |\n|\\\\|a|é|\\PC){0,40}") {
            let _ = Named::parse(&text);
            let _ = shell(&text);
            let joined: usize = several(&text).iter().map(|part| part.len()).sum();
            assert!(joined <= text.len());
        }
    }
}
