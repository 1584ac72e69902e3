//! What strangers write where a daemon lets them: user names, paths, host names that look like what a filter looks for.

use std::sync::LazyLock;

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
    let mut lies: Vec<String> = ANYWHERE.iter().map(|lie| (*lie).to_owned()).collect();
    for line in lines {
        let line = named(line);
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

/// What setuid programs write behind the name by which their caller started them: shadow's, util-linux's, sudo, mount,
/// fusermount, glibc's getopt and loader. glibc's err(3) and error(3) write the name with its colon alone.
const ENDINGS: &[&str] = &[
    ":",
    ": cannot lock /etc/passwd; try again later.",
    ": Permission denied",
    ": Permission denied.",
    ": Operation not permitted",
    ": No such file or directory",
    ": PAM: Authentication failure",
    ": Authentication failure",
    ": Cannot possibly work without effective root",
    ": failure while writing changes to /etc/passwd",
    ": no changes",
    ": invalid option -- 'Z'",
    ": option requires an argument -- 'f'",
    ": unrecognized option '--x'",
    ": option '--shell' doesn't allow an argument",
    ": user 'x' does not exist",
    ": user '\"' does not exist",
    ": group 'x' does not exist in /etc/group",
    ": invalid room number: 'x'",
    ": You may not view or modify password information for root.",
    ": failure forking: Resource temporarily unavailable",
    ": must be run from a terminal",
    ": unknown user x",
    ": failed to execute x: No such file or directory",
    ": command not found",
    ": entry for /mnt not found in /etc/mtab",
    ": old style mounting not supported",
    ": 3 incorrect password attempts",
    ": error while loading shared libraries: x.so: cannot open shared object file: No such file or directory",
];

/// Messages whose beginning is a stranger's and whose end is a program's that runs as root: `line`, which names the victim
/// now, whole and broken off at each word or sign behind the victim, with what such a program puts there.
pub fn forged(line: &str) -> impl Iterator<Item = String> {
    let line = named(line);
    let begin = line.find(VICTIM).map_or(0, |at| at + VICTIM.len());
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut cuts: Vec<usize> = line
        .char_indices()
        .filter(|(at, _)| *at >= begin)
        .filter(|(at, c)| word(Some(*c)) != word(line[..*at].chars().next_back()))
        .map(|(at, _)| at)
        .chain([line.len()])
        .collect();
    cuts.dedup();
    cuts.into_iter().flat_map(move |cut| {
        let beginning = line[..cut].to_owned();
        ENDINGS.iter().map(move |ending| format!("{beginning}{ending}"))
    })
}

static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b|\b2001:db8:[0-9a-f:]*[0-9a-f]").unwrap());

/// The line as it would be of the victim.
fn named(line: &str) -> String {
    ADDRESS.replace_all(line, VICTIM).into_owned()
}

/// Makes a lie longer at its front so that `line`, where it stands in for `{}`, ends with it when cut to `cut` bytes.
pub fn up_to(cut: usize, line: &str, lie: &str) -> Option<String> {
    let before = line.find("{}")?;
    let room = cut.checked_sub(before + lie.len())?;
    Some(format!("{}{lie}", "A".repeat(room)))
}
