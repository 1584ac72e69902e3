//! Lengths of time as fail2ban writes them, read as sums of products; what it would have Python evaluate is refused.

use std::time::Duration;

use super::super::common::TEN_YEARS;
use super::super::length;

/// A length of fail2ban's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    For(Duration),
    /// More than any that we write.
    Longer,
    /// Below zero: for ever.
    Endless,
}

/// Units by the beginnings that fail2ban knows, in seconds; the first that fits counts.
const UNITS: [(&[&str], f64); 7] = [
    (&["d", "da", "dd", "day", "days"], 86_400.0),
    (&["w", "we", "wee", "ww", "week", "weeks"], 604_800.0),
    (&["mo", "mon", "month", "months"], 2_629_800.0),
    (&["y", "ye", "yea", "yy", "year", "years"], 31_557_600.0),
    (&["s", "se", "sec", "ss", "second", "seconds"], 1.0),
    (&["m", "mi", "min", "mm", "minute", "minutes"], 60.0),
    (&["h", "ho", "hou", "hh", "hour", "hours"], 3_600.0),
];

/// Reads `600`, `10m`, `1d 12h`, `1h30m + 60*5`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &str) -> Result<Span, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if let Some(below) = text.strip_prefix('-') {
        let number = !below.is_empty() && below.bytes().all(|byte| byte.is_ascii_digit());
        return if number { Ok(Span::Endless) } else { Err("only a single number may be below zero".into()) };
    }
    let mut reader = Reader { rest: text };
    let seconds = reader.sum()?;
    if !seconds.is_finite() || seconds < 0.0 {
        return Err("it is too long".into());
    }
    if seconds > TEN_YEARS.as_secs_f64() {
        return Ok(Span::Longer);
    }
    Ok(Span::For(Duration::from_micros((seconds * 1e6) as u64)))
}

/// The string of our configuration.
pub(super) fn shown(length: Duration) -> String {
    let whole = length.as_secs();
    if length.subsec_nanos() > 0 {
        return length::show(length);
    }
    match [(604_800, "w"), (86_400, "d"), (3_600, "h"), (60, "m")]
        .into_iter()
        .find(|(unit, _)| whole > 0 && whole.is_multiple_of(*unit) && whole / unit < 100)
    {
        Some((unit, name)) => format!("{}{name}", whole / unit),
        None => length::show(length),
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn sum(&mut self) -> Result<f64, String> {
        let mut sum = self.product()?;
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next() {
                None => return Ok(sum),
                Some('+') => self.rest = &self.rest[1..],
                Some(c) if c.is_ascii_digit() => {}
                Some(_) => {
                    return Err(
                        "only sums and products of numbers and units of time are read, nothing is evaluated".into()
                    );
                }
            }
            sum += self.product()?;
        }
    }

    fn product(&mut self) -> Result<f64, String> {
        let mut product = self.number()?;
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.strip_prefix('*') {
                // Two of them would be a power.
                Some(rest) if !rest.starts_with('*') => self.rest = rest,
                _ => return Ok(product),
            }
            product *= self.number()?;
        }
    }

    fn number(&mut self) -> Result<f64, String> {
        self.rest = self.rest.trim_start();
        let digits = self.rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| "a number is missing")?;
        let rest = rest.trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(letters);
        self.rest = rest;
        if unit.is_empty() {
            return Ok(number);
        }
        let unit = unit.to_lowercase();
        let known = UNITS.iter().find(|(words, _)| words.contains(&unit.as_str()));
        known.map(|(_, seconds)| number * seconds).ok_or_else(|| "it has a word that is no unit of time".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_products_are_read_as_fail2ban_does() {
        for (text, seconds) in [
            ("600", 600),
            ("10m", 600),
            ("1d12h", 129_600),
            ("1d 12h 30m 10s", 131_410),
            ("60*60*24", 86_400),
            ("1 week + 2 * 1d", 777_600),
            ("2mon", 5_259_600),
            ("1Year", 31_557_600),
            ("1.5h", 5_400),
            ("3650d", 3650 * 86_400),
        ] {
            assert_eq!(parse(text), Ok(Span::For(Duration::from_secs(seconds))), "{text}");
        }
        assert_eq!(parse("-1"), Ok(Span::Endless));
        assert_eq!(parse("3650d 1s"), Ok(Span::Longer));
        assert_eq!(parse("99999y"), Ok(Span::Longer));
    }

    #[test]
    fn nothing_is_evaluated() {
        for text in [
            "",
            "1-2",
            "(1)",
            "2**8",
            "__import__('os')",
            "1h if 1 else 2",
            "m",
            "5 parsecs",
            "1e9",
            "--1",
            "1..2",
            "+",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for seconds in [1, 60, 90, 600, 3_600, 86_400, 604_800, 129_600, 31_557_600] {
            let length = Duration::from_secs(seconds);
            assert_eq!(length::parse(&shown(length)), Ok(length));
        }
        assert_eq!(shown(Duration::from_secs(129_600)), "36h");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_much(text in "([0-9]|\\.|\\+|\\*|-| |m|d|\\PC){0,30}") {
            let _ = parse(&text);
        }
    }
}
