//! Where every call comes by: its caller is authorised, its arguments are parsed, and only then the loop is asked.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use zbus::Connection;
use zbus::message::Header;
use zbus::names::OwnedUniqueName;

use super::line::Post;
use super::polkit::{self, Right};
use super::refusal::Refusal;
use super::request::{Answer, REASON_MAX, Request};
use super::subscribers::Subscribers;
use super::views::Views;
use crate::engine::ban::JailName;
use crate::engine::subject::Subject;
use crate::engine::time::Length;
use crate::engine::warden::BanOrder;

/// What the objects share.
#[derive(Debug)]
pub struct Desk {
    requests: mpsc::Sender<Request>,
    /// What properties show.
    pub views: Views,
    /// Who wants news.
    pub subscribers: Arc<Subscribers>,
    jails: Mutex<BTreeSet<JailName>>,
    post: Arc<Post>,
    /// Over which polkit is asked: nobody but root can make an answer wait there.
    own: Mutex<Option<Connection>>,
}

/// A caller that was let through.
#[derive(Debug)]
pub struct Caller {
    /// Its user.
    pub uid: u32,
    /// Its connection.
    pub name: OwnedUniqueName,
}

impl Desk {
    /// A desk in front of the loop at the other end of `requests`, for the calls that come by `post`.
    pub fn new(requests: mpsc::Sender<Request>, jails: &[JailName], post: Arc<Post>) -> Desk {
        Desk {
            views: Views::new(requests.clone()),
            requests,
            subscribers: Arc::default(),
            jails: Mutex::new(jails.iter().cloned().collect()),
            post,
            own: Mutex::default(),
        }
    }

    /// From now on polkit is asked over `connection`; over the one that a call came by, where there is none.
    pub fn ask_over(&self, connection: Option<Connection>) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    /// The jails that have objects.
    pub fn jails(&self) -> BTreeSet<JailName> {
        self.jails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has this jail an object?
    pub fn has_jail(&self, name: &JailName) -> bool {
        self.jails.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// From now on these are the jails.
    pub fn set_jails(&self, jails: &[JailName]) {
        *self.jails.lock().unwrap_or_else(PoisonError::into_inner) = jails.iter().cloned().collect();
    }

    /// Lets a call through if its caller has `right`.
    pub async fn admit(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        right: Right,
        about: &[(&'static str, &str)],
    ) -> Result<Caller, Refusal> {
        let (caller, serial) = self.caller(call)?;
        if caller.uid != 0 {
            polkit::check(&self.over(connection), call, right, about).await?;
            self.post.has_right(caller.name.as_str(), serial);
        }
        Ok(caller)
    }

    /// Is the caller root?
    pub fn is_root(&self, call: &Header<'_>) -> Result<bool, Refusal> {
        self.caller(call).map(|(caller, _)| caller.uid == 0)
    }

    /// Does polkit give the caller `right` without asking anybody for a password?
    pub async fn grants(&self, connection: &Connection, call: &Header<'_>, right: Right) -> Result<bool, Refusal> {
        let (caller, serial) = self.caller(call)?;
        let granted = polkit::grants(&self.over(connection), call, right).await;
        if granted {
            self.post.has_right(caller.name.as_str(), serial);
        }
        Ok(granted)
    }

    /// Who calls, and the call's number.
    fn caller(&self, call: &Header<'_>) -> Result<(Caller, u32), Refusal> {
        let nobody = || Refusal::NotAuthorized("the bus does not say who calls".into());
        let name: OwnedUniqueName = call.sender().ok_or_else(nobody)?.to_owned().into();
        let serial = call.primary().serial_num().get();
        let uid = self.post.caller(name.as_str(), serial).ok_or_else(nobody)?;
        Ok((Caller { uid, name }, serial))
    }

    /// Over which connection polkit is asked about a call that came by `connection`.
    fn over(&self, connection: &Connection) -> Connection {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
        own.unwrap_or_else(|| connection.clone())
    }

    /// Asks the loop and waits for its answer.
    pub async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, Refusal> {
        let (answer, reply) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| Refusal::stopping())?;
        reply.await.map_err(|_| Refusal::stopping())
    }

    /// `Ban` of the manager and of a jail: answers the state's word.
    pub async fn ban(&self, connection: &Connection, call: &Header<'_>, plea: Plea<'_>) -> Result<String, Refusal> {
        let mut order = plea.order()?;
        let subject = order.subject.to_string();
        let jail = order.jail.clone();
        let about = [("subject", subject.as_str()), ("jail", jail.as_str())];
        let caller = self.admit(connection, call, Right::Ban, &about).await?;
        order.uid = caller.uid;
        let state = self.ask(|answer| Request::Ban { order, answer }).await??;
        self.views.expire();
        Ok(state.word().into())
    }

    /// `Unban` of the manager and of a jail: answers how many.
    pub async fn unban(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        subject: &str,
        jail: Option<JailName>,
    ) -> Result<u32, Refusal> {
        let subject = parse_subject(subject)?;
        let text = subject.to_string();
        let about = [("subject", text.as_str()), ("jail", jail.as_ref().map_or("", JailName::as_str))];
        let uid = self.admit(connection, call, Right::Unban, &about).await?;
        let lifted = self.ask(|answer| Request::Unban { subject, jail, uid: uid.uid, answer }).await??;
        self.views.expire();
        Ok(lifted)
    }

    /// `Forget`: answers in how many places there was something to forget.
    pub async fn forget(&self, connection: &Connection, call: &Header<'_>, subject: &str) -> Result<u32, Refusal> {
        let subject = parse_subject(subject)?;
        let text = subject.to_string();
        let caller = self.admit(connection, call, Right::Unban, &[("subject", &text), ("jail", "")]).await?;
        let forgotten = self.ask(|answer| Request::Forget { subject, uid: caller.uid, answer }).await??;
        self.views.expire();
        Ok(forgotten)
    }

    /// `Attempt` of a jail: answers what came of it, as a word.
    pub async fn attempt(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        jail: &JailName,
        address: &str,
    ) -> Result<String, Refusal> {
        let address = parse_address(address)?;
        let jail = counting(jail)?;
        let text = address.to_string();
        let about = [("subject", text.as_str()), ("jail", jail.as_str())];
        let caller = self.admit(connection, call, Right::Attempt, &about).await?;
        let uid = caller.uid;
        let attempted = self.ask(|answer| Request::Attempt { jail, address, uid, answer }).await??;
        self.views.expire();
        Ok(attempted.word().into())
    }

    /// `Pause` of a jail.
    pub async fn pause(
        &self,
        connection: &Connection,
        call: &Header<'_>,
        jail: &JailName,
        duration_usec: u64,
    ) -> Result<(), Refusal> {
        let jail = counting(jail)?;
        let length = pause_length(duration_usec);
        let caller = self.admit(connection, call, Right::Manage, &[("jail", jail.as_str())]).await?;
        let uid = caller.uid;
        let done = self.ask(|answer| Request::Pause { jail, length, uid, answer }).await?;
        self.views.expire();
        done
    }

    /// `Resume` of a jail.
    pub async fn resume(&self, connection: &Connection, call: &Header<'_>, jail: &JailName) -> Result<(), Refusal> {
        let jail = counting(jail)?;
        let caller = self.admit(connection, call, Right::Manage, &[("jail", jail.as_str())]).await?;
        let uid = caller.uid;
        let done = self.ask(|answer| Request::Resume { jail, uid, answer }).await?;
        self.views.expire();
        done
    }
}

/// A ban as the caller wrote it.
#[derive(Clone, Debug)]
pub struct Plea<'a> {
    /// An address or a prefix.
    pub subject: &'a str,
    /// In which jail; `None` is the built-in one.
    pub jail: Option<JailName>,
    /// 0 is the jail's own length, `u64::MAX` permanent.
    pub duration_usec: u64,
    /// Any text.
    pub reason: &'a str,
    /// Even where it would cut this machine off.
    pub force: bool,
}

impl Plea<'_> {
    /// Parsed; nobody's yet.
    fn order(&self) -> Result<BanOrder, Refusal> {
        Ok(BanOrder {
            subject: parse_subject(self.subject)?,
            jail: self.jail.clone().unwrap_or_else(JailName::manual),
            length: (self.duration_usec > 0).then(|| Length::from_usec(self.duration_usec)),
            reason: cut(self.reason, REASON_MAX).into(),
            force: self.force,
            uid: u32::MAX,
        })
    }
}

/// A jail's name; the empty one is none.
pub fn parse_jail(text: &str) -> Result<Option<JailName>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: crate::engine::ban::JailNameError| Refusal::NoSuchJail(error.to_string()))
}

/// An address or a prefix.
pub fn parse_subject(text: &str) -> Result<Subject, Refusal> {
    text.parse().map_err(|error: crate::engine::subject::SubjectError| Refusal::InvalidSubject(error.to_string()))
}

/// One single address, without a prefix length.
fn parse_address(text: &str) -> Result<IpAddr, Refusal> {
    let no_address = || Refusal::InvalidSubject(format!("{:?} is no single IP address", cut(text, 64)));
    let address = text.parse::<IpAddr>().map_err(|_| no_address())?.to_canonical();
    let nobody = match address {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    };
    if nobody { Err(Refusal::InvalidSubject(format!("nobody logs in from {address}"))) } else { Ok(address) }
}

/// The jail, if it is one that counts.
fn counting(jail: &JailName) -> Result<JailName, Refusal> {
    if *jail == JailName::manual() {
        return Err(Refusal::NoSuchJail(format!("{jail} is for bans by hand and counts nothing")));
    }
    Ok(jail.clone())
}

/// How long a pause is; `None` until it is ended.
fn pause_length(usec: u64) -> Option<Duration> {
    match Length::from_usec(usec) {
        Length::For(time) if !time.is_zero() => Some(time),
        Length::For(_) | Length::Permanent => None,
    }
}

/// The start of `text` that is at most `max` bytes long and ends between characters.
pub fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cut_is_a_start_of_the_text(text in any::<String>(), max in 0usize..40) {
            let start = cut(&text, max);
            prop_assert!(text.starts_with(start) && start.len() <= max);
            prop_assert!(start.len() == text.len() || start.len() + 4 > max);
        }
    }

    /// What somebody may write: nearly right, or anything.
    fn written() -> impl Strategy<Value = String> {
        prop_oneof!["[0-9a-fA-Fx:./% ]{0,48}", "[a-zA-Z0-9._-]{0,70}", "\\PC{0,40}", any::<String>()]
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_one_subject_or_none(text in written()) {
            match parse_subject(&text) {
                Ok(subject) => {
                    prop_assert!(subject.length() > 0);
                    prop_assert_eq!(parse_subject(&subject.to_string()), Ok(subject));
                }
                Err(refusal) => prop_assert!(
                    matches!(&refusal, Refusal::InvalidSubject(said) if said.len() < 1000), "{refusal}"
                ),
            }
            if let Ok(address) = parse_address(&text) {
                prop_assert_eq!(parse_subject(&text), Ok(Subject::host(address)));
            }
        }

        #[test]
        fn whatever_is_written_is_one_jails_name_or_none(text in written()) {
            match parse_jail(&text) {
                Ok(None) => prop_assert!(text.is_empty()),
                Ok(Some(name)) => prop_assert_eq!(name.as_str(), text),
                Err(refusal) => prop_assert!(
                    matches!(&refusal, Refusal::NoSuchJail(said) if said.len() < 1000), "{refusal}"
                ),
            }
        }

        #[test]
        fn an_order_is_what_was_written_or_refused(
            subject in written(),
            duration_usec in any::<u64>(),
            reason in any::<String>(),
            force in any::<bool>(),
        ) {
            let plea = Plea { subject: &subject, jail: None, duration_usec, reason: &reason, force };
            if let Ok(order) = plea.order() {
                prop_assert_eq!(order.length.map_or(0, Length::usec), duration_usec);
                prop_assert!(reason.starts_with(&order.reason) && order.reason.len() <= REASON_MAX);
                prop_assert_eq!(order.force, force);
            }
        }
    }

    fn plea(subject: &str) -> Plea<'_> {
        Plea { subject, jail: None, duration_usec: 0, reason: "", force: false }
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let long = "ä".repeat(150);
        let order = Plea { reason: &long, ..plea("192.0.2.1") }.order().unwrap();
        assert_eq!(order.reason, "ä".repeat(100));
        let odd = format!("x{long}");
        let order = Plea { reason: &odd, ..plea("192.0.2.1") }.order().unwrap();
        assert_eq!(order.reason.len(), 199);
    }

    #[test]
    fn lengths_are_as_the_interface_says() {
        let length = |usec| Plea { duration_usec: usec, ..plea("192.0.2.1") }.order().unwrap().length;
        assert_eq!(length(0), None);
        assert_eq!(length(u64::MAX), Some(Length::Permanent));
        assert_eq!(length(7), Some(Length::For(std::time::Duration::from_micros(7))));
    }

    #[test]
    fn a_pause_without_a_length_has_no_end() {
        assert_eq!(pause_length(0), None);
        assert_eq!(pause_length(u64::MAX), None);
        assert_eq!(pause_length(u64::MAX - 1), Some(Duration::from_micros(u64::MAX - 1)));
        assert_eq!(pause_length(1), Some(Duration::from_micros(1)));
    }

    #[test]
    fn an_attempt_is_of_one_address_in_a_jail_that_counts() {
        assert_eq!(parse_address("::ffff:192.0.2.1"), Ok(IpAddr::from([192, 0, 2, 1])));
        for bad in [
            "",
            "192.0.2.0/24",
            "192.0.2.1/32",
            "2001:db8::/128",
            "example.org",
            "fe80::1%eth0",
            "127.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::",
            "ff02::1",
        ] {
            assert!(matches!(parse_address(bad), Err(Refusal::InvalidSubject(_))), "{bad}");
        }
        assert!(counting(&JailName::manual()).is_err(), "one failure would be a ban there");
    }

    #[test]
    fn what_is_no_name_names_no_jail() {
        assert_eq!(parse_jail(""), Ok(None));
        for bad in ["../x", "a b", "\n", &"x".repeat(100_000)] {
            let refusal = parse_jail(bad).unwrap_err();
            assert!(matches!(&refusal, Refusal::NoSuchJail(text) if text.len() < 500), "{refusal}");
        }
        let refusal = plea(&"9".repeat(100_000)).order().unwrap_err();
        assert!(matches!(&refusal, Refusal::InvalidSubject(text) if text.len() < 500), "{refusal}");
    }
}
