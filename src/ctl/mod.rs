//! `banishctl`: what it shows and does; nothing from outside reaches a terminal unescaped.

mod access;
mod act;
mod args;
mod bans;
mod caller;
mod complete;
mod count;
mod daemon;
mod ending;
mod escape;
mod import;
mod jail;
mod manual;
mod monitor;
mod screen;
mod settings;
mod show;
mod sys;
mod table;
mod trial;
mod when;

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use args::{Cli, Command, ConfigCommand, Global};
use ending::{Status, verdict};
use escape::shown_lines;
use screen::Screen;

/// Does what the command line (the program's name first) says, and tells how that ended.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    if complete::answer(&words) {
        return Status::Done.into();
    }
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => {
            // Whoever would read this may be gone.
            if !error.use_stderr() {
                let _ = error.print();
                return Status::Done.into();
            }
            let _ = writeln!(std::io::stderr(), "{}{}", shown_lines(&error.render().to_string()), hint(&words));
            return Status::Usage.into();
        }
    };
    let status = dispatch(&cli.global, cli.command.unwrap_or(Command::Status { jail: None, all: false }))
        .unwrap_or_else(|error| {
            let (status, text) = verdict(&error);
            if let Some(text) = text {
                // Nobody is left to be told.
                let _ = writeln!(std::io::stderr(), "banishctl: {text}");
            }
            status
        });
    status.into()
}

/// What clap cannot know about words that make no sense to it.
fn hint(words: &[OsString]) -> String {
    match words
        .iter()
        .skip(1)
        .filter_map(|word| word.to_str())
        .filter(|word| !word.starts_with('-'))
        .collect::<Vec<_>>()[..]
    {
        ["list", jail] if jail.parse::<crate::engine::ban::JailName>().is_ok() => {
            format!("\nThe bans of one jail: banishctl list --jail {jail}")
        }
        _ => String::new(),
    }
}

fn dispatch(global: &Global, command: Command) -> Result<Status> {
    match command {
        Command::Status { jail: None, all } => on_bus(show::status(global, all)),
        Command::Status { jail: Some(jail), .. } => on_bus(jail::jail_status(global, &jail)),
        Command::List { jail } => on_bus(bans::list(global, jail.as_ref())),
        Command::Ban(args) => on_bus(act::ban(global, &args)),
        Command::Unban(args) => on_bus(act::unban(global, &args)),
        Command::Forget { subject } => on_bus(count::forget(global, &subject)),
        Command::Pause(args) => on_bus(count::pause(global, &args)),
        Command::Resume { jail } => on_bus(count::resume(global, &jail)),
        Command::Attempt { jail, address } => on_bus(count::attempt(global, &jail, address)),
        Command::Reload => on_bus(act::reload(global)),
        Command::Monitor { wait } => on_bus(monitor::monitor(global, wait)),
        Command::Disarm => act::disarm(global),
        Command::Check => on_bus(show::check(global)),
        Command::Config { what: ConfigCommand::Check } => settings::check(global),
        Command::Config { what: ConfigCommand::Show } => settings::show(global),
        Command::Import(args) if args.bans => on_bus(import::bans(global, &args)),
        Command::Import(args) => import::run(global, &args),
        Command::Test(args) => trial::test(global, &args),
        Command::Completions { shell } => written(global, |out| Ok(complete::script(shell, out)?)),
        Command::Manual => written(global, |out| Ok(manual::page(out)?)),
    }
}

/// Runs what speaks to the bus; one thread is enough.
fn on_bus(work: impl Future<Output = Result<Status>>) -> Result<Status> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(work)
}

/// Writes a text that is made whole first.
fn written(global: &Global, make: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Status> {
    let mut text = Vec::new();
    make(&mut text)?;
    let mut screen = Screen::short(global);
    screen.write_all(&text)?;
    screen.finish()?;
    Ok(Status::Done)
}
