#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# At a boot the bans are in force before the network is up; whatever is in the way of that, the boot goes on.
. "$(dirname "$0")/lib.sh"
fresh
R=banish-restore.service
monotonic() { m systemctl show -P "$2" "$1"; }   # UNIT PROPERTY: µs since the boot
said() { m journalctl -q --no-pager -b -o cat -u $R; }
restarted() { m systemctl restart $R; }

equal "it is enabled together with banishd" enabled "$(m systemctl is-enabled $R)"
equal "systemd-analyze verify has nothing to say" "" "$(m systemd-analyze verify --man=no $R 2>&1 | grep -F banish)"
exposure=$(m systemd-analyze security --no-pager $R | sed -n "s/.*exposure level for $R: \([0-9.]*\).*/\1/p")
note "systemd-analyze security: $exposure"
check "systemd-analyze security gives at most 1.5" awk -v e="${exposure:-10}" 'BEGIN { exit !(e <= 1.5) }'

m banishctl ban 192.0.2.37 >/dev/null
m banishctl ban 192.0.2.38 --jail sshd >/dev/null
m banishctl ban 2001:db8:ff::/64 >/dev/null
m banishctl ban 192.0.2.36 >/dev/null; m banishctl unban 192.0.2.36 >/dev/null
check "(three bans)" banned 2001:db8:ff::/64 manual
end4=$(end_of 192.0.2.37) end6=$(end_of 2001:db8:ff::/64)
# What the kernel has when the network may come up.
m sh -c 'cat >/etc/systemd/system/witness.service' <<'UNIT'
[Unit]
DefaultDependencies=no
After=banish-restore.service
Before=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'nft -s list table inet banish >/run/witness'
[Install]
WantedBy=multi-user.target
UNIT
# Something that brings the network up, and sshd behind it.
m systemctl enable --quiet witness.service systemd-networkd.service

note "$(e2e_reboot)"
restored=$(monotonic $R ActiveEnterTimestampMonotonic) network=$(monotonic network-pre.target ActiveEnterTimestampMonotonic)
networkd=$(monotonic systemd-networkd.service InactiveExitTimestampMonotonic)
listening=$(monotonic ssh.service InactiveExitTimestampMonotonic) daemon=$(monotonic banishd.service ActiveEnterTimestampMonotonic)
begun=$(monotonic $R InactiveExitTimestampMonotonic)
note "ms from the beginning of the restore: done $(( (restored - begun) / 1000 )), network-pre.target $(( (network - begun) / 1000 ))," \
  "networkd starts $(( (networkd - begun) / 1000 )), sshd starts $(( (listening - begun) / 1000 )), banishd ready $(( (daemon - begun) / 1000 ))"
check "the bans are restored before the network may come up" test "$restored" -gt 0 -a "$network" -gt 0 -a "$restored" -le "$network"
check "and before networkd and sshd start" test "$restored" -le "$networkd" -a "$restored" -le "$listening"
witness=$(m cat /run/witness)
found "then the kernel has the IPv4 ban" '192\.0\.2\.37 ' "$witness"
found "and the IPv6 ban" '2001:db8:ff:: ' "$witness"
absent "and no lifted one" '192\.0\.2\.36' "$witness"
within 60 caught_up
equal "banishd takes the bans over with the ends they had" "$end4 $end6" "$(end_of 192.0.2.37) $(end_of 2001:db8:ff::/64)"
absent "and finds none that it did not know" 'adopted|not known' "$(m journalctl -q --no-pager -b -o cat -u banishd)"
check "the host is cut off" cut_off 192.0.2.37
check "a neighbour is let in" let_in 192.0.2.35
table=$(m nft -a list table inet banish | head -n 1)
check "beside a running daemon it succeeds" restarted
equal "and does nothing" "$table" "$(m nft -a list table inet banish | head -n 1)"
m systemctl disable --quiet --now systemd-networkd.service; m rm /etc/systemd/system/witness.service /etc/systemd/system/multi-user.target.wants/witness.service

# On a disk that is read-only by now, what a daemon left that died with the machine: the index of its log is not there.
m sh -c 'mkdir /run/left && cp -a /var/lib/banish/ledger.db /var/lib/banish/ledger.db-wal /run/left'
check "(its log is not empty)" m test -s /run/left/ledger.db-wal
m systemctl stop banishd.service; m banishctl disarm >/dev/null
m sh -c 'mount -t tmpfs none /var/lib/banish && cp -a /run/left/. /var/lib/banish &&
  chown --reference=/run/left/ledger.db /var/lib/banish && chmod 700 /var/lib/banish && mount -o remount,ro /var/lib/banish'
check "with a read-only ledger it succeeds" restarted
check "and whoever was banned is cut off" cut_off 192.0.2.37
m systemctl start banishd.service
check "so the daemon does" within 30 caught_up
check "it knows who is banned" banned 2001:db8:ff::/64 manual
absent "in full" 'adopted' "$(m journalctl -q --no-pager -b -o cat -u banishd)"
found "a ban is in force but not saved" 'could not be saved' "$(m banishctl ban 192.0.2.34)"
found "a failure is counted but not saved" 'counted.* could not be saved' "$(m banishctl attempt sshd 192.0.2.33)"
m mount -o remount,rw /var/lib/banish
# systemd gave the unit a view of its own of that disk, which stays as it was at the start.
m sh -c 'nsenter -t "$(systemctl show -P MainPID banishd)" -m mount -o remount,bind,rw /var/lib/banish'
written() { m journalctl -q --no-pager -b -o cat -u banishd | grep -q 'written again'; }
check "once the disk can be written it gets all that it is owed" within 30 written
m systemctl stop banishd.service
check "so the next start knows it" m sh -c 'systemctl start banishd && banishctl --no-pager list | grep -q 192.0.2.34'
m systemctl stop banishd.service; m umount /var/lib/banish; m rm -r /run/left

# In its way: no ledger, a damaged one, a broken configuration.
m systemctl stop banishd.service; m banishctl disarm >/dev/null
m sh -c 'cp -a /var/lib/banish /var/lib/banish.kept; rm -rf /var/lib/banish; mkdir -p /etc/banish/jail.d; echo "[jail.sshd" >/etc/banish/jail.d/broken.toml'
check "without a ledger it succeeds" restarted
m sh -c 'rm -rf /var/lib/banish; cp -a /var/lib/banish.kept /var/lib/banish'
check "with a broken configuration it succeeds" restarted
check "and whoever was banned is cut off from everything" cut_off 192.0.2.38
m banishctl disarm >/dev/null
m sh -c 'printf "%05000d" 0 >/var/lib/banish/ledger.db'
refuse "with a damaged ledger it fails" restarted
m journalctl --sync
found "and says why" 'no bans restored: .*damaged' "$(said)"
note "$(e2e_reboot)"
equal "a boot with a damaged ledger goes on without it" failed "$(m systemctl is-failed $R)"
check "the network is not kept waiting" test "$(monotonic network-pre.target ActiveEnterTimestampMonotonic)" -gt 0
check "and banishd runs" within 30 caught_up
check "and everybody gets in" let_in 192.0.2.37
m systemctl stop banishd.service
m sh -c 'rm -rf /var/lib/banish /etc/banish/jail.d/broken.toml; mv /var/lib/banish.kept /var/lib/banish'
m systemctl reset-failed $R; restarted
m systemctl start banishd.service
check "with the ledger of before the bans are back" within 30 cut_off 192.0.2.37
