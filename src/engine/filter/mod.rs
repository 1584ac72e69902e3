//! What an entry must look like to count as a failure, and whose failure it is.
//!
//! A [`Filter`] is a compiled [`Definition`]: where entries come from ([`origin`](self) conditions that the journal
//! attests), what their text says (patterns in fail2ban's [`dialect`](self)), and what one session's lines mean together.
//! The [`Sieve`] asks the filters of all jails about each entry; a [`Trial`] asks one and explains the answer.
//! What a pattern captures as an address parses as one or counts for nothing.
//!
//! Tags of patterns: `<HOST>` (an address, or a name, which is never looked up and gives no failure), `<ADDR>`, `<IP4>`,
//! `<IP6>`, `<SUBNET>`, `<CIDR>`, `<DNS>`, `<F-ID/>`, `<F-PORT/>`; `<F-NAME>…</F-NAME>` captures under any name, and these
//! mean something where they capture anything:
//! - `<F-USER>`, else `<F-ALT_USER>`: the user who tried; likewise `<F-ALT_HOST>` and its like;
//! - `<F-ID>`: the address, before any other, if it is one. If not, entries with the same belong together as those of a
//!   session do, unless a session tells that already; what fails is an address in any case. `<F-TUPLE_ID>` is more of it;
//! - `<F-MLFID>`: which session the entry belongs to, beside what the session field says; `<F-TUPLE_MLFID>` is more of it;
//! - `<F-CONTENT>`: what a prefregex leaves to the other patterns;
//! - `<F-NOFAIL>`: this line is no failure by itself, its address and user belong to its session. It is one nevertheless
//!   where a failure waits for an address, or where the session has named several users;
//! - `<F-MLFGAINED>`: success, no failure either; failures of the session that still have no address are forgotten;
//! - `<F-MLFFORGET>`: the session ends here;
//! - `<F-ONCE>`: others may report the same attempt. The n-th line that this pattern matches in a session counts only
//!   if fewer than n failures have been counted there, and an ordinary line likewise takes the place of one counted so;
//! - `<F-REFUSAL>`: somebody refuses the login, and the daemon is still to say so. No failure by itself, as with
//!   `<F-NOFAIL>`; but one, with its own time and entry, if its session neither counts that attempt nor reports success
//!   within [`WAIT`]. What it captures is who refuses: each of those is heard of each attempt, which counts once;
//! - `<F-APART>`: the refusal of the attempt that this line reports, or of the login that succeeded, may stand in another
//!   session, as the line of a helper process does. One that waits for the same address and may be of the same user is
//!   then settled.
//!
//! The last three tags are ours; the others mean what they mean in fail2ban.

mod allowance;
mod backtracking;
mod dialect;
mod engine;
mod halves;
mod judge;
mod linear;
mod origin;
mod patterns;
mod process;
mod refusal;
mod session;
mod sieve;
mod trial;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

pub use allowance::STATES_LIMIT;
pub(super) use process::Process;
pub(super) use refusal::Refusal;
pub use refusal::WAIT;
pub(super) use session::{Key as SessionKey, Session};
pub use session::{OpenSessions, SESSION_LIMIT};
pub use sieve::{Held, Hit, Sieve, TERM_LIMIT};
pub use trial::{Outcome, Overdue, Trial, Verdict};

use super::entry::Field;
use allowance::Allowance;
use dialect::Flaw;
use origin::Branch;
use patterns::{Pattern, PatternSet};

/// What a filter file says for one mode, merged and not yet understood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Definition {
    /// The filter's name: its file's name without the ending.
    pub name: String,
    /// Where the entries come from: alternatives, each a line of `FIELD=value` words as journalctl takes them.
    ///
    /// Different fields in a line must all hold; the same field twice means either. `FIELD=` means that the entry has no
    /// such field. `_SYSTEMD_UNIT=name@*.service` means every instance of that template, `_EXE=*/name` a program of that
    /// name in any directory.
    ///
    /// A line with `_SYSTEMD_UNIT=` takes entries of a process that journald found gone. It believes those of a process
    /// that another line of the filter has taken an entry of, at most ten seconds before it or two after it.
    pub journalmatch: Vec<String>,
    /// Must the origin be attested?
    pub trust: Trust,
    /// Entries with the same value of this field, in the same boot, belong to one session.
    pub session: Option<Field>,
    /// A pattern that MESSAGE must match first; what `<F-CONTENT>` captures is the text for the others.
    pub prefregex: Option<String>,
    /// Patterns of failures, the first that matches decides.
    pub failregex: Vec<String>,
    /// Patterns of entries that are no failures after all.
    pub ignoreregex: Vec<String>,
    /// The field that holds the address, for daemons that log in a structured way. Without any pattern every entry from
    /// the right origin is a failure.
    pub address: Option<Field>,
    /// Patterns for other fields than MESSAGE.
    pub fields: Vec<FieldRule>,
}

/// Patterns of failures in a field that is not MESSAGE.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldRule {
    /// The field.
    pub field: Field,
    /// The patterns.
    pub failregex: Vec<String>,
}

/// What a filter demands of the origin of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Trust {
    /// Every alternative of `journalmatch` pins a field that journald or the kernel wrote.
    #[default]
    Attested,
    /// The sender's own word is enough: any local user can have anybody banned.
    Claimed,
}

/// A place in a [`Definition`]; indices count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A line of `journalmatch`.
    Journalmatch(usize),
    /// `prefregex`.
    Prefregex,
    /// One of `failregex`.
    Failregex(usize),
    /// One of `ignoreregex`.
    Ignoreregex(usize),
    /// One of the `[[field]]` rules, and one of its patterns.
    Field(usize, Option<usize>),
    /// `session`.
    Session,
    /// `address`.
    Address,
    /// No place in particular.
    Whole,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Journalmatch(at) => write!(f, "journalmatch[{at}]"),
            Part::Prefregex => f.write_str("prefregex"),
            Part::Failregex(at) => write!(f, "failregex[{at}]"),
            Part::Ignoreregex(at) => write!(f, "ignoreregex[{at}]"),
            Part::Field(at, None) => write!(f, "field[{at}]"),
            Part::Field(at, Some(pattern)) => write!(f, "field[{at}].failregex[{pattern}]"),
            Part::Session => f.write_str("session"),
            Part::Address => f.write_str("address"),
            Part::Whole => f.write_str("filter"),
        }
    }
}

/// Why a [`Definition`] is no [`Filter`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {reason}")]
pub struct Fault {
    /// What is wrong.
    pub at: Part,
    /// Where in that text, in bytes from its start, if there is such a place.
    pub offset: Option<usize>,
    /// Why, and what to do about it.
    pub reason: String,
}

/// A filter, ready to be asked; shared by all jails that use it in the same mode.
#[derive(Debug)]
pub struct Filter {
    name: String,
    fingerprint: u64,
    trust: Trust,
    branches: Vec<Branch>,
    session: Option<Field>,
    /// Does it tell sessions apart, by a field or by what its patterns capture?
    keeps_sessions: bool,
    address: Option<Field>,
    prefregex: Option<Pattern>,
    failregex: PatternSet,
    ignoreregex: PatternSet,
    fields: Vec<(Field, PatternSet)>,
    unanchored: Vec<Part>,
    /// Needs any pattern backtracking?
    backtracks: bool,
    states: usize,
}

impl Filter {
    /// Understands a definition.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of [`Part`].
    pub fn compile(definition: &Definition) -> Result<Filter, Vec<Fault>> {
        Filter::compile_within(definition, STATES_LIMIT)
    }

    /// As [`Filter::compile`], where no more than so many [states](Filter::states) are left.
    ///
    /// # Errors
    /// As those of [`Filter::compile`].
    pub fn compile_within(definition: &Definition, states: usize) -> Result<Filter, Vec<Fault>> {
        let mut faults = Vec::new();
        let branches = origins(definition, &mut faults);
        compile(definition, branches, states, faults)
    }

    /// Understands a definition without its `journalmatch`: such a filter takes no entry as its own, and is there to be
    /// tried [anywhere](Trial::examine_anywhere).
    ///
    /// # Errors
    /// As those of [`Filter::compile`].
    pub fn from_nowhere(definition: &Definition) -> Result<Filter, Vec<Fault>> {
        compile(definition, Vec::new(), STATES_LIMIT, Vec::new())
    }

    /// The filter's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A hash of its definition: what was counted with a filter of another one says nothing about this.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// About how many states the automata of its patterns have: what it takes of [`STATES_LIMIT`].
    pub fn states(&self) -> usize {
        self.states
    }

    /// What it demands of the origin of its entries; [`Trust::Claimed`] deserves a warning.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// The patterns that do not say both where a text begins (`^`) and where it ends (`$`): in the gap a stranger may
    /// write what looks like a failure of somebody else.
    pub fn unanchored(&self) -> &[Part] {
        &self.unanchored
    }

    /// The patterns that need backtracking: look-around, back-references, conditionals and atomic groups. Every other
    /// takes time in proportion to the text.
    pub fn needs_backtracking(&self) -> Vec<Part> {
        self.backtracking().map(|(part, _)| part).collect()
    }

    /// The patterns of which a search ended without an answer because it took too long, and how many did; such a search
    /// counts as no match. Since the filter was compiled, whoever asked it.
    pub fn given_up(&self) -> Vec<(Part, u64)> {
        if !self.backtracks {
            return Vec::new();
        }
        self.backtracking().filter(|(_, count)| *count > 0).collect()
    }

    fn backtracking(&self) -> impl Iterator<Item = (Part, u64)> {
        let prefregex = self.prefregex.iter().filter(|pattern| pattern.backtracks());
        let prefregex = prefregex.map(|pattern| (Part::Prefregex, pattern.given_up()));
        let those = |set: &PatternSet, part: &dyn Fn(usize) -> Part| -> Vec<(Part, u64)> {
            set.given_up().enumerate().filter_map(|(at, count)| Some((part(at), count?))).collect()
        };
        let fields = self.fields.iter().enumerate();
        let fields = fields.flat_map(move |(at, (_, set))| those(set, &|pattern| Part::Field(at, Some(pattern))));
        prefregex
            .chain(those(&self.failregex, &Part::Failregex))
            .chain(those(&self.ignoreregex, &Part::Ignoreregex))
            .chain(fields)
    }

    /// Is every entry from the right origin a failure, because there is no pattern at all?
    fn takes_all(&self) -> bool {
        self.failregex.len() == 0 && self.fields.is_empty() && self.address.is_some()
    }
}

fn compile(
    definition: &Definition,
    branches: Vec<Branch>,
    states: usize,
    mut faults: Vec<Fault>,
) -> Result<Filter, Vec<Fault>> {
    let mut allowance = Allowance::new(states);
    if definition.trust == Trust::Attested && definition.session.as_ref().is_some_and(|field| !field.is_attested()) {
        let reason = "a session needs a field that journald attests (its name starts with _, such as _PID): with any \
                      other a stranger joins somebody else's session";
        faults.push(Fault { at: Part::Session, offset: None, reason: reason.into() });
    }
    let prefregex = definition.prefregex.as_deref().and_then(|text| {
        let pattern = kept(
            Pattern::new(text, &mut allowance).and_then(|pattern| pattern.alone(1)),
            Part::Prefregex,
            &mut faults,
        )?;
        if !pattern.roles().has_content() {
            let reason = "a prefregex says with <F-CONTENT>…</F-CONTENT> which part of the text the others look at";
            faults.push(Fault { at: Part::Prefregex, offset: None, reason: reason.into() });
        }
        Some(pattern)
    });
    let failregex = patterns(&definition.failregex, Part::Failregex, &mut allowance, &mut faults);
    let ignoreregex = patterns(&definition.ignoreregex, Part::Ignoreregex, &mut allowance, &mut faults);
    let fields: Vec<(Field, Vec<Located>)> = definition
        .fields
        .iter()
        .enumerate()
        .map(|(at, rule)| {
            if rule.failregex.is_empty() {
                let reason = "a field rule without a failregex matches nothing";
                faults.push(Fault { at: Part::Field(at, None), offset: None, reason: reason.into() });
            }
            let part = |pattern| Part::Field(at, Some(pattern));
            (rule.field.clone(), patterns(&rule.failregex, part, &mut allowance, &mut faults))
        })
        .collect();
    if allowance.is_spent() {
        // What has not been looked at may be what these lack.
        faults.sort_by_key(|fault| fault.at);
        return Err(faults);
    }
    let failing = || failregex.iter().chain(fields.iter().flat_map(|(_, patterns)| patterns));
    addresses(definition, prefregex.as_ref(), failing, &mut faults);

    let roles = || prefregex.iter().map(Pattern::roles).chain(failing().map(|(_, pattern)| pattern.roles()));
    let keeps_sessions = definition.session.is_some() || roles().any(|roles| roles.names_session() || roles.names_id());
    if !keeps_sessions {
        let reason = "<F-REFUSAL> is a failure unless its session tells more, and the filter tells no sessions apart: set \
                      session = (or use <F-MLFID>)";
        let refusals = failing().filter(|(_, pattern)| pattern.roles().is_refusal());
        faults.extend(refusals.map(|(at, _)| Fault { at: *at, offset: None, reason: reason.into() }));
    }

    let prefixed = prefregex.as_ref().map(|pattern| (Part::Prefregex, pattern));
    let unanchored = prefixed
        .into_iter()
        .chain(failing().map(|(part, pattern)| (*part, pattern)))
        .filter(|(_, pattern)| !pattern.is_anchored())
        .map(|(part, _)| part)
        .collect();
    let backtracks = prefregex.iter().chain(failing().map(|(_, pattern)| pattern)).any(Pattern::backtracks)
        || ignoreregex.iter().any(|(_, pattern)| pattern.backtracks());
    let failregex = together(failregex, Part::Whole, &mut faults);
    let ignoreregex = together(ignoreregex, Part::Whole, &mut faults);
    let fields = fields
        .into_iter()
        .enumerate()
        .filter_map(|(at, (field, list))| Some((field, together(list, Part::Field(at, None), &mut faults)?)))
        .collect();
    match (failregex, ignoreregex) {
        (Some(failregex), Some(ignoreregex)) if faults.is_empty() => Ok(Filter {
            name: definition.name.clone(),
            fingerprint: fingerprint(definition),
            trust: definition.trust,
            branches,
            session: definition.session.clone(),
            keeps_sessions,
            address: definition.address.clone(),
            prefregex,
            failregex,
            ignoreregex,
            fields,
            unanchored,
            backtracks,
            states: allowance.used(),
        }),
        _ => {
            faults.sort_by_key(|fault| fault.at);
            Err(faults)
        }
    }
}

/// The same for the same definition as long as the standard library hashes as it does; another hash costs a re-read.
fn fingerprint(definition: &Definition) -> u64 {
    let mut hasher = DefaultHasher::new();
    definition.hash(&mut hasher);
    hasher.finish()
}

type Located = (Part, Pattern);

fn origins(definition: &Definition, faults: &mut Vec<Fault>) -> Vec<Branch> {
    if definition.journalmatch.is_empty() {
        let reason = "says nowhere which entries it is for: add journalmatch = [\"_SYSTEMD_UNIT=….service\"]";
        faults.push(Fault { at: Part::Whole, offset: None, reason: reason.into() });
    }
    let lines = definition.journalmatch.iter().enumerate();
    let lines = lines.filter_map(|(at, line)| {
        Some((at, kept(Branch::parse(line, definition.trust), Part::Journalmatch(at), faults)?))
    });
    let located: Vec<(usize, Branch)> = lines.collect();
    if !located.iter().any(|(_, branch)| branch.tells_daemon()) {
        let reason = "an entry without a unit is believed only of a process that was seen with one, and no other line says \
                      with which: add one with _SYSTEMD_UNIT=….service";
        let unitless = located.iter().filter(|(_, branch)| branch.is_unitless());
        faults.extend(unitless.map(|(at, _)| Fault {
            at: Part::Journalmatch(*at),
            offset: None,
            reason: reason.into(),
        }));
    }
    located.into_iter().map(|(_, branch)| branch).collect()
}

fn patterns(
    texts: &[String],
    part: impl Fn(usize) -> Part,
    allowance: &mut Allowance,
    faults: &mut Vec<Fault>,
) -> Vec<Located> {
    let mut located = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        if allowance.is_spent() {
            break;
        }
        located.extend(kept(Pattern::new(text, allowance), part(at), faults).map(|pattern| (part(at), pattern)));
    }
    located
}

fn kept<T>(outcome: Result<T, Flaw>, at: Part, faults: &mut Vec<Fault>) -> Option<T> {
    outcome.map_err(|flaw| faults.push(Fault { at, offset: flaw.offset, reason: flaw.reason })).ok()
}

fn together(list: Vec<Located>, at: Part, faults: &mut Vec<Fault>) -> Option<PatternSet> {
    kept(PatternSet::new(list.into_iter().map(|(_, pattern)| pattern).collect()), at, faults)
}

/// A failure without an address is nobody's: each failing pattern has one, or somebody else gives it.
fn addresses<'a, I: Iterator<Item = &'a Located>>(
    definition: &Definition,
    prefregex: Option<&Pattern>,
    failing: impl Fn() -> I,
    faults: &mut Vec<Fault>,
) {
    let given = definition.address.is_some() || prefregex.is_some_and(|pattern| pattern.roles().gives_address());
    let told = failing().any(|(_, pattern)| pattern.roles().gives_address());
    let in_session = definition.session.is_some() || prefregex.is_some_and(|pattern| pattern.roles().names_session());
    let lost = |pattern: &Pattern| {
        let by_session = told && (in_session || pattern.roles().names_session());
        !by_session && !pattern.roles().gives_address() && pattern.roles().may_fail()
    };
    if !given {
        let reason = "captures no address: put <ADDR> where it stands (or name the field that holds it with address =, \
                      or let a session's other lines give it)";
        let lost = failing().filter(|(_, pattern)| lost(pattern));
        faults.extend(lost.map(|(at, _)| Fault { at: *at, offset: None, reason: reason.into() }));
    }
    if definition.failregex.is_empty() && definition.fields.is_empty() && definition.address.is_none() {
        let reason = "needs a failregex, a [[field]] rule or address =";
        faults.push(Fault { at: Part::Whole, offset: None, reason: reason.into() });
    }
}
