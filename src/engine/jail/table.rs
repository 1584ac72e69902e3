//! A bounded table of subjects that forgets, when it is full, whom it has heard of longest ago.
//!
//! Slots are filled in the order of arrival; a hand goes round over them and clears whom it finds, but for those who were
//! heard of since it came by last. Who is forgotten depends on what came in which order and on nothing else; only where a
//! subject is looked up depends on a key that nobody outside can know.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::engine::subject::Subject;

/// The end of a chain, and of an empty one.
const NONE: u32 = u32::MAX;

/// A slot's number is a `u32`.
const ROOM_MOST: usize = NONE as usize;

/// Values by subject, at most [`Table::set_room`] many.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Vec<Slot<T>>,
    /// The first slot of each chain; a power of two of them, or none while nothing is known.
    heads: Vec<u32>,
    /// The slot that is cleared next.
    hand: usize,
    live: usize,
    room: usize,
    keyed: RandomState,
}

#[derive(Debug)]
struct Slot<T> {
    key: Key,
    /// Heard of again since the hand came by.
    touched: bool,
    /// The next slot of the same chain.
    next: u32,
    /// `None` for whom is known no longer; such a slot is in no chain.
    value: Option<T>,
}

/// A subject in 17 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    bits: [u8; 16],
    /// The prefix length; of IPv4 above those of IPv6.
    length: u8,
}

/// Added to IPv4's lengths.
const V4: u8 = 128;

impl From<Subject> for Key {
    fn from(subject: Subject) -> Key {
        match subject.network() {
            IpAddr::V4(address) => {
                let mut bits = [0; 16];
                bits[..4].copy_from_slice(&address.octets());
                Key { bits, length: V4 + subject.length() }
            }
            IpAddr::V6(address) => Key { bits: address.octets(), length: subject.length() },
        }
    }
}

impl Key {
    /// The subject that it was made of.
    pub(super) fn subject(self) -> Subject {
        let (address, length) = if self.length > V4 {
            let [a, b, c, d, ..] = self.bits;
            (IpAddr::V4(Ipv4Addr::new(a, b, c, d)), self.length - V4)
        } else {
            (IpAddr::V6(Ipv6Addr::from(self.bits)), self.length)
        };
        Subject::around(address, length).expect("made of a subject")
    }
}

impl<T> Table<T> {
    pub(super) fn new(room: usize, keyed: RandomState) -> Table<T> {
        Table { slots: Vec::new(), heads: Vec::new(), hand: 0, live: 0, room: room.clamp(1, ROOM_MOST), keyed }
    }

    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// How many may be known from now on; gives those who have to leave for it.
    pub(super) fn set_room(&mut self, room: usize) -> Vec<T> {
        let room = room.clamp(1, ROOM_MOST);
        // A little more is not worth moving everybody.
        if room > self.room && room - self.room < self.room / 8 {
            return Vec::new();
        }
        self.room = room;
        let mut gone = Vec::new();
        while self.live > self.room {
            gone.extend(self.evict());
        }
        if self.hand != 0 || self.slots.len() > self.room {
            self.settle();
        }
        gone
    }

    /// The value of `key`, who has been heard of again.
    pub(super) fn touch(&mut self, key: &Key) -> Option<&mut T> {
        let at = self.find(key)?;
        let slot = &mut self.slots[at];
        slot.touched = true;
        slot.value.as_mut()
    }

    /// The value of `key`.
    pub(super) fn at(&self, key: &Key) -> Option<&T> {
        self.slots[self.find(key)?].value.as_ref()
    }

    /// The value of `key`, to be put right.
    pub(super) fn at_mut(&mut self, key: &Key) -> Option<&mut T> {
        let at = self.find(key)?;
        self.slots[at].value.as_mut()
    }

    /// Takes `key` out.
    pub(super) fn take(&mut self, key: &Key) -> Option<T> {
        let at = self.find(key)?;
        self.clear(at)
    }

    /// Adds one who is not known; gives the one who has to leave for it.
    pub(super) fn put(&mut self, key: Key, value: T) -> Option<T> {
        // While the hand is where the slots begin, their end is where the youngest belong.
        let mut gone = None;
        let mut grows = self.hand == 0 && self.slots.len() < self.room;
        if !grows && self.slots[self.hand].value.is_some() {
            // Half of the slots being empty, moving together costs each arrival since then one step.
            grows = self.live <= self.slots.len() / 2;
            if grows { self.settle() } else { gone = self.evict() }
        }
        let slot = Slot { key, touched: false, next: NONE, value: Some(value) };
        let at = if grows { self.slots.len() } else { self.hand };
        if grows {
            self.slots.push(slot);
        } else {
            self.slots[at] = slot;
            self.hand = (at + 1) % self.slots.len();
        }
        self.live += 1;
        if self.slots.len() > self.heads.len() {
            self.chain_anew();
        } else {
            self.link(at);
        }
        gone
    }

    /// Takes out whom nobody has heard of for longest, and leaves the hand at the empty slot.
    pub(super) fn evict(&mut self) -> Option<T> {
        // Within two rounds everybody's mark is gone.
        for _ in 0..2 * self.slots.len() {
            let slot = &mut self.slots[self.hand];
            if slot.value.is_some() && !std::mem::take(&mut slot.touched) {
                return self.clear(self.hand);
            }
            self.hand = (self.hand + 1) % self.slots.len();
        }
        None
    }

    /// Everybody, in the order in which the hand would come by.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let (behind, ahead) = self.slots.split_at(self.hand);
        ahead.iter().chain(behind).filter_map(|slot| Some((slot.key, slot.value.as_ref()?)))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }

    /// Keeps those of whom `keep` says so, and gives memory back.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let before = self.live;
        for slot in &mut self.slots {
            if slot.value.as_ref().is_some_and(|value| !keep(value)) {
                slot.value = None;
                self.live -= 1;
            }
        }
        if self.live < before || self.live < self.slots.len() / 2 {
            self.settle();
        }
    }

    /// Moves everybody together, in the order in which the hand would come by.
    fn settle(&mut self) {
        self.slots.rotate_left(self.hand);
        self.hand = 0;
        self.slots.retain(|slot| slot.value.is_some());
        self.slots.shrink_to(self.live + self.live / 4);
        self.chain_anew();
    }

    fn chain_anew(&mut self) {
        let wanted = if self.live == 0 { 0 } else { self.slots.len().next_power_of_two().max(16) };
        self.heads.clear();
        self.heads.shrink_to(wanted);
        self.heads.resize(wanted, NONE);
        for at in 0..self.slots.len() {
            if self.slots[at].value.is_some() {
                self.link(at);
            }
        }
    }

    fn find(&self, key: &Key) -> Option<usize> {
        if self.heads.is_empty() {
            return None;
        }
        let mut at = self.heads[self.chain(key)];
        while at != NONE {
            let slot = &self.slots[at as usize];
            if slot.key == *key {
                return Some(at as usize);
            }
            at = slot.next;
        }
        None
    }

    fn chain(&self, key: &Key) -> usize {
        (self.keyed.hash_one(key) as usize) & (self.heads.len() - 1)
    }

    fn link(&mut self, at: usize) {
        let chain = self.chain(&self.slots[at].key);
        self.slots[at].next = std::mem::replace(&mut self.heads[chain], at as u32);
    }

    fn clear(&mut self, at: usize) -> Option<T> {
        let chain = self.chain(&self.slots[at].key);
        let next = self.slots[at].next;
        let mut before = self.heads[chain];
        if before as usize == at {
            self.heads[chain] = next;
        } else {
            while self.slots[before as usize].next as usize != at {
                before = self.slots[before as usize].next;
            }
            self.slots[before as usize].next = next;
        }
        self.live -= 1;
        self.slots[at].value.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(number: u8) -> Key {
        Subject::host(IpAddr::from([192, 0, 2, number])).into()
    }

    #[test]
    fn a_slot_of_a_first_failure_takes_40_bytes() {
        assert_eq!(size_of::<Slot<[u8; 17]>>(), 40);
    }

    #[test]
    fn who_was_heard_of_again_is_passed_over_once() {
        let mut table = Table::new(3, RandomState::new());
        for number in 1..=3 {
            assert_eq!(table.put(key(number), number), None);
        }
        table.touch(&key(1));
        assert_eq!([table.put(key(4), 4), table.put(key(5), 5), table.put(key(6), 6)], [Some(2), Some(3), Some(1)]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8),
        Take(u8),
        Evict,
        Keep(u8),
        Room(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0u8..40).prop_map(Step::Put),
            3 => (0u8..40).prop_map(Step::Take),
            1 => Just(Step::Evict),
            1 => (1u8..6).prop_map(Step::Keep),
            1 => (1usize..20).prop_map(Step::Room),
        ]
    }

    proptest! {
        #[test]
        fn a_key_is_its_subject(bits: u128, length in 1u8..=128, v4: bool) {
            let address = if v4 { IpAddr::from((bits as u32).to_be_bytes()) } else { IpAddr::from(bits.to_be_bytes()) };
            if let Ok(subject) = Subject::around(address, length) {
                prop_assert_eq!(Key::from(subject).subject(), subject);
            }
        }

        /// Nobody being heard of again, who came first goes first: a plain queue does the same.
        #[test]
        fn it_is_a_queue_that_one_can_look_into(steps in prop::collection::vec(step(), 0..300)) {
            let mut room = 8;
            let mut table = Table::new(room, RandomState::new());
            let mut plain: Vec<u8> = Vec::new();
            for step in steps {
                match step {
                    Step::Put(number) if plain.contains(&number) => prop_assert_eq!(table.at(&key(number)), Some(&number)),
                    Step::Put(number) => {
                        let gone = table.put(key(number), number);
                        // An empty slot where the hand is makes room for nobody else.
                        if let Some(gone) = gone {
                            prop_assert_eq!(plain.remove(0), gone);
                        }
                        plain.push(number);
                    }
                    Step::Take(number) => {
                        let known = plain.iter().position(|known| *known == number).map(|at| plain.remove(at));
                        prop_assert_eq!(table.take(&key(number)), known);
                    }
                    Step::Evict => {
                        let oldest = (!plain.is_empty()).then(|| plain.remove(0));
                        prop_assert_eq!(table.evict(), oldest);
                    }
                    Step::Keep(divisor) => {
                        table.retain(|number| number % divisor != 0);
                        plain.retain(|number| number % divisor != 0);
                    }
                    Step::Room(new) => {
                        // One more of eight and more is not taken.
                        room = if new > room && new - room < room / 8 { room } else { new };
                        let gone: Vec<u8> = plain.drain(..plain.len().saturating_sub(room)).collect();
                        prop_assert_eq!(table.set_room(new), gone);
                    }
                }
                prop_assert_eq!(table.len(), plain.len());
                prop_assert!(table.slots.len() <= room.max(table.len()));
                prop_assert!(table.iter().map(|(_, number)| number).eq(&plain));
            }
        }
    }
}
