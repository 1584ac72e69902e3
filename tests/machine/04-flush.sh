#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# While an attack runs, whoever flushes or deletes our table finds it back at once, whole, in one transaction.
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
  if ms=$(m /run/flush-and-wait "$@" 2>&1) && [ "$ms" -le 1000 ]; then ok "$name is healed at once"; note "cover was back after $ms ms"
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
  check "$name: kernel and roster are equal" within 5 equal_counts
}
equal_counts() { local k b; k=$(in_kernel); b=$(bans | wc -l); [ "$k" = "$b" ] || { echo "kernel $k, roster $b"; return 1; }; }

before=$(rules)
heals "nft flush ruleset" nft flush ruleset
heals "nft delete table inet banish" nft delete table inet banish
heals "systemctl restart nftables" systemctl restart nftables.service
check "an administrator's saved ruleset still loads" m sh -c 'nft list ruleset >/run/saved.nft && nft -f /run/saved.nft'
same_rules() { local now; now=$(rules); [ "$now" = "$before" ] || { diff <(echo "$before") <(echo "$now"); return 1; }; }
check "and leaves each of our rules there once" within 5 same_rules
check "one deleted ban comes back" m sh -c '
  set=$(nft -j list table inet banish | python3 -c "
import json, sys
for o in json.load(sys.stdin)[\"nftables\"]:
    if \"set\" in o and \"192.0.2.20\" in json.dumps(o[\"set\"].get(\"elem\", [])): print(o[\"set\"][\"name\"]); break")
  nft delete element inet banish "$set" "{ 192.0.2.20 }" || exit 1
  for i in $(seq 50); do nft list set inet banish "$set" | grep -q "192\.0\.2\.20" && exit 0; sleep 0.1; done; exit 1'
check "after all this the banned host is cut off" within 3 cut_off 192.0.2.20
check "and a host that did nothing is let in" let_in 192.0.2.35
