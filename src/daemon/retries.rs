//! What failed is tried again, ever less often; what others undo all the time is put back, but not at full speed.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause between two tries at what the kernel, the ledger or the bus refused: meanwhile hosts get through.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Something that failed and is tried again, ever less often.
#[derive(Debug, Default)]
pub struct Retry {
    at: Option<Instant>,
    pause: Duration,
}

impl Retry {
    /// It failed: when to try again. A try that is still ahead stays where it is: what fails meanwhile must not put it
    /// off.
    pub fn failed(&mut self, now: Instant) {
        if self.at.is_some_and(|at| at > now) {
            return;
        }
        self.pause = (self.pause * 2).clamp(Duration::from_millis(250), LONGEST_PAUSE);
        self.at = Some(now + self.pause);
    }

    /// It is being tried.
    pub fn waits(&mut self) {
        self.at = None;
    }

    /// Has it failed and not worked since?
    pub fn has_failed(&self) -> bool {
        self.pause > Duration::ZERO
    }

    /// It worked.
    pub fn worked(&mut self) {
        *self = Retry::default();
    }

    /// When it is to be tried again; `None` while nothing is wrong.
    pub fn at(&self) -> Option<Instant> {
        self.at
    }
}

/// How often the table was put back lately, and why it has to be.
#[derive(Debug, Default)]
pub struct Rebuilds {
    since: Option<Instant>,
    count: u32,
    /// What somebody else did to it and has not been undone.
    change: Option<String>,
}

impl Rebuilds {
    /// So many in …
    const MANY: u32 = 20;
    /// … so short a time are a fight with another program.
    const TIME: Duration = Duration::from_secs(10);

    /// Somebody else changed the table.
    pub fn changed(&mut self, change: String) {
        self.change = Some(change);
    }

    /// What somebody else did, if that has not been undone; it is being undone now.
    pub fn take_change(&mut self) -> Option<String> {
        self.change.take()
    }

    /// Counts one, if it may be done now.
    pub fn may(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + Self::TIME) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count <= Self::MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_is_tried_ever_less_often() {
        let (mut retry, mut now) = (Retry::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            retry.failed(now);
            let at = retry.at().unwrap();
            pauses.push((at - now).as_millis());
            now = at;
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        retry.worked();
        assert!(retry.at().is_none() && !retry.has_failed());
        retry.failed(now);
        assert_eq!(retry.at(), Some(now + Duration::from_millis(250)));
    }

    #[test]
    fn what_fails_meanwhile_does_not_put_off_a_try() {
        let (mut retry, now) = (Retry::default(), Instant::now());
        retry.failed(now);
        let at = retry.at();
        for later in 1..250 {
            retry.failed(now + Duration::from_millis(later));
        }
        assert_eq!(retry.at(), at);
        retry.waits();
        assert!(retry.at().is_none() && retry.has_failed(), "it is being tried");
        retry.failed(now + Duration::from_secs(1));
        assert_eq!(retry.at(), Some(now + Duration::from_millis(1500)));
    }

    #[test]
    fn twenty_rebuilds_in_ten_seconds_are_enough() {
        let (mut rebuilds, now) = (Rebuilds::default(), Instant::now());
        let allowed = |rebuilds: &mut Rebuilds, from: u64| {
            (0..100).filter(|step| rebuilds.may(now + Duration::from_millis(from + step * 50))).count()
        };
        rebuilds.changed("table removed, by nft (process 1)".into());
        assert_eq!(allowed(&mut rebuilds, 0), 20);
        assert_eq!(allowed(&mut rebuilds, 5000), 0);
        assert_eq!(allowed(&mut rebuilds, 10_000), 20);
        assert!(rebuilds.change.is_some(), "it is still to be told");
    }
}
