//! What happens to the daemon: entries, commands, a reload, a stop, a reboot. Whenever it dies it is started again and
//! what was not answered is said again.

use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::Duration;

use banish::bus::proxy::ManagerProxy;
use banish::bus::refusal::Refusal;
use zbus::Connection;
use zbus::proxy::CacheProperties;

use crate::outcome;
use crate::world::{SECOND, World, now, run, until};

const MINUTE: u64 = 60 * SECOND;

pub struct Story<'w> {
    world: &'w World,
    orders: Box<dyn Iterator<Item = String>>,
    runtime: tokio::runtime::Runtime,
    client: Connection,
    process: Option<Child>,
    deaths: u32,
    /// The stages of the journal that were written.
    stage: usize,
    began: u64,
}

/// A call of the daemon.
enum Call {
    Answered,
    /// There was no answer, because nobody is there.
    Died,
}

impl<'w> Story<'w> {
    pub fn new(world: &'w World, orders: impl IntoIterator<Item = String, IntoIter: 'static>) -> Story<'w> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(world.bus.client());
        Story {
            world,
            orders: Box::new(orders.into_iter()),
            runtime,
            client,
            process: None,
            deaths: 0,
            stage: 0,
            began: now(),
        }
    }

    pub fn deaths(&self) -> u32 {
        self.deaths
    }

    pub fn tell(&mut self) {
        self.grow(1);
        self.ban("203.0.113.9", "", SECOND / 2);
        self.ban("203.0.113.1", "", 30 * MINUTE);
        self.ban("203.0.113.2", "sshd", u64::MAX);
        self.unban("192.0.2.1");
        self.ban("203.0.113.1", "", 60 * MINUTE);
        self.grow(2);
        self.listed("what the journal brought", &["192.0.2.2", "192.0.2.3", "2001:db8:3::/64"], &["203.0.113.9"]);
        self.stop();

        // As a reboot leaves it: the kernel knows nothing.
        outcome::remove_table();
        self.grow(3);
        self.unban("203.0.113.2");
        self.world.remove_jail("web");
        self.call("Reload", async |daemon| daemon.reload().await);
        // This host begins anew: what it did before it was let go counts no more.
        let recent = now();
        self.world.log(&[
            ("ssh", "192.0.2.1", recent),
            ("ssh", "192.0.2.1", recent + 1),
            ("ssh", "192.0.2.5", recent + 2),
            ("ssh", "192.0.2.6", recent + 3),
            ("ssh", "192.0.2.6", recent + 4),
        ]);
        self.listed("the fifth host's third failure", &["192.0.2.4", "192.0.2.5"], &["192.0.2.1", "198.51.100.1"]);
        self.world.log(&[("ssh", "192.0.2.1", now())]);
        self.listed("the first host, again", &["192.0.2.1", "203.0.113.1"], &["192.0.2.6", "203.0.113.2"]);
        while !self.stop() {}
    }

    /// Writes the journal up to this stage. The stages below the fourth are of the past and may come early, while the
    /// daemon is dead.
    fn grow(&mut self, stage: usize) {
        let past = |minutes: u64, step: u64| self.began - minutes * MINUTE + step * SECOND;
        while self.stage < stage {
            self.stage += 1;
            match self.stage {
                1 => self.world.log(&[
                    // Of yesterday, so to say: over before anybody looked.
                    ("ssh", "192.0.2.9", past(100, 0)),
                    ("ssh", "192.0.2.9", past(100, 1)),
                    ("ssh", "192.0.2.9", past(100, 2)),
                    ("ssh", "192.0.2.1", past(5, 0)),
                    ("web", "198.51.100.1", past(5, 1)),
                    ("ssh", "192.0.2.1", past(5, 2)),
                    ("ssh", "192.0.2.2", past(5, 3)),
                    ("web", "198.51.100.1", past(5, 4)),
                    ("ssh", "192.0.2.1", past(5, 5)),
                    ("web", "198.51.100.1", past(5, 6)),
                    ("ssh", "192.0.2.2", past(5, 7)),
                ]),
                2 => self.world.log(&[
                    ("ssh", "192.0.2.3", past(4, 0)),
                    ("ssh", "192.0.2.3", past(4, 1)),
                    ("ssh", "192.0.2.2", past(4, 2)),
                    ("ssh", "192.0.2.4", past(4, 3)),
                    ("ssh", "192.0.2.3", past(4, 4)),
                    ("ssh", "192.0.2.4", past(4, 5)),
                    ("ssh", "2001:db8:3::1", past(4, 6)),
                    ("ssh", "2001:db8:3::2", past(4, 7)),
                    ("ssh", "2001:db8:3::3", past(4, 8)),
                ]),
                _ => self.world.log(&[
                    ("ssh", "192.0.2.4", past(3, 0)),
                    ("ssh", "192.0.2.5", past(3, 1)),
                    ("ssh", "192.0.2.5", past(3, 2)),
                ]),
            }
        }
    }

    /// Bans, until the daemon says that it has.
    fn ban(&mut self, subject: &'static str, jail: &'static str, usec: u64) {
        self.call("Ban", async |daemon| {
            let state = daemon.ban(subject, jail, usec, "story", false).await?;
            assert_eq!(state, "banned", "the state of {subject}");
            Ok(())
        });
    }

    /// Lifts, until the daemon says that it has; it may have the first time, and died before it said so.
    fn unban(&mut self, subject: &'static str) {
        let deaths = self.deaths;
        // What it has not read yet cannot be lifted.
        self.alive();
        let mut again = false;
        loop {
            self.alive();
            let (daemon, calls) = (self.daemon(), self.deaths);
            let answer = self.runtime.block_on(daemon.unban(subject, ""));
            match answer {
                Ok(count) => {
                    assert_eq!(count, 1, "bans of {subject}");
                    return;
                }
                Err(Refusal::NotBanned(_)) if again => return,
                Err(error) => {
                    assert!(matches!(self.died(), Call::Died), "Unban {subject}: {error}");
                    again = true;
                }
            }
            assert!(self.deaths < deaths + 9 && calls <= self.deaths, "it dies for ever");
        }
    }

    /// Calls until there is an answer.
    fn call(&mut self, what: &str, call: impl AsyncFn(&ManagerProxy<'static>) -> Result<(), Refusal>) {
        loop {
            self.alive();
            let daemon = self.daemon();
            match self.runtime.block_on(call(&daemon)) {
                Ok(()) => return,
                Err(error) => assert!(matches!(self.died(), Call::Died), "{what}: {error}"),
            }
        }
    }

    /// Waits until all of the one are banned and none of the other.
    fn listed(&mut self, what: &str, banned: &[&str], free: &[&str]) {
        let mut held = Vec::new();
        let end = now() + 30 * SECOND;
        loop {
            self.alive();
            let daemon = self.daemon();
            if let Ok(rows) = self.runtime.block_on(daemon.list_bans("", "", 0)) {
                held = rows.into_iter().map(|row| row.subject).collect::<Vec<_>>();
                let is = |subject: &&&str| held.iter().any(|known| known == **subject);
                if banned.iter().all(|subject| is(&subject)) && !free.iter().any(|subject| is(&subject)) {
                    return;
                }
            }
            assert!(now() < end, "not in time: {what}; banned are {held:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn daemon(&self) -> ManagerProxy<'static> {
        let built = ManagerProxy::builder(&self.client).cache_properties(CacheProperties::No).build();
        self.runtime.block_on(built).unwrap()
    }

    /// Has the daemon run and abreast of the journal: starts it where it does not. After a death kernel and ledger must
    /// be equal by then.
    fn alive(&mut self) {
        let mut mourned = self.process.is_some();
        loop {
            if self.process.is_none() {
                let order = self.orders.next().unwrap_or_default();
                self.process = Some(self.world.banishd(&order).spawn().unwrap());
                mourned = false;
            }
            let daemon = self.daemon();
            let caught_up = self.runtime.block_on(daemon.catching_up()).is_ok_and(|behind| !behind);
            if self.is_dead() {
                continue;
            }
            if caught_up {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if !mourned && self.deaths > 0 {
            let differ = || outcome::kernel_and_ledger_differ(self.world);
            let mut last = None;
            let equal = until_some(|| {
                last = differ();
                last.is_none() && !matches!(self.process.as_mut().map(Child::try_wait), Some(Ok(Some(_))))
            });
            // It may have died while we looked; the next call finds out.
            assert!(equal || self.is_dead(), "after {} deaths: {last:?}", self.deaths);
        }
    }

    /// Has it died of its order? Then the journal grows before the next one.
    fn is_dead(&mut self) -> bool {
        let Some(status) = self.process.as_mut().and_then(|process| process.try_wait().unwrap()) else { return false };
        self.process = None;
        assert_eq!(status.signal(), Some(9), "it ended: {status}");
        self.deaths += 1;
        assert!(self.deaths < 20, "it dies for ever");
        self.grow((self.stage + 1).min(3));
        true
    }

    /// There was no answer: is that because it died?
    fn died(&mut self) -> Call {
        for _ in 0..400 {
            if self.is_dead() {
                return Call::Died;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Call::Answered
    }

    /// Stops it as systemd does. `false` where it dies of that instead.
    fn stop(&mut self) -> bool {
        self.alive();
        let Some(mut process) = self.process.take() else { return false };
        run("kill", &["-TERM", &process.id().to_string()]);
        let status = until("its end", || process.try_wait().unwrap());
        if status.signal() == Some(9) {
            self.deaths += 1;
            return false;
        }
        assert!(status.success(), "it ended: {status}");
        true
    }
}

/// Asks for a few seconds; was it ever so?
fn until_some(mut asked: impl FnMut() -> bool) -> bool {
    let end = now() + 5 * SECOND;
    while !asked() {
        if now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

impl Drop for Story<'_> {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
