//! A loop that answers requests from a table of bans in memory: what stands behind the bus in these tests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use banish::bus::{
    Answer, Attempted, BanRow, Bus, BusAddress, BusError, Configuration, FirewallState, JailView, ManagerView, News,
    Page, Problem, Refusal, Request, Severity,
};
use banish::engine::ban::{Ban, Cause, End, JailName, Place};
use banish::engine::roster::State;
use banish::engine::time::{Length, Stamp};
use banish::engine::warden::BanOrder;
use tokio::sync::mpsc;

/// Always allowed.
pub const IGNORED: &str = "198.51.100.1";
/// Protected.
pub const GATEWAY: &str = "198.51.100.2";
/// The kernel does not take it.
pub const REFUSED: &str = "198.51.100.3";
/// Its answer waits until [`Table::release`].
pub const SLOW: &str = "198.51.100.4";

pub const NOW: Stamp = Stamp::from_usec(1_700_000_000_000_000);

pub fn name(text: &str) -> JailName {
    text.parse().unwrap()
}

pub struct Table {
    pub bans: BTreeMap<Place, Ban>,
    pub total: u64,
    pub jails: BTreeSet<JailName>,
    /// How often the properties were asked for.
    pub looks: usize,
    pub orders: Vec<BanOrder>,
    /// Jails that are paused, and for how long.
    pub paused: BTreeMap<JailName, Option<Duration>>,
    /// Failed logins that were told of.
    pub attempts: BTreeMap<(JailName, IpAddr), u32>,
    /// Jails that are not enabled.
    pub disabled: BTreeSet<JailName>,
    pub configuration: Configuration,
    pub left_out: Vec<String>,
    pub reload_refused: Stamp,
    /// What a check finds beside a warning: its text for who may see addresses, and for others.
    pub error: Option<(Option<JailName>, String, String)>,
    pub no_longer_running: Vec<String>,
    /// What the next reload finds: jails, or problems.
    pub next: Option<Result<Vec<JailName>, String>>,
    waiting: Vec<Answer<Result<State, Refusal>>>,
}

impl Default for Table {
    fn default() -> Table {
        Table {
            bans: BTreeMap::new(),
            total: 0,
            jails: BTreeSet::new(),
            looks: 0,
            orders: Vec::new(),
            paused: BTreeMap::new(),
            attempts: BTreeMap::new(),
            disabled: BTreeSet::new(),
            configuration: Configuration::Current,
            left_out: Vec::new(),
            reload_refused: Stamp::EPOCH,
            error: None,
            no_longer_running: Vec::new(),
            next: None,
            waiting: Vec::new(),
        }
    }
}

impl Table {
    pub fn release(&mut self) {
        for answer in self.waiting.drain(..) {
            let _ = answer.send(Ok(State::Pending));
        }
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// The bus with a table behind it.
pub struct World {
    pub bus: Arc<Bus>,
    pub table: Arc<Mutex<Table>>,
}

impl World {
    pub async fn start(address: &BusAddress) -> Result<World, BusError> {
        let jails = [name("manual"), name("nginx-http.auth"), name("sshd")];
        let (requests, inbox) = mpsc::channel(64);
        let bus = Arc::new(Bus::serve(address, requests, &jails).await?);
        let table = Arc::new(Mutex::new(Table { jails: jails.into_iter().collect(), ..Table::default() }));
        tokio::spawn(serve(inbox, Arc::clone(&table), Arc::clone(&bus)));
        Ok(World { bus, table })
    }

    pub fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap()
    }
}

async fn serve(mut inbox: mpsc::Receiver<Request>, table: Arc<Mutex<Table>>, bus: Arc<Bus>) {
    while let Some(request) = inbox.recv().await {
        let mut table = table.lock().unwrap();
        match request {
            Request::Ban { order, answer } => ban(&mut table, &bus, order, answer),
            Request::Unban { subject, jail, uid, answer } => {
                let lifted = lift(&mut table, &bus, uid, |place| {
                    place.subject == subject && jail.as_ref().is_none_or(|jail| *jail == place.jail)
                });
                let none = || Refusal::NotBanned(format!("{subject} is not banned"));
                let _ = answer.send(if lifted == 0 { Err(none()) } else { Ok(lifted) });
            }
            Request::UnbanAll { jail, uid, answer } => {
                let lifted = lift(&mut table, &bus, uid, |place| jail.as_ref().is_none_or(|jail| *jail == place.jail));
                let _ = answer.send(Ok(lifted));
            }
            Request::Forget { subject, answer, .. } => {
                let before = table.attempts.len();
                table.attempts.retain(|(_, address), _| !subject.contains(*address));
                let _ = answer.send(Ok((before - table.attempts.len()) as u32));
            }
            Request::Pause { jail, length, answer, .. } => {
                table.paused.insert(jail, length);
                bus.changed();
                let _ = answer.send(Ok(()));
            }
            Request::Resume { jail, answer, .. } => {
                table.paused.remove(&jail);
                bus.changed();
                let _ = answer.send(Ok(()));
            }
            Request::Attempt { jail, address, answer, .. } => {
                let _ = answer.send(attempt(&mut table, jail, address));
            }
            Request::ListBans { page, answer } => {
                let _ = answer.send(list(&table, &page));
            }
            Request::Jails { answer } => {
                table.looks += 1;
                let _ = answer.send(table.jails.iter().map(|name| view(&table, name)).collect());
            }
            Request::Status { answer } => {
                table.looks += 1;
                let _ = answer.send(ManagerView {
                    bans_active: table.bans.len() as u32,
                    bans_total: table.total,
                    failures_total: 70,
                    entries_read: 800,
                    last_entry: NOW,
                    catching_up: false,
                    firewall_state: FirewallState::Armed,
                    configuration: table.configuration,
                    configuration_since: NOW,
                    left_out: table.left_out.clone(),
                    no_longer_running: table.no_longer_running.clone(),
                    reload_refused: table.reload_refused,
                });
            }
            Request::Reload { answer, .. } => match table.next.take() {
                Some(Err(problems)) => {
                    bus.reloaded(false, &problems);
                    let _ = answer.send(Err(Refusal::InvalidConfig(problems)));
                }
                found => {
                    if let Some(Ok(jails)) = found {
                        bus.set_jails(&jails);
                        table.jails = jails.into_iter().collect();
                    }
                    bus.reloaded(true, "");
                    let _ = answer.send(Ok(()));
                }
            },
            Request::Check { whole, answer } => {
                let error = table.error.clone().map(|(jail, text, public)| Problem {
                    severity: Severity::Error,
                    jail,
                    text: if whole { text } else { public },
                });
                let warning = Problem {
                    severity: Severity::Warning,
                    jail: Some(name("sshd")),
                    text: "port 22 is open to all".into(),
                };
                let _ = answer.send(error.into_iter().chain([warning]).collect());
            }
        }
    }
}

fn ban(table: &mut Table, bus: &Bus, order: BanOrder, answer: Answer<Result<State, Refusal>>) {
    table.orders.push(order.clone());
    let jail = order.jail.clone();
    let refusal = match order.subject.to_string().as_str() {
        _ if !table.jails.contains(&jail) => Some(Refusal::NoSuchJail(format!("no jail is named {jail:?}"))),
        IGNORED => Some(Refusal::Ignored("it is on the allow list".into())),
        GATEWAY if !order.force => Some(Refusal::Protected("it is the default gateway".into())),
        REFUSED => Some(Refusal::FirewallUnavailable("no netlink".into())),
        SLOW => return table.waiting.push(answer),
        _ => None,
    };
    if let Some(refusal) = refusal {
        let _ = answer.send(Err(refusal));
        return;
    }
    let length = order.length.unwrap_or(Length::For(Duration::from_secs(600)));
    let ban = Ban {
        place: Place { jail, subject: order.subject },
        since: NOW,
        until: NOW.after(length),
        failures: 0,
        cause: Cause::Operator { uid: order.uid, reason: order.reason },
    };
    table.total += 1;
    bus.announce(News::Banned(&ban));
    table.bans.insert(ban.place.clone(), ban);
    let _ = answer.send(Ok(State::Banned));
}

/// The third failure bans.
fn attempt(table: &mut Table, jail: JailName, address: IpAddr) -> Result<Attempted, Refusal> {
    if address.to_string() == IGNORED {
        return Err(Refusal::Ignored("it is on the allow list".into()));
    }
    let count = table.attempts.entry((jail, address)).or_default();
    *count += 1;
    Ok(if *count < 3 { Attempted::Counted } else { Attempted::Banned(State::Banned) })
}

fn lift(table: &mut Table, bus: &Bus, uid: u32, whom: impl Fn(&Place) -> bool) -> u32 {
    let places: Vec<Place> = table.bans.keys().filter(|place| whom(place)).cloned().collect();
    for place in &places {
        table.bans.remove(place);
        bus.announce(News::Unbanned { place, end: End::Operator { uid } });
    }
    places.len() as u32
}

fn list(table: &Table, page: &Page) -> Result<Vec<BanRow>, Refusal> {
    if let Some(jail) = page
        .jail
        .as_ref()
        .filter(|jail| !table.jails.contains(*jail) && !table.left_out.iter().any(|name| name == jail.as_str()))
    {
        return Err(Refusal::NoSuchJail(format!("no jail is named {jail:?}")));
    }
    let rows = table.bans.iter().filter(|(place, _)| page.after.as_ref().is_none_or(|after| *place > after));
    let rows = rows.filter(|(place, _)| page.jail.as_ref().is_none_or(|jail| place.jail == *jail));
    Ok(rows.take(page.limit).map(|(_, ban)| BanRow::of(ban, State::Banned)).collect())
}

fn view(table: &Table, name: &JailName) -> JailView {
    JailView {
        name: name.clone(),
        filter: name.to_string(),
        mode: "normal".into(),
        journal_match: vec!["_SYSTEMD_UNIT=ssh.service".into()],
        max_retry: 5,
        find_time: Duration::from_secs(600),
        ban_time: Length::Permanent,
        ports: vec!["ssh".into()],
        enabled: !table.disabled.contains(name),
        paused: table.paused.contains_key(name),
        paused_until: table
            .paused
            .get(name)
            .map_or(Stamp::EPOCH, |length| NOW.after(length.map_or(Length::Permanent, Length::For))),
        currently_failing: 3,
        failures_total: 40,
        currently_banned: table.bans.keys().filter(|place| place.jail == *name).count() as u32,
        bans_total: 6,
        last_failure: NOW,
        packets_dropped: 1234,
    }
}
