//! Keeps a file that is in the ledger's place under another name: it may be all that is left of somebody's bans.

use std::io;
use std::path::{Path, PathBuf};

use chrono::DateTime;

use crate::engine::time::Stamp;

use super::store::with_companions;

/// Moves the file and its companions to `….<why>-<date of now>` and gives that name; nothing is overwritten.
pub(super) fn keep_aside(path: &Path, why: &str, now: Stamp) -> io::Result<PathBuf> {
    let aside = free_name(path, why, now)?;
    for (from, to) in with_companions(path).iter().zip(with_companions(&aside)) {
        #[expect(clippy::disallowed_methods, reason = "the ledger is an edge: it owns this directory")]
        match std::fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

fn free_name(path: &Path, why: &str, now: Stamp) -> io::Result<PathBuf> {
    let date = i64::try_from(now.usec())
        .ok()
        .and_then(DateTime::from_timestamp_micros)
        .map_or_else(|| now.usec().to_string(), |date| date.format("%Y%m%dT%H%M%SZ").to_string());
    for number in 1u32.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{why}-{date}"));
        if number > 1 {
            name.push(format!("-{number}"));
        }
        let free = with_companions(Path::new(&name)).iter().try_fold(true, |free, path| {
            path.symlink_metadata().map(|_| false).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(free),
                _ => Err(error),
            })
        })?;
        if free {
            return Ok(name.into());
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
