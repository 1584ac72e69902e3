//! Real journal files, written by systemd-journal-remote from the export format, and a real journald with files and
//! sockets of its own.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const WRITER: &str = "/lib/systemd/systemd-journal-remote";
const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// One entry to be written: its stamp in µs, and its fields in order.
pub struct Record {
    pub stamp: u64,
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// An entry without a field.
    pub fn at(stamp: u64) -> Record {
        Record { stamp, fields: Vec::new() }
    }

    /// … and with this one more.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Record {
        self.fields.push((name.into(), value.as_ref().to_vec()));
        self
    }
}

/// Why journal files cannot be made here, if they cannot.
pub fn missing_writer() -> Option<String> {
    (!Path::new(WRITER).exists()).then(|| format!("{WRITER} (package systemd-journal-remote) is not installed"))
}

/// Writes `records` to the journal file at `path`, behind those that it has. Their monotonic stamps are their stamps,
/// their boot is always the same.
pub fn write(path: &Path, records: impl IntoIterator<Item = Record>) {
    let mut child = Command::new(WRITER)
        .args(["-o".as_ref(), path.as_os_str(), "-".as_ref()])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-journal-remote runs");
    let mut export = std::io::BufWriter::new(child.stdin.take().expect("piped"));
    for record in records {
        write_record(&mut export, &record).expect("systemd-journal-remote reads");
    }
    drop(export);
    assert!(child.wait().expect("it ends").success(), "systemd-journal-remote could not write {}", path.display());
}

/// See <https://systemd.io/JOURNAL_EXPORT_FORMATS/>.
fn write_record(export: &mut impl Write, record: &Record) -> std::io::Result<()> {
    writeln!(export, "__REALTIME_TIMESTAMP={0}\n__MONOTONIC_TIMESTAMP={0}", record.stamp)?;
    writeln!(export, "_BOOT_ID=4ee1aa93f3a64d759bbd45e2b567805e")?;
    for (name, value) in &record.fields {
        if value.iter().all(|byte| (b' '..127).contains(byte)) {
            write!(export, "{name}=")?;
        } else {
            writeln!(export, "{name}")?;
            export.write_all(&(value.len() as u64).to_le_bytes())?;
        }
        export.write_all(value)?;
        export.write_all(b"\n")?;
    }
    export.write_all(b"\n")
}

/// A journald in a mount namespace of its own; it ends with this value.
pub struct Journald {
    root: tempfile::TempDir,
    process: Child,
}

impl Journald {
    /// Starts one, with small files, so that it rotates and vacuums all the time; or says why it cannot.
    pub fn start() -> Result<Journald, String> {
        if !Path::new(JOURNALD).exists() {
            return Err(format!("{JOURNALD} is not installed"));
        }
        let root = tempfile::tempdir().map_err(|error| error.to_string())?;
        for folder in ["run", "log"] {
            std::fs::create_dir(root.path().join(folder)).map_err(|error| error.to_string())?;
        }
        let settings = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitBurst=0\nForwardToSyslog=no\n\
                        ForwardToWall=no\nRuntimeMaxUse=24M\nRuntimeMaxFileSize=2M\n";
        std::fs::write(root.path().join("conf"), settings).map_err(|error| error.to_string())?;
        let process = launch(root.path()).map_err(|error| error.to_string())?;
        let mut journald = Journald { root, process };
        journald.wait_until_it_listens()?;
        Ok(journald)
    }

    /// Where its journal files are.
    pub fn directory(&self) -> PathBuf {
        let log = self.root.path().join("log");
        let machine = std::fs::read_dir(&log).expect("there is one").flatten().next();
        machine.expect("the machine's directory").path()
    }

    /// Has it write an entry.
    pub fn log(&self, socket: &UnixDatagram, identifier: &str, message: &str) {
        let datagram = format!("SYSLOG_IDENTIFIER={identifier}\nMESSAGE={message}\n");
        let path = self.root.path().join("run/socket");
        let give_up = Instant::now() + Duration::from_secs(20);
        while let Err(error) = socket.send_to(datagram.as_bytes(), &path) {
            assert!(Instant::now() < give_up, "journald does not take messages: {error}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts a new file.
    pub fn rotate(&self) {
        self.signal("USR2");
    }

    /// Kills it hard and starts another in its place.
    pub fn crash(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
        std::fs::remove_file(self.root.path().join("run/socket")).expect("it listened");
        self.process = launch(self.root.path()).expect("it starts again");
        self.wait_until_it_listens().expect("it listens again");
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    fn wait_until_it_listens(&mut self) -> Result<(), String> {
        let give_up = Instant::now() + Duration::from_secs(20);
        while !self.root.path().join("run/socket").exists()
            || std::fs::read_dir(self.root.path().join("log")).is_ok_and(|entries| entries.count() == 0)
        {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!("journald does not start here ({status}): it needs root and mount namespaces"));
            }
            if Instant::now() > give_up {
                return Err("journald does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `exec` all the way down: the child's process id is journald's.
fn launch(root: &Path) -> std::io::Result<Child> {
    let script = "mount --make-rprivate / && mount -t tmpfs tmpfs /run \
        && mkdir -p /run/systemd/journal /run/log/journal \
        && mount --bind \"$0/run\" /run/systemd/journal && mount --bind \"$0/log\" /run/log/journal \
        && mount --bind \"$0/conf\" /etc/systemd/journald.conf && exec \"$1\"";
    Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .args([root.as_os_str(), JOURNALD.as_ref()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
