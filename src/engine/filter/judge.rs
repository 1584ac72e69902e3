//! What one filter makes of one entry that comes from the right place.

use std::net::IpAddr;
use std::sync::Arc;

use super::patterns::{Finding, Parts, Scratch, Single};
use super::refusal::Holds;
use super::session::{self, KeyPart, KeyText, Line, OpenSessions, Origin, Sessions, Standing};
use super::{Filter, Part};
use crate::engine::entry::{Entry, Evidence, Field, Locate, Slot, Text, Wanted};
use crate::engine::time::Stamp;

/// A filter with the memory it needs: of searches, and of open sessions.
#[derive(Debug)]
pub(super) struct Judge {
    filter: Arc<Filter>,
    message: Slot,
    session: Option<Slot>,
    address: Option<Slot>,
    fields: Vec<Slot>,
    prefregex: Option<Single>,
    failregex: Scratch,
    ignoreregex: Scratch,
    field_scratch: Vec<Scratch>,
    /// Which of the failing patterns, in the order failregex, fields, report what others may report too: their number.
    once: Vec<Option<usize>>,
    sessions: Sessions,
    key: KeyText,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// No pattern matches.
    Nothing,
    /// A pattern matches, and this ignoreregex too.
    Ignored { found: Found, by: usize },
    /// A pattern matches, but what stands where the address should is none.
    Unreadable { found: Found },
    /// A pattern matches.
    Line { found: Found, standing: Standing, gained: bool },
}

/// What matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The origin alone: the filter has no pattern and takes the address from a field.
    Origin,
    /// A failregex, on MESSAGE or what the prefregex left of it.
    Message(usize),
    /// A pattern of a field rule.
    Field(usize, usize),
}

impl Found {
    /// The pattern's place in the definition.
    pub(super) fn part(self) -> Part {
        match self {
            Found::Origin => Part::Address,
            Found::Message(pattern) => Part::Failregex(pattern),
            Found::Field(rule, pattern) => Part::Field(rule, Some(pattern)),
        }
    }
}

impl Judge {
    pub(super) fn new(filter: Arc<Filter>, wanted: &mut Wanted) -> Judge {
        let mut count = 0;
        let patterns =
            filter.failregex.once_patterns().chain(filter.fields.iter().flat_map(|(_, set)| set.once_patterns()));
        let once = patterns
            .map(|is_once| {
                is_once.then(|| {
                    count += 1;
                    count - 1
                })
            })
            .collect();
        Judge {
            message: wanted.want(&Field::message()),
            session: filter.session.as_ref().map(|field| wanted.want(field)),
            address: filter.address.as_ref().map(|field| wanted.want(field)),
            fields: filter.fields.iter().map(|(field, _)| wanted.want(field)).collect(),
            prefregex: filter.prefregex.as_ref().map(Single::new),
            failregex: filter.failregex.scratch(),
            ignoreregex: filter.ignoreregex.scratch(),
            field_scratch: filter.fields.iter().map(|(_, set)| set.scratch()).collect(),
            once,
            sessions: Sessions::default(),
            key: KeyText::default(),
            filter,
        }
    }

    /// Shares the room for sessions with so many filters, this one among them.
    pub(super) fn share_among(&mut self, filters: usize) {
        self.sessions.share_among(filters);
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The sessions that are open; `None` for a filter without any.
    pub(super) fn sessions(&self) -> Option<OpenSessions> {
        if !self.filter.keeps_sessions {
            return None;
        }
        let (sessions, refusals) = self.sessions.open();
        Some(OpenSessions { filter: self.filter.fingerprint, sessions, refusals, processes: Vec::new() })
    }

    /// Goes on with those of these sessions that are this filter's, and no others.
    pub(super) fn resume(&mut self, open: &[OpenSessions]) {
        let own = open.iter().find(|open| open.filter == self.filter.fingerprint);
        match own {
            Some(open) => self.sessions.resume(&open.sessions, &open.refusals),
            None => self.sessions.resume(&[], &Default::default()),
        }
    }

    /// Calls `failed` for the refusals that nothing has settled in time, as of `now`.
    pub(super) fn pass(&mut self, now: Stamp, failed: &mut dyn FnMut(IpAddr, Evidence)) {
        self.sessions.pass(now, failed);
    }

    /// What is held back, if anything is.
    pub(super) fn holds(&self) -> Option<Holds> {
        self.sessions.holds()
    }

    /// Judges an entry whose origin is right; it has this number among those examined.
    pub(super) fn judge(&mut self, entry: Entry<'_>, turn: u64, locate: Locate<'_>) -> Judgement {
        let filter = Arc::clone(&self.filter);
        if filter.backtracks {
            self.forget();
        }
        let (content, prefix) = self.content(entry);
        let Some((found, finding)) = self.find(&filter, entry, content) else { return Judgement::Nothing };
        if let Some(content) = content
            && let Some(ignoring) = filter.ignoreregex.find(content, &mut self.ignoreregex)
        {
            return Judgement::Ignored { found, by: ignoring };
        }
        let id = finding.id.or(prefix.id);
        let named = id.iter().next().and_then(address);
        let captured = named.map(Some).or_else(|| finding.address.or(prefix.address).map(address));
        let address = match captured.or_else(|| self.address_of(entry)) {
            Some(None) => return Judgement::Unreadable { found },
            Some(Some(address)) => Some(address),
            None => None,
        };
        let line = Line {
            address,
            user: finding.user.or(prefix.user),
            nofail: finding.nofail || prefix.nofail,
            forget: finding.forget || prefix.forget,
            gained: finding.gained || prefix.gained,
            once: if finding.once { self.once_number(found) } else { None },
            refusal: finding.refusal.or(prefix.refusal),
            apart: finding.apart || prefix.apart,
        };
        let id = if named.is_none() { id } else { Parts::default() };
        let standing = if self.compose_key(entry, finding.session.or(prefix.session), id) {
            let origin = Origin { stamp: entry.stamp(), turn, locate };
            self.sessions.tell(entry.boot(), self.key.bytes(), origin, line)
        } else {
            session::alone(line)
        };
        Judgement::Line { found, standing, gained: line.gained }
    }

    /// The key of an entry's session: what the session field says and what the patterns captured of it; without either
    /// what they captured in the place of an address. `false` where it belongs to none.
    fn compose_key(&mut self, entry: Entry<'_>, session: Parts<'_>, id: Parts<'_>) -> bool {
        self.key.begin();
        match self.session {
            None => {}
            Some(slot) => match entry.first(slot).filter(|value| !value.cut) {
                Some(value) => self.key.add(KeyPart::Field, value.bytes),
                None => return false,
            },
        }
        session.iter().for_each(|part| self.key.add(KeyPart::Session, part));
        if self.key.is_empty() {
            id.iter().for_each(|part| self.key.add(KeyPart::Id, part));
        }
        self.key.is_whole()
    }

    fn forget(&mut self) {
        self.prefregex.iter_mut().for_each(Single::forget);
        let sets = [&mut self.failregex, &mut self.ignoreregex].into_iter().chain(&mut self.field_scratch);
        sets.for_each(Scratch::forget);
    }

    /// The patterns that gave no answer on the entry just judged, because it would have taken too long.
    pub(super) fn gave_up(&self) -> Vec<Part> {
        let prefregex = self.prefregex.iter().filter(|prefregex| prefregex.gave_up()).map(|_| Part::Prefregex);
        let fields = self.field_scratch.iter().enumerate();
        prefregex
            .chain(self.failregex.gave_up().map(Part::Failregex))
            .chain(self.ignoreregex.gave_up().map(Part::Ignoreregex))
            .chain(fields.flat_map(|(at, set)| set.gave_up().map(move |pattern| Part::Field(at, Some(pattern)))))
            .collect()
    }

    /// What the failregexes look at, and what the prefregex said; no text where there is no MESSAGE or no match.
    pub(super) fn content<'e>(&mut self, entry: Entry<'e>) -> (Option<Text<'e>>, Finding<'e>) {
        let Some(message) = entry.first(self.message) else { return (None, Finding::default()) };
        let Some(prefregex) = &mut self.prefregex else { return (Some(message), Finding::default()) };
        let Some(finding) = prefregex.find(message) else { return (None, Finding::default()) };
        let content = finding.content.map(|span| Text {
            bytes: &message.bytes[span.start..span.end],
            // A text of which the prefregex took the last byte searched ends where the message was cut.
            cut: message.cut && span.end + 1 >= message.bytes.len(),
        });
        (content, finding)
    }

    fn find<'e>(
        &mut self,
        filter: &Filter,
        entry: Entry<'e>,
        content: Option<Text<'e>>,
    ) -> Option<(Found, Finding<'e>)> {
        if let Some(text) = content
            && let Some(found) = filter.failregex.find(text, &mut self.failregex)
        {
            return Some((Found::Message(found), filter.failregex.read(found, text.bytes, &self.failregex)));
        }
        for (rule, ((_, set), scratch)) in filter.fields.iter().zip(&mut self.field_scratch).enumerate() {
            for text in entry.values(self.fields[rule]) {
                if let Some(found) = set.find(text, scratch) {
                    return Some((Found::Field(rule, found), set.read(found, text.bytes, scratch)));
                }
            }
        }
        filter.takes_all().then(|| (Found::Origin, Finding::default()))
    }

    /// The address from its own field, for filters that name one: `Some(None)` where it is missing or none.
    fn address_of(&self, entry: Entry<'_>) -> Option<Option<IpAddr>> {
        let slot = self.address?;
        Some(entry.first(slot).filter(|text| !text.cut).and_then(|text| address(text.bytes)))
    }

    fn once_number(&self, found: Found) -> Option<usize> {
        let at = match found {
            Found::Origin => return None,
            Found::Message(pattern) => pattern,
            Found::Field(rule, pattern) => {
                let earlier = self.filter.fields[..rule].iter().map(|(_, set)| set.len()).sum::<usize>();
                self.filter.failregex.len() + earlier + pattern
            }
        };
        self.once[at]
    }

    /// Everything that was captured in the entry just judged, by name.
    pub(super) fn captures(&mut self, entry: Entry<'_>, found: Found) -> Vec<(String, Vec<u8>)> {
        let (content, _) = self.content(entry);
        let mut captures = match (&self.prefregex, entry.first(self.message)) {
            (Some(prefregex), Some(message)) => prefregex.named(message.bytes),
            _ => Vec::new(),
        };
        match found {
            Found::Origin => {}
            Found::Message(found) => {
                let text = content.map_or(&[][..], |text| text.bytes);
                captures.extend(self.filter.failregex.named(found, text, &self.failregex));
            }
            Found::Field(rule, found) => {
                let (_, set) = &self.filter.fields[rule];
                let scratch = &mut self.field_scratch[rule];
                let matching = entry.values(self.fields[rule]).find(|text| set.find(*text, scratch) == Some(found));
                captures.extend(matching.into_iter().flat_map(|text| set.named(found, text.bytes, scratch)));
            }
        }
        captures
    }
}

/// An address as text; zone ids, octal, shortened and padded notations are none.
fn address(text: &[u8]) -> Option<IpAddr> {
    str::from_utf8(text).ok()?.parse().ok()
}
