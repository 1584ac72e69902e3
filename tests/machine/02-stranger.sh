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
out=$(alice_calls ListBans ssu "" "" 0); rc=$?
check "alice is refused ListBans" test $rc -ne 0
absent "and sees no address" '192\.0\.2\.33' "$out"
refuse "alice is refused Subscribe" alice_calls Subscribe
out=$(alice banishctl list 2>&1); rc=$?
check "banishctl list fails for alice" test $rc -ne 0
absent "banishctl shows her no address" '192\.0\.2\.33' "$out"
absent "nothing that the bus shows everybody has an address in it" '192\.0\.2\.33|c0000221' \
  "$(alice busctl --no-pager introspect "$M" /org/banish1 2>&1; alice busctl --no-pager introspect "$M" /org/banish1/jail/sshd 2>&1)"
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
