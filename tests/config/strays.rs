//! What lies in the wrong place or has the wrong name.

use super::*;

fn warnings(files: &[(&str, &[u8])]) -> Vec<String> {
    let directory = directory(files);
    let layout = Layout::Layers(vec![directory.path().into()]);
    let loaded = load(&layout);
    assert_eq!(loaded.problems, load_to_run(&layout).problems, "the daemon tells it too");
    assert!(!loaded.any_error(), "{:?}", loaded.problems);
    let prefix = format!("{}/", directory.path().display());
    loaded.problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

#[test]
fn what_is_not_read_is_told_with_the_place_where_it_would_be() {
    for (name, meant) in [
        ("jail.local", "jail.d/local.toml"),
        ("jail.conf", "jail.d/local.toml"),
        ("fail2ban.local", "jail.d/local.toml"),
        ("jail.toml", "did you mean jail.d/jail.toml?"),
        ("sshd.toml", "did you mean jail.d/sshd.toml?"),
        ("sshd", "did you mean jail.d/sshd.toml?"),
        ("banish.conf", "jail.d/local.toml"),
        ("banishd.toml", "did you mean banish.toml?"),
        ("Banish.toml", "did you mean banish.toml?"),
        ("banish.tml", "did you mean banish.toml?"),
        ("jails.d/sshd.toml", "did you mean jail.d?"),
        ("jail/sshd.toml", "did you mean jail.d?"),
        ("filters.d/sshd.toml", "did you mean filter.d?"),
        ("banish.d/x.toml", "did you mean banish.toml.d?"),
        ("conf.d/x.toml", "banish.toml.d, jail.d, filter.d"),
        ("jail.d/sshd.local", "jail.d/local.toml"),
        ("jail.d/defaults-debian.conf", "jail.d/local.toml"),
        ("filter.d/sshd.conf", "import"),
        ("jail.d/sshd", "did you mean jail.d/sshd.toml?"),
        ("jail.d/local.TOML", "did you mean jail.d/local.toml?"),
        ("jail.d/local.tml", "did you mean jail.d/local.toml?"),
        ("jail.d/more/local.toml", "only files in jail.d itself"),
        ("banish.toml.d/local.yaml", "did you mean banish.toml.d/local.toml?"),
        ("jail.d/local.toml/x", "is a directory"),
        ("banish.toml/x", "is a directory"),
        ("filter.d/x.toml/x", "is a directory"),
    ] {
        let told = warnings(&[(name, b"[default]\nignoreip = ['192.0.2.1']\n")]);
        assert_eq!(told.len(), 1, "{name}: {told:?}");
        assert!(told[0].contains(meant), "{name}: {told:?}");
        let first = name.split_inclusive('/').next().unwrap().trim_end_matches('/');
        assert!(told[0].starts_with(first), "{name}: {told:?}");
    }
}

#[test]
fn backups_and_notes_are_passed_over() {
    let names = [
        "jail.d/local.toml~",
        "jail.d/.local.toml.swp",
        "jail.d/#local.toml#",
        "jail.d/local.toml.bak",
        "jail.d/sshd.toml.rpmnew",
        "jail.d/sshd.toml.rpmsave",
        "filter.d/sshd.toml.dpkg-old",
        "filter.d/sshd.toml.dpkg-dist",
        "filter.d/sshd.toml.ucf-dist",
        "banish.toml.d/README",
        "jail.d/old.toml.disabled",
        "banish.toml.orig",
        "README.md",
        ".git/config",
        "notes.txt",
    ];
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &b"[[["[..])).collect();
    assert_eq!(warnings(&files), [""; 0]);
}

#[test]
fn a_filter_among_jails_and_a_jail_among_filters_are_told() {
    let directory = directory(&[
        ("jail.d/sshd.toml", FILTER),
        ("filter.d/mail.toml", b"[jail.mail]\nenabled = true\n"),
        ("filter.d/allow.toml", b"[default]\nignoreip = ['192.0.2.1']\n"),
        ("filter.d/keys.toml", b"enabled = true\nmaxretry = 3\n"),
    ]);
    let told = problems_in(directory.path());
    let about = |name: &str| told.iter().find(|problem| problem.starts_with(name)).cloned().unwrap_or_default();
    assert!(about("jail.d/sshd.toml").contains("did you mean filter.d/sshd.toml"), "{told:?}");
    for name in ["mail", "allow", "keys"] {
        let about = about(&format!("filter.d/{name}.toml"));
        assert!(about.contains(&format!("jail.d/{name}.toml")), "{told:?}");
    }
    assert_eq!(told.len(), 4, "{told:?}");
}
