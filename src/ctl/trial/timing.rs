//! How long each pattern of a filter takes, tried by itself on every input.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::entry::Field;
use crate::engine::filter::{Definition, Filter, Part, Trial};

/// The stopwatches of a filter's patterns for MESSAGE.
pub(super) struct Timing {
    watches: BTreeMap<Part, Watch>,
    inputs: u32,
}

struct Watch {
    trial: Trial,
    taken: Duration,
    longest: Duration,
}

impl Timing {
    pub(super) fn new(definition: &Definition) -> Timing {
        let patterns = definition.failregex.iter().enumerate().map(|(at, text)| (Part::Failregex(at), text));
        let ignoring = definition.ignoreregex.iter().enumerate().map(|(at, text)| (Part::Ignoreregex(at), text));
        let watches = patterns.chain(ignoring).filter_map(|(part, text)| {
            let filter = Filter::from_nowhere(&alone(definition, text)).ok()?;
            let trial = Trial::new(Arc::new(filter));
            Some((part, Watch { trial, taken: Duration::ZERO, longest: Duration::ZERO }))
        });
        Timing { watches: watches.collect(), inputs: 0 }
    }

    /// Tries each pattern on this message.
    pub(super) fn add(&mut self, message: &[u8]) {
        self.inputs = self.inputs.saturating_add(1);
        for watch in self.watches.values_mut() {
            #[expect(clippy::disallowed_methods, reason = "time taken is what is asked for")]
            let start = Instant::now();
            watch.trial.message(message);
            let taken = start.elapsed();
            watch.taken += taken;
            watch.longest = watch.longest.max(taken);
        }
    }

    /// The mean and the longest time of a pattern, in µs, such as `0.3` and `12.0`.
    pub(super) fn of(&self, part: Part) -> Option<(String, String)> {
        let watch = self.watches.get(&part).filter(|_| self.inputs > 0)?;
        let usec = |length: Duration| format!("{:.1}", length.as_secs_f64() * 1e6);
        Some((usec(watch.taken / self.inputs), usec(watch.longest)))
    }
}

/// The definition with this pattern alone, which need not capture an address then.
fn alone(definition: &Definition, pattern: &str) -> Definition {
    Definition {
        failregex: vec![pattern.to_owned()],
        ignoreregex: Vec::new(),
        fields: Vec::new(),
        address: Some(Field::message()),
        ..definition.clone()
    }
}
