#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Jails pause and resume, failures are forgotten and reported, and all of it outlives the daemon.
. "$(dirname "$0")/lib.sh"
fresh

paused() { [ "$(property /org/banish1/jail/sshd Jail Paused)" = "$1" ]; }
failing() { [ "$(property /org/banish1/jail/sshd Jail CurrentlyFailing)" -ge "$1" ]; }

check "a jail is paused" m banishctl pause sshd
check "and says so on the bus" within 5 paused true
found "and in the status" 'paused' "$(m banishctl status sshd 2>&1)"
failed_logins 192.0.2.17 6
check "(six failures are logged)" within 60 failures_logged 6 192.0.2.17
check "the pause outlives a restart" m systemctl restart banishd.service
check "which catches up" within 30 caught_up
check "it is still paused" within 5 paused true
check "it is resumed" m banishctl resume sshd
check "and says so on the bus" within 5 paused false
check "what was logged in the pause is held against nobody" not_banned 192.0.2.17

failed_logins 192.0.2.18 4
check "(four failures are counted)" within 60 failures_logged 4 192.0.2.18
check "the jail knows them" within 10 failing 1
check "the failures of a host are forgotten" m banishctl forget 192.0.2.18
failed_logins 192.0.2.18 1
check "(one more is logged)" within 60 failures_logged 5 192.0.2.18
check "five with those before are no reason" not_banned 192.0.2.18

for i in 1 2 3; do check "a program reports a failure ($i)" m banishctl attempt sshd 192.0.2.19; done
main=$(main_pid)
check "(the daemon dies)" m kill -KILL "$main"
new_pid() { local pid; pid=$(main_pid); [ "$pid" != 0 ] && [ "$pid" != "$main" ]; }
check "and is started again" within 20 new_pid
check "and catches up" within 30 caught_up
found "the fourth is counted behind those of before" counted "$(m banishctl attempt sshd 192.0.2.19 2>&1)"
found "the fifth is a ban" banned "$(m banishctl attempt sshd 192.0.2.19 2>&1)"
check "and the host is cut off" within 5 cut_off 192.0.2.19
end_clients
