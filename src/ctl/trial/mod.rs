//! A filter tried on lines or entries: fail2ban-regex's place. No daemon is needed.

mod bench;
mod input;
mod past;
mod report;
mod timing;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};

use super::args::{Global, TestArgs};
use super::ending::Status;
use super::escape::shown;
use super::screen::{Look, Screen};
use super::settings::{layout, problem_line};
use crate::config::{any_error, load_filter, load_filter_at, load_filter_of_jail, load_pattern};
use crate::engine::filter::{Definition, Filter, Outcome, Verdict};
use bench::Bench;
use input::Inputs;
use report::Report;
use timing::Timing;

/// `test`.
///
/// # Errors
/// A filter with errors, inputs that cannot be read or are no entries.
pub fn test(global: &Global, args: &TestArgs) -> Result<Status> {
    let (definition, filter) = filter(global, args)?;
    let bench = Bench::new(&definition, filter, args);
    let mut told = Told {
        screen: Screen::long(global),
        // People want to know which pattern is slow; programs measure themselves.
        for_people: (!global.json).then(|| (Report::new(&definition, args), Timing::new(&definition))),
        refused: BTreeMap::new(),
    };
    match args.since {
        Some(since) => past::read(since, args.journal_directory.as_deref(), bench, &mut told)?,
        None => read(args, bench, &mut told)?,
    }
    if let Some((report, timing)) = &told.for_people {
        report.write(timing, &mut told.screen)?;
    }
    told.screen.finish()?;
    Ok(Status::Done)
}

fn read(args: &TestArgs, mut bench: Bench, told: &mut Told) -> Result<()> {
    let mut inputs = Inputs::open(args)?;
    while inputs.advance()? {
        let verdict = bench.try_on(inputs.line()).map_err(|error| inputs.at(error))?;
        let text = bench.text(inputs.line());
        told.tell(inputs.number(), &text, verdict, &mut bench)?;
        if told.for_people.is_none() && inputs.is_live() {
            told.screen.flush()?;
        }
    }
    told.end(&mut bench)
}

/// What is told of each input: at once to programs, in sum to people.
struct Told {
    screen: Screen,
    for_people: Option<(Report, Timing)>,
    /// The latest inputs that were refused or unvouched, by their number on the bench.
    refused: BTreeMap<u64, Refused>,
}

/// An input that may become a failure later.
struct Refused {
    /// Its number for those who are told.
    number: u64,
    text: Vec<u8>,
    verdict: Verdict,
}

/// So many of them are remembered: more than a filter has wait.
const REFUSED: usize = 2 * crate::engine::filter::SESSION_LIMIT;

impl Told {
    /// Tells the input tried last, behind what has become of earlier ones by its time.
    fn tell(&mut self, number: u64, text: &[u8], verdict: Verdict, bench: &mut Bench) -> Result<()> {
        self.tell_overdue(bench)?;
        match &mut self.for_people {
            Some((report, timing)) => {
                report.add(number, text, &verdict);
                timing.add(text);
            }
            None => self.screen.json(&report::json(number, &verdict))?,
        }
        if matches!(verdict.outcome, Outcome::Refused | Outcome::Unvouched) {
            self.refused.insert(bench.tried(), Refused { number, text: text.to_vec(), verdict });
            if self.refused.len() > REFUSED {
                self.refused.pop_first();
            }
        }
        Ok(())
    }

    /// There is no further input.
    fn end(&mut self, bench: &mut Bench) -> Result<()> {
        bench.end();
        self.tell_overdue(bench)
    }

    fn tell_overdue(&mut self, bench: &mut Bench) -> Result<()> {
        for overdue in bench.overdue() {
            let Some(Refused { number, text, verdict }) = self.refused.remove(&overdue.number) else { continue };
            let verdict = Verdict { outcome: Outcome::Failure(overdue.address), ..verdict };
            match &mut self.for_people {
                Some((report, _)) => report.add_late(number, &text, &verdict),
                None => self.screen.json(&report::json(number, &verdict))?,
            }
        }
        Ok(())
    }
}

fn filter(global: &Global, args: &TestArgs) -> Result<(Arc<Definition>, Arc<Filter>)> {
    let (what, loaded) = match (&args.jail, &args.filter) {
        (Some(jail), _) => (jail.as_str(), load_filter_of_jail(&layout(global), jail.as_str())),
        (None, Some(filter)) if is_pattern(filter) => (filter.as_str(), load_pattern(filter)),
        (None, Some(filter)) if filter.contains('/') || filter.ends_with(".toml") => {
            (filter.as_str(), load_filter_at(&layout(global), Path::new(filter), &args.mode))
        }
        (None, filter) => {
            let name = filter.as_deref().unwrap_or_default();
            (name, load_filter(&layout(global), name, &args.mode))
        }
    };
    let look = Screen::short(global).look();
    let mut err = std::io::stderr().lock();
    for problem in &loaded.problems {
        // To whom this cannot be told, it is not told.
        let _ = writeln!(err, "{}", problem_line(problem, Look { colour: false, ..look }));
    }
    match loaded.filter {
        Some(found) if !any_error(&loaded.problems) => Ok(found),
        _ if args.jail.is_some() => bail!("the filter of jail {} cannot be used", shown(what)),
        _ => bail!("the filter {} cannot be used", shown(what)),
    }
}

/// Neither a filter's name nor, by any habit, a file's.
fn is_pattern(text: &str) -> bool {
    text.starts_with('^') || text.contains('<')
}
