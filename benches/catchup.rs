//! What catching up costs in user and system time: a bare sd-journal loop in C, our reader with next to no filter, the
//! whole daemon, and fail2ban over the same journal of 200,000 entries of which 60,000 are sshd's; the same with 50
//! jails; and what ten times more entries of others add. Least of five rounds, fail2ban's of one.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark is an edge")]

#[allow(dead_code, reason = "it has a journald for the tests too")]
#[path = "../tests/support/journal.rs"]
mod journal;
#[path = "support/past.rs"]
mod past;
#[path = "support/row.rs"]
mod row;
#[path = "support/sys.rs"]
mod sys;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use banish::engine::ban::JailName;
use banish::engine::entry::{Entry, Field, Locate, Slot, Wanted};
use banish::engine::filter::Hit;
use banish::journal::{Examine, Handle, LIVENESS, News, Plan, Source, Start};
use row::row;

const SSHD: u64 = 60_000;
const OTHERS: u64 = 140_000;
const JAILS: u64 = 50;
const ROUNDS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mode, directory] = &arguments[..]
        && mode == "reader"
    {
        return read(directory.into());
    }
    if let Some(reason) = journal::missing_writer() {
        return println!("skipped: {reason}");
    }
    let bench = Bench::new();
    let journal = bench.journal("past", SSHD, OTHERS);
    let fail2ban = bench.fail2ban();
    bench.one_jail(&journal, fail2ban.as_deref());
    bench.fifty_jails(&journal, fail2ban.as_deref());
    bench.growth();
    bench.text(fail2ban.as_deref());
}

struct Bench {
    scratch: PathBuf,
    bare: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let source = here("benches/bare.c");
        let bare = scratch.join("bare");
        let compiled = Command::new("cc").args(["-O2", "-o"]).arg(&bare).arg(source).arg("-lsystemd").status().unwrap();
        assert!(compiled.success(), "cc needs libsystemd's headers");
        Bench { scratch, bare }
    }

    fn journal(&self, name: &str, sshd: u64, others: u64) -> PathBuf {
        let journal = self.scratch.join(format!("journal-{name}"));
        past::generate(&journal, sshd, others);
        journal
    }

    /// Where fail2ban is; says why not where it is not to be had.
    fn fail2ban(&self) -> Option<PathBuf> {
        let at = self.scratch.join("fail2ban");
        let got = Command::new(here("benches/fail2ban")).arg("get").arg(&at).output().unwrap();
        if !got.status.success() {
            eprintln!("skipped: fail2ban beside us: {}", String::from_utf8_lossy(&got.stdout).trim());
        }
        got.status.success().then_some(at)
    }

    fn one_jail(&self, journal: &Path, fail2ban: Option<&Path>) {
        let mut reader = Command::new(std::env::current_exe().unwrap());
        reader.arg("reader").arg(journal);
        let ssh = ["_SYSTEMD_UNIT=ssh.service".to_owned()];
        let [bare, reader, ours] =
            least([self.bare(journal, &ssh), reader, banishd(journal, &here("etc"))]).map(|took| took.as_secs_f64());
        row("Catch-up, 200,000 entries, 60,000 of sshd: bare loop in C, s of CPU", format_args!("{bare:.3}"), "–");
        row("… our reader alone, × the bare loop", format_args!("{:.2}", reader / bare), "–");
        row("… banishd, s of CPU", format_args!("{ours:.3}"), "–");
        row("… banishd, × the bare loop", format_args!("{:.2}", ours / bare), "≤ 2");
        if let Some(usage) = fail2ban.and_then(|at| catch_up(at, journal, 1)) {
            let took = usage.time.as_secs_f64();
            row("… fail2ban, s of CPU", format_args!("{took:.1}"), "–");
            row("… fail2ban, most memory resident, MB", usage.resident / 1024, "–");
            row("… fail2ban, × banishd", format_args!("{:.0}", took / ours), "≥ 50");
        }
    }

    /// sshd's and one for each other unit, and more that nobody writes to.
    fn fifty_jails(&self, journal: &Path, fail2ban: Option<&Path>) {
        let etc = self.scratch.join("fifty");
        let _ = std::fs::remove_dir_all(&etc);
        for folder in ["jail.d", "filter.d"] {
            std::fs::create_dir_all(etc.join(folder)).unwrap();
        }
        for file in ["filter.d/sshd.toml", "jail.d/sshd.toml"] {
            std::fs::copy(here("etc").join(file), etc.join(file)).unwrap();
        }
        let mut jails = String::new();
        let mut matches = vec!["_SYSTEMD_UNIT=ssh.service".to_owned()];
        for app in 1..JAILS {
            let filter = format!(
                "description = \"app\"\njournalmatch = [\"_SYSTEMD_UNIT=app{app}.service\"]\n\
                 failregex = ['^login failed for <F-USER>.*</F-USER> from <ADDR>$']\n"
            );
            std::fs::write(etc.join(format!("filter.d/app{app}.toml")), filter).unwrap();
            jails += &format!("[jail.app{app}]\nenabled = true\nfilter = \"app{app}\"\nport = [\"http\"]\n");
            matches.push(format!("_SYSTEMD_UNIT=app{app}.service"));
        }
        std::fs::write(etc.join("jail.d/apps.toml"), jails).unwrap();
        let took = least([self.bare(journal, &matches), banishd(journal, &etc)]);
        let [bare, ours] = took.map(|took| took.as_secs_f64());
        row("The same with 50 jails: bare loop with their matches, s of CPU", format_args!("{bare:.3}"), "–");
        row("… banishd, s of CPU", format_args!("{ours:.3}"), "–");
        row("… banishd, × the bare loop", format_args!("{:.2}", ours / bare), "≤ 2");
        if let Some(usage) = fail2ban.and_then(|at| catch_up(at, journal, JAILS)) {
            row("… fail2ban, s of CPU", format_args!("{:.1}", usage.time.as_secs_f64()), "–");
        }
    }

    fn growth(&self) {
        let few = self.journal("few", SSHD, OTHERS / 5);
        let many = self.journal("many", SSHD, OTHERS * 2);
        let ssh = ["_SYSTEMD_UNIT=ssh.service".to_owned()];
        let both = |journal: &Path| [self.bare(journal, &ssh), banishd(journal, &here("etc"))];
        let [[a, b], [c, d]] = [few, many].map(|journal| both(&journal));
        let took = least([a, b, c, d]).map(|took| took.as_secs_f64());
        let (bare, ours) = ((took[2] / took[0] - 1.0) * 100.0, (took[3] / took[1] - 1.0) * 100.0);
        row("10 × more entries of others: the bare loop grows, %", format_args!("{bare:.0}"), "–");
        row("… banishd grows, %", format_args!("{ours:.0}"), &format!("≤ {:.0}", bare.max(0.0) + 10.0));
    }

    /// fail2ban-regex over the same messages as text.
    fn text(&self, fail2ban: Option<&Path>) {
        let Some(fail2ban) = fail2ban else { return };
        let file = self.scratch.join("messages");
        let line = |number| format!("Nov 14 22:13:20 host sshd[{number}]: {}\n", past::message(number));
        std::fs::write(&file, (0..SSHD).map(line).collect::<String>()).unwrap();
        let mut regex = Command::new(here("benches/fail2ban"));
        regex.arg("regex").arg(fail2ban).arg("--print-no-missed").arg("--print-no-ignored").arg(file).arg("sshd");
        let took = run(&mut regex).map(|usage| usage.time.as_secs_f64() * 1e6 / SSHD as f64);
        if let Some(took) = took {
            row(
                "Matching, fail2ban-regex over the same messages as text, µs a message",
                format_args!("{took:.1}"),
                "–",
            );
        }
    }

    fn bare(&self, journal: &Path, matches: &[String]) -> Command {
        let mut command = Command::new(&self.bare);
        command.arg(journal).args(matches);
        command
    }
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn banishd(journal: &Path, etc: &Path) -> Command {
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_banishd"));
    daemon.args(["--dry-run", "--once", "--config"]).arg(etc).arg("--journal-directory").arg(journal);
    daemon
}

fn catch_up(fail2ban: &Path, journal: &Path, jails: u64) -> Option<sys::Usage> {
    let mut command = Command::new("unshare");
    command.arg("--net").arg(here("benches/fail2ban")).arg("catchup").arg(fail2ban).arg(journal).arg(jails.to_string());
    let usage = run(&mut command);
    if usage.is_none() {
        eprintln!("skipped: fail2ban with {jails} jails does not run here");
    }
    usage
}

/// The least of each; in the first round, which does not count, they warm the page cache for each other.
fn least<const N: usize>(mut contenders: [Command; N]) -> [Duration; N] {
    let mut least = [Duration::MAX; N];
    for round in 0..=ROUNDS {
        for (command, least) in contenders.iter_mut().zip(&mut least) {
            let usage = run(command).unwrap_or_else(|| panic!("{command:?} fails"));
            if round > 0 {
                *least = usage.time.min(*least);
            }
        }
    }
    least
}

fn run(command: &mut Command) -> Option<sys::Usage> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().ok()?;
    let (status, usage) = sys::wait(child).unwrap();
    status.success().then_some(usage)
}

fn read(directory: PathBuf) {
    let plan = Plan { source: Source::Directory(directory), start: Start::Head, once: true, liveness: LIVENESS };
    let (out, mut news) = tokio::sync::mpsc::channel(16);
    let _reader = Handle::spawn(plan, Box::new(Passwords::new()), out).unwrap();
    let (mut entries, mut sightings) = (0, 0);
    while let Some(one) = news.blocking_recv() {
        if let News::Harvest(harvest) = one {
            entries += harvest.entries;
            sightings += harvest.sightings.len();
        }
    }
    println!("{entries} entries, {sightings} sightings");
    assert_eq!(entries, SSHD);
}

/// Looks at what a filter looks at, and matches almost for nothing.
struct Passwords {
    wanted: Wanted,
    message: Slot,
    jail: JailName,
}

impl Passwords {
    fn new() -> Passwords {
        let mut wanted = Wanted::default();
        for name in ["_SYSTEMD_UNIT", "SYSLOG_IDENTIFIER", "_UID", "_PID"] {
            wanted.want(&name.parse().unwrap());
        }
        Passwords { message: wanted.want(&Field::message()), wanted, jail: "sshd".parse().unwrap() }
    }
}

impl Examine for Passwords {
    fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    fn terms(&self) -> Option<Vec<(Field, Vec<u8>)>> {
        Some(vec![("_SYSTEMD_UNIT".parse().unwrap(), b"ssh.service".to_vec())])
    }

    fn examine(&mut self, entry: Entry<'_>, _locate: Locate<'_>, sighted: &mut dyn FnMut(Hit)) {
        let Some(text) = entry.first(self.message).and_then(|text| std::str::from_utf8(text.bytes).ok()) else {
            return;
        };
        if !text.starts_with("Failed password") {
            return;
        }
        let address = text.split(' ').skip_while(|word| *word != "from").nth(1).and_then(|word| word.parse().ok());
        if let Some(address) = address {
            sighted(Hit { jail: self.jail.clone(), address, evidence: None });
        }
    }
}
