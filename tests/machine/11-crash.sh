#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The machine dies at once, twice; what was answered and what was decided is there when it is back.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/evidence.sh"
fresh

failed_logins 192.0.2.24; failed_logins 192.0.2.25; failed_logins 192.0.2.26 4; failed_logins 2001:db8::12
check "two hosts and a /64 are banned" within 30 banned 192.0.2.24
check "(the second)" within 30 banned 192.0.2.25
check "(the third)" within 30 banned 2001:db8::/64
check "(four failures of another are logged)" within 30 failures_logged 4 192.0.2.26
end_clients
end=$(end_of 192.0.2.24)
m banishctl unban 192.0.2.25 >/dev/null
# The last thing before the end: its answer is the promise.
check "an operator's ban is answered" m banishctl ban 203.0.113.200
note "$(e2e_crash)"

check "the daemon runs and has caught up" within 60 caught_up
check "the operator's ban is there" banned 203.0.113.200 manual
equal "the host's ban ends when it was to end" "$end" "$(end_of 192.0.2.24)"
check "the /64 is banned" banned 2001:db8::/64
check "the banned host is cut off" within 5 cut_off 192.0.2.24
check "the lifted ban is not back" not_banned 192.0.2.25
check "four failures are not five" not_banned 192.0.2.26
failed_logins 192.0.2.26 1
check "but with the next one they are" within 30 banned 192.0.2.26
end_clients

# In the middle of an attack. What sshd has said is in the page cache, which outlives the machine here.
for a in 192.0.2.27 192.0.2.28; do failed_logins $a 5; done
failed_logins 192.0.2.29 3
check "(an attack has begun)" within 30 failures_logged 1 192.0.2.27
note "$(e2e_crash)"
end_clients
check "the daemon runs and has caught up again" within 60 caught_up
check "the bans of before are there" banned 192.0.2.26
for a in 192.0.2.27 192.0.2.28; do
  logged=$(m journalctl -q --no-pager -o cat --since "@$FRESH" -g "Failed password .* from $a port" | wc -l)
  failed_logins $a $(( logged < 5 ? 5 - logged : 0 ))
  check "$a is banned when five failures are logged ($logged were before the crash)" within 30 banned $a
done
check "and three failures ban nobody" not_banned 192.0.2.29
end_clients

m systemctl stop banishd.service
equal "kernel and ledger are equal to the second" "" "$(differences)"
for a in 192.0.2.24 192.0.2.26 192.0.2.27 192.0.2.28; do
  equal "$a is banned once, for its first five failures" "$(first_failures $a 5)" "$(evidence_of $a)"
done
refuse "no ledger was kept aside" m sh -c 'ls /var/lib/banish/*.damaged-*'
m systemctl start banishd.service
