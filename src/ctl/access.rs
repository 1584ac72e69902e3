//! The configuration as the daemon's user sees it: root may read every file, that user may not.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::sys::{self, Identity};
use crate::config::{Layout, Loaded, Place, Problem, Severity, load};

/// What the unit hides from the daemon, by ProtectHome= and PrivateTmp=.
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

/// Whose rights on files a configuration was judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The caller's own.
    Own,
    /// Root's, because the daemon cannot reach the directory at all.
    Unreachable,
    /// The daemon's.
    Daemon,
}

/// Loads a configuration; for root as the daemon would, with what is wrong in files that only root can read besides.
///
/// A directory named by the caller that the daemon cannot reach is none of the daemon's.
pub fn load_as_daemon(layout: &Layout) -> (Loaded, Judged) {
    if !sys::is_root() {
        return (load(layout), Judged::Own);
    }
    let daemon = Identity::of_service(c"banish", c"systemd-journal").unwrap_or_else(Identity::of_others);
    if let Layout::Directory(directory) = layout
        && !matches!(as_user(&daemon, || is_open(directory)), Some(true))
    {
        return (load(layout), Judged::Unreachable);
    }
    let Some(mut loaded) = as_user(&daemon, || load(layout)) else { return (load(layout), Judged::Own) };
    let mut problems = std::mem::take(&mut loaded.problems);
    if problems.iter().any(is_about_a_file) {
        let mut own = load(layout).problems;
        for problem in problems {
            match problem.place.clone() {
                _ if own.contains(&problem) => {}
                Some(place) if is_about_a_file(&problem) => own.extend(mended(problem, &place, &daemon)),
                // What follows from that, but for its effect on all jails, is not worth a line of its own.
                None => own.push(problem),
                Some(_) => {}
            }
        }
        problems = own;
    }
    if *layout == Layout::System {
        problems.extend(loaded.files.iter().filter_map(|file| hidden(file)));
    }
    problems.sort_by(|a, b| (&a.place, &a.key, &a.text).cmp(&(&b.place, &b.key, &b.text)));
    problems.dedup();
    loaded.problems = problems;
    (loaded, Judged::Daemon)
}

fn is_about_a_file(problem: &Problem) -> bool {
    problem.severity == Severity::Error
        && problem.key.is_empty()
        && problem.place.as_ref().is_some_and(|at| at.line == 0)
}

/// What `look` finds with the rights of `identity`; `None` where this process cannot take them.
fn as_user<T: Send>(identity: &Identity, look: impl FnOnce() -> T + Send) -> Option<T> {
    let looked = std::thread::scope(|scope| {
        let thread = scope.spawn(|| sys::look_at_files_as(identity).ok().map(|()| look()));
        thread.join()
    });
    looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The problem of a file that the daemon's user cannot read, at what keeps it from that and with the command that mends it.
fn mended(problem: Problem, place: &Place, daemon: &Identity) -> Option<Problem> {
    let found = place.file.canonicalize().ok()?;
    let Some(obstacle) = as_user(daemon, || obstacle(&found)).flatten() else {
        let parent = place.file.parent()?.canonicalize().ok()?;
        let Some(obstacle) = as_user(daemon, || obstacle(&parent)).flatten() else { return Some(problem) };
        return Some(denied(&obstacle, daemon));
    };
    Some(denied(&obstacle, daemon))
}

/// The first of the directories above, or the file itself, that this thread may not use.
fn obstacle(path: &Path) -> Option<PathBuf> {
    let mut all: Vec<&Path> = path.ancestors().collect();
    all.reverse();
    all.into_iter().find(|one| !if *one == path { is_open(one) } else { is_searchable(one) }).map(Path::to_path_buf)
}

/// May this thread read the file, or list and search the directory?
fn is_open(path: &Path) -> bool {
    #[expect(clippy::disallowed_methods, reason = "the configuration is files")]
    let opened = if path.is_dir() {
        is_searchable(path) && std::fs::read_dir(path).is_ok()
    } else {
        !is_denied(std::fs::File::open(path).map(drop))
    };
    opened
}

fn is_searchable(directory: &Path) -> bool {
    !is_denied(directory.join(".").metadata().map(drop))
}

fn is_denied(result: io::Result<()>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn denied(obstacle: &Path, daemon: &Identity) -> Problem {
    let name = obstacle.display();
    let text = match obstacle.metadata().ok().and_then(|found| lacking(&found, daemon)) {
        Some(change) => format!("the daemon's user banish cannot read it: chmod {change} {name}"),
        None => format!(
            "the daemon's user banish cannot read it, by an access list or a security module: see getfacl {name}"
        ),
    };
    Problem { severity: Severity::Error, place: Some(Place::whole(obstacle)), key: String::new(), jail: None, text }
}

/// The bits that the mode lacks for the daemon's user, as chmod takes them.
fn lacking(found: &Metadata, daemon: &Identity) -> Option<String> {
    let (class, shift) = match () {
        () if found.uid() == daemon.user => ('u', 6),
        () if daemon.groups.contains(&found.gid()) => ('g', 3),
        () => ('o', 0),
    };
    let wanted = if found.is_dir() { 0o5 } else { 0o4 };
    let lacks = wanted & !(found.mode() >> shift);
    let bits = if lacks & 0o4 == 0 { "" } else { "r" }.to_owned() + if lacks & 0o1 == 0 { "" } else { "x" };
    (lacks != 0).then(|| format!("{class}+{bits}"))
}

/// A problem where a link leads to what the unit hides.
fn hidden(file: &Path) -> Option<Problem> {
    let found = file.canonicalize().ok()?;
    let hidden = HIDDEN.iter().find(|hidden| found.starts_with(hidden))?;
    let text = format!("is {}, and the daemon does not see {hidden}: put the file itself here", found.display());
    Some(Problem { severity: Severity::Error, place: Some(Place::whole(file)), key: String::new(), jail: None, text })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests are an edge")]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FILTER: &str = "journalmatch = ['_SYSTEMD_UNIT=x.service']\nfailregex = ['^no <ADDR>$']\n";

    /// A configuration that everybody may read.
    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("filter.d/x.toml", FILTER),
            ("jail.d/x.toml", "[jail.x]\nenabled = true\n"),
            ("jail.d/local.toml", "[jail.x]\nmaxretry = 4\n"),
        ] {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            set_permissions(path.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
            write(&path, text).unwrap();
            set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        }
        set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        directory
    }

    #[test]
    fn root_is_told_what_the_daemon_s_user_cannot_read() {
        if !sys::is_root() {
            return eprintln!("skipped: needs root");
        }
        let directory = directory();
        let layout = Layout::Directory(directory.path().into());
        let root = directory.path().canonicalize().unwrap();
        let (loaded, judged) = load_as_daemon(&layout);
        assert_eq!((judged, loaded.problems.len(), loaded.settings.jails.len()), (Judged::Daemon, 0, 1));
        for (name, mode, change) in [
            ("jail.d/local.toml", 0o600, "o+r"),
            ("jail.d/local.toml", 0o640, "o+r"),
            ("jail.d", 0o700, "o+rx"),
            ("jail.d", 0o711, "o+r"),
            ("jail.d", 0o744, "o+x"),
            ("filter.d", 0o700, "o+rx"),
        ] {
            let (path, back) = (root.join(name), if name.ends_with(".toml") { 0o644 } else { 0o755 });
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let (loaded, _) = load_as_daemon(&layout);
            set_permissions(&path, Permissions::from_mode(back)).unwrap();
            let told: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
            let command = format!("{0}: the daemon's user banish cannot read it: chmod {change} {0}", path.display());
            assert_eq!(told.last(), Some(&command), "{name} {mode:o}: {told:?}");
            assert!(
                told.len() <= 2 && told.iter().all(|one| *one == command || one.starts_with("no jail runs")),
                "{told:?}"
            );
            assert!(loaded.settings.jails.is_empty(), "{name} {mode:o}");
        }
        assert_eq!(load_as_daemon(&layout).0.problems, [], "this thread has root's rights as before");
    }

    #[test]
    fn what_is_wrong_in_a_file_that_only_root_reads_is_told_too() {
        if !sys::is_root() {
            return eprintln!("skipped: needs root");
        }
        let directory = directory();
        let local = directory.path().join("jail.d/local.toml");
        write(&local, "[jail.x]\nmaxretry = 'four'\n").unwrap();
        set_permissions(&local, Permissions::from_mode(0o600)).unwrap();
        let (loaded, _) = load_as_daemon(&Layout::Directory(directory.path().into()));
        let told = |text: &str| loaded.problems.iter().filter(|problem| problem.to_string().contains(text)).count();
        assert_eq!((told("chmod o+r "), told("local.toml:2:12: jail.x.maxretry")), (1, 1), "{:?}", loaded.problems);
    }

    #[test]
    fn rights_are_those_of_owner_group_and_others_and_of_access_lists() {
        if !sys::is_root() {
            return eprintln!("skipped: needs root");
        }
        let directory = directory();
        let local = directory.path().join("jail.d/local.toml");
        let daemon = Identity { user: 4_000_001, group: 4_000_001, groups: vec![4_000_001, 4_000_002] };
        for (owner, mode, expected) in [
            ((0, 0), 0o644, None),
            ((4_000_001, 0), 0o044, Some("u+r")),
            ((4_000_001, 0), 0o400, None),
            ((0, 4_000_002), 0o604, Some("g+r")),
            ((0, 4_000_002), 0o640, None),
            ((0, 0), 0o660, Some("o+r")),
        ] {
            std::os::unix::fs::chown(&local, Some(owner.0), Some(owner.1)).unwrap();
            set_permissions(&local, Permissions::from_mode(mode)).unwrap();
            let found = as_user(&daemon, || obstacle(&local)).unwrap();
            let change = found.map(|path| lacking(&path.metadata().unwrap(), &daemon).unwrap_or_default());
            assert_eq!(change.as_deref(), expected, "{owner:?} {mode:o}");
        }
        std::os::unix::fs::chown(&local, Some(0), Some(0)).unwrap();
        let list = std::process::Command::new("setfacl").args(["-m", "u:4000001:---"]).arg(&local).status();
        set_permissions(&local, Permissions::from_mode(0o644)).unwrap();
        if list.is_ok_and(|status| status.success()) {
            assert_eq!(as_user(&daemon, || obstacle(&local)).unwrap(), Some(local.canonicalize().unwrap()));
            assert!(denied(&local, &daemon).text.contains("getfacl"));
        }
    }

    #[test]
    fn a_directory_of_somebody_s_own_is_read_with_the_caller_s_rights() {
        let directory = directory();
        set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        let (loaded, judged) = load_as_daemon(&Layout::Directory(directory.path().into()));
        let expected = if sys::is_root() { Judged::Unreachable } else { Judged::Own };
        assert_eq!((judged, loaded.problems.len()), (expected, 0));
    }
}
