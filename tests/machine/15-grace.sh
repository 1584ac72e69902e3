#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Guesses that sshd does not live to tell of: pam_unix says at once that a password was wrong, sshd only after PAM's delay.
# Whoever guesses shortly before LoginGraceTime has his process ended in between; here it is killed, which leaves the same.
. "$(dirname "$0")/lib.sh"
fresh

# SRC: kills each process of sshd whose password from SRC PAM has refused, as soon as PAM has said so.
reaper() {
  m timeout 60 sh -c 'journalctl -q -f -n 0 --since now | sed -un "s/.* sshd\(-session\)\{0,1\}\[\([0-9]*\)\]: pam_unix(sshd:auth): authentication failure;.* rhost=$1 .*/\2/p" |
    while read -r pid; do kill -KILL "$pid"; done' sh "$1" >/dev/null 2>&1 & CLIENTS+=($!); sleep 1
}
refusals() { m journalctl -q --no-pager -o cat --since "@$FRESH" -g "authentication failure;.* rhost=$1 " | wc -l; }
refused() { [ "$(refusals "$2")" -ge "$1" ]; }   # N SRC

reaper 192.0.2.16
failed_logins 192.0.2.16 5
check "five guesses from one host are refused, and their processes killed" within 60 refused 5 192.0.2.16
refuse "sshd says nothing of them" failures_logged 1 192.0.2.16
check "they are a ban" within 60 banned 192.0.2.16
check "the host is cut off" within 5 cut_off 192.0.2.16
end_clients

# What sshd does tell of counts once: four failures are none too many, however PAM was asked.
m sh -c 'printf "KbdInteractiveAuthentication yes\n" >/etc/ssh/sshd_config.d/00-grace.conf; systemctl reload ssh.service'
failed_logins 192.0.2.17 4
for i in 1 2 3 4; do E2E_ATTEMPT=30 e2e_attack badkbd 192.0.2.18 alice >/dev/null 2>&1 & CLIENTS+=($!); done
check "four wrong passwords are told of" within 60 failures_logged 4 192.0.2.17
kbd_logged() { [ "$(m journalctl -q --no-pager -o cat --since "@$FRESH" -g "error: PAM: Authentication failure .* from $2" | wc -l)" -ge "$1" ]; }
check "and four by keyboard-interactive" within 60 kbd_logged 4 192.0.2.18
end_clients
for i in 1 2; do e2e_attack goodpass 192.0.2.19 >/dev/null 2>&1; done
sleep 24   # as long as a refusal waits for sshd's word, and more
check "nobody is banned for them" not_banned 192.0.2.17
check "nor for those" not_banned 192.0.2.18
check "and who logs in is not" not_banned 192.0.2.19
failed_logins 192.0.2.17 1
E2E_ATTEMPT=30 e2e_attack badkbd 192.0.2.18 alice >/dev/null 2>&1 & CLIENTS+=($!)
check "a fifth is a ban" within 60 banned 192.0.2.17
check "of either kind" within 60 banned 192.0.2.18
m sh -c 'rm -f /etc/ssh/sshd_config.d/00-grace.conf; systemctl reload ssh.service'
