//! `<…>`: fail2ban's tags.

use super::group::Kind;
use super::{Flaw, Last, Translator};

/// `1.2.3.4`, loosely: what is captured is parsed strictly afterwards, and counted repetitions cost the engine much.
const IP4: &str = r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+";
/// An IPv6 address, loosely; it never ends in a single colon.
const IP6: &str = r"(?:[0-9A-Fa-f]*:)+(?:[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|[0-9A-Fa-f]+|:)";
const NAME: &str = r"[0-9A-Za-z_.^-]*[0-9A-Za-z_]";

/// A tag without a closing one.
struct Whole {
    /// The groups it captures.
    names: &'static [&'static str],
    /// How many groups fail2ban has in its place, and whether that is so whatever `usedns` says.
    theirs: usize,
    certain: bool,
    text: String,
}

fn whole(tag: &str) -> Option<Whole> {
    let address = |name: &str, cidr: &str| format!(r"\[?(?P<{name}>{IP4}|{IP6}){cidr}\]?");
    let (names, theirs, text): (&[&str], _, _) = match tag {
        "HOST" => (&["host"], 3, format!(r"\[?(?P<host>{IP4}|{IP6}|{NAME})\]?")),
        "ADDR" => (&["addr"], 2, address("addr", "")),
        "IP4" => (&["ip4"], 1, format!("(?P<ip4>{IP4})")),
        "IP6" => (&["ip6"], 1, format!(r"\[?(?P<ip6>{IP6})\]?")),
        "DNS" => (&["dns"], 1, format!("(?P<dns>{NAME})")),
        "CIDR" => (&["cidr"], 1, "(?P<cidr>[0-9]{1,3})".into()),
        "SUBNET" => (&["addr", "cidr"], 3, address("addr", "(?:/(?P<cidr>[0-9]{1,3}))?")),
        "ID" => (&["fid"], 1, r"(?P<fid>\S+)".into()),
        "PORT" => (&["fport"], 1, r"(?P<fport>\w+)".into()),
        _ => return None,
    };
    Some(Whole { names, theirs, certain: tag != "HOST", text })
}

impl Translator<'_> {
    /// `<…>`: a tag where it looks like one, else a plain character.
    pub(super) fn tag(&mut self) -> Result<Last, Flaw> {
        let start = self.at;
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/');
        let inner = self.rest()[1..].split(|c: char| !word(c)).next();
        let named = |inner: &&str| {
            let closed = self.rest().as_bytes().get(inner.len() + 1) == Some(&b'>');
            closed && inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        };
        let Some(inner) = inner.filter(named) else {
            return Ok(self.literal('<'));
        };
        let length = inner.len() + 2;
        let unknown = || Flaw::at(start, format!(r"unknown tag <{inner}>; a plain < is written \<"));
        let alone = inner.strip_suffix('/');
        if let Some(tag) = inner.strip_prefix("/F-") {
            return match self.open.pop_if(|open| open.kind == Kind::Tag(tag)) {
                Some(open) => {
                    self.at += length;
                    Ok(self.leave(open))
                }
                None => Err(Flaw::at(start, format!("</F-{tag}> closes no <F-{tag}>, or one around a parenthesis"))),
            };
        }
        if inner == "SKIPLINES" {
            let reason = "<SKIPLINES> is not supported: an entry is one text; what other entries say of the same attempt \
                          belongs to its session (session = \"_PID\", or <F-MLFID>)";
            return Err(Flaw::at(start, reason));
        }
        let single = alone.map_or_else(|| (!inner.starts_with("F-")).then_some(inner), |tag| tag.strip_prefix("F-"));
        if let Some(tag) = single {
            let known = whole(tag).filter(|_| alone.is_some() || !matches!(tag, "ID" | "PORT")).ok_or_else(unknown)?;
            known.names.iter().try_for_each(|name| self.free(start, name))?;
            self.groups.address(known.names, known.theirs, known.certain);
            return Ok(self.syntax(length, &format!("(?:{})", known.text), Last { unbounded: true, ..Last::ATOM }));
        }
        let tag = inner.strip_prefix("F-").filter(|_| alone.is_none()).ok_or_else(unknown)?;
        let valid = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if tag.is_empty() || !tag.bytes().all(valid) {
            return Err(unknown());
        }
        self.named_group(start, length, &group_name(tag), Kind::Tag(tag))
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
