#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The switch from fail2ban as README says it: the release's own configuration with a jail.local beside it comes over, and
# what it says is what happens. fail2ban's package is only unpacked, on the host.
. "$(dirname "$0")/lib.sh"
project=$(dirname "$(readlink -f "$0")")/../..
fresh

package=${CARGO_TARGET_DIR:-$project/target}/fail2ban-$E2E_SUITE
why=$("$project/benches/fail2ban" of "$E2E_SUITE" "$package" 2>&1) || { note "skipped: fail2ban's package is not to be had: $why"; exit 0; }
e2e_push "$package/root/etc/fail2ban" /etc
m sh -c 'cat >/etc/fail2ban/jail.local' <<'INI'
[DEFAULT]
ignoreip = 127.0.0.1/8 192.0.2.11
backend = systemd
bantime = 2h

[sshd]
enabled = true
maxretry = 3

[own]
enabled = true
port = 8080
maxretry = 2
bantime = 1d
INI
m sh -c 'cat >/etc/fail2ban/filter.d/own.conf' <<'INI'
[INCLUDES]
before = common.conf
[Definition]
_daemon = ownd
failregex = ^%(__prefix_line)sno entry for <F-USER>(?!friend)\S+</F-USER> from <HOST>$
journalmatch = _SYSTEMD_UNIT=ownd.service
INI

before=$(m find /etc/banish -type f)
out=$(m banishctl import --check 2>&1); rc=$?
equal "import --check succeeds" 0 "$rc"
found "and tells what comes over" 'own' "$out"
equal "and writes nothing" "$before" "$(m find /etc/banish -type f)"
out=$(m banishctl import 2>&1); rc=$?
equal "import succeeds" 0 "$rc"
[ $rc = 0 ] || note "$out"
check "what it wrote is right" m banishctl config check
check "and is taken" m systemctl reload banishd.service
shown=$(m banishctl config show --no-pager 2>&1)
found "each value says where it stands" 'jail\.sshd\.maxretry = 3 .*# /etc/banish/jail\.d/fail2ban\.toml' "$shown"

failed_logins 192.0.2.20 3
failed_logins 192.0.2.11 4
check "three failed logins are a ban now" within 30 banned 192.0.2.20
until=$(end_of 192.0.2.20)
equal "of two hours" 2 $(( (until / 1000000 - $(date +%s) + 600) / 3600 ))
check "(who is to be ignored has failed too)" within 30 failures_logged 4 192.0.2.11
check "and is let in" let_in 192.0.2.11
end_clients

# A filter of the user's own, with a look-ahead: its daemon's lines, and the same lines of somebody else.
line() { m systemd-run --quiet --wait --collect --unit="$1" sh -c "echo 'no entry for $2 from $3'; sleep 0.3"; }
line ownd root 192.0.2.21; line ownd friend 192.0.2.22; line ownd root 192.0.2.21; line ownd friend 192.0.2.22
line other root 192.0.2.23; line other root 192.0.2.23
check "a filter of one's own bans" within 30 banned 192.0.2.21 own
check "whom it spares is spared" not_banned 192.0.2.22
check "and what another unit says is nothing" not_banned 192.0.2.23

# What a stranger writes may keep a pattern that looks behind from an answer: that ends, and is told.
m sh -c 'cat >/etc/banish/filter.d/slow.toml' <<'TOML'
journalmatch = ["_SYSTEMD_UNIT=ownd.service"]
failregex = ['^(?:a|aa|aaa)*(?<=b) no entry from <ADDR>$']
TOML
m sh -c 'printf "[jail.slow]\nenabled = true\n" >/etc/banish/jail.d/slow.toml'
check "a filter with a slow pattern is taken" m systemctl reload banishd.service
m systemd-run --quiet --wait --collect --unit=ownd python3 -c 'import time; print("a" * 300 + " no entry from 192.0.2.24"); time.sleep(0.3)'
gave_up() { m banishctl check 2>&1 | grep -q 'slow.*failregex\[0\]'; }
check "check says which pattern gave up" within 20 gave_up
line ownd root 192.0.2.25; line ownd root 192.0.2.25
check "and the other jails go on" within 20 banned 192.0.2.25 own
m sh -c 'rm -f /etc/banish/filter.d/slow.toml /etc/banish/jail.d/slow.toml'

out=$(m banishctl import 2>&1)
found "a second import finds everything as it is" 'unchanged' "$out"
m sh -c 'rm -rf /etc/fail2ban; cd /etc/banish && rm -f banish.toml.d/fail2ban.toml jail.d/fail2ban.toml filter.d/own.toml'
check "and all of it can be taken back" m systemctl reload banishd.service
