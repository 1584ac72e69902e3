//! fail2ban's samples, of its package and of the corpus, with what the package's own fail2ban says about each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde::Deserialize;

/// Debian's release with the newest fail2ban that stays what it is.
const SUITE: &str = "trixie";

/// All there is to judge by.
pub struct Oracle {
    /// fail2ban's configuration directory.
    pub configuration: PathBuf,
    pub version: String,
    /// In the order in which they must be fed.
    pub samples: Vec<Sample>,
}

/// One line with one set of a filter's options.
#[derive(Deserialize)]
pub struct Sample {
    /// `package` or `corpus`: lines of one say nothing about sessions of the other.
    pub source: String,
    pub filter: String,
    pub options: BTreeMap<String, String>,
    pub line: String,
    /// What stands for the line in a list: never its text.
    pub key: String,
    /// Do the samples say that it is a failure, and of whom?
    #[serde(rename = "match")]
    pub matches: bool,
    pub host: Option<String>,
    /// The fields of the journal's entry; `None` for a line that no daemon writes to a journal.
    pub journal: Option<BTreeMap<String, String>>,
    /// What stands behind the date.
    pub rest: String,
    /// Whom the package's own fail2ban counts a failure for, by the way it is asked; empty where it has no such filter.
    pub says: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
struct Head {
    version: String,
}

/// The samples, or why there are none.
pub fn oracle() -> &'static Result<Oracle, String> {
    static ORACLE: OnceLock<Result<Oracle, String>> = OnceLock::new();
    ORACLE.get_or_init(|| {
        let directory = package()?;
        let told = ask(&directory.join("root"));
        let mut lines = told.lines();
        let head: Head = serde_json::from_str(lines.next().unwrap()).unwrap();
        let samples = lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
        let (configuration, samples) = (directory.join("root/etc/fail2ban"), samples.collect());
        Ok(Oracle { configuration, version: head.version, samples })
    })
}

/// The unpacked package, downloaded once; this release's own where the newer cannot be had.
fn package() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/fail2ban");
    let place = |name: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (newer, own) = (place("fail2ban-of-trixie"), place("fail2ban"));
    let told = |command: &mut Command| {
        let output = command.output().map_err(|error| error.to_string())?;
        output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let first = told(Command::new(&script).arg("of").arg(SUITE).arg(&newer)).map(|()| newer);
    first.or_else(|newer_not| {
        let second = told(Command::new(&script).arg("get").arg(&own)).map(|()| own);
        second.map_err(|own_not| format!("no fail2ban to ask: {newer_not}; {own_not}"))
    })
}

/// The answer of `ask.py`.
fn ask(root: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/ask.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).arg(root);
    match std::env::var_os("BANISH_TEST_DATA") {
        Some(data) => drop(command.arg(Path::new(&data).join("corpus/fail2ban"))),
        None => println!("BANISH_TEST_DATA is not set: the package's own samples alone"),
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
