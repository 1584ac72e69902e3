#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# While an attack runs, whoever flushes, deletes or replaces our table finds it back at once, whole, in one transaction;
# and other programs' own tables are nothing to us.
. "$(dirname "$0")/lib.sh"
fresh

# A roster of forty, one of it by a real attack; then an attack that goes on all the time.
failed_logins 192.0.2.20
for i in $(seq 20); do echo "203.0.113.$i" "2001:db8:ff:$i::/64"; done | xargs -n1 | m xargs -n1 banishctl ban >/dev/null
check "a host is banned by its failed logins" within 30 banned 192.0.2.20
end_clients
( trap 'kill $(jobs -p) 2>/dev/null; exit 0' TERM
  for n in $(seq 1000); do
    for a in 192.0.2.20 192.0.2.$(( 21 + n % 8 )); do E2E_ATTEMPT=8 e2e_attack badpass $a root >/dev/null 2>&1 & done
    sleep 1
  done ) & attack=$!
trap 'kill $attack 2>/dev/null; end_clients' EXIT

# Runs in the machine: the command, then milliseconds until every subject is in the kernel again.
m sh -c 'cat >/run/flush-and-wait' <<'SH'
#!/bin/bash
now() { echo $(( ${EPOCHREALTIME/./} / 1000 )); }
"$@" || exit 1
t=$(now)
while :; do
  table=$(nft -s list table inet banish 2>/dev/null)
  case $table in *192.0.2.20*2001:db8:ff:20::*|*2001:db8:ff:20::*192.0.2.20*) break;; esac
  [ $(( $(now) - t )) -lt 10000 ] || { echo "not back after 10 s"; exit 1; }
done
echo $(( $(now) - t ))
SH
m chmod 755 /run/flush-and-wait
in_kernel() { m nft -j list table inet banish | python3 -c '
import json, re, sys
sets = [o["set"] for o in json.load(sys.stdin)["nftables"] if "set" in o]
print(sum(len(s.get("elem", [])) for s in sets if re.search("[46]_[0-9]+$", s["name"])))'; }
# One line per rule of the table, without handles and counts.
rules() { m nft -j list table inet banish | python3 -c '
import json, sys
def bare(x):
    if isinstance(x, dict): return {k: None if k == "counter" else bare(v) for k, v in x.items()}
    return [bare(v) for v in x] if isinstance(x, list) else x
for o in json.load(sys.stdin)["nftables"]:
    if "rule" in o: print(o["rule"]["chain"], json.dumps(bare(o["rule"]["expr"]), sort_keys=True))'; }

heals() {   # NAME CMD...
  local name=$1 monitor ms out generations; shift
  e2e_exec timeout 60 stdbuf -oL nft monitor >"$E2E_STATE/monitor" 2>&1 & monitor=$!
  sleep 0.3
  if ms=$(m /run/flush-and-wait "$@" 2>&1) && [ "$ms" -le 3000 ]; then ok "$name is healed at once"; note "cover was back after $ms ms"
  else not_ok "$name is healed at once" "$ms"; fi
  sleep 0.5; pkill -TERM -P $monitor 2>/dev/null; kill $monitor 2>/dev/null; wait $monitor 2>/dev/null
  # A transaction's events end with its generation. In the one that brings the table back, all must come back.
  out=$(python3 - "$E2E_STATE/monitor" <<'PY'
import re, sys
block = []
for line in open(sys.argv[1], errors="replace"):
    if not line.startswith("# new generation"): block.append(line); continue
    text = "".join(block); block = []
    if "add table inet banish" in text:
        want = ["192.0.2.20"] + ["203.0.113.%d" % i for i in range(1, 21)] + ["2001:db8:ff:%d::" % i for i in range(1, 21)]
        lost = [w for w in want if not re.search(re.escape(w) + r"(?![0-9.])", text)]
        print("missing in the transaction: %s" % lost if lost else "whole"); break
else: print("no transaction brought the table back")
PY
)
  equal "$name: the table and all bans come back in one transaction" whole "$out"
  check "$name: the banned host is cut off" within 3 cut_off 192.0.2.20
  check "$name: kernel and roster are equal" within 20 equal_counts
}
equal_counts() { local k b; k=$(in_kernel); b=$(bans | wc -l); [ "$k" = "$b" ] || { echo "kernel $k, roster $b"; return 1; }; }

before=$(rules) held=$(bans | awk '{ print $1, $2, $3, $4 }')
heals "nft flush ruleset" nft flush ruleset
heals "nft delete table inet banish" nft delete table inet banish
heals "systemctl restart nftables" systemctl restart nftables.service
m sh -c 'cat >/run/theirs.nft' <<'NFT'
flush ruleset
table inet theirs { chain input { type filter hook input priority filter; policy accept; tcp dport 22 counter accept; }; }
NFT
heals "another program's whole ruleset in place of all others" nft -f /run/theirs.nft
check "and that ruleset stays" m nft list table inet theirs
m nft delete table inet theirs
check "an administrator's saved ruleset still loads" m sh -c 'nft list ruleset >/run/saved.nft && nft -f /run/saved.nft'
same_rules() { local now; now=$(rules); [ "$now" = "$before" ] || { diff <(echo "$before") <(echo "$now"); return 1; }; }
check "and leaves each of our rules there once" within 5 same_rules
m sh -c 'cat >/run/delete-and-wait' <<'SH'
#!/bin/bash
set=$(nft -j list table inet banish | python3 -c '
import json, sys
for o in json.load(sys.stdin)["nftables"]:
    if "set" in o and "192.0.2.20" in json.dumps(o["set"].get("elem", [])): print(o["set"]["name"]); break')
exec /run/flush-and-wait nft delete element inet banish "$set" "{ 192.0.2.20 }"
SH
m chmod 755 /run/delete-and-wait
if ms=$(m /run/delete-and-wait 2>&1) && [ "$ms" -le 3000 ]; then ok "one deleted ban comes back"; note "cover was back after $ms ms"
else not_ok "one deleted ban comes back" "$ms"; fi

# Programs that keep to their own tables: ours is the same table as before, by its handle.
handle() { m nft -a list table inet banish | sed -n '1s/.*# handle //p'; }
same_table() { local now; now=$(handle); [ -n "$now" ] && [ "$now" = "$table" ] || { echo "handle $table, now $now"; return 1; }; }
m firewall-offline-cmd -q --set-default-zone=trusted
if m systemctl start firewalld.service && within 20 m firewall-cmd --state; then
  check "(firewalld has its table)" m nft list table inet firewalld
  # Its start stops nftables.service, which flushes everything.
  check "where firewalld takes over from nftables.service the banned host is cut off" within 3 cut_off 192.0.2.20
  sleep 0.5; table=$(handle)
  check "firewall-cmd --reload" m firewall-cmd --reload
  check "firewall-cmd --complete-reload" m firewall-cmd --complete-reload
  check "systemctl restart firewalld" m systemctl restart firewalld.service
  m systemctl stop firewalld.service
  check "firewalld's reloads and restart leave our table alone" same_table
else not_ok "firewalld runs" "$(m systemctl status --no-pager -n 20 firewalld.service 2>&1)"; fi
# Docker where it is in the machine (E2E_EXTRA_PKGS=docker.io; as large as all the rest); for everybody else what it does
# to the firewall when it starts and stops, by the program that it uses.
if m sh -c 'command -v dockerd' >/dev/null; then
  # It wants to forward; of the sysctls only those of the network are the machine's own.
  m sh -ec 'mount --bind /proc/sys/net /proc/sys/net; mount -o remount,rw,bind /proc/sys/net; systemctl reset-failed docker.service'
  check "docker starts" m systemctl start docker.service
  check "(it has its chain)" m iptables -n -L DOCKER-USER
  check "docker makes a network" m docker network create --driver bridge other
  check "docker restarts" m systemctl restart docker.service
  m systemctl stop docker.service docker.socket containerd.service
else
  check "docker's chains come and go" m sh -ec 'for i in iptables ip6tables; do
    $i -t nat -N DOCKER; $i -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER; $i -N DOCKER-USER; $i -I FORWARD -j DOCKER-USER
    $i -F FORWARD; $i -F DOCKER-USER; $i -X DOCKER-USER; $i -t nat -F; $i -t nat -X; $i -F; $i -X; done'
fi
check "docker leaves our table alone" same_table

equal "no ban was lost, none has another end" "$held" "$(bans | awk '{ print $1, $2, $3, $4 }' | grep -Fx "$held")"
check "after all this the banned host is cut off" within 3 cut_off 192.0.2.20
check "and a host that did nothing is let in" let_in 192.0.2.35

# A table that the kernel does not let us have: nft's, as long as that runs.
m systemctl stop banishd.service; m banishctl disarm >/dev/null; since=$(date +%s)
m systemd-run --quiet --unit=holder sh -c '(echo "add table inet banish { flags owner; }"; sleep 600) | nft -i'
check "(the table is another program's)" within 5 m nft list table inet banish
m systemctl start banishd.service
states() { bans | awk '{ print $6 }' | sort -u | xargs; }
equal "as long as the table is another program's, bans are pending" pending "$(states)"
m systemctl stop holder.service
in_force() { [ "$(states)" = banned ]; }
check "once it is free they are in force" within 20 in_force
check "and the banned host is cut off" within 3 cut_off 192.0.2.20
text=$(m journalctl -q --no-pager -o cat --since "@$since" -u banishd.service)
found "the journal says why it took so long" 'belongs to another program' "$text"
found "and that it works again" 'takes bans again' "$text"
absent "and not that somebody changed the table" 'somebody changed' "$text"
