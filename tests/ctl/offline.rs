//! What needs no daemon: trying filters, checking the configuration, the manual page.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{banishctl, journal, objects, run, text};

const LINES: &[u8] = b"Failed password for root from 192.0.2.1 port 22 ssh2\n\
    Failed password for invalid user \x1b[2J\xff from 2001:db8::7 port 5 ssh2\n\
    \n\
    Failed password for x from 192.0.2.9 port 22 ssh2 from 192.0.2.3 port 4 ssh2\n\
    nothing";

fn on_lines(more: &[&str]) -> std::process::Output {
    let words = [&["test", "--config", "etc", "--filter", "sshd", "--line-file", "-"], more].concat();
    let mut child = banishctl(&words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(LINES).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn each_line_has_its_object_in_order() {
    let output = on_lines(&["--json"]);
    assert!(output.status.success());
    let objects = objects(&output);
    let seen: Vec<Value> =
        objects.iter().map(|object| json!([object["n"], object["match"], object["subject"]])).collect();
    let expected = [
        json!([1, true, "192.0.2.1"]),
        json!([2, true, "2001:db8::7"]),
        json!([3, false, null]),
        json!([4, true, "192.0.2.3"]),
        json!([5, false, null]),
    ];
    assert_eq!(seen, expected);
    assert_eq!(objects[0]["captures"]["user"], json!("root"));
    assert_eq!(objects[1]["captures"]["user"], json!([0x1b, 0x5b, 0x32, 0x4a, 0xff]));
    assert!(!output.stdout.contains(&0x1b));
}

#[test]
fn for_people_there_is_a_summary_and_nothing_controls_their_terminal() {
    let output = on_lines(&[]);
    let shown = text(&output.stdout);
    assert!(shown.starts_with("Filter sshd, mode normal\n"), "{shown}");
    assert!(shown.contains("user=\\u{1b}[2J\\xff") && shown.ends_with("5 inputs: 3 failure, 2 no-match.\n"), "{shown}");
    let plain = text(&on_lines(&["--no-legend"]).stdout);
    assert!(!plain.contains("HITS") && !plain.contains("inputs:"), "{plain}");
}

#[test]
fn a_filter_in_a_file_is_tried_by_its_path() {
    let words = [
        "test",
        "--filter",
        "etc/filter.d/sshd.toml",
        "--json",
        "Failed password for root from 192.0.2.1 port 22 ssh2",
    ];
    assert_eq!(objects(&run(&words))[0]["subject"], json!("192.0.2.1"));
}

#[test]
fn entries_are_held_against_the_journalmatch_unless_any_source_will_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("entries");
    let message = "Failed password for root from 192.0.2.1 port 22 ssh2";
    let entry = |unit: &str, message: Value| {
        json!({ "__REALTIME_TIMESTAMP": "1795345837995762", "_BOOT_ID": "4ee1aa93f3a64d759bbd45e2b567805e", "_UID": "0",
                "_PID": "7", "_SYSTEMD_UNIT": unit, "SYSLOG_IDENTIFIER": "sshd", "MESSAGE": message })
    };
    let entries = [
        entry("ssh.service", json!(message)),
        entry("evil.service", json!(message)),
        entry("ssh.service", json!(message.as_bytes())),
        entry("ssh.service", Value::Null),
    ];
    let lines: Vec<String> = entries.iter().map(|entry| format!("{entry}\n\n")).collect();
    std::fs::write(&file, lines.concat()).unwrap();
    let outcomes = |more: &[&str]| -> Vec<Value> {
        let words = ["test", "--config", "etc", "--filter", "sshd", "--json", "--entries", file.to_str().unwrap()];
        objects(&run(&[&words, more].concat())).iter().map(|object| object["outcome"].clone()).collect()
    };
    assert_eq!(outcomes(&[]), ["failure", "elsewhere", "failure", "no-match"]);
    assert_eq!(outcomes(&["--any-source"]), ["failure", "failure", "failure", "no-match"]);

    std::fs::write(&file, "{}\n\nno json\n").unwrap();
    let output = run(&["test", "--config", "etc", "--filter", "sshd", "--entries", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.starts_with(&format!("banishctl: {}:3: no journal entry", file.display())), "{said}");
}

#[test]
fn a_refused_entry_is_told_again_when_nothing_has_settled_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("entries");
    let refused = "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.1";
    let entry = |second: u32, pid: &str, message: &str| {
        json!({ "__REALTIME_TIMESTAMP": format!("17953458{second:02}995762"), "_BOOT_ID": "4ee1aa93f3a64d759bbd45e2b567805e",
                "_UID": "0", "_PID": pid, "_SYSTEMD_UNIT": "ssh.service", "SYSLOG_IDENTIFIER": "sshd", "MESSAGE": message })
    };
    let entries = [
        entry(10, "7", refused),
        entry(11, "8", refused),
        entry(12, "8", "Failed password for root from 192.0.2.1 port 22 ssh2"),
        entry(40, "9", "Connection from 192.0.2.1 port 22"),
        entry(41, "9", refused),
    ];
    let lines: Vec<String> = entries.iter().map(|entry| format!("{entry}\n")).collect();
    std::fs::write(&file, lines.concat()).unwrap();
    let words = ["test", "--config", "etc", "--filter", "sshd", "--entries", file.to_str().unwrap()];
    let told: Vec<Value> = objects(&run(&[&words[..], &["--json"]].concat()))
        .iter()
        .map(|object| json!([object["n"], object["outcome"], object["subject"]]))
        .collect();
    let expected = [
        json!([1, "refused", null]),
        json!([2, "refused", null]),
        json!([3, "failure", "192.0.2.1"]),
        json!([1, "failure", "192.0.2.1"]),
        json!([4, "nofail", null]),
        json!([5, "refused", null]),
        json!([5, "failure", "192.0.2.1"]),
    ];
    assert_eq!(told, expected);
    let shown = text(&run(&words).stdout);
    assert!(shown.ends_with("5 inputs: 3 failure, 1 nofail, 1 refused.\n"), "{shown}");
}

#[test]
fn one_session_joins_lines_that_stand_apart_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let filter = dir.path().join("f.toml");
    let text = "journalmatch = ['_SYSTEMD_UNIT=f.service']\nsession = '_PID'\n\
                failregex = ['^<F-NOFAIL>hello</F-NOFAIL> <ADDR>$', '^denied$']\n";
    std::fs::write(&filter, text).unwrap();
    let subjects = |more: &[&str]| -> Vec<Value> {
        let words =
            [&["test", "--json", "--filter", filter.to_str().unwrap()], more, &["hello 192.0.2.5", "denied"]].concat();
        objects(&run(&words)).iter().map(|object| object["subject"].clone()).collect()
    };
    assert_eq!(subjects(&["--one-session"]), [Value::Null, json!("192.0.2.5")]);
    assert_eq!(subjects(&[]), [Value::Null, Value::Null]);
}

#[test]
fn recorded_entries_of_sshd_are_tried_one_by_one() {
    let Some(data) = std::env::var_os("BANISH_TEST_DATA") else {
        return eprintln!("skipped: BANISH_TEST_DATA is not set");
    };
    let samples = std::fs::read_to_string(Path::new(&data).join("samples/sshd.jsonl")).unwrap();
    let samples: Vec<Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("entries");
    let lines: Vec<String> = samples.iter().map(|sample| format!("{}\n", sample["entry"])).collect();
    std::fs::write(&file, lines.concat()).unwrap();
    let words = ["test", "--config", "etc", "--filter", "sshd", "--json", "--entries", file.to_str().unwrap()];
    let objects = objects(&run(&words));
    assert_eq!(objects.len(), samples.len());
    let mut matched = 0;
    for (at, (object, sample)) in objects.iter().zip(&samples).enumerate() {
        assert_eq!(object["n"], json!(at + 1));
        matched += usize::from(object["match"] == json!(true));
        if sample["forged"] == json!(true) {
            assert_eq!(object["match"], json!(false), "{sample}");
        }
    }
    assert!(matched > 0);
}

#[test]
fn a_bare_pattern_is_a_filter_that_takes_entries_from_anywhere() {
    let pattern = "^login of <F-USER>.*</F-USER> from <ADDR> failed$";
    let line = "login of bob from 192.0.2.1 failed";
    let tried = objects(&run(&["test", "--filter", pattern, "--json", line, "other"]));
    assert_eq!((&tried[0]["subject"], &tried[0]["captures"]["user"]), (&json!("192.0.2.1"), &json!("bob")));
    assert_eq!(tried[1]["match"], json!(false));
    let mut child = banishctl(&["test", "--filter", pattern, "--json", "--entries", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(json!({ "MESSAGE": line }).to_string().as_bytes()).unwrap();
    assert_eq!(objects(&child.wait_with_output().unwrap())[0]["match"], json!(true));
    assert!(text(&run(&["test", "--filter", pattern, line]).stdout).starts_with("Filter of one pattern\n"));
    let output = run(&["test", "--filter", "^fr\u{f6}m (<ADDR>$", line]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("pattern:1:7: this parenthesis is never closed\n"));
    let output = run(&["test", "--filter", "^no address$", line]);
    assert!(text(&output.stderr).contains("captures no address"), "{}", text(&output.stderr));
}

#[test]
fn a_jails_filter_comes_with_its_mode_and_its_journalmatch() {
    let dir = tempfile::tempdir().unwrap();
    for below in ["filter.d", "jail.d"] {
        std::fs::create_dir(dir.path().join(below)).unwrap();
    }
    std::fs::write(
        dir.path().join("filter.d/f.toml"),
        "journalmatch = ['_SYSTEMD_UNIT=f.service']\nfailregex = ['^no <ADDR>$']\n[mode.more]\nfailregex = ['^bye <ADDR>$']\n",
    )
    .unwrap();
    std::fs::write(
        dir.path().join("jail.d/j.toml"),
        "[jail.j]\nenabled = false\nfilter = 'f'\nmode = 'more'\njournalmatch = ['_SYSTEMD_UNIT=g.service']\n[jail.k]\nport = 'x y'\n",
    )
    .unwrap();
    let config = dir.path().to_str().unwrap();
    let entries = dir.path().join("entries");
    let entry = |unit: &str| format!("{}\n", json!({ "MESSAGE": "bye 192.0.2.1", "_SYSTEMD_UNIT": unit }));
    std::fs::write(&entries, entry("f.service") + &entry("g.service")).unwrap();
    let on = |jail: &str| {
        run(&["test", "--config", config, "--jail", jail, "--json", "--entries", entries.to_str().unwrap()])
    };
    let told: Vec<Value> = objects(&on("j")).iter().map(|object| object["match"].clone()).collect();
    assert_eq!(told, [json!(false), json!(true)]);
    let output = on("jj");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("there is no jail \"jj\"; did you mean j?\n"), "{}", text(&output.stderr));
    assert!(text(&on("k").stderr).contains("jail.d/k.toml") || text(&on("k").stderr).contains("jail.k"));
}

#[test]
fn the_journals_past_is_tried_from_a_point_in_time_on() {
    if let Some(reason) = journal::missing_writer() {
        return eprintln!("skipped: {reason}");
    }
    let dir = tempfile::tempdir().unwrap();
    let start = 1_795_000_000_000_000;
    let record = |at: u64, unit: &str, message: &str| {
        let record = journal::Record::at(start + at * 1_000_000).with("_UID", "0").with("_PID", at.to_string());
        record.with("_SYSTEMD_UNIT", unit).with("SYSLOG_IDENTIFIER", "sshd").with("MESSAGE", message)
    };
    let failed = "Failed password for root from 192.0.2.1 port 22 ssh2";
    let records = [
        record(1, "ssh.service", failed),
        record(20, "ssh.service", "Server listening on :: port 22."),
        record(21, "cron.service", failed),
        record(22, "ssh.service", failed),
    ];
    journal::write(&dir.path().join("system.journal"), records);
    let directory = dir.path().to_str().unwrap();
    let since = |more: &[&str]| {
        let words = [&["test", "--config", "etc", "--filter", "sshd", "--journal-directory", directory], more].concat();
        run(&words)
    };
    let told = |output: &std::process::Output| -> Vec<Value> {
        objects(output).iter().map(|object| json!([object["n"], object["match"]])).collect()
    };
    assert_eq!(told(&since(&["--json", "--since", "@1795000010"])), [json!([1, false]), json!([2, true])]);
    let anywhere = told(&since(&["--json", "--any-source", "--since", "@1795000000"]));
    assert_eq!(anywhere, [json!([1, true]), json!([2, false]), json!([3, true]), json!([4, true])]);
    let shown = text(&since(&["--since", "@0"]).stdout);
    assert!(shown.contains("3 inputs: 2 failure, 1 no-match.") && shown.contains("µs"), "{shown}");
    assert!(told(&since(&["--json", "--since", "now"])).is_empty());
}

#[test]
fn a_filter_that_cannot_be_used_says_why() {
    let output = run(&["test", "--config", "etc", "--filter", "shd", "line"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "no filter \"shd\" in filter.d; did you mean sshd?\nbanishctl: the filter shd cannot be used\n";
    assert_eq!(text(&output.stderr), expected);
    let output = run(&["test", "--config", "etc", "--filter", "sshd", "--mode", "most", "line"]);
    assert!(text(&output.stderr).contains("has no mode \"most\""));
}

#[test]
fn all_problems_of_a_configuration_are_told_with_their_places() {
    let broken = "tests/ctl/broken";
    let etc = "tests/ctl/broken/etc";
    let output = run(&["config", "check", "--config", etc]);
    assert_eq!(output.status.code(), Some(1));
    let expected = std::fs::read_to_string(format!("{}/{broken}/expected", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert_eq!(text(&output.stdout), expected);

    let output = run(&["config", "check", "--config", etc, "--json"]);
    let problems = objects(&output);
    assert_eq!(problems[2]["severity"], json!("error"));
    assert_eq!(problems[2]["place"]["line"], json!(3));
    assert_eq!(problems[2]["key"], json!("jail.sshd.maxretry"));
}

#[test]
fn root_s_check_judges_as_the_daemon_s_user() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let local = dir.path().join("banish.toml");
    let check = |mode: u32| {
        std::fs::set_permissions(&local, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = run(&["config", "check", "--config", dir.path().to_str().unwrap()]);
        (output.status.code(), text(&output.stdout))
    };
    std::fs::write(&local, "[default]\nmaxretry = 4\n").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(check(0o644).0, Some(0));
    let (code, told) = check(0o600);
    assert_eq!(check(0o644).0, Some(0));
    if run_as_root() {
        let path = local.canonicalize().unwrap();
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(&format!("chmod o+r {}\n", path.display())), "{told}");
    } else {
        assert_eq!(code, Some(0), "{told}");
    }
}

fn run_as_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0)
}

#[test]
fn the_shipped_configuration_has_no_problems_and_every_value_its_origin() {
    let output = run(&["config", "check", "--config", "etc"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stdout).starts_with("0 errors and 0 warnings in "));

    let shown = text(&run(&["config", "show", "--config", "etc"]).stdout);
    let line = shown.lines().find(|line| line.starts_with("jail.sshd.filter = ")).unwrap();
    assert!(line.starts_with("jail.sshd.filter = \"sshd\" ") && line.contains("  # etc/jail.d/sshd.toml:"), "{line}");
    let values = objects(&run(&["config", "show", "--config", "etc", "--json"]));
    let value = values.iter().find(|value| value["key"] == json!("jail.sshd.filter")).unwrap();
    assert_eq!(value["value"], json!("\"sshd\""));
    assert_eq!(value["origin"]["file"], json!("etc/jail.d/sshd.toml"));
}

#[test]
fn a_broken_pipe_is_success() {
    let mut child = banishctl(&["config", "show", "--config", "etc"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_makes_no_sense_is_wrong_usage_and_help_is_not() {
    assert_eq!(run(&["ban"]).status.code(), Some(2));
    let output = run(&["ban", "\u{1b}[2J"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!output.stderr.contains(&0x1b), "{}", text(&output.stderr));
    let help = run(&["--help"]);
    assert!(help.status.success() && help.stderr.is_empty());
    assert_eq!(text(&run(&["--version"]).stdout), format!("banishctl {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn where_there_is_no_bus_that_is_said() {
    let output = run(&["status", "--bus-address", "unix:path=/nonexistent/bus"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("banishctl: cannot connect to the bus: "));
}

#[test]
fn the_manual_page_is_what_the_definition_says() {
    let written = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/man/banishctl.1")).unwrap();
    let output = run(&["manual"]);
    assert!(text(&output.stdout) == written, "run: banishctl manual > man/banishctl.1");
}

#[test]
fn every_shell_gets_its_completions() {
    for (shell, start) in [("bash", "_banishctl()"), ("zsh", "#compdef banishctl"), ("fish", "complete ")] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && text(&output.stdout).starts_with(start), "{shell}");
    }
}

/// What bash offers at the end of this line.
pub fn offered(line: &str) -> Vec<String> {
    let script = r#"source <(banishctl completions bash) && complete -p banishctl >/dev/null || exit 1
        COMP_LINE=$1 COMP_POINT=${#1}; _banishctl && printf '%s\n' "${COMPREPLY[@]}""#;
    let programs = Path::new(env!("CARGO_BIN_EXE_banishctl")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = std::process::Command::new("bash").args(["-c", script, "bash", line]).env("PATH", path).output();
    let output = output.unwrap();
    assert_eq!(text(&output.stderr), "", "{line}");
    text(&output.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_offers_what_there_is_and_nothing_where_there_is_no_daemon() {
    let offers = |line: &str, name: &str| {
        let offered = offered(line);
        assert!(offered.iter().any(|offer| offer == name), "{line}: {offered:?}");
    };
    offers("banishctl sta", "status");
    for line in ["status ", "status ss", "list --jail ", "list -j s", "unban --jail ", "test --jail ", "attempt ss"] {
        offers(&format!("banishctl --config etc {line}"), "sshd");
    }
    for line in ["pause ", "resume ", "attempt ", "ban 192.0.2.1 --jail "] {
        assert!(!offered(&format!("banishctl --config etc {line}")).contains(&"dovecot".into()), "{line}");
        offers(&format!("banishctl --config etc {line}"), "sshd");
    }
    offers("banishctl --config etc ban 192.0.2.1 --jail=ss", "sshd");
    offers("banishctl --config etc test --filter ", "dovecot");
    offers("banishctl --config etc test --filter etc/filter.d/dov", "etc/filter.d/dovecot.toml");
    offers("banishctl --config etc test --filter sshd --mode ", "aggressive");
    assert!(!offered("banishctl --config etc test --filter sshd --mode ").contains(&"stdout".into()));
    offers("banishctl test --filter sshd --line-file README", "README.md");
    offers("banishctl config ", "show");
    let nobody = offered("banishctl --bus-address unix:path=/nonexistent/bus unban 1");
    assert!(nobody.iter().all(|offer| offer.starts_with('-')), "{nobody:?}");
    assert!(offered("banishctl --config /nonexistent status ss").is_empty());
}

#[test]
fn the_table_is_removed_without_a_daemon() {
    let unshared = |script: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--net", "sh", "-c", script]).env("BANISHCTL", env!("CARGO_BIN_EXE_banishctl"));
        command.output().unwrap()
    };
    let probe = unshared("nft add table inet banish");
    if !probe.status.success() {
        return eprintln!("skipped: needs root and nft: {}", String::from_utf8_lossy(&probe.stderr));
    }
    let script = "nft add table inet banish && nft add table inet other && $BANISHCTL disarm --json && \
                  $BANISHCTL disarm --json && nft list tables";
    let output = unshared(script);
    assert_eq!(text(&output.stdout), "{\"table\":\"removed\"}\n{\"table\":\"absent\"}\ntable inet other\n");
}
