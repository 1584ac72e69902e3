//! Where an entry comes from: the alternatives of a `journalmatch`, each pinned to something a stranger cannot write.
//!
//! journald reads a process's unit and program from /proc after the message came, and misses them where the process has
//! ended. The sender's uid, gid and process id come from the kernel and are always there. They do not tie an entry to a
//! daemon: a setuid program writes what its caller likes. So an entry without a unit is believed only of a
//! [process](super::process) that was seen with it.

use super::Trust;
use super::dialect::Flaw;
use crate::engine::entry::{Entry, Field, Slot, Wanted};

/// One line of a `journalmatch`: all its conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    conditions: Vec<Condition>,
    /// It is for entries without a unit and does not trust claims.
    unitless: bool,
}

/// What an entry has to do with a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bond {
    /// It comes from elsewhere.
    None,
    /// It comes from here if its process does: the entry by itself does not say so.
    Process,
    /// It comes from here.
    Whole,
}

/// One field of a branch, and the values of which it must have any.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    field: Field,
    accepted: Vec<Accepted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Accepted {
    /// Exactly this value.
    Exact(Box<[u8]>),
    /// The units of one template: `name@`, something, `.type`.
    Instances(Box<[u8]>, Box<[u8]>),
    /// The programs of one name in any directory: `/name`.
    Program(Box<[u8]>),
    /// No value at all.
    Absent,
}

impl Branch {
    /// Reads a line and, unless the filter trusts claims, demands that it is pinned.
    pub(super) fn parse(line: &str, trust: Trust) -> Result<Branch, Flaw> {
        let mut branch = Branch { conditions: Vec::new(), unitless: false };
        for word in line.split_whitespace() {
            let offset = word.as_ptr() as usize - line.as_ptr() as usize;
            branch.add(word).map_err(|reason| Flaw { offset: Some(offset), reason })?;
        }
        if branch.conditions.is_empty() {
            return Err(Flaw::whole("an empty line would match every entry"));
        }
        if trust == Trust::Attested {
            branch.unitless = branch.pinned().map_err(Flaw::whole)? == Pin::Process;
        }
        Ok(branch)
    }

    fn add(&mut self, word: &str) -> Result<(), String> {
        if word == "+" {
            return Err("write the alternatives as lines of their own, not with +".into());
        }
        let (name, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is not of the form FIELD=value"))?;
        let field: Field = name.parse().map_err(|error| format!("{error}"))?;
        let accepted = accepted(name, value)?;
        match self.conditions.iter_mut().find(|condition| condition.field == field) {
            Some(condition) => condition.accepted.push(accepted),
            None => self.conditions.push(Condition { field, accepted: vec![accepted] }),
        }
        Ok(())
    }

    /// What no unprivileged process can write and this pins. `_COMM` does not count: a process names itself, nor does
    /// `_EXE` alone: anybody may run a program.
    fn pinned(&self) -> Result<Pin, &'static str> {
        let present = |name| self.condition(name).is_some_and(Condition::is_present);
        let uid = present("_UID") || present("_SYSTEMD_OWNER_UID");
        if present("_SYSTEMD_UNIT") || present("_SYSTEMD_CGROUP") {
            return Ok(Pin::Origin);
        }
        if self.condition("_TRANSPORT").is_some_and(|condition| condition.is_among(&[b"kernel", b"audit"])) {
            return Ok(Pin::Origin);
        }
        if present("_SYSTEMD_USER_UNIT") {
            return if uid {
                Ok(Pin::Origin)
            } else {
                Err("every user can have a unit of that name: add _UID= of the user whose unit is meant")
            };
        }
        if present("_UID") && present("_EXE") {
            return Ok(Pin::Origin);
        }
        if present("_UID") && present("SYSLOG_IDENTIFIER") {
            return match self.condition("_SYSTEMD_UNIT") {
                Some(unit) if unit.accepted.iter().all(|value| *value == Accepted::Absent) => Ok(Pin::Process),
                Some(_) => Err("write entries with a unit and entries without one as two lines"),
                None => {
                    Err("_UID and an identifier pin nothing (a program that runs with that user's rights writes what \
                             its caller likes): name the unit (_SYSTEMD_UNIT=….service)")
                }
            };
        }
        Err("pins no field that journald attests, so any local user could write such entries: name the unit \
             (_SYSTEMD_UNIT=….service), or _UID with _EXE, or _TRANSPORT=kernel; trust = \"claimed\" does without")
    }

    /// Does an entry that it takes tell which daemon's process wrote it?
    pub(super) fn tells_daemon(&self) -> bool {
        let present = |name| self.condition(name).is_some_and(Condition::is_present);
        ["_SYSTEMD_UNIT", "_SYSTEMD_CGROUP", "_SYSTEMD_USER_UNIT", "_EXE"].into_iter().any(present)
    }

    /// Is it for entries without a unit, which are believed only of processes that other branches know?
    pub(super) fn is_unitless(&self) -> bool {
        self.unitless
    }

    fn condition(&self, name: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.field.name() == name)
    }

    /// What sd-journal is asked for so that it delivers every entry this branch matches: the values of its one most
    /// selective field. `None` where no field is fit, and then only a reader without matches misses nothing.
    pub(super) fn terms(&self) -> Option<Vec<(Field, Vec<u8>)>> {
        let fit = self.conditions.iter().filter_map(|condition| Some((rank(&condition.field)?, condition.exact()?)));
        let (_, (field, values)) = fit.min_by_key(|(rank, _)| *rank)?;
        Some(values.into_iter().map(|value| (field.clone(), value.to_vec())).collect())
    }

    /// The values of `name` of which a matching entry has one, where that is a finite list.
    pub(super) fn exact(&self, name: &str) -> Option<Vec<&[u8]>> {
        self.condition(name)?.exact().map(|(_, values)| values)
    }

    /// The places of its fields, for [`Branch::bond`].
    pub(super) fn slots(&self, wanted: &mut Wanted) -> Vec<Slot> {
        self.conditions.iter().map(|condition| wanted.want(&condition.field)).collect()
    }

    /// What the entry, read with these places, has to do with this branch.
    pub(super) fn bond(&self, entry: Entry<'_>, slots: &[Slot]) -> Bond {
        match self.conditions.iter().zip(slots).all(|(condition, slot)| condition.holds(entry, *slot)) {
            false => Bond::None,
            true if self.unitless => Bond::Process,
            true => Bond::Whole,
        }
    }
}

/// What a branch rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pin {
    /// Fields of the entry itself.
    Origin,
    /// The process, which other branches must know.
    Process,
}

fn accepted(name: &str, value: &str) -> Result<Accepted, String> {
    let is_unit = matches!(name, "_SYSTEMD_UNIT" | "_SYSTEMD_USER_UNIT");
    if value.is_empty() {
        return Ok(Accepted::Absent);
    }
    if name == "_UID" && !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("_UID is a number, not {value:?}"));
    }
    if name == "_EXE"
        && let Some(program) = value.strip_prefix('*')
    {
        let named = program.len() > 1 && program.starts_with('/') && !program[1..].contains(['/', '*']);
        return match named {
            true => Ok(Accepted::Program(program.as_bytes().into())),
            false => Err("a program of any directory is written _EXE=*/NAME".into()),
        };
    }
    match value.split_once('*') {
        Some((prefix, suffix)) if is_unit => {
            let template = prefix.len() > 1 && prefix.ends_with('@') && suffix.len() > 1 && suffix.starts_with('.');
            if !template || suffix.contains('*') {
                return Err("a unit may have one * in the place of a template's instance: name@*.service".into());
            }
            Ok(Accepted::Instances(prefix.as_bytes().into(), suffix.as_bytes().into()))
        }
        _ => Ok(Accepted::Exact(value.as_bytes().into())),
    }
}

impl Condition {
    fn holds(&self, entry: Entry<'_>, slot: Slot) -> bool {
        let mut absent = true;
        for text in entry.values(slot) {
            absent = false;
            if !text.cut && self.accepted.iter().any(|accepted| accepted.takes(text.bytes)) {
                return true;
            }
        }
        absent && self.accepted.contains(&Accepted::Absent)
    }

    /// Is the field there in every entry that this takes?
    fn is_present(&self) -> bool {
        !self.accepted.contains(&Accepted::Absent)
    }

    fn is_among(&self, values: &[&[u8]]) -> bool {
        self.exact().is_some_and(|(_, exact)| exact.iter().all(|value| values.contains(value)))
    }

    fn exact(&self) -> Option<(&Field, Vec<&[u8]>)> {
        let values: Option<Vec<&[u8]>> = self.accepted.iter().map(Accepted::exact).collect();
        Some((&self.field, values?))
    }
}

impl Accepted {
    fn exact(&self) -> Option<&[u8]> {
        match self {
            Accepted::Exact(value) => Some(value),
            Accepted::Instances(..) | Accepted::Program(_) | Accepted::Absent => None,
        }
    }

    fn takes(&self, value: &[u8]) -> bool {
        match self {
            Accepted::Exact(exact) => **exact == *value,
            Accepted::Instances(prefix, suffix) => {
                value.len() > prefix.len() + suffix.len() && value.starts_with(prefix) && value.ends_with(suffix)
            }
            Accepted::Program(name) => value.starts_with(b"/") && value.ends_with(name),
            Accepted::Absent => false,
        }
    }
}

/// How selective a field is, the best first; `None` for those that most entries share.
fn rank(field: &Field) -> Option<u8> {
    match field.name() {
        "_SYSTEMD_UNIT" | "_SYSTEMD_USER_UNIT" => Some(0),
        "SYSLOG_IDENTIFIER" => Some(1),
        "_EXE" => Some(2),
        "_UID" | "_GID" | "_HOSTNAME" | "_BOOT_ID" | "_MACHINE_ID" | "_RUNTIME_SCOPE" | "_SYSTEMD_OWNER_UID"
        | "_SYSTEMD_SLICE" | "PRIORITY" | "SYSLOG_FACILITY" => None,
        "_TRANSPORT" => Some(4),
        _ => Some(3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::entry::Page;

    fn branch(line: &str) -> Result<Branch, Flaw> {
        Branch::parse(line, Trust::Attested)
    }

    fn bond(line: &str, fields: &[&str]) -> Bond {
        let branch = branch(line).expect(line);
        let mut wanted = Wanted::default();
        let slots = branch.slots(&mut wanted);
        let mut page = Page::default();
        fields.iter().for_each(|field| page.offer(&wanted, field.as_bytes()));
        branch.bond(page.entry(), &slots)
    }

    fn holds(line: &str, fields: &[&str]) -> bool {
        bond(line, fields) == Bond::Whole
    }

    #[test]
    fn fields_are_anded_and_values_ored() {
        let line = "_UID=0 _SYSTEMD_UNIT=a.service _SYSTEMD_UNIT=b.service";
        assert!(holds(line, &["_UID=0", "_SYSTEMD_UNIT=b.service"]));
        assert!(!holds(line, &["_UID=1", "_SYSTEMD_UNIT=b.service"]));
        assert!(!holds(line, &["_UID=0", "_SYSTEMD_UNIT=c.service"]));
        assert!(!holds(line, &["_UID=0"]));
    }

    #[test]
    fn nothing_after_the_sign_means_absent() {
        let line = "_SYSTEMD_UNIT=x.service _TRANSPORT=syslog _TRANSPORT=";
        assert!(holds(line, &["_SYSTEMD_UNIT=x.service", "_TRANSPORT=syslog"]));
        assert!(holds(line, &["_SYSTEMD_UNIT=x.service"]));
        assert!(!holds(line, &["_SYSTEMD_UNIT=x.service", "_TRANSPORT=stdout"]));
    }

    #[test]
    fn without_a_unit_only_the_process_can_tell() {
        let line = "_UID=0 _SYSTEMD_UNIT= SYSLOG_IDENTIFIER=sshd";
        assert_eq!(bond(line, &["_UID=0", "SYSLOG_IDENTIFIER=sshd"]), Bond::Process);
        assert_eq!(bond(line, &["_UID=0", "SYSLOG_IDENTIFIER=sshd", "_SYSTEMD_UNIT=x.service"]), Bond::None);
        assert_eq!(bond(line, &["_UID=0", "SYSLOG_IDENTIFIER=su"]), Bond::None);
        let claimed = Branch::parse(line, Trust::Claimed).expect(line);
        assert!(!claimed.is_unitless(), "who trusts claims needs no process");
    }

    #[test]
    fn a_program_is_known_by_its_name_in_any_directory() {
        let unit = "_SYSTEMD_UNIT=ssh.service";
        let line = format!("{unit} _EXE=*/sshd _EXE=*/sshd-session");
        for (exe, expected) in [
            ("_EXE=/usr/sbin/sshd", true),
            ("_EXE=/usr/lib/openssh/sshd-session", true),
            ("_EXE=/usr/bin/chsh", false),
            ("_EXE=/usr/sbin/xsshd", false),
            ("_EXE=sshd", false),
            ("_COMM=sshd", false),
        ] {
            assert_eq!(holds(&line, &[unit, exe]), expected, "{exe}");
        }
        assert!(holds(&format!("{line} _EXE="), &[unit, "_COMM=sshd"]));
    }

    #[test]
    fn a_template_takes_its_instances_and_nothing_else() {
        let line = "_SYSTEMD_UNIT=sshd@*.service";
        assert!(holds(line, &["_SYSTEMD_UNIT=sshd@1-[2001:db8::1]:22.service"]));
        for unit in ["sshd@.service", "sshd.service", "xsshd@1.service", "sshd@1.socket"] {
            assert!(!holds(line, &[&format!("_SYSTEMD_UNIT={unit}")]), "{unit}");
        }
    }

    #[test]
    fn only_what_a_stranger_cannot_write_pins() {
        for good in [
            "_SYSTEMD_UNIT=a.service",
            "_SYSTEMD_CGROUP=/system.slice/a.service",
            "_SYSTEMD_USER_UNIT=a.service _UID=1000",
            "_TRANSPORT=kernel",
            "_TRANSPORT=kernel _TRANSPORT=audit",
            "_UID=0 _EXE=/usr/sbin/sshd",
            "_UID=0 _EXE=*/sshd",
        ] {
            assert!(branch(good).is_ok_and(|branch| !branch.is_unitless()), "{good}");
        }
        assert!(branch("_UID=0 _SYSTEMD_UNIT= SYSLOG_IDENTIFIER=sshd").is_ok_and(|branch| branch.is_unitless()));
        for (bad, reason) in [
            ("SYSLOG_IDENTIFIER=sshd", "any local user"),
            ("_COMM=sshd", "any local user"),
            ("_COMM=sshd _EXE=/usr/sbin/sshd", "any local user"),
            ("_UID=0", "any local user"),
            ("_TRANSPORT=syslog", "any local user"),
            ("_TRANSPORT=kernel _TRANSPORT=syslog", "any local user"),
            ("_SYSTEMD_UNIT= SYSLOG_IDENTIFIER=sshd", "any local user"),
            ("_SYSTEMD_USER_UNIT=a.service", "add _UID="),
            ("_UID=0 SYSLOG_IDENTIFIER=sshd", "name the unit"),
            ("_UID=0 _EXE=*/sshd _EXE=", "any local user"),
            ("_UID=0 _EXE=*/sshd _EXE= SYSLOG_IDENTIFIER=sshd", "name the unit"),
            ("_SYSTEMD_UNIT=a.service _EXE=*sshd", "_EXE=*/NAME"),
            ("_SYSTEMD_UNIT=a.service _EXE=*/", "_EXE=*/NAME"),
            ("_SYSTEMD_UNIT=a.service _EXE=*/bin/sshd", "_EXE=*/NAME"),
            ("_UID=0 _SYSTEMD_UNIT= _SYSTEMD_UNIT=a.service SYSLOG_IDENTIFIER=sshd", "two lines"),
            ("", "empty"),
            ("_SYSTEMD_UNIT=a.service + _SYSTEMD_UNIT=b.service", "lines of their own"),
            ("_SYSTEMD_UNIT=a.service sshd", "FIELD=value"),
            ("_SYSTEMD_UNIT=a.service unit=b", "no journal field"),
            ("_SYSTEMD_UNIT=a*.service", "template"),
            ("_SYSTEMD_UNIT=*", "template"),
            ("_UID=root _SYSTEMD_UNIT=a.service", "number"),
        ] {
            let flaw = branch(bad).expect_err(bad);
            assert!(flaw.reason.contains(reason), "{bad}: {}", flaw.reason);
        }
        assert!(Branch::parse("SYSLOG_IDENTIFIER=sshd", Trust::Claimed).is_ok());
    }

    #[test]
    fn the_terms_are_of_one_field_that_every_entry_has() {
        let terms = |line: &str| {
            let terms = Branch::parse(line, Trust::Claimed).expect(line).terms()?;
            Some(
                terms
                    .iter()
                    .map(|(field, value)| format!("{field}={}", value.escape_ascii()))
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        };
        let identifier = "SYSLOG_IDENTIFIER=sshd";
        for (line, expected) in [
            ("_UID=0 SYSLOG_IDENTIFIER=sshd _SYSTEMD_UNIT=a.service", Some("_SYSTEMD_UNIT=a.service")),
            ("_UID=0 _SYSTEMD_UNIT= SYSLOG_IDENTIFIER=sshd", Some(identifier)),
            ("_UID=0 _SYSTEMD_UNIT=a@*.service SYSLOG_IDENTIFIER=sshd", Some(identifier)),
            ("_UID=0 _SYSTEMD_UNIT=a.service _SYSTEMD_UNIT= SYSLOG_IDENTIFIER=sshd", Some(identifier)),
            ("_UID=0 _EXE=/bin/a", Some("_EXE=/bin/a")),
            ("_TRANSPORT=kernel _TRANSPORT=audit", Some("_TRANSPORT=kernel _TRANSPORT=audit")),
            ("_UID=0 _SYSTEMD_UNIT=a@*.service", None),
            ("_UID=0", None),
        ] {
            assert_eq!(terms(line).as_deref(), expected, "{line}");
        }
    }
}
