//! What a shell offers behind `<TAB>`: names out of the configuration's files and, of a daemon that runs, banned addresses.
//! It starts nothing, asks nobody for a password, and where something cannot be known it offers nothing.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory;
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{ArgValueCandidates, Shell};
use zbus::fdo;
use zbus::names::BusName;

use super::args::{Cli, bus_address};
use crate::bus::proxy::ListedBan;
use crate::bus::{BusAddress, NAME, PATH};
use crate::config::{Layout, Loaded, load, load_to_run};

/// By this variable a shell's script asks.
const VARIABLE: &str = "BANISHCTL_COMPLETE";
/// Who presses a key does not wait longer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// So many addresses are offered at most.
const MOST: u32 = 1000;

/// Answers a shell that asks by [`VARIABLE`]; `false` where none does.
pub fn answer(words: &[OsString]) -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let here = std::env::current_dir().ok();
    let complete = CompleteEnv::with_factory(Cli::command).var(VARIABLE).bin("banishctl");
    // What goes wrong must not be printed into the line that is being written.
    complete.try_complete(words.iter().cloned(), here.as_deref()).unwrap_or(true)
}

/// bash breaks words at colons and replaces what stands behind the last one alone: an IPv6 address has many.
const BASH: &str = r#"_banishctl() {
    local line=${COMP_LINE:0:COMP_POINT} words current begin
    read -ra words <<<"$line"
    [[ $line != *[[:space:]] ]] || words+=("")
    current=${words[-1]} begin=
    [[ $current != *[:=]* ]] || begin=${current%"${current##*[:=]}"}
    mapfile -t COMPREPLY < <(_CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) BANISHCTL_COMPLETE=bash \
        banishctl -- "${words[@]}" 2>/dev/null)
    COMPREPLY=("${COMPREPLY[@]#"$begin"}")
    [[ ${#COMPREPLY[@]} != 1 || ${COMPREPLY[0]} != *[=/] ]] || compopt -o nospace 2>/dev/null
}
complete -o bashdefault -o nosort -F _banishctl banishctl
"#;

/// Writes the script by which `shell` asks.
///
/// # Errors
/// Whatever writing meets.
pub fn script(shell: Shell, out: &mut dyn Write) -> std::io::Result<()> {
    if shell == Shell::Bash {
        return out.write_all(BASH.as_bytes());
    }
    let shells = Shells::builtins();
    let known = shells.completer(&shell.to_string()).ok_or_else(|| std::io::Error::other("no such shell"))?;
    known.write_registration(VARIABLE, "banishctl", "banishctl", "banishctl", out)
}

/// All jails, and the built-in one.
pub fn jails() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let loaded = load_to_run(&layout());
        let names = loaded
            .settings
            .jails
            .iter()
            .map(|jail| jail.name.to_string())
            .chain(loaded.left_out.iter().map(|left_out| left_out.jail.clone()));
        offered(names.chain(["manual".into()]))
    })
}

/// The jails that run.
pub fn running_jails() -> ArgValueCandidates {
    ArgValueCandidates::new(|| offered(enabled(&load_to_run(&layout()))))
}

/// The jails in which an administrator bans: those that run, and the built-in one.
pub fn banning_jails() -> ArgValueCandidates {
    ArgValueCandidates::new(|| offered(enabled(&load_to_run(&layout())).chain(["manual".into()])))
}

fn enabled(loaded: &Loaded) -> impl Iterator<Item = String> {
    loaded.settings.jails.iter().filter(|jail| jail.enabled).map(|jail| jail.name.to_string())
}

/// Names of filters, and files.
#[derive(Clone, Copy, Debug)]
pub struct Filters;

impl ValueCompleter for Filters {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let begin = current.to_string_lossy();
        let filters = load_to_run(&layout()).files.into_iter().filter(|file| file.parent().is_some_and(of_filters));
        let names = filters.filter_map(|file| Some(file.file_stem()?.to_string_lossy().into_owned()));
        let mut found = offered(names.filter(|name| name.starts_with(&*begin)));
        if found.is_empty() || begin.contains('/') {
            found.extend(PathCompleter::file().complete(current));
        }
        found
    }
}

fn of_filters(directory: &std::path::Path) -> bool {
    directory.ends_with("filter.d")
}

/// The modes of the filter that the line names, or of all.
pub fn modes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let filter = said(&["--filter", "-f"]);
        let values = load(&layout()).values;
        let modes = values.iter().filter_map(|given| {
            let (name, mode) = given.key.strip_prefix("filter.")?.split_once(".mode.")?;
            let of_it = filter.as_ref().is_none_or(|filter| filter == name);
            of_it.then(|| mode.split('.').next().unwrap_or(mode).to_owned())
        });
        offered(modes.chain(["normal".into()]))
    })
}

/// Who is banned, in the jail that the line names or anywhere.
pub fn banned() -> ArgValueCandidates {
    ArgValueCandidates::new(|| offered(bans(&said(&["--jail", "-j"]).unwrap_or_default()).unwrap_or_default()))
}

fn bans(jail: &str) -> Option<Vec<String>> {
    let bus = said(&["--bus-address"]).and_then(|text| bus_address(&text).ok()).unwrap_or(BusAddress::System);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let asked = async {
        let connection = bus.builder().method_timeout(PATIENCE).build().await.ok()?;
        let names = fdo::DBusProxy::new(&connection).await.ok()?;
        if !names.name_has_owner(BusName::try_from(NAME).ok()?).await.ok()? {
            return None;
        }
        // Not by the proxy, which lets polkit ask for a password.
        let manager = Some("org.banish1.Manager");
        let page = connection.call_method(Some(NAME), PATH, manager, "ListBans", &(jail, "", MOST)).await.ok()?;
        let bans: Vec<ListedBan> = page.body().deserialize().ok()?;
        Some(bans.into_iter().map(|ban| ban.subject).collect())
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await.ok()? })
}

fn offered(names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    // What a line of the shell could not hold as it is cannot be the name of anything of ours.
    let plain =
        |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-:/@".contains(c));
    let names: BTreeSet<String> = names.into_iter().filter(plain).collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn layout() -> Layout {
    said(&["--config"]).map_or(Layout::System, |directory| Layout::Directory(PathBuf::from(directory)))
}

/// The value of an option in the line that is being written.
fn said(names: &[&str]) -> Option<String> {
    let words: Vec<String> = std::env::args().skip_while(|word| word != "--").skip(1).collect();
    let behind = |at: usize| words.get(at + 1).cloned();
    let value = words.iter().enumerate().find_map(|(at, word)| match word.split_once('=') {
        Some((name, value)) if names.contains(&name) => Some(value.to_owned()),
        _ if names.contains(&word.as_str()) => behind(at),
        _ => None,
    });
    value.filter(|value| !value.is_empty())
}
