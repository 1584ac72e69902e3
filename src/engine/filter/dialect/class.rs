//! `[…]`: in Python's classes only `]`, `\`, `^` in front and `-` between are special.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};
use regex_syntax::utf8::Utf8Sequences;

use super::escape::Escape;
use super::{Flaw, Last, Translator, escaped};

/// A class as it is read.
#[derive(Default)]
struct Members {
    /// As the engines write it.
    text: String,
    /// As characters.
    ranges: Vec<ClassUnicodeRange>,
    /// Is a character among them, or the end of a range, that is not ASCII?
    wide: bool,
}

impl Translator<'_> {
    pub(super) fn class(&mut self) -> Result<Last, Flaw> {
        let start = self.at;
        let unclosed = || Flaw::at(start, "this class is never closed: a [ that is meant is written \\[");
        self.at += 1;
        let negated = self.rest().starts_with('^');
        self.at += usize::from(negated);
        let mut members = Members::default();
        let mut first = true;
        loop {
            let c = self.rest().chars().next().ok_or_else(unclosed)?;
            if c == ']' && !first {
                break;
            }
            first = false;
            let at = self.at;
            let low = self.member(c)?;
            let mut behind = self.rest().chars();
            let (dash, last) = (behind.next(), behind.next());
            if dash != Some('-') || last == Some(']') {
                members.add(low);
                continue;
            }
            self.at += 1;
            let high = self.member(last.ok_or_else(unclosed)?)?;
            match (low, high) {
                (Escape::Char(low), Escape::Char(high)) if low <= high => members.add_range(low, high),
                (Escape::Char(_), Escape::Char(_)) => {
                    return Err(Flaw::at(at, "this range of characters runs backwards"));
                }
                _ => return Err(Flaw::at(at, "no range ends in a class: a - that is meant is written \\-")),
            }
        }
        self.at += 1;
        let text = members.written(negated, self.flags.ignore_case);
        self.push(&text);
        Ok(Last::ATOM)
    }

    /// One member; passes over it.
    fn member(&mut self, c: char) -> Result<Escape, Flaw> {
        if c != '\\' {
            self.at += c.len_utf8();
            return Ok(Escape::Char(c));
        }
        if self.escaped_char()? == 'b' {
            self.at += 2;
            return Ok(Escape::Char('\x08'));
        }
        self.common_escape()
    }
}

impl Members {
    fn add(&mut self, member: Escape) {
        match member {
            Escape::Char(c) => self.add_range(c, c),
            Escape::Class(letter) => {
                self.text.extend(['\\', letter]);
                self.ranges.extend(of_letter(letter).ranges());
            }
        }
    }

    fn add_range(&mut self, low: char, high: char) {
        self.text.push_str(&escaped(low));
        if low != high {
            self.text.push('-');
            self.text.push_str(&escaped(high));
        }
        self.ranges.push(ClassUnicodeRange::new(low, high));
        self.wide |= !high.is_ascii();
    }

    /// The class; as an alternation of bytes where it names characters that have several.
    fn written(self, negated: bool, ignore_case: bool) -> String {
        // What `\D` and its like hold of bytes that are no ASCII the engines know by themselves.
        if !self.wide {
            return format!("[{}{}]", if negated { "^" } else { "" }, self.text);
        }
        let mut class = ClassUnicode::new(self.ranges);
        if ignore_case {
            // Without the tables there would be no other case to add.
            let _ = class.try_case_fold_simple();
        }
        if negated {
            class.negate();
        }
        let sequences = class.ranges().iter().flat_map(|range| Utf8Sequences::new(range.start(), range.end()));
        let bytes = |sequence: regex_syntax::utf8::Utf8Sequence| -> String {
            let ranges = sequence.as_slice().iter();
            ranges.map(|range| format!(r"[\x{:02X}-\x{:02X}]", range.start, range.end)).collect()
        };
        let alternatives: Vec<String> = sequences.map(bytes).collect();
        // What holds nothing matches nothing.
        if alternatives.is_empty() { r"[^\x00-\xFF]".into() } else { format!("(?:{})", alternatives.join("|")) }
    }
}

/// The characters of `\d` and its like.
fn of_letter(letter: char) -> ClassUnicode {
    let ranges: &[(char, char)] = match letter.to_ascii_lowercase() {
        'd' => &[('0', '9')],
        'w' => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        _ => &[('\t', '\r'), (' ', ' ')],
    };
    let mut class = ClassUnicode::new(ranges.iter().map(|(low, high)| ClassUnicodeRange::new(*low, *high)));
    if letter.is_ascii_uppercase() {
        class.negate();
    }
    class
}
