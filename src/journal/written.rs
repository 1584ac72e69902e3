//! When this machine's journal was written last, as its files say.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where journald keeps files.
const ROOTS: [&str; 2] = ["/run/log/journal", "/var/log/journal"];

/// When anything was written into this machine's journal last, by the clock of then: the epoch where it has no file, `None`
/// where that cannot be seen.
pub fn last_written() -> Option<SystemTime> {
    #[expect(clippy::disallowed_methods, reason = "journals are files")]
    let machine = std::fs::read_to_string("/etc/machine-id").ok()?;
    newest_in(ROOTS.map(|root| Path::new(root).join(machine.trim()))).ok()
}

/// When the newest journal file in these directories was changed; the epoch where there is none.
fn newest_in(directories: [PathBuf; 2]) -> io::Result<SystemTime> {
    let times = directories.iter().map(|directory| newest(directory)).collect::<io::Result<Vec<_>>>()?;
    Ok(times.into_iter().flatten().max().unwrap_or(SystemTime::UNIX_EPOCH))
}

/// When the newest journal file in `directory` was changed.
fn newest(directory: &Path) -> io::Result<Option<SystemTime>> {
    #[expect(clippy::disallowed_methods, reason = "journals are files")]
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let is_journal = |path: &Path| path.extension().is_some_and(|extension| extension == "journal");
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_journal(path))
        .filter_map(|path| path.metadata().ok()?.modified().ok())
        .max())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests are an edge")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_newest_file_says_when() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("absent");
        let newest = |one: &Path| newest_in([one.to_owned(), absent.clone()]).ok();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!((newest(&absent), newest(directory.path())), (Some(at(0)), Some(at(0))), "nothing is kept");
        for (name, seconds) in [("system.journal", 50), ("user-1000.journal", 70), ("other", 90)] {
            let file = std::fs::File::create(directory.path().join(name)).unwrap();
            file.set_modified(at(seconds)).unwrap();
        }
        assert_eq!(newest(directory.path()), Some(at(70)));
        assert_eq!(newest(&directory.path().join("other")), None, "it cannot be seen");
    }
}
