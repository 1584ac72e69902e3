//! Reading the configuration anew: all of it is right, or nothing changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::crash::point;
use super::effects::{First, chain};
use super::former::Former;
use super::report::Record;
use super::standing::{self, Asker, Standing};
use super::{Aside, Daemon, clock, notify, plan, start, views};
use crate::bus::Refusal;
use crate::config::{self, Copies, Jail, Loaded, Settings, SourceName};
use crate::engine::ban::JailName;
use crate::engine::entry::{Cursor, Evidence};
use crate::engine::filter::{Definition, Filter, Hit, Sieve, WAIT};
use crate::engine::jail::Sighting;
use crate::engine::time::Stamp;
use crate::journal::{self, Examine, Source};

/// A configuration that was read for a reload, and who waits for the outcome.
pub(super) struct Load {
    loaded: Loaded,
    by: Asker,
    answer: Option<Answer>,
}

type Answer = oneshot::Sender<Result<(), Refusal>>;

/// A piece of what jails that are new or changed would have seen, had they been there.
pub(super) struct PastOf {
    /// What each jail's filter was made of.
    definitions: Arc<BTreeMap<JailName, Option<Arc<Definition>>>>,
    source: String,
    until: Cursor,
    sightings: Vec<Sighting>,
    /// No more comes.
    last: bool,
    error: Option<String>,
}

impl PastOf {
    /// Does no more come?
    pub(super) fn is_last(&self) -> bool {
        self.last
    }
}

/// So many sightings are handed to the loop at once.
const PIECE: usize = 2048;
/// What was refused shortly before the end of the past is decided on by entries behind it: so often it is looked whether
/// its time is over …
const TICK: Duration = Duration::from_millis(200);
/// … and so much behind the wall clock, until when all that was logged can be read.
const BEHIND: Duration = Duration::from_secs(1);
/// No session is older that goes on.
const SESSION: Duration = Duration::from_secs(600);

impl Daemon {
    /// Begins a reload: the files are read beside the loop.
    pub(super) fn reload(&mut self, by: Asker, answer: Option<Answer>) {
        notify::reloading();
        let layout = start::layout(&self.options);
        let asides = self.asides.clone();
        tokio::task::spawn_blocking(move || {
            let loaded = config::load_to_run(&layout);
            // The loop being gone is the end of the program.
            let _ = asides.send(Aside::Loaded(Box::new(Load { loaded, by, answer })));
        });
    }

    /// Takes the new configuration over, or says what is wrong with it.
    pub(super) async fn reloaded(&mut self, load: Load) {
        let Load { mut loaded, by, answer } = load;
        // What runs goes on running.
        loaded.problems.retain(|problem| !problem.is_consequence());
        for problem in &loaded.problems {
            self.log.tell(Record::problem(problem));
        }
        let outcome = if loaded.any_error() {
            let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
            let errors = standing::count_errors(&loaded.problems);
            self.log.tell(Record::ReloadRefused { errors, problems: problems.clone() });
            self.standing.refuse(by, loaded.problems);
            Err(Refusal::InvalidConfig(problems.join("\n")))
        } else {
            let ran = views::running_names(&self.settings);
            self.standing = Standing::of_files(&loaded);
            self.problems = loaded.problems;
            self.adopt_settings(loaded.settings).await;
            if let Some(copies) = loaded.copies {
                self.keep(copies).await;
            }
            self.log.tell(Record::Reloaded { jails: views::running(&self.settings) });
            let runs = views::running_names(&self.settings);
            let gone: Vec<JailName> = ran.into_iter().filter(|jail| !runs.contains(jail)).collect();
            self.ended(gone);
            Ok(())
        };
        if let Some(bus) = &self.bus {
            // Everybody hears this, and a problem's text may quote an address.
            let text = match &outcome {
                Ok(()) => {
                    let gone = self.standing.no_longer_running();
                    gone.iter().map(|jail| format!("Jail {jail} no longer runs.")).collect::<Vec<_>>().join(" ")
                }
                Err(_) => "the new configuration has problems; the former one stays".to_owned(),
            };
            bus.reloaded(outcome.is_ok(), &text);
        }
        notify::ready(&self.status());
        if let Some(answer) = answer {
            let _ = answer.send(outcome);
        }
    }

    /// The configuration that has come into force ended these jails.
    pub(super) fn ended(&mut self, jails: Vec<JailName>) {
        for jail in &jails {
            self.log.tell(Record::JailGone { jail: jail.clone() });
        }
        self.standing.ended(jails);
    }

    /// Keeps the configuration that is in force, for a start that finds errors in the files.
    pub(super) async fn keep(&mut self, copies: Copies) {
        if self.options.dry_run {
            return;
        }
        let jails = views::running_names(&self.settings);
        self.keep_former(Former { since: self.standing.since(), jails, copies }).await;
    }

    /// Tries again to keep it.
    pub(super) async fn keep_again(&mut self) {
        match self.unkept.take() {
            Some(former) => self.keep_former(former).await,
            None => self.unkept_retry.worked(),
        }
    }

    async fn keep_former(&mut self, former: Former) {
        let (state, again) = (self.options.state.clone(), former.clone());
        let kept = tokio::task::spawn_blocking(move || former.keep(&state)).await;
        let kept = kept.map_err(|error| error.to_string()).and_then(|kept| kept.map_err(|error| error.to_string()));
        self.untold_status = true;
        match kept {
            Ok(kept) => {
                if self.standing.is_unkept() {
                    self.log.tell(Record::FormerKept);
                }
                self.standing.kept(Ok(kept.since));
                self.unkept = None;
                self.unkept_retry.worked();
            }
            Err(error) => {
                if !self.standing.is_unkept() {
                    self.log.tell(Record::FormerUnkept { error: error.clone() });
                }
                self.standing.kept(Err(error));
                self.unkept = Some(again);
                self.unkept_retry.failed(super::upkeep::instant());
            }
        }
    }

    async fn adopt_settings(&mut self, mut settings: Settings) {
        settings.go_on_with(&self.settings);
        let former = std::mem::replace(&mut self.settings, settings);
        self.spared.clear();
        self.snapshots.age();
        self.snapshots.abandon();
        // What was open in journals that are not read now was open for the former filters.
        self.readings.forget_sessions();
        self.warden.configure(plan::rules(&self.settings, &self.own.known));
        for jail in recounted(&former, &self.settings) {
            self.warden.recount(&jail);
        }
        let lifted = self.warden.lift_unwanted(&self.spared, clock::now());
        self.carry_out(lifted, First::Ledger).await;
        point("reload.lifted");
        for reading in self.readings.iter_mut() {
            // Where no filter changed the reader goes on as it is, with the sessions that it knows.
            if let Some(changed) = Changed::between(&former, &self.settings, &reading.source) {
                reading.handle.replace(Box::new(plan::Sifter::new(plan::sieve(&self.settings, &reading.source))));
                reading.changes.push_back(changed);
            }
        }
        self.read_others();
        self.settle().await;
        self.plan_to_look();
        if let Some(firewall) = self.firewall.clone() {
            let policy = plan::policy(&self.settings, &self.spared);
            match firewall.set_policy(policy, self.elements(), clock::now()).await {
                Ok(()) => self.enforce_again().await,
                Err(error) => {
                    self.rebuild_owed = true;
                    self.firewall_failed(&error);
                }
            }
        }
        point("reload.enforced");
        // A lowered maxretry bans now; what is fed later is decided on then.
        let decisions = self.warden.evaluate(clock::now());
        self.carry_out(decisions, First::Kernel).await;
        point("reload.evaluated");
        if let Some(bus) = &self.bus {
            bus.set_jails(&views::names(&self.settings));
        }
    }

    /// The new filters are at work behind `until` in the reading at this place: what new and changed jails missed up to
    /// there is read beside the loop.
    pub(super) fn replaced(&mut self, at: usize, until: Option<Cursor>) {
        let Some(changed) = self.readings.at(at).changes.pop_front() else { return };
        if let Some(until) = until {
            self.read_past(at, &|jail| changed.feeds(jail), until);
        }
    }

    /// Reads beside the loop what some jails missed in the reading at this place up to `until`.
    pub(super) fn read_past(&mut self, at: usize, feeds: &dyn Fn(&JailName) -> bool, until: Cursor) {
        let reading = self.readings.at(at);
        let jails: Vec<&Jail> =
            plan::of_source(&self.settings, &reading.source).filter(|jail| feeds(&jail.name)).collect();
        if jails.is_empty() {
            return;
        }
        // An entry may have come late: its time is that of its journal.
        let from = plan::feed_from(&self.settings, clock::now().min(until.realtime));
        let past = Past {
            definitions: Arc::new(jails.iter().map(|jail| (jail.name.clone(), jail.definition.clone())).collect()),
            filters: jails.iter().copied().filter_map(Jail::sieved).collect(),
            source: reading.journal.clone(),
            name: reading.name.clone(),
            from,
            until,
        };
        // It ends twice: with what is known at once, and with what is decided on later.
        self.feeding.extend([reading.name.clone(), reading.name.clone()]);
        let pasts = self.pasts.clone();
        tokio::task::spawn_blocking(move || past.read(&pasts));
    }

    /// Tries again what could not be read of the past in the reading at this place.
    pub(super) fn read_unread(&mut self, at: usize) {
        for (jails, until) in std::mem::take(&mut self.readings.at(at).unread) {
            self.read_past(at, &|jail| jails.contains(jail), until);
        }
    }

    /// A piece of the past of new and changed jails: their windows are filled, and decided once when it was the last.
    /// What was read with a filter that has been changed again since says nothing.
    pub(super) async fn fed(&mut self, past: PastOf) {
        let valid: BTreeSet<JailName> = plan::enabled(&self.settings)
            .filter(|jail| past.definitions.get(&jail.name).is_some_and(|read| *read == jail.definition))
            .map(|jail| jail.name.clone())
            .collect();
        if let Some(error) = past.error {
            // Else the next run would take these jails' counts for whole.
            if let Some(reading) = self.readings.iter_mut().find(|reading| reading.name == past.source) {
                reading.unread.push((valid.clone(), past.until));
            }
            self.log.tell(Record::ReaderFailed { source: past.source.clone(), error });
        }
        let sightings: Vec<Sighting> =
            past.sightings.into_iter().filter(|sighting| valid.contains(&sighting.jail)).collect();
        self.warden.feed(&sightings, clock::now());
        if past.last {
            if let Some(at) = self.feeding.iter().position(|name| *name == past.source) {
                self.feeding.swap_remove(at);
            }
            self.snapshots.age();
            let decisions = self.warden.evaluate(clock::now());
            self.carry_out(decisions, First::Kernel).await;
        }
    }
}

/// The part of a journal that changed jails are to read again.
struct Past {
    definitions: Arc<BTreeMap<JailName, Option<Arc<Definition>>>>,
    filters: Vec<(JailName, Arc<Filter>)>,
    source: Source,
    /// The source's name.
    name: String,
    from: Stamp,
    until: Cursor,
}

impl Past {
    /// Reads it and hands it over piece by piece, never further ahead than the loop takes them. There are two last pieces:
    /// what was held back at the end is decided on later.
    fn read(self, pasts: &mpsc::Sender<PastOf>) {
        let Past { definitions, filters, source, name, from, until } = self;
        let hand_over = |sightings, last, error| {
            let (definitions, source) = (Arc::clone(&definitions), name.clone());
            let past = PastOf { definitions, source, until, sightings, last, error };
            // The loop being gone is the end of the program.
            let _ = pasts.blocking_send(past);
        };
        let read = |from, until: Option<&Cursor>, sifter: &mut plan::Sifter, wanted: &dyn Fn(&Sighting) -> bool| {
            let mut piece = Vec::new();
            let mut sighted = |sighting| {
                if wanted(&sighting) {
                    piece.push(sighting);
                }
                if piece.len() >= PIECE {
                    hand_over(std::mem::take(&mut piece), false, None);
                }
            };
            let read = journal::read_between(&source, from, until, sifter, &mut sighted, &|| !pasts.is_closed());
            if until.is_none() {
                sifter.pass(clock::now().before(BEHIND), &mut |Hit { jail, address, evidence }| {
                    let found = evidence.map(|Evidence { stamp, entry }| Sighting { jail, address, stamp, entry });
                    found.into_iter().for_each(&mut sighted);
                });
            }
            hand_over(piece, true, read.err().map(|error| chain(&error)));
        };
        let sifter = || plan::Sifter::new(Sieve::new(filters.clone()));
        let mut first = sifter();
        read(from, Some(&until), &mut first, &|_| true);
        let Some(held) = first.held() else { return hand_over(Vec::new(), true, None) };
        let mut left = WAIT + BEHIND;
        while clock::now().before(WAIT + BEHIND) <= until.realtime && !left.is_zero() && !pasts.is_closed() {
            std::thread::sleep(TICK);
            left = left.saturating_sub(TICK);
        }
        // Once more, with what came behind the end: an entry that is fed again counts once.
        let from = from.max(held.due.before(WAIT + SESSION));
        read(from, None, &mut sifter(), &|sighting| sighting.stamp <= until.realtime);
    }
}

/// Jails whose filter or prefix is another: what they have counted says nothing any more.
fn recounted(former: &Settings, settings: &Settings) -> Vec<JailName> {
    let changed = |jail: &&Jail| plan::enabled(former).any(|known| known.name == jail.name && is_other(known, jail));
    plan::enabled(settings).filter(changed).map(|jail| jail.name.clone()).collect()
}

/// Do the two mean different failures, or count them for different subjects?
fn is_other(one: &Jail, other: &Jail) -> bool {
    one.definition != other.definition || one.rules.ipv6_prefix != other.rules.ipv6_prefix
}

/// What a reload changes for one reader.
pub(super) struct Changed {
    /// Jails whose filter or prefix is another: what the reader sights for them until it has the new one says nothing.
    outdated: BTreeSet<JailName>,
    /// Jails that would have counted more of the past.
    to_be_fed: BTreeSet<JailName>,
}

impl Changed {
    /// What is another for the reader of `source`; `None` where it has nothing else to do than before.
    fn between(former: &Settings, settings: &Settings, source: &SourceName) -> Option<Changed> {
        let mut changed = Changed { outdated: BTreeSet::new(), to_be_fed: BTreeSet::new() };
        let mut same = plan::of_source(former, source).count() == plan::of_source(settings, source).count();
        for jail in plan::of_source(settings, source) {
            let known = plan::of_source(former, source).find(|known| known.name == jail.name);
            same &= known.is_some_and(|known| known.definition == jail.definition);
            if known.is_some_and(|known| is_other(known, jail)) {
                changed.outdated.insert(jail.name.clone());
            }
            let remembers = |known: &Jail| {
                known.rules.findtime >= jail.rules.findtime && known.rules.maxretry >= jail.rules.maxretry
            };
            if known.is_none_or(|known| is_other(known, jail) || !remembers(known)) {
                changed.to_be_fed.insert(jail.name.clone());
            }
        }
        (!same || !changed.to_be_fed.is_empty()).then_some(changed)
    }

    /// Does what the reader sights for `jail` until the change say nothing?
    pub(super) fn outdates(&self, jail: &JailName) -> bool {
        self.outdated.contains(jail)
    }

    /// Is the past to be read for `jail`?
    fn feeds(&self, jail: &JailName) -> bool {
        self.to_be_fed.contains(jail)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests are an edge")]
mod tests {
    use super::*;
    use crate::config::Layout;

    /// Settings of one jail with these keys, and of another.
    fn settings(jail: &str, other: &str) -> Settings {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("filter.d")).unwrap();
        for name in ["one", "two"] {
            let filter = format!("journalmatch = ['_SYSTEMD_UNIT={name}.service']\nfailregex = ['^no <ADDR>$']\n");
            std::fs::write(root.path().join("filter.d").join(format!("{name}.toml")), filter).unwrap();
        }
        let jail = format!("[jail.a]\nenabled = true\nfilter = 'one'\n{jail}\n");
        let text = format!("[source.web]\nnamespace = 'web'\n{jail}[jail.b]\nfilter = 'two'\n{other}\n");
        std::fs::write(root.path().join("banish.toml"), text).unwrap();
        let loaded = config::load(&Layout::Directory(root.path().into()));
        assert_eq!(loaded.problems, []);
        loaded.settings
    }

    /// What the readers of the local journal and of the namespace have to do: outdated jails, jails to be fed.
    fn between(former: &Settings, settings: &Settings) -> [Option<(String, String)>; 2] {
        let web = settings.sources[0].name.clone();
        let names = |jails: &BTreeSet<JailName>| jails.iter().map(JailName::as_str).collect::<String>();
        [SourceName::local(), web].map(|source| {
            let changed = Changed::between(former, settings, &source)?;
            Some((names(&changed.outdated), names(&changed.to_be_fed)))
        })
    }

    fn told(outdated: &str, fed: &str) -> Option<(String, String)> {
        Some((outdated.into(), fed.into()))
    }

    #[test]
    fn a_reader_is_given_what_concerns_its_own_jails_and_nothing_else() {
        let both = "source = ['local', 'web']";
        for (former, now, local, web) in [
            ("", "", None, None),
            ("", "bantime = '2h'\nport = ['http']", None, None),
            ("", "maxretry = 3", None, None),
            ("", "findtime = '1m'", None, None),
            ("", "findtime = '1h'", told("", "a"), None),
            ("", "ipv6-prefix = 56", told("a", "a"), None),
            ("", "journalmatch = '_SYSTEMD_UNIT=x.service'", told("a", "a"), None),
            ("", both, None, told("", "a")),
            (both, "", None, told("", "")),
            ("", "source = 'web'", told("", ""), told("", "a")),
            ("", "source = 'web'\nipv6-prefix = 56", told("", ""), told("", "a")),
        ] {
            let (former_text, now_text) = (former, now);
            let (former, now) = (settings(former, ""), settings(now, ""));
            assert_eq!(between(&former, &now), [local, web], "{former_text:?} to {now_text:?}");
        }
        let (off, on) = (settings("", ""), settings("", "enabled = true"));
        assert_eq!(between(&off, &on), [told("", "b"), None]);
        assert_eq!(between(&on, &off), [told("", ""), None]);
    }

    #[test]
    fn what_a_jail_has_counted_is_forgotten_where_it_counted_something_else() {
        let names = |former: &str, now: &str| -> Vec<String> {
            recounted(&settings(former, ""), &settings(now, "")).iter().map(ToString::to_string).collect()
        };
        assert_eq!(names("", "findtime = '1h'\nmaxretry = 9\nsource = 'web'"), Vec::<String>::new());
        assert_eq!(names("", "ipv6-prefix = 56"), ["a"]);
        assert_eq!(names("", "journalmatch = '_SYSTEMD_UNIT=x.service'"), ["a"]);
    }
}
