//! fail2ban's configuration brought over by the banishctl binary: whole trees, hostile ones, and what Debian ships.
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are an edge")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use banish::config::import::{ImportError, filter};

/// A directory that is gone at the end of the test.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn import(from: &Path, to: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_banishctl"));
    command.arg("import").arg("--from").arg(from).arg("--to").arg(to).args(more);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("LC_ALL", "C.UTF-8").env_remove("SYSTEMD_COLORS");
    command.output().unwrap()
}

/// What would be run on a machine with banish's own files installed.
fn import_beside_ours(from: &Path, to: &Path, more: &[&str]) -> Output {
    import(from, to, &[&["--config", "etc"], more].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// All files below `root`, by their paths in it.
fn files(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                    found.insert(path.strip_prefix(root).unwrap().to_path_buf(), text);
                }
            }
        }
    }
    found
}

/// Writes these files below a new directory.
fn tree(given: &[(&str, &[u8])]) -> tempfile::TempDir {
    let root = scratch();
    for (path, bytes) in given {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    root
}

fn config_check(directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_banishctl"));
    command.args(["config", "check", "--config"]).arg(directory).output().unwrap()
}

/// Each directory of `tests/import` has a configuration `from` and what comes out: files in `expected` and the screen.
/// With BANISH_UPDATE in the environment what comes out is written there.
#[test]
fn trees_come_over_as_written_down() {
    let mut cases: Vec<PathBuf> = fs::read_dir("tests/import").unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    for case in cases {
        let to = scratch();
        let output = import_beside_ours(&case.join("from"), to.path(), &[]);
        let screen = text(&output.stdout) + &text(&output.stderr);
        let here = format!("{}/", fs::canonicalize(".").unwrap().display());
        let screen = screen.replace(to.path().to_str().unwrap(), "TO").replace(&here, "");
        let (expected, report) = (case.join("expected"), case.join("screen"));
        if std::env::var_os("BANISH_UPDATE").is_some() {
            let _ = fs::remove_dir_all(&expected);
            for (path, text) in files(to.path()) {
                fs::create_dir_all(expected.join(&path).parent().unwrap()).unwrap();
                fs::write(expected.join(path), text).unwrap();
            }
            fs::write(&report, &screen).unwrap();
        }
        assert_eq!(screen, fs::read_to_string(report).unwrap(), "{}", case.display());
        let (came, wanted) = (files(to.path()), files(&expected));
        assert_eq!(came.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{}", case.display());
        for (path, text) in came {
            assert_eq!(text, wanted[&path], "{}: {}", case.display(), path.display());
            let mode = fs::metadata(to.path().join(&path)).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o644, "{}", path.display());
        }
    }
}

#[test]
fn nothing_that_is_there_is_replaced_unasked() {
    let from = Path::new("tests/import/01-whole/from");
    let to = scratch();
    let checked = import_beside_ours(from, to.path(), &["--check"]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert_eq!(files(to.path()), BTreeMap::new());

    import_beside_ours(from, to.path(), &[]);
    let first = files(to.path());
    let again = import_beside_ours(from, to.path(), &[]);
    assert!(text(&again.stdout).contains("unchanged: ") && !text(&again.stdout).contains("written: "));
    assert_eq!(files(to.path()), first);

    let jails = to.path().join("jail.d/fail2ban.toml");
    fs::write(&jails, "# mine\n").unwrap();
    let general = to.path().join("banish.toml.d/fail2ban.toml");
    fs::remove_file(&general).unwrap();
    let refused = import_beside_ours(from, to.path(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("jail.d/fail2ban.toml (--force replaces it)"), "{}", text(&refused.stderr));
    assert_eq!(fs::read_to_string(&jails).unwrap(), "# mine\n");
    assert!(!general.exists());
    // A mask is somebody's, too.
    fs::remove_file(&jails).unwrap();
    std::os::unix::fs::symlink("/dev/null", &jails).unwrap();
    assert_eq!(import_beside_ours(from, to.path(), &[]).status.code(), Some(1));

    for (more, state) in [(&["--check"][..], "would not replace: "), (&["--check", "--force"], "would replace: ")] {
        let checked = import_beside_ours(from, to.path(), more);
        assert!(text(&checked.stdout).contains(&format!("\n{state}")), "{}", text(&checked.stdout));
    }
    import_beside_ours(from, to.path(), &["--force"]);
    assert_eq!(files(to.path()), first);
}

#[test]
fn what_a_filter_of_ours_watches_stays_watched_beside_the_jails_own() {
    let jail = "[sshd]\nenabled = true\nfilter = sshd\naction = iptables-allports\n\
                journalmatch = _SYSTEMD_UNIT=ssh.service + _SYSTEMD_UNIT=my-ssh.service\n";
    let from =
        tree(&[("jail.conf", jail.as_bytes()), ("filter.d/sshd.conf", b"[Definition]\nfailregex = ^no <HOST>$\n")]);
    let to = scratch();
    let output = import_beside_ours(from.path(), to.path(), &["--shipped"]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let jails = files(to.path())[Path::new("jail.d/fail2ban.toml")].clone();
    for line in ["\"_SYSTEMD_UNIT=my-ssh.service\"", "_SYSTEMD_UNIT=ssh.service ", "_SYSTEMD_UNIT=sshd@*.service"] {
        assert!(jails.contains(line), "{line}: {jails}");
    }
}

#[test]
fn programs_get_an_object_for_each_jail_remark_and_file() {
    let to = scratch();
    let output = import_beside_ours(Path::new("tests/import/01-whole/from"), to.path(), &["--check", "--json"]);
    let objects: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |key: &str| objects.iter().filter(|object| object.get(key).is_some()).count();
    assert!(count("jail") >= 5 && count("remark") >= 10 && count("file") >= 4, "{}", text(&output.stdout));
    let remark =
        objects.iter().find(|object| object["text"].as_str().is_some_and(|text| text.starts_with("bantime.increment")));
    assert_eq!(remark.unwrap()["place"]["line"], serde_json::json!(13));
    assert_eq!(objects.last().unwrap()["state"], serde_json::json!("would write"));
}

#[test]
fn programs_are_told_what_is_wrong_with_what_is_there_now() {
    let to = tree(&[("jail.d/zz.toml", b"[jail.zz]\nnosuch = 1\n")]);
    let output = import_beside_ours(Path::new("tests/import/01-whole/from"), to.path(), &["--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let wrong = text(&output.stdout).lines().any(|line| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        object["severity"] == "error" && object["place"]["line"] == 2
    });
    assert!(wrong, "{}", text(&output.stdout));
}

#[test]
fn the_directory_may_be_named_from_where_one_is() {
    let to = scratch();
    let from = Path::new("tests/../tests/import/./01-whole/from");
    let output = import_beside_ours(from, to.path(), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn everybody_may_read_what_is_written_whatever_the_umask() {
    let to = scratch();
    let below = to.path().join("a/b");
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_banishctl"), "--config", "etc", "import"]);
    command.args(["--from", "tests/import/02-told/from", "--to"]).arg(&below);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    for (path, mode) in [("a", 0o755), ("a/b", 0o755), ("a/b/jail.d", 0o755), ("a/b/jail.d/fail2ban.toml", 0o644)] {
        assert_eq!(fs::metadata(to.path().join(path)).unwrap().permissions().mode() & 0o7777, mode, "{path}");
    }
}

/// Hostile or broken trees: what is told has a place, quotes nothing that is no configuration, and comes soon.
#[test]
fn what_is_no_configuration_is_refused_with_its_place() {
    let filter_of = |given: &[(&str, &[u8])]| -> Result<String, ImportError> {
        let root = tree(given);
        let imported = filter(root.path(), "x", &[]);
        imported.map(|imported| imported.text).inspect_err(|error| {
            let shown = error.to_string();
            assert!(!shown.contains("secret") && !shown.contains(char::is_control), "{shown}");
        })
    };
    let told = |given: &[(&str, &[u8])], part: &str| {
        let error = filter_of(given).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    };
    let definition = b"[Definition]\nfailregex = ^a <HOST>$\n";
    told(&[("filter.d/y.conf", definition)], "there is no filter.d/x.conf");
    told(&[("filter.d/x.conf", b"root:$6$secret:19000:0\n")], "filter.d/x.conf:1:1: no section begins");
    told(&[("filter.d/x.conf", b"[Definition]\nfailregex = a\nsecret\n")], "filter.d/x.conf:3:1: neither");
    told(&[("filter.d/x.conf", b"[Definition]\nfailregex = ^\xff secret\n")], "filter.d/x.conf:2:14: no UTF-8 text");
    for before in ["../../etc/shadow", "/etc/shadow", "../../../../../../../../etc/shadow", "./../../x"] {
        let text = format!("[INCLUDES]\nbefore = {before}\n[Definition]\nfailregex = ^a <HOST>$\n");
        told(&[("filter.d/x.conf", text.as_bytes())], "filter.d/x.conf:2:1: before leaves the configuration directory");
    }
    let loops: &[(&str, &[u8])] = &[
        ("filter.d/x.conf", b"[INCLUDES]\nbefore = y.conf\nafter = x.conf\n[Definition]\nfailregex = ^a <HOST>$\n"),
        ("filter.d/y.conf", b"[INCLUDES]\nbefore = x.conf\n y.conf\n[Definition]\nfailregex = ^b <HOST>$\n"),
    ];
    assert!(filter_of(loops).unwrap().contains("^a <HOST>$"));

    let mut chain: Vec<(String, String)> = (0..40)
        .map(|at| {
            (format!("filter.d/c{at}.conf"), format!("[INCLUDES]\nbefore = c{}.conf\n c{}.conf\n", at + 1, at + 1))
        })
        .collect();
    chain.push((
        "filter.d/x.conf".into(),
        "[INCLUDES]\nbefore = c0.conf\n[Definition]\nfailregex = ^a <HOST>$\n".into(),
    ));
    let chain: Vec<(&str, &[u8])> = chain.iter().map(|(path, text)| (path.as_str(), text.as_bytes())).collect();
    told(&chain, "is included too deeply or too often");

    let huge = [definition.as_slice(), &vec![b'#'; 5 << 20]].concat();
    told(&[("filter.d/x.conf", &huge)], "larger than 4 MiB");
    let wide = format!("[Definition]\nfailregex = {}\na = {}\n", "%(a)s".repeat(1000), "x".repeat(10_000));
    told(&[("filter.d/x.conf", wide.as_bytes())], "expands without an end");
    let wide = format!("[Definition]\nfailregex = {}\na = {}\n", "<a><b>".repeat(1000), "x".repeat(10_000));
    told(&[("filter.d/x.conf", wide.as_bytes())], "expands without an end");
    let root = tree(&[("filter.d/y.conf", definition)]);
    fs::create_dir(root.path().join("filter.d/x.conf")).unwrap();
    assert!(filter(root.path(), "x", &[]).unwrap_err().to_string().contains("no regular file"));
    for name in ["", "../jail", "y/../y", ".y", "y\0"] {
        assert!(matches!(filter(root.path(), name, &[]), Err(ImportError::Missing(_))), "{name:?}");
    }
    assert!(filter(Path::new("/nonexistent"), "x", &[]).is_err());
}

#[test]
fn a_jail_that_cannot_be_read_costs_no_other() {
    let from = tree(&[
        ("jail.conf", b"[DEFAULT]\nenabled = true\naction = iptables[port=22]\n[a]\nfilter = a\n[b]\nfilter = %(no)s\n[c]\nfilter = c[\n[d]\nfilter = e\n"),
        ("filter.d/a.conf", b"[Definition]\nfailregex = ^a <HOST>$\njournalmatch = _SYSTEMD_UNIT=a.service\n"),
    ]);
    let to = scratch();
    let output = import_beside_ours(from.path(), to.path(), &[]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let jails = files(to.path())[Path::new("jail.d/fail2ban.toml")].clone();
    assert!(jails.contains("[jail.a]") && jails.matches("[jail.").count() == 1, "{jails}");
    let shown = text(&output.stdout);
    for name in ["jail b", "jail c", "jail d"] {
        assert!(shown.contains(&format!("\n{name}\n  lost: ")), "{shown}");
    }
}

/// Debian's own package, where it can be had.
fn debian() -> Result<PathBuf, String> {
    let to = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fail2ban");
    let output = Command::new("benches/fail2ban").arg("get").arg(&to).output().map_err(|error| error.to_string())?;
    let from = to.join("root/etc/fail2ban");
    if output.status.success() && from.is_dir() { Ok(from) } else { Err(text(&output.stdout)) }
}

/// Filters of Debian's package of which nothing can be used, and why.
const LEFT: [(&str, &str); 8] = [
    // No filters, but what filters include.
    ("apache-common", "it has no failregex"),
    ("botsearch-common", "it has no failregex"),
    ("common", "it has no failregex"),
    ("exim-common", "it has no failregex"),
    ("nginx-error-common", "it has no failregex"),
    ("selinux-common", "no option \"_type\""),
    // Several lines of a file that are one text.
    ("mongodb-auth", "SKIPLINES"),
    ("slapd", "SKIPLINES"),
];

#[test]
fn every_filter_of_debians_comes_over_or_is_known_not_to() {
    let from = match debian() {
        Ok(from) => from,
        Err(reason) => return eprintln!("skipped: no package fail2ban: {reason}"),
    };
    let mut count = 0;
    for entry in fs::read_dir(from.join("filter.d")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "conf") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let left = LEFT.iter().find(|(left, _)| *left == name).map(|(_, reason)| *reason);
        match (filter(&from, name, &[]), left) {
            (Ok(imported), _) => {
                count += 1;
                for note in imported.notes.iter().filter(|note| note.contains("regex")) {
                    eprintln!("{name}: {note}");
                }
            }
            (Err(error), Some(reason)) => assert!(error.to_string().contains(reason), "{name}: {error}"),
            (Err(error), None) => panic!("{name}: {error}"),
        }
    }
    assert!(count > 80, "only {count}");
}

const LOCAL: &[u8] = b"[DEFAULT]\nignoreip = 127.0.0.1/8 ::1 192.0.2.0/24\nbantime = 1h\nbantime.increment = true\n\
    banaction = nftables-multiport\ndestemail = root@example.org\naction = %(action_mwl)s\n\
    [sshd]\nenabled = true\nmode = aggressive\nport = ssh,2222\nmaxretry = 3\n\
    [postfix]\nenabled = true\nmode = aggressive\n[dovecot]\nenabled = true\n\
    [nginx-http-auth]\nenabled = true\n[nginx-limit-req]\nenabled = true\n[apache-auth]\nenabled = true\n\
    [recidive]\nenabled = true\n[mine]\nenabled = true\nport = 8080\nfilter = mine\nlogpath = /var/log/mine.log\n";
const MINE: &[u8] = b"[INCLUDES]\nbefore = common.conf\n[Definition]\n_daemon = mined\n\
    failregex = ^%(__prefix_line)sbad login of <F-USER>\\S+</F-USER> from <HOST>$\n\
    journalmatch = _SYSTEMD_UNIT=mine.service + _COMM=mined\n";

#[test]
fn debians_configuration_with_a_local_file_becomes_one_that_has_no_errors() {
    let from = match debian() {
        Ok(from) => from,
        Err(reason) => return eprintln!("skipped: no package fail2ban: {reason}"),
    };
    let given: Vec<(String, String)> =
        files(&from).into_iter().map(|(path, text)| (path.to_str().unwrap().to_owned(), text)).collect();
    let mut all: Vec<(&str, &[u8])> = given.iter().map(|(path, text)| (path.as_str(), text.as_bytes())).collect();
    all.extend([("jail.local", LOCAL), ("filter.d/mine.conf", MINE)]);
    let from = tree(&all);
    for more in [&[][..], &["--translate"], &["--shipped"]] {
        let to = scratch();
        let output = import_beside_ours(from.path(), to.path(), more);
        eprintln!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success());
        let checked = config_check(to.path());
        assert!(checked.status.success(), "{}", text(&checked.stdout));
        let written = files(to.path());
        let jails = &written[Path::new("jail.d/fail2ban.toml")];
        for name in ["sshd", "postfix", "dovecot", "nginx-http-auth", "mine"] {
            assert!(jails.contains(&format!("[jail.{name}]")), "{jails}");
        }
        assert!(!jails.contains("[jail.recidive]"), "{jails}");
        assert!(written[Path::new("filter.d/mine.toml")].contains("bad login of"));
        // A copy never has the name of one of ours: it would be merged over that.
        let copied = |name: &str| written.get(Path::new(name)).is_some_and(|text| text.contains("Brought over"));
        assert!(!copied("filter.d/sshd.toml"), "{more:?}");
        assert_eq!(copied("filter.d/sshd-aggressive.toml"), more == ["--translate"], "{more:?}");
    }
}
