//! `(…)`: groups, names, flags, look-around, conditionals, and references to groups.

use super::{DEPTH_LIMIT, Flags, Flaw, Last, Translator};

/// What is open.
#[derive(Debug)]
pub(super) struct Open<'a> {
    /// Where it opens.
    pub(super) at: usize,
    pub(super) kind: Kind<'a>,
    /// The group's number, where it captures.
    pub(super) number: Option<usize>,
    /// The flags outside of it.
    flags: Flags,
    /// Is there an unbounded repetition in it?
    pub(super) unbounded: bool,
    /// Where in it something stands that looks over the rest of the text.
    pub(super) dear: Option<usize>,
    /// About how many states of an automaton stand in it.
    pub(super) states: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Plain,
    /// `<F-…>`, by its name.
    Tag(&'a str),
    /// Look-ahead or look-behind; where it begins in the script for one that is a look-behind.
    Look {
        behind: Option<usize>,
    },
    Atomic,
    /// `(?(name)…|…)`, and how many `|` of its own it had.
    Conditional {
        bars: usize,
    },
}

/// The groups of a pattern: Python counts others than we do, because an address is several there.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// For each of ours, from 1: its name, and whether it is closed.
    own: Vec<(Option<String>, bool)>,
    /// For each of Python's, from 1: which of ours it is.
    counted: Vec<Option<usize>>,
    /// From here on Python's numbers depend on how it treats names of hosts.
    uncertain: Option<usize>,
}

impl Groups {
    fn open(&mut self, name: Option<&str>) -> usize {
        self.own.push((name.map(str::to_owned), false));
        self.counted.push(Some(self.own.len()));
        self.own.len()
    }

    /// An address: one group of ours, several of fail2ban's.
    pub(super) fn address(&mut self, names: &[&str], theirs: usize, certain: bool) {
        self.own.extend(names.iter().map(|name| (Some((*name).to_owned()), true)));
        if !certain {
            self.uncertain.get_or_insert(self.counted.len());
        }
        self.counted.extend(std::iter::repeat_n(None, theirs));
    }

    fn close(&mut self, number: usize) {
        self.own[number - 1].1 = true;
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.own.iter().any(|(known, _)| known.as_deref() == Some(name))
    }

    /// Which of our groups Python's number means.
    pub(super) fn numbered(&self, number: usize) -> Result<usize, String> {
        if self.uncertain.is_some_and(|known| number > known) {
            return Err(format!("which group is number {number} depends on usedns: name it (?P<name>…), (?P=name)"));
        }
        let group = number.checked_sub(1).and_then(|at| self.counted.get(at)).copied();
        let group = group.ok_or_else(|| format!("no group {number} stands before"))?;
        let group = group.ok_or_else(|| format!("group {number} is part of an address: name what is meant"))?;
        self.closed(group).then_some(group).ok_or_else(|| format!("group {number} is still open here"))
    }

    fn named(&self, name: &str) -> Result<usize, String> {
        let at = self.own.iter().position(|(known, _)| known.as_deref() == Some(name));
        let group = at.map(|at| at + 1).ok_or_else(|| format!("no group named {name:?} stands before"))?;
        self.closed(group).then_some(group).ok_or_else(|| format!("the group {name:?} is still open here"))
    }

    fn closed(&self, group: usize) -> bool {
        self.own.get(group - 1).is_some_and(|(_, closed)| *closed)
    }
}

impl<'a> Translator<'a> {
    pub(super) fn group(&mut self) -> Result<Last, Flaw> {
        let start = self.at;
        let refused = |reason: &str| Err(Flaw::at(start, reason));
        for begin in ["(", "(?:"] {
            // `((?i)…)`, which fail2ban reads as `(?i:…)`.
            let flagged = self.rest().strip_prefix(begin).and_then(|rest| rest.strip_prefix("(?"));
            let flags = flagged.and_then(|flagged| {
                let length = flagged.bytes().take_while(u8::is_ascii_lowercase).count();
                (length > 0 && flagged.as_bytes().get(length) == Some(&b')')).then(|| &flagged[..length])
            });
            if let Some(flags) = flags {
                self.enter_flagged(start, flags, "")?;
                self.at += begin.len() + flags.len() + 3;
                return Ok(Last::default());
            }
        }
        let Some(inner) = self.rest().strip_prefix("(?") else {
            let number = self.groups.open(None);
            self.enter(Kind::Plain, Some(number))?;
            return Ok(self.syntax(1, "(", Last::default()));
        };
        if let Some(named) = inner.strip_prefix("P<") {
            let name = named.split('>').next().filter(|name| named.len() > name.len()).unwrap_or_default();
            if !is_name(name) {
                return refused("(?P<…> needs a name of letters, digits and _");
            }
            return self.named_group(start, name.len() + 5, name, Kind::Plain);
        }
        if let Some(named) = inner.strip_prefix("P=") {
            let name = named.split(')').next().filter(|name| named.len() > name.len()).unwrap_or_default();
            self.groups.named(name).map_err(|reason| Flaw::at(start, reason))?;
            self.at += name.len() + 5;
            return Ok(self.reference(&format!("(?P={name})")));
        }
        for look in ["=", "!", "<=", "<!"] {
            if inner.starts_with(look) {
                return self.look(look);
            }
        }
        match inner.as_bytes().first() {
            Some(b'>') => {
                self.demands = true;
                self.enter(Kind::Atomic, None)?;
                self.push_apart("(?>", "(?:");
                self.at += 3;
                Ok(Last::default())
            }
            Some(b'(') => self.conditional(&inner[1..]),
            Some(b'P') => refused("of Python's (?P… there are (?P<name>…) and (?P=name)"),
            Some(b'<') => refused("a group's name is written (?P<name>…)"),
            _ => self.flagged(inner),
        }
    }

    /// Opens a group with a name; `length` bytes of the source say so.
    pub(super) fn named_group(
        &mut self,
        start: usize,
        length: usize,
        name: &str,
        kind: Kind<'a>,
    ) -> Result<Last, Flaw> {
        self.free(start, name)?;
        let number = self.groups.open(Some(name));
        self.enter(kind, Some(number))?;
        Ok(self.syntax(length, &format!("(?P<{name}>"), Last::default()))
    }

    /// A name that no group has yet.
    pub(super) fn free(&self, start: usize, name: &str) -> Result<(), Flaw> {
        if self.groups.has(name) {
            return Err(Flaw::at(start, format!("this pattern captures {name:?} twice")));
        }
        Ok(())
    }

    fn enter(&mut self, kind: Kind<'a>, number: Option<usize>) -> Result<(), Flaw> {
        if self.open.len() >= DEPTH_LIMIT {
            return Err(Flaw::at(self.at, format!("more than {DEPTH_LIMIT} parentheses are open here")));
        }
        let flags = self.flags;
        self.open.push(Open { at: self.at, kind, number, flags, unbounded: false, dear: None, states: 0 });
        Ok(())
    }

    fn look(&mut self, look: &str) -> Result<Last, Flaw> {
        self.demands = true;
        self.looks_behind_end |= look == "!";
        let behind = look.starts_with('<').then_some(self.full.text.len());
        self.enter(Kind::Look { behind }, None)?;
        self.push_apart(&format!("(?{look}"), "");
        self.hidden += 1;
        self.at += 2 + look.len();
        Ok(Last::default())
    }

    /// `(?(name)yes|no)`, from behind the second parenthesis.
    fn conditional(&mut self, inner: &str) -> Result<Last, Flaw> {
        let start = self.at;
        let unclear = || Flaw::at(start, "a conditional names its group: (?(name)yes|no)");
        let name = inner.split(')').next().filter(|name| inner.len() > name.len()).ok_or_else(unclear)?;
        let group = match name.parse::<usize>() {
            Ok(number) => self.groups.numbered(number).map(|group| group.to_string()),
            Err(_) if is_name(name) => self.groups.named(name).map(|_| format!("<{name}>")),
            Err(_) => return Err(unclear()),
        };
        let group = group.map_err(|reason| Flaw::at(start, reason))?;
        self.demands = true;
        self.enter(Kind::Conditional { bars: 0 }, None)?;
        self.push_apart(&format!("(?({group})"), "(?:");
        self.at += name.len() + 4;
        Ok(Last::default())
    }

    /// `(?i)`, `(?i:…)`, `(?i-s:…)`.
    fn flagged(&mut self, inner: &str) -> Result<Last, Flaw> {
        let start = self.at;
        let known = |c: char| c.is_ascii_alphabetic() || c == '-';
        let length = inner.find(|c| !known(c)).unwrap_or(inner.len());
        let flags = &inner[..length];
        let (set, unset) = flags.split_once('-').unwrap_or((flags, ""));
        match inner.as_bytes().get(length) {
            Some(b':') => {
                self.enter_flagged(start, set, unset)?;
                self.at += length + 3;
                Ok(Last::default())
            }
            Some(b')') if length > 0 => {
                // Elsewhere Python, by its version, reads them as if they stood in front, or not at all.
                if self.full.text.len() > self.flags_end {
                    let reason =
                        "flags for the whole pattern stand at its very beginning; for a part of it write (?i:…)";
                    return Err(Flaw::at(start, reason));
                }
                if flags.contains('-') {
                    return Err(Flaw::at(start, "flags for the whole pattern cannot be taken away"));
                }
                let text = self.flags_as_written(start, set, "")?;
                self.at += length + 3;
                if !text.is_empty() {
                    self.push(&format!("(?{text})"));
                }
                self.flags_end = self.full.text.len();
                Ok(Last::default())
            }
            _ => Err(Flaw::at(start, "no group of Python's begins so; a ( that is meant is written \\(")),
        }
    }

    fn enter_flagged(&mut self, start: usize, set: &str, unset: &str) -> Result<(), Flaw> {
        let outside = self.flags;
        let text = self.flags_as_written(start, set, unset)?;
        let inside = std::mem::replace(&mut self.flags, outside);
        self.enter(Kind::Plain, None)?;
        self.flags = inside;
        self.push(&format!("(?{text}:"));
        Ok(())
    }

    /// Takes the flags over and gives those that the engines take.
    fn flags_as_written(&mut self, start: usize, set: &str, unset: &str) -> Result<String, Flaw> {
        let mut texts = [String::new(), String::new()];
        for (text, (flags, on)) in texts.iter_mut().zip([(set, true), (unset, false)]) {
            for flag in flags.chars() {
                match flag {
                    'i' => self.flags.ignore_case = on,
                    'x' => self.flags.verbose = on,
                    's' | 'm' => {}
                    // Classes know ASCII alone anyhow.
                    'a' | 'u' if on => {}
                    _ => {
                        let reason = "Python's flags are i, m, s and x, and a and u, which change nothing here";
                        return Err(Flaw::at(start, reason));
                    }
                }
                if matches!(flag, 'i' | 's' | 'm') && !text.contains(flag) {
                    text.push(flag);
                }
            }
        }
        let [set, unset] = texts;
        Ok(if unset.is_empty() { set } else { format!("{set}-{unset}") })
    }

    pub(super) fn close_group(&mut self) -> Result<Last, Flaw> {
        match self.open.pop() {
            Some(Open { kind: Kind::Tag(tag), .. }) => {
                Err(Flaw::at(self.at, format!("closes a parenthesis from before <F-{tag}>")))
            }
            Some(open) => {
                let last = self.leave(open);
                self.at += 1;
                Ok(last)
            }
            None => Err(Flaw::at(self.at, "closes a parenthesis that was never opened; if it is meant, write \\)")),
        }
    }

    /// Closes a group.
    pub(super) fn leave(&mut self, open: Open<'a>) -> Last {
        let states = open.states.saturating_add(2);
        let mut last = Last { repeatable: true, unbounded: open.unbounded, dear: open.dear, states };
        match open.kind {
            Kind::Plain | Kind::Tag(_) => self.push(")"),
            Kind::Conditional { bars: 0 } => self.push_apart(")", "|)"),
            Kind::Conditional { .. } => self.push(")"),
            Kind::Atomic => {
                self.push(")");
                last.dear = last.dear.or(open.unbounded.then_some(open.at));
            }
            Kind::Look { behind } => {
                self.full.text.push(')');
                self.hidden -= 1;
                self.behinds.extend(behind.map(|from| (open.at, from..self.full.text.len())));
                last.repeatable = false;
                last.dear = last.dear.or(open.unbounded.then_some(open.at));
            }
        }
        if let Some(number) = open.number {
            self.groups.close(number);
        }
        if let Some(around) = self.open.last_mut() {
            around.unbounded |= open.unbounded;
            around.dear = around.dear.or(last.dear);
        }
        self.flags = open.flags;
        last
    }
}

fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    name.bytes().next().is_some_and(letter) && name.bytes().all(|b| letter(b) || b.is_ascii_digit())
}
