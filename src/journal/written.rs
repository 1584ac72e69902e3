//! When this machine's journal was written last, as its files say.

use std::path::Path;
use std::time::SystemTime;

/// Where journald keeps files.
const ROOTS: [&str; 2] = ["/run/log/journal", "/var/log/journal"];

/// When anything was written into this machine's journal last, by the clock of then; `None` where that cannot be seen.
pub fn last_written() -> Option<SystemTime> {
    #[expect(clippy::disallowed_methods, reason = "journals are files")]
    let machine = std::fs::read_to_string("/etc/machine-id").ok()?;
    ROOTS.iter().filter_map(|root| newest(&Path::new(root).join(machine.trim()))).max()
}

/// When the newest journal file in `directory` was changed.
fn newest(directory: &Path) -> Option<SystemTime> {
    #[expect(clippy::disallowed_methods, reason = "journals are files")]
    let entries = std::fs::read_dir(directory).ok()?;
    let is_journal = |path: &Path| path.extension().is_some_and(|extension| extension == "journal");
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_journal(path))
        .filter_map(|path| path.metadata().ok()?.modified().ok())
        .max()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests are an edge")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_newest_file_says_when() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(newest(directory.path()), None);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (name, seconds) in [("system.journal", 50), ("user-1000.journal", 70), ("other", 90)] {
            let file = std::fs::File::create(directory.path().join(name)).unwrap();
            file.set_modified(at(seconds)).unwrap();
        }
        assert_eq!(newest(directory.path()), Some(at(70)));
        assert_eq!(newest(&directory.path().join("absent")), None);
    }
}
