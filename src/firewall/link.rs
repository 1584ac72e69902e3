//! The socket to nf_tables: sends a transaction and hears whether the kernel took it, asks for what is there.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustables::sys as nft;

use super::batch::{About, Batch};
use super::sys;
use super::wire::{Attributes, Message, Messages, Writer, text, u32_be, u32_ne};

/// Why the firewall did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The socket failed.
    #[error("cannot talk to nf_tables")]
    Socket(#[source] io::Error),
    /// The kernel said no. Nothing of the transaction in question was applied.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The table belongs to another running program (flag `owner`); only its end frees it.
    #[error("the table inet banish belongs to another program (netlink port {port})")]
    Owned {
        /// The netlink port of its owner, mostly its process id.
        port: u32,
    },
    /// The firewall's thread has ended.
    #[error("the firewall's thread has ended")]
    Gone,
}

/// What the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {error}", error = io::Error::from_raw_os_error(*.errno))]
pub struct Refused {
    /// The indexes of the changes (or bans) at fault; where the kernel says no more than "some of these", all of them.
    /// Empty where none of them but the table's structure is at fault.
    pub which: Vec<usize>,
    /// So many changes from the beginning were applied, in transactions before this one. Without those of `which` the
    /// rest can be given again.
    pub applied: usize,
    /// The kernel's error number, as in `errno.h`.
    pub errno: i32,
    /// What the refused message was about, and the kernel's own words where it had some.
    pub what: String,
}

/// Why a batch was not committed.
#[derive(Debug)]
pub(super) enum Failure {
    Socket(io::Error),
    Refused(Vec<Refusal>),
}

/// One message's refusal.
#[derive(Debug)]
pub(super) struct Refusal {
    pub errno: i32,
    pub about: Option<About>,
    /// The kernel's own words.
    pub words: Option<String>,
    /// The elements at fault, by their givers' numbers.
    pub elements: Vec<u32>,
}

impl From<Failure> for FirewallError {
    fn from(failure: Failure) -> FirewallError {
        let refusals = match failure {
            Failure::Socket(error) => return FirewallError::Socket(error),
            Failure::Refused(refusals) => refusals,
        };
        let numbers = refusals.iter().flat_map(|refusal| &refusal.elements);
        let mut which: Vec<usize> = numbers.filter_map(|number| usize::try_from(*number).ok()).collect();
        which.sort_unstable();
        which.dedup();
        let first = refusals.first();
        let about = first.and_then(|refusal| refusal.about.as_ref());
        let mut what = about.map_or_else(|| "a transaction".into(), About::to_string);
        if let Some(words) = first.and_then(|refusal| refusal.words.as_ref()) {
            what = format!("{what} ({words})");
        }
        let errno = first.map_or(libc::EIO, |refusal| refusal.errno);
        FirewallError::Refused(Refused { which, applied: 0, errno, what })
    }
}

/// The kernel's receive buffer of this socket: far more than the answers to one batch.
const RECEIVE_BUFFER: i32 = 1 << 20;
/// The room for one datagram; the kernel's dumps come in at most 32 KiB.
const DATAGRAM: usize = 1 << 16;
/// How often a dump is begun anew when others change the table meanwhile.
const DUMP_ATTEMPTS: usize = 16;

const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;

/// The socket.
pub(super) struct Link {
    fd: OwnedFd,
    port: u32,
    send_buffer: usize,
    buffer: Vec<u8>,
}

/// A question: message type, family and attributes.
pub(super) struct Question<'a> {
    /// `NFT_MSG_GET…`.
    pub kind: u32,
    /// All there are, or the one that the attributes name?
    pub all: bool,
    /// Its text attributes.
    pub attributes: &'a [(u16, &'a str)],
}

impl Link {
    /// Opens a socket in this thread's network namespace.
    pub fn open() -> io::Result<Link> {
        let fd = sys::open(libc::NETLINK_NETFILTER)?;
        sys::set(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1)?;
        sys::set(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
        // Without the privilege the transaction itself will be refused, and say so better.
        let _ = sys::set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER);
        let port = sys::port(fd.as_fd())?;
        Ok(Link { fd, port, send_buffer: 0, buffer: vec![0; DATAGRAM] })
    }

    /// The socket's port: who the kernel says made our changes.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends a batch as one transaction: all of it is applied, or nothing.
    pub fn commit(&mut self, mut batch: Batch) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        self.drain();
        let bytes = batch.seal();
        let room = bytes.len() + 4096;
        if room > self.send_buffer {
            // What does not fit is refused as a whole (EMSGSIZE).
            let value = i32::try_from(room).unwrap_or(i32::MAX);
            let _ = sys::set(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, value);
            self.send_buffer = room;
        }
        sys::send(self.fd.as_fd(), bytes).map_err(Failure::Socket)?;
        self.verdict(&batch)
    }

    /// Reads the kernel's answer. It is complete when sending returns: nf_tables works in the sender's call.
    fn verdict(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut refusals = Vec::new();
        let mut acknowledged = false;
        loop {
            let length = match sys::receive(self.fd.as_fd(), &mut self.buffer, false) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(Failure::Socket(error)),
            };
            for message in Messages(&self.buffer[..length]) {
                match answer(&message) {
                    Some(0) => acknowledged |= message.sequence == batch.last(),
                    Some(errno) => refusals.push(refusal(&message, errno, batch)),
                    None => {}
                }
            }
        }
        match (refusals.is_empty(), acknowledged) {
            (false, _) => Err(Failure::Refused(refusals)),
            (true, true) => Ok(()),
            (true, false) => Err(Failure::Socket(io::Error::other("nf_tables gave no answer"))),
        }
    }

    /// Asks and collects what `read` finds in the answers; `None` if there is no such thing.
    pub fn ask<T>(
        &mut self,
        question: &Question<'_>,
        mut read: impl FnMut(&Message<'_>, &mut Vec<T>),
    ) -> io::Result<Option<Vec<T>>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = Vec::new();
            match self.ask_once(question, |message| read(message, &mut found))? {
                Answer::Complete => return Ok(Some(found)),
                Answer::Nothing => return Ok(None),
                Answer::Interrupted => {}
            }
        }
        Err(io::Error::other("the table changed all the while it was read"))
    }

    /// The number of the last transaction of anybody in this network namespace.
    pub fn generation(&mut self) -> io::Result<Option<u32>> {
        let question = Question { kind: nft::NFT_MSG_GETGEN, all: false, attributes: &[] };
        let found = self.ask(&question, |message, found| {
            found.extend(message.attributes().find_kind(nft::NFTA_GEN_ID).and_then(u32_be));
        })?;
        Ok(found.and_then(|found| found.first().copied()))
    }

    fn ask_once(&mut self, question: &Question<'_>, mut read: impl FnMut(&Message<'_>)) -> io::Result<Answer> {
        self.drain();
        let mut writer = Writer::default();
        let kind = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | question.kind as u16;
        let all = if question.all { libc::NLM_F_DUMP as u16 } else { 0 };
        writer.message(kind, all | libc::NLM_F_ACK as u16, 1, super::wire::INET, 0);
        for (kind, value) in question.attributes {
            writer.text(*kind, value);
        }
        writer.end_message();
        sys::send(self.fd.as_fd(), &writer.bytes)?;
        let mut interrupted = false;
        loop {
            let length = sys::receive(self.fd.as_fd(), &mut self.buffer, true)?;
            for message in Messages(&self.buffer[..length]) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match (i32::from(message.kind), answer(&message)) {
                    (libc::NLMSG_DONE, _) | (_, Some(0)) => {
                        return Ok(if interrupted { Answer::Interrupted } else { Answer::Complete });
                    }
                    (_, Some(libc::ENOENT)) => return Ok(Answer::Nothing),
                    (_, Some(libc::EINTR)) => return Ok(Answer::Interrupted),
                    (_, Some(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                    _ => read(&message),
                }
            }
        }
    }

    /// Forgets answers that nobody waited for.
    fn drain(&mut self) {
        while sys::receive(self.fd.as_fd(), &mut self.buffer, false).is_ok() {}
    }
}

enum Answer {
    Complete,
    Nothing,
    Interrupted,
}

/// The error number in an answer, 0 for success; `None` for other messages.
fn answer(message: &Message<'_>) -> Option<i32> {
    if i32::from(message.kind) != libc::NLMSG_ERROR {
        return None;
    }
    Some(u32_ne(message.payload, 0).map_or(libc::EIO, |code| code.cast_signed().wrapping_neg()))
}

/// Reads an extended acknowledgement: where in which message the kernel found what it does not like.
fn refusal(message: &Message<'_>, errno: i32, batch: &Batch) -> Refusal {
    /// `NLMSGERR_ATTR_MSG` and `NLMSGERR_ATTR_OFFS`.
    const WORDS: u16 = 1;
    const OFFSET: u16 = 2;
    let mut extended = Attributes(&[]);
    if message.flags & NLM_F_ACK_TLVS != 0 {
        // Behind the error number stands our message's header, or all of it if the answer is not capped.
        let echoed = u32_ne(message.payload, 4).and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
        let skip = if message.flags & NLM_F_CAPPED != 0 { 20 } else { echoed.saturating_add(4) };
        extended = Attributes(message.payload.get(skip..).unwrap_or_default());
    }
    let offset = extended.find_kind(OFFSET).and_then(|value| u32_ne(value, 0));
    let words = extended.find_kind(WORDS).and_then(text).map(str::to_owned);
    let about = batch.about(message.sequence);
    let elements = match (about, offset.zip(about).and_then(|(offset, about)| about.element_at(offset))) {
        (_, Some(element)) => vec![element],
        (Some(about), None) => about.elements().collect(),
        (None, None) => Vec::new(),
    };
    Refusal { errno, about: about.cloned(), words, elements }
}

/// Reads any message as an answer to a transaction.
#[cfg(any(test, fuzzing))]
pub(super) fn read_garbled(message: &Message<'_>) {
    let mut batch = Batch::new();
    batch.flush_rules();
    if let Some(errno) = answer(message) {
        let refused = FirewallError::from(Failure::Refused(vec![refusal(message, errno, &batch)]));
        assert!(!refused.to_string().is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(payload in prop::collection::vec(any::<u8>(), 0..96), flags: u16, sequence in 0u32..4) {
            let mut batch = Batch::new();
            batch.flush_rules();
            let message = Message { kind: libc::NLMSG_ERROR as u16, flags, sequence, port: 0, payload: &payload };
            if let Some(errno) = answer(&message) {
                refusal(&message, errno, &batch);
            }
        }
    }
}
