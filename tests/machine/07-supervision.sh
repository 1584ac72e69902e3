#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The unit is shut tight, a hung daemon is restarted by the watchdog, a killed one by systemd, and journald may restart.
. "$(dirname "$0")/lib.sh"
fresh
new_pid() { local p; p=$(main_pid); [ "$p" -gt 1 ] && [ "$p" != "$pid" ]; }

exposure=$(m systemd-analyze security --no-pager banishd.service | sed -n 's/.*exposure level for banishd.service: \([0-9.]*\).*/\1/p')
note "systemd-analyze security: $exposure"
check "systemd-analyze security gives at most 1.5" awk -v e="${exposure:-10}" 'BEGIN { exit !(e <= 1.5) }'
equal "systemd-analyze verify has nothing to say" "" "$(m systemd-analyze verify --man=no banishd.service 2>&1 | grep -F banish)"

m banishctl ban 192.0.2.38 >/dev/null
pid=$(main_pid)
m kill -KILL "$pid"
check "a killed daemon is started again" within 20 new_pid
check "and keeps the bans" within 30 banned 192.0.2.38 manual

# The watchdog with a shorter time than the unit's, so that the test need not wait for half a minute.
m sh -c 'mkdir -p /run/systemd/system/banishd.service.d; printf "[Service]\nWatchdogSec=3\n" >/run/systemd/system/banishd.service.d/test.conf'
m systemctl daemon-reload; m systemctl restart banishd.service; within 30 caught_up
pid=$(main_pid)
if [ "$pid" -gt 1 ]; then
  sleep 7; equal "a daemon that is well feeds its watchdog" "$pid" "$(main_pid)"
  m kill -STOP "$pid"
  check "while it hangs the kernel keeps the ban" cut_off 192.0.2.38
  check "a daemon that hangs is restarted" within 30 new_pid
  check "and keeps the bans" within 30 banned 192.0.2.38 manual
else not_ok "banishd runs with a short watchdog"; fi
m rm -r /run/systemd/system/banishd.service.d; m systemctl daemon-reload; m systemctl restart banishd.service
within 30 caught_up
pid=$(main_pid)

m systemctl restart systemd-journald.service
failed_logins 192.0.2.39
check "failures are counted after a restart of journald" within 40 banned 192.0.2.39
m journalctl --rotate
failed_logins 192.0.2.32
check "and after a rotation" within 40 banned 192.0.2.32
equal "by the same process" "$pid" "$(main_pid)"
end_clients

check "an administrator restarts as often as he likes" m sh -c 'for i in $(seq 15); do systemctl restart banishd.service || exit 1; done'

# What keeps it from starting goes away after more starts than a limit would allow.
m sh -c 'mkdir -p /run/systemd/system/banishd.service.d
printf "[Service]\nRestartSec=300ms\nExecStartPre=/usr/bin/test -e /run/may-start\n" >/run/systemd/system/banishd.service.d/test.conf; systemctl daemon-reload'
refuse "(it cannot start)" m systemctl restart banishd.service
tries() { [ "$(m systemctl show -P NRestarts banishd.service)" -ge 15 ]; }
check "it is tried again and again" within 60 tries
m touch /run/may-start
check "and starts by itself when it can" within 30 m systemctl is-active banishd.service
m sh -c 'rm -r /run/systemd/system/banishd.service.d /run/may-start; systemctl daemon-reload'
check "(with the unit as it was)" m systemctl restart banishd.service

journals() { m sh -c 'for d in /var/log/journal /run/log/journal; do [ ! -d $d ] || chmod '"$1"' $d; done'; }
within 30 caught_up; m banishctl unban 192.0.2.39 >/dev/null
journals 0000
check "it starts though it may read no journal" m systemctl restart banishd.service
unread() { m banishctl check 2>&1 | grep -q 'journal local cannot be read'; }
check "and says so" within 10 unread
check "the bans are in force" cut_off 192.0.2.38
check "and orders are taken" m banishctl ban 192.0.2.33
failed_logins 192.0.2.34
check "(five failures are logged)" within 60 failures_logged 5 192.0.2.34
pid=$(main_pid)
journals 2755
check "what it has missed is counted when it may read again" within 90 banned 192.0.2.34
equal "by the same process" "$pid" "$(main_pid)"
end_clients

m systemctl stop banishd.service
check "a stopped daemon leaves the bans in the kernel" cut_off 192.0.2.38
check "banishctl disarm works without the daemon" m banishctl disarm
refuse "it removes the table" m nft list table inet banish
check "and everybody is let in" let_in 192.0.2.38

property /org/banish1 Manager Version >/dev/null 2>&1
refuse "a call over the bus starts nothing" m systemctl is-active banishd.service
m systemctl start banishd.service
check "the start restores what the ledger knows" within 30 cut_off 192.0.2.38
m systemctl disable --quiet --now banishd.service
e2e_unit --uid=alice timeout 20 busctl call "$M" /org/banish1 org.freedesktop.DBus.Peer Ping >/dev/null 2>&1
refuse "nor what the administrator disabled" m systemctl is-active banishd.service
m systemctl enable --quiet --now banishd.service
