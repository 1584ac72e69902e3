//! How a run ends: what is said about an error, and the number that the shell gets.

use std::io;
use std::process::ExitCode;

use super::escape::{shown, shown_lines};
use crate::bus::Refusal;

/// A run's exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// What was asked is done.
    Done = 0,
    /// It was refused, or failed, or what was checked is wrong.
    Failed = 1,
    /// The command line made no sense.
    Usage = 2,
    /// banishd is not running, or the jail whose status was asked for.
    NotRunning = 3,
    /// The caller may not do this.
    NotAllowed = 4,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status as u8)
    }
}

/// No banishd is on the bus.
#[derive(Debug, thiserror::Error)]
#[error("banishd is not running (start it with: systemctl start banishd)")]
pub struct NotRunning;

/// The daemon or the bus wants a right that the caller does not have.
#[derive(Debug, thiserror::Error)]
#[error("not allowed{}", match refusal { Refusal::NotAuthorized(_) => String::new(), _ => format!(" without the right {action}") })]
pub struct NotAllowed {
    /// The polkit action.
    pub action: &'static str,
    /// What was answered.
    #[source]
    pub refusal: Refusal,
}

/// The status of an error, and what to say about it; nothing where whoever read our output has read enough.
pub fn verdict(error: &anyhow::Error) -> (Status, Option<String>) {
    for cause in error.chain() {
        if cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return (Status::Done, None);
        }
    }
    let status = if error.chain().any(|cause| cause.is::<NotRunning>()) {
        Status::NotRunning
    } else if error.chain().any(|cause| cause.is::<NotAllowed>()) {
        Status::NotAllowed
    } else {
        Status::Failed
    };
    (status, Some(said(error)))
}

fn said(error: &anyhow::Error) -> String {
    // The problems of a configuration are lines; everything else is one.
    let lines = error.chain().any(|cause| matches!(cause.downcast_ref(), Some(Refusal::InvalidConfig(_))));
    let mut text = String::new();
    for cause in error.chain() {
        let part = cause.to_string();
        // A cause that its own message tells already.
        if text.ends_with(&part) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(if lines { ":\n" } else { ": " });
        }
        text.push_str(&part);
    }
    if lines { shown_lines(&text) } else { shown(&text) }
}

/// A refusal of something that needs `action`.
pub fn refused(action: &'static str, refusal: Refusal) -> anyhow::Error {
    match refusal {
        Refusal::NotAuthorized(_) => NotAllowed { action, refusal }.into(),
        Refusal::Bus(ref error) if is_named(error, "org.freedesktop.DBus.Error.AccessDenied") => {
            NotAllowed { action, refusal }.into()
        }
        Refusal::Bus(ref error)
            if is_named(error, "org.freedesktop.DBus.Error.ServiceUnknown")
                || is_named(error, "org.freedesktop.DBus.Error.NameHasNoOwner") =>
        {
            NotRunning.into()
        }
        other => other.into(),
    }
}

fn is_named(error: &zbus::Error, name: &str) -> bool {
    match error {
        zbus::Error::MethodError(given, ..) => given.as_str() == name,
        zbus::Error::FDO(error) => zbus::DBusError::name(&**error).as_str() == name,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_named() {
        let error = refused(
            "org.banish1.ban",
            Refusal::NotAuthorized("you are not authorized to ban (polkit action org.banish1.ban)".into()),
        );
        let (status, text) = verdict(&error);
        assert_eq!(status, Status::NotAllowed);
        let expected = "not allowed: you are not authorized to ban (polkit action org.banish1.ban)";
        assert_eq!(text.as_deref(), Some(expected));
    }

    #[test]
    fn a_broken_pipe_is_success() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("cannot write");
        assert_eq!(verdict(&error), (Status::Done, None));
    }

    #[test]
    fn a_refusal_is_one_line_and_a_configurations_problems_are_lines() {
        let error = refused("x", Refusal::Protected("it is\nthe gateway\u{1b}".into()));
        assert_eq!(verdict(&error), (Status::Failed, Some("it is\\nthe gateway\\u{1b}".into())));
        let error = refused("x", Refusal::InvalidConfig("a:1:1: x\nb:2:2: \u{7}".into()));
        assert_eq!(verdict(&error).1.as_deref(), Some("a:1:1: x\nb:2:2: \\u{7}"));
    }
}
