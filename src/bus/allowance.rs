//! How many bytes of answers somebody may have: so many at once, and then so many in each second.

use tokio::time::Instant;

/// A stock that grows with time up to a most.
#[derive(Clone, Debug)]
pub struct Allowance {
    left: f64,
    most: f64,
    per_second: f64,
    at: Instant,
}

impl Allowance {
    /// A full one.
    pub fn new(most: u32, per_second: u32, now: Instant) -> Allowance {
        Allowance { left: most.into(), most: most.into(), per_second: per_second.into(), at: now }
    }

    /// Is anything left?
    pub fn any(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.most);
        self.at = now;
        self.left > 0.0
    }

    /// Takes `bytes`, even more than are left.
    pub fn take(&mut self, bytes: usize) {
        self.left -= bytes as f64;
    }

    /// Gives back `bytes` that were taken.
    pub fn give(&mut self, bytes: usize) {
        self.left = (self.left + bytes as f64).min(self.most);
    }

    /// Is it full, so that a new one would be the same?
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.any(now) && self.left >= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_taken_comes_back_with_time() {
        let start = Instant::now();
        let mut allowance = Allowance::new(1000, 100, start);
        assert!(allowance.is_full(start));
        allowance.take(1500);
        assert!(!allowance.any(start + Duration::from_secs(5)));
        assert!(allowance.any(start + Duration::from_secs(6)));
        assert!(!allowance.is_full(start + Duration::from_secs(14)));
        assert!(allowance.is_full(start + Duration::from_secs(3600)));
        allowance.take(1001);
        assert!(!allowance.any(start + Duration::from_secs(3600)), "no more than the most is kept");
    }
}
