//! Counts what somebody has open at this moment, and says no above a limit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many of something each key holds.
#[derive(Debug)]
pub struct Tally<K: Ord>(Arc<Mutex<BTreeMap<K, usize>>>);

/// One of them; dropped, it is given back.
#[derive(Debug)]
pub struct Slot<K: Ord> {
    tally: Tally<K>,
    key: K,
}

impl<K: Ord> Clone for Tally<K> {
    fn clone(&self) -> Tally<K> {
        Tally(Arc::clone(&self.0))
    }
}

impl<K: Ord + Clone> Tally<K> {
    /// Nobody holds anything.
    pub fn new() -> Tally<K> {
        Tally(Arc::default())
    }

    /// One more for `key`, unless it holds `limit` already.
    pub fn take(&self, key: K, limit: usize) -> Option<Slot<K>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = counts.get(&key).copied().unwrap_or(0);
        if held >= limit {
            return None;
        }
        counts.insert(key.clone(), held + 1);
        Some(Slot { tally: self.clone(), key })
    }
}

impl<K: Ord> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut counts = self.tally.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = counts.get_mut(&self.key) {
            *held -= 1;
            if *held == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_slot_is_free_again_and_leaves_nothing_behind() {
        let tally = Tally::new();
        let first = tally.take("a", 2).unwrap();
        let second = tally.take("a", 2).unwrap();
        assert!(tally.take("a", 2).is_none());
        assert!(tally.take("b", 2).is_some(), "others are not concerned");
        drop(first);
        let third = tally.take("a", 2).expect("one was given back");
        drop((second, third));
        assert!(tally.0.lock().unwrap().is_empty());
    }
}
