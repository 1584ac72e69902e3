//! The one place where the daemon reads the wall clock, and how it shows an instant.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local};

use crate::engine::time::Stamp;

/// Now, by the wall clock; the epoch where the clock stands before it.
pub fn now() -> Stamp {
    #[expect(clippy::disallowed_methods, reason = "the daemon's edge to the clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Stamp::EPOCH.after(crate::engine::time::Length::For(since))
}

/// An instant in local time with its offset, as `2026-11-22 11:10:37 +0100`; `never` for [`Stamp::NEVER`].
pub fn show(stamp: Stamp) -> String {
    if stamp == Stamp::NEVER {
        return "never".into();
    }
    i64::try_from(stamp.usec()).ok().and_then(DateTime::from_timestamp_micros).map_or_else(
        || "a time beyond all calendars".into(),
        |utc| utc.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S %z").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_instant_is_too_odd_to_show() {
        assert_eq!(show(Stamp::NEVER), "never");
        assert!(show(Stamp::from_usec(1_795_345_840_141_647)).starts_with("2026-11-2"));
        assert!(!show(Stamp::from_usec(u64::MAX - 1)).is_empty());
    }
}
