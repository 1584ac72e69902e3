#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The daemon runs as its own user with CAP_NET_ADMIN and nothing else.
. "$(dirname "$0")/lib.sh"
fresh
pid=$(main_pid)
status=$(m cat "/proc/$pid/status")
field() { awk -v k="$1:" '$1 == k { $1 = ""; print substr($0, 2) }' <<<"$status"; }
uid=$(m id -u banish) gid=$(m id -g banish) journal=$(m getent group systemd-journal | cut -d: -f3)
equal "user banish" "$uid $uid $uid $uid" "$(field Uid)"
equal "group banish" "$gid $gid $gid $gid" "$(field Gid)"
check "the user is a system user" test "$uid" -lt 1000
equal "further groups: systemd-journal alone" "$journal" "$(field Groups | tr ' ' '\n' | grep -vx "$gid" | xargs)"
for set in CapPrm CapEff CapBnd CapAmb; do equal "$set is CAP_NET_ADMIN" 0000000000001000 "$(field $set)"; done
equal "no new privileges" 1 "$(field NoNewPrivs)"
equal "seccomp is on" 2 "$(field Seccomp)"
equal "the state belongs to banish alone" "700 banish banish" "$(m stat -c '%a %U %G' /var/lib/banish)"
absent "nothing in the state is readable by others" '[1-7]$' "$(m find /var/lib/banish -type f -printf '%m\n')"
equal "no process but the daemon is in its unit" "$pid" "$(m systemctl show -P ControlGroup banishd.service |
  { read -r cg; m sh -c "cat /sys/fs/cgroup$cg/cgroup.procs 2>/dev/null || cat /sys/fs/cgroup/systemd$cg/cgroup.procs"; } | xargs)"
