#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What is wrong in the configuration is told with its place, and never disturbs the running daemon.
. "$(dirname "$0")/lib.sh"
m rm -f /etc/banish/jail.d/{broken,other,stricter,allow}.toml /etc/banish/filter.d/{broken,sshd}.toml
fresh
put() { m sh -c 'cat >"$1"' sh "$1"; }
clean() { m rm -f /etc/banish/jail.d/{broken,other,stricter}.toml /etc/banish/filter.d/broken.toml; }
retry() { property /org/banish1/jail/sshd Jail MaxRetry; }

check "the shipped configuration is clean" m banishctl config check
pid=$(main_pid) before=$(retry)
m banishctl ban 192.0.2.36 >/dev/null

put /etc/banish/jail.d/broken.toml <<'TOML'
[jail.sshd]
maxretri = 3

[jail.broken]
enabled = true
filter = "broken"
findtime = "ten parsecs"
TOML
put /etc/banish/filter.d/broken.toml <<'TOML'
description = "a filter with a mistake"
journalmatch = ["_SYSTEMD_UNIT=example.service"]
failregex = ['^failed (from <ADDR>$']
TOML
out=$(m banishctl config check 2>&1); rc=$?
check "config check fails" test $rc -ne 0
found "it tells the unknown key and its place" 'jail\.d/broken\.toml:2:[0-9]+: .*maxretri' "$out"
found "it tells the wrong duration and its place" 'jail\.d/broken\.toml:7:[0-9]+: .*findtime' "$out"
found "it tells the wrong regex and its place" 'filter\.d/broken\.toml:3:[0-9]+: ' "$out"

refuse "systemctl reload fails" m systemctl reload banishd.service
check "the daemon runs on" m systemctl is-active banishd.service
equal "it is the same process" "$pid" "$(main_pid)"
equal "with the configuration it had" "$before" "$(retry)"
check "and the bans it had" banned 192.0.2.36 manual
check "the journal says that the reload failed" test -n \
  "$(m journalctl -q --no-pager -u banishd MESSAGE_ID=ac5afc9ce22f482ebdfad7725966ea40 --since "@$FRESH")"
journal=$(m journalctl -q --no-pager -o cat -u banishd --since "@$FRESH")
for place in 'jail\.d/broken\.toml:2:' 'jail\.d/broken\.toml:7:' 'filter\.d/broken\.toml:3:'; do
  found "and tells ${place//\\/}" "$place" "$journal"; done
refuse "banishctl reload fails too" m banishctl reload

found "check tells the refused reload" 'the reload of .* was refused \([0-9]+ errors\)' "$(m banishctl check)"
refuse "and fails" m banishctl check
found "so does status, at its top" '^ +Wrong: the reload of .* was refused' "$(m banishctl status | sed -n 2p)"
found "and systemctl status" 'Status: "configuration in error: reload of .* refused' "$(m systemctl status --no-pager -n 0 banishd.service)"

# A start that finds errors.
clean
m sh -c 'cat >/etc/banish/jail.d/allow.toml' <<'TOML'
[default]
ignoreip = ["198.51.100.0/24"]
TOML
check "a good change loads" m systemctl reload banishd.service
check "and check has nothing left to tell" m banishctl check
former() {
  check "$1: the daemon starts" within 30 caught_up
  equal "$1: sshd guards with the settings it had" "$before" "$(retry)"
  found "$1: the allow list is whole" '198\.51\.100\.0' "$(m nft list set inet banish allow4)"
  found "$1: status begins with it" '^ +Wrong: .* what runs is the former configuration, of ' "$(m banishctl status | sed -n 2p)"
  found "$1: status shows sshd" '^sshd +enabled' "$(m banishctl status)"
  found "$1: check names the place" "error: .*$2" "$(m banishctl check)"
  refuse "$1: check fails" m banishctl check
  found "$1: systemctl status says so" 'Status: "configuration in error: running the former one' \
    "$(m systemctl status --no-pager -n 0 banishd.service)"
  found "$1: and the journal, as an error" 'running the former configuration' \
    "$(m journalctl -q --no-pager -o cat -b -p err -u banishd MESSAGE_ID=5c23b42c074a4a2fa9fb6dbfc05024c7 -n 1)"
}
breaks() {   # HOW: breaks the configuration; the place that is told goes to standard output
  case $1 in
    typo) put /etc/banish/jail.d/other.toml <<<$'[jail.sshd]\nmaxretry = three'; echo 'other\.toml:2:';;
    allow) put /etc/banish/jail.d/allow.toml <<<$'[default]\nignoreip = ["198.51.100.1/24"]'; echo 'allow\.toml:2:';;
    mode) put /etc/banish/jail.d/other.toml <<<$'[jail.sshd]\nmaxretry = 4'; m chmod 600 /etc/banish/jail.d/other.toml; echo 'other\.toml: ';;
    directory) m chmod 700 /etc/banish/jail.d; echo 'jail\.d: ';;
    filter) put /etc/banish/filter.d/sshd.toml <<<'failregex = ["(<ADDR>"]'; echo 'filter\.d/sshd\.toml:';;
  esac
}
mends() {
  m rm -f /etc/banish/jail.d/other.toml /etc/banish/filter.d/sshd.toml; m chmod 755 /etc/banish/jail.d
  put /etc/banish/jail.d/allow.toml <<<$'[default]\nignoreip = ["198.51.100.0/24"]'
}
for how in typo allow mode directory filter; do
  place=$(breaks $how)
  m systemctl restart banishd.service
  former "$how" "$place"
  mends
  check "$how: mended, the files load" m systemctl reload banishd.service
  check "$how: and nothing is wrong" m banishctl check
  absent "$how: nor shown" 'Wrong|LEFT OUT' "$(m banishctl status)"
  absent "$how: nor in systemctl status" 'in error' "$(m systemctl status --no-pager -n 0 banishd.service)"
done
breaks typo >/dev/null
check "it reboots with a typo" e2e_reboot
check "the bans are in force before the daemon runs" m systemctl is-active banish-restore.service
former "after a reboot" 'other\.toml:2:'
check "the ban is still there" banned 192.0.2.36 manual
failed_logins 192.0.2.35 5
failed_logins 198.51.100.12 6
check "who fails is banned" within 60 banned 192.0.2.35
check "who is allowed is not" within 60 failures_logged 5 198.51.100.12
check "not banned" not_banned 198.51.100.12
end_clients

# Where no configuration is kept.
m systemctl stop banishd.service
m rm -f /var/lib/banish/configuration
put /etc/banish/jail.d/other.toml <<'TOML'
[jail.other]
enabled = true
filter = "there-is-none"
TOML
m systemctl start banishd.service
check "with a broken jail the daemon still starts" within 30 caught_up
equal "the other jails run" "$before" "$(retry)"
found "status has a row for the one left out" '^other  LEFT OUT  .*other\.toml:' "$(m banishctl status)"
found "and the journal tells that it does not run" 'jail other is NOT running' \
  "$(m journalctl -q --no-pager -o cat -b -p err -u banishd MESSAGE_ID=84fcd650dd11418284d1ed596e05b2f4)"
found "so does systemctl status" 'jail other is NOT running' "$(m systemctl status --no-pager -n 0 banishd.service)"
m rm -f /etc/banish/jail.d/allow.toml

clean
put /etc/banish/jail.d/stricter.toml <<'TOML'
[jail.sshd]
maxretry = 2
TOML
check "a good change loads" m systemctl reload banishd.service
equal "and holds" 2 "$(retry)"
check "bans are kept" banned 192.0.2.36 manual
failed_logins 192.0.2.37 2
check "two failures are enough now" within 30 banned 192.0.2.37
clean
put /etc/banish/jail.d/stricter.toml <<<$'[jail.sshd]\nenabled = false'
found "a reload tells of a jail that no longer runs" 'sshd no longer runs' "$(m banishctl reload)"
found "and status of a disabled jail how to enable it" 'enabled = true' "$(m banishctl status sshd)"
clean
check "taking the change away loads" m systemctl reload banishd.service
equal "and gives the shipped value back" "$before" "$(retry)"
