# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# lib.sh - the words that the machine tests are written in. Sourced by each of them.
#
# A test file prints `ok - NAME` or `not ok - NAME` for each thing that must hold (`run` numbers them) and ends with
# status 0; any other status counts as one more failure. Files do not build on each other: each starts from no bans.
. "$(dirname "${BASH_SOURCE[0]}")/machine.sh"

M=org.banish1
CLIENTS=()

ok() { echo "ok - $*"; }
# NAME [WHY]: what is known about the failure follows as comment lines.
not_ok() { echo "not ok - $1"; shift; [ $# = 0 ] || printf '%s\n' "$@" | sed 's/^/#   /' | head -n 30; }
note() { echo "# $*"; }
# NAME CMD...: the command succeeds; what it printed is shown only where it does not.
check() { local name=$1 out; shift; if out=$("$@" 2>&1); then ok "$name"; else not_ok "$name" "$out"; fi; }
# NAME CMD...: the command fails.
refuse() { local name=$1 out; shift; if out=$("$@" 2>&1); then not_ok "$name" "it succeeded" "$out"; else ok "$name"; fi; }
# NAME WANT GOT
equal() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "want: $2" "got:  $3"; fi; }
# NAME PATTERN TEXT: the extended regular expression is found in the text.
found() { if grep -qE -- "$2" <<<"$3"; then ok "$1"; else not_ok "$1" "want: $2" "in:" "$3"; fi; }
absent() { if grep -qE -- "$2" <<<"$3"; then not_ok "$1" "must not: $2" "in:" "$3"; else ok "$1"; fi; }
# SECONDS CMD...: until the command succeeds; says what it said last where it does not.
within() {
  local end=$(( $(_now) + $1 * 1000 )) out; shift
  until out=$("$@" 2>&1); do
    [ "$(_now)" -lt "$end" ] || { printf '%s\n' "not within the time: $*" "$out"; return 1; }; sleep 0.1
  done
}

m() { e2e_exec "$@"; }
# Manager METHOD [SIGNATURE ARGS...]
call() { local method=$1; shift; m timeout 30 busctl call --json=short "$M" /org/banish1 "$M.Manager" "$method" "$@"; }
property() { m busctl get-property "$M" "$1" "$M.$2" "$3" | cut -d' ' -f2-; }   # PATH INTERFACE NAME
main_pid() { m systemctl show -P MainPID banishd.service; }
# One line per ban: jail subject since until count state cause, as ListBans gives them.
bans() {
  call ListBans ssu "" "" 0 | python3 -c '
import json, sys
for jail, subject, since, until, count, cause, state in json.load(sys.stdin)["data"][0]:
    print(jail, subject, since, until, count, state, cause)'
}
banned() { bans | awk -v s="$1" -v j="${2:-sshd}" '$1 == j && $2 == s { f = 1 } END { exit !f }'; }
not_banned() { local all; all=$(bans) || return 1; ! grep -qF -- " $1 " <<<"$all"; }
end_of() { bans | awk -v s="$1" '$2 == s { print $4 }'; }
caught_up() { [ "$(property /org/banish1 Manager CatchingUp)" = false ]; }
probe_is() { [ "$(e2e_probe "$2")" = "$1" ]; }   # open|timeout|refused SRC
cut_off() { probe_is timeout "$1"; }
let_in() { probe_is open "$1"; }

# SRC [N [USER]]: N failed logins side by side (PAM answers a wrong password after seconds), in the background: those
# that the ban overtakes would wait long for an answer that never comes.
failed_logins() {
  local i; for i in $(seq "${2:-5}"); do E2E_ATTEMPT=30 e2e_attack badpass "$1" "${3:-alice}" >/dev/null 2>&1 & CLIENTS+=($!); done
}
end_clients() {
  [ ${#CLIENTS[@]} -gt 0 ] || return 0   # `wait` without a name would wait for everything
  local p; for p in "${CLIENTS[@]}"; do pkill -TERM -P "$p" 2>/dev/null; kill "$p" 2>/dev/null; done
  wait "${CLIENTS[@]}" 2>/dev/null; CLIENTS=()
}
# SECONDS N SRC: sshd has said N times that a password from SRC was wrong (since the last `fresh`).
failures_logged() { [ "$(m journalctl -q --no-pager -o cat --since "@$FRESH" -g "Failed password .* from $2 port" | wc -l)" -ge "$1" ]; }

forget_all() { local net; for net in 192.0.2.0/24 198.51.100.0/24 2001:db8::/32; do call Forget s $net >/dev/null || return; done; }
# No bans, no failures, the daemon up and abreast of the journal.
fresh() {
  FRESH=$(date +%s)
  m systemctl reset-failed banishd.service 2>/dev/null
  m systemctl start banishd.service && within 30 caught_up && call UnbanAll s "" >/dev/null && forget_all && return
  not_ok "$(basename "$0"): banishd runs" "$(m systemctl status --no-pager -n 20 banishd.service 2>&1)"; exit 0
}
trap end_clients EXIT
