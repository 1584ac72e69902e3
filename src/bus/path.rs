//! Where a jail's object is: its name as one element of an object path, escaped the way systemd does
//! (`sd_bus_path_encode(3)`), so that no two names share a path.

use std::fmt::Write;

use zbus::OwnedObjectPath;

use super::PATH;
use crate::engine::ban::JailName;

/// `/org/banish1/jail/<escaped name>`.
pub fn of_jail(name: &JailName) -> OwnedObjectPath {
    let mut path = format!("{PATH}/jail/");
    for (at, byte) in name.as_str().bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            write!(path, "_{byte:02x}").expect("a String takes every write");
        }
    }
    OwnedObjectPath::try_from(path).expect("only letters, digits and _ were written, and a jail name is not empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_systemd_does() {
        let path = |name: &str| of_jail(&name.parse().unwrap()).to_string();
        assert_eq!(path("sshd"), "/org/banish1/jail/sshd");
        assert_eq!(path("nginx-http.auth_2"), "/org/banish1/jail/nginx_2dhttp_2eauth_5f2");
        assert_eq!(path("3proxy"), "/org/banish1/jail/_33proxy");
    }
}
