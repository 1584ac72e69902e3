//! A network namespace per test, a firewall in it, `nft` beside it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use banish::engine::ban::Place;
use banish::engine::jail::Action;
use banish::engine::jail::allow::AllowList;
use banish::engine::jail::scope::{Ports, Protocol, Scope};
use banish::engine::time::Stamp;
use banish::firewall::{Change, Element, Firewall, FirewallError, JailPolicy, Kernel, Notice, Policy};

use super::sys;

/// Runs a test in a namespace of its own, or says why not.
pub fn in_space(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(move || match sys::leave_network() {
        Ok(()) => {
            ip("link set lo up");
            test();
        }
        Err(error) => eprintln!("skipped: no network namespace of our own ({error})"),
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a test on this kernel as it is, and on one that is taken for an old one.
pub fn on_each_kernel(test: impl Fn(&mut Wall) + Copy + Send + 'static) {
    for kernel in [None, Some(Kernel::OLD)] {
        in_space(move || test(&mut Wall::new(kernel)));
    }
}

/// A firewall's thread and a runtime to talk to it.
pub struct Wall {
    pub firewall: Firewall,
    pub notices: tokio::sync::mpsc::Receiver<Notice>,
    runtime: tokio::runtime::Runtime,
}

impl Wall {
    pub fn new(kernel: Option<Kernel>) -> Wall {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, notices) = tokio::sync::mpsc::channel(16);
        Wall { firewall: Firewall::spawn(kernel, sender).unwrap(), notices, runtime }
    }

    /// Waits for an answer of the firewall.
    pub fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }

    pub fn restore(&self, policy: Policy, bans: Vec<Element>) {
        assert_eq!(self.wait(self.firewall.restore(policy, bans, now())).unwrap(), []);
    }

    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> Result<(), FirewallError> {
        self.wait(self.firewall.apply(changes.into_iter().collect(), now()))
    }

    /// The next notice; panics where none comes.
    pub fn notice(&mut self) -> Notice {
        let next = async { tokio::time::timeout(Duration::from_secs(10), self.notices.recv()).await };
        self.runtime.block_on(next).expect("a notice").expect("the thread lives")
    }

    /// What was told so far; the firewall has heard everything that happened before this is asked.
    pub fn notices_so_far(&mut self) -> Vec<Notice> {
        self.wait(self.firewall.alive()).unwrap();
        self.wait(self.firewall.alive()).unwrap();
        std::iter::from_fn(|| self.notices.try_recv().ok()).collect()
    }
}

pub fn now() -> Stamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Stamp::from_usec(since.as_micros() as u64)
}

pub fn place(jail: &str, subject: &str) -> Place {
    Place { jail: jail.parse().unwrap(), subject: subject.parse().unwrap() }
}

/// A ban for so many seconds from now; 0 = permanent.
pub fn ban(jail: &str, subject: &str, seconds: u64) -> Element {
    let until = if seconds == 0 { Stamp::NEVER } else { Stamp::from_usec(now().usec() + seconds * 1_000_000) };
    Element { place: place(jail, subject), until, comment: "failures" }
}

pub fn add(jail: &str, subject: &str, seconds: u64) -> Change {
    Change::Add(ban(jail, subject, seconds))
}

pub fn jail(name: &str, scope: Scope, action: Action) -> JailPolicy {
    let lengths = JailPolicy::usual_lengths(64);
    JailPolicy { jail: name.parse().unwrap(), scope, action, allow: AllowList::default(), lengths }
}

pub fn tcp(port: u16) -> Scope {
    Scope::Ports(Ports::new([port..=port], [Protocol::Tcp]).unwrap())
}

/// Jail `sshd` on port 22 and jail `manual` on all.
pub fn policy() -> Policy {
    let manual = JailPolicy { lengths: BTreeSet::new(), ..jail("manual", Scope::AllPorts, Action::Drop) };
    Policy { jails: vec![jail("sshd", tcp(22), Action::Drop), manual], ..Policy::default() }
}

/// Runs `nft`; panics where it fails.
pub fn nft(command: &str) -> String {
    run("nft", &[command])
}

/// Runs `ip`; panics where it fails.
pub fn ip(command: &str) -> String {
    run("ip", &command.split(' ').collect::<Vec<_>>())
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The ruleset without what changes by itself or means nothing: times, counters, the order of elements.
pub fn ruleset() -> Vec<String> {
    let listed = nft("list ruleset");
    let mut words = listed.split([',', '\n', '{', '}']).map(|part| {
        let mut kept = Vec::new();
        let mut skip = 0;
        let all: Vec<&str> = part.split_whitespace().collect();
        for (at, word) in all.iter().copied().enumerate() {
            match word {
                "timeout" if at > 0 && all.len() > at + 1 => skip = 2,
                "expires" | "packets" | "bytes" => skip = 2,
                "elements" | "=" => skip = 1,
                _ => {}
            }
            if skip > 0 {
                skip -= 1;
            } else {
                kept.push(word);
            }
        }
        kept.join(" ")
    });
    let mut kept: Vec<String> = words.by_ref().filter(|part| !part.is_empty()).collect();
    kept.sort();
    kept
}

/// Another host: a thread in another namespace, at the other end of a wire.
pub struct Host {
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Host {
    /// Makes the host and the wire: `near` here, `far` there.
    pub fn new() -> Host {
        Host::at("near", "far")
    }

    /// The same with other names for both ends of the wire.
    pub fn at(near: &str, far: &str) -> Host {
        let (jobs, todo) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (sender, id) = mpsc::channel();
        thread::spawn(move || {
            sys::leave_network().expect("a second namespace where there was a first");
            sender.send(sys::thread_id()).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        let id = id.recv().unwrap();
        ip(&format!("link add {near} type veth peer name {far}"));
        ip(&format!("link set {far} netns {id}"));
        Host { jobs }
    }

    /// Does something there.
    pub fn there<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(sender.send(job())))).unwrap();
        result.recv().expect("the job ends without a panic")
    }
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
