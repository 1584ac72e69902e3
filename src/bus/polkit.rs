//! Who may do what: root everything, others what polkit grants; where polkit cannot be asked, root alone.

use std::collections::HashMap;
use std::time::Duration;

use zbus::Connection;
use zbus::message::{Flags, Header};
use zbus::proxy::CacheProperties;
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

use super::refusal::Refusal;

/// How long polkit may take when nobody is asked for a password.
const SILENT: Duration = Duration::from_secs(25);
/// … and when somebody is.
const INTERACTIVE: Duration = Duration::from_secs(300);

/// What somebody needs the right to: polkit's actions in `dbus/org.banish1.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// See addresses: list bans, subscribe to news.
    Inspect,
    /// Ban.
    Ban,
    /// Lift bans.
    Unban,
    /// Reload the configuration, pause and resume jails.
    Manage,
    /// Tell of failed logins.
    Attempt,
}

impl Right {
    /// The action's name.
    pub fn action(self) -> &'static str {
        match self {
            Right::Inspect => "org.banish1.inspect",
            Right::Ban => "org.banish1.ban",
            Right::Unban => "org.banish1.unban",
            Right::Manage => "org.banish1.manage",
            Right::Attempt => "org.banish1.attempt",
        }
    }

    /// What whoever has it may do.
    fn deed(self) -> &'static str {
        match self {
            Right::Inspect => "see addresses",
            Right::Ban => "ban",
            Right::Unban => "lift bans or forget failures",
            Right::Manage => "reload the configuration or pause jails",
            Right::Attempt => "report failed logins",
        }
    }
}

/// Does polkit grant `right` to the sender of `call`? The user is asked for a password only where the call says that
/// its sender waits for it. `about` is there for polkit's rules to look at: `action.lookup("jail")`.
pub async fn check(
    connection: &Connection,
    call: &Header<'_>,
    right: Right,
    about: &[(&'static str, &str)],
) -> Result<(), Refusal> {
    let interactive = call.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
    ask(connection, call, right, about, interactive).await
}

/// Does polkit grant `right` to the sender of `call` without asking anybody for a password?
pub async fn grants(connection: &Connection, call: &Header<'_>, right: Right) -> bool {
    ask(connection, call, right, &[], false).await.is_ok()
}

async fn ask(
    connection: &Connection,
    call: &Header<'_>,
    right: Right,
    about: &[(&'static str, &str)],
    interactive: bool,
) -> Result<(), Refusal> {
    let (flags, patience) = if interactive {
        (CheckAuthorizationFlags::ALLOW_USER_INTERACTION, INTERACTIVE)
    } else {
        (CheckAuthorizationFlags::empty(), SILENT)
    };
    let details: HashMap<&str, &str> = about.iter().copied().collect();
    let (action, deed) = (right.action(), right.deed());
    let unanswered = |error: zbus::Error| {
        tracing::debug!(%error, action, "polkit does not answer");
        Refusal::NotAuthorized(format!("only root may {deed}, for polkit does not answer (action {action})"))
    };
    let subject =
        Subject::new_for_message_header(call).map_err(|_| Refusal::NotAuthorized("the call has no sender".into()))?;
    let asked = async {
        let authority = AuthorityProxy::builder(connection).cache_properties(CacheProperties::No).build().await?;
        authority.check_authorization(&subject, action, &details, flags, "").await
    };
    let result = tokio::time::timeout(patience, asked)
        .await
        .map_err(|_| unanswered(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))?
        .map_err(unanswered)?;
    if result.is_authorized {
        Ok(())
    } else if result.is_challenge {
        Err(Refusal::NotAuthorized(format!(
            "you are not authorized to {deed} without a password (polkit action {action}), and there is no way to ask for it here; use sudo"
        )))
    } else {
        Err(Refusal::NotAuthorized(format!("you are not authorized to {deed} (polkit action {action})")))
    }
}
