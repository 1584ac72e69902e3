//! What is left at the end: the ledger's rows, and that kernel and ledger say the same.

use std::collections::BTreeMap;
use std::process::Command;

use banish::daemon::clock;
use banish::engine::time::Stamp;
use banish::ledger::{FILE, Store};
use rusqlite::Connection;
use serde_json::Value;

use crate::world::{SECOND, World, now, run};

/// The ledger without what differs from run to run: the instants of commands, and rows that a command said twice left.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    bans: Vec<Row>,
    totals: BTreeMap<String, i64>,
}

/// A ban: jail, subject, cause, the counted entries by number, length in µs, how it ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    jail: String,
    subject: String,
    cause: String,
    evidence: Vec<u64>,
    length: Option<i64>,
    ended: Option<String>,
}

impl Outcome {
    /// Of a daemon that was stopped.
    pub fn of(world: &World, deaths: u32) -> Outcome {
        let db = Connection::open(world.path("state").join(FILE)).unwrap();
        let mut asked = db
            .prepare("SELECT jail, subject, cause, evidence, since, until, ended_how, unannounced FROM bans")
            .unwrap();
        let mut rows = asked.query([]).unwrap();
        let mut bans = Vec::new();
        let mut counted: BTreeMap<String, i64> = BTreeMap::new();
        while let Some(row) = rows.next().unwrap() {
            let text = |column| row.get::<_, Option<String>>(column).unwrap();
            let (jail, subject) = (text(0).unwrap(), text(1).unwrap());
            let (since, until): (i64, Option<i64>) = (row.get(4).unwrap(), row.get(5).unwrap());
            let evidence = numbers(&text(3).unwrap_or_default());
            if let Some(last) = evidence.last() {
                assert_eq!(since.cast_unsigned(), world.stamp_of(*last), "{subject} is banned since its last failure");
            }
            assert_eq!(row.get(7), Ok(0i64), "{subject}: told at the end");
            *counted.entry(jail.clone()).or_default() += 1;
            let length = until.map(|until| until - since);
            bans.push(Row { jail, subject, cause: text(2).unwrap(), evidence, length, ended: text(6) });
        }
        told_enough(&world.said(), &bans, deaths);
        let totals: BTreeMap<String, i64> = db
            .prepare("SELECT jail, bans FROM totals")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(totals, counted, "every ban is counted once");
        // A ban that was ordered again because nobody answered has replaced itself.
        let mut retold = bans.clone();
        retold.sort();
        let said_twice = |row: &Row| row.cause == "operator" && row.ended.as_deref() == Some("replaced");
        let (twice, mut bans): (Vec<Row>, Vec<Row>) = retold.into_iter().partition(said_twice);
        let mut totals = totals;
        for row in &twice {
            *totals.get_mut(&row.jail).unwrap() -= 1;
        }
        // A short ban that was ordered again may have expired before that.
        bans.dedup_by(|one, other| one == other && one.cause == "operator");
        totals.remove("manual");
        assert_eq!(kernel_and_ledger_differ(world), None, "at the end");
        Outcome { bans, totals }
    }

    pub fn differences(&self, expected: &Outcome) -> String {
        let not_in = |these: &[Row], those: &[Row], word: &str| -> String {
            these.iter().filter(|row| !those.contains(row)).map(|row| format!("  {word} {row:?}\n")).collect()
        };
        let lost = not_in(&expected.bans, &self.bans, "lost");
        let new = not_in(&self.bans, &expected.bans, "new");
        format!("\n{lost}{new}  totals {:?}, expected {:?}", self.totals, expected.totals)
    }
}

/// `s=…;i=3f i=40`: the numbers.
fn numbers(evidence: &str) -> Vec<u64> {
    let number = |part: &str| u64::from_str_radix(part.rsplit_once("i=").unwrap().1, 16).unwrap();
    evidence.split(' ').filter(|part| !part.is_empty()).map(number).collect()
}

/// Beginning and end of every ban are told at least once, and again only after a death.
fn told_enough(said: &str, bans: &[Row], deaths: u32) {
    let mut places: BTreeMap<(&str, &str), (u32, u32)> = BTreeMap::new();
    for row in bans {
        let (begun, ended) = places.entry((&row.jail, &row.subject)).or_default();
        *begun += 1;
        *ended += u32::from(row.ended.as_deref().is_some_and(|how| how != "replaced"));
    }
    for ((jail, subject), (begun, ended)) in places {
        let count = |text: &str| u32::try_from(said.matches(text).count()).unwrap();
        let late = count(&format!("jail {jail}: a ban of {subject} would be over"));
        let beginnings = count(&format!(" banned {subject} in jail {jail} ")) + late;
        let endings = count(&format!(" unbanned {subject} in jail {jail} ")) + late;
        assert!(
            (begun..=begun * (1 + deaths)).contains(&beginnings),
            "{begun} bans of {subject} in {jail}, {beginnings} told"
        );
        assert!(
            (ended..=ended * (1 + deaths)).contains(&endings),
            "{ended} ends of {subject} in {jail}, {endings} told"
        );
    }
}

/// Where kernel and ledger are not the same to the second.
pub fn kernel_and_ledger_differ(world: &World) -> Option<String> {
    let known = known(world);
    let held = held();
    let same = held.len() == known.len()
        && held.iter().all(|(place, end)| match (end, known.get(place)) {
            (Some(end), Some(Some(until))) => end.abs_diff(*until) <= 1,
            (None, Some(None)) => true,
            _ => false,
        });
    (!same).then(|| format!("the kernel has {held:?}, the ledger {known:?}"))
}

/// Jail and subject, and the end in seconds since the epoch; `None` where there is none.
type Ends = BTreeMap<(String, String), Option<u64>>;

fn known(world: &World) -> Ends {
    let bans = Store::read_bans(&world.path("state"), clock::now()).unwrap();
    bans.into_iter()
        .map(|ban| {
            let end = (ban.until != Stamp::NEVER).then(|| ban.until.usec() / SECOND);
            ((ban.place.jail.to_string(), ban.place.subject.to_string()), end)
        })
        .collect()
}

/// Removes the table, as a reboot does. There may be none.
pub fn remove_table() {
    drop(Command::new("nft").args(["delete", "table", "inet", "banish"]).output().unwrap());
}

fn held() -> Ends {
    let listed: Value = serde_json::from_str(&run("nft", &["-j", "list", "table", "inet", "banish"])).unwrap();
    let sets = listed["nftables"].as_array().unwrap().iter().filter_map(|item| item.get("set"));
    let mut ends = Ends::new();
    for set in sets {
        // `sshd4_32`; the others are of ports and allowed addresses.
        let name = set["name"].as_str().unwrap();
        let Some((jail, length)) = name.rsplit_once('_').filter(|(_, length)| length.parse::<u8>().is_ok()) else {
            continue;
        };
        for element in set["elem"].as_array().into_iter().flatten() {
            let element = element.get("elem").unwrap_or(element);
            let address = element.get("val").unwrap_or(element).as_str().unwrap();
            let single = matches!((jail.ends_with('4'), length), (true, "32") | (false, "128"));
            let subject = if single { address.to_owned() } else { format!("{address}/{length}") };
            let end = element.get("expires").map(|left| now() / SECOND + left.as_u64().unwrap());
            ends.insert((jail[..jail.len() - 1].to_owned(), subject), end);
        }
    }
    ends
}
