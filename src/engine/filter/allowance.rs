//! How large patterns may be together: known from their texts, before anything large is made of them.

use super::dialect::{Flaw, Translation};

/// The most that the patterns of one filter may come to, in states of automata: some 1,500 ordinary patterns. While it is
/// compiled a state takes about 230 bytes, and half of that afterwards.
const FILTER_LIMIT: usize = 1 << 18;
/// The most that all filters of a configuration may come to. A reload has two configurations for a while, and
/// `MemoryMax=` of the unit holds both.
pub const STATES_LIMIT: usize = 1 << 20;
/// What a pattern takes beside its states: names of groups, memory of a search.
const PATTERN: usize = 64;
/// A pattern that backtracks is compiled three times, and in pieces.
const BACKTRACKING: usize = 4;

/// What is left for the patterns of a filter.
#[derive(Debug)]
pub(super) struct Allowance {
    filter: usize,
    all: usize,
    /// A pattern did not fit.
    spent: bool,
}

impl Allowance {
    /// For one filter, where this is left for all.
    pub(super) fn new(all: usize) -> Allowance {
        Allowance { filter: FILTER_LIMIT, all, spent: false }
    }

    /// Did a pattern not fit? Then there is no use in looking at those behind it.
    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }

    /// What its patterns came to.
    pub(super) fn used(&self) -> usize {
        FILTER_LIMIT - self.filter
    }

    /// Takes what this pattern comes to.
    pub(super) fn take(&mut self, pattern: &Translation) -> Result<(), Flaw> {
        let times = if pattern.demanding.is_some() { BACKTRACKING } else { 1 };
        let states = pattern.states.saturating_mul(times).saturating_add(PATTERN);
        let reason = if states > FILTER_LIMIT {
            "is too large when compiled: what is repeated {1,1000} times counts a thousand times, so write + or * where it \
             may"
        } else if states > self.filter {
            "with this pattern the filter is too large when compiled: write fewer or shorter patterns, or filters of \
             their own for some"
        } else if states > self.all {
            "with this pattern all filters together are too large when compiled: enable fewer jails, or write fewer or \
             shorter patterns"
        } else {
            self.filter -= states;
            self.all -= states;
            return Ok(());
        };
        self.spent = true;
        Err(Flaw::whole(reason))
    }
}
