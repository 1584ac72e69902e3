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

m systemctl stop banishd.service
check "a stopped daemon leaves the bans in the kernel" cut_off 192.0.2.38
check "banishctl disarm works without the daemon" m banishctl disarm
refuse "it removes the table" m nft list table inet banish
check "and everybody is let in" let_in 192.0.2.38

property /org/banish1 Manager Version >/dev/null
check "a call over the bus starts an enabled daemon" m systemctl is-active banishd.service
check "the start restores what the ledger knows" within 30 cut_off 192.0.2.38
m systemctl disable --quiet --now banishd.service
e2e_unit --uid=alice timeout 20 busctl call "$M" /org/banish1 org.freedesktop.DBus.Peer Ping >/dev/null 2>&1
refuse "but nobody starts by a call what the administrator disabled" m systemctl is-active banishd.service
m systemctl enable --quiet --now banishd.service
