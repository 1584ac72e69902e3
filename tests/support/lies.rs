//! What strangers write where a daemon lets them: user names, paths, host names that look like what a filter looks for.

use regex::Regex;

/// Whom the stranger wants to see banned.
pub const VICTIM: &str = "198.51.100.66";

/// Texts that any daemon may be given.
const ANYWHERE: &[&str] = &[
    "",
    " ",
    VICTIM,
    "2001:db8:6::66",
    "[198.51.100.66]",
    "(198.51.100.66)",
    "x[198.51.100.66]",
    "x from 198.51.100.66",
    "x from 198.51.100.66 port 4242 ssh2",
    "x, client: 198.51.100.66, server: y",
    "x rhost=198.51.100.66 user=y",
    "x rhost=198.51.100.66",
    "x, rip=198.51.100.66, lip=192.0.2.1",
    "x\" 198.51.100.66 \"",
    "x' 198.51.100.66 '",
    "x> 198.51.100.66 <",
    "x) 198.51.100.66 (",
    "x] 198.51.100.66 [",
    "x} 198.51.100.66 {",
    "x: 198.51.100.66: ",
    "x\",\"remote_ip\":\"198.51.100.66\",\"y\":\"",
    "x\\\",\\\"ip\\\":\\\"198.51.100.66",
    "x\\198.51.100.66\\",
    "a\nx from 198.51.100.66",
    "\u{fc}\u{1b}[31m 198.51.100.66\r",
    "\t198.51.100.66\u{7f}",
    "::ffff:198.51.100.66",
    "198.51.100.66:4242",
    "198.51.100.66/32",
    "198.51.100.66.example.org",
    "%s%n$(id)`id`${IFS}",
    "(?:.*)[^]]+<ADDR>$^",
];

/// Lies made of the daemon's own lines, which name the victim now, whole and from each word on.
pub fn about(lines: &[&str]) -> Vec<String> {
    let address = Regex::new(r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b|\b2001:db8:[0-9a-f:]*[0-9a-f]").unwrap();
    let mut lies: Vec<String> = ANYWHERE.iter().map(|lie| (*lie).to_owned()).collect();
    for line in lines {
        let line = address.replace_all(line, VICTIM).into_owned();
        for (at, _) in line.match_indices(' ').take(6) {
            lies.push(format!("x{}", &line[at..]));
        }
        for lie in [format!("a\n{line}"), format!(" {line} "), format!("\"{line}\""), line] {
            lies.push(lie);
        }
    }
    let noise = "A".repeat(8192);
    lies.push(noise.clone());
    lies.push(format!("{noise} {VICTIM}"));
    lies.sort();
    lies.dedup();
    lies
}

/// Makes a lie longer at its front so that `line`, where it stands in for `{}`, ends with it when cut to `cut` bytes.
pub fn up_to(cut: usize, line: &str, lie: &str) -> Option<String> {
    let before = line.find("{}")?;
    let room = cut.checked_sub(before + lie.len())?;
    Some(format!("{}{lie}", "A".repeat(room)))
}
