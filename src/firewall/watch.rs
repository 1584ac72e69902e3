//! Who else changes our table: nf_tables tells every transaction to those who listen.
//!
//! Our own transactions are kept out of the socket by a filter on the port they came from, so they neither wake us nor
//! fill it. Elements that expire are not told by the kernel at all.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustables::sys as nft;

use super::keeper::Lack;
use super::survey::is_ours;
use super::sys;
use super::wire::{Message, Messages, text, u32_be};

/// What the firewall's thread has to say unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Somebody else changed the table `inet banish`.
    Foreign(Foreign),
    /// So much happened that the kernel could not tell all of it: anything may have changed, an audit finds out.
    Overrun,
    /// This kernel does not do something that the policy asks for; what is done instead stands at [`Lack`].
    Lacks(Lack),
}

impl Notice {
    /// May somebody have touched more than elements?
    pub(super) fn is_structural(&self) -> bool {
        let is_element = |what: &Touched| matches!(what, Touched::ElementsAdded | Touched::ElementsRemoved);
        match self {
            Notice::Foreign(foreign) => !foreign.what.iter().all(is_element),
            Notice::Overrun => true,
            Notice::Lacks(_) => false,
        }
    }
}

/// A transaction of somebody else's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// What of the table it changed.
    pub what: BTreeSet<Touched>,
    /// Who did it, as the kernel names the process; of several the last.
    pub by: Option<Author>,
}

/// A part of the table that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Touched {
    /// The table was removed.
    TableRemoved,
    /// The table was made anew, or its flags changed.
    TableMade,
    /// Chains came or went.
    Chains,
    /// Rules came or went.
    Rules,
    /// Sets came or went.
    Sets,
    /// Elements came.
    ElementsAdded,
    /// Elements went, one by one or by a flush of their set.
    ElementsRemoved,
    /// Something that this table does not have, such as a flowtable.
    Other,
}

impl fmt::Display for Foreign {
    /// One line: `table removed, by nft (process 4711)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.what.iter().map(|touched| touched.word()).collect();
        f.write_str(&words.join(", "))?;
        match &self.by {
            Some(author) => write!(f, ", by {} (process {})", author.name, author.pid),
            None => Ok(()),
        }
    }
}

impl Touched {
    fn word(self) -> &'static str {
        match self {
            Touched::TableRemoved => "table removed",
            Touched::TableMade => "table made anew",
            Touched::Chains => "chains changed",
            Touched::Rules => "rules changed",
            Touched::Sets => "sets changed",
            Touched::ElementsAdded => "elements added",
            Touched::ElementsRemoved => "elements removed",
            Touched::Other => "something else changed",
        }
    }
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// Its id.
    pub pid: u32,
    /// Its name: at most 16 graphic ASCII characters, others shown as `?`. The process chose it.
    pub name: String,
}

/// `NFNLGRP_NFTABLES`.
const GROUP: i32 = 7;
/// `NFTA_GEN_PROC_PID` and `NFTA_GEN_PROC_NAME`.
const GENERATION_PID: u16 = 2;
const GENERATION_NAME: u16 = 3;
/// The kernel's buffer of what we have not read yet.
const RECEIVE_BUFFER: i32 = 1 << 21;
/// So many datagrams are read in one go, so that a storm of changes cannot keep us from anything else.
const BURST: usize = 256;

/// The listening socket and what was heard of a transaction that is not all told yet.
pub(super) struct Watch {
    fd: OwnedFd,
    own: u32,
    unfinished: Foreign,
    buffer: Vec<u8>,
}

impl Watch {
    /// Listens in this thread's network namespace to all but the socket with port `own`.
    pub fn open(own: u32) -> io::Result<Watch> {
        let fd = sys::open(libc::NETLINK_NETFILTER)?;
        let _ = sys::set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER);
        sys::ignore_port(fd.as_fd(), own)?;
        let watch = Watch { fd, own, unfinished: Foreign::default(), buffer: vec![0; 1 << 16] };
        watch.join()?;
        Ok(watch)
    }

    /// Hears what happens from now on.
    pub fn join(&self) -> io::Result<()> {
        sys::set(self.fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, GROUP)
    }

    /// Hears nothing from now on; what was heard stays to be read.
    pub fn leave(&self) -> io::Result<()> {
        sys::set(self.fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_DROP_MEMBERSHIP, GROUP)
    }

    /// To wait for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Reads what there is. Transactions of others that were told to their end are joined to one.
    pub fn read(&mut self) -> io::Result<Vec<Notice>> {
        let mut heard = Heard { own: self.own, whole: Foreign::default(), overrun: false };
        for _ in 0..BURST {
            match sys::receive(self.fd.as_fd(), &mut self.buffer, false) {
                Ok(length) => {
                    for message in Messages(&self.buffer[..length]) {
                        heard.take(&message, &mut self.unfinished);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    heard.overrun = true;
                    self.unfinished = Foreign::default();
                }
                Err(error) => return Err(error),
            }
        }
        let foreign = (!heard.whole.what.is_empty()).then_some(Notice::Foreign(heard.whole));
        Ok(foreign.into_iter().chain(heard.overrun.then_some(Notice::Overrun)).collect())
    }
}

struct Heard {
    own: u32,
    whole: Foreign,
    overrun: bool,
}

impl Heard {
    fn take(&mut self, message: &Message<'_>, unfinished: &mut Foreign) {
        if message.port == self.own || message.kind >> 8 != libc::NFNL_SUBSYS_NFTABLES as u16 {
            return;
        }
        match u32::from(message.kind & 0xff) {
            nft::NFT_MSG_NEWGEN => {
                // The transaction is told to its end. Most of them are about other tables.
                let told = std::mem::take(unfinished);
                if !told.what.is_empty() {
                    self.whole.what.extend(told.what);
                    self.whole.by = author(message).or(self.whole.by.take());
                }
            }
            kind => unfinished.what.extend(touched(kind, message)),
        }
    }
}

fn touched(kind: u32, message: &Message<'_>) -> Option<Touched> {
    let touched = match kind {
        nft::NFT_MSG_NEWTABLE => Touched::TableMade,
        nft::NFT_MSG_DELTABLE => Touched::TableRemoved,
        nft::NFT_MSG_NEWCHAIN | nft::NFT_MSG_DELCHAIN => Touched::Chains,
        nft::NFT_MSG_NEWRULE | nft::NFT_MSG_DELRULE => Touched::Rules,
        nft::NFT_MSG_NEWSET | nft::NFT_MSG_DELSET => Touched::Sets,
        nft::NFT_MSG_NEWSETELEM => Touched::ElementsAdded,
        nft::NFT_MSG_DELSETELEM => Touched::ElementsRemoved,
        nft::NFT_MSG_NEWOBJ | nft::NFT_MSG_DELOBJ | nft::NFT_MSG_NEWFLOWTABLE | nft::NFT_MSG_DELFLOWTABLE => {
            Touched::Other
        }
        _ => return None,
    };
    // All of them have the table's name as their first attribute: NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, …
    is_ours(message, nft::NFTA_TABLE_NAME).then_some(touched)
}

fn author(message: &Message<'_>) -> Option<Author> {
    let attributes = message.attributes();
    let pid = attributes.find_kind(GENERATION_PID).and_then(u32_be)?;
    let name = attributes.find_kind(GENERATION_NAME).and_then(text).unwrap_or("?");
    let name = name.chars().take(16).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
    Some(Author { pid, name })
}

impl std::fmt::Display for Author {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Hears any bytes, as if the kernel had told them.
#[cfg(any(test, fuzzing))]
pub(super) fn read_garbled(bytes: &[u8]) {
    let mut heard = Heard { own: 7, whole: Foreign::default(), overrun: false };
    let mut unfinished = Foreign::default();
    Messages(bytes).for_each(|message| heard.take(&message, &mut unfinished));
    assert!(!heard.whole.to_string().contains(char::is_control), "what a process calls itself cannot forge a line");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::wire::{INET, Writer};
    use proptest::prelude::*;

    const NFT: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;

    fn told(messages: &[(u32, &str)]) -> Foreign {
        let mut writer = Writer::default();
        for (kind, table) in messages {
            writer.message(NFT | *kind as u16, 0, 0, INET, 0);
            if *kind == nft::NFT_MSG_NEWGEN {
                writer.attribute(GENERATION_PID, &42u32.to_be_bytes());
                writer.text(GENERATION_NAME, "nft\u{1b}[1m");
            } else {
                writer.text(nft::NFTA_TABLE_NAME, table);
            }
            writer.end_message();
        }
        let mut heard = Heard { own: 7, whole: Foreign::default(), overrun: false };
        let mut unfinished = Foreign::default();
        Messages(&writer.bytes).for_each(|message| heard.take(&message, &mut unfinished));
        heard.whole
    }

    #[test]
    fn a_transaction_is_told_at_its_end_with_its_author() {
        let foreign = told(&[(nft::NFT_MSG_DELTABLE, "banish"), (nft::NFT_MSG_NEWGEN, "")]);
        assert_eq!(foreign.what, BTreeSet::from([Touched::TableRemoved]));
        assert_eq!(foreign.by.unwrap().to_string(), "nft??[1m (pid 42)".replace("??", "?"));
        assert_eq!(told(&[(nft::NFT_MSG_DELTABLE, "banish")]), Foreign::default());
    }

    #[test]
    fn other_tables_do_not_concern_us() {
        assert_eq!(told(&[(nft::NFT_MSG_DELTABLE, "filter"), (nft::NFT_MSG_NEWGEN, "")]), Foreign::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_heard_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), length in 16u8..200, kind: u8) {
            let mut bytes = bytes;
            if bytes.len() > 6 {
                bytes[..4].copy_from_slice(&u32::from(length).to_ne_bytes());
                bytes[4..6].copy_from_slice(&(NFT | u16::from(kind)).to_ne_bytes());
            }
            let mut heard = Heard { own: 7, whole: Foreign::default(), overrun: false };
            let mut unfinished = Foreign::default();
            Messages(&bytes).for_each(|message| heard.take(&message, &mut unfinished));
        }
    }
}
