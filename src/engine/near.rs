//! What somebody may have meant who wrote something else.

/// The known word that is most like `word`, if one is like enough to be a slip of the pen.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // Nobody slips for longer than that, and the comparison costs the product of the lengths.
    if word.chars().count() > 64 {
        return None;
    }
    let plain = |word: &str| -> Vec<char> { word.to_lowercase().replace('_', "-").chars().collect() };
    let given = plain(word);
    let near = known.iter().map(|candidate| (distance(&given, &plain(candidate)), *candidate)).min()?;
    (near.0 <= 1 + given.len() / 5 && near.0 < given.len()).then_some(near.1)
}

/// Damerau's distance, as far as one line needs it: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let known = ["bantime", "findtime", "maxretry", "ipv6-prefix", "ignoreip", "y"];
        for (given, meant) in [
            ("maxrety", Some("maxretry")),
            ("maxrtery", Some("maxretry")),
            ("max-retry", Some("maxretry")),
            ("MaxRetry", Some("maxretry")),
            ("ipv6_prefix", Some("ipv6-prefix")),
            ("ingoreip", Some("ignoreip")),
            ("colour", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(given, &known), meant, "{given}");
        }
        assert_eq!(nearest(&"x".repeat(1_000_000), &known), None);
    }
}
