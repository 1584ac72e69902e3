#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the machine, as the unit that a jail reads: logs a failure each of COUNT hosts, GAP seconds apart, and says how
many milliseconds after each of them nftables' own notice of the host's element came (nobody else is asked, and no clock
but this one). Prints one number per host, or "-" where nothing came within 5 s.

Usage: latency.py COUNT GAP FIRST     hosts are 198.18.0.0 + FIRST and those after it
"""
import select, socket, sys, time

count, gap, first = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
NETLINK_NETFILTER, NFTABLES_GROUP, SOL_NETLINK, ADD_MEMBERSHIP, NEW_ELEMENT = 12, 7, 270, 1, 10 << 8 | 12
watch = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
watch.bind((0, 0))
watch.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, NFTABLES_GROUP)
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.connect("/run/systemd/journal/socket")
waiting, took = {}, {}


def hear(until):
    while (left := until - time.monotonic()) > 0 and select.select([watch], [], [], left)[0]:
        told, now = watch.recv(1 << 16), time.monotonic()
        if int.from_bytes(told[4:6], sys.byteorder) == NEW_ELEMENT:
            for key in [key for key in waiting if key in told]:
                took[key] = now - waiting.pop(key)


hosts = [socket.inet_aton("198.18.%d.%d" % divmod(first + n, 256)) for n in range(count)]
for host in hosts:
    waiting[host] = time.monotonic()
    journal.send(b"SYSLOG_IDENTIFIER=bench\nPRIORITY=6\nMESSAGE=login failed for root from %s\n"
                 % socket.inet_ntoa(host).encode())
    hear(time.monotonic() + gap)
end = time.monotonic() + 5
while waiting and time.monotonic() < end:
    hear(time.monotonic() + 0.1)
for host in hosts:
    print("%.1f" % (took[host] * 1000) if host in took else "-")
