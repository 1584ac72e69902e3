//! Where whoever calls us is logged in from, as sshd says in `SSH_CONNECTION`.

use std::env;
use std::net::IpAddr;
use std::os::unix::process::parent_id;

/// sudo and its like clear the environment, a shell or two may stand between: so far up we look for the login.
const GENERATIONS: usize = 32;

/// The caller's ssh client; `None` where it cannot be told or there is none.
///
/// Where our own environment has no `SSH_CONNECTION`, our parents' are asked, as far as we may read them.
pub fn ssh_client() -> Option<IpAddr> {
    if let Some(connection) = env::var_os("SSH_CONNECTION") {
        return client(connection.as_encoded_bytes());
    }
    let mut pid = parent_id();
    for _ in 0..GENERATIONS {
        if pid <= 1 {
            break;
        }
        if let Some(environment) = of_process(pid, "environ")
            && let Some(connection) = variable(&environment, b"SSH_CONNECTION=")
        {
            return client(connection);
        }
        pid = parent(&of_process(pid, "stat")?)?;
    }
    None
}

fn of_process(pid: u32, file: &str) -> Option<Vec<u8>> {
    #[expect(clippy::disallowed_methods, reason = "who calls us stands in /proc")]
    std::fs::read(format!("/proc/{pid}/{file}")).ok()
}

fn variable<'a>(environment: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(name))
}

/// The second field behind the command's name, which stands in parentheses and may hold anything (proc(5)).
fn parent(stat: &[u8]) -> Option<u32> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let behind = str::from_utf8(&stat[end + 1..]).ok()?;
    behind.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The first word of `SSH_CONNECTION`; a link-local address has a zone behind `%`, which no ban has.
fn client(connection: &[u8]) -> Option<IpAddr> {
    let word = str::from_utf8(connection).ok()?.split(' ').next()?;
    let address = word.split_once('%').map_or(word, |(address, _)| address);
    Some(address.parse::<IpAddr>().ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_first_word() {
        let address = |text: &str| text.parse::<IpAddr>().ok();
        assert_eq!(client(b"192.0.2.7 50022 192.0.2.1 22"), address("192.0.2.7"));
        assert_eq!(client(b"fe80::7%eth0 50022 fe80::1%eth0 22"), address("fe80::7"));
        assert_eq!(client(b"::ffff:192.0.2.7 1 ::1 22"), address("192.0.2.7"));
        for text in [&b""[..], b"UNKNOWN 65535 UNKNOWN 65535", b"\xff 1 2 3"] {
            assert_eq!(client(text), None);
        }
    }

    #[test]
    fn a_command_cannot_pose_as_a_parent() {
        assert_eq!(parent(b"12 (a) S 1 ) R 34 56"), Some(34));
        assert_eq!(parent(b"12 (sh) S 7 12 12"), Some(7));
        assert_eq!(parent(b"12 sh S 7"), None);
        assert_eq!(variable(b"A=1\0SSH_CONNECTION=x y\0", b"SSH_CONNECTION="), Some(&b"x y"[..]));
    }
}
