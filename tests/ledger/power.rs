//! Loss of power at any moment: of what was written since the last sync some is there and some is not, page by page torn.
//! The ledger opens all the same, with whole commits up to some point, and with every command that was answered.
//!
//! A run of the store is traced with strace; its writes are done again in another directory up to a cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use banish::ledger::{Durability, Restored, Store};
use tempfile::{TempDir, tempdir};

use super::kill::{DIR, child, last};
use super::model::{Model, sorted};
use super::{at, nth};

/// Enough for the write-ahead log to be written back and begun anew twice.
const COMMITS: u64 = 400;
const SECTOR: usize = 512;

/// Is it a command's?
fn durability(n: u64) -> Durability {
    if n.is_multiple_of(9) { Durability::Command } else { Durability::Entries }
}

#[test]
#[ignore = "a part of a_power_cut_leaves_whole_commits_and_every_command"]
fn write_a_history() {
    let dir = std::env::var_os(DIR).expect("run by its parent");
    let (mut store, _) = Store::open(Path::new(&dir), at(0)).unwrap();
    for n in 1..=COMMITS {
        store.commit(&nth(n), durability(n)).unwrap();
        println!("committed {n}.");
        // A stop and a start on the way.
        if n == COMMITS / 3 {
            store.close().unwrap();
            store = Store::open(Path::new(&dir), at(0)).unwrap().0;
        }
    }
    store.close().unwrap();
}

#[test]
fn a_power_cut_leaves_whole_commits_and_every_command() {
    let dir = in_memory();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    let trace = dir.path().join("trace");
    let plain = child("power::write_a_history", &state);
    let calls =
        "trace=openat,close,lseek,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat";
    let mut strace = Command::new("strace");
    strace.args(["-f", "-xx", "-s", "70000", "-e", calls, "-o"]).arg(&trace);
    let run = strace.arg(plain.get_program()).args(plain.get_args()).env(DIR, &state).output();
    let traced = fs::read_to_string(&trace).unwrap_or_default();
    if !run.as_ref().is_ok_and(|run| run.status.success()) || traced.is_empty() {
        eprintln!("skipped: no strace, or it may not trace: {run:?}");
        return;
    }

    let mut expected: Vec<Restored> = Vec::new();
    let mut model = Model::default();
    expected.push(sorted(model.restored(at(0))));
    for n in 1..=COMMITS {
        model.apply(&nth(n));
        expected.push(sorted(model.restored(at(0))));
    }

    let mut disk = Disk::new(state);
    let mut dice = Dice(0x5eed);
    let (mut answered, mut cuts, mut seen) = (0, 0, BTreeSet::new());
    for line in traced.lines() {
        let Some(call) = Call::parse(line) else { continue };
        if let Some(n) = call.committed() {
            if durability(n) == Durability::Command {
                answered = n;
            }
            continue;
        }
        // Before a sync most is at stake; elsewhere a cut now and then.
        let fates: &[Fate] = match call.name {
            "fsync" | "fdatasync" => &[Fate::Lost, Fate::Kept, Fate::Torn],
            "rename" | "unlink" => &[Fate::Lost, Fate::Kept],
            "pwrite64" | "write" | "ftruncate" if dice.below(24) == 0 => &[Fate::Torn],
            _ => &[],
        };
        for fate in fates {
            let after = in_memory();
            disk.cut(after.path(), *fate, &mut dice);
            let opened = Store::open(after.path(), at(0));
            let (store, restored) =
                opened.unwrap_or_else(|error| panic!("cut {cuts}, {fate:?}, before {line:.60}: {error}"));
            assert_eq!(restored.kept_aside, None, "cut {cuts}, {fate:?}, before {line:.60}: a power cut is no damage");
            let n = last(&restored);
            assert!(n >= answered, "cut {cuts}, {fate:?}: command {answered} was answered, {n} is there");
            assert_eq!(sorted(restored), expected[usize::try_from(n).unwrap()], "cut {cuts}, {fate:?}: after {n}");
            drop(store);
            cuts += 1;
            seen.insert(n);
        }
        disk.apply(&call);
    }
    assert_eq!(answered, COMMITS / 9 * 9, "the whole run was traced");
    println!("{cuts} cuts, which ended at {} different commits", seen.len());
    assert!(cuts > 150 && seen.len() > 40, "{cuts} cuts, {seen:?}");
}

/// A directory whose syncs nobody has to wait for: the disk here is a model.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempdir()).unwrap()
}

/// A system call that succeeded.
struct Call<'a> {
    name: &'a str,
    arguments: &'a str,
    /// The quoted arguments.
    texts: Vec<Vec<u8>>,
    result: i64,
}

impl<'a> Call<'a> {
    /// `1234 pwrite64(5, "\x00…", 24, 0) = 24`.
    fn parse(line: &'a str) -> Option<Call<'a>> {
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let (name, rest) = line.split_once('(')?;
        assert!(!line.contains("<unfinished"), "one thread writes: {line:.80}");
        let (arguments, result) = rest.rsplit_once(" = ")?;
        let result: i64 = result.split(' ').next()?.parse().ok()?;
        let texts = arguments.split('"').skip(1).step_by(2).map(unhex).collect();
        (result >= 0).then_some(Call { name, arguments, texts, result })
    }

    /// The numbers behind the last quoted argument, or all.
    fn numbers(&self) -> Vec<i64> {
        let behind = self.arguments.rsplit_once('"').map_or(self.arguments, |(_, behind)| behind);
        behind.split([',', ')']).filter_map(|part| part.trim().parse().ok()).collect()
    }

    fn descriptor(&self) -> i64 {
        self.arguments.split([',', ')']).next().unwrap().trim().parse().unwrap()
    }

    fn path(&self, which: usize) -> PathBuf {
        String::from_utf8(self.texts[which].clone()).unwrap().into()
    }

    /// The run says on standard output that a commit has returned.
    fn committed(&self) -> Option<u64> {
        let text = (self.name == "write" && self.descriptor() == 1).then(|| String::from_utf8_lossy(&self.texts[0]))?;
        text.split_once("committed ")?.1.split_once('.')?.0.parse().ok()
    }
}

fn unhex(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|byte| u8::from_str_radix(&byte[..2], 16).unwrap()).collect()
}

/// What is done with the writes that were not synced.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Lost,
    Kept,
    /// The first few are there; of those behind, every sector by itself is or is not.
    Torn,
}

/// A disk that keeps what is synced: a file's content by its own sync, names by that of their directory.
struct Disk {
    root: PathBuf,
    open: BTreeMap<i64, Opened>,
    files: Vec<File>,
    /// The names as every program sees them, and as they are after a cut.
    names: BTreeMap<PathBuf, usize>,
    kept: BTreeMap<PathBuf, usize>,
    /// What was done with names since.
    renaming: Vec<Naming>,
}

enum Opened {
    Directory,
    File { file: usize, at: usize },
}

#[derive(Default)]
struct File {
    synced: Vec<u8>,
    pending: Vec<Write>,
}

enum Write {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

enum Naming {
    Made(PathBuf, usize),
    Moved(PathBuf, PathBuf),
    Removed(PathBuf),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Naming::Made(path, file) => drop(names.insert(path.clone(), *file)),
            Naming::Moved(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Naming::Removed(path) => drop(names.remove(path)),
        }
    }
}

impl File {
    fn write(content: &mut Vec<u8>, write: &Write) {
        match write {
            Write::Length(length) => content.resize(*length, 0),
            Write::Bytes(at, bytes) => {
                let end = at + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*at..end].copy_from_slice(bytes);
            }
        }
    }

    fn after(&self, fate: Fate, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.synced.clone();
        let whole = dice.below(self.pending.len() + 1);
        for (number, write) in self.pending.iter().enumerate() {
            match (fate, write) {
                (Fate::Torn, write) if number < whole => File::write(&mut content, write),
                (Fate::Lost, _) => {}
                (Fate::Kept, write) => File::write(&mut content, write),
                (Fate::Torn, Write::Length(_)) if dice.below(2) == 0 => {}
                (Fate::Torn, Write::Length(_)) => File::write(&mut content, write),
                (Fate::Torn, Write::Bytes(at, bytes)) => {
                    let mut from = 0;
                    while from < bytes.len() {
                        let to = (from + SECTOR - (at + from) % SECTOR).min(bytes.len());
                        if dice.below(3) > 0 {
                            File::write(&mut content, &Write::Bytes(at + from, bytes[from..to].to_vec()));
                        }
                        from = to;
                    }
                }
            }
        }
        content
    }
}

impl Disk {
    fn new(root: PathBuf) -> Disk {
        Disk {
            root,
            open: BTreeMap::new(),
            files: Vec::new(),
            names: BTreeMap::new(),
            kept: BTreeMap::new(),
            renaming: Vec::new(),
        }
    }

    fn apply(&mut self, call: &Call<'_>) {
        match call.name {
            "openat" => self.opened(call),
            "close" => drop(self.open.remove(&call.descriptor())),
            "lseek" => {
                if let Some(Opened::File { at, .. }) = self.open.get_mut(&call.descriptor()) {
                    *at = usize::try_from(call.result).unwrap();
                }
            }
            "write" | "pwrite64" => {
                let Some(Opened::File { file, at }) = self.open.get_mut(&call.descriptor()) else { return };
                let bytes = call.texts[0].clone();
                assert_eq!(bytes.len(), usize::try_from(call.result).unwrap(), "traced as a whole");
                let from = match call.name {
                    "write" => std::mem::replace(at, *at + bytes.len()),
                    _ => usize::try_from(*call.numbers().last().unwrap()).unwrap(),
                };
                self.files[*file].pending.push(Write::Bytes(from, bytes));
            }
            "ftruncate" => {
                let Some(Opened::File { file, .. }) = self.open.get(&call.descriptor()) else { return };
                self.files[*file]
                    .pending
                    .push(Write::Length(usize::try_from(*call.numbers().last().unwrap()).unwrap()));
            }
            "fsync" | "fdatasync" => match self.open.get(&call.descriptor()) {
                Some(Opened::File { file, .. }) => {
                    let file = &mut self.files[*file];
                    for write in std::mem::take(&mut file.pending) {
                        File::write(&mut file.synced, &write);
                    }
                }
                Some(Opened::Directory) => {
                    self.renaming.clear();
                    self.kept = self.names.clone();
                }
                None => {}
            },
            "rename" => self.name(Naming::Moved(call.path(0), call.path(1))),
            "unlink" => self.name(Naming::Removed(call.path(0))),
            other => panic!("what to do with {other}?"),
        }
    }

    fn opened(&mut self, call: &Call<'_>) {
        let path = call.path(0);
        if path == self.root {
            self.open.insert(call.result, Opened::Directory);
        }
        let shared = path.to_string_lossy().ends_with("-shm");
        if path.parent() != Some(&self.root) || shared {
            return;
        }
        let file = match self.names.get(&path) {
            Some(file) => *file,
            None => {
                self.files.push(File::default());
                self.name(Naming::Made(path, self.files.len() - 1));
                self.files.len() - 1
            }
        };
        if call.arguments.contains("O_TRUNC") {
            self.files[file].pending.push(Write::Length(0));
        }
        self.open.insert(call.result, Opened::File { file, at: 0 });
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.renaming.push(naming);
    }

    /// Leaves in `directory` what a cut leaves. Of what was done with names the earlier is never lost before the later.
    fn cut(&self, directory: &Path, fate: Fate, dice: &mut Dice) {
        let done = match fate {
            Fate::Lost => 0,
            Fate::Kept => self.renaming.len(),
            Fate::Torn => dice.below(self.renaming.len() + 1),
        };
        let mut names = self.kept.clone();
        self.renaming[..done].iter().for_each(|naming| naming.apply(&mut names));
        for (path, file) in names {
            let content = self.files[file].after(fate, dice);
            fs::write(directory.join(path.file_name().unwrap()), content).unwrap();
        }
    }
}

/// Always the same dice.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}
