//! A filter of ours in the making: written as TOML, read back as the daemon would, and rid of what that refuses.

use std::path::{Path, PathBuf};

use super::super::problem::{Place, Severity, any_error};
use super::super::single;
use super::error::ImportError;
use super::toml;

/// A pattern or line, and where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// Where a line is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// fail2ban's configuration.
    At(Place),
    /// Somewhere else, in words.
    Said(&'static str),
}

impl Origin {
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            Origin::At(place) => Some(place),
            Origin::Said(_) => None,
        }
    }
}

/// What becomes a file `filter.d/NAME.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) name: String,
    /// fail2ban's directory: places are told relative to it.
    pub(super) root: PathBuf,
    /// The filter's own file there.
    pub(super) place: Place,
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
            let problems = single::load_filter_text(Path::new(&file), &text).problems;
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
                    return Err(ImportError::at(line.origin.place().unwrap_or(&self.place), reason));
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
        ImportError::Nothing { place: self.place.clone(), reason }
    }

    /// Writes a unit that may be the daemon's where nothing attested is known, and says why no jail can run on it.
    pub(super) fn guess(&mut self, name: &str) -> String {
        let text = format!("_SYSTEMD_UNIT={name}.service");
        self.journalmatch.push(Line { text, origin: Origin::Said("a guess: write the unit of the daemon") });
        format!(
            "nothing says whose entries count: write the daemon's unit into journalmatch of filter.d/{}.toml",
            self.name
        )
    }

    /// Is it the same filter under whatever name?
    pub(super) fn says_the_same(&self, other: &Draft) -> bool {
        let unnamed = |draft: &Draft| Draft { name: String::new(), ..draft.clone() };
        unnamed(self) == unnamed(other)
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
            page.origin("", &line.origin);
            page.line(&format!("prefregex = {}", toml::quoted(&line.text)), Some((Part::Prefregex, 0)));
        }
        page.list(Part::Failregex, &self.failregex);
        if !self.ignoreregex.is_empty() {
            page.list(Part::Ignoreregex, &self.ignoreregex);
        }
        (page.text, page.lines)
    }
}

/// Does a line of a journalmatch pin what the journal attests?
pub(super) fn is_attested(line: &str) -> bool {
    let text = format!("journalmatch = [{}]\nfailregex = ['^<ADDR>$']\n", toml::quoted(line));
    !any_error(&single::load_filter_text(Path::new("filter.d/x.toml"), &text).problems)
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

    fn origin(&mut self, indent: &str, origin: &Origin) {
        match origin {
            Origin::At(place) => self.comment(indent, &toml::place(self.root, place)),
            Origin::Said(text) => self.comment(indent, text),
        }
    }

    fn list(&mut self, part: Part, lines: &[Line]) {
        self.line(&format!("{} = [", part.key()), None);
        let mut former: Option<&Origin> = None;
        for (at, line) in lines.iter().enumerate() {
            if former != Some(&line.origin) {
                self.origin("    ", &line.origin);
                former = Some(&line.origin);
            }
            self.line(&format!("    {},", toml::quoted(&line.text)), Some((part, at)));
        }
        self.line("]", None);
    }
}
