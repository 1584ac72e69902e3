//! What lies beside the configuration under a name that is not read, and where it was probably meant to be.

use std::ffi::OsString;
use std::path::Path;

use super::layers::is_read;
use super::problem::{Place, Problem, Severity};
use super::words::nearest;

const DROP_INS: [&str; 3] = ["banish.toml.d", "jail.d", "filter.d"];

/// What editors, package managers and people keep beside a file on purpose.
const KEPT: [&str; 14] = [
    "~",
    ".bak",
    ".old",
    ".orig",
    ".save",
    ".swp",
    ".swo",
    ".tmp",
    ".rpmnew",
    ".rpmsave",
    ".rpmorig",
    ".pacnew",
    ".pacsave",
    ".disabled",
];

/// Warns of what is in a layer's directory and is no part of the configuration.
pub(super) fn in_layer(layer: &Path, names: &[OsString]) -> Vec<Problem> {
    let strays = names.iter().filter(|name| *name != "banish.toml" && DROP_INS.iter().all(|known| name != known));
    warnings(layer, strays, |path, name| {
        if path.is_dir() {
            let plain = name.trim_end_matches(".d").trim_end_matches('s');
            let meant = DROP_INS.into_iter().find(|known| known.split('.').next() == Some(plain));
            return match meant.or_else(|| nearest(name, &DROP_INS)) {
                Some(meant) => format!("is not read; did you mean {}?", layer.join(meant).display()),
                None => format!("is not read: the directories here are {}", DROP_INS.join(", ")),
            };
        }
        match stem(name) {
            // fail2ban has one file of the administrator's for all jails.
            (_, Some(ending @ ("conf" | "local"))) => fail2ban(layer, ending),
            ("banishd" | "banish" | "Banish" | "config", _) => {
                format!("is not read; did you mean {}?", layer.join("banish.toml").display())
            }
            _ if nearest(name, &["banish.toml"]).is_some() => {
                format!("is not read; did you mean {}?", layer.join("banish.toml").display())
            }
            (stem, _) => {
                let meant = layer.join("jail.d").join(format!("{stem}.toml"));
                format!("is not read; did you mean {}?", meant.display())
            }
        }
    })
}

/// Warns of what is in one of the layer's directories and is not read there.
pub(super) fn in_drop_ins(directory: &Path, names: &[OsString]) -> Vec<Problem> {
    warnings(directory, names.iter().filter(|name| !is_read(name)), |path, name| match stem(name) {
        _ if path.is_dir() => format!("is not read: only files in {} itself are", directory.display()),
        (_, Some(ending @ ("conf" | "local"))) => fail2ban(directory.parent().unwrap_or(directory), ending),
        (stem, _) => {
            let meant = directory.join(format!("{stem}.toml"));
            format!("is not read, for its name does not end in .toml; did you mean {}?", meant.display())
        }
    })
}

/// Warns of a directory with the name of a file.
pub(super) fn directory(path: &Path) -> Problem {
    warning(path, "is a directory; a file was to be expected, and nothing in it is read".into())
}

fn fail2ban(layer: &Path, ending: &str) -> String {
    format!(
        "is not read: fail2ban's files are brought over by banishctl import, and what fail2ban has in a .{ending} file stands \
         here in {}",
        layer.join("jail.d/local.toml").display()
    )
}

fn warnings<'a>(
    directory: &Path,
    strays: impl Iterator<Item = &'a OsString>,
    text: impl Fn(&Path, &str) -> String,
) -> Vec<Problem> {
    let told = strays.filter_map(|name| {
        let path = directory.join(name);
        let name = name.to_string_lossy();
        (!is_kept(&name)).then(|| warning(&path, text(&path, &name)))
    });
    told.collect()
}

fn warning(path: &Path, text: String) -> Problem {
    Problem { severity: Severity::Warning, ..Problem::about_file(Place::whole(path), text) }
}

/// Is it there on purpose: a hidden file, a backup, a note to people?
fn is_kept(name: &str) -> bool {
    let plain = name.to_lowercase();
    plain.starts_with(['.', '#'])
        || KEPT.iter().any(|ending| plain.ends_with(ending))
        || [".dpkg-", ".ucf-", ".bak", ".toml~", ".cfsaved"].iter().any(|part| plain.contains(part))
        || plain.starts_with("readme")
        || [".md", ".txt"].iter().any(|ending| plain.ends_with(ending))
}

/// A file's name up to its last dot, and what follows that.
fn stem(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() => (stem, Some(ending)),
        _ => (name, None),
    }
}
