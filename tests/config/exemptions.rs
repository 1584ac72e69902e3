//! Whom to leave alone: lists that add up, and mistakes that must not shorten them while jails run.

use super::*;

fn world(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let jails: &[u8] =
        b"[jail.a]\nenabled = true\nfilter = 'f'\n[jail.b]\nenabled = true\nfilter = 'f'\n[jail.mail]\nfilter = 'f'\n";
    directory(&[&[("filter.d/f.toml", FILTER), ("jail.d/a.toml", jails)], files].concat())
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.settings.jails.iter().map(|jail| jail.name.as_str()).collect()
}

#[test]
fn ignoreip_adds_up_over_all_files_and_layers() {
    let usr = world(&[("banish.toml", b"[default]\nignoreip = '203.0.113.1'\n[jail.a]\nignoreip = ['203.0.113.2']\n")]);
    let etc = directory(&[
        ("banish.toml.d/fail2ban.toml", b"[default]\nignoreip = ['198.51.100.0/24']\n"),
        ("jail.d/allow.toml", b"[default]\nignoreip = ['192.0.2.11']\n"),
        ("jail.d/local.toml", b"[default]\nignoreip = []\n[jail.a]\nignoreip = '192.0.2.12'\n"),
    ]);
    let loaded = load(&Layout::Layers(vec![usr.path().into(), etc.path().into()]));
    assert_eq!(loaded.problems, []);
    let shown = |list: &banish::engine::jail::allow::AllowList| format!("{:?}", list.subjects());
    assert_eq!(shown(&loaded.settings.allow), "[192.0.2.11, 198.51.100.0/24, 203.0.113.1]");
    let a = &loaded.settings.jails[0];
    assert_eq!(shown(&a.allow_extra), "[192.0.2.12, 203.0.113.2]");
    assert_eq!(shown(&a.rules.allow), "[192.0.2.11, 192.0.2.12, 198.51.100.0/24, 203.0.113.1, 203.0.113.2]");

    let origins = |key: &str| -> Vec<String> {
        let given = loaded.values.iter().filter(|given| given.key == key);
        given
            .map(|given| {
                let place = given.origin.as_ref().unwrap();
                format!("{} {}:{}", given.value, place.file.file_name().unwrap().to_str().unwrap(), place.line)
            })
            .collect()
    };
    assert_eq!(
        origins("default.ignoreip"),
        [
            "\"203.0.113.1\" banish.toml:2",
            "[\"198.51.100.0/24\"] fail2ban.toml:2",
            "[\"192.0.2.11\"] allow.toml:2",
            "[] local.toml:2"
        ]
    );
    assert_eq!(origins("jail.a.ignoreip"), ["[\"203.0.113.2\"] banish.toml:4", "\"192.0.2.12\" local.toml:4"]);
}

#[test]
fn each_mistake_in_a_list_that_adds_up_has_the_place_in_its_own_file() {
    let directory = world(&[
        ("banish.toml.d/a.toml", b"[default]\nignoreip = ['192.0.2.1', '192.0.2.1/24']\n"),
        ("banish.toml.d/b.toml", b"[default]\nignoreip = ['192.0.2.2',\n 'x', '::1']\n"),
    ]);
    let problems = problems_in(directory.path());
    assert!(problems[1].starts_with("banish.toml.d/a.toml:2:26: default.ignoreip: "), "{problems:?}");
    assert!(problems[2].starts_with("banish.toml.d/b.toml:3:2: default.ignoreip: "), "{problems:?}");
}

/// What may have said, for any jail, whom to leave alone.
#[test]
fn a_mistake_that_may_concern_all_jails_lets_none_run() {
    let huge = vec![b'#'; 5 << 20];
    for text in [
        &b"[default]\nignoreip = ['192.0.2.26', '192.0.2.1/24']\n"[..],
        b"[default]\nignoreip = '192.0.2.26 192.0.2.27'\n",
        b"[default]\nignoreip = 5\n",
        b"[default]\nignoreip = { office = '192.0.2.26' }\n",
        b"[default]\nignoreip = ['home.example.org']\n",
        b"[default]\nignoreself = 'yes'\n",
        b"[default]\nignorip = ['192.0.2.26']\n",
        b"[default]\nallow = ['192.0.2.26']\n",
        b"[default]\nmaxretry = 'many'\n",
        b"[defaults]\nignoreip = ['192.0.2.26']\n",
        b"[Default]\nignoreip = ['192.0.2.26']\n",
        b"[DEFAULT]\nignoreip = ['192.0.2.26']\n",
        b"[[default]]\nignoreip = ['192.0.2.26']\n",
        b"default = 5\n",
        b"ignoreip = ['192.0.2.26']\n",
        b"[firewall]\ninterfaces = ['eth0', 'a/b']\n",
        b"[firewall]\nscope = 'lokal'\n",
        b"[firewall]\nreplies = 'accept'\nignoreip = ['192.0.2.26']\n",
        b"[source.web]\nnamespace = 'web'\nignoreip = ['192.0.2.26']\n",
        b"[jails.a]\nignoreip = ['192.0.2.26']\n",
        b"[jail.none-like-it]\nignoreip = ['192.0.2.26']\n",
        b"jail = 5\n",
        b"[default]\nignoreip = ['192.0.2.26'\n",
        b"[default]\nignoreip = ['192.0.2.26']\n[jail.a]\nmaxretry = \n",
        b"[jail.a]\nmaxretry = \n[default]\nignoreip = ['192.0.2.26']\n",
        b"[jail.a]\nmaxretry = \n[default\nignoreip = ['192.0.2.26']\n",
        b"[default]\nignoreip = ['192.0.2.26'] # caf\xe9\n",
        &huge,
    ] {
        let shown = String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned();
        let directory = world(&[("jail.d/zz.toml", text)]);
        let loaded = load(&Layout::Directory(directory.path().into()));
        assert_eq!(names(&loaded), [""; 0], "{shown}");
        for jail in ["a", "b", "mail"] {
            let left_out = loaded.left_out.iter().find(|left_out| left_out.jail == jail);
            let left_out = left_out.unwrap_or_else(|| panic!("{jail} is not told with {shown}: {:?}", loaded.left_out));
            let place = left_out.because.place.as_ref().unwrap();
            assert!(place.file.ends_with("jail.d/zz.toml"), "{place}");
            assert!(loaded.problems.contains(&left_out.because), "{shown}");
        }
        let enabled: Vec<&str> =
            loaded.left_out.iter().filter(|left_out| left_out.enabled).map(|left_out| left_out.jail.as_str()).collect();
        assert!(enabled.starts_with(&["a", "b"]) && !enabled.contains(&"mail"), "{shown}: {enabled:?}");
        assert!(loaded.problems.iter().any(|problem| problem.text.starts_with("no jail runs")), "{shown}");
    }
}

#[test]
fn a_later_file_does_not_hide_that_an_earlier_one_is_in_error() {
    for text in [&b"[[default]]\nignoreip = ['192.0.2.26']\n"[..], b"[default]\nignoreip = 'x y'\n", b"default = 5\n"] {
        let later = b"[default]\nignoreip = []\nmaxretry = 3\n";
        let directory = world(&[("jail.d/ya.toml", text), ("jail.d/zz.toml", later)]);
        assert_eq!(names(&load(&Layout::Directory(directory.path().into()))), [""; 0]);
    }
    let directory =
        world(&[("jail.d/ya.toml", b"[[jail.a]]\nignoreip = 'x'\n"), ("jail.d/zz.toml", b"[jail.a]\nport = 'ssh'\n")]);
    assert_eq!(names(&load(&Layout::Directory(directory.path().into()))), ["b", "mail"]);
}

#[test]
fn what_cannot_be_read_lets_no_jail_run() {
    type Make = fn(&Path);
    let made: [(&str, Make); 4] = [
        ("dangling", |path| symlink("nowhere", path).unwrap()),
        ("loop", |path| symlink(path, path).unwrap()),
        ("device", |path| symlink("/dev/zero", path).unwrap()),
        ("fifo", |path| {
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        }),
    ];
    for (what, make) in made {
        let directory = world(&[]);
        make(&directory.path().join("jail.d/zz.toml"));
        let loaded = load(&Layout::Directory(directory.path().into()));
        assert_eq!((names(&loaded).len(), left_out(&loaded)), (0, vec!["a", "b", "mail"]), "{what}");
    }
    for directory_of in ["banish.toml.d", "filter.d/../banish.toml.d"] {
        let directory = world(&[]);
        symlink("nowhere", directory.path().join(directory_of)).unwrap();
        assert_eq!(names(&load(&Layout::Directory(directory.path().into()))), [""; 0]);
    }
    let directory = world(&[("banish.toml.d", b"[default]\n")]);
    assert_eq!(
        names(&load(&Layout::Directory(directory.path().into()))),
        [""; 0],
        "a file in the place of a directory"
    );
}

/// What concerns one jail takes no other with it.
#[test]
fn a_mistake_in_a_jail_keeps_that_jail_out_and_whichever_may_be_meant() {
    for (text, out) in [
        ("[jail.a]\nignoreip = ['192.0.2.1/24']\n", &["a"][..]),
        ("[jail.a]\nignorip = ['192.0.2.1']\n", &["a"]),
        ("[jail.a]\nignoreself = 'yes'\n", &["a"]),
        ("[jail.a]\nmaxretry = three\n", &["a"]),
        ("[jail.a]\nmaxretry = 3\n[jail.a]\nignoreip = []\n", &["a"]),
        ("[jail.a.subnet]\nignoreip = '192.0.2.1'\n", &["a"]),
        ("[jail.A]\nignoreip = ['192.0.2.1']\n", &["A", "a"]),
        ("[jail.mial]\nignoreip = ['192.0.2.1']\n", &["mail", "mial"]),
        ("[jail.\"mail \"]\nignoreip = ['192.0.2.1']\n", &["mail", "mail "]),
        ("[jail.mial]\nignoreip = \n", &["mail", "mial"]),
        ("[jail.new]\nignoreip = \n", &["new"]),
        ("[jail.nginx]\nmaxretry = 3\n", &["nginx"]),
        ("[jail.manual]\nignoreip = ['192.0.2.1']\n", &["manual"]),
        ("[source.x]\nnamespce = 'x'\n", &[]),
        ("history = 'x'\nreplay-max = 'y'\n", &[]),
    ] {
        let directory = world(&[("jail.d/zz.toml", text.as_bytes())]);
        let loaded = load(&Layout::Directory(directory.path().into()));
        assert!(loaded.any_error(), "{text}");
        assert_eq!(left_out(&loaded), out, "{text}");
        for left_out in &loaded.left_out {
            assert!(loaded.problems.contains(&left_out.because), "{text}");
        }
    }
}
