//! fail2ban's patterns in the words of the linear-time engine: Python's syntax and the address and session tags.
//!
//! What it does not know it refuses: a pattern never means here something else than where it came from.

use regex_syntax::is_meta_character;

/// What is wrong in a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    /// In bytes from the start of the text.
    pub(super) offset: Option<usize>,
    pub(super) reason: String,
}

impl Flaw {
    pub(super) fn whole(reason: impl Into<String>) -> Flaw {
        Flaw { offset: None, reason: reason.into() }
    }

    fn at(offset: usize, reason: impl Into<String>) -> Flaw {
        Flaw { offset: Some(offset), reason: reason.into() }
    }
}

/// A pattern in the engine's syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Translation {
    pub(super) text: String,
    /// Pairs of a place in `text` and the place in the source it came from, both ascending.
    places: Vec<(usize, usize)>,
}

impl Translation {
    /// The place in the source that became the byte at `offset` of the translation.
    pub(super) fn source_of(&self, offset: usize) -> usize {
        let after = self.places.partition_point(|(out, _)| *out <= offset);
        after.checked_sub(1).map_or(0, |at| self.places[at].1)
    }
}

/// `1.2.3.4`, loosely: what is captured is parsed strictly afterwards.
const IP4: &str = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}";
/// An IPv6 address, loosely; it never ends in a single colon.
const IP6: &str = r"(?:[0-9A-Fa-f]{0,4}:){1,8}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{1,4}|:)";
const NAME: &str = r"[0-9A-Za-z_.^-]*[0-9A-Za-z_]";

/// What a tag without a closing one stands for, and the name of its group.
fn expansion(tag: &str) -> Option<(&'static str, String)> {
    let address = |name: &str| format!(r"\[?(?P<{name}>{IP4}|{IP6})\]?");
    Some(match tag {
        "HOST" => ("host", format!(r"\[?(?P<host>{IP4}|{IP6}|{NAME})\]?")),
        "ADDR" => ("addr", address("addr")),
        "IP4" => ("ip4", format!("(?P<ip4>{IP4})")),
        "IP6" => ("ip6", format!(r"\[?(?P<ip6>{IP6})\]?")),
        "DNS" => ("dns", format!("(?P<dns>{NAME})")),
        "CIDR" => ("cidr", "(?P<cidr>[0-9]{1,3})".into()),
        "SUBNET" => ("addr", format!("{}(?:/(?P<cidr>[0-9]{{1,3}}))?", address("addr"))),
        "ID" => ("fid", r"(?P<fid>\S+)".into()),
        "PORT" => ("fport", r"(?P<fport>\w+)".into()),
        _ => return None,
    })
}

/// Translates one pattern.
pub(super) fn translate(source: &str) -> Result<Translation, Flaw> {
    let mut translator = Translator { source, at: 0, out: String::new(), places: vec![], open: vec![], names: vec![] };
    translator.run()?;
    Ok(Translation { text: translator.out, places: translator.places })
}

struct Translator<'a> {
    source: &'a str,
    at: usize,
    out: String,
    places: Vec<(usize, usize)>,
    /// What is open: where, and the tag's name where it is no plain parenthesis.
    open: Vec<(usize, Option<&'a str>)>,
    names: Vec<String>,
}

impl<'a> Translator<'a> {
    fn run(&mut self) -> Result<(), Flaw> {
        let mut repeatable = false;
        while let Some(c) = self.rest().chars().next() {
            self.places.push((self.out.len(), self.at));
            repeatable = match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                ')' => self.close_group()?,
                '<' => self.tag()?,
                '*' | '+' | '?' => self.repeat(1, c.into(), repeatable)?,
                '{' => self.braces(repeatable)?,
                '}' => self.literal(c),
                '^' | '$' | '|' => self.plain(c, false),
                _ => self.plain(c, true),
            };
        }
        match self.open.pop() {
            Some((at, None)) => Err(Flaw::at(at, "this parenthesis is never closed")),
            Some((at, Some(tag))) => Err(Flaw::at(at, format!("<F-{tag}> is never closed with </F-{tag}>"))),
            None => Ok(()),
        }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn plain(&mut self, c: char, repeatable: bool) -> bool {
        self.out.push(c);
        self.at += c.len_utf8();
        repeatable
    }

    fn literal(&mut self, c: char) -> bool {
        self.push_literal(c);
        self.at += c.len_utf8();
        true
    }

    fn push_literal(&mut self, c: char) {
        if is_meta_character(c) {
            self.out.push('\\');
        }
        self.out.push(c);
    }

    /// `\…` outside a class.
    fn escape(&mut self) -> Result<bool, Flaw> {
        let start = self.at;
        let c = self.rest()[1..].chars().next().ok_or_else(|| Flaw::at(start, "nothing follows this backslash"))?;
        match c {
            'b' | 'B' | 'A' | 'Z' | 'z' => {
                self.out.push('\\');
                self.out.push(if c == 'Z' { 'z' } else { c });
                self.at += 2;
                return Ok(false);
            }
            _ => self.common_escape(c)?,
        }
        Ok(true)
    }

    /// `\…` as it reads inside and outside of a class.
    fn common_escape(&mut self, c: char) -> Result<(), Flaw> {
        let start = self.at;
        match c {
            'd' | 'D' | 'w' | 'W' | 's' | 'S' | 'n' | 'r' | 't' | 'f' | 'v' | 'a' => {
                self.out.push('\\');
                self.out.push(c);
            }
            'x' => {
                let digits = self.rest().get(2..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                let digits = digits.ok_or_else(|| Flaw::at(start, r"\x needs two hexadecimal digits"))?;
                // Python means the character of that number: above 7F two bytes of UTF-8, which a class cannot hold.
                if !matches!(digits.as_bytes()[0], b'0'..=b'7') {
                    return Err(Flaw::at(start, r"\x above 7f: write the character itself"));
                }
                self.out.push_str(r"\x");
                self.out.push_str(digits);
                self.at += 2;
            }
            '0'..='9' => {
                let reason = "back-references and octal numbers are not supported: the engine is linear-time";
                return Err(Flaw::at(start, reason));
            }
            c if c.is_ascii_punctuation() || c == ' ' => self.push_literal(c),
            c => return Err(Flaw::at(start, format!(r"unknown escape \{c}"))),
        }
        self.at += 1 + c.len_utf8();
        Ok(())
    }

    /// `[…]`: in Python's classes only `]`, `\`, `^` in front and `-` between are special.
    fn class(&mut self) -> Result<bool, Flaw> {
        let start = self.at;
        self.plain('[', false);
        if self.rest().starts_with('^') {
            self.plain('^', false);
        }
        let mut first = true;
        loop {
            let c = self.rest().chars().next().ok_or_else(|| Flaw::at(start, "this class is never closed"))?;
            self.places.push((self.out.len(), self.at));
            match c {
                ']' if !first => break,
                '\\' => match self.rest()[1..].chars().next() {
                    Some('b') => {
                        self.out.push_str(r"\x08");
                        self.at += 2;
                    }
                    Some(c) => self.common_escape(c)?,
                    None => return Err(Flaw::at(self.at, "nothing follows this backslash")),
                },
                '-' => {
                    let between = !first && !matches!(self.rest()[1..].chars().next(), None | Some(']'));
                    if between {
                        self.plain(c, false);
                    } else {
                        self.out.push('\\');
                        self.plain(c, false);
                    }
                }
                c if !c.is_ascii() => {
                    return Err(Flaw::at(self.at, "a class holds bytes: write this character outside, with |"));
                }
                c => {
                    self.literal(c);
                }
            }
            first = false;
        }
        Ok(self.plain(']', true))
    }

    fn group(&mut self) -> Result<bool, Flaw> {
        let start = self.at;
        let rest = self.rest();
        let refused = |reason: &str| Err(Flaw::at(start, reason));
        let Some(inner) = rest.strip_prefix("(?") else {
            self.open.push((start, None));
            return Ok(self.plain('(', false));
        };
        if inner.starts_with(['=', '!']) || inner.starts_with("<=") || inner.starts_with("<!") {
            return refused("look-around is not supported: the engine is linear-time");
        }
        if let Some(named) = inner.strip_prefix("P<") {
            let name = named.split('>').next().filter(|name| named.len() > name.len()).unwrap_or_default();
            let valid = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if name.is_empty() || !valid || name.as_bytes()[0].is_ascii_digit() {
                return refused("(?P<…> needs a name of letters, digits and _");
            }
            self.name_group(start, name)?;
            self.open.push((start, None));
            self.out.push_str(&rest[..name.len() + 5]);
            self.at += name.len() + 5;
            return Ok(false);
        }
        match inner.as_bytes().first() {
            Some(b'P') => return refused("back-references are not supported: the engine is linear-time"),
            Some(b'>') => return refused("atomic groups are not supported: the engine never backtracks"),
            Some(b'(') => return refused("conditionals are not supported: write both cases with |"),
            Some(b'<') => return refused("a group's name is written (?P<name>…)"),
            Some(b'#') => {
                let end = inner.find(')').ok_or_else(|| Flaw::at(start, "this comment is never closed"))?;
                self.at += end + 3;
                return Ok(false);
            }
            _ => {}
        }
        let flags = inner.find(|c: char| !matches!(c, 'i' | 's' | '-'));
        let (length, end) = flags.map_or((inner.len(), None), |at| (at, inner[at..].chars().next()));
        match end {
            Some(':') => self.open.push((start, None)),
            Some(')') if length > 0 => {}
            _ => return refused("of Python's flags only i and s have a meaning here: (?i), (?i:…)"),
        }
        self.out.push_str(&rest[..length + 3]);
        self.at += length + 3;
        Ok(false)
    }

    fn close_group(&mut self) -> Result<bool, Flaw> {
        match self.open.pop() {
            Some((_, None)) => Ok(self.plain(')', true)),
            Some((_, Some(tag))) => Err(Flaw::at(self.at, format!("closes a parenthesis from before <F-{tag}>"))),
            None => Err(Flaw::at(self.at, "closes a parenthesis that was never opened")),
        }
    }

    /// `<…>`: a tag where it looks like one, else a plain character.
    fn tag(&mut self) -> Result<bool, Flaw> {
        let start = self.at;
        let inner = self.rest()[1..].split('>').next().filter(|inner| inner.len() + 1 < self.rest().len());
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/');
        let named =
            |inner: &&str| inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') && inner.chars().all(word);
        let Some(inner) = inner.filter(named) else {
            return Ok(self.literal('<'));
        };
        self.at += inner.len() + 2;
        let unknown = || Flaw::at(start, format!(r"unknown tag <{inner}>; a plain < is written \<"));
        let alone = inner.strip_suffix('/');
        if let Some(tag) = inner.strip_prefix("/F-") {
            return match self.open.pop() {
                Some((_, Some(opened))) if opened == tag => {
                    self.out.push(')');
                    Ok(true)
                }
                _ => Err(Flaw::at(start, format!("</F-{tag}> closes no <F-{tag}>, or one around a parenthesis"))),
            };
        }
        let whole = alone.map_or_else(|| (!inner.starts_with("F-")).then_some(inner), |tag| tag.strip_prefix("F-"));
        if let Some(tag) = whole {
            let (name, text) =
                expansion(tag).filter(|_| alone.is_some() || !matches!(tag, "ID" | "PORT")).ok_or_else(unknown)?;
            self.name_group(start, name)?;
            self.out.push_str("(?:");
            self.out.push_str(&text);
            self.out.push(')');
            return Ok(true);
        }
        let tag = inner.strip_prefix("F-").filter(|_| alone.is_none()).ok_or_else(unknown)?;
        let valid = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if tag.is_empty() || !tag.bytes().all(valid) {
            return Err(unknown());
        }
        if tag == "MLFID" || tag.starts_with("TUPLE_") {
            return Err(Flaw::at(
                start,
                format!("<F-{tag}> is not supported: session = names the field that tells sessions apart"),
            ));
        }
        let name = group_name(tag);
        self.name_group(start, &name)?;
        self.open.push((start, Some(tag)));
        self.out.push_str(&format!("(?P<{name}>"));
        Ok(false)
    }

    fn name_group(&mut self, start: usize, name: &str) -> Result<(), Flaw> {
        if self.names.iter().any(|known| known == name) {
            return Err(Flaw::at(start, format!("this pattern captures {name:?} twice")));
        }
        self.names.push(name.into());
        Ok(())
    }

    /// `{m,n}` where it repeats something, else plain braces.
    fn braces(&mut self, repeatable: bool) -> Result<bool, Flaw> {
        let inner = self.rest()[1..].split('}').next().filter(|inner| inner.len() + 1 < self.rest().len());
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let Some(inner) = inner else { return Ok(self.literal('{')) };
        let text = match inner.split_once(',') {
            Some((from, to)) if digits(from) && digits(to) => {
                format!("{{{},{to}}}", if from.is_empty() { "0" } else { from })
            }
            None if !inner.is_empty() && digits(inner) => format!("{{{inner}}}"),
            _ => return Ok(self.literal('{')),
        };
        self.repeat(inner.len() + 2, text, repeatable)
    }

    /// A repetition of `length` bytes of the source, which reads `text`, with its `?` where it is lazy.
    fn repeat(&mut self, length: usize, text: String, repeatable: bool) -> Result<bool, Flaw> {
        if !repeatable {
            return Err(Flaw::at(self.at, "nothing to repeat here"));
        }
        self.out.push_str(&text);
        self.at += length;
        match self.rest().as_bytes().first() {
            Some(b'?') => {
                self.plain('?', false);
            }
            Some(b'+') => {
                return Err(Flaw::at(self.at, "possessive repetition is not supported: the engine never backtracks"));
            }
            _ => {}
        }
        Ok(false)
    }
}

/// The name of the group that a tag `<F-…>` opens, as fail2ban calls it.
fn group_name(tag: &str) -> String {
    match tag {
        "ID" => "fid".into(),
        "PORT" => "fport".into(),
        other => other.to_ascii_lowercase(),
    }
}
