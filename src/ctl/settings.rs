//! The configuration files: what is wrong with them, and what they say in the end. No daemon is asked.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::access::{Judged, load_as_daemon};
use super::args::Global;
use super::ending::Status;
use super::escape::shown;
use super::screen::{Colour, Look, Screen};
use super::table::counted;
use crate::config::{Layout, Place, Problem, Severity, load};

/// Where the configuration is, by the command line.
pub fn layout(global: &Global) -> Layout {
    global.config.clone().map_or(Layout::System, Layout::Directory)
}

/// `config check`: every problem; [`Status::Failed`] where one is an error.
///
/// # Errors
/// Whatever writing meets.
pub fn check(global: &Global) -> Result<Status> {
    let (loaded, judged) = load_as_daemon(&layout(global));
    let mut screen = Screen::long(global);
    let look = screen.look();
    for problem in &loaded.problems {
        if global.json {
            screen.json(&problem_json(problem))?;
        } else {
            writeln!(screen, "{}", problem_line(problem, look))?;
        }
    }
    if look.legend && !global.json {
        let enabled = loaded.settings.jails.iter().filter(|jail| jail.enabled).count();
        let left_out = match loaded.left_out.len() {
            0 => String::new(),
            count => format!(", {count} left out"),
        };
        let errors = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        let warnings = loaded.problems.len() - errors;
        writeln!(
            screen,
            "{} and {} in {}; {} ({enabled} enabled{left_out}).",
            counted(errors, "error"),
            counted(warnings, "warning"),
            counted(loaded.files.len(), "file"),
            counted(loaded.settings.jails.len(), "jail"),
        )?;
        let missing: Vec<&str> =
            loaded.left_out.iter().filter(|jail| jail.enabled).map(|jail| jail.jail.as_str()).collect();
        if !missing.is_empty() {
            writeln!(
                screen,
                "Until this is mended, a start runs the configuration that was last in force. Where none is kept, it leaves out: {}.",
                shown(&missing.join(", "))
            )?;
        }
        if judged == Judged::Unreachable {
            writeln!(screen, "Read with root's rights: the daemon's user banish cannot reach the directory.")?;
        }
    }
    screen.finish()?;
    Ok(if loaded.any_error() { Status::Failed } else { Status::Done })
}

/// `config show`: every value and where it comes from; [`Status::Failed`] where some value is wrong.
///
/// # Errors
/// Whatever writing meets.
pub fn show(global: &Global) -> Result<Status> {
    /// Values up to this width line their origins up.
    const ALIGNED: usize = 60;
    let loaded = load(&layout(global));
    let mut screen = Screen::long(global);
    let look = screen.look();
    let lines: Vec<(String, String)> = loaded
        .values
        .iter()
        .map(|given| {
            let origin = given.origin.as_ref().map_or_else(|| "built in".into(), |place| shown(&place.to_string()));
            (format!("{} = {}", shown(&given.key), shown(&given.value)), origin)
        })
        .collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= ALIGNED).max().unwrap_or(0);
    for (given, (line, origin)) in loaded.values.iter().zip(&lines) {
        if global.json {
            let origin = given.origin.as_ref().map(place_json);
            screen.json(&json!({ "key": given.key, "value": given.value, "origin": origin }))?;
        } else {
            writeln!(screen, "{line:width$}  {}", look.paint(Colour::Grey, &format!("# {origin}")))?;
        }
    }
    screen.finish()?;
    if !loaded.any_error() {
        return Ok(Status::Done);
    }
    anyhow::bail!("not all of this is in force, for some of it is wrong: see banishctl config check")
}

/// A problem as a line for people: `file:line:col: key: text`, a warning marked as such.
pub fn problem_line(problem: &Problem, look: Look) -> String {
    let mark = match problem.severity {
        Severity::Error => "",
        Severity::Warning => " (warning)",
    };
    let colour = match problem.severity {
        Severity::Error => Colour::Red,
        Severity::Warning => Colour::Yellow,
    };
    format!("{}{}", shown(&problem.to_string()), look.paint(colour, mark))
}

/// A problem as an object for programs.
pub(super) fn problem_json(problem: &Problem) -> Value {
    json!({
        "severity": problem.severity.to_string(),
        "place": problem.place.as_ref().map(place_json),
        "key": problem.key,
        "jail": problem.jail,
        "text": problem.text,
    })
}

/// Line and column are null where the file as a whole is meant.
pub fn place_json(place: &Place) -> Value {
    let number = |number: u32| (number > 0).then_some(number);
    json!({ "file": place.file.to_string_lossy(), "line": number(place.line), "column": number(place.column) })
}
