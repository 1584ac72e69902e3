//! Text from outside made safe to show: no character of it moves the cursor, changes a colour or hides what stands there.

use std::fmt::Write;

/// `text` on one line, with every control and every invisible character written out (`\n`, `\u{1b}`).
///
/// Quotes and backslashes stay as they are: this is for eyes, programs read `--json`.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) { out.push(c) } else { out.extend(c.escape_default()) }
    }
    out
}

/// As [`shown`], but lines stay lines.
pub fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}

/// Bytes that are UTF-8 or not, as [`shown`]; bytes that are no text as `\xff`.
pub fn shown_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(&shown(chunk.valid()));
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// One JSON value on one line, whose strings hold no control and no invisible character unescaped.
pub fn json_line(value: &serde_json::Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        if is_plain(c) {
            out.push(c);
            continue;
        }
        // Only strings can hold such a character, and there this is the same character.
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// Is it a character that shows itself and nothing else? Unicode's controls, its separators of lines, its marks of
/// writing direction and its invisible format characters are not.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn hostile_text_is_written_out() {
        assert_eq!(shown("a\u{1b}[2J\r\nb\u{7f}\u{9b}31m"), "a\\u{1b}[2J\\r\\nb\\u{7f}\\u{9b}31m");
        assert_eq!(shown("x\u{202e}gpj.exe"), "x\\u{202e}gpj.exe");
        assert_eq!(shown("Grüße, \"мир\" \\n"), "Grüße, \"мир\" \\n");
        assert_eq!(shown_bytes(b"a\xff\xfe\x1b\xc3\xa9"), "a\\xff\\xfe\\u{1b}é");
        assert_eq!(shown_lines("a\u{7}\nb"), "a\\u{7}\nb");
    }

    proptest! {
        #[test]
        fn nothing_shown_controls_a_terminal(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            prop_assert!(shown(&text).chars().all(is_plain));
            prop_assert!(shown_bytes(&bytes).chars().all(is_plain));
        }

        #[test]
        fn json_says_the_same_without_such_characters(text in any::<String>(), bad in "[\u{0}-\u{a0}\u{2028}\u{202e}\u{e0001}]*") {
            let value = json!({ text.clone(): [bad, text] });
            let line = json_line(&value);
            prop_assert!(line.chars().all(is_plain));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
        }
    }
}
