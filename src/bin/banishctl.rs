//! The banishctl binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    banish::ctl::run(std::env::args_os())
}
