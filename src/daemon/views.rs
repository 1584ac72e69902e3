//! What the bus shows of the daemon's state.

use crate::bus::{BanRow, JailView, Page};
use crate::config::{Jail, Settings};
use crate::engine::ban::JailName;
use crate::engine::jail::scope::Scope;
use crate::engine::time::Stamp;
use crate::engine::warden::Warden;

use super::plan;

/// One page of the bans in force.
pub fn bans(warden: &Warden, page: &Page) -> Vec<BanRow> {
    warden
        .roster()
        .after(page.after.as_ref())
        .filter(|held| page.jail.as_ref().is_none_or(|jail| *jail == held.ban.place.jail))
        .take(page.limit)
        .map(|held| BanRow::of(&held.ban, held.state))
        .collect()
}

/// Every configured jail, and the built-in one last.
pub fn jails(warden: &Warden, settings: &Settings, dropped: impl Fn(&JailName) -> u64) -> Vec<JailView> {
    let configured = settings.jails.iter().map(|jail| (jail.name.clone(), Some(jail)));
    let all = configured.chain([(JailName::manual(), None)]);
    all.map(|(name, jail)| jail_view(warden, settings, name, jail, &dropped)).collect()
}

fn jail_view(
    warden: &Warden,
    settings: &Settings,
    name: JailName,
    jail: Option<&Jail>,
    dropped: &impl Fn(&JailName) -> u64,
) -> JailView {
    let figures = warden.figures(name.as_str()).unwrap_or_default();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let text = |pick: fn(&Jail) -> &String| jail.map(pick).cloned().unwrap_or_default();
    let rules = jail.map(|jail| &jail.rules);
    JailView {
        filter: text(|jail| &jail.filter_name),
        mode: text(|jail| &jail.mode),
        journal_match: jail.map(|jail| jail.journalmatch().to_vec()).unwrap_or_default(),
        max_retry: rules.map_or(0, |rules| rules.maxretry),
        find_time: rules.map(|rules| rules.findtime).unwrap_or_default(),
        ban_time: rules.map_or(settings.bantime, |rules| rules.bantime),
        ports: jail.map(|jail| ports(&jail.scope)).unwrap_or_default(),
        enabled: jail.is_none_or(|jail| jail.enabled),
        paused: warden.is_paused(&name),
        paused_until: warden.paused_until(&name).unwrap_or(Stamp::EPOCH),
        currently_failing: count(figures.failing),
        failures_total: figures.failures,
        currently_banned: count(warden.roster().count_of(&name)),
        bans_total: figures.bans,
        last_failure: figures.last_failure,
        packets_dropped: dropped(&name),
        name,
    }
}

/// `22/tcp`, `6000-6010/udp`; nothing for all ports.
fn ports(scope: &Scope) -> Vec<String> {
    let Scope::Ports(ports) = scope else { return Vec::new() };
    let range = |(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ports
        .protocols()
        .iter()
        .flat_map(|protocol| ports.ranges().iter().map(move |ports| format!("{}/{protocol}", range(ports))))
        .collect()
}

/// The names of the jails that run, the built-in one left aside.
pub fn running_names(settings: &Settings) -> Vec<JailName> {
    plan::enabled(settings).map(|jail| jail.name.clone()).collect()
}

/// How many jails run, the built-in one left aside.
pub fn running(settings: &Settings) -> usize {
    plan::enabled(settings).count()
}

/// The names of all jails that have an object on the bus.
pub fn names(settings: &Settings) -> Vec<JailName> {
    settings.jails.iter().map(|jail| jail.name.clone()).chain([JailName::manual()]).collect()
}
