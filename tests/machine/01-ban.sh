#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Five failed logins over ssh end in a dropped packet, and neither a restart nor a reboot loses or repeats anything.
. "$(dirname "$0")/lib.sh"
fresh

failed_logins 192.0.2.10
failed_logins 2001:db8::10
check "five failed logins over IPv4 are a ban" within 30 banned 192.0.2.10
check "five failed logins over IPv6 are a ban of the /64" within 30 banned 2001:db8::/64
check "the IPv4 host is cut off" within 5 cut_off 192.0.2.10
check "the IPv6 host is cut off" within 5 cut_off 2001:db8::10
check "its neighbour in the /64 is cut off" cut_off 2001:db8::11
check "another IPv4 host is let in" let_in 192.0.2.11
check "another IPv6 network is let in" let_in 2001:db8:0:1::10
end_clients

list=$(bans)
read -r _ _ since until count state cause < <(grep -F ' 192.0.2.10 ' <<<"$list")
equal "the bus says that five failures are the reason" 5 "$count"
equal "the bus says that the ban is in force" banned "$state"
equal "the bus says when the ban ends: an hour after it began" 3600 $(( (until - since) / 1000000 ))
check "the bus says why" test -n "$cause"
text=$(m banishctl list 2>&1)
found "banishctl list shows the IPv4 ban" '192\.0\.2\.10\b' "$text"
found "banishctl list shows the IPv6 ban" '2001:db8::/64' "$text"
json=$(m banishctl list --json)
check "banishctl list --json is one object a line, with subject, cause and end of each" python3 - "$json" <<'PY'
import json, sys
rows = [json.loads(line) for line in sys.argv[1].splitlines()]
subjects = {row["subject"] for row in rows}
assert {"192.0.2.10", "2001:db8::/64"} <= subjects, subjects
assert all(row["cause"] and row["until_usec"] > row["since_usec"] for row in rows), rows
PY
found "banishctl status names the jail" 'sshd' "$(m banishctl status 2>&1)"
found "banishctl status JAIL answers" '5' "$(m banishctl status sshd 2>&1)"
found "the journal says who was banned" '192\.0\.2\.10' \
  "$(m journalctl -q --no-pager -u banishd MESSAGE_ID=ed0e712a1c4c421eb37a1660a90c105f --since "@$FRESH")"

check "banishctl unban answers" m banishctl unban 192.0.2.10
check "the host is let in again" within 5 let_in 192.0.2.10
refuse "to unban a host that is not banned is an error" m banishctl unban 192.0.2.10

end=$(end_of 2001:db8::/64)
m systemctl restart banishd.service
check "after a restart the daemon catches up" within 30 caught_up
equal "the ban that is left ends when it would have" "$end" "$(end_of 2001:db8::/64)"
check "its host is still cut off" cut_off 2001:db8::10
check "the failures of the lifted ban are not counted again" not_banned 192.0.2.10
check "the lifted host is still let in" let_in 192.0.2.10

note "$(e2e_reboot)"
check "after a reboot the daemon runs and catches up" within 60 caught_up
equal "the ban outlives the reboot, to the microsecond" "$end" "$(end_of 2001:db8::/64)"
check "its host is cut off again" within 10 cut_off 2001:db8::10
check "the lifted ban is not back" not_banned 192.0.2.10
check "the lifted host is let in" within 10 let_in 192.0.2.10

m systemctl stop banishd.service
check "while the daemon is stopped the kernel keeps the ban" cut_off 2001:db8::10
failed_logins 192.0.2.12
check "(five more failures are logged meanwhile)" within 30 failures_logged 5 192.0.2.12
end_clients
m systemctl start banishd.service
check "failures logged while it was stopped are counted at its start" within 30 banned 192.0.2.12
check "that host is cut off" within 5 cut_off 192.0.2.12
