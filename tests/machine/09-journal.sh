#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Whatever becomes of the journal while hosts fail to log in — rotated, vacuumed, its journald killed, moved to the disk,
# in a namespace, under another machine id — every entry in it counts once.
. "$(dirname "$0")/lib.sh"
fresh

JAIL=/org/banish1/jail/fault
RECORD_GAP=7ea71edb05b84633a8fbc4fa444c6494 RECORD_FAILED=ca74b48e454b4b55960b0cf3a9ba5525
counted() { property "$JAIL" Jail FailuresTotal; }
counted_is() { [ "$(counted)" = "$1" ] || { echo "counted: $(counted)"; return 1; }; }
records() { m journalctl -q --no-pager -o cat -u banishd.service MESSAGE_ID="$1" --since "@$FRESH"; }
has_record() { [ "$(records "$1" | grep -cE -- "${2:-.}")" -ge 1 ]; }
# N: so many failures, one after the other, told to journald by syslog.
logged() { m sh -c 'for i in $(seq "$1"); do echo "failed from 203.0.113.7 n $i"; done | logger -t fault' sh "$1"; }
in_journal() { m journalctl -q --no-pager -o cat -t fault --since "@$FRESH" "$@" | grep -c '^failed from'; }
# Until the journal has no more of them than banishd has counted; what both say.
agree() {
  local i j c; for i in $(seq 100); do
    j=$(in_journal) c=$(counted); [ "$j" = "$c" ] && { echo "$j"; return 0; }; sleep 0.2; done
  echo "in the journal: $j, counted: $c"; return 1
}

# It is restarted and killed more often than systemd allows in ten seconds.
m sh -c 'for unit in systemd-journald.service systemd-journald@.service; do mkdir -p /run/systemd/system/$unit.d
  printf "[Unit]\nStartLimitIntervalSec=0\n" >/run/systemd/system/$unit.d/unlimited.conf; done; systemctl daemon-reload
  systemctl reset-failed systemd-journald.service'
m sh -c 'mkdir -p /etc/banish/filter.d /etc/banish/jail.d /etc/systemd/journald.conf.d
cat >/etc/systemd/journald.conf.d/fault.conf; cp /etc/systemd/journald.conf.d/fault.conf "/etc/systemd/journald@web.conf"' <<'CONF'
[Journal]
RateLimitIntervalSec=0
CONF
m sh -c 'cat >/etc/banish/filter.d/fault.toml' <<'TOML'
description = "Lines that a test writes"
journalmatch = ["SYSLOG_IDENTIFIER=fault"]
trust = "claimed"
failregex = ['^failed from <ADDR> n \d+$']
TOML
m sh -c 'cat >/etc/banish/jail.d/fault.toml' <<'TOML'
[source.web]
namespace = "web"
[jail.fault]
enabled = true
maxretry = 1000
findtime = "1h"
action = "log"
source = ["local", "web"]
TOML
tidy_up() {
  m rm -f /etc/banish/filter.d/fault.toml /etc/banish/jail.d/fault.toml /etc/systemd/journald.conf.d/fault.conf /etc/systemd/journald@web.conf
  m systemctl stop 'systemd-journald@web.service' 'systemd-journald@web.socket' 'systemd-journald-varlink@web.socket' 2>/dev/null
  m banishctl reload >/dev/null 2>&1
}
trap 'tidy_up; end_clients' EXIT
m systemctl restart systemd-journald.service
check "a jail that also reads a namespace which is not there yet" m banishctl reload
check "is told about once" within 20 has_record "$RECORD_FAILED" 'web'
logged 3
check "and counts what the local journal says" within 20 counted_is 3
pid=$(main_pid)

# --- under an attack that goes on all the time -------------------------------------------------------------------------
m sh -c 'for i in $(seq 1500); do until logger -t fault "failed from 203.0.113.7 n $i"; do :; done; done' 2>/dev/null & writer=$!
for round in 1 2 3; do
  m journalctl --rotate; sleep 0.4
  m systemctl kill -s KILL systemd-journald.service; sleep 1.2
  m systemctl restart systemd-journald.service; sleep 0.4
done
wait $writer
if n=$(agree); then ok "rotated, killed and restarted three times, under 1500 failures: each entry in the journal counts once"
else not_ok "rotated, killed and restarted three times, under 1500 failures: each entry in the journal counts once" "$n"; fi
note "in the journal and counted: $n of 1503 written"
equal "by the same process" "$pid" "$(main_pid)"
equal "and without a gap" "" "$(records "$RECORD_GAP")"
base=$(counted)

e2e_unit --uid=alice sh -c 'for i in 1 2 3 4; do echo "failed from 203.0.113.8 n $i"; done | logger -t fault; sleep 0.5'
check "entries in a user's journal count" within 20 counted_is $(( base + 4 ))

m systemd-run --quiet --wait --collect -p LogNamespace=web \
  sh -c 'for i in 1 2 3 4 5 6; do echo "failed from 203.0.113.9 n $i"; done | systemd-cat -t fault; sleep 1'
check "entries in a namespace count, from its first one on" within 100 counted_is $(( base + 10 ))
m journalctl --namespace=web --rotate
m systemd-run --quiet --wait --collect -p LogNamespace=web \
  sh -c 'echo "failed from 203.0.113.9 n 7" | systemd-cat -t fault; sleep 1'
check "also after its rotation" within 40 counted_is $(( base + 11 ))
m systemctl restart banishd.service; within 30 caught_up
logged 1
check "and after a restart what was counted is not counted again" within 20 counted_is 1

# --- damaged under the reader's hands ----------------------------------------------------------------------------------
m journalctl --rotate; sleep 0.5
pid=$(main_pid)
m sh -c 'f=$(ls /var/log/journal/*/system@*.journal | head -n 1) && truncate -s $(( $(stat -c %s "$f") / 2 )) "$f"
         f=$(ls /var/log/journal/*/system@*.journal | tail -n 1) && dd if=/dev/urandom of="$f" bs=4096 seek=2 count=8 conv=notrunc status=none'
logged 2
check "an archived file cut and another overwritten hide nothing that comes after" within 60 counted_is 3
equal "from the same process" "$pid" "$(main_pid)"
m systemctl stop banishd.service
logged 4; m journalctl --rotate; logged 1
m systemctl start banishd.service; within 30 caught_up
check "nor at a start" within 20 counted_is 5

# --- vacuumed past the checkpoint --------------------------------------------------------------------------------------
m systemctl stop banishd.service
logged 50; sleep 1
m journalctl -q --rotate; m journalctl -q --vacuum-files=1 --vacuum-size=1K 2>/dev/null
FRESH=$(( $(date +%s) )); logged 2
m systemctl start banishd.service; within 30 caught_up
check "what is left after a vacuum past the checkpoint counts" within 20 counted_is 2
check "and the gap is told" within 10 has_record "$RECORD_GAP" 'local'

# --- from memory to the disk -------------------------------------------------------------------------------------------
m sh -c 'echo Storage=volatile >>/etc/systemd/journald.conf.d/fault.conf; systemctl restart systemd-journald.service'
m systemctl restart banishd.service; within 30 caught_up
base=$(counted); logged 20
check "a journal in memory is read" within 60 counted_is $(( base + 20 ))
m sh -c 'sed -i s/volatile/persistent/ /etc/systemd/journald.conf.d/fault.conf; systemctl restart systemd-journald.service; journalctl --flush'
logged 5
check "flushed to the disk it is read on, and nothing twice" within 90 counted_is $(( base + 25 ))
sleep 2
check "(nor later)" counted_is $(( base + 25 ))

# --- another machine id ------------------------------------------------------------------------------------------------
m banishctl ban 192.0.2.38 >/dev/null
FRESH=$(date +%s)
m sh -c 'tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id'
note "$(e2e_reboot)"
check "under another machine id the daemon runs and catches up" within 60 caught_up
check "with its bans" within 20 banned 192.0.2.38 manual
check "the journal that it had not read to its end is told as a gap" within 20 has_record "$RECORD_GAP" 'local'
base=$(counted); logged 3
check "and failures count" within 20 counted_is $(( base + 3 ))
m banishctl unban 192.0.2.38 >/dev/null
