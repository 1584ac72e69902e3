//! One rule of layering: key by key, layer by layer, whatever the files are called.

use super::*;

const SHIPPED: &[u8] = b"[jail.sshd]\nenabled = true\nfilter = 'f'\nport = ['ssh']\n";

fn layers(usr: &[(&str, &[u8])], etc: &[(&str, &[u8])]) -> (Loaded, [tempfile::TempDir; 2]) {
    let directories = [directory(usr), directory(etc)];
    let loaded = load(&Layout::Layers(directories.iter().map(|directory| directory.path().to_owned()).collect()));
    (loaded, directories)
}

#[test]
fn a_file_named_after_the_jail_changes_the_keys_that_it_has() {
    let usr: [(&str, &[u8]); 2] = [("filter.d/f.toml", FILTER), ("jail.d/sshd.toml", SHIPPED)];
    for (name, text) in [
        ("jail.d/sshd.toml", &b"[jail.sshd]\nmaxretry = 3\n"[..]),
        ("banish.toml", b"[jail.sshd]\nmaxretry = 3\n"),
        ("jail.d/aaa.toml", b"[jail.sshd]\nmaxretry = 3\n"),
    ] {
        let (loaded, _kept) = layers(&usr, &[(name, text)]);
        assert_eq!(loaded.problems, [], "{name}");
        let sshd = &loaded.settings.jails[0];
        assert!(sshd.enabled && sshd.rules.maxretry == 3 && sshd.scope != Scope::AllPorts, "{name}: {sshd:?}");
    }
    let (loaded, _kept) = layers(&usr, &[("jail.d/sshd.toml", b""), ("filter.d/f.toml", b""), ("banish.toml", b"\n")]);
    assert!(loaded.problems.is_empty() && loaded.settings.jails[0].enabled, "empty files change nothing");
}

#[test]
fn a_link_to_dev_null_masks_lower_layers_alone() {
    let usr: [(&str, &[u8]); 3] =
        [("filter.d/f.toml", FILTER), ("jail.d/sshd.toml", SHIPPED), ("banish.toml", b"[default]\nmaxretry = 9\n")];
    let (_, directories) = layers(&usr, &[("jail.d/other.toml", b"[jail.other]\nfilter = 'f'\n")]);
    let [usr, etc] = directories.each_ref().map(|directory| directory.path().to_owned());
    let run = directory(&[]);
    fs::create_dir(run.path().join("jail.d")).unwrap();
    symlink("/dev/null", run.path().join("jail.d/sshd.toml")).unwrap();
    symlink("/dev/null", run.path().join("banish.toml")).unwrap();
    let load = || load(&Layout::Layers(vec![usr.clone(), run.path().into(), etc.clone()]));
    let names = |loaded: &Loaded| loaded.settings.jails.iter().map(|jail| jail.name.to_string()).collect::<Vec<_>>();
    let loaded = load();
    assert_eq!((names(&loaded), loaded.settings.jails[0].rules.maxretry), (vec!["other".to_owned()], 5));
    fs::write(etc.join("jail.d/sshd.toml"), SHIPPED).unwrap();
    assert_eq!(names(&load()), ["other", "sshd"]);
}

#[test]
fn a_filter_s_file_changes_the_keys_that_it_has() {
    let shipped =
        b"journalmatch = ['_SYSTEMD_UNIT=f.service']\nsession = '_PID'\nprefregex = '^f: <F-CONTENT>.*</F-CONTENT>$'\n\
                    failregex = ['^no <ADDR>$']\n[mode.more]\nfailregex = ['^bye <ADDR>$']\nignoreregex = ['^x$']\n";
    let jail: &[u8] = b"[jail.f]\nenabled = true\nmode = 'more'\n";
    let usr: [(&str, &[u8]); 2] = [("filter.d/f.toml", shipped), ("jail.d/f.toml", jail)];
    let definition = |etc: &[u8]| {
        let (loaded, _kept) = layers(&usr, &[("filter.d/f.toml", etc)]);
        let problems: Vec<String> = loaded.problems.iter().map(|problem| problem.text.clone()).collect();
        (loaded.settings.jails.first().and_then(|jail| jail.definition.clone()), problems)
    };
    let (whole, _) = definition(b"");
    let whole = whole.unwrap();
    assert_eq!(definition(shipped).0.unwrap(), whole, "a copy says the same");

    let (changed, problems) = definition(b"ignoreregex = ['^not <ADDR>$']\n[mode.more]\nignoreregex = []\n");
    let changed = changed.unwrap();
    assert_eq!(problems, [""; 0]);
    assert_eq!(changed.ignoreregex, ["^not <ADDR>$"]);
    assert_eq!((&changed.failregex, &changed.journalmatch), (&whole.failregex, &whole.journalmatch));
    assert_eq!((&changed.session, &changed.prefregex), (&whole.session, &whole.prefregex));

    let (changed, problems) = definition(b"failregex = ['^f: never <ADDR>$']\n");
    assert!(changed.is_some() && problems.len() == 1, "{problems:?}");
    assert!(
        problems[0].contains("sees only what the prefregex at ") && problems[0].contains("write it here too"),
        "{problems:?}"
    );
    let (changed, problems) = definition(b"prefregex = ''\nsession = ''\nfailregex = ['^f: never <ADDR>$']\n");
    let changed = changed.unwrap();
    assert_eq!((problems.len(), &changed.prefregex, &changed.session), (0, &None, &None));

    assert_eq!(definition(b"ignoreregex = ['(']\n").0, None, "an error in either file leaves the jail out");
    assert_eq!(definition(b"ignoreregex = [\n").0, None);
}
