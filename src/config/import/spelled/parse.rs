//! From a pattern's text to its tree; a pattern with anything that is not known here is left as it is.

use super::node::{Node, Takes, chain, either};

const DEPTH_LIMIT: usize = 50;

/// The tree of a pattern; `None` for one that is not understood.
pub(super) fn parse(text: &str) -> Option<Node> {
    let mut parser = Parser { rest: text, depth: 0 };
    let node = parser.either()?;
    parser.rest.is_empty().then_some(node)
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn either(&mut self) -> Option<Node> {
        let mut ways = vec![self.chain()?];
        while self.eat("|") {
            ways.push(self.chain()?);
        }
        // An alternative that stands twice stands once.
        Some(either(ways))
    }

    fn chain(&mut self) -> Option<Node> {
        let mut nodes = Vec::new();
        while !self.rest.is_empty() && !self.rest.starts_with(['|', ')']) && !self.rest.starts_with("</F-") {
            let node = self.one()?;
            nodes.push(self.repeated(node)?);
        }
        Some(chain(nodes))
    }

    fn one(&mut self) -> Option<Node> {
        if let Some(tag) = self.tag() {
            return if tag.starts_with("<F-") && !tag.ends_with("/>") {
                self.inside(tag, &format!("</{}", &tag[1..]))
            } else {
                Some(Node::Whole(self.take(tag.len())?.into()))
            };
        }
        let c = self.rest.chars().next()?;
        match c {
            '(' => self.group(),
            '[' => self.class(),
            '\\' => self.escape(),
            '^' | '$' => Some(Node::Whole(self.take(1)?.into())).filter(|_| c == '$'),
            '*' | '+' | '?' => None,
            '.' => Some(Node::One(self.take(1)?.into(), Takes::Open { blank: true })),
            c => Some(Node::One(self.take(c.len_utf8())?.into(), Takes::Spelled(vec![(c, c)], String::new()))),
        }
    }

    fn group(&mut self) -> Option<Node> {
        for (open, negative) in [("(?!", true), ("(?=", false)] {
            if self.rest.starts_with(open) {
                let Node::Group { of, .. } = self.inside(&self.rest[..3], ")")? else { return None };
                return Some(Node::Ahead { negative, of });
            }
        }
        let open = match self.rest.strip_prefix("(?") {
            None => "(",
            Some(inner) if inner.starts_with(':') => "(?:",
            Some(inner) if inner.starts_with("P<") => &self.rest[..self.rest.find('>')? + 1],
            // Flags, conditions, references.
            Some(_) => return None,
        };
        self.inside(open, ")")
    }

    fn inside(&mut self, open: &'a str, close: &str) -> Option<Node> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return None;
        }
        self.take(open.len())?;
        let of = Box::new(self.either()?);
        self.depth -= 1;
        self.eat(close).then(|| Node::Group { open: open.into(), of, close: close.into() })
    }

    fn class(&mut self) -> Option<Node> {
        let negative = self.rest[1..].starts_with('^');
        let start = if negative { 2 } else { 1 };
        let (mut ranges, mut classes) = (Vec::new(), String::new());
        let mut at = start;
        loop {
            let c = self.rest.get(at..)?.chars().next()?;
            if c == ']' && at > start {
                break;
            }
            at += c.len_utf8();
            let mut first = c;
            if c == '\\' {
                first = self.rest.get(at..)?.chars().next()?;
                at += first.len_utf8();
                match first {
                    'd' | 'w' | 's' => {
                        classes.push(first);
                        continue;
                    }
                    c if c.is_alphanumeric() => return None,
                    _ => {}
                }
            }
            let rest = self.rest.get(at..)?;
            let last =
                rest.strip_prefix('-').and_then(|rest| rest.chars().next()).filter(|last| !matches!(last, ']' | '\\'));
            match last {
                Some(last) => {
                    at += 1 + last.len_utf8();
                    ranges.push((first, last));
                }
                None => ranges.push((first, first)),
            }
        }
        let text = self.take(at + 1)?.to_owned();
        Some(Node::One(text, if negative { Takes::Other(ranges, classes) } else { Takes::Spelled(ranges, classes) }))
    }

    fn escape(&mut self) -> Option<Node> {
        let c = self.rest[1..].chars().next()?;
        let text = self.take(1 + c.len_utf8())?.to_owned();
        let takes = match c {
            'd' | 'w' | 's' => Takes::Spelled(Vec::new(), c.into()),
            'S' => Takes::Open { blank: false },
            'D' => Takes::Open { blank: true },
            'W' | 'b' | 'B' | 'Z' | 'A' => return Some(Node::Whole(text)),
            c if c.is_alphanumeric() => return None,
            c => Takes::Spelled(vec![(c, c)], String::new()),
        };
        Some(Node::One(text, takes))
    }

    fn repeated(&mut self, node: Node) -> Option<Node> {
        let (least, most) = match self.rest.chars().next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let inner = self.rest[1..].split_once('}').map(|(inner, _)| inner)?;
                let (least, most) = inner.split_once(',').unwrap_or((inner, inner));
                let bounds = (
                    if least.is_empty() { 0 } else { least.parse().ok()? },
                    if most.is_empty() { None } else { Some(most.parse().ok()?) },
                );
                self.take(inner.len() + 1)?;
                bounds
            }
            _ => return Some(node),
        };
        self.take(1)?;
        let suffix = if self.rest.starts_with(['?', '+']) { self.take(1)? } else { "" };
        // A second sign has no meaning that is known.
        if self.rest.starts_with(['*', '+', '?']) {
            return None;
        }
        Some(Node::Repeat { of: Box::new(node), least, most, suffix: suffix.into() })
    }

    /// A tag that stands here.
    fn tag(&self) -> Option<&'a str> {
        let end = self.rest.strip_prefix('<')?.find('>')? + 2;
        let tag = &self.rest[..end];
        let name = &tag[1..end - 1];
        let word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '/');
        (!name.is_empty() && name.chars().all(word)).then_some(tag)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest.strip_prefix(text);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn take(&mut self, length: usize) -> Option<&'a str> {
        let (taken, rest) = (self.rest.get(..length)?, self.rest.get(length..)?);
        self.rest = rest;
        Some(taken)
    }
}
