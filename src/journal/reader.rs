//! The reader's thread: feeds what was decided before, reads what is new, waits, and proves that it is not deaf.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::feed::{sight, sighting};
use super::line::{Line, Stopped};
use super::opening::{Feed, Opened, Unopened, resumed};
use super::order::order;
use super::stream::{Place, Stream};
use super::{Examine, FeedFrom, Harvest, JournalError, News, Phase, Plan, Reason, Source};
use crate::engine::entry::{Cursor, Page};
use crate::engine::time::{Length, Stamp};

/// A harvest is handed over when it has so many entries or sightings, or when there is nothing more to read.
const ENTRIES: u64 = 4096;
const SIGHTINGS: usize = 512;
/// … or has taken so long: with the slowest messages for the slowest patterns an entry takes milliseconds, and the loop
/// wants to hear that we live. The clock is looked at once in so many entries.
const LONG: Duration = Duration::from_millis(200);
const LOOK: u64 = 16;

/// journald tells its readers up to 250 ms late. Failures come in rows: so long after one we look by ourselves.
const ALERT: Duration = Duration::from_secs(30);
const ALERT_TICK: Duration = Duration::from_millis(20);
/// How often we look where sd-journal does not tell (reliably) of changes.
const FILES_TICK: Duration = Duration::from_millis(250);
const NETWORK_TICK: Duration = Duration::from_secs(2);

/// So many entries are remembered at which a checkpoint may come to be set.
const MARKS: usize = 1024;
/// At the end of the journal the wall clock decides what was held back, but so much behind: what was logged until then has
/// been read.
const BEHIND: Duration = Duration::from_secs(1);
/// … and what a sender delivers is on its way for longer.
const BEHIND_SENDER: Duration = Duration::from_secs(300);

/// How long is waited before the journal is opened again after an error, at first and at most.
pub(super) const RETRY: Duration = Duration::from_secs(1);
pub(super) const RETRY_MOST: Duration = Duration::from_secs(60);

/// The thread's state.
pub struct Reader {
    plan: Plan,
    examine: Box<dyn Examine>,
    line: Line,
    stream: Stream,
    /// What is still to be fed.
    feed: Option<Feed>,
    /// Everything up to here has been examined, or is fed.
    position: Option<Cursor>,
    /// More than that has been examined: the journal could not name the last entry.
    ahead: bool,
    /// Entries at which a checkpoint may be set as soon as nothing from before them is held back, each with how many
    /// entries had been examined behind it. The first is where one was set last.
    marks: VecDeque<(u64, Option<Cursor>)>,
    page: Page,
    caught_up: bool,
    alert_until: Option<Instant>,
    liveness_due: Instant,
    retry: Duration,
    /// What has to be told when the thread begins to run.
    pub(super) opening: Vec<News>,
}

/// Why reading does not go on.
enum Halt {
    Stopped,
    Broken(JournalError),
}

/// Why a harvest was closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    /// There is more to read.
    Full,
    /// There is no more.
    End,
    /// The next entry is past the mark. The stream stands on it.
    Past,
}

/// What comes next in the journal.
enum Next {
    Entry(Stamp),
    /// An entry behind the mark.
    Past,
    None,
}

impl Reader {
    /// Opens the journal and finds where to begin; gives back what it was given where it cannot.
    pub fn open(plan: Plan, examine: Box<dyn Examine>, line: Line) -> Result<Reader, Box<Unopened>> {
        match Opened::of(&plan, &*examine) {
            Ok(Opened { stream, feed, position, opening }) => Ok(Reader {
                liveness_due: now() + plan.liveness,
                plan,
                examine,
                line,
                stream,
                feed,
                position,
                ahead: false,
                marks: VecDeque::from([(0, position)]),
                page: Page::default(),
                caught_up: false,
                alert_until: None,
                retry: RETRY,
                opening,
            }),
            Err(error) => Err(Box::new(Unopened { error, examine, line })),
        }
    }

    /// Reads until it is stopped, nobody listens, or the plan is done.
    pub fn run(mut self) {
        while let Err(halt) = self.read() {
            let Halt::Broken(error) = halt else { return };
            if self.mend(error).is_err() {
                return;
            }
        }
    }

    fn read(&mut self) -> Result<(), Halt> {
        for news in std::mem::take(&mut self.opening) {
            self.line.send(news)?;
        }
        while let Some(feed) = self.feed.clone() {
            self.feed(&feed)?;
        }
        loop {
            let close = self.harvest(Phase::Live, None)?;
            self.line.attend()?;
            if self.line.is_to_save() {
                let cursor = self.position.filter(|_| !self.ahead);
                self.line.send(News::Saved { cursor, sessions: self.examine.sessions() })?;
            }
            if let Some(successor) = self.line.successor() {
                self.hand_over(successor, close)?;
                continue;
            }
            if close != Close::End {
                continue;
            }
            self.retry = RETRY;
            self.pass()?;
            if !self.caught_up {
                self.caught_up = true;
                self.line.send(News::CaughtUp)?;
            }
            if self.plan.once {
                self.line.send(News::End)?;
                return Ok(());
            }
            if now() >= self.liveness_due {
                self.listen_anew()?;
                self.liveness_due = now() + self.plan.liveness;
                continue;
            }
            self.wait()?;
        }
    }

    /// Feeds, then stands behind the checkpoint. A new one to examine with starts it over: windows take an entry once.
    fn feed(&mut self, feed: &Feed) -> Result<(), Halt> {
        let is_any = match &feed.from {
            FeedFrom::Stamp(stamp) => {
                self.examine.resume(&[]);
                self.stream.seek(Place::From(*stamp))?;
                *stamp <= feed.until.realtime
            }
            FeedFrom::Behind { cursor, sessions } => {
                self.examine.resume(sessions);
                self.stream.seek(Place::after(Some(cursor)))?;
                order(cursor, &feed.until).is_lt()
            }
        };
        while is_any && self.harvest(Phase::Feed, Some(&feed.until))? == Close::Full {
            self.line.attend()?;
            if self.line.is_to_save() {
                self.line.send(News::Saved { cursor: None, sessions: Vec::new() })?;
            }
            if let Some(successor) = self.line.successor() {
                self.examine = successor;
                self.marks = VecDeque::from([(0, self.position)]);
                self.stream.select(self.examine.terms().as_deref())?;
                self.line.send(News::Replaced { at: self.position })?;
                return Ok(());
            }
        }
        self.stream.seek(Place::after(self.position.as_ref()))?;
        self.feed = None;
        Ok(self.line.send(News::Fed)?)
    }

    /// Reads on until something closes the harvest, and hands it over. `until`: not past this entry.
    fn harvest(&mut self, phase: Phase, until: Option<&Cursor>) -> Result<Close, Halt> {
        let mut harvest = empty(phase);
        let begun = now();
        let close = loop {
            if self.line.is_stopped() {
                return Err(Halt::Stopped);
            }
            let is_long = || harvest.entries % LOOK == LOOK - 1 && begun.elapsed() >= LONG;
            if harvest.entries >= ENTRIES || harvest.sightings.len() >= SIGHTINGS || is_long() {
                break Ok(Close::Full);
            }
            let stamp = match self.next(phase, until) {
                Ok(Next::Entry(stamp)) => stamp,
                Ok(Next::None) => break Ok(Close::End),
                Ok(Next::Past) => break Ok(Close::Past),
                // What was examined before is handed over: sessions have heard of it.
                Err(error) => break Err(error),
            };
            harvest.entries += 1;
            harvest.stamp = stamp;
            let sightings = &mut harvest.sightings;
            let read =
                sight(&mut self.stream, stamp, &mut self.page, &mut *self.examine, &mut |one| sightings.push(one));
            match read {
                Ok(false) => {}
                Ok(true) => harvest.suppressed.extend(self.stream.suppressed().ok().flatten()),
                Err(_) => harvest.unreadable += 1,
            }
        };
        if harvest.entries == 0 {
            return Ok(close?);
        }
        if phase == Phase::Live {
            // At an entry past the mark everything up to the mark has been examined. Where the journal cannot name the
            // entry, the checkpoint stays behind, which loses nothing.
            let reached = match (&close, until) {
                (Ok(Close::Past), Some(mark)) => Some(*mark),
                _ => self.stream.cursor().ok(),
            };
            self.ahead = reached.is_none();
            harvest.cursor = self.reach(reached);
            if !harvest.sightings.is_empty() {
                self.alert_until = Some(now() + ALERT);
            }
        }
        self.line.send(News::Harvest(harvest))?;
        Ok(close?)
    }

    /// Everything up to `reached` has been examined: where a checkpoint may be set now.
    fn reach(&mut self, reached: Option<Cursor>) -> Option<Cursor> {
        if reached.is_some() {
            self.position = reached;
            if self.marks.len() >= MARKS {
                self.marks.pop_back();
            }
            self.marks.push_back((self.examine.examined(), reached));
        }
        self.checkpoint()
    }

    /// Where a checkpoint may be set that was not told yet: at the last mark before all that is held back.
    fn checkpoint(&mut self) -> Option<Cursor> {
        let since = self.examine.held().map_or(u64::MAX, |held| held.since);
        let mut moved = false;
        while self.marks.get(1).is_some_and(|(examined, _)| *examined <= since) {
            self.marks.pop_front();
            moved = true;
        }
        self.marks.front().and_then(|(_, cursor)| *cursor).filter(|_| moved)
    }

    /// At the end of the journal: decides what was held back for long enough by the wall clock.
    fn pass(&mut self) -> Result<(), Halt> {
        if self.examine.held().is_none() {
            return Ok(());
        }
        let mut harvest = empty(Phase::Live);
        self.examine.pass(wall().before(self.behind()), &mut |hit| harvest.sightings.extend(sighting(hit, None)));
        if harvest.sightings.is_empty() {
            return Ok(());
        }
        harvest.cursor = self.checkpoint();
        harvest.stamp = harvest.sightings.iter().map(|one| one.stamp).max().unwrap_or_default();
        self.alert_until = Some(now() + ALERT);
        Ok(self.line.send(News::Harvest(harvest))?)
    }

    fn behind(&self) -> Duration {
        let follows_sender = matches!(self.plan.source, Source::Sender { .. }) && !self.plan.once;
        if follows_sender { BEHIND_SENDER } else { BEHIND }
    }

    fn next(&mut self, phase: Phase, until: Option<&Cursor>) -> Result<Next, JournalError> {
        if !self.stream.advance()? {
            return Ok(Next::None);
        }
        let stamp = self.stream.stamp()?;
        // While feeding, an entry's place is asked for only where it can matter: it costs as much as the entry.
        let is_past = match until {
            Some(mark) if phase == Phase::Live || stamp >= mark.realtime => self.stream.is_past(mark)?,
            _ => false,
        };
        Ok(if is_past { Next::Past } else { Next::Entry(stamp) })
    }

    /// Gives over to `successor`: at the present end where that has been reached, so that no old entry is new to it.
    fn hand_over(&mut self, successor: Box<dyn Examine>, close: Close) -> Result<(), Halt> {
        let drained = if close == Close::End { self.drain() } else { Ok(()) };
        let checkpoint = self.marks.front().and_then(|(_, cursor)| *cursor);
        let former = std::mem::replace(&mut self.examine, successor);
        self.examine.resume(&former.sessions());
        // What the successor goes on holding back, it holds since before its first entry.
        self.marks = VecDeque::from([(0, checkpoint), (self.examine.examined() + 1, self.position)]);
        // Who hears of it gives back the memory.
        drop(former);
        if !matches!(drained, Err(Halt::Stopped)) {
            self.line.send(News::Replaced { at: self.position })?;
        }
        drained?;
        self.select_and_seek()
    }

    /// Reads up to the entry that is the journal's last at this moment, selected or not, and stands behind it.
    fn drain(&mut self) -> Result<(), Halt> {
        self.refresh()?;
        let end = self.stream.end()?;
        self.select_and_seek()?;
        let Some(end) = end.filter(|end| self.is_ahead(end)) else { return Ok(()) };
        while self.harvest(Phase::Live, Some(&end))? == Close::Full {}
        self.position = Some(end);
        self.marks.push_back((self.examine.examined(), Some(end)));
        Ok(())
    }

    fn select_and_seek(&mut self) -> Result<(), Halt> {
        self.stream.select(self.examine.terms().as_deref())?;
        self.stream.seek(Place::after(self.position.as_ref()))?;
        Ok(())
    }

    /// Takes notice of files added, rotated and removed.
    fn refresh(&mut self) -> Result<(), Halt> {
        if !self.stream.refresh()? {
            return Ok(());
        }
        match Stream::open(&self.plan.source) {
            Ok(stream) => {
                self.stream = stream;
                self.select_and_seek()
            }
            // The files that are open can be read on until there are others.
            Err(error) if error.is_absence() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn is_ahead(&self, cursor: &Cursor) -> bool {
        self.position.is_none_or(|position| order(cursor, &position).is_gt())
    }

    /// Looks with a fresh handle for entries that ours should have seen. Where there are none, the checkpoint moves on
    /// to the journal's end, so that it does not get old and go with the oldest file.
    fn listen_anew(&mut self) -> Result<(), Halt> {
        let mut fresh = Stream::open(&self.plan.source)?;
        let end = fresh.end()?;
        // A file that was added before `end` was written is seen from here on.
        fresh.refresh()?;
        fresh.select(self.examine.terms().as_deref())?;
        fresh.seek(Place::after(self.position.as_ref()))?;
        if fresh.advance()? {
            let heard = fresh.cursor()?;
            // It may have come just now.
            self.refresh()?;
            while self.harvest(Phase::Live, None)? == Close::Full {}
            if self.is_ahead(&heard) {
                fresh.seek(Place::after(self.position.as_ref()))?;
                self.stream = fresh;
                self.line.send(News::Reopened { reason: Reason::Deaf })?;
            }
            return Ok(());
        }
        if self.stream.is_deaf() && !fresh.is_deaf() {
            fresh.seek(Place::after(self.position.as_ref()))?;
            self.stream = fresh;
        }
        if let Some(end) = end.filter(|end| self.is_ahead(end)) {
            let harvest = Harvest { cursor: self.reach(Some(end)), stamp: end.realtime, ..empty(Phase::Live) };
            self.line.send(News::Harvest(harvest))?;
        }
        Ok(())
    }

    /// Waits for the journal to change, for an order, or until it is time to look.
    fn wait(&mut self) -> Result<(), Halt> {
        let now = now();
        let descriptor = self.stream.descriptor()?;
        let reliable = self.stream.wakes_reliably();
        let mut timeout = self.liveness_due.saturating_duration_since(now);
        if descriptor.is_none() {
            timeout = timeout.min(FILES_TICK);
        } else if !reliable {
            timeout = timeout.min(NETWORK_TICK);
        }
        if let Some(held) = self.examine.held() {
            let due = held.due.after(Length::For(self.behind() + ALERT_TICK));
            timeout = timeout.min(due.since(wall()).max(ALERT_TICK));
        }
        if self.alert_until.is_some_and(|until| now < until) {
            timeout = timeout.min(ALERT_TICK);
        }
        let changed = self.line.wait(descriptor, Some(timeout))?.map_err(JournalError::from)?;
        if changed || !reliable {
            self.refresh()?;
        }
        Ok(())
    }

    /// Opens the journal anew, ever less often, until that works.
    fn mend(&mut self, error: JournalError) -> Result<(), Stopped> {
        // Also where it has been read no further since it was reopened: until it is again, nobody must wait for it.
        self.line.send(News::Failed { error })?;
        loop {
            pause(&mut self.line, self.retry)?;
            self.retry = (self.retry * 2).min(RETRY_MOST);
            if let Ok(gap) = self.reopen() {
                gap.into_iter().try_for_each(|gap| self.line.send(gap))?;
                return self.line.send(News::Reopened { reason: Reason::Failed });
            }
        }
    }

    fn reopen(&mut self) -> Result<Option<News>, JournalError> {
        let mut stream = Stream::open(&self.plan.source)?;
        let mut gap = None;
        if let Some(position) = self.position {
            (self.position, gap) = resumed(&mut stream, position)?;
            if gap.is_some() {
                self.marks.push_back((self.examine.examined(), self.position));
            }
        }
        stream.select(self.examine.terms().as_deref())?;
        stream.seek(Place::after(self.position.as_ref()))?;
        self.stream = stream;
        Ok(gap)
    }
}

impl From<Stopped> for Halt {
    fn from(_: Stopped) -> Halt {
        Halt::Stopped
    }
}

impl From<JournalError> for Halt {
    fn from(error: JournalError) -> Halt {
        Halt::Broken(error)
    }
}

fn empty(phase: Phase) -> Harvest {
    Harvest {
        sightings: Vec::new(),
        phase,
        cursor: None,
        stamp: Stamp::EPOCH,
        entries: 0,
        unreadable: 0,
        suppressed: Vec::new(),
    }
}

/// Waits for so long, answering meanwhile.
pub(super) fn pause(line: &mut Line, length: Duration) -> Result<(), Stopped> {
    let until = now() + length;
    while now() < until {
        if line.wait(None, Some(until.saturating_duration_since(now())))?.is_err() {
            // poll(2) is out of memory. Never mind the orders then, but never spin.
            std::thread::sleep(RETRY);
        }
    }
    Ok(())
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the thread has to know how long it may wait")]
    Instant::now()
}

fn wall() -> Stamp {
    #[expect(clippy::disallowed_methods, reason = "entries have the wall clock's times")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Stamp::EPOCH.after(Length::For(since))
}
