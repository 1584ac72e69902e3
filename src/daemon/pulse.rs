//! Whether all threads go round: the watchdog is fed only while those answer that the daemon cannot do without. Of a
//! further journal's, which a file system that hangs may hold up, it is told that it does not, and nobody waits for it.

use std::time::Duration;

use tokio::time::Instant;

use super::report::Record;
use super::{Aside, Daemon, notify};

/// A thread that has not answered in this time does not go round.
const PATIENCE: Duration = Duration::from_secs(10);
/// They are asked so often where systemd does not say how often it wants to hear.
const INTERVAL: Duration = Duration::from_secs(30);

/// How often the threads are asked.
pub(super) fn interval() -> Duration {
    notify::watchdog_interval().unwrap_or(INTERVAL)
}

impl Daemon {
    /// Asks every thread whether it goes round. The answers come back as [`Aside`]s, so that one that hangs does not
    /// hang the loop; without that of each that is needed systemd is not told that we live.
    pub(super) fn ask_for_pulse(&mut self, now: Instant) {
        self.agenda.pulse = Some(now + interval());
        if std::mem::replace(&mut self.agenda.pulsing, true) {
            return;
        }
        let (own, further) = self.readings.probes();
        let firewall = self.firewall.clone();
        let ledger = self.ledger.clone();
        let asides = self.asides.clone();
        tokio::spawn(async move {
            let end = Instant::now() + PATIENCE;
            let needed = async {
                for reader in own {
                    if reader.await.is_err() {
                        return false;
                    }
                }
                (match firewall {
                    Some(firewall) => firewall.alive().await.is_ok(),
                    None => true,
                }) && match ledger {
                    Some(ledger) => ledger.alive().await,
                    None => true,
                }
            };
            let alive = tokio::time::timeout_at(end, needed).await.unwrap_or(false);
            // The loop being gone is the end of the program, here and below.
            let _ = asides.send(Aside::Pulse(alive));
            let mut answers = Vec::with_capacity(further.len());
            for (name, reader) in further {
                // One that has ended has told so.
                answers.push((name, tokio::time::timeout_at(end, reader).await.is_ok()));
            }
            let _ = asides.send(Aside::Heard(answers));
        });
    }

    /// All threads that are needed have answered, or not.
    pub(super) fn pulse(&mut self, alive: bool) {
        if alive {
            notify::alive();
        }
    }

    /// Which of the further journals' threads have answered, and which have not.
    pub(super) async fn heard(&mut self, answers: Vec<(String, bool)>) {
        self.agenda.pulsing = false;
        for (name, answered) in answers {
            let Some(reading) = self.readings.iter_mut().find(|reading| reading.name == name) else { continue };
            if answered && std::mem::take(&mut reading.silent) {
                reading.failure = None;
                self.log.tell(Record::ReaderReopened { source: name, reason: "it answers again".into() });
                self.untold_status = true;
            } else if !answered && reading.failure.is_none() {
                let error = String::from("it does not answer");
                (reading.failure, reading.silent) = (Some(error.clone()), true);
                self.log.tell(Record::ReaderFailed { source: name, error });
                self.untold_status = true;
            }
        }
        // The others do not wait for one that hangs.
        self.settle().await;
    }
}
