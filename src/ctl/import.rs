//! fail2ban's configuration brought over: what would be written is shown, and written where nothing stands in the way.

mod bans;
mod place;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;

use super::access::load_as_daemon;
use super::args::{Global, ImportArgs};
use super::ending::Status;
use super::escape::shown;
use super::screen::{Colour, Screen};
use super::settings::{layout, place_json, problem_json, problem_line};
use super::table::{Column, Table, counted};
use crate::config::import::{Brought, Fate, Imported, Preference, Remark, import};
use crate::config::{Layout, Problem, Severity, filter_text, load};
use place::{Found, Placed};

pub use bans::run as bans;

/// `import`, but for bans.
///
/// # Errors
/// fail2ban's configuration cannot be read, or the files cannot be written.
pub fn run(global: &Global, args: &ImportArgs) -> Result<Status> {
    let ours = ours(global, &args.to);
    let preference = match (args.translate, args.shipped) {
        (true, _) => Preference::Translated,
        (_, true) => Preference::Shipped,
        _ => Preference::Unchanged,
    };
    let mut imported = import(&args.from, &ours, preference)?;
    let alone = !layout(global).directories().contains(&args.to);
    if alone {
        copy_ours(&mut imported, &ours)?;
    } else {
        tell_of_ours(&mut imported, &ours);
        tell_of_others(&mut imported, &args.to);
    }
    let files: Vec<Found> = imported.files.iter().map(|(path, text)| Found::at(args.to.join(path), text)).collect();

    let mut screen = Screen::long(global);
    if global.json {
        objects(&mut screen, &imported)?
    } else {
        report(&mut screen, &imported)?
    }
    let standing: Vec<&Found> = files.iter().filter(|file| file.stands_in_the_way()).collect();
    if !args.check && !standing.is_empty() && !args.force {
        screen.finish()?;
        let names: Vec<String> = standing.iter().map(|file| shown(&file.path.to_string_lossy())).collect();
        bail!("nothing is written: there is something else already in {} (--force replaces it)", names.join(", "));
    }
    for file in files {
        let path = file.path.clone();
        let placed =
            if args.check { file.unwritten(args.force) } else { file.write().with_context(|| cannot(&path))? };
        tell(&mut screen, global, &path, placed)?;
    }
    let status = if args.check { Status::Done } else { verify(&mut screen, global, &args.to, &ours, alone)? };
    screen.finish()?;
    Ok(status)
}

fn cannot(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// Where our own filters are: not where the import is written.
fn ours(global: &Global, to: &Path) -> Layout {
    Layout::Layers(layout(global).directories().into_iter().filter(|directory| directory != to).collect())
}

/// A directory that is none of the configuration's own stands alone: it needs the filters of ours that its jails use.
fn copy_ours(imported: &mut Imported, ours: &Layout) -> Result<()> {
    for name in &imported.used {
        let text = filter_text(ours, name).map_err(|problems| {
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow!("the filter {name} cannot be copied: {}", told.join("; "))
        })?;
        imported.files.insert(PathBuf::from(format!("filter.d/{name}.toml")), text);
    }
    Ok(())
}

/// What banish runs by itself and fail2ban does not goes on running: that is told.
fn tell_of_ours(imported: &mut Imported, ours: &Layout) {
    let runs = |imported: &Imported, name: &str| imported.jails.iter().any(|jail| jail.enabled && jail.name == name);
    for jail in load(ours).settings.jails.iter().filter(|jail| jail.enabled) {
        let name = jail.name.as_str();
        if !runs(imported, name) {
            let text = format!("banish runs it by itself, fail2ban did not; jail.{name}.enabled = false stops it");
            imported.remarks.push(Remark { fate: Fate::Changed, about: format!("jail {name}"), place: None, text });
        }
    }
}

/// A filter that is in the directory already changes ours of the same name: that is told, too.
fn tell_of_others(imported: &mut Imported, to: &Path) {
    for name in &imported.used {
        let path = to.join(format!("filter.d/{name}.toml"));
        if path.symlink_metadata().is_ok() {
            let text = format!("{} is there and is merged over banish's own", path.display());
            imported.remarks.push(Remark { fate: Fate::Changed, about: format!("filter {name}"), place: None, text });
        }
    }
}

fn objects(screen: &mut Screen, imported: &Imported) -> Result<()> {
    for Brought { name, filter, mode, ours, enabled } in &imported.jails {
        screen.json(&json!({ "jail": name, "filter": filter, "mode": mode, "ours": ours, "enabled": enabled }))?;
    }
    for remark in &imported.remarks {
        let place = remark.place.as_ref().map(place_json);
        screen.json(&json!({
            "remark": remark.fate.word(), "about": remark.about, "place": place, "text": remark.text,
        }))?;
    }
    Ok(())
}

fn report(screen: &mut Screen, imported: &Imported) -> Result<()> {
    let mut table =
        Table::new(&[Column::Left("JAIL"), Column::Left("RUNS"), Column::Left("FILTER"), Column::Left("FROM")]);
    for Brought { name, filter, mode, ours, enabled } in &imported.jails {
        let filter = mode.as_ref().map_or_else(|| filter.clone(), |mode| format!("{filter}, mode {mode}"));
        let runs = if *enabled { "yes" } else { "no" };
        table.row([name.as_str(), runs, &filter, if *ours { "banish" } else { "fail2ban" }]);
    }
    if !imported.jails.is_empty() {
        table.write(screen)?;
    }
    let look = screen.look();
    let mut about = "";
    for remark in &imported.remarks {
        if remark.about != about {
            about = &remark.about;
            writeln!(screen, "\n{}", shown(about))?;
        }
        let colour = if remark.fate == Fate::Lost { Colour::Yellow } else { Colour::Grey };
        let place = remark.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        writeln!(
            screen,
            "  {}: {}",
            look.paint(colour, remark.fate.word()),
            shown(&format!("{place}{}", remark.text))
        )?;
    }
    writeln!(screen)?;
    if look.legend {
        let running = imported.jails.iter().filter(|jail| jail.enabled).count();
        writeln!(
            screen,
            "{} ({running} to run), {}.",
            counted(imported.jails.len(), "jail"),
            counted(imported.remarks.len(), "remark"),
        )?;
    }
    Ok(())
}

fn tell(screen: &mut Screen, global: &Global, path: &Path, placed: Placed) -> Result<()> {
    if global.json {
        screen.json(&json!({ "file": path.to_string_lossy(), "state": placed.word() }))?;
    } else {
        writeln!(screen, "{}: {}", placed.word(), shown(&path.to_string_lossy()))?;
    }
    Ok(())
}

/// Reads what is there now as the daemon would.
fn verify(screen: &mut Screen, global: &Global, to: &Path, ours: &Layout, alone: bool) -> Result<Status> {
    let layout = match alone {
        true => Layout::Directory(to.into()),
        false => {
            let mut directories = ours.directories();
            directories.push(to.into());
            Layout::Layers(directories)
        }
    };
    let (loaded, _) = load_as_daemon(&layout);
    let look = screen.look();
    let (errors, warnings): (Vec<&Problem>, Vec<&Problem>) =
        loaded.problems.iter().partition(|problem| problem.severity == Severity::Error);
    if global.json {
        for problem in &loaded.problems {
            screen.json(&problem_json(problem))?;
        }
    } else {
        for problem in &errors {
            writeln!(screen, "{}", problem_line(problem, look))?;
        }
        if !warnings.is_empty() && look.legend {
            writeln!(screen, "{}: see banishctl config check.", counted(warnings.len(), "warning"))?;
        }
    }
    Ok(if errors.is_empty() { Status::Done } else { Status::Failed })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests are an edge")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_banish_runs_by_itself_is_told() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("ours/jail.d/own.toml", "[jail.own]\nenabled = true\n[jail.both]\nenabled = true\nfilter = 'own'\n"),
            ("ours/filter.d/own.toml", "journalmatch = ['_SYSTEMD_UNIT=own.service']\nfailregex = ['^own <ADDR>$']\n"),
            ("from/jail.conf", "[both]\nenabled = true\nfilter = own\naction = iptables\n[own]\nenabled = false\n"),
            (
                "from/filter.d/own.conf",
                "[Definition]\nfailregex = ^own <ADDR>$\njournalmatch = _SYSTEMD_UNIT=own.service\n",
            ),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let ours = Layout::Layers(vec![root.path().join("ours")]);
        let mut imported = import(&root.path().join("from"), &ours, Preference::Unchanged).unwrap();
        let before = imported.remarks.len();
        tell_of_ours(&mut imported, &ours);
        let told: Vec<&str> = imported.remarks[before..].iter().map(|remark| remark.about.as_str()).collect();
        assert_eq!(told, ["jail own"]);
    }

    #[test]
    fn a_filter_that_changes_ours_is_told() {
        let root = tempfile::tempdir().unwrap();
        let used = ["a", "b"].map(str::to_owned).into();
        let mut imported = Imported { files: BTreeMap::new(), jails: Vec::new(), remarks: Vec::new(), used };
        std::fs::create_dir(root.path().join("filter.d")).unwrap();
        std::fs::write(root.path().join("filter.d/b.toml"), "").unwrap();
        tell_of_others(&mut imported, root.path());
        let told: Vec<&str> = imported.remarks.iter().map(|remark| remark.about.as_str()).collect();
        assert_eq!(told, ["filter b"]);
    }
}
