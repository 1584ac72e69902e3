//! What is wrong with a configuration, and where: each problem names its file, line, column and key.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A place in a configuration file. Ordered by file, line and column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file, as it was found below its layer's directory.
    pub file: Arc<Path>,
    /// Its line, counted from 1; 0 where the whole file is meant.
    pub line: u32,
    /// The character in that line, or behind 4096 bytes the byte, counted from 1; 0 where the whole file is meant.
    pub column: u32,
}

impl Place {
    /// A file or directory as a whole.
    pub fn whole(file: &Path) -> Place {
        Place { file: file.into(), line: 0, column: 0 }
    }
}

impl fmt::Display for Place {
    /// `file:line:col`, or the file alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A file's name may hold anything; a message stays one line.
        write!(f, "{}", self.file.to_string_lossy().escape_debug())?;
        if self.line > 0 { write!(f, ":{}:{}", self.line, self.column) } else { Ok(()) }
    }
}

/// How much a [`Problem`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// What was written cannot be carried out; a reload is refused.
    Error,
    /// It can, but it may not be what was meant.
    Warning,
}

impl fmt::Display for Severity {
    /// `error` or `warning`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// Where it stands; `None` for what no file says.
    pub place: Option<Place>,
    /// The key it is about, such as `jail.sshd.maxretry`; empty for a file as a whole.
    pub key: String,
    /// The jail it is about, as it was written; `None` for filters and for what concerns all jails.
    pub jail: Option<String>,
    /// What is wrong: one line without a full stop.
    pub text: String,
}

/// How the text of the error begins that follows of one outside of all jails.
pub(super) const NO_JAIL_RUNS: &str = "no jail runs, for";

impl Problem {
    /// `true` if it is no mistake of its own, but tells what follows of one for the jails of these files. Where another
    /// configuration runs it does not hold.
    pub fn is_consequence(&self) -> bool {
        self.place.is_none() && self.text.starts_with(NO_JAIL_RUNS)
    }

    /// An error about a file or directory as a whole.
    pub(super) fn about_file(place: Place, text: impl Into<String>) -> Problem {
        Problem { severity: Severity::Error, place: Some(place), key: String::new(), jail: None, text: text.into() }
    }
}

impl fmt::Display for Problem {
    /// `file:line:col: jail.sshd.maxretry: expected a number from 1 to 1000, found "five"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Sorts by place and drops what is said twice, as where two modes share a pattern.
pub(super) fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| (&a.place, &a.key, a.severity, &a.text).cmp(&(&b.place, &b.key, b.severity, &b.text)));
    problems.dedup();
    problems
}

/// Is one of them an error, not only a warning?
pub fn any_error(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(file: &str, line: u32, column: u32) -> Problem {
        let place = Place { line, column, ..Place::whole(Path::new(file)) };
        Problem { key: "jail.sshd.maxretry".into(), ..Problem::about_file(place, "expected a number") }
    }

    #[test]
    fn a_problem_says_file_line_column_key() {
        assert_eq!(problem("/etc/a.toml", 3, 7).to_string(), "/etc/a.toml:3:7: jail.sshd.maxretry: expected a number");
        let whole = Problem::about_file(Place::whole(Path::new("/etc/a\n.toml")), "is a directory");
        assert_eq!(whole.to_string(), "/etc/a\\n.toml: is a directory");
    }

    #[test]
    fn problems_are_sorted_by_place_and_said_once() {
        let given = vec![problem("b", 1, 1), problem("a", 10, 1), problem("a", 9, 2), problem("a", 9, 2)];
        let places: Vec<String> = sorted(given).iter().filter_map(|p| Some(p.place.as_ref()?.to_string())).collect();
        assert_eq!(places, ["a:9:2", "a:10:1", "b:1:1"]);
    }
}
