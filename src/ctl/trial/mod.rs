//! A filter tried on lines or entries: fail2ban-regex's place. No daemon and no journal is needed.

mod input;
mod report;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};

use super::args::{Global, TestArgs};
use super::ending::Status;
use super::escape::shown;
use super::screen::Screen;
use super::settings::{layout, problem_line};
use crate::config::{any_error, load_filter, load_filter_file};
use crate::engine::entry::{Page, Slot};
use crate::engine::filter::{Definition, Filter, Trial, Verdict};
use crate::engine::time::Stamp;
use input::Inputs;
use report::Report;

/// `test`.
///
/// # Errors
/// A filter with errors, inputs that cannot be read or are no entries.
pub fn test(global: &Global, args: &TestArgs) -> Result<Status> {
    let (definition, filter) = filter(global, args)?;
    let mut inputs = Inputs::open(args)?;
    let mut bench = Bench::new(&definition, filter, args);
    let mut screen = Screen::long(global);
    let mut report = Report::new(&definition, args);
    while inputs.advance()? {
        let verdict = bench.try_on(inputs.line()).map_err(|error| inputs.at(error))?;
        let number = inputs.number();
        if global.json {
            screen.json(&report::json(number, &verdict))?;
            if inputs.is_live() {
                screen.flush()?;
            }
        } else {
            report.add(number, &bench.text(inputs.line()), &verdict);
        }
    }
    if !global.json {
        report.write(&mut screen)?;
    }
    screen.finish()?;
    Ok(Status::Done)
}

fn filter(global: &Global, args: &TestArgs) -> Result<(Arc<Definition>, Arc<Filter>)> {
    let is_file = args.filter.contains('/') || args.filter.ends_with(".toml");
    let loaded = if is_file {
        load_filter_file(Path::new(&args.filter), &args.mode)
    } else {
        load_filter(&layout(global), &args.filter, &args.mode)
    };
    let look = Screen::short(global).look();
    let mut err = std::io::stderr().lock();
    for problem in &loaded.problems {
        // To whom this cannot be told, it is not told.
        let _ = writeln!(err, "{}", problem_line(problem, super::screen::Look { colour: false, ..look }));
    }
    match loaded.filter {
        Some(found) if !any_error(&loaded.problems) => Ok(found),
        _ => bail!("the filter {} cannot be used", shown(&args.filter)),
    }
}

/// The filter on trial, and how inputs are put before it.
struct Bench {
    trial: Trial,
    page: Page,
    message: Option<Slot>,
    session: Option<Slot>,
    entries: bool,
    any_source: bool,
}

impl Bench {
    fn new(definition: &Definition, filter: Arc<Filter>, args: &TestArgs) -> Bench {
        let trial = Trial::new(filter);
        let session = definition.session.as_ref().filter(|_| args.one_session);
        Bench {
            message: trial.wanted().slot(b"MESSAGE"),
            session: session.and_then(|field| trial.wanted().slot(field.name().as_bytes())),
            page: Page::default(),
            entries: args.entries.is_some(),
            any_source: args.any_source,
            trial,
        }
    }

    fn try_on(&mut self, line: &[u8]) -> Result<Verdict, input::EntryError> {
        if self.entries {
            input::read_entry(line, self.trial.wanted(), &mut self.page)?;
            let entry = self.page.entry();
            return Ok(if self.any_source { self.trial.examine_anywhere(entry) } else { self.trial.examine(entry) });
        }
        self.page.begin(Stamp::EPOCH, 0);
        if let Some(message) = self.message {
            self.page.put(message, line);
        }
        if let Some(session) = self.session {
            self.page.put(session, b"1");
        }
        Ok(self.trial.examine_anywhere(self.page.entry()))
    }

    /// What is shown of the input tried last.
    fn text(&self, line: &[u8]) -> Vec<u8> {
        if !self.entries {
            return line.to_vec();
        }
        let message = self.message.and_then(|slot| self.page.entry().first(slot));
        message.map(|text| text.bytes.to_vec()).unwrap_or_default()
    }
}
