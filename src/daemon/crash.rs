//! Points between the daemon's effects at which a test lets it die as `kill -9` would. Without the feature
//! `crash-points`, which no release has, passing one is nothing and no environment is read.

/// Every point, in the order in which a start passes those of its own.
pub const POINTS: [&str; 31] = [
    "start.ledger",
    "start.restored",
    "start.adopted",
    "start.overdue",
    "start.retold",
    "start.lifted",
    "start.reading",
    "start.ready",
    "caught-up.confirmed",
    "caught-up.audited",
    // A decision from entries.
    "entries.decided",
    "entries.enforced",
    "entries.committed",
    // A decision by a command or a reload.
    "command.decided",
    "command.committed",
    "command.enforced",
    // Either, decision by decision.
    "told.bus",
    "told.log",
    "told",
    // Before and behind the answer to a command.
    "ban.done",
    "ban.answered",
    "unban.done",
    "unban.answered",
    "expired",
    "checkpoint.before",
    "checkpoint.after",
    "reload.lifted",
    "reload.enforced",
    "reload.evaluated",
    "close.ledger",
    "close.end",
];

/// Passes the point `name`.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: &'static str) {}

/// Passes the point `name`. `BANISH_CRASH=name:n` in the environment: the process kills itself as it passes the point of
/// that name for the `n`th time. `BANISH_CRASH=trace:file`: it writes the name of every point that it passes.
#[cfg(feature = "crash-points")]
pub fn point(name: &'static str) {
    armed::pass(name);
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::io::Write;
    use std::sync::atomic::{AtomicU32, Ordering};

    static PASSED: AtomicU32 = AtomicU32::new(0);

    pub fn pass(name: &'static str) {
        assert!(super::POINTS.contains(&name), "{name} is missing among the crash points");
        let Ok(order) = std::env::var("BANISH_CRASH") else { return };
        match order.split_once(':') {
            Some(("trace", file)) => trace(file, name),
            Some((point, n)) if point == name => {
                let passed = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
                if n.parse() == Ok(passed) {
                    crate::daemon::sys::kill_self();
                }
            }
            _ => {}
        }
    }

    fn trace(file: &str, name: &str) {
        #[expect(clippy::disallowed_methods, reason = "a test asks for it")]
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
        opened.and_then(|mut file| writeln!(file, "{name}")).expect("a test's trace can be written");
    }
}
