#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# `make install` over a running banishd, and `make uninstall`, on a live machine.
. "$(dirname "$0")/lib.sh"
project=$(readlink -f "$(dirname "$0")/../..")
built=${CARGO_TARGET_DIR:-$project/target}/release
fresh

make=$(readlink -f "$(command -v make)")
m mkdir -p /root/banish/target/release
e2e_push "$project"/{Makefile,README.md,CHANGELOG.md,scripts,units,dbus,etc,man,docs} /root/banish
e2e_push "$built"/{banishd,banishctl,completions} /root/banish/target/release
e2e_push "$make" /usr/local/bin
m make --version >/dev/null 2>&1 || { note "skipped: the host's make does not run in the machine"; exit 0; }
mk() { m make -C /root/banish "$@"; }
runs() { m readlink "/proc/$(main_pid)/exe"; }

m banishctl ban 192.0.2.35 >/dev/null
pid=$(main_pid)
out=$(mk install 2>&1); rc=$?
equal "make install over a running daemon succeeds" 0 "$rc"
found "and says that the old program runs, and how to go on" 'former program.*systemctl restart banishd' "$out"
absent "and nothing else to start" 'enable --now' "$out"
equal "it restarts nothing" "$pid" "$(main_pid)"
found "(the running program is the former one)" 'deleted' "$(runs)"
check "the ban is in force" cut_off 192.0.2.35
check "the restart that it names works" m systemctl restart banishd
absent "and the new program runs" 'deleted' "$(runs)"
check "with the ban" within 30 banned 192.0.2.35 manual
check "which is in force" cut_off 192.0.2.35

m systemctl stop banishd.service
found "where none runs make install says how to start it" 'enable --now banishd' "$(mk install 2>&1)"
m systemctl start banishd.service
for prefix in /usr /usr/local; do
  [ "$prefix" = /usr ] || { mk install PREFIX=$prefix >/dev/null 2>&1; m systemctl enable --quiet --now banishd.service; }
  check "banishd runs below $prefix" within 30 m systemctl is-active banishd.service
  check "with the ban in force" within 30 cut_off 192.0.2.35
  for time in "" " once more"; do
    out=$(mk uninstall PREFIX=$prefix 2>&1); rc=$?
    equal "make uninstall below $prefix succeeds$time" 0 "$rc"
    absent "without an error" 'rror|unexpected|No such' "$out"
    found "and says what stays" 'ledger stays' "$out"
  done
  check "nobody is banned any more" let_in 192.0.2.35
  refuse "nothing runs" m systemctl is-active banishd.service
  equal "and nothing is left" "" "$(m sh -c "ls -d $prefix/sbin/banishd $prefix/bin/banishctl /usr/lib/banish $prefix/lib/systemd/system/banish* 2>/dev/null")"
done
for time in 1 2; do check "make uninstall of a tree succeeds" mk uninstall DESTDIR=/root/tree; done

mk install >/dev/null 2>&1
check "what was removed can be installed again" m systemctl enable --quiet --now banishd.service
check "and knows its bans" within 30 banned 192.0.2.35 manual
m rm -rf /root/banish /usr/local/bin/make
