//! What a ban is, by whose word it came, and how it ended.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::entry::EntryRef;
use super::subject::Subject;
use super::time::Stamp;

/// A jail's name: 1 to 64 of `a-z A-Z 0-9 - _ .`, a letter or digit first. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JailName(Arc<str>);

/// Why a text is no jail name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no jail name (1 to 64 letters, digits, '-', '_' and '.', a letter or digit first)")]
pub struct JailNameError(String);

impl JailName {
    /// The built-in jail of bans by hand on all ports.
    pub fn manual() -> JailName {
        JailName("manual".into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JailName {
    type Err = JailNameError;

    fn from_str(text: &str) -> Result<JailName, JailNameError> {
        let valid = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && text.as_bytes()[0].is_ascii_alphanumeric();
        if valid { Ok(JailName(text.into())) } else { Err(JailNameError(text.chars().take(80).collect())) }
    }
}

impl Borrow<str> for JailName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JailName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JailName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Whom a jail has banned: at most one ban of this place is in force at any time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The jail.
    pub jail: JailName,
    /// The address or prefix.
    pub subject: Subject,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in jail {}", self.subject, self.jail)
    }
}

/// Why a ban is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The entry that completed `maxretry` failures.
    Failures {
        /// The deciding entry: with jail and subject the key of the ban.
        decided: EntryRef,
        /// All entries that were counted, oldest first, the deciding one among them.
        evidence: Vec<EntryRef>,
    },
    /// Failures of the past that a start or a reload evaluated: no single new entry decided.
    Configuration {
        /// The entries that were counted, oldest first.
        evidence: Vec<EntryRef>,
    },
    /// Somebody's command over the bus.
    Operator {
        /// The caller's user id.
        uid: u32,
        /// What the caller gave as a reason; any text, at most 200 bytes.
        reason: String,
    },
    /// Found in the kernel's set at a start while the ledger did not know it.
    Adopted,
}

impl Cause {
    /// The word for it on the bus, in records and in the ledger: `failures`, `configuration`, `operator`, `adopted`.
    pub fn word(&self) -> &'static str {
        match self {
            Cause::Failures { .. } => "failures",
            Cause::Configuration { .. } => "configuration",
            Cause::Operator { .. } => "operator",
            Cause::Adopted => "adopted",
        }
    }

    /// The entries that led to it, oldest first.
    pub fn evidence(&self) -> &[EntryRef] {
        match self {
            Cause::Failures { evidence, .. } | Cause::Configuration { evidence } => evidence,
            Cause::Operator { .. } | Cause::Adopted => &[],
        }
    }
}

impl Cause {
    /// Lets go of the entries that led to it, but for the deciding one, which is the ban's key.
    pub(super) fn forget_evidence(&mut self) {
        if let Cause::Failures { evidence, .. } | Cause::Configuration { evidence } = self {
            *evidence = Vec::new();
        }
    }
}

impl fmt::Display for Cause {
    /// One line for people: `failures`, `operator uid 0: reason`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Operator { uid, reason } if reason.is_empty() => write!(f, "operator uid {uid}"),
            Cause::Operator { uid, reason } => write!(f, "operator uid {uid}: {}", reason.escape_debug()),
            other => f.write_str(other.word()),
        }
    }
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Who, and in which jail.
    pub place: Place,
    /// When it was decided: the deciding entry's own time, or the clock's for a command.
    pub since: Stamp,
    /// When it ends; [`Stamp::NEVER`] for a permanent one.
    pub until: Stamp,
    /// How many failures were counted; 0 for a command.
    pub failures: u32,
    /// Why.
    pub cause: Cause,
}

/// How a ban ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its time was over; the kernel forgot it by itself.
    Expired,
    /// Somebody lifted it.
    Operator {
        /// The caller's user id.
        uid: u32,
    },
    /// Its jail is gone from the configuration, or its address is now allowed.
    Configuration,
    /// Another ban of the same place took over.
    Replaced,
}

impl End {
    /// The word for it on the bus, in records and in the ledger: `expired`, `operator`, `configuration`, `replaced`.
    pub fn word(self) -> &'static str {
        match self {
            End::Expired => "expired",
            End::Operator { .. } => "operator",
            End::Configuration => "configuration",
            End::Replaced => "replaced",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jail_name_is_a_plain_word() {
        for good in ["sshd", "nginx-http-auth", "a.b_c", "0"] {
            assert_eq!(good.parse::<JailName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(65);
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", "a\n", long.as_str()] {
            assert!(bad.parse::<JailName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_operators_reason_cannot_forge_a_line() {
        let cause = Cause::Operator { uid: 7, reason: "x\n2026 fake".into() };
        assert_eq!(cause.to_string(), "operator uid 7: x\\n2026 fake");
    }
}
