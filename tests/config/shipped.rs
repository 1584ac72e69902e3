//! The shipped jails leave to `[default]` what they have no reason of their own to say.

use super::*;

/// Jails that need another number of failures than others, because of what their services log: docs/filters.md.
const MAXRETRY: [(&str, u32); 14] = [
    ("asterisk", 10),
    ("freeswitch", 10),
    ("gssftpd", 2),
    ("haproxy-http-auth", 20),
    ("krb5kdc", 10),
    ("mosquitto", 10),
    ("named-refused", 20),
    ("nsd", 20),
    ("openhab", 10),
    ("portsentry", 2),
    ("postfix-rbl", 1),
    ("samba", 10),
    ("scanlogd", 2),
    ("transmission", 10),
];

#[test]
fn no_shipped_jail_repeats_a_default() {
    let shipped = load(&Layout::Directory("etc".into()));
    let built_in = load(&Layout::Layers(Vec::new()));
    let mut jails = 0;
    for given in &shipped.values {
        let Some((_, key)) = given.key.strip_prefix("jail.").and_then(|key| key.rsplit_once('.')) else { continue };
        jails += usize::from(key == "filter");
        let default = built_in.values.iter().find(|known| known.key == format!("default.{key}"));
        assert_ne!(default.map(|known| &known.value), Some(&given.value), "{}", given.key);
        match key {
            "filter" | "mode" | "port" | "protocol" => {}
            "enabled" => assert_eq!(given.key, "jail.sshd.enabled"),
            "maxretry" => {
                assert!(MAXRETRY.iter().any(|(jail, _)| given.key == format!("jail.{jail}.maxretry")), "{}", given.key)
            }
            _ => panic!("{} is shipped: is it needed?", given.key),
        }
    }
    assert!(jails > 100);
}

#[test]
fn the_administrator_s_defaults_reach_every_shipped_jail() {
    let etc = directory(&[(
        "jail.d/x.toml",
        b"[default]\nenabled = true\nmaxretry = 7\nfindtime = '11m'\nbantime = '1d'\naction = 'reject'\nipv6-prefix = 56\n\
          ignoreip = ['192.0.2.0/24']\nignoreself = false\nprotocol = ['udp', 'tcp']\nusedns = 'no'\n",
    )]);
    let loaded = load(&Layout::Layers(vec!["etc".into(), etc.path().into()]));
    assert!(!loaded.any_error());
    assert!(loaded.settings.jails.len() > 100);
    for jail in &loaded.settings.jails {
        let name = jail.name.as_str();
        assert!(jail.enabled && !jail.ignoreself, "{name}");
        let own = MAXRETRY.iter().find(|(jail, _)| *jail == name).map(|(_, maxretry)| *maxretry);
        assert_eq!(jail.rules.maxretry, own.unwrap_or(7), "{name}");
        assert_eq!(jail.rules.findtime, Duration::from_secs(660), "{name}");
        assert_eq!(jail.rules.bantime, Length::For(Duration::from_secs(86_400)), "{name}");
        assert_eq!((jail.rules.action, jail.rules.ipv6_prefix), (Action::Reject, 56), "{name}");
        assert!(jail.rules.allow.contains("192.0.2.7".parse().unwrap()), "{name}");
        let own = loaded.origin(&format!("jail.{name}.protocol")).is_some();
        if let (Scope::Ports(ports), false) = (&jail.scope, own) {
            assert_eq!(format!("{ports:?}").matches("Udp").count(), 1, "{name}");
        }
    }
}

#[test]
fn the_manual_names_the_jails_with_a_number_of_their_own() {
    let listed = fs::read_to_string("docs/filters.md").unwrap();
    for (jail, maxretry) in MAXRETRY {
        assert!(listed.contains(&format!("\n| `{jail}` | {maxretry} | ")), "{jail}");
    }
}
