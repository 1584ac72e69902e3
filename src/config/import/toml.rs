//! Writing TOML that people read: strings quoted the plainest way, comments that stay comments.

use std::path::Path;

use super::super::problem::Place;

/// `text` as a string on one line: between single quotes where they can hold it.
pub(super) fn quoted(text: &str) -> String {
    if text.contains(char::is_control) || text.contains("'''") || text.ends_with('\'') {
        return basic(text);
    }
    if text.contains('\'') {
        return format!("'''{text}'''");
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" -_.,:/@=+*%".contains(&byte));
    if plain { format!("\"{text}\"") } else { format!("'{text}'") }
}

fn basic(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `text` as the rest of a comment's line.
pub(super) fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The beginning of a pattern, for a line that speaks of it.
pub(super) fn excerpt(text: &str) -> String {
    let mut short: String = comment(text).chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A place as a comment tells it: below `root`, with its line.
pub(super) fn place(root: &Path, place: &Place) -> String {
    let file = place.file.strip_prefix(root).unwrap_or(&place.file);
    let file = file.to_string_lossy();
    let file: String = file.escape_debug().collect();
    if place.line > 0 { format!("{file}:{}", place.line) } else { file }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_quoted_reads_back(text in "('|\"|\\\\|a|\n|\u{7f}|\\PC){0,20}") {
            let line = format!("a = {} # {}\n", quoted(&text), comment(&text));
            assert_eq!(line.matches('\n').count(), 1);
            let table: ::toml::Table = line.parse().unwrap();
            assert_eq!(table["a"].as_str(), Some(text.as_str()));
        }
    }
}
