//! What the fuzzer calls, and `make test` with everything in the corpus: each takes any bytes, and panics where something
//! does not hold that must.

#![allow(dead_code, clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests are an edge")]

pub mod config;
pub mod dialect;
pub mod entry;
pub mod import;
pub mod matching;
pub mod snapshot;
pub mod warden;

/// Numbers out of bytes: any bytes mean something, and none left means zero.
pub struct Dice<'a>(pub &'a [u8]);

impl Dice<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `limit`, which is at most 256.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
