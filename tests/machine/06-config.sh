#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What is wrong in the configuration is told with its place, and never disturbs the running daemon.
. "$(dirname "$0")/lib.sh"
m rm -f /etc/banish/jail.d/{broken,other,stricter}.toml /etc/banish/filter.d/broken.toml
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

clean
put /etc/banish/jail.d/other.toml <<'TOML'
[jail.other]
enabled = true
filter = "there-is-none"
TOML
m systemctl restart banishd.service
check "with a broken jail the daemon still starts" within 30 caught_up
equal "the other jails run" "$before" "$(retry)"
found "and the journal tells what was left out" 'other' \
  "$(m journalctl -q --no-pager -u banishd MESSAGE_ID=199038647cc8480d998c5635b6e3691e --since "@$FRESH")"

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
check "taking the change away loads" m systemctl reload banishd.service
equal "and gives the shipped value back" "$before" "$(retry)"
