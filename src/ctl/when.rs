//! Times as people read them: local time by the calendar, and how far off that is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Days, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};

use crate::config::length;
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

/// A point in the past as journalctl's `--since` takes it; what is relative is so to the present of its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// The beginning of the day so many days ago.
    Day(u64),
    /// Today at this time.
    Time(NaiveTime),
    /// At this local time.
    Local(NaiveDateTime),
    /// At this instant.
    At(Stamp),
}

/// Reads `1h`, `-1h`, `1h 30min ago`, `now`, `today`, `yesterday`, `12:30`, `2026-11-23`, `2026-11-23 12:30:05` or
/// `@1795345837`.
///
/// # Errors
/// It is none of these.
pub fn parse(text: &str) -> Result<Since, String> {
    let text = text.trim();
    match text {
        "now" => return Ok(Since::Ago(Duration::ZERO)),
        "today" => return Ok(Since::Day(0)),
        "yesterday" => return Ok(Since::Day(1)),
        _ => {}
    }
    if let Some(seconds) = text.strip_prefix('@').and_then(|seconds| seconds.parse::<u64>().ok()) {
        return Ok(Since::At(Stamp::from_usec(seconds.saturating_mul(1_000_000))));
    }
    let time = |text: &str| ["%H:%M:%S", "%H:%M"].iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok());
    let date = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    if let Some(time) = time(text) {
        return Ok(Since::Time(time));
    }
    if let Some(date) = date(text) {
        return Ok(Since::Local(date.and_time(NaiveTime::MIN)));
    }
    if let Some((date, time)) = text.split_once([' ', 'T']).and_then(|(day, at)| Some((date(day)?, time(at)?))) {
        return Ok(Since::Local(date.and_time(time)));
    }
    let span = text.strip_suffix("ago").or_else(|| text.strip_prefix('-')).unwrap_or(text).trim();
    let wrong = "is no time such as 1h, \"2 days ago\", yesterday, 12:30 or \"2026-11-23 12:30\"";
    length::parse(span).map(Since::Ago).map_err(|_| wrong.into())
}

impl Since {
    /// The instant that is meant, seen from `now`. A local time that a change of clocks leaves out or gives twice is the
    /// earlier one.
    pub fn instant(self, now: Stamp) -> Stamp {
        let today = || {
            let usec = i64::try_from(now.usec()).ok();
            let present = usec.and_then(DateTime::from_timestamp_micros).unwrap_or_default();
            present.with_timezone(&Local).date_naive()
        };
        let local = |time: NaiveDateTime| {
            let time = Local.from_local_datetime(&time).earliest().unwrap_or_else(|| Local.from_utc_datetime(&time));
            Stamp::from_usec(u64::try_from(time.timestamp_micros()).unwrap_or(0))
        };
        match self {
            Since::Ago(span) => now.before(span),
            Since::Day(ago) => {
                local(today().checked_sub_days(Days::new(ago)).unwrap_or_default().and_time(NaiveTime::MIN))
            }
            Since::Time(time) => local(today().and_time(time)),
            Since::Local(time) => local(time),
            Since::At(stamp) => stamp,
        }
    }
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

    #[test]
    fn a_point_in_the_past_is_written_as_for_journalctl() {
        let hour = Since::Ago(Duration::from_secs(3600));
        for text in ["1h", "-1h", "1h ago", "60min ago", " 1h "] {
            assert_eq!(parse(text), Ok(hour), "{text}");
        }
        assert_eq!(hour.instant(NOW), NOW.before(Duration::from_secs(3600)));
        assert_eq!(parse("@1795345837").unwrap().instant(NOW), Stamp::from_usec(1_795_345_837_000_000));
        let at = |text: &str| calendar(parse(text).unwrap().instant(NOW));
        assert!(at("2026-11-22 12:30").contains(" 2026-11-22 12:30:00 "));
        assert!(at("2026-11-22T12:30:05").contains(" 2026-11-22 12:30:05 "));
        assert!(at("2026-11-22").contains(" 2026-11-22 00:00:00 "));
        assert!(at("today").ends_with(&at("yesterday")[24..]));
        assert_eq!(at("00:00"), at("today"));
        for text in ["", "soon", "2026-13-01", "25:00", "ago", "@x", "--1h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "\\PC{0,24}|[-@0-9:. TZ]{0,24}|[0-9]{1,30}(d|y|mo) ago", now in any::<u64>()) {
            let _ = parse(&text).map(|since| since.instant(Stamp::from_usec(now)));
        }

        #[test]
        fn no_time_is_too_much(stamp in any::<u64>(), now in any::<u64>()) {
            both(Stamp::from_usec(stamp), Stamp::from_usec(now));
        }
    }
}
