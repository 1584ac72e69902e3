#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# banishd is killed again and again while hosts attack and an operator bans and unbans: nothing is lost, nothing is
# counted twice, nobody else is banned.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/evidence.sh"
fresh
KILLS=15
dropin=/run/systemd/system/banishd.service.d
m sh -c "mkdir -p $dropin; printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=50ms\n' >$dropin/test.conf"
m systemctl daemon-reload

# Runs in the machine. Orders are given again until they are answered; what was answered is written down.
m sh -c 'cat >/run/operator' <<'SH'
#!/bin/bash
rm -f /run/answered
for i in $(seq 200); do
  s=203.0.113.$i
  until banishctl ban $s >/dev/null 2>&1; do sleep 0.05; done; echo "ban $s" >>/run/answered
  if [ $(( i % 3 )) = 0 ]; then
    until out=$(banishctl unban $s 2>&1) || { [ -n "${again:-}" ] && [[ $out = *"is not banned"* ]]; }; do again=1; sleep 0.05; done
    again=; echo "unban $s" >>/run/answered
  fi
  [ ! -e /run/killed ] || exit 0
done
SH
m sh -c 'cat >/run/killer' <<'SH'
#!/bin/bash
RANDOM=4711; n=0; rm -f /run/killed
while [ $n -lt "$1" ]; do
  p=$(systemctl show -P MainPID banishd.service)
  [ "$p" -gt 1 ] && kill -KILL "$p" && n=$(( n + 1 ))
  sleep $(( RANDOM % 2 )).$(( RANDOM % 9 + 1 ))
done
touch /run/killed
SH
m chmod 755 /run/operator /run/killer

attackers=(192.0.2.20 192.0.2.21 198.51.100.12 192.0.2.22) nearly=(192.0.2.23 198.51.100.13)
# In waves, so that the whole attack is among the kills.
( for wave in 2 2 2 2; do for a in "${attackers[@]}"; do failed_logins "$a" $wave; done; sleep 3; done; wait ) & attack=$!
for a in "${nearly[@]}"; do failed_logins "$a" 2; ( sleep 5; failed_logins "$a" 2; wait ) & CLIENTS+=($!); done
m /run/operator & operator=$!
check "($KILLS times kill -9 within the attack)" timeout 120 "$E2E_SELF" exec /run/killer $KILLS
wait $operator; equal "the operator's last order is answered" 0 $?
for a in "${nearly[@]}"; do check "(four failures of $a are logged)" within 30 failures_logged 4 "$a"; done
check "it runs and has caught up" within 30 caught_up
kill $attack 2>/dev/null

for a in "${attackers[@]}"; do check "$a has failed often enough and is banned" within 20 banned "$a"; done
check "an attacker is cut off" within 5 cut_off "${attackers[0]}"
end_clients
for a in "${nearly[@]}"; do check "$a has failed four times and is not" not_banned "$a"; done
others=$(bans | awk '$1 == "sshd" { print $2 }' | grep -vxF "$(printf '%s\n' "${attackers[@]}")")
equal "nobody else is banned" "" "$others"
answered=$(m cat /run/answered)
note "$(wc -l <<<"$answered") orders of the operator were answered"
want=$(awk '$1 == "ban" { b[$2] = 1 } $1 == "unban" { delete b[$2] } END { for (s in b) print s }' <<<"$answered" | sort)
equal "the operator's bans are those that were answered, less those lifted" "$want" "$(bans | awk '$1 == "manual" { print $2 }' | sort)"

# One failure more: had one been counted twice this host would be banned already, had one been lost it would not be now.
for a in "${nearly[@]}"; do failed_logins "$a" 1; done
for a in "${nearly[@]}"; do check "the fifth failure bans $a" within 30 banned "$a"; done
end_clients

m systemctl stop banishd.service
equal "kernel and ledger are equal to the second" "" "$(differences)"
for a in "${attackers[@]}" "${nearly[@]}"; do
  equal "$a is banned once, for its first five failures" "$(first_failures "$a" 5)" "$(evidence_of "$a")"
done
told() { m journalctl -q --no-pager -o cat --since "@$FRESH" -u banishd.service | grep -cF "banned $1 in jail sshd until"; }
for a in "${attackers[@]}" "${nearly[@]}"; do
  n=$(told "$a"); check "the ban of $a is told at least once, and again only after a kill ($n)" test "$n" -ge 1 -a "$n" -le $(( 1 + KILLS ))
done

m rm -r $dropin; m systemctl daemon-reload; m systemctl start banishd.service
