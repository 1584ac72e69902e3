//! Where output goes: standard output, or a pager where a person looks at a terminal; colours there only.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::process::{Child, Command, Stdio};

use super::args::Global;
use super::escape::json_line;

/// How things look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// With colours and underlines?
    pub colour: bool,
    /// With headings and counts?
    pub legend: bool,
    /// With characters that are not ASCII?
    pub unicode: bool,
}

/// An emphasis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// All is well.
    Green,
    /// On the way, or doubtful.
    Yellow,
    /// Something is wrong.
    Red,
    /// Beside the point.
    Grey,
    /// A heading.
    Underline,
}

impl Look {
    /// `text` with this emphasis, where there are colours.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Green => "0;1;32",
            Colour::Yellow => "0;1;33",
            Colour::Red => "0;1;31",
            Colour::Grey => "0;90",
            Colour::Underline => "0;4",
        };
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The dot that stands before a status.
    pub fn dot(self, colour: Colour) -> String {
        self.paint(colour, if self.unicode { "●" } else { "*" })
    }
}

/// An open output. To know whether all was written, end it with [`Screen::finish`].
#[derive(Debug)]
pub struct Screen {
    sink: Sink,
    look: Look,
}

#[derive(Debug)]
enum Sink {
    Direct(BufWriter<Stdout>),
    Paged(Pager),
}

impl Screen {
    /// For output that may be longer than a screen.
    pub fn long(global: &Global) -> Screen {
        let pager = if global.json || global.no_pager || !io::stdout().is_terminal() { None } else { Pager::start() };
        Screen { sink: pager.map_or_else(direct, Sink::Paged), look: look(global) }
    }

    /// For a line or two, or for what comes by and by.
    pub fn short(global: &Global) -> Screen {
        Screen { sink: direct(), look: look(global) }
    }

    /// How to write to it.
    pub fn look(&self) -> Look {
        self.look
    }

    /// Writes a JSON object on a line.
    ///
    /// # Errors
    /// Whatever writing meets.
    pub fn json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        writeln!(self, "{}", json_line(value))
    }

    /// Waits until everything is read.
    ///
    /// # Errors
    /// What could not be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.sink {
            Sink::Direct(out) => out.write(bytes),
            Sink::Paged(pager) => pager.input.as_mut().map_or(Ok(bytes.len()), |input| input.write(bytes)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Direct(out) => out.flush(),
            Sink::Paged(pager) => pager.input.as_mut().map_or(Ok(()), Write::flush),
        }
    }
}

fn direct() -> Sink {
    Sink::Direct(BufWriter::new(io::stdout()))
}

fn look(global: &Global) -> Look {
    Look {
        colour: colours(variable("SYSTEMD_COLORS"), variable("NO_COLOR"), variable("TERM"), io::stdout().is_terminal()),
        legend: !global.no_legend,
        unicode: ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable).is_some_and(|locale| {
            let locale = locale.to_string_lossy().to_ascii_lowercase();
            locale.ends_with("utf-8") || locale.ends_with("utf8")
        }),
    }
}

/// An environment variable that says something.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// systemd's order: what SYSTEMD_COLORS says, else nothing under NO_COLOR, and else colours on a terminal that has them.
fn colours(systemd: Option<OsString>, no_color: Option<OsString>, term: Option<OsString>, terminal: bool) -> bool {
    match systemd.as_deref().and_then(OsStr::to_str) {
        Some("0" | "no" | "n" | "false" | "f" | "off") => false,
        Some("1" | "yes" | "y" | "true" | "t" | "on" | "16" | "256" | "24bit") => true,
        _ => no_color.is_none() && terminal && term.is_some_and(|term| term != "dumb"),
    }
}

/// A running pager. Dropped, it is told the end of its input and waited for.
#[derive(Debug)]
struct Pager {
    child: Child,
    input: Option<BufWriter<std::process::ChildStdin>>,
}

impl Pager {
    /// The pager that the user wants, as systemctl finds it; none where there is none.
    fn start() -> Option<Pager> {
        let trust = variable("SYSTEMD_PAGERSECURE");
        let secure = match trust.as_deref().and_then(OsStr::to_str) {
            Some("0" | "no" | "n" | "false" | "f" | "off") => false,
            Some(_) => true,
            // Somebody else's rights: a pager could run commands with them.
            None => variable("SUDO_UID").is_some() || variable("PKEXEC_UID").is_some(),
        };
        let chosen = env::var_os("SYSTEMD_PAGER").or_else(|| env::var_os("PAGER"));
        let words: Vec<String> = match &chosen {
            Some(chosen) if !secure || trust.is_some() => {
                chosen.to_string_lossy().split_whitespace().map(Into::into).collect()
            }
            Some(chosen) if chosen.is_empty() || chosen == "cat" => return None,
            _ => vec!["less".into()],
        };
        let (program, arguments) = words.split_first()?;
        if program == "cat" {
            return None;
        }
        #[expect(clippy::disallowed_methods, reason = "the pager is the one program that is started")]
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped());
        command.env("LESS", variable("SYSTEMD_LESS").unwrap_or_else(|| "FRSXMK".into()));
        if secure {
            command.env("LESSSECURE", "1");
        }
        let mut child = command.spawn().ok()?;
        let input = child.stdin.take().map(BufWriter::new);
        Some(Pager { child, input })
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        // What was not written when somebody left the pager is not missed.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_unless_somebody_says_otherwise() {
        let some = |text: &str| Some(OsString::from(text));
        assert!(colours(None, None, some("xterm"), true));
        assert!(!colours(None, None, some("xterm"), false));
        assert!(!colours(None, None, some("dumb"), true));
        assert!(!colours(None, some("1"), some("xterm"), true));
        assert!(!colours(some("0"), None, some("xterm"), true));
        assert!(colours(some("1"), some("1"), some("xterm"), false));
    }

    #[test]
    fn without_colours_nothing_is_painted() {
        let look = Look { colour: false, legend: true, unicode: false };
        assert_eq!(look.paint(Colour::Red, "x"), "x");
        assert_eq!(look.dot(Colour::Green), "*");
    }
}
