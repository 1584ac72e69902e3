//! Everything in the fuzzer's corpus, and what has ever broken a target, read again.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are an edge")]

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::path::Path;

/// Calls `target` with each file below `fuzz/corpus/NAME`.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        eprintln!("{}", file.display());
        target(&std::fs::read(&file).unwrap());
    }
}

#[test]
fn dialect() {
    replay("dialect", targets::dialect::run);
}

#[test]
fn matching() {
    replay("matching", targets::matching::run);
}

#[test]
fn entry() {
    replay("entry", targets::entry::run);
}

#[test]
fn config() {
    replay("config", targets::config::run);
}

#[test]
fn import() {
    replay("import", targets::import::run);
}

#[test]
fn snapshot() {
    replay("snapshot", targets::snapshot::run);
}

#[test]
fn warden() {
    replay("warden", targets::warden::run);
}
