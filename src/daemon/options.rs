//! The daemon's command line.

use std::path::PathBuf;

use clap::Parser;

/// Bans hosts that fail to log in, as the systemd journal tells it.
///
/// Without options it is the system's service: configuration from /usr/lib/banish, /run/banish and /etc/banish, the
/// live journal, the kernel's firewall, the system bus. The options are for running it by hand.
#[derive(Clone, Debug, Parser)]
#[command(name = "banishd", version, about, long_about)]
pub struct Options {
    /// Read the whole configuration (banish.toml, jail.d, filter.d) from this one directory
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,

    /// Keep the ledger here
    #[arg(long, value_name = "DIR", env = "STATE_DIRECTORY", default_value = "/var/lib/banish")]
    pub state: PathBuf,

    /// Read the journal files of this directory instead of the live journal, as the source "local"
    #[arg(long, value_name = "DIR", conflicts_with = "journal_file")]
    pub journal_directory: Option<PathBuf>,

    /// Read these journal files instead of the live journal, as the source "local"; may be repeated and may be a
    /// pattern
    #[arg(long, value_name = "GLOB")]
    pub journal_file: Vec<String>,

    /// The message bus to serve on: an address, "system", or "none" [default: system, none with --dry-run]
    #[arg(long, value_name = "ADDRESS")]
    pub bus_address: Option<String>,

    /// Decide, but ban nothing and write no state
    #[arg(long)]
    pub dry_run: bool,

    /// Stop at the end of all journals; with --dry-run, print each decision and the totals as JSON lines
    #[arg(long)]
    pub once: bool,

    /// Put the bans of the ledger into the kernel and stop: what banish-restore.service does before the network is up
    #[arg(
        long,
        conflicts_with_all = ["journal_directory", "journal_file", "bus_address", "dry_run", "once"]
    )]
    pub restore: bool,
}

/// Where the bus is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusChoice {
    /// The system's bus.
    System,
    /// The bus at this address.
    Address(String),
    /// No bus at all.
    None,
}

impl Options {
    /// Which bus to serve on: a dry run serves on none unless it is told to.
    pub fn bus(&self) -> BusChoice {
        match self.bus_address.as_deref() {
            Some("none") => BusChoice::None,
            Some("system") => BusChoice::System,
            Some(address) => BusChoice::Address(address.to_owned()),
            None if self.dry_run => BusChoice::None,
            None => BusChoice::System,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_dry_run_stays_off_the_bus_unless_told() {
        let bus = |words: &[&str]| Options::parse_from(words).bus();
        assert_eq!(bus(&["banishd"]), BusChoice::System);
        assert_eq!(bus(&["banishd", "--dry-run"]), BusChoice::None);
        assert_eq!(bus(&["banishd", "--dry-run", "--bus-address", "system"]), BusChoice::System);
        assert_eq!(bus(&["banishd", "--bus-address", "unix:path=/x"]), BusChoice::Address("unix:path=/x".into()));
    }
}
