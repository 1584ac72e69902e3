//! The command line: what may be written, resolved once into types.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueHint};
use clap_complete::{ArgValueCompleter, Shell};

use super::complete::{self, Filters};
use super::when::{self, Since};
use crate::bus::BusAddress;
use crate::config::length;
use crate::engine::ban::JailName;
use crate::engine::subject::Subject;
use crate::engine::time::Length;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "banishctl",
    version,
    about = "Ask banishd about its bans, and tell it what to do",
    long_about = "Shows what banishd, the daemon that bans hosts that fail to log in, counts and bans; bans and lifts \
                  bans by hand; and tries out its configuration. Without a command it shows the status.",
    after_help = "Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 banishd or the jail is not running, 4 not allowed.",
    max_term_width = 100
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do; `status` where nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Write one JSON object per line, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Leave out the heading and the count below a list
    #[arg(long, global = true)]
    pub no_legend: bool,
    /// Do not pass long output to a pager
    #[arg(long, global = true)]
    pub no_pager: bool,
    /// The bus that banishd is on: "system" or a D-Bus address
    #[arg(long, global = true, value_name = "ADDRESS", default_value = "system", value_parser = bus_address,
          hide_default_value = true)]
    pub bus_address: BusAddress,
    /// Read the configuration from this directory alone, not from /usr/lib, /run and /etc/banish
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub config: Option<PathBuf>,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show how the daemon is, or how one jail is
    ///
    /// What is wrong comes first, then the jails that run. The exit status is 0 where the daemon, or the jail that is
    /// asked for, runs, and 3 where it does not, whatever else is wrong; "check" fails where something is.
    Status {
        /// The jail
        #[arg(add = complete::jails())]
        jail: Option<JailName>,
        /// Show the disabled jails too
        #[arg(long, short, conflicts_with = "jail")]
        all: bool,
    },
    /// List the bans in force
    List {
        /// Of this jail alone
        #[arg(long, short, add = complete::jails())]
        jail: Option<JailName>,
    },
    /// Ban an address or a prefix
    Ban(BanArgs),
    /// Lift the bans of an address or a prefix
    Unban(UnbanArgs),
    /// Forget the failures that were counted of an address or a prefix, in all jails
    ///
    /// Bans stay; "unban" lifts them.
    Forget {
        /// The address or prefix
        subject: Subject,
    },
    /// Let a jail count nothing for a while
    ///
    /// What is logged meanwhile is never counted. Bans stay and end as they would.
    Pause(PauseArgs),
    /// Let a paused jail count again
    Resume {
        /// The jail
        #[arg(add = complete::running_jails())]
        jail: JailName,
    },
    /// Tell of a failed login, as a program that keeps no journal would
    Attempt {
        /// The jail that counts it
        #[arg(add = complete::running_jails())]
        jail: JailName,
        /// Whose it was: one address
        address: IpAddr,
    },
    /// Have the daemon read its configuration anew
    Reload,
    /// Show bans as they come and go, until interrupted
    Monitor {
        /// Wait so long for a daemon that went away, as in a restart; 0 ends at once
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = length::parse)]
        wait: Duration,
    },
    /// Take all bans out of the kernel, with or without the daemon
    ///
    /// Removes the nftables table "inet banish" and nothing else. Nothing is asked and no daemon is needed. A running
    /// daemon puts the table back: stop it first (systemctl stop banishd). Once stopped, it starts again when somebody
    /// with the right starts it, or at the next boot; "systemctl disable banishd" keeps it from that.
    Disarm,
    /// Ask the daemon what is wrong or doubtful
    ///
    /// Fails where something is wrong, not where it is only doubtful. What is wrong with the configuration is told in
    /// full to root and to who has the right org.banish1.inspect, to others only where it is.
    Check,
    /// Check or show the configuration files
    Config {
        /// What of them
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Try a filter on lines or journal entries
    Test(TestArgs),
    /// Bring fail2ban's configuration over
    ///
    /// Reads fail2ban's jails, filters and settings in their whole language and writes jail.d/fail2ban.toml,
    /// banish.toml.d/fail2ban.toml and the filters that banish has not itself, each value with the place it comes from.
    /// What cannot be brought over is told, with its place and the reason. fail2ban's files stay as they are.
    Import(ImportArgs),
    /// Write the completions of a shell
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual page
    #[command(hide = true)]
    Manual,
}

/// `config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Tell all problems, each with file, line and column; fails where one is an error
    ///
    /// For root, what the daemon's user "banish" may not read is an error too, unless that user cannot reach the directory
    /// named with --config at all.
    Check,
    /// Show every value in force and where it was written
    Show,
}

/// `ban …`.
#[derive(Debug, Args)]
pub struct BanArgs {
    /// The address or prefix
    pub subject: Subject,
    /// In this jail; without it in "manual", which covers all ports
    #[arg(long, short, add = complete::banning_jails())]
    pub jail: Option<JailName>,
    /// For so long, such as 10m, 1h or 1d12h, or "permanent"; without it the jail's own length
    #[arg(long, short, value_name = "TIME", value_parser = ban_length, allow_hyphen_values = true)]
    pub time: Option<Length>,
    /// Why: kept with the ban
    #[arg(long, short, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Even if that cuts off this machine or your own ssh connection, or no host has such an address
    ///
    /// Without it these are refused: what contains the default gateway, a resolver, an address of this machine or your
    /// own ssh client; what overlaps 0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/4, 255.255.255.255, ::, ::1 or ff00::/8; and
    /// prefixes shorter than /8 (IPv4) or /16 (IPv6). A length of 0 is never taken: to shut everybody out is a
    /// firewall's work.
    #[arg(long, short)]
    pub force: bool,
}

/// `unban …`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("whom").required(true).args(["subject", "all"])))]
pub struct UnbanArgs {
    /// The address or prefix, as it was banned
    #[arg(add = complete::banned())]
    pub subject: Option<Subject>,
    /// Every ban
    #[arg(long, short)]
    pub all: bool,
    /// In this jail; without it in all of them
    #[arg(long, short, add = complete::jails())]
    pub jail: Option<JailName>,
}

/// `pause …`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// The jail
    #[arg(add = complete::running_jails())]
    pub jail: JailName,
    /// For so long, such as 10m or 2h; without it until "resume"
    #[arg(long = "for", short = 't', value_name = "TIME", value_parser = pause_length)]
    pub length: Option<Duration>,
}

/// `import …`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// fail2ban's configuration
    #[arg(long, value_name = "DIR", default_value = "/etc/fail2ban", value_hint = ValueHint::DirPath)]
    pub from: PathBuf,
    /// Where to write
    ///
    /// A directory that is none of the configuration's own gets the filters of banish that its jails use, too, so that
    /// it can be tried with --config.
    #[arg(long, value_name = "DIR", default_value = "/etc/banish", value_hint = ValueHint::DirPath)]
    pub to: PathBuf,
    /// Write nothing, only tell
    #[arg(long)]
    pub check: bool,
    /// Replace files that are there and say something else
    #[arg(long)]
    pub force: bool,
    /// Bring over every filter, also those that banish has itself
    ///
    /// Without it, a filter that is as fail2ban ships it is replaced by banish's of the same name and mode. A copy whose name
    /// banish has, too, gets another one.
    #[arg(long)]
    pub translate: bool,
    /// Take banish's filter wherever there is one of the name and mode, even if fail2ban's was changed
    #[arg(long, conflicts_with = "translate")]
    pub shipped: bool,
    /// Ban whom fail2ban bans now, for as long as is left of it, and bring nothing else over
    ///
    /// banishd must run and have jails of the same names. With --check nobody is banned.
    #[arg(long, conflicts_with_all = ["from", "to", "force", "translate", "shipped"])]
    pub bans: bool,
    /// fail2ban's database
    #[arg(long, value_name = "FILE", default_value = "/var/lib/fail2ban/fail2ban.sqlite3", requires = "bans",
          value_hint = ValueHint::FilePath)]
    pub database: PathBuf,
}

/// `test …`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["filter", "jail"])))]
#[command(group(ArgGroup::new("input").required(true).args(["line_file", "entries", "since", "lines"])))]
pub struct TestArgs {
    /// The filter: its name in the configuration, a file (with a / or ending in .toml), or a pattern (with a < or ^)
    ///
    /// A bare pattern says nothing of where entries come from: it is tried on all of them.
    #[arg(long, short, value_name = "NAME|FILE|PATTERN", add = ArgValueCompleter::new(Filters))]
    pub filter: Option<String>,
    /// The filter of this jail, with its mode and its journalmatch
    #[arg(long, short, conflicts_with = "mode", add = complete::jails())]
    pub jail: Option<JailName>,
    /// The filter's mode
    #[arg(long, short, value_name = "MODE", default_value = "normal", add = complete::modes())]
    pub mode: String,
    /// Try each line of this file ("-" for standard input) as a MESSAGE
    ///
    /// A MESSAGE alone says nothing of where it comes from, so journalmatch is left out. Each line is a session of its
    /// own, unless --one-session is given.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub line_file: Option<PathBuf>,
    /// Try each entry of this file ("-" for standard input), as journalctl -o json writes it
    ///
    /// journalmatch is applied. Use journalctl --all, which does not leave out long fields.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub entries: Option<PathBuf>,
    /// Try each entry of the journal since then: 1h, "2 days ago", today, 12:30 or "2026-11-23 12:30"
    ///
    /// journalmatch is applied; what comes from elsewhere is no input.
    #[arg(long, short, value_name = "TIME", value_parser = when::parse, allow_hyphen_values = true)]
    pub since: Option<Since>,
    /// With --since: read the journal files of this directory instead of this machine's journal
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "since",
          conflicts_with_all = ["line_file", "entries", "lines"])]
    pub journal_directory: Option<PathBuf>,
    /// Take entries from everywhere, whatever journalmatch says
    #[arg(long, conflicts_with_all = ["line_file", "lines"])]
    pub any_source: bool,
    /// Take all lines as one session's, in their order
    #[arg(long, conflicts_with_all = ["entries", "since"])]
    pub one_session: bool,
    /// Messages to try
    #[arg(value_name = "LINE")]
    pub lines: Vec<OsString>,
}

pub(super) fn bus_address(text: &str) -> Result<BusAddress, std::convert::Infallible> {
    Ok(if text == "system" { BusAddress::System } else { BusAddress::Address(text.into()) })
}

/// A ban's length: the configuration's words for it, but not nothing, which on the bus means the jail's own.
fn ban_length(text: &str) -> Result<Length, String> {
    if text == "permanent" {
        return Ok(Length::Permanent);
    }
    if text.starts_with('-') || ["forever", "never", "infinite", "inf", "always"].contains(&text) {
        return Err("a ban without an end is written \"permanent\"".into());
    }
    let span = length::parse(text).map_err(|error| error.to_string())?;
    if span.is_zero() {
        return Err("a ban of no length bans nothing".into());
    }
    Ok(Length::For(span))
}

/// A pause's length: not nothing, which on the bus means until it is ended.
fn pause_length(text: &str) -> Result<Duration, String> {
    let span = length::parse(text).map_err(|error| error.to_string())?;
    if span.is_zero() { Err("a pause of no length is none".into()) } else { Ok(span) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parsed(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("banishctl").chain(words.iter().copied()))
    }

    fn ban(words: &[&str]) -> BanArgs {
        match parsed(words).unwrap().command {
            Some(Command::Ban(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_nothing_is_named() {
        assert!(parsed(&[]).unwrap().command.is_none());
        assert!(parsed(&["--json"]).unwrap().global.json);
    }

    #[test]
    fn global_options_stand_before_or_behind_the_command() {
        for words in [["--no-pager", "list"], ["list", "--no-pager"]] {
            assert!(parsed(&words).unwrap().global.no_pager);
        }
        assert_eq!(parsed(&["list"]).unwrap().global.bus_address, BusAddress::System);
        let at = parsed(&["list", "--bus-address", "unix:path=/x"]).unwrap().global.bus_address;
        assert_eq!(at, BusAddress::Address("unix:path=/x".into()));
    }

    #[test]
    fn a_ban_takes_the_configurations_words_for_time() {
        assert_eq!(ban(&["ban", "192.0.2.1"]).time, None);
        assert_eq!(ban(&["ban", "192.0.2.1", "--time", "permanent"]).time, Some(Length::Permanent));
        let hours = Some(Length::For(Duration::from_secs(5400)));
        assert_eq!(ban(&["ban", "192.0.2.0/24", "-t", "1h 30min"]).time, hours);
        for time in ["0", "0s", "-1h", "soon", ""] {
            assert!(parsed(&["ban", "192.0.2.1", &format!("--time={time}")]).is_err(), "{time}");
        }
    }

    #[test]
    fn a_ban_without_an_end_by_another_name_is_told_its_own() {
        for time in ["-1", "forever", "never", "infinite"] {
            let said = parsed(&["ban", "192.0.2.1", "--time", time]).unwrap_err().to_string();
            assert!(said.contains("is written \"permanent\""), "{said}");
        }
    }

    #[test]
    fn what_is_no_subject_and_no_jail_is_wrong_usage() {
        for words in [
            &["ban", "example.org"][..],
            &["ban", "192.0.2.1/24"],
            &["ban"],
            &["ban", "192.0.2.1", "--jail", "a b"],
            &["unban"],
            &["unban", "192.0.2.1", "--all"],
            &["status", "../x"],
            &["forget"],
            &["forget", "example.org"],
            &["pause"],
            &["pause", "sshd", "--for", "0"],
            &["pause", "sshd", "--for", "permanent"],
            &["resume"],
            &["attempt", "sshd"],
            &["attempt", "sshd", "192.0.2.0/24"],
            &["attempt", "sshd", "example.org"],
        ] {
            assert_eq!(parsed(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_words_are_too_much(
            command in "ban|unban|forget|pause|resume|attempt|status|list",
            words in proptest::collection::vec("-{0,2}[a-z]{0,8}=?[0-9a-z.:/ -]{0,20}|\\PC{0,12}", 0..4),
        ) {
            let words: Vec<&str> = std::iter::once(command.as_str()).chain(words.iter().map(String::as_str)).collect();
            let _ = parsed(&words);
        }

        #[test]
        fn a_length_is_never_nothing(text in "[0-9.]{0,12} ?[a-z]{0,7}|\\PC{0,12}") {
            proptest::prop_assert_ne!(pause_length(&text), Ok(Duration::ZERO));
            proptest::prop_assert_ne!(ban_length(&text), Ok(Length::For(Duration::ZERO)));
        }
    }

    #[test]
    fn a_test_has_one_kind_of_input() {
        for words in [
            &["test", "--filter", "sshd"][..],
            &["test", "--filter", "sshd", "--entries", "-", "--line-file", "-"],
            &["test", "--filter", "sshd", "--entries", "-", "line"],
            &["test", "line"],
            &["test", "--filter", "sshd", "--any-source", "line"],
            &["test", "--filter", "sshd", "--jail", "sshd", "line"],
            &["test", "--jail", "sshd", "--mode", "aggressive", "line"],
            &["test", "--filter", "sshd", "--since", "never"],
            &["test", "--filter", "sshd", "--journal-directory", "/x", "line"],
        ] {
            assert_eq!(parsed(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
        assert!(parsed(&["test", "--filter", "sshd", "a", "b"]).is_ok());
        assert!(parsed(&["test", "--jail", "sshd", "--since", "-1h", "--any-source"]).is_ok());
    }
}
