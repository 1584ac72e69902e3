//! A regular expression as a tree, its derivative by a character, and its text.

use std::collections::BTreeMap;
use std::fmt;

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// Matches nothing at all.
    Never,
    /// Matches the empty text.
    Empty,
    /// One character.
    One(String, Takes),
    /// What may not be looked into: a tag, a reference, the end of the text.
    Whole(String),
    Chain(Vec<Node>),
    Either(Vec<Node>),
    Repeat {
        of: Box<Node>,
        least: u32,
        most: Option<u32>,
        suffix: String,
    },
    /// Parentheses or a tag with its end.
    Group {
        open: String,
        of: Box<Node>,
        close: String,
    },
    Ahead {
        negative: bool,
        of: Box<Node>,
    },
}

/// Which characters one place takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// These, spelled: characters, and classes by their letters (`d`, `w`, `s`).
    Spelled(Vec<(char, char)>, String),
    /// All but blanks, or all: letters only, for us.
    Open { blank: bool },
    /// All but these: letters only, for us.
    Other(Vec<(char, char)>, String),
}

/// Whether it matches depends on what comes later, or would take more steps than there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undecided;

/// How many parts may still be looked at and written again, for all characters of a prefix together.
#[derive(Debug)]
pub(super) struct Steps(usize);

impl Steps {
    pub(super) fn new() -> Steps {
        /// No pattern that anybody wrote needs a tenth of it.
        const LIMIT: usize = 200_000;
        Steps(LIMIT)
    }

    fn take(&mut self, count: usize) -> Result<(), Undecided> {
        self.0 = self.0.checked_sub(count).ok_or(Undecided)?;
        Ok(())
    }
}

impl Takes {
    fn takes(&self, c: char) -> bool {
        let among = |ranges: &[(char, char)], classes: &str| {
            ranges.iter().any(|(first, last)| (*first..=*last).contains(&c))
                || classes.chars().any(|class| match class {
                    'd' => c.is_ascii_digit(),
                    'w' => c.is_ascii_alphanumeric() || c == '_',
                    _ => c == ' ',
                })
        };
        match self {
            Takes::Spelled(ranges, classes) => among(ranges, classes),
            Takes::Open { blank } => c.is_ascii_alphabetic() || c == ' ' && *blank,
            Takes::Other(ranges, classes) => c.is_ascii_alphabetic() && !among(ranges, classes),
        }
    }
}

impl Node {
    /// What is left of it behind `c`.
    pub(super) fn behind(&self, c: char, steps: &mut Steps) -> Result<Node, Undecided> {
        steps.take(1)?;
        Ok(match self {
            Node::Never | Node::Empty | Node::Whole(_) | Node::Ahead { .. } => Node::Never,
            Node::One(_, takes) => {
                if takes.takes(c) {
                    Node::Empty
                } else {
                    Node::Never
                }
            }
            Node::Chain(nodes) => return chain_behind(nodes, c, steps),
            Node::Either(nodes) => {
                either(nodes.iter().map(|node| node.behind(c, steps)).collect::<Result<Vec<_>, _>>()?)
            }
            Node::Repeat { of, least, most, suffix } => {
                let once = of.behind(c, steps)?;
                steps.take(of.size())?;
                let rest = Node::Repeat {
                    of: of.clone(),
                    least: least.saturating_sub(1),
                    most: most.map(|most| most.saturating_sub(1)),
                    suffix: suffix.clone(),
                };
                if *most == Some(0) { Node::Never } else { chain(vec![once, rest]) }
            }
            Node::Group { open, of, close } => match of.behind(c, steps)? {
                Node::Never => Node::Never,
                Node::Empty => Node::Empty,
                of if open == "(?:" => of,
                of => Node::Group { open: open.clone(), of: Box::new(of), close: close.clone() },
            },
        })
    }

    /// Does it match the empty text, with `c` behind it?
    fn is_empty_before(&self, c: char, steps: &mut Steps) -> Result<bool, Undecided> {
        steps.take(1)?;
        Ok(match self {
            Node::Empty => true,
            Node::Never | Node::One(..) | Node::Whole(_) => false,
            Node::Chain(nodes) => all(nodes, c, steps)?,
            Node::Either(nodes) => {
                let mut any = false;
                for node in nodes {
                    any |= node.is_empty_before(c, steps)?;
                }
                any
            }
            Node::Repeat { of, least, .. } => *least == 0 || of.is_empty_before(c, steps)?,
            Node::Group { of, .. } => of.is_empty_before(c, steps)?,
            Node::Ahead { negative, of } => {
                if of.is_empty_before(c, steps)? {
                    !negative
                } else if of.behind(c, steps)? == Node::Never {
                    *negative
                } else {
                    return Err(Undecided);
                }
            }
        })
    }

    /// Is what it begins with a group that may be missing?
    pub(super) fn may_lack_its_first_group(&self) -> bool {
        match self {
            Node::Chain(nodes) => nodes.first().is_some_and(Node::may_lack_its_first_group),
            Node::Repeat { of, least: 0, .. } => matches!(**of, Node::Group { .. }),
            _ => false,
        }
    }

    /// The number of its parts.
    fn size(&self) -> usize {
        let all = |nodes: &[Node]| nodes.iter().map(Node::size).sum::<usize>();
        1 + match self {
            Node::Never | Node::Empty | Node::One(..) | Node::Whole(_) => 0,
            Node::Chain(nodes) | Node::Either(nodes) => all(nodes),
            Node::Repeat { of, .. } | Node::Group { of, .. } | Node::Ahead { of, .. } => of.size(),
        }
    }

    /// The named groups and tags in it, and how often each stands there.
    pub(super) fn names(&self) -> BTreeMap<String, usize> {
        let text = self.to_string();
        let mut names = BTreeMap::new();
        for part in text.split('<').skip(1) {
            let name = part.split('>').next().unwrap_or_default();
            *names.entry(name.to_owned()).or_insert(0) += 1;
        }
        names
    }
}

fn all(nodes: &[Node], c: char, steps: &mut Steps) -> Result<bool, Undecided> {
    for node in nodes {
        if !node.is_empty_before(c, steps)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The parts that may take the character, as alternatives, and the parts behind all of them once.
fn chain_behind(nodes: &[Node], c: char, steps: &mut Steps) -> Result<Node, Undecided> {
    let mut live: Vec<(usize, Node)> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let rest = node.behind(c, steps)?;
        if rest != Node::Never {
            live.push((at, rest));
        }
        if !node.is_empty_before(c, steps)? {
            break;
        }
    }
    let Some((last, _)) = live.last() else { return Ok(Node::Never) };
    let last = *last;
    for (at, _) in &live {
        steps.take(nodes[at + 1..=last].iter().map(Node::size).sum())?;
    }
    steps.take(nodes[last + 1..].iter().map(Node::size).sum())?;
    let ways = live
        .into_iter()
        .map(|(at, rest)| chain(std::iter::once(rest).chain(nodes[at + 1..=last].iter().cloned()).collect()));
    let ways = either(ways.collect());
    Ok(chain(std::iter::once(ways).chain(nodes[last + 1..].iter().cloned()).collect()))
}

/// One behind the other.
pub(super) fn chain(nodes: Vec<Node>) -> Node {
    let mut flat = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node {
            Node::Never => return Node::Never,
            Node::Empty | Node::Repeat { most: Some(0), .. } => {}
            Node::Chain(inner) => flat.extend(inner),
            node => flat.push(node),
        }
    }
    match flat.len() {
        0 => Node::Empty,
        1 => flat.swap_remove(0),
        _ => Node::Chain(flat),
    }
}

/// One of them.
pub(super) fn either(nodes: Vec<Node>) -> Node {
    let mut different: Vec<Node> = Vec::with_capacity(nodes.len());
    for node in nodes {
        if node != Node::Never && !different.contains(&node) {
            different.push(node);
        }
    }
    match different.len() {
        0 => Node::Never,
        1 => different.swap_remove(0),
        _ => Node::Either(different),
    }
}

/// The same alternatives, with what all of them end with behind them.
pub(super) fn shared(nodes: Vec<Node>) -> Node {
    let parts = |node| match node {
        Node::Chain(nodes) => nodes,
        Node::Empty => Vec::new(),
        node => vec![node],
    };
    let mut ways: Vec<Vec<Node>> = nodes.into_iter().map(parts).collect();
    let mut tail = Vec::new();
    while let Some(last) = ways.first().and_then(|way| way.last()).cloned()
        && ways.iter().all(|way| way.last() == Some(&last))
    {
        ways.iter_mut().for_each(|way| drop(way.pop()));
        tail.insert(0, last);
    }
    tail.insert(0, either(ways.into_iter().map(chain).collect()));
    chain(tail)
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Never => f.write_str("(?!)"),
            Node::Empty => Ok(()),
            Node::One(text, _) | Node::Whole(text) => f.write_str(text),
            Node::Chain(nodes) => nodes.iter().try_for_each(|node| match node {
                Node::Either(_) => write!(f, "(?:{node})"),
                node => node.fmt(f),
            }),
            Node::Either(nodes) => {
                for (at, node) in nodes.iter().enumerate() {
                    write!(f, "{}{node}", if at > 0 { "|" } else { "" })?;
                }
                Ok(())
            }
            Node::Repeat { of, least, most, suffix } => {
                match **of {
                    Node::One(..) | Node::Group { .. } | Node::Whole(_) => of.fmt(f)?,
                    _ => write!(f, "(?:{of})")?,
                }
                match (least, most) {
                    (0, None) => f.write_str("*")?,
                    (1, None) => f.write_str("+")?,
                    (0, Some(1)) => f.write_str("?")?,
                    (least, None) => write!(f, "{{{least},}}")?,
                    (least, Some(most)) if least == most => write!(f, "{{{least}}}")?,
                    (least, Some(most)) => write!(f, "{{{least},{most}}}")?,
                }
                f.write_str(suffix)
            }
            Node::Group { open, of, close } => write!(f, "{open}{of}{close}"),
            Node::Ahead { negative, of } => write!(f, "(?{}{of})", if *negative { '!' } else { '=' }),
        }
    }
}
