//! The last configuration that was in force, kept whole in the state directory: with it runs a start that finds errors in
//! the files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::config::{self, Copies, Loaded};
use crate::engine::ban::JailName;
use crate::engine::time::Stamp;

/// Its file in the state directory.
pub const FILE: &str = "configuration";
/// The file that is written and then takes that name.
const NEW: &str = "configuration.new";
/// The most bytes that are kept.
pub const LIMIT: usize = 32 * 1024 * 1024;
/// The first line. Its number changes with the format.
const FORMAT: &str = "banish configuration 1";

/// A configuration that was in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// When it came into force.
    pub since: Stamp,
    /// The jails that ran.
    pub jails: Vec<JailName>,
    /// What it was read from.
    pub copies: Copies,
}

/// Why there is no former configuration to run with.
#[derive(Debug, thiserror::Error)]
pub enum FormerError {
    /// The file is there and cannot be read.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    /// The file is not what was written.
    #[error("it is damaged")]
    Damaged,
    /// Another version of banish wrote it.
    #[error("another version of banish wrote it")]
    OtherVersion,
    /// This version finds an error in it: what it is may quote addresses.
    #[error("this version finds an error in it")]
    Invalid(#[source] Fault),
}

/// A problem in what is kept.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fault(String);

impl Former {
    /// Reads what is kept in the directory `state`; `None` where nothing is.
    ///
    /// # Errors
    /// Where it is not what was written.
    pub fn read(state: &Path) -> Result<Option<Former>, FormerError> {
        let mut bytes = Vec::new();
        #[expect(clippy::disallowed_methods, reason = "the state directory is files")]
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(state.join(FILE));
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FormerError::Unreadable(error)),
            Ok(file) => file.take(LIMIT as u64 + 1).read_to_end(&mut bytes).map_err(FormerError::Unreadable)?,
        };
        Former::decode(&bytes).map(Some)
    }

    /// What it says, where that is without errors.
    ///
    /// # Errors
    /// [`FormerError::Invalid`].
    pub fn load(&self) -> Result<Loaded, FormerError> {
        let loaded = config::load_copies(&self.copies);
        let error = loaded.problems.iter().find(|problem| problem.severity == config::Severity::Error);
        match error {
            Some(error) => Err(FormerError::Invalid(Fault(error.to_string()))),
            None => Ok(loaded),
        }
    }

    /// Keeps it in the directory `state`, whole or not at all. What is kept there already stays, with its time, where it
    /// says the same.
    ///
    /// # Errors
    /// Where it cannot be written. What was kept before is then still there.
    pub fn keep(self, state: &Path) -> io::Result<Former> {
        if let Ok(Some(kept)) = Former::read(state)
            && (&kept.jails, &kept.copies) == (&self.jails, &self.copies)
        {
            return Ok(kept);
        }
        let bytes = self.encode();
        if bytes.len() > LIMIT {
            return Err(io::Error::other(format!("it is larger than {} MiB", LIMIT >> 20)));
        }
        let written = write(state, &bytes);
        if written.is_err() {
            #[expect(clippy::disallowed_methods, reason = "the state directory is files")]
            // What is in the way is overwritten the next time.
            let _ = std::fs::remove_file(state.join(NEW));
        }
        written.map(|()| self)
    }

    fn encode(&self) -> Vec<u8> {
        let jails: String = self.jails.iter().map(|jail| format!(" {jail}")).collect();
        let mut bytes = format!("{FORMAT}\nsince {}\njails{jails}\n", self.since.usec()).into_bytes();
        bytes.extend(self.copies.encode());
        let sum = format!("sum {:016x}\n", sum(&bytes));
        bytes.extend(sum.into_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Former, FormerError> {
        const SUM_LINE: usize = "sum 0123456789abcdef\n".len();
        let first = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        let is_known = first.strip_suffix(b"\n") == Some(FORMAT.as_bytes());
        if !is_known && first.starts_with(b"banish configuration ") && first.ends_with(b"\n") {
            return Err(FormerError::OtherVersion);
        }
        let (body, end) = bytes.split_at(bytes.len().saturating_sub(SUM_LINE));
        if !is_known || body.len() < first.len() || end != format!("sum {:016x}\n", sum(body)).into_bytes() {
            return Err(FormerError::Damaged);
        }
        let mut rest = &body[first.len()..];
        let mut line = |key: &str| {
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let line = std::str::from_utf8(&rest[..end]).ok()?.strip_prefix(key)?;
            rest = &rest[end + 1..];
            Some(line)
        };
        let since = line("since ").and_then(|usec| usec.parse().ok()).ok_or(FormerError::Damaged)?;
        let jails = line("jails").ok_or(FormerError::Damaged)?;
        let jails = jails.split_whitespace().map(str::parse).collect::<Result<_, _>>();
        Ok(Former {
            since: Stamp::from_usec(since),
            jails: jails.map_err(|_| FormerError::Damaged)?,
            copies: Copies::decode(rest).map_err(|_| FormerError::Damaged)?,
        })
    }
}

fn write(state: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = state.join(NEW);
    #[expect(clippy::disallowed_methods, reason = "the state directory is files")]
    // What a killed daemon left in the way may be anything.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    #[expect(clippy::disallowed_methods, reason = "the state directory is files")]
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    #[expect(clippy::disallowed_methods, reason = "the state directory is files")]
    std::fs::rename(&new, state.join(FILE))?;
    #[expect(clippy::disallowed_methods, reason = "the state directory is files")]
    File::open(state)?.sync_all()
}

/// FNV-1a: it tells damage, not malice.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests are an edge")]
mod tests {
    use super::*;
    use crate::config::Layout;
    use std::os::unix::fs::PermissionsExt;

    fn former(directory: &Path) -> Former {
        let filter = "journalmatch = ['_SYSTEMD_UNIT=x.service']\nfailregex = ['^no <ADDR>$']\n";
        for (path, text) in [
            ("etc/banish.toml", "[default]\nignoreip = ['192.0.2.0/24']\n"),
            ("etc/jail.d/x.toml", "[jail.x]\nenabled = true\nport = 'ssh'\n[jail.y]\n"),
            ("etc/filter.d/x.toml", filter),
            ("etc/filter.d/y.toml", "failregex = ["),
        ] {
            let path = directory.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let loaded = config::load_to_run(&Layout::Directory(directory.join("etc")));
        assert_eq!(loaded.problems, []);
        Former { since: Stamp::from_usec(7), jails: vec!["x".parse().unwrap()], copies: loaded.copies.unwrap() }
    }

    #[test]
    fn what_is_kept_says_the_same_when_its_files_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let former = former(directory.path());
        let there = former.load().unwrap();
        assert_eq!(former.clone().keep(directory.path()).unwrap(), former);
        std::fs::remove_dir_all(directory.path().join("etc")).unwrap();
        let kept = Former::read(directory.path()).unwrap().unwrap();
        assert_eq!(kept, former);
        let loaded = kept.load().unwrap();
        assert_eq!(loaded.values, there.values);
        let jails: Vec<(&str, bool)> =
            loaded.settings.jails.iter().map(|jail| (jail.name.as_str(), jail.enabled)).collect();
        assert_eq!(jails, [("x", true), ("y", false)]);
        assert!(loaded.settings.jails[0].filter.is_some());
        assert_eq!(loaded.settings.allow.subjects().len(), 1);
        let mode = std::fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_same_is_kept_with_the_time_it_had() {
        let directory = tempfile::tempdir().unwrap();
        let former = former(directory.path());
        former.clone().keep(directory.path()).unwrap();
        let later = Former { since: Stamp::from_usec(8), ..former.clone() };
        assert_eq!(later.clone().keep(directory.path()).unwrap(), former);
        let other = Former { jails: Vec::new(), ..later };
        assert_eq!(other.clone().keep(directory.path()).unwrap(), other);
        assert_eq!(Former::read(directory.path()).unwrap(), Some(other));
    }

    #[test]
    fn what_was_not_written_like_this_is_told() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Former::read(directory.path()).unwrap().is_none());
        let former = former(directory.path());
        let whole = former.encode();
        let read = |bytes: &[u8]| {
            std::fs::write(directory.path().join(FILE), bytes).unwrap();
            Former::read(directory.path())
        };
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(read(&bytes).is_err(), "byte {at}");
        }
        for length in [0, 1, FORMAT.len(), whole.len() - 1] {
            assert!(matches!(read(&whole[..length]), Err(FormerError::Damaged)), "{length}");
        }
        let mut other = whole.clone();
        other[FORMAT.len() - 1] = b'2';
        assert!(matches!(read(&other), Err(FormerError::OtherVersion)));
        assert_eq!(read(&whole).unwrap(), Some(former));
        std::fs::remove_file(directory.path().join(FILE)).unwrap();
        std::fs::create_dir(directory.path().join(FILE)).unwrap();
        assert!(matches!(Former::read(directory.path()), Err(FormerError::Unreadable(_))));
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_kept() {
        let directory = tempfile::tempdir().unwrap();
        let former = former(directory.path());
        former.clone().keep(directory.path()).unwrap();
        // A directory that is not empty cannot be removed, not even by root.
        std::fs::create_dir_all(directory.path().join(NEW).join("x")).unwrap();
        let other = Former { jails: Vec::new(), ..former.clone() };
        assert!(other.keep(directory.path()).is_err());
        assert_eq!(Former::read(directory.path()).unwrap(), Some(former));
    }
}
