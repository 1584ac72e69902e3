//! `\…`: characters by number and by letter, classes by letter, places, and groups by number.

use super::{Flaw, Last, Translator};

/// What `\…` stands for where it is one character or a class of them.
pub(super) enum Escape {
    Char(char),
    /// `\d` and its like.
    Class(char),
}

impl Translator<'_> {
    /// `\…` outside a class.
    pub(super) fn escape(&mut self) -> Result<Last, Flaw> {
        let c = self.escaped_char()?;
        match c {
            'b' | 'B' | 'A' | 'Z' | 'z' => {
                self.looks_behind_end |= c != 'A';
                let text = if c == 'Z' { r"\z".to_owned() } else { format!(r"\{c}") };
                Ok(self.syntax(2, &text, Last::default()))
            }
            '1'..='9' if !self.is_octal() => self.numbered_reference(),
            _ => {
                match self.common_escape()? {
                    Escape::Char(c) => self.push_literal(c),
                    Escape::Class(c) => self.push(&format!(r"\{c}")),
                }
                Ok(Last::ATOM)
            }
        }
    }

    /// The character behind the backslash.
    pub(super) fn escaped_char(&self) -> Result<char, Flaw> {
        self.rest()[1..].chars().next().ok_or_else(|| Flaw::at(self.at, "nothing follows this backslash"))
    }

    /// `\…` as it reads inside and outside of a class; passes over it.
    pub(super) fn common_escape(&mut self) -> Result<Escape, Flaw> {
        let start = self.at;
        let c = self.escaped_char()?;
        let by_number = |digits: usize| {
            let digits = self.rest().get(2..2 + digits).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
            let digits = digits.ok_or_else(|| Flaw::at(start, format!(r"\{c} needs its hexadecimal digits")))?;
            let number = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
            let number = number.ok_or_else(|| Flaw::at(start, "no character has this number"))?;
            Ok((2 + digits.len(), Escape::Char(number)))
        };
        let (length, escape) = match c {
            'd' | 'D' | 'w' | 'W' | 's' | 'S' => (2, Escape::Class(c)),
            'n' => (2, Escape::Char('\n')),
            'r' => (2, Escape::Char('\r')),
            't' => (2, Escape::Char('\t')),
            'f' => (2, Escape::Char('\x0c')),
            'v' => (2, Escape::Char('\x0b')),
            'a' => (2, Escape::Char('\x07')),
            'x' => by_number(2)?,
            'u' => by_number(4)?,
            'U' => by_number(8)?,
            '0'..='9' => {
                let most = if c == '0' || self.is_octal() { 3 } else { 0 };
                let digits = self.rest()[1..].bytes().take(most).take_while(|b| matches!(b, b'0'..=b'7')).count();
                let number = u32::from_str_radix(&self.rest()[1..=digits], 8).ok().filter(|number| *number <= 0o377);
                let number = number.and_then(char::from_u32);
                let number =
                    number.ok_or_else(|| Flaw::at(start, r"an octal number is \0, \0o, \0oo or \ooo to 377"))?;
                (1 + digits, Escape::Char(number))
            }
            'N' => return Err(Flaw::at(start, r"\N{…} is not supported: write the character itself")),
            c if c.is_ascii_punctuation() || c == ' ' || !c.is_ascii() => (1 + c.len_utf8(), Escape::Char(c)),
            c => return Err(Flaw::at(start, format!(r"unknown escape \{c}"))),
        };
        self.at += length;
        Ok(escape)
    }

    /// Three octal digits are a character, whatever groups there are.
    fn is_octal(&self) -> bool {
        let digits = &self.rest().as_bytes()[1..];
        matches!(digits, [b'0'..=b'3', b'0'..=b'7', b'0'..=b'7', ..])
    }

    /// `\1`: what that group captured, again.
    fn numbered_reference(&mut self) -> Result<Last, Flaw> {
        let digits = self.rest()[1..].bytes().take(2).take_while(u8::is_ascii_digit).count();
        let number: usize = self.rest()[1..=digits].parse().unwrap_or(0);
        let group = self.groups.numbered(number).map_err(|reason| Flaw::at(self.at, reason))?;
        self.at += 1 + digits;
        Ok(self.reference(&format!(r"(?:\{group})")))
    }

    /// A reference to a group, written so.
    pub(super) fn reference(&mut self, text: &str) -> Last {
        self.demands = true;
        self.push_apart(text, r"[\s\S]*?");
        Last { unbounded: true, ..Last::ATOM }
    }
}
