//! What systemd is told: ready, reloading, stopping, one line of status, and that the daemon still goes round.
//!
//! Outside systemd (no `NOTIFY_SOCKET`) every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Bans are restored and the name on the bus is owned.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is being read anew; [`ready`] ends it.
pub fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now().ok());
    send(&states);
}

/// The service goes.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// All threads have answered.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is to be said: half of what systemd allows; `None` without a watchdog.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// systemd not listening is nothing that the daemon could mend or that anybody could be told.
fn send(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
