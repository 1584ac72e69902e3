//! The `banishd` binary: bans hosts that fail to log in.

use std::error::Error as _;
use std::process::ExitCode;

use banish::daemon::options::Options;
use clap::Parser;

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Into::into).and_then(|runtime| {
            let outcome = match options.restore {
                true => runtime.block_on(banish::daemon::restore(options)),
                false => runtime.block_on(banish::daemon::run(options)),
            };
            // A thread that a file system holds up ends with the process.
            runtime.shutdown_background();
            outcome
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("banishd: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}
