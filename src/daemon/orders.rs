//! What an operator or a program orders beside bans: to forget failures, to pause and resume a jail, to count a failure.
//! None of it is in the journal, so it is on the disk before the answer goes out.

use std::net::IpAddr;
use std::time::Duration;

use super::effects::First;
use super::report::Record;
use super::{Daemon, clock};
use crate::bus::{Attempted, Refusal};
use crate::engine::ban::JailName;
use crate::engine::entry::EntryRef;
use crate::engine::jail::Sighting;
use crate::engine::subject::Subject;
use crate::engine::time::Length;
use crate::ledger::{Attempt, Change, Durability, Transaction};

impl Daemon {
    /// Forgets the counted failures of `subject`; in how many places there were any.
    pub(super) async fn forget(&mut self, subject: Subject, uid: u32) -> Result<u32, Refusal> {
        let (places, count) = self.warden.order_forget(subject, clock::now());
        let mut transaction = Transaction::default();
        for (place, stamp) in places {
            transaction.count_from(place, stamp);
        }
        self.commit(transaction, Durability::Command).await;
        self.log.tell(Record::Forgot { subject, count, uid });
        self.untold_status = true;
        Ok(count)
    }

    /// Lets `jail` count nothing, for `length` or until it is resumed.
    pub(super) async fn pause(&mut self, jail: JailName, length: Option<Duration>, uid: u32) -> Result<(), Refusal> {
        let length = length.map_or(Length::Permanent, Length::For);
        let (ended, pause) =
            self.warden.order_pause(&jail, length, clock::now()).map_err(|refusal| self.explained(refusal))?;
        let until = pause.until;
        let changes = ended.map(Change::Resumed).into_iter().chain([Change::Paused(pause)]).collect();
        self.commit(Transaction { changes, ..Transaction::default() }, Durability::Command).await;
        self.log.tell(Record::Paused { jail, until, uid });
        self.untold_status = true;
        Ok(())
    }

    /// Lets `jail` count again.
    pub(super) async fn resume(&mut self, jail: JailName, uid: u32) -> Result<(), Refusal> {
        let ended = self.warden.order_resume(&jail, clock::now()).map_err(|refusal| self.explained(refusal))?;
        let Some(ended) = ended else { return Ok(()) };
        let changes = vec![Change::Resumed(ended)];
        self.commit(Transaction { changes, ..Transaction::default() }, Durability::Command).await;
        self.log.tell(Record::Resumed { jail, uid: Some(uid) });
        self.untold_status = true;
        Ok(())
    }

    /// Tells of the jails whose pause is over by itself.
    pub(super) fn end_pauses(&mut self) {
        for jail in self.warden.expire_pauses(clock::now()) {
            self.log.tell(Record::Resumed { jail, uid: None });
            self.untold_status = true;
        }
    }

    /// Counts a failed login of `address`.
    pub(super) async fn attempt(&mut self, jail: JailName, address: IpAddr, uid: u32) -> Result<Attempted, Refusal> {
        let stamp = clock::now();
        let number = stamp.usec().max(self.last_attempt + 1);
        let sighting = Sighting { jail: jail.clone(), address, stamp, entry: EntryRef::attempt(number) };
        let decision = self.warden.order_attempt(&sighting, stamp).map_err(|refusal| self.explained(refusal))?;
        self.last_attempt = number;
        self.snapshots.age();
        // With the ban that it leads to, if it does, in one commit.
        self.unwritten.changes.push(Change::Attempted(Attempt { number, jail: jail.clone(), address, stamp, uid }));
        self.carry_out(decision.into_iter().collect(), First::Ledger).await;
        Ok(match self.warden.ban_of_address(&jail, address) {
            Some(held) => Attempted::Banned(held.state),
            None if self.ledger_lags() => Attempted::Unsaved,
            None => Attempted::Counted,
        })
    }
}
