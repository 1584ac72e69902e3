//! A client that is only a socket: it writes what it likes, as whom it likes, and reads when it likes.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use banish::bus::{NAME, PATH};
use serde::Serialize;
use zbus::zvariant::DynamicType;

use super::sys;

const BUS: &str = "org.freedesktop.DBus";

/// A connection that has said hello.
pub struct Raw {
    stream: UnixStream,
    input: BufReader<UnixStream>,
}

/// One message that came.
#[derive(Debug)]
pub struct Came {
    /// 2 for an answer, 3 for an error, 4 for a signal.
    pub kind: u8,
    pub bytes: Vec<u8>,
}

impl Came {
    pub fn says(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// Runs `work` in a thread that is another user's.
pub fn as_user<T: Send + 'static>(uid: u32, work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        sys::become_user(uid).expect("root may become anybody");
        work()
    })
}

impl Raw {
    /// Connects as `uid`, which this thread has to be.
    pub fn connect(address: &str, uid: u32) -> io::Result<Raw> {
        let mut stream = UnixStream::connect(&address["unix:path=".len()..])?;
        let hex: String = uid.to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
        write!(stream, "\0AUTH EXTERNAL {hex}\r\n")?;
        let mut answer = [0; 256];
        let length = stream.read(&mut answer)?;
        if !answer[..length].starts_with(b"OK ") {
            return Err(io::Error::other("the bus does not let us in"));
        }
        stream.write_all(b"BEGIN\r\n")?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut raw = Raw { input: BufReader::with_capacity(1 << 16, stream.try_clone()?), stream };
        raw.write(&call(BUS, "/org/freedesktop/DBus", BUS, "Hello", &()))?;
        while raw.read()?.kind != 2 {}
        Ok(raw)
    }

    pub fn write(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.write_all(message)
    }

    /// True if the message was written, after its start to its end; false where there is no room for it now.
    pub fn try_write(&mut self, message: &[u8]) -> io::Result<bool> {
        self.stream.set_nonblocking(true)?;
        let begun = self.stream.write(message);
        self.stream.set_nonblocking(false)?;
        match begun {
            Ok(length) => self.stream.write_all(&message[length..]).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads what is there and forgets it.
    pub fn discard(&mut self) {
        let mut buffer = [0; 1 << 16];
        let _ = self.stream.set_nonblocking(true);
        while self.stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
        let _ = self.stream.set_nonblocking(false);
    }

    pub fn read(&mut self) -> io::Result<Came> {
        let mut head = [0; 16];
        self.input.read_exact(&mut head)?;
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()) as usize;
        let mut bytes = head.to_vec();
        bytes.resize(16 + word(12).next_multiple_of(8) + word(4), 0);
        self.input.read_exact(&mut bytes[16..])?;
        Ok(Came { kind: head[1], bytes })
    }

    /// Reads until `count` answers or errors have come; those of them that are errors.
    pub fn answers(&mut self, count: usize) -> io::Result<Vec<Came>> {
        let mut errors = Vec::new();
        let mut came = 0;
        while came < count {
            let message = self.read()?;
            came += usize::from(matches!(message.kind, 2 | 3));
            if message.kind == 3 {
                errors.push(message);
            }
        }
        Ok(errors)
    }
}

/// A call as it goes over the wire.
pub fn call(to: &str, path: &str, interface: &str, member: &str, body: &(impl Serialize + DynamicType)) -> Vec<u8> {
    let builder = zbus::Message::method_call(path, member).destination(to).interface(interface);
    builder.build(body).unwrap().data().to_vec()
}

/// A call of the manager's own interface.
pub fn manager(member: &str, body: &(impl Serialize + DynamicType)) -> Vec<u8> {
    call(NAME, PATH, "org.banish1.Manager", member, body)
}

/// One of what everybody may ask, by `n`.
pub fn anything(n: usize) -> Vec<u8> {
    let properties = "org.freedesktop.DBus.Properties";
    match n % 10 {
        0 => call(NAME, PATH, properties, "Get", &("org.banish1.Manager", "BansActive")),
        1 => call(NAME, PATH, properties, "GetAll", &"org.banish1.Manager"),
        2 => manager("Check", &()),
        3 => manager("Ban", &("192.0.2.1", "", 0u64, "x".repeat(n % 4096), true)),
        4 => manager("ListBans", &("", "sshd 192.0.2.1", u32::MAX)),
        5 => call(NAME, "/org/banish1/jail/sshd", properties, "GetAll", &"org.banish1.Jail"),
        6 => call(NAME, PATH, "org.freedesktop.DBus.Peer", "Ping", &()),
        7 => manager("NoSuchMethod", &("x".repeat(n % 512), n as u64)),
        8 => manager("Unban", &(n as u64)),
        _ => manager("Subscribe", &()),
    }
}
