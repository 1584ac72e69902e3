//! Why a call over the bus was not done: one enum for the side that refuses and the side that reads it.

use std::fmt;

use zbus::DBusError;

use crate::engine::ban::JailName;
use crate::engine::near::nearest;

/// A refusal, with a sentence for people; on the wire `org.banish1.Error.…`.
#[derive(Debug, Clone, PartialEq, DBusError)]
#[zbus(prefix = "org.banish1.Error", impl_display = false)]
pub enum Refusal {
    /// Something of D-Bus itself: the daemon is not there, the bus refused, a reply that cannot be read.
    #[zbus(error)]
    Bus(zbus::Error),
    /// Neither an address nor a prefix.
    InvalidSubject(String),
    /// No jail of this name is configured, or it is not enabled.
    NoSuchJail(String),
    /// There is no such ban to lift.
    NotBanned(String),
    /// The subject is on the jail's allow list.
    Ignored(String),
    /// A ban would cut this machine off (its gateway, a resolver, itself) or is of what no host has (loopback, multicast,
    /// far too wide a prefix), and `force` was not given.
    Protected(String),
    /// The caller may not do this.
    NotAuthorized(String),
    /// The new configuration has problems: one `file:line:col: …` per line. The old one is still in force.
    InvalidConfig(String),
    /// The kernel does not take our table.
    FirewallUnavailable(String),
    /// `ListBans` was asked to go on after something that is no row.
    InvalidPosition(String),
    /// The caller has too many calls or subscriptions open.
    LimitsExceeded(String),
    /// The daemon is stopping and takes no commands any more.
    Stopping(String),
}

impl Refusal {
    /// The refusal of what is about the jail `name`, where these are all jails.
    pub fn no_jail<'a>(name: &str, jails: impl IntoIterator<Item = &'a JailName>) -> Refusal {
        let jails: Vec<&str> = jails.into_iter().map(JailName::as_str).collect();
        let meant = nearest(name, &jails).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        Refusal::NoSuchJail(format!("there is no jail {:?}{meant}", super::desk::cut(name, 80)))
    }

    /// The refusal of what is about the jail `name`, which an error in the configuration keeps from running.
    pub fn left_out(name: &str) -> Refusal {
        let name = super::desk::cut(name, 80);
        Refusal::NoSuchJail(format!(
            "jail {name:?} does not run, for the configuration is in error: see banishctl check"
        ))
    }

    /// The refusal of everything once the loop is gone.
    pub(super) fn stopping() -> Refusal {
        Refusal::Stopping("banishd is stopping".into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Bus(error) => error.fmt(f),
            Refusal::InvalidSubject(text)
            | Refusal::NoSuchJail(text)
            | Refusal::NotBanned(text)
            | Refusal::Ignored(text)
            | Refusal::Protected(text)
            | Refusal::NotAuthorized(text)
            | Refusal::InvalidConfig(text)
            | Refusal::FirewallUnavailable(text)
            | Refusal::InvalidPosition(text)
            | Refusal::LimitsExceeded(text)
            | Refusal::Stopping(text) => f.write_str(text),
        }
    }
}

impl From<Refusal> for zbus::fdo::Error {
    /// For property getters, which can only fail with the bus's own errors.
    fn from(refusal: Refusal) -> zbus::fdo::Error {
        zbus::fdo::Error::Failed(refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jail_that_is_not_there_may_be_another_that_is() {
        let jails: Vec<JailName> = ["sshd", "nginx-http-auth"].map(|name| name.parse().unwrap()).into();
        assert_eq!(Refusal::no_jail("ssh", &jails).to_string(), "there is no jail \"ssh\"; did you mean sshd?");
        assert_eq!(Refusal::no_jail("exim", &jails).to_string(), "there is no jail \"exim\"");
        assert!(Refusal::no_jail(&"x".repeat(100_000), &jails).to_string().len() < 200);
    }

    #[test]
    fn a_refusal_keeps_its_name_over_the_wire() {
        let refusal = Refusal::NoSuchJail("there is no jail \"x\"".into());
        assert_eq!(DBusError::name(&refusal).as_str(), "org.banish1.Error.NoSuchJail");
        let call = zbus::Message::method_call("/org/banish1", "GetJail").build(&()).unwrap();
        let reply = refusal.create_reply(&call.header()).unwrap();
        assert_eq!(Refusal::from(zbus::Error::from(reply)), refusal);
    }
}
