//! Times as people read them: local time by the calendar, and how far off that is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local};

use crate::engine::time::Stamp;

/// The present.
pub fn now() -> Stamp {
    #[expect(clippy::disallowed_methods, reason = "what is shown is relative to the present")]
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp::from_usec(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}

/// `Mon 2026-11-23 01:54:10 +01:00` in local time; `never` for [`Stamp::NEVER`], `-` for the epoch, which stands for no
/// time at all.
pub fn calendar(stamp: Stamp) -> String {
    if stamp == Stamp::NEVER {
        return "never".into();
    }
    if stamp == Stamp::EPOCH {
        return "-".into();
    }
    let usec = i64::try_from(stamp.usec()).ok();
    match usec.and_then(DateTime::from_timestamp_micros) {
        Some(time) => time.with_timezone(&Local).format("%a %Y-%m-%d %H:%M:%S %:z").to_string(),
        None => "beyond all calendars".into(),
    }
}

/// `in 54min`, `3s ago`, `now`; `never` for [`Stamp::NEVER`], `-` for the epoch.
pub fn relative(stamp: Stamp, now: Stamp) -> String {
    if stamp == Stamp::NEVER || stamp == Stamp::EPOCH {
        return calendar(stamp);
    }
    let (ahead, behind) = (stamp.since(now), now.since(stamp));
    if ahead >= Duration::from_secs(1) {
        format!("in {}", span(ahead))
    } else if behind >= Duration::from_secs(1) {
        format!("{} ago", span(behind))
    } else {
        "now".into()
    }
}

/// Both: `Mon 2026-11-23 01:54:10 +01:00; in 54min`.
pub fn both(stamp: Stamp, now: Stamp) -> String {
    if stamp == Stamp::NEVER || stamp == Stamp::EPOCH {
        return calendar(stamp);
    }
    format!("{}; {}", calendar(stamp), relative(stamp, now))
}

/// A length in its two largest units: `1h 30min`, `2d 3h`, `0s`.
pub fn span(length: Duration) -> String {
    let mut rest = length.as_secs();
    let mut parts = Vec::new();
    for (unit, seconds) in [("y", 31_557_600), ("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)] {
        let count = rest / seconds;
        rest %= seconds;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Stamp = Stamp::from_usec(1_795_345_837_995_762);

    fn later(seconds: u64) -> Stamp {
        Stamp::from_usec(NOW.usec() + seconds * 1_000_000)
    }

    #[test]
    fn how_far_off_is_said_in_two_units() {
        assert_eq!(relative(later(54 * 60), NOW), "in 54min");
        assert_eq!(relative(later(5400), NOW), "in 1h 30min");
        assert_eq!(relative(later(86_400 + 59), NOW), "in 1d");
        assert_eq!(relative(NOW, later(3)), "3s ago");
        assert_eq!(relative(NOW, NOW), "now");
        assert_eq!(relative(Stamp::NEVER, NOW), "never");
        assert_eq!(both(Stamp::EPOCH, NOW), "-");
    }

    #[test]
    fn a_calendar_time_has_its_offset() {
        let text = calendar(NOW);
        let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert!(
            shape.ends_with(" 0000-00-00 00:00:00 +00:00") || shape.ends_with(" 0000-00-00 00:00:00 -00:00"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn no_time_is_too_much(stamp in any::<u64>(), now in any::<u64>()) {
            both(Stamp::from_usec(stamp), Stamp::from_usec(now));
        }
    }
}
