//! A message bus of the test's own, and programs that talk to it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use banish::bus::BusAddress;
use tempfile::TempDir;

/// What the bus's policy says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Everybody may do everything, as on a session bus.
    Open,
    /// A system bus with `dbus/org.banish1.conf`.
    Shipped,
    /// A system bus that has never heard of us.
    Stranger,
}

const OPEN: &str = r#"<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/></policy>"#;

/// The default policy of `/usr/share/dbus-1/system.conf`, and polkit's.
const SYSTEM: &str = r#"<policy context="default"><allow user="*"/><deny own="*"/><deny send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
<allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
<allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
<allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/></policy>
<policy user="root"><allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
</policy>
<policy user="polkitd"><allow own="org.freedesktop.PolicyKit1"/></policy>
<policy user="root"><allow own="org.freedesktop.PolicyKit1"/></policy>
<policy context="default"><allow send_destination="org.freedesktop.PolicyKit1"/></policy>"#;

/// Far more than any bus allows: what is bounded here is bounded by us.
const LIMITS: &str = r#"<limit name="max_connections_per_user">8192</limit>
<limit name="max_completed_connections">8192</limit><limit name="max_incomplete_connections">4096</limit>
<limit name="max_replies_per_connection">200000</limit><limit name="max_match_rules_per_connection">10000</limit>
<limit name="max_names_per_connection">1000</limit><limit name="max_message_size">134217728</limit>
<limit name="max_incoming_bytes">1000000000</limit><limit name="max_outgoing_bytes">1000000000</limit>"#;

/// What a system bus allows by default, but for the connections of one user.
const USUAL: &str = r#"<limit name="max_connections_per_user">1024</limit>
<limit name="max_replies_per_connection">128</limit>"#;

/// What the bus allows one connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    High,
    Usual,
}

/// A dbus-daemon; dropped, it is gone.
pub struct PrivateBus {
    pub address: String,
    pub dir: TempDir,
    daemon: Child,
}

impl PrivateBus {
    pub fn start(policy: Policy) -> PrivateBus {
        PrivateBus::limited(policy, Limits::High)
    }

    pub fn limited(policy: Policy, limits: Limits) -> PrivateBus {
        let limits = if limits == Limits::High { LIMITS } else { USUAL };
        let dir = tempfile::Builder::new().prefix("banish-bus").tempdir().unwrap();
        open_to_all(dir.path());
        let socket = dir.path().join("socket");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("dbus/org.banish1.conf");
        // A machine without the user `banish` has a warning for the file and goes on.
        let (kind, rules) = match policy {
            Policy::Open => ("session", OPEN.to_owned()),
            Policy::Shipped => ("system", format!("{SYSTEM}<include>{}</include>", shipped.display())),
            Policy::Stranger => ("system", SYSTEM.to_owned()),
        };
        let config = dir.path().join("bus.conf");
        let text = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig><type>{kind}</type>\
             <listen>unix:path={}</listen><auth>EXTERNAL</auth>{rules}{limits}</busconfig>",
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .args(["--nofork", "--print-address=1", "--config-file"])
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon is installed");
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        assert!(address.starts_with("unix:"), "dbus-daemon did not start");
        open_to_all(&socket);
        PrivateBus { address: format!("unix:path={}", socket.display()), dir, daemon }
    }

    pub fn at(&self) -> BusAddress {
        BusAddress::Address(self.address.clone())
    }

    pub async fn client(&self) -> zbus::Connection {
        self.at().builder().build().await.expect("the private bus takes clients")
    }

    /// Ends the bus as a crash would.
    pub fn kill(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    /// `busctl ARGS`, as `uid`.
    pub async fn busctl(&self, uid: u32, args: &[&str]) -> Output {
        let mut command = if uid == 0 {
            Command::new("busctl")
        } else {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups", "busctl"]);
            command
        };
        command.arg(format!("--address={}", self.address)).args(args).current_dir("/");
        tokio::task::spawn_blocking(move || command.output().expect("busctl is installed")).await.unwrap()
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// polkitd on that bus, with our actions and `rules` instead of the machine's.
pub struct Polkit(Child);

impl Polkit {
    /// `None`, with the reason printed, where it cannot be.
    pub async fn start(bus: &PrivateBus, rules: &str) -> Option<Polkit> {
        let polkitd = ["/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd"].into_iter().find(|p| Path::new(p).exists());
        let Some(polkitd) = polkitd else {
            eprintln!("skipped: polkitd is not installed");
            return None;
        };
        let actions = bus.dir.path().join("actions");
        let rules_dir = bus.dir.path().join("rules.d");
        std::fs::create_dir_all(&actions).unwrap();
        std::fs::create_dir_all(&rules_dir).unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("dbus/org.banish1.policy");
        std::fs::copy(shipped, actions.join("org.banish1.policy")).unwrap();
        std::fs::write(rules_dir.join("10-test.rules"), rules).unwrap();
        for path in [&actions, &rules_dir, &rules_dir.join("10-test.rules")] {
            open_to_all(path);
        }
        let script = format!(
            "mount --bind {} /usr/share/polkit-1/actions && mount --bind {} /etc/polkit-1/rules.d && exec {polkitd}",
            actions.display(),
            rules_dir.display()
        );
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut polkit = Polkit(child);
        let client = bus.client().await;
        let names = zbus::fdo::DBusProxy::new(&client).await.unwrap();
        for _ in 0..200 {
            if names.name_has_owner("org.freedesktop.PolicyKit1".try_into().unwrap()).await.unwrap() {
                return Some(polkit);
            }
            if polkit.0.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        eprintln!("skipped: polkitd does not start on a private bus here");
        None
    }
}

impl Drop for Polkit {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}
