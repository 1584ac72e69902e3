#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A local user has a setuid program of root's write lines of sshd's into the journal: under sshd's identifier, with root's
# uid, without a unit or with sshd's own. Nobody is banned for them.
. "$(dirname "$0")/lib.sh"
fresh

# chsh(1) of Debian 12 waits 15 s for the lock of /etc/passwd, becomes root and says "ARGV0: cannot lock /etc/passwd; …" on
# its standard error. A user can hold the lock by a stopped passwd(1) of his own; here root holds it.
m sh -c 'cat >/tmp/forge.py' <<'PY'
import os, socket, sys, time
victim, count = sys.argv[1], int(sys.argv[2])
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.connect("/run/systemd/journal/dev-log")
for i in range(count):
    r, w = os.pipe()
    os.write(w, b"correct-horse\n")
    os.close(w)
    if os.fork() == 0:
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(r, 0), os.dup2(null, 1), os.dup2(log.fileno(), 2)
        name = "<86>sshd[%d]: Failed password for root from %s port %d ssh1: ruser " % (os.getpid(), victim, 4000 + i)
        os.execve("/usr/bin/chsh", [name, "-s", "/bin/sh"], {"LANG": "C"})
    os.close(r)
time.sleep(24)   # nobody waits for them: those that end stay zombies
PY
m sh -c 'exec python3 -c "
import fcntl, time
lock = open(\"/etc/.pwd.lock\", \"w\")
fcntl.lockf(lock, fcntl.LOCK_EX)
time.sleep(40)"' & CLIENTS+=($!)
sleep 1
# In sshd's own cgroup, as where pam_systemd makes no session; journald finds program and unit, or a zombie's.
m sh -c 'for d in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    f=$d/system.slice/ssh.service/cgroup.procs; [ ! -w $f ] || echo $$ >$f; done
  exec setpriv --reuid alice --regid alice --clear-groups python3 /tmp/forge.py 198.51.100.15 8' & CLIENTS+=($!)
sleep 6
m sh -c 'for d in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    f=$d/system.slice/ssh.service/cgroup.procs; [ ! -w $f ] || echo $$ >$f; done
  exec setpriv --reuid alice --regid alice --clear-groups python3 /tmp/forge.py 198.51.100.16 8' & CLIENTS+=($!)
# From a session of her own; journald is held up until the programs are gone.
e2e_unit --uid=alice python3 /tmp/forge.py 198.51.100.17 8 & CLIENTS+=($!)
sleep 12
m pkill -STOP -x systemd-journal
sleep 6
m sh -c 'pkill -x python3 -u alice; sleep 1; pkill -CONT -x systemd-journal'
forged() {
  m journalctl -q --no-pager -o json -t sshd _UID=0 --since "@$FRESH" -g "port 40.*cannot lock" | python3 -c '
import json, sys
of = [(e.get("_SYSTEMD_UNIT", "none"), e["MESSAGE"].split(" from ")[1].split()[0]) for e in map(json.loads, sys.stdin)]
for row in sorted(set(of)): print(of.count(row), *row)'
}
if [ "$E2E_SUITE" = bookworm ]; then
  without_unit() { forged | grep "none 198.51.100.17"; }
  check "the lines are in the journal, with root's uid and without a unit" within 10 without_unit
fi
note "$(forged | xargs -rd '\n' printf '%s; ')"
check "the daemon has read them" within 10 caught_up
sleep 2
for victim in 198.51.100.15 198.51.100.16 198.51.100.17; do check "nobody is banned for them ($victim)" not_banned $victim; done
equal "and nothing is counted" 0 "$(property /org/banish1/jail/sshd Jail CurrentlyFailing | cut -d' ' -f2)"
end_clients 2>/dev/null
failed_logins 192.0.2.20
check "a real failure is counted as ever" within 40 banned 192.0.2.20
