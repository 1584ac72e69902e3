//! Samples as the journal would carry them, fed to one filter.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use banish::engine::entry::Page;
use banish::engine::filter::{Filter, Outcome, Trial};
use banish::engine::time::Stamp;

use super::sample::Sample;

/// A filter that is fed samples, and what it remembers of them.
pub struct Fed {
    trial: Trial,
    stamp: u64,
}

impl Fed {
    pub fn new(filter: Arc<Filter>) -> Fed {
        Fed { trial: Trial::new(filter), stamp: 1_700_000_000_000_000 }
    }

    /// Whom the sample is a failure of.
    pub fn says(&mut self, sample: &Sample) -> Option<IpAddr> {
        let bare = BTreeMap::from([("MESSAGE".to_owned(), sample.rest.clone())]);
        let entry = sample.journal.as_ref().unwrap_or(&bare);
        let mut page = Page::default();
        // No session ends by silence: fail2ban's samples are years apart and its clock stands still.
        self.stamp += 1;
        page.begin(Stamp::from_usec(self.stamp), 1);
        for (name, value) in entry {
            let mut offer = |name: &str| page.offer(self.trial.wanted(), format!("{name}={value}").as_bytes());
            offer(name);
            if name == "SYSLOG_PID" {
                offer("_PID");
            }
        }
        match self.trial.examine_anywhere(page.entry()).outcome {
            Outcome::Failure(address) => Some(address.to_canonical()),
            _ => None,
        }
    }
}
