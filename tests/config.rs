//! The configuration as a whole: trees of files in, settings and problems out.

#![allow(clippy::disallowed_methods, reason = "tests are an edge")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use banish::config::{FILE_LIMIT, Layout, Loaded, Replies, Severity, Traffic, load, load_to_run};
use banish::engine::jail::Action;
use banish::engine::jail::scope::Scope;
use banish::engine::time::Length;
use proptest::prelude::*;

#[path = "config/exemptions.rs"]
mod exemptions;
#[path = "config/layering.rs"]
mod layering;
#[path = "config/shipped.rs"]
mod shipped;
#[path = "config/strays.rs"]
mod strays;

/// A tree below tests/config; tests run in the package's directory, so that places are the same everywhere.
fn tree(name: &str) -> PathBuf {
    Path::new("tests/config").join(name)
}

/// The names of the jails that are left out.
fn left_out(loaded: &Loaded) -> Vec<&str> {
    loaded.left_out.iter().map(|left_out| left_out.jail.as_str()).collect()
}

fn expect(name: &str, actual: &str) {
    let file = tree(name).join("expected");
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert!(actual == expected, "{} says otherwise; this is what came out:\n{actual}", file.display());
}

/// Settings and problems as lines.
fn told(loaded: &Loaded) -> String {
    let settings = &loaded.settings;
    let mut text = String::new();
    let mut line = |key: &str, value: String| writeln!(text, "{key}: {value}").unwrap();
    line("history", format!("{:?}", settings.history));
    line("replay-max", format!("{:?}", settings.replay_max));
    line("ignoreself", settings.ignoreself.to_string());
    line("allow", format!("{:?}", settings.allow.subjects()));
    line("firewall", format!("{:?}", settings.firewall));
    for jail in &settings.jails {
        line("jail", jail.name.to_string());
        line("  enabled", jail.enabled.to_string());
        line("  rules", format!("{:?}", jail.rules));
        line("  scope", format!("{:?}", jail.scope));
        line("  filter", format!("{} in mode {}", jail.filter_name, jail.mode));
        line("  journalmatch", format!("{:?}", jail.journalmatch()));
        line("  failregex", format!("{:?}", jail.definition.as_ref().map(|definition| &definition.failregex)));
        line("  allow_extra", format!("{:?}", jail.allow_extra.subjects()));
        line("  ignoreself", jail.ignoreself.to_string());
    }
    for left_out in &loaded.left_out {
        let enabled = if left_out.enabled { "enabled" } else { "not enabled" };
        line("left out", format!("{}, {enabled}: {}", left_out.jail, left_out.because));
    }
    for problem in &loaded.problems {
        line(&problem.severity.to_string(), problem.to_string());
    }
    text
}

#[test]
fn later_layers_override_keys_and_mask_files() {
    let layers = ["usr", "run", "etc"].map(|layer| tree("layers").join(layer));
    let loaded = load(&Layout::Layers(layers.to_vec()));
    expect("layers", &told(&loaded));
}

#[test]
fn every_value_knows_where_it_comes_from() {
    let layers = ["usr", "run", "etc"].map(|layer| tree("layers").join(layer));
    let loaded = load(&Layout::Layers(layers.to_vec()));
    for (key, origin) in [
        ("jail.sshd.maxretry", Some("etc/jail.d/admin.toml:4:12")),
        ("jail.sshd.enabled", Some("usr/jail.d/sshd.toml:2:11")),
        ("jail.sshd.port", Some("etc/jail.d/zz-local.toml:3:8")),
        ("jail.\"web.two\".action", Some("etc/jail.d/zz-local.toml:9:10")),
        ("jail.web.mode", Some("run/jail.d/web.toml:3:8")),
        ("default.bantime", Some("etc/banish.toml.d/20-early.toml:2:11")),
        ("default.maxretry", Some("run/banish.toml.d/50-run.toml:3:12")),
        ("default.findtime", Some("etc/banish.toml:3:12")),
        ("firewall.replies", Some("etc/banish.toml.d/20-early.toml:4:11")),
        ("replay-max", Some("etc/banish.toml:1:14")),
        ("filter.plain.mode.more.failregex", Some("etc/filter.d/plain.toml:6:13")),
        ("default.action", None),
        ("history", Some("usr/banish.toml:1:11")),
        ("jail.web.enabled", Some("usr/jail.d/web.toml:2:11")),
        ("filter.plain.session", Some("usr/filter.d/plain.toml:1:11")),
        ("filter.plain.mode.more.ignoreregex", Some("usr/filter.d/plain.toml:5:15")),
        ("filter.plain.failregex", Some("etc/filter.d/plain.toml:3:13")),
    ] {
        let given = loaded.values.iter().find(|given| given.key == key);
        assert!(given.is_some(), "{key} among {:?}", loaded.values);
        let origin = origin.map(|place| tree("layers").join(place).display().to_string());
        assert_eq!(loaded.origin(key).map(ToString::to_string), origin, "{key}");
    }
    let value = |key: &str| loaded.values.iter().find(|given| given.key == key).map(|given| given.value.clone());
    assert_eq!(value("jail.sshd.protocol").as_deref(), Some("[\"udp\", \"tcp\"]"));
    assert_eq!(value("default.bantime").as_deref(), Some("\"3h\""));
    assert_eq!(value("default.maxretry").as_deref(), Some("4"));
}

#[test]
fn all_problems_are_told_in_one_run_and_good_jails_stay() {
    let loaded = load(&Layout::Directory(tree("problems/etc")));
    assert!(loaded.any_error());
    expect("problems", &told(&loaded));
}

#[test]
fn what_is_wrong_outside_of_the_jails_is_told_in_one_run_and_none_runs() {
    let loaded = load(&Layout::Directory(tree("outside/etc")));
    assert!(loaded.settings.jails.is_empty());
    expect("outside", &told(&loaded));
}

/// One directory with these files.
fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

fn problems_in(directory: &Path) -> Vec<String> {
    let prefix = format!("{}/", directory.display());
    let loaded = load(&Layout::Directory(directory.to_owned()));
    loaded.problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

const FILTER: &[u8] = b"journalmatch = ['_SYSTEMD_UNIT=x.service']\nfailregex = ['^failed from <ADDR>$']\n";

#[test]
fn what_is_no_text_file_is_refused_and_never_waited_for() {
    let directory = directory(&[("banish.toml", b"ok\xFF = 1"), ("jail.d/dir.toml/x", b"")]);
    let at = |name: &str| directory.path().join("jail.d").join(name);
    assert!(std::process::Command::new("mkfifo").arg(at("fifo.toml")).status().unwrap().success());
    symlink("/dev/zero", at("zero.toml")).unwrap();
    symlink("nowhere", at("dangling.toml")).unwrap();
    symlink("loop.toml", at("loop.toml")).unwrap();
    symlink("null.toml", at("mask.toml")).unwrap();
    symlink("/dev/null", at("null.toml")).unwrap();
    fs::File::create(at("huge.toml")).unwrap().set_len(FILE_LIMIT + 1).unwrap();
    fs::write(at(".hidden.toml"), "[[[").unwrap();
    fs::write(at("backup.toml~"), "[[[").unwrap();
    assert_eq!(
        problems_in(directory.path()),
        [
            "banish.toml:1:3: no UTF-8 text",
            "jail.d/dangling.toml: cannot be read: No such file or directory (os error 2)",
            "jail.d/dir.toml: is a directory; a file was to be expected, and nothing in it is read",
            "jail.d/fifo.toml: cannot be read: no regular file",
            "jail.d/huge.toml: cannot be read: larger than 4 MiB",
            "jail.d/loop.toml: cannot be read: Too many levels of symbolic links (os error 40)",
            "jail.d/zero.toml: cannot be read: no regular file",
        ]
    );
}

#[test]
fn a_file_that_may_not_be_read_is_told_with_the_reason() {
    let directory = directory(&[("jail.d/secret.toml", b"")]);
    let secret = directory.path().join("jail.d/secret.toml");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&secret).is_ok() {
        eprintln!("skipped: this user may read every file");
        return;
    }
    assert_eq!(problems_in(directory.path()), ["jail.d/secret.toml: cannot be read: Permission denied (os error 13)"]);
}

#[test]
fn a_directory_named_on_the_command_line_must_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let loaded = load(&Layout::Directory(missing.clone()));
    let told: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    assert_eq!(told, [format!("{}: cannot be read: No such file or directory (os error 2)", missing.display())]);
    assert_eq!(load(&Layout::Layers(vec![missing])).problems, []);
}

#[test]
fn a_slip_of_the_pen_locks_nobody_out_and_enables_nothing() {
    let directory = directory(&[
        ("filter.d/f.toml", FILTER),
        ("jail.d/a.toml", b"[jail.a]\nenabled = true\nfilter = 'f'\n[jail.b]\nenabled = true\nfilter = 'f'\n"),
        // Somebody wanted less of jail a and to stay in himself, and forgot a quote.
        ("jail.d/b.toml", b"[jail.a]\nenabled = false\naction = 'log\n[default]\nignoreip = ['192.0.2.1']\n"),
    ]);
    let loaded = load(&Layout::Directory(directory.path().to_owned()));
    assert!(loaded.any_error());
    assert_eq!(left_out(&loaded), ["a", "b"]);
    assert!(loaded.settings.jails.is_empty());
}

#[test]
fn a_mode_may_replace_what_stands_outside() {
    let modes = b"ignoreregex = ['^i$']\n[mode.more]\nfailregex = ['^more <ADDR>$']\n[mode.only]\nreplaces = true\n\
                  includes = ['more']\n[mode.all]\nreplaces = true\nfailregex = ['^all <ADDR>$']\nignoreregex = []\n";
    let jails = b"[jail.f]\n[jail.more]\nfilter='f'\nmode='more'\n[jail.only]\nfilter='f'\nmode='only'\n\
                  [jail.all]\nfilter='f'\nmode='all'\nusedns = 'no'\n";
    let directory = directory(&[("filter.d/f.toml", &[FILTER, modes].concat()), ("banish.toml", jails)]);
    let loaded = load(&Layout::Directory(directory.path().to_owned()));
    assert_eq!(loaded.problems, []);
    let lists = |name: &str| {
        let jail = loaded.settings.jails.iter().find(|jail| jail.name.as_str() == name).unwrap();
        assert_eq!(jail.journalmatch().len(), 1);
        let definition = jail.definition.as_ref().unwrap();
        (definition.failregex.join(" "), definition.ignoreregex.len())
    };
    assert_eq!(lists("f"), ("^failed from <ADDR>$".into(), 1));
    assert_eq!(lists("more"), ("^more <ADDR>$ ^failed from <ADDR>$".into(), 1));
    assert_eq!(lists("only"), ("^more <ADDR>$".into(), 1));
    assert_eq!(lists("all"), ("^all <ADDR>$".into(), 0));
}

#[test]
fn a_start_reads_the_filters_that_enabled_jails_use() {
    let broken = b"journalmatch = ['_SYSTEMD_UNIT=x.service']\nfailregex = ['(']\nunknown = 1\n";
    let jails = b"[jail.f]\nenabled = true\n[jail.off]\nfilter = 'broken'\n[jail.too]\nfilter='f'\n";
    let files: [(&str, &[u8]); 4] = [
        ("filter.d/f.toml", FILTER),
        ("filter.d/broken.toml", broken),
        ("filter.d/torn.toml", b"["),
        ("banish.toml", jails),
    ];
    let directory = directory(&files);
    let layout = Layout::Directory(directory.path().to_owned());
    let loaded = load_to_run(&layout);
    assert_eq!(loaded.problems, []);
    let compiled: Vec<_> =
        loaded.settings.jails.iter().map(|jail| (jail.name.as_str(), jail.filter.is_some())).collect();
    assert_eq!(compiled, [("f", true), ("off", false), ("too", false)]);
    assert_eq!(loaded.settings.jails[0].journalmatch(), ["_SYSTEMD_UNIT=x.service"]);
    assert_eq!(loaded.settings.jails[1].journalmatch(), [""; 0]);
    assert_eq!(loaded.origin("filter.broken.failregex"), None, "nobody needs it");
    let problems = problems_in(directory.path());
    assert_eq!(problems.len(), 3, "{problems:?}");
    fs::write(directory.path().join("banish.toml"), b"[jail.f]\nenabled = true\n[jail.broken]\nenabled = true\n")
        .unwrap();
    let loaded = load_to_run(&layout);
    assert_eq!((loaded.problems.len(), left_out(&loaded)), (2, vec!["broken"]));
}

#[test]
fn jails_share_a_filter_of_the_same_mode() {
    let jails = b"[jail.a]\nfilter='f'\n[jail.b]\nfilter='f'\n[jail.c]\nfilter='f'\nmode='m'\n[jail.f]\n";
    let filter = [FILTER, b"[mode.m]\nignoreregex = ['^x$']\n"].concat();
    let directory = directory(&[("filter.d/f.toml", &filter), ("banish.toml", jails)]);
    let loaded = load(&Layout::Directory(directory.path().to_owned()));
    assert_eq!(loaded.problems, []);
    let [a, b, c, f] = loaded.settings.jails.as_slice() else { panic!("{:?}", loaded.settings.jails) };
    let same = |other: &Option<_>| std::sync::Arc::ptr_eq(a.filter.as_ref().unwrap(), other.as_ref().unwrap());
    assert!(same(&b.filter) && same(&f.filter));
    assert_eq!(a.definition, b.definition);
    assert_ne!(a.definition, c.definition);
}

#[test]
fn a_filter_that_trusts_what_is_claimed_is_pointed_out_where_it_runs() {
    let filter = b"journalmatch = ['SYSLOG_IDENTIFIER=x']\ntrust = 'claimed'\nfailregex = ['^failed from <ADDR>$']\n";
    let told = |jail: &[u8]| {
        let directory = directory(&[("filter.d/f.toml", filter), ("banish.toml", jail)]);
        let loaded = load(&Layout::Directory(directory.path().to_owned()));
        assert!(!loaded.any_error());
        loaded.problems.iter().map(|problem| (problem.severity, problem.key.clone())).collect::<Vec<_>>()
    };
    assert_eq!(told(b"[jail.f]\n"), []);
    assert_eq!(told(b"[jail.f]\nenabled = true\n"), [(Severity::Warning, "filter.f.trust".to_owned())]);

    let filter = [FILTER, b"[mode.stdout]\ntrust = 'claimed'\njournalmatch = ['SYSLOG_IDENTIFIER=x']\n"].concat();
    let told = |mode: &str| {
        let jail = format!("[jail.f]\nenabled = true\n{mode}");
        let directory = directory(&[("filter.d/f.toml", &filter), ("banish.toml", jail.as_bytes())]);
        let loaded = load(&Layout::Directory(directory.path().to_owned()));
        assert!(!loaded.any_error());
        loaded.problems.iter().map(|problem| problem.key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told(""), Vec::<String>::new());
    assert_eq!(told("mode = 'stdout'\n"), ["filter.f.mode.stdout.trust"]);
}

#[test]
fn there_is_an_end_to_the_fields_that_entries_are_asked_for() {
    let lines: Vec<String> = (0..1001).map(|n| format!("'_SYSTEMD_UNIT=x.service F{n}=1'")).collect();
    let filter = format!("journalmatch = [{}]\nfailregex = ['^<ADDR>$']\n", lines.join(","));
    let directory = directory(&[("filter.d/f.toml", filter.as_bytes()), ("filter.d/g.toml", FILTER)]);
    let text = "with it more than 1000 different fields are asked for";
    assert_eq!(problems_in(directory.path()), [format!("filter.d/f.toml: filter.f: {text}")]);
}

#[test]
fn what_is_shipped_is_right_and_says_the_defaults() {
    let shipped = load(&Layout::Directory("etc".into()));
    assert_eq!(shipped.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(left_out(&shipped), [""; 0]);
    let sshd = shipped.settings.jails.iter().find(|jail| jail.name.as_str() == "sshd").unwrap();
    assert!(sshd.enabled);
    assert_eq!((sshd.rules.maxretry, sshd.rules.action), (5, Action::Drop));
    assert_eq!(sshd.rules.findtime, Duration::from_secs(600));
    assert_eq!(sshd.rules.bantime, Length::For(Duration::from_secs(3600)));
    let Scope::Ports(ports) = &sshd.scope else { panic!("all ports") };
    assert_eq!(ports.ranges(), [(22, 22)]);
    assert_eq!((shipped.settings.firewall.replies, shipped.settings.firewall.scope), (Replies::Accept, Traffic::All));

    // banish.toml shows each key that has a default, and the default itself.
    let built_in = load(&Layout::Layers(Vec::new()));
    for given in &built_in.values {
        let shown = shipped.values.iter().find(|shown| shown.key == given.key);
        assert_eq!(
            shown.map(|shown| (&shown.value, shown.origin.is_some())),
            Some((&given.value, true)),
            "{}",
            given.key
        );
    }
    let main = |loaded: &Loaded| {
        loaded.values.iter().filter(|given| !given.key.contains("jail.") && !given.key.starts_with("filter.")).count()
    };
    assert_eq!(main(&shipped), main(&built_in));
}

#[test]
fn the_manual_has_every_key() {
    let manual = fs::read_to_string("man/banish.toml.5").unwrap();
    let built_in = load(&Layout::Layers(Vec::new()));
    let keys = built_in.values.iter().filter_map(|given| given.key.rsplit('.').next());
    let others =
        ["filter", "mode", "port", "journalmatch", "description", "trust", "session", "prefregex", "failregex"];
    for key in keys.chain(others).chain(["ignoreregex", "address", "field"]) {
        let plain = manual.replace("\\-", "-");
        assert!(plain.contains(&format!("\n.It Ic {key}")), "{key} has no entry in the manual");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_are_too_much(
        main in prop::collection::vec(any::<u8>(), 0..200),
        jail in "\\[jail\\.[a-z.\"]{0,4}\\]\n((enabled|port|filter|maxretry|bantime|ignoreip|mode|x) = ([0-9]{1,4}|'\\PC{0,8}'|\\[\\]|\\{\\}|true|1e9|1979-05-27)\n){0,6}",
        filter in "((failregex|journalmatch|session|trust|mode|field) = (\\['\\PC{0,12}'\\]|'\\PC{0,12}'|\\[\\{\\}\\]|\\{a=\\{\\}\\}|5)\n){0,4}",
    ) {
        let directory = directory(&[
            ("banish.toml", &main),
            ("jail.d/j.toml", jail.as_bytes()),
            ("filter.d/a.toml", filter.as_bytes()),
        ]);
        let loaded = load(&Layout::Directory(directory.path().to_owned()));
        for problem in &loaded.problems {
            prop_assert!(!problem.to_string().contains('\n'), "{}", problem);
        }
    }
}
