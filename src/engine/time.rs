//! Instants and lengths of time as values; nothing here reads a clock.

use std::fmt;
use std::time::Duration;

/// An instant: µs since the Unix epoch, UTC, as journald's `__REALTIME_TIMESTAMP` counts them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(u64);

impl Stamp {
    /// The end of what does not end: a permanent ban's `until`. `u64::MAX`, as on D-Bus.
    pub const NEVER: Stamp = Stamp(u64::MAX);
    /// The Unix epoch.
    pub const EPOCH: Stamp = Stamp(0);

    /// The instant `usec` µs after the epoch.
    pub const fn from_usec(usec: u64) -> Stamp {
        Stamp(usec)
    }

    /// µs since the epoch.
    pub const fn usec(self) -> u64 {
        self.0
    }

    /// This instant moved later by `length`; [`Stamp::NEVER`] stays what it is and is where too long a sum ends.
    pub fn after(self, length: Length) -> Stamp {
        match length {
            Length::For(span) => Stamp(self.0.saturating_add(usec_of(span))),
            Length::Permanent => Stamp::NEVER,
        }
    }

    /// This instant moved earlier by `span`, not before the epoch.
    pub fn before(self, span: Duration) -> Stamp {
        Stamp(self.0.saturating_sub(usec_of(span)))
    }

    /// How long it takes from `earlier` until here; zero where `earlier` is later.
    pub fn since(self, earlier: Stamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// How long it takes between the two, whichever is the earlier.
    pub fn apart(self, other: Stamp) -> Duration {
        Duration::from_micros(self.0.abs_diff(other.0))
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Stamp::NEVER { f.write_str("never") } else { write!(f, "{}µs", self.0) }
    }
}

/// How long a ban lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Length {
    /// It ends after this time.
    For(Duration),
    /// It ends when somebody lifts it.
    Permanent,
}

impl Length {
    /// From D-Bus's µs, where `u64::MAX` is permanent.
    pub fn from_usec(usec: u64) -> Length {
        if usec == u64::MAX { Length::Permanent } else { Length::For(Duration::from_micros(usec)) }
    }

    /// As D-Bus's µs, where `u64::MAX` is permanent.
    pub fn usec(self) -> u64 {
        match self {
            Length::For(span) => usec_of(span),
            Length::Permanent => u64::MAX,
        }
    }
}

fn usec_of(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permanent_ban_never_ends() {
        assert_eq!(Stamp::from_usec(7).after(Length::Permanent), Stamp::NEVER);
        assert_eq!(Length::from_usec(u64::MAX), Length::Permanent);
        assert_eq!(Length::Permanent.usec(), u64::MAX);
    }

    #[test]
    fn sums_and_differences_stay_in_range() {
        let minute = Duration::from_secs(60);
        assert_eq!(Stamp::from_usec(5).before(minute), Stamp::EPOCH);
        assert_eq!(Stamp::from_usec(u64::MAX - 1).after(Length::For(minute)), Stamp::NEVER);
        assert_eq!(Stamp::from_usec(5).since(Stamp::from_usec(9)), Duration::ZERO);
    }
}
