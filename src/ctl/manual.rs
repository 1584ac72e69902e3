//! The manual page: what the command line's definition says, and what is written here by hand.

use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::args::Cli;

/// Writes the page `banishctl(1)`.
///
/// # Errors
/// Whatever writing meets.
pub fn page(out: &mut dyn Write) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    let man = Man::new(command.clone())
        .title("BANISHCTL")
        .section("1")
        .source(concat!("banish ", env!("CARGO_PKG_VERSION")))
        .manual("banishctl");
    man.render_title(out)?;
    man.render_name_section(out)?;
    synopsis().to_writer(out)?;
    man.render_description_section(out)?;
    commands(&command, out)?;
    man.render_options_section(out)?;
    by_hand().to_writer(out)
}

fn synopsis() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold("banishctl"), roman(" [OPTION...] [COMMAND] [ARGUMENT...]")]);
    roff
}

/// A section with a part for each command that is not hidden.
fn commands(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    roff.to_writer(out)?;
    for leaf in leaves(command) {
        part(leaf, out)?;
    }
    Ok(())
}

fn leaves(command: &Command) -> Vec<&Command> {
    let mut found = Vec::new();
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        if below.has_subcommands() { found.extend(leaves(below)) } else { found.push(below) }
    }
    found
}

fn part(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    // What holds for every command stands in a section of its own, and --help helps itself.
    let mut own = Command::new("").disable_help_flag(true).disable_version_flag(true);
    own = own.args(command.get_arguments().filter(|arg| !arg.is_global_set() && arg.get_id() != "help").cloned());
    let name = command.get_display_name().unwrap_or(command.get_name()).replacen("banishctl-", "", 1).replace('-', " ");
    let mut roff = Roff::new();
    roff.control("SS", [name.as_str()]);
    roff.text(usage(command, &name));
    roff.control("PP", []);
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    for (at, paragraph) in about.split("\n\n").enumerate() {
        if at > 0 {
            roff.control("PP", []);
        }
        let end = if paragraph.ends_with('.') { "" } else { "." };
        roff.text([roman(format!("{paragraph}{end}"))]);
    }
    roff.to_writer(out)?;
    let mut options = Vec::new();
    Man::new(own).render_options_section(&mut options)?;
    // The section's heading is no heading of ours: the options belong to the part.
    let options = String::from_utf8_lossy(&options).replace(".SH OPTIONS\n", "");
    out.write_all(options.replace(".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n", "").as_bytes())
}

fn usage(command: &Command, name: &str) -> Vec<Inline> {
    let mut line = vec![bold(format!("banishctl {name}"))];
    if command.get_arguments().any(|arg| !arg.is_global_set() && !arg.is_positional() && arg.get_id() != "help") {
        line.push(roman(" [OPTION...]"));
    }
    for positional in command.get_positionals() {
        let names = positional.get_value_names().unwrap_or_default();
        let mut word = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        if positional.get_num_args().is_some_and(|range| range.max_values() > 1) {
            word.push_str("...");
        }
        line.push(roman(if positional.is_required_set() { format!(" {word}") } else { format!(" [{word}]") }));
    }
    line
}

/// The sections that no definition knows.
fn by_hand() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["TRYING FILTERS"]);
    for text in [
        "banishctl test says of each input what a filter makes of it, as the daemon would. An input is a failure where it \
         completes one: a line that only prepares one (<F-NOFAIL>), or one that waits for its session to tell an address, \
         is none. A line that is one unless its session tells more within 20 seconds (<F-REFUSAL>) is \"refused\", and \
         once that time is over, or with the last input, it is told again as the failure that it has become.",
        "With --json there is one object for each input, in their order, and another one of the same number for a refused \
         one that has become a failure: \"n\" counts from 1; \"match\" says whether the \
         input completes a failure; \"subject\" is the address that failed, or null; \"captures\" holds what the pattern \
         captured, by tag, as text or, where that is no UTF-8, as a list of bytes; \"outcome\" is one of failure, nofail, \
         pending, refused, success, counted, ignored, no-address, no-match, unvouched (an entry without a unit, of a \
         process that was not seen with the daemon's) and elsewhere; \"pattern\" names what decided, as failregex[0], or \
         is null; \"gave_up\" names the patterns that gave no answer because it would have taken too \
         long.",
        "Lines (--line-file, or given as arguments) are MESSAGEs, as bytes. They say nothing of where they come from, so \
         journalmatch is left out; and nothing of a session, so each stands for itself, unless --one-session takes them \
         all as one session's. Entries (--entries) have all their fields: journalmatch is applied unless --any-source is \
         given, and sessions are kept by the filter's session field. An empty line counts among lines, and is passed \
         over among entries.",
    ] {
        paragraph(&mut roff, text);
    }

    roff.control("SH", ["EXIT STATUS"]);
    for (number, text) in [
        ("0", "What was asked is done. For test: the inputs were tried, whatever came out. A broken pipe is success."),
        (
            "1",
            "It was refused or failed; for check and config, an error was found. As with systemctl, status is 0 while \
             banishd runs, whatever is wrong.",
        ),
        ("2", "The command line is wrong."),
        (
            "3",
            "banishd is not running. For status JAIL: the jail is not, because it is disabled or left out. For monitor: \
             banishd went away and did not come back in time.",
        ),
        ("4", "The caller may not do this; the message names the missing right, an action of polkit."),
    ] {
        item(&mut roff, number, text);
    }

    roff.control("SH", ["ENVIRONMENT"]);
    for (name, text) in [
        (
            "SYSTEMD_PAGER, PAGER",
            "The pager for long output on a terminal; less where neither is set, none where it is empty or cat.",
        ),
        ("SYSTEMD_LESS", "The options of less, FRSXMK where not set."),
        (
            "SYSTEMD_PAGERSECURE",
            "Whether the pager must not start other programs; assumed under sudo and pkexec, where only less is used.",
        ),
        (
            "SYSTEMD_COLORS, NO_COLOR",
            "Whether colours are used; the first goes before the second. Without either they are used on a terminal.",
        ),
        (
            "SSH_CONNECTION",
            "The ssh client that ban refuses to ban without --force. Where it is not set, as under sudo, that of a parent process is taken. A command that systemd runs, as by systemd-run, has no such parent: there ban does not know your connection.",
        ),
    ] {
        item(&mut roff, name, text);
    }

    roff.control("SH", ["FILES"]);
    item(
        &mut roff,
        "/usr/lib/banish, /run/banish, /etc/banish",
        "The configuration, each directory going before the one named before it.",
    );

    roff.control("SH", ["EXAMPLES"]);
    for (text, command) in [
        ("Ban a network for a day:", "banishctl ban 192.0.2.0/24 --time 1d --reason \"scans us\""),
        ("Who is banned, for a program:", "banishctl list --json | jq -r .subject"),
        (
            "What the sshd filter makes of today's entries:",
            "journalctl --all -o json --since today | banishctl test --filter sshd --entries -",
        ),
        ("Look at a new configuration before it is in force:", "banishctl config check --config ./etc"),
    ] {
        paragraph(&mut roff, text);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        roff.text([bold(command)]);
        roff.control("fi", []);
        roff.control("RE", []);
    }

    roff.control("SH", ["SEE ALSO"]);
    let pages = [("banishd", "(8), "), ("journalctl", "(1), "), ("nft", "(8), "), ("polkit", "(8)")];
    roff.text(pages.iter().flat_map(|(name, section)| [bold(*name), roman(*section)]).collect::<Vec<_>>());
    roff
}

fn paragraph(roff: &mut Roff, text: &str) {
    roff.control("PP", []);
    roff.text([roman(text)]);
}

fn item(roff: &mut Roff, name: &str, text: &str) {
    roff.control("TP", []);
    roff.text([bold(name)]);
    roff.text([roman(text)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_option_has_its_place_on_the_page() {
        let mut text = Vec::new();
        page(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap().replace("\\-", "-");
        let mut command = Cli::command();
        command.build();
        for leaf in leaves(&command) {
            for option in leaf.get_opts().chain(command.get_opts()).filter_map(clap::Arg::get_long) {
                assert!(text.contains(&format!("--{option}")), "{option}");
            }
            assert!(
                text.contains(&format!("banishctl {}", leaf.get_name())) || leaf.get_name().len() < 6,
                "{}",
                leaf.get_name()
            );
        }
        assert!(!text.contains("completions") && text.contains(".SS \"config check\""));
    }
}
