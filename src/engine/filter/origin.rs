//! Where an entry comes from: the alternatives of a `journalmatch`, each pinned to something a stranger cannot write.

use super::Trust;
use super::dialect::Flaw;
use crate::engine::entry::{Entry, Field, Slot, Wanted};

/// One line of a `journalmatch`: all its conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    conditions: Vec<Condition>,
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
    /// No value at all.
    Absent,
}

impl Branch {
    /// Reads a line and, unless the filter trusts claims, demands that it is pinned.
    pub(super) fn parse(line: &str, trust: Trust) -> Result<Branch, Flaw> {
        let mut branch = Branch { conditions: Vec::new() };
        for word in line.split_whitespace() {
            let offset = word.as_ptr() as usize - line.as_ptr() as usize;
            branch.add(word).map_err(|reason| Flaw { offset: Some(offset), reason })?;
        }
        if branch.conditions.is_empty() {
            return Err(Flaw::whole("an empty line would match every entry"));
        }
        if trust == Trust::Attested {
            branch.pinned().map_err(Flaw::whole)?;
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

    /// Does it pin what no unprivileged process can write? `_COMM` does not count: a process names itself, nor does
    /// `_EXE` alone: anybody may run a program.
    fn pinned(&self) -> Result<(), &'static str> {
        let present = |name| self.condition(name).is_some_and(Condition::is_present);
        let uid = present("_UID") || present("_SYSTEMD_OWNER_UID");
        if present("_SYSTEMD_UNIT") || present("_SYSTEMD_CGROUP") {
            return Ok(());
        }
        if self.condition("_TRANSPORT").is_some_and(|condition| condition.is_among(&[b"kernel", b"audit"])) {
            return Ok(());
        }
        if present("_SYSTEMD_USER_UNIT") {
            return if uid {
                Ok(())
            } else {
                Err("every user can have a unit of that name: add _UID= of the user whose unit is meant")
            };
        }
        if present("_UID") && present("_EXE") {
            return Ok(());
        }
        if present("_UID") && present("SYSLOG_IDENTIFIER") {
            return match self.condition("_SYSTEMD_UNIT") {
                Some(unit) if unit.accepted.iter().all(|value| *value == Accepted::Absent) => Ok(()),
                Some(_) => Err("write entries with a unit and entries without one as two lines"),
                None => {
                    Err("_UID and an identifier pin only entries without a unit (any program of that user may use \
                             the identifier): add _SYSTEMD_UNIT= with nothing after it, or name the unit")
                }
            };
        }
        Err("pins no field that journald attests, so any local user could write such entries: name the unit \
             (_SYSTEMD_UNIT=….service), or _UID with _EXE, or _TRANSPORT=kernel; trust = \"claimed\" does without")
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

    /// The places of its fields, for [`Branch::holds`].
    pub(super) fn slots(&self, wanted: &mut Wanted) -> Vec<Slot> {
        self.conditions.iter().map(|condition| wanted.want(&condition.field)).collect()
    }

    /// Does the entry, read with these places, come from here?
    pub(super) fn holds(&self, entry: Entry<'_>, slots: &[Slot]) -> bool {
        self.conditions.iter().zip(slots).all(|(condition, slot)| condition.holds(entry, *slot))
    }
}

fn accepted(name: &str, value: &str) -> Result<Accepted, String> {
    let is_unit = matches!(name, "_SYSTEMD_UNIT" | "_SYSTEMD_USER_UNIT");
    if value.is_empty() {
        return Ok(Accepted::Absent);
    }
    if name == "_UID" && !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("_UID is a number, not {value:?}"));
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
            Accepted::Instances(..) | Accepted::Absent => None,
        }
    }

    fn takes(&self, value: &[u8]) -> bool {
        match self {
            Accepted::Exact(exact) => **exact == *value,
            Accepted::Instances(prefix, suffix) => {
                value.len() > prefix.len() + suffix.len() && value.starts_with(prefix) && value.ends_with(suffix)
            }
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
