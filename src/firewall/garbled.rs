//! The kernel's side of the socket as the fuzzer plays it: everything that is ever read from there, out of any bytes.

use super::elements::{Shown, subject_of};
use super::wire::{Attributes, Messages};
use super::{link, name, sockets, survey, tracked, watch};
use crate::engine::subject::Family;

/// Reads `bytes` as a datagram of messages: as notices, as answers, and as dumps of each kind.
pub fn read(bytes: &[u8]) {
    watch::read_garbled(bytes);
    for message in Messages(bytes) {
        assert!(message.payload.len() < bytes.len(), "no message is longer than what holds it");
        link::read_garbled(&message);
        survey::read_garbled(&message);
        sockets::read_garbled(&message);
        tracked::read_garbled(&message);
        let attributes: usize = message.attributes().map(|(_, value)| value.len() + 4).sum();
        assert!(attributes <= message.payload.len(), "nor are its attributes");
    }
    for (_, element) in Attributes(bytes) {
        let Some(address) = Shown::parse(element).and_then(|shown| shown.address()) else { continue };
        for (family, length) in [(Family::V4, 32), (Family::V4, 24), (Family::V6, 64), (Family::V6, 128)] {
            let set = name::BanSet { jail: crate::engine::ban::JailName::manual(), family, length };
            let subject = subject_of(&set, address);
            assert!(subject.is_none_or(|subject| subject.network() == address && subject.length() == length));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests are an edge")]
    fn everything_in_the_corpus_is_read() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/netlink")).unwrap();
        let all: Vec<Vec<u8>> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(!all.is_empty());
        all.iter().for_each(|bytes| super::read(bytes));
    }
}
