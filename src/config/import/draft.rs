//! A filter of ours in the making: written as TOML, read back as the daemon would, and rid of what that refuses.

use std::path::Path;

use super::super::problem::{Place, Severity};
use super::super::single;
use super::error::ImportError;
use super::toml;

/// A pattern or line, and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) place: Place,
}

/// What becomes a file `filter.d/NAME.toml`.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) name: String,
    /// fail2ban's directory: places are told relative to it.
    pub(super) root: std::path::PathBuf,
    /// The file's first lines, as comments.
    pub(super) head: Vec<String>,
    pub(super) description: String,
    pub(super) journalmatch: Vec<Line>,
    pub(super) session: bool,
    pub(super) prefregex: Option<Line>,
    pub(super) failregex: Vec<Line>,
    pub(super) ignoreregex: Vec<Line>,
}

/// What was left out of a draft, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) part: Part,
    pub(super) line: Line,
    pub(super) reason: String,
}

/// A list of a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Journalmatch,
    Prefregex,
    Failregex,
    Ignoreregex,
}

impl Part {
    pub(super) fn key(self) -> &'static str {
        match self {
            Part::Journalmatch => "journalmatch",
            Part::Prefregex => "prefregex",
            Part::Failregex => "failregex",
            Part::Ignoreregex => "ignoreregex",
        }
    }
}

/// Makes a draft without a journalmatch whole, to see whether the rest is right.
const STAND_IN: &str = "_SYSTEMD_UNIT=stand-in.service";

impl Draft {
    /// Takes out what the daemon would refuse.
    ///
    /// # Errors
    /// Nothing would be left, or what is refused keeps others from being counted who must not be.
    pub(super) fn prune(&mut self) -> Result<Vec<Refused>, ImportError> {
        let mut refused = Vec::new();
        loop {
            let (text, lines) = self.render(true);
            let file = format!("filter.d/{}.toml", self.name);
            let problems = single::load_filter_text(Path::new(&file), text).problems;
            let mut wrong: Vec<(Part, usize, String)> = Vec::new();
            for problem in problems.into_iter().filter(|problem| problem.severity == Severity::Error) {
                let number = problem.place.as_ref().map_or(0, |place| place.line as usize);
                let Some((part, at)) = number.checked_sub(1).and_then(|at| *lines.get(at)?) else {
                    return Err(self.nothing(problem.text));
                };
                if !wrong.iter().any(|(known, place, _)| (*known, *place) == (part, at)) {
                    wrong.push((part, at, problem.text));
                }
            }
            if wrong.is_empty() {
                return Ok(refused);
            }
            wrong.sort_by_key(|(_, at, _)| std::cmp::Reverse(*at));
            let mut found = Vec::new();
            for (part, at, reason) in wrong {
                let line = match part {
                    Part::Journalmatch => self.journalmatch.remove(at),
                    Part::Failregex => self.failregex.remove(at),
                    Part::Ignoreregex => self.ignoreregex.remove(at),
                    Part::Prefregex => return Err(self.nothing(format!("prefregex: {reason}"))),
                };
                if part == Part::Ignoreregex {
                    let reason =
                        format!("an ignoreregex cannot be used, and without it too much would count: {reason}");
                    return Err(ImportError::at(&line.place, reason));
                }
                found.push(Refused { part, line, reason });
            }
            refused.extend(found.into_iter().rev());
            if self.failregex.is_empty() {
                let reason = refused.iter().rev().find(|refused| refused.part == Part::Failregex);
                return Err(self.nothing(reason.map_or_else(String::new, |refused| refused.reason.clone())));
            }
        }
    }

    fn nothing(&self, reason: String) -> ImportError {
        let place = self.failregex.first().or(self.prefregex.as_ref()).map(|line| Place::whole(&line.place.file));
        ImportError::Nothing { place: place.unwrap_or_else(|| Place::whole(&self.root)), reason }
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        self.render(false).0
    }

    /// The file, and what stands in each of its lines.
    fn render(&self, whole: bool) -> (String, Vec<Option<(Part, usize)>>) {
        let mut page = Page { root: &self.root, text: String::new(), lines: Vec::new() };
        for line in &self.head {
            page.comment("", line);
        }
        page.line(&format!("description = {}", toml::quoted(&self.description)), None);
        if !self.journalmatch.is_empty() {
            page.list(Part::Journalmatch, &self.journalmatch);
        } else if whole {
            page.line(&format!("journalmatch = [\"{STAND_IN}\"]"), None);
        }
        if self.session {
            page.comment("", "The number of the process in front of the message was the key of its session.");
            page.line("session = \"_PID\"", None);
        }
        if let Some(line) = &self.prefregex {
            page.place("", &line.place);
            page.line(&format!("prefregex = {}", toml::quoted(&line.text)), Some((Part::Prefregex, 0)));
        }
        page.list(Part::Failregex, &self.failregex);
        if !self.ignoreregex.is_empty() {
            page.list(Part::Ignoreregex, &self.ignoreregex);
        }
        (page.text, page.lines)
    }
}

struct Page<'a> {
    root: &'a Path,
    text: String,
    lines: Vec<Option<(Part, usize)>>,
}

impl Page<'_> {
    fn line(&mut self, text: &str, what: Option<(Part, usize)>) {
        self.text.push_str(text);
        self.text.push('\n');
        self.lines.push(what);
    }

    fn comment(&mut self, indent: &str, text: &str) {
        self.line(&format!("{indent}# {}", toml::comment(text)), None);
    }

    fn place(&mut self, indent: &str, place: &Place) {
        self.comment(indent, &toml::place(self.root, place));
    }

    fn list(&mut self, part: Part, lines: &[Line]) {
        self.line(&format!("{} = [", part.key()), None);
        let mut former: Option<&Place> = None;
        for (at, line) in lines.iter().enumerate() {
            if former != Some(&line.place) {
                self.place("    ", &line.place);
                former = Some(&line.place);
            }
            self.line(&format!("    {},", toml::quoted(&line.text)), Some((part, at)));
        }
        self.line("]", None);
    }
}
