# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# evidence.sh - the ledger of a machine whose daemon is stopped, beside its kernel and its journal. Sourced behind lib.sh.

# Copies the ledger out and asks it.
ledger() {
  local f; rm -f "$E2E_STATE"/ledger.db*
  for f in $(m sh -c 'cd /var/lib/banish && ls ledger.db ledger.db-wal 2>/dev/null'); do
    e2e_pull "/var/lib/banish/$f" "$E2E_STATE/$f"; done
  python3 - "$E2E_STATE/ledger.db" "$1" <<'PY'
import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]): print(*row)
PY
}
# SUBJECT: the entries that its bans by jail sshd count, a line for each ban.
evidence_of() {
  ledger "SELECT evidence FROM bans WHERE jail = 'sshd' AND subject = '$1' AND since >= ${FRESH}000000" | python3 -c '
import sys
for line in sys.stdin:
    out = []
    for part in line.split():
        if part.startswith("s="): seq = part.split(";")[0]; part = part.split(";")[1]
        out.append(seq + ";" + part)
    print(" ".join(out))'
}
# SRC N: the first N entries in which sshd says that a password from SRC was wrong, since the last `fresh`.
first_failures() {
  m journalctl -q --no-pager -o json --since "@$FRESH" -g "Failed password .* from $1 port" | python3 -c '
import json, sys
n = int(sys.argv[1])
print(" ".join(";".join(json.loads(line)["__CURSOR"].split(";")[:2]) for line in list(sys.stdin)[:n]))' "$2"
}
# What kernel and ledger do not agree on; nothing where they do. Ends may be a second apart.
differences() {
  local rows; rows=$(ledger "SELECT jail, subject, coalesce(until / 1000000, 0) FROM bans
    WHERE ended_at IS NULL AND coalesce(until > strftime('%s', 'now') * 1000000, 1)")
  m sh -c 'date +%s; nft -j list table inet banish' >"$E2E_STATE/kernel"
  python3 - "$E2E_STATE/kernel" "$rows" <<'PY'
import json, re, sys
with open(sys.argv[1]) as f: now, kernel = int(f.readline()), json.load(f)
held = {}
for o in kernel["nftables"]:
    m = re.fullmatch(r"(.*)([46])_(\d+)", o.get("set", {}).get("name", ""))
    if not m: continue
    for e in o["set"].get("elem", []):
        e = e["elem"] if isinstance(e, dict) and "elem" in e else {"val": e}
        full = m[3] == ("32" if m[2] == "4" else "128")
        held[m[1], e["val"] if full else "%s/%s" % (e["val"], m[3])] = now + e["expires"] if "expires" in e else 0
known = {(j, s): int(u) for j, s, u in (row.split() for row in sys.argv[2].splitlines())}
for place in sorted(held.keys() | known.keys()):
    a, b = held.get(place), known.get(place)
    if a is None or b is None or abs(a - b) > 1: print(*place, "kernel", a, "ledger", b)
PY
}
