#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A local user without rights cannot ban, cannot see addresses and cannot get somebody banned; nor can a login's text.
. "$(dirname "$0")/lib.sh"
fresh
alice() { e2e_unit --uid=alice "$@"; }
alice_calls() { alice timeout 20 busctl call "$M" /org/banish1 "$M.Manager" "$@" 2>&1; }

m banishctl ban 192.0.2.33 >/dev/null
out=$(alice_calls Ban sstsb 203.0.113.5 sshd 0 test false); rc=$?
check "alice is refused Ban" test $rc -ne 0
found "because polkit does not let her" 'not authori[sz]ed|denied|permission|authentication' "${out,,}"
check "and nobody is banned" not_banned 203.0.113.5
refuse "alice is refused Unban" alice_calls Unban ss 192.0.2.33 ""
refuse "alice is refused UnbanAll" alice_calls UnbanAll s ""
refuse "alice is refused Reload" alice_calls Reload
refuse "alice is refused Forget" alice_calls Forget s 192.0.2.33
alice_calls_sshd() { alice timeout 20 busctl call "$M" /org/banish1/jail/sshd "$M.Jail" "$@" 2>&1; }
refuse "alice is refused the jail's Ban" alice_calls_sshd Ban stsb 203.0.113.5 0 test false
refuse "alice is refused the jail's Unban" alice_calls_sshd Unban s 192.0.2.33
refuse "alice is refused Attempt" alice_calls_sshd Attempt s 203.0.113.5
refuse "alice is refused Pause" alice_calls_sshd Pause t 0
refuse "alice is refused Resume" alice_calls_sshd Resume
equal "and sshd is not paused" false "$(property /org/banish1/jail/sshd Jail Paused)"
for words in "forget 192.0.2.33" "pause sshd" "resume sshd" "attempt sshd 203.0.113.5" "unban --all" "reload"; do
  # shellcheck disable=SC2086
  alice banishctl $words </dev/null >/dev/null 2>&1; equal "banishctl $words tells alice that she may not" 4 $?
done
refuse "alice cannot make the daemon read a file" alice_calls Ban sstsb file:/etc/shadow sshd 0 /etc/shadow true
refuse "alice cannot set anything" alice busctl set-property "$M" /org/banish1/jail/sshd "$M.Jail" Enabled b false
flood='for i in $(seq 8); do (for j in $(seq 10); do
  timeout 20 busctl call org.banish1 /org/banish1 org.banish1.Manager Check
  timeout 20 busctl call org.banish1 /org/banish1 org.freedesktop.DBus.ObjectManager GetManagedObjects
  done) & done; wait'
seen=$(alice sh -c "$flood" 2>&1)
check "root is answered after her calls" within 20 banned 192.0.2.33 manual
absent "nothing that she is told has an address in it" '192\.0\.2\.33' "$seen"
out=$(alice_calls ListBans ssu "" "" 0); rc=$?
check "alice is refused ListBans" test $rc -ne 0
absent "and sees no address" '192\.0\.2\.33' "$out"
refuse "alice is refused Subscribe" alice_calls Subscribe
out=$(alice banishctl list 2>&1); rc=$?
check "banishctl list fails for alice" test $rc -ne 0
absent "banishctl shows her no address" '192\.0\.2\.33' "$out"
absent "nothing that the bus shows everybody has an address in it" '192\.0\.2\.33|c0000221' \
  "$(m busctl --no-pager introspect "$M" /org/banish1 2>&1; m busctl --no-pager introspect "$M" /org/banish1/jail/sshd 2>&1)"
check "alice may read counts" alice busctl get-property "$M" /org/banish1/jail/sshd "$M.Jail" CurrentlyBanned
refuse "alice cannot read the ledger" alice ls /var/lib/banish
refuse "alice cannot own the name" alice timeout 5 python3 -c '
import sys
from gi.repository import Gio, GLib
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
r = bus.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName",
                  GLib.Variant("(su)", ("org.banish1", 7)), None, 0, 5000, None)
sys.exit(0 if r.unpack()[0] in (1, 4) else 1)'
check "the ban of before is untouched" banned 192.0.2.33 manual

# What alice writes as sshd: from a service of hers, and from a session that sshd itself made for her.
forge='for i in 1 2 3 4 5 6 7 8; do logger -t sshd -p auth.info "Failed password for root from 203.0.113.9 port 1 ssh2"; done'
alice sh -c "$forge"
E2E_SSH_CMD=$forge e2e_attack goodpass 192.0.2.34 alice
lines=$(m journalctl -q --no-pager -o cat --since "@$FRESH" -t sshd -g 'from 203.0.113.9 port 1 ssh2' | wc -l)
check "(the forged lines are in the journal)" test "$lines" -ge 16
# What a stranger writes into a user name. Its own ban also proves that everything before it has been read.
failed_logins 192.0.2.13 5 'root from 203.0.113.9 port 1 ssh2'
check "a login whose user name holds an address bans the peer" within 40 banned 192.0.2.13
check "nobody is banned for forged lines" not_banned 203.0.113.9
check "a good login bans nobody" not_banned 192.0.2.34
