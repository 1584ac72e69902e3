//! Lengths of time as people write them: `10m`, `1h 30min`, `1d12h`, `permanent`; never evaluated, never negative.

use std::time::Duration;

/// Why a text is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LengthError {
    /// Not numbers with units.
    #[error("expected a length of time such as \"10m\", \"1h 30min\" or \"1d\"")]
    Unreadable,
    /// A word behind a number that is no unit of time.
    #[error("{0:?} is no unit of time (known are s, m, h, d, w, mo, y)")]
    Unit(String),
    /// Beyond all reason.
    #[error("too long")]
    TooLong,
}

const MICROS: u64 = 1_000_000;

/// Units in µs, `systemd.time(7)`'s words and fail2ban's `mo`; a year is 365.25 days, a month a twelfth of it.
const UNITS: [(&[&str], u64); 9] = [
    (&["us", "µs", "μs", "usec"], 1),
    (&["ms", "msec"], 1_000),
    (&["s", "sec", "second", "seconds"], MICROS),
    (&["m", "min", "minute", "minutes"], 60 * MICROS),
    (&["h", "hr", "hour", "hours"], 3_600 * MICROS),
    (&["d", "day", "days"], 86_400 * MICROS),
    (&["w", "week", "weeks"], 7 * 86_400 * MICROS),
    (&["M", "mo", "month", "months"], 2_629_800 * MICROS),
    (&["y", "year", "years"], 31_557_600 * MICROS),
];

/// Reads a sum of numbers with units, with or without spaces; a single bare number is seconds.
///
/// # Errors
/// [`LengthError`], for what is not that.
pub fn parse(text: &str) -> Result<Duration, LengthError> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(LengthError::Unreadable);
    }
    if rest.bytes().all(|b| b.is_ascii_digit()) {
        return times(rest, MICROS).map(Duration::from_micros);
    }
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(end_of(rest, |c| c.is_ascii_digit() || c == '.'));
        let after = after.trim_start();
        let (unit, after) = after.split_at(end_of(after, char::is_alphabetic));
        if number.is_empty() || unit.is_empty() {
            return Err(LengthError::Unreadable);
        }
        let known = UNITS.iter().find(|(words, _)| words.contains(&unit));
        let (_, micros) = known.ok_or_else(|| LengthError::Unit(unit.chars().take(20).collect()))?;
        sum = sum.checked_add(times(number, *micros)?).ok_or(LengthError::TooLong)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_micros(sum))
}

/// As [`parse`] reads it, in the largest units that fit: `1h 30m`.
pub fn show(length: Duration) -> String {
    let mut rest = length.as_micros();
    let mut parts = Vec::new();
    for (unit, micros) in
        [("d", 86_400 * MICROS), ("h", 3_600 * MICROS), ("m", 60 * MICROS), ("s", MICROS), ("ms", 1_000), ("us", 1)]
    {
        let count = rest / u128::from(micros);
        rest %= u128::from(micros);
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        }
    }
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

fn end_of(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// `number`, which may have a fraction, of a unit of `micros`.
fn times(number: &str, micros: u64) -> Result<u64, LengthError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(LengthError::Unreadable);
    }
    let whole: u64 = whole.parse().map_err(|_| LengthError::TooLong)?;
    // Nine digits are finer than a µs of any unit that has fractions worth writing.
    let digits: String = fraction.chars().take(9).collect();
    let scale = 10u128.pow(u32::try_from(digits.len()).unwrap_or(9));
    let part = digits.parse::<u128>().map_err(|_| LengthError::Unreadable)? * u128::from(micros) / scale;
    let whole = whole.checked_mul(micros).ok_or(LengthError::TooLong)?;
    u64::try_from(part).ok().and_then(|part| whole.checked_add(part)).ok_or(LengthError::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_write_lengths_in_many_ways() {
        for (text, seconds) in [
            ("600", 600.0),
            ("10m", 600.0),
            ("10 min", 600.0),
            ("1h 30min", 5400.0),
            ("1h30m", 5400.0),
            ("1d12h30m10s", 131_410.0),
            ("1.5h", 5400.0),
            ("2w", 1_209_600.0),
            ("1mo", 2_629_800.0),
            ("1y", 31_557_600.0),
            ("250ms", 0.25),
            (" 5 seconds ", 5.0),
            ("0", 0.0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for text in
            ["", " ", "m", "10 10", "-1", "1h-5m", "1..5h", ".5h", "5.h", "1.5", "ten minutes", "1h,2m", "60*60"]
        {
            assert_eq!(parse(text), Err(LengthError::Unreadable), "{text}");
        }
        assert_eq!(parse("10 parsecs"), Err(LengthError::Unit("parsecs".into())));
        for text in ["99999999999999999999", "99999999999999999999s", "999999999999999y", "584000y 584000y"] {
            assert_eq!(parse(text), Err(LengthError::TooLong), "{text}");
        }
    }

    #[test]
    fn a_bare_number_ends_where_microseconds_do() {
        assert_eq!(parse("18446744073709"), Ok(Duration::from_secs(18_446_744_073_709)));
        assert_eq!(parse("18446744073710"), Err(LengthError::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_shown_reads_back(micros in 0..=u64::MAX / 4) {
            let length = Duration::from_micros(micros);
            prop_assert_eq!(parse(&show(length)), Ok(length));
        }
    }
}
