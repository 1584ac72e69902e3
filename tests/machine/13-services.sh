#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Other services than sshd: one line enables a shipped jail, and a real daemon's real failed logins end in a ban of its
# ports alone. Dropbear logs to standard error, vsftpd by syslog(3) and through PAM.
. "$(dirname "$0")/lib.sh"
fresh

m sh -c 'echo DROPBEAR_PORT=2222 >/etc/default/dropbear; mkdir -p /etc/dropbear
  [ -e /etc/dropbear/dropbear_ed25519_host_key ] || dropbearkey -t ed25519 -f /etc/dropbear/dropbear_ed25519_host_key
  printf "syslog_enable=YES\n" >>/etc/vsftpd.conf
  systemctl restart dropbear.service vsftpd.service' >/dev/null 2>&1
port_is() { [ "$(e2e_probe "$2" "" "$3")" = "$1" ]; }   # open|timeout|refused SRC PORT
check "dropbear and vsftpd run" within 20 port_is open 192.0.2.15 2222
check "(both)" within 20 port_is open 192.0.2.15 21

# One line each is all, but for the port that dropbear has here and the standard error that Debian has it write to.
m sh -c 'printf "[jail.dropbear]\nenabled = true\nmode = \"stdout\"\nport = [\"2222\"]\n\n[jail.vsftpd]\nenabled = true\n" >/etc/banish/jail.d/services.toml'
check "the shipped jails are enabled" m systemctl reload banishd.service
found "banishctl status lists them" 'dropbear' "$(m banishctl status 2>&1)"

guess_ftp() {   # SRC N
  e2e_atk timeout 60 python3 - "$1" "$(_dst "$1")" "$2" <<'PY'
import ftplib, sys
source, host, times = sys.argv[1:4]
for _ in range(int(times)):
    try:
        with ftplib.FTP() as ftp:
            ftp.connect(host, 21, timeout=10, source_address=(source, 0)); ftp.login("alice", "wrong")
    except Exception as error: print(error)
PY
}
for src in 192.0.2.16 2001:db8:0:1::10; do E2E_PORT=2222 failed_logins "$src" 5; done
guess_ftp 192.0.2.17 5 >/dev/null 2>&1 & CLIENTS+=($!)
check "five failed logins with dropbear are a ban" within 60 banned 192.0.2.16 dropbear
check "over IPv6 too" within 60 banned 2001:db8:0:1::/64 dropbear
check "five failed logins with vsftpd are a ban" within 60 banned 192.0.2.17 vsftpd
check "its port is closed to that host" within 5 port_is timeout 192.0.2.16 2222
check "sshd's is not" port_is open 192.0.2.16 22
check "vsftpd's is closed to the other" within 5 port_is timeout 192.0.2.17 21
check "and dropbear's open" port_is open 192.0.2.17 2222
check "who did nothing is let in everywhere" port_is open 192.0.2.15 2222
end_clients

# The name of a user is all that a stranger can write.
E2E_PORT=2222 failed_logins 192.0.2.18 3 "x from 192.0.2.15:22"
guess_ftp 192.0.2.18 1 >/dev/null 2>&1
check "(the lies are logged)" within 60 m sh -c 'journalctl -q --no-pager -u dropbear.service -o cat | grep -q 192.0.2.18:'
end_clients
check "who is named by another's user name is not banned" not_banned 192.0.2.15

check "banishctl test reads a jail's past from the journal" m sh -c \
  'banishctl test --jail dropbear --since "1 hour ago" --json | grep -c "\"match\":true" | grep -qx "[1-9][0-9]*"'

m rm -f /etc/banish/jail.d/services.toml
check "a jail that is disabled again lets its hosts go" m systemctl reload banishd.service
check "dropbear's host is let in" within 10 port_is open 192.0.2.16 2222
m systemctl stop dropbear.service vsftpd.service
