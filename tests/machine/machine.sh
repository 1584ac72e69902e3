#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# machine.sh - a really booted Debian machine and an attacker on a wire to it.
#
# Needs root, Linux >= 5.11 with overlayfs and veth, and the Debian packages systemd-container mmdebstrap iproute2
# util-linux openssh-client python3 procps. Needs no systemd as PID 1, no bus, no machined and no shared mounts.
#
#   host's mount and network namespaces   : untouched (no mount, no link, no named namespace, no route)
#   holder (unshare --mount --net)        : private overlay mount; its network namespace IS the attacker
#     `- systemd-nspawn --boot            : boots the machine in a second network namespace
#          `- leader                      : PID 1 of the machine
#   attacker --veth-- machine             : 192.0.2.0/24 198.51.100.0/24 2001:db8::/64 2001:db8:0:1::/64
#
# Whatever exists outside $E2E_STATE and the cached base tree dies with the holder, except the cgroups
# /sys/fs/cgroup/{,systemd/,unified/}e2e-$E2E_NAME, which `down` removes. With E2E_OWNER=PID in the environment of `up`
# the machine also dies when that process does, so that a killed test run leaves none behind.
#
# Usage (E2E_NAME names the machine, E2E_SUITE the Debian release):
#   machine.sh base                   make the cached base tree unless it is there
#   machine.sh up                     boot (idempotent); returns when systemd says running or degraded
#   machine.sh exec CMD...            run CMD in the machine (all namespaces, clean environment), exit status kept
#   machine.sh unit [OPTS] CMD...     the same in a transient unit of its own, for example --uid=alice
#   machine.sh push SRC... DESTDIR    copy files or directories in (owner root, modes kept)
#   machine.sh push-tree DIR          copy what is in DIR over the machine's root
#   machine.sh pull SRC DEST          copy one file out
#   machine.sh attack KIND SRC [USER] one attempt from source address SRC (e2e_attack has the kinds)
#   machine.sh probe SRC [DST [PORT]] one TCP connect of at most 2 s: open | refused | timeout
#   machine.sh atk CMD...             run CMD of the host in the attacker's network namespace
#   machine.sh log [ARGS]             journalctl in the machine
#   machine.sh reboot | crash         a clean reboot | kill -9 of the machine's PID 1; both wait for the next boot
#   machine.sh leader | status        PID of the machine's init | one line
#   machine.sh down                   power off, remove every trace; fine when already down
# It can also be sourced: every verb is a function e2e_VERB.
set -u
E2E_SELF=$(readlink -f "${BASH_SOURCE[0]}")
: "${E2E_NAME:=t0}"                     # key of every resource: letters, digits and dashes, 31 at most
: "${E2E_SUITE:=bookworm}"              # bookworm | trixie
: "${E2E_STATE:=${TMPDIR:-/tmp}/banish-machine/$E2E_NAME}"   # console.log, holder.log, mount points; deleted by down
: "${E2E_CGROUP:=auto}"                 # auto | host (as the host has it) | unified
: "${E2E_NICE:=5}"
: "${E2E_TMPFS:=2g}"                    # most the machine may write (memory, only what is used)
: "${E2E_BOOT_TIMEOUT:=90}"             # seconds
: "${E2E_NSPAWN_ARGS:=}"                # further words for systemd-nspawn
: "${E2E_EXTRA_PKGS:=}"                 # further packages in the base tree, comma separated
E2E_PKGS=systemd,systemd-sysv,dbus,openssh-server,openssh-client,nftables,iproute2,polkitd,libpam-systemd
E2E_PKGS+=,libnss-systemd,python3-systemd,python3-gi,netbase,procps,firewalld,iptables,dropbear,vsftpd${E2E_EXTRA_PKGS:+,$E2E_EXTRA_PKGS}
E2E_RECIPE=3                            # counted up when _bootstrap changes
# The pristine tree, only ever a lower layer. What decides its content is part of its name, so a tree is never stale.
: "${E2E_BASE:=${TMPDIR:-/tmp}/banish-base.$E2E_SUITE-$(printf '%s\n' "$E2E_RECIPE" "$E2E_PKGS" | sha256sum | cut -c1-10)}"

E2E_M4=192.0.2.1 E2E_M4B=198.51.100.1 E2E_M6=2001:db8::1 E2E_M6B=2001:db8:0:1::1      # the machine
E2E_A="$(echo 192.0.2.{10..39}) $(echo 198.51.100.{10..19}) $(echo 2001:db8::{10..13}) 2001:db8:0:1::10 2001:db8:0:1::11"

_die() { echo "machine.sh: $*" >&2; exit 1; }
[[ $E2E_NAME =~ ^[a-z0-9][a-z0-9-]{0,30}$ ]] || _die "E2E_NAME '$E2E_NAME': use at most 31 of a-z, 0-9 and -"

# A zombie is dead too: where PID 1 of the host is no init, it may stay unreaped for seconds.
_alive() { local st; [ -n "${1:-}" ] && st=$(ps -o stat= -p "$1" 2>/dev/null) && [ -n "$st" ] && [ "${st#Z}" = "$st" ]; }
_holder() {   # PID of our holder; the command line is compared because PIDs are used again
  local p; p=$(cat "$E2E_STATE/holder.pid" 2>/dev/null) || return 1
  _alive "$p" && tr '\0' ' ' <"/proc/$p/cmdline" 2>/dev/null | grep -q -- "__hold $E2E_NAME " && echo "$p"
}
_leader() {   # PID of the machine's PID 1, only once it has switched root
  local h n l; h=$(_holder) || return 1
  n=$(pgrep -P "$h" -x systemd-nspawn) || return 1
  for l in $(pgrep -P "$n"); do
    [ -e "/proc/$l/root/etc/e2e-machine" ] && [ -S "/proc/$l/root/run/systemd/private" ] \
      && [ "$(readlink "/proc/$l/ns/mnt")" != "$(readlink "/proc/$h/ns/mnt")" ] && { echo "$l"; return 0; }
  done
  return 1
}
_now() { local t=$EPOCHREALTIME; echo $(( ${t/[.,]/} / 1000 )); }

# --- the base tree ----------------------------------------------------------------------------------------------------
_bootstrap() {   # single quotes: $1 is the tree, expanded by the hook's own shell
  nice -n 10 mmdebstrap --quiet --variant=minbase --include="$E2E_PKGS" \
    --customize-hook='chroot "$1" useradd -m -s /bin/bash alice && echo alice:correct-horse | chroot "$1" chpasswd' \
    --customize-hook='chroot "$1" useradd -m -s /bin/bash bob && echo bob:battery-staple | chroot "$1" chpasswd' \
    --customize-hook='mkdir -p "$1/var/log/journal"; echo e2e > "$1/etc/hostname"; : > "$1/etc/machine-id"' \
    --customize-hook='chroot "$1" systemctl --quiet disable firewalld.service dropbear.service vsftpd.service' \
    --customize-hook='rm -f "$1/etc/resolv.conf"; echo "127.0.1.1 e2e" >> "$1/etc/hosts"; touch "$1/etc/e2e-machine"' \
    "$E2E_SUITE" "$1" </dev/null
}
e2e_base() {
  [ -e "$E2E_BASE/etc/e2e-machine" ] && return 0
  [ "$(id -u)" = 0 ] || _die "making the base tree needs root"
  ( # one at a time: who comes second finds the tree made; a tree is only ever seen whole
    flock 9 || exit 1
    [ -e "$E2E_BASE/etc/e2e-machine" ] && exit 0
    rm -rf --one-file-system -- "$E2E_BASE" "$E2E_BASE.new"
    trap 'rm -rf --one-file-system -- "$E2E_BASE.new"' EXIT
    trap 'exit 130' INT TERM HUP
    echo "machine.sh: making the base tree of $E2E_SUITE, once (about a minute): $E2E_BASE" >&2
    _bootstrap "$E2E_BASE.new" 9>&- && mv -T -- "$E2E_BASE.new" "$E2E_BASE"
  ) 9>"$E2E_BASE.lock" || _die "mmdebstrap failed for $E2E_SUITE"
}

# --- the holder: in its own mount and network namespace, owns everything -----------------------------------------------
# (Re)make the wire before every boot, so that the machine's nftables, conntrack and routes are gone after a reboot as on
# real hardware (a namespace that stayed would keep the ruleset).
_wire() {
  local W=$E2E_STATE a
  ip link del atk0 2>/dev/null; umount "$W/netns" 2>/dev/null
  : >"$W/netns"; unshare --net="$W/netns" true || exit 91      # pinned by a bind mount that only this namespace sees
  ip link set lo up
  ip link add atk0 type veth peer name eth0 || exit 92
  nsenter --net="$W/netns" ip link set lo up
  ip link set eth0 netns "$W/netns" 2>/dev/null || {           # old iproute2 wants a PID or a name
    nsenter --net="$W/netns" sleep 20 & ip link set eth0 netns $!; kill $!; }
  for a in $E2E_A; do case $a in
    *:*) ip addr add "$a/64" dev atk0 nodad;; *) ip addr add "$a/24" dev atk0;; esac; done
  ip link set atk0 up
  for a in $E2E_M4/24 $E2E_M4B/24; do nsenter --net="$W/netns" ip addr add "$a" dev eth0; done
  for a in $E2E_M6/64 $E2E_M6B/64; do nsenter --net="$W/netns" ip addr add "$a" dev eth0 nodad; done
  nsenter --net="$W/netns" ip link set eth0 up
}
_hold() {
  local W=$E2E_STATE cg rc=133 watch=
  echo $$ >"$W/holder.pid"
  trap '' TERM INT HUP
  if [ -n "${E2E_OWNER:-}" ]; then   # in the host's cgroup, so that it never keeps ours from being removed
    ( trap - TERM; tail --pid="$E2E_OWNER" -f /dev/null; rm -f "$W/boot-again"
      pkill -TERM -P $$ -x systemd-nspawn; sleep 10; pkill -KILL -P $$ -x systemd-nspawn ) & watch=$!
  fi
  # The upper layer is a tmpfs of this namespace: no residue, and no sync of the host's disk at the end.
  mount -t tmpfs -o "size=$E2E_TMPFS,mode=0755" "e2e-$E2E_NAME" "$W/rw" && mkdir "$W/rw/upper" "$W/rw/work" &&
  mount -t overlay "e2e-$E2E_NAME" -o "lowerdir=$E2E_BASE,upperdir=$W/rw/upper,workdir=$W/rw/work" "$W/merged" || exit 90
  # A cgroup of its own: two machines must never share /payload.
  for cg in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ -e "$cg/cgroup.procs" ] && mkdir -p "$cg/e2e-$E2E_NAME" && echo $$ >"$cg/e2e-$E2E_NAME/cgroup.procs"
  done
  if [ "$E2E_CGROUP" = unified ] && [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup      # in this namespace only
    mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 93
  fi
  while [ $rc = 133 ]; do                      # 133: the machine asked for a reboot (--keep-unit exits then)
    _wire
    # shellcheck disable=SC2086
    setpriv --pdeathsig TERM systemd-nspawn --quiet --boot --directory="$W/merged" --machine="$E2E_NAME" \
      --register=no --keep-unit --network-namespace-path="$W/netns" --capability=CAP_NET_ADMIN \
      --resolv-conf=off --timezone=off --link-journal=no --console=read-only $E2E_NSPAWN_ARGS \
      </dev/null >>"$W/console.log" 2>&1
    rc=$?
    [ -e "$W/boot-again" ] && { rm -f "$W/boot-again"; rc=133; }
  done
  echo $rc >"$W/exit"
  [ -z "$watch" ] || { pkill -KILL -P "$watch"; kill -KILL "$watch"; } 2>/dev/null
}

_wait_boot() {   # [PID of the init that must be gone]
  local t0 l s; t0=$(_now)
  while :; do
    _holder >/dev/null || { tail -n 20 "$E2E_STATE"/{holder,console}.log >&2; _die "the holder died while booting"; }
    if l=$(_leader) && [ "$l" != "${1:-0}" ]; then
      s=$(timeout 30 nsenter -t "$l" -a systemctl is-system-running --wait 2>/dev/null)
      case $s in running|degraded) echo "$s"; return 0;; esac
    fi
    [ $(( $(_now) - t0 )) -gt $(( E2E_BOOT_TIMEOUT * 1000 )) ] && { tail -n 20 "$E2E_STATE/console.log" >&2; _die "boot timed out"; }
    sleep 0.05
  done
}

e2e_up() {
  [ "$(id -u)" = 0 ] || _die "needs root"
  local t0 s i; t0=$(_now)
  if ! _holder >/dev/null; then
    e2e_base
    e2e_down
    mkdir -p "$E2E_STATE"/{rw,merged}
    if [ "$E2E_CGROUP" = auto ]; then case $E2E_SUITE in bookworm) E2E_CGROUP=host;; *) E2E_CGROUP=unified;; esac; fi
    export E2E_NAME E2E_SUITE E2E_BASE E2E_STATE E2E_CGROUP E2E_NSPAWN_ARGS E2E_TMPFS E2E_OWNER="${E2E_OWNER:-}"
    setsid nice -n "$E2E_NICE" unshare --mount --net --propagation private \
      bash "$E2E_SELF" __hold "$E2E_NAME" x </dev/null >>"$E2E_STATE/holder.log" 2>&1 &
    disown $!   # whoever sourced us does not wait for it
    for i in $(seq 100); do _holder >/dev/null && break; sleep 0.05; done
  fi
  s=$(_wait_boot) || exit 1
  echo "up: $E2E_NAME $E2E_SUITE $s leader=$(_leader) in $(( $(_now) - t0 )) ms"
}
# nsenter keeps the HOST root's capabilities (date -s in the machine would set the host's clock: there is no namespace for
# it), so everything is dropped that the machine's own PID 1 does not have.
e2e_exec() {
  local l m n drop=; l=$(_leader) || _die "$E2E_NAME is not up"
  m=$(( 16#$(awk '/^CapBnd/{print $2}' "/proc/$l/status") ))
  for (( n = 0; n <= $(</proc/sys/kernel/cap_last_cap); n++ )); do (( m >> n & 1 )) || drop+=,-cap_$n; done
  nsenter -t "$l" -a -- setpriv --bounding-set "${drop#,}" --inh-caps "${drop#,}" \
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/root USER=root LOGNAME=root LANG=C.UTF-8 TERM=dumb SYSTEMD_PAGER= SYSTEMD_COLORS=0 "$@"
}
e2e_unit() { e2e_exec systemd-run --quiet --pipe --wait --collect "$@"; }
e2e_push() {
  local dest=${*: -1} src; [ $# -ge 2 ] || _die "push SRC... DESTDIR"
  for src in "${@:1:$#-1}"; do
    tar -C "$(dirname -- "$src")" --owner=0 --group=0 -cf - -- "$(basename -- "$src")" |
      e2e_exec sh -c 'mkdir -p -- "$1" && tar -C "$1" --no-same-owner -xpf -' sh "$dest" || return 1
  done
}
e2e_push-tree() {
  tar -C "$1" --owner=0 --group=0 -cf - . | e2e_exec tar -C / --no-same-owner --no-overwrite-dir --keep-directory-symlink -xpf -
}
e2e_pull() { e2e_exec cat -- "$1" >"$2"; }
e2e_atk() {
  local h; h=$(_holder) || _die "$E2E_NAME is not up"
  # Test traffic never leaves the private wire.
  [ "$(readlink "/proc/$h/ns/net")" != "$(readlink /proc/1/ns/net)" ] || _die "the holder is in the host's network namespace"
  nsenter -t "$h" -n -- "$@"
}
e2e_probe() {  # SRC [DST [PORT]]
  local src=$1 dst=${2:-} port=${3:-22}; [ -n "$dst" ] || dst=$(_dst "$src")
  e2e_atk python3 - "$src" "$dst" "$port" <<'PY'
import socket, sys
src, dst, port = sys.argv[1:4]
s = socket.socket(socket.AF_INET6 if ":" in dst else socket.AF_INET)
s.settimeout(2)
try:
    s.bind((src, 0)); s.connect((dst, int(port))); print("open")
except socket.timeout: print("timeout")
except ConnectionRefusedError: print("refused")
except OSError as e: print("error %s" % e)
PY
}
_dst() { case $1 in 192.0.2.*) echo $E2E_M4;; 198.51.100.*) echo $E2E_M4B;; 2001:db8:0:1:*) echo $E2E_M6B;; *) echo $E2E_M6;; esac; }

_askpass() {  # PASSWORD CMD...: ssh asks this program and no terminal; it answers every prompt (sshpass only the first)
  local p=$1 f=$E2E_STATE/askpass; shift
  if [ ! -x "$f" ]; then   # several attempts at once: the file appears whole
    printf '#!/bin/sh\nprintf "%%s\\n" "$E2E_ASKPASS_PW"\n' >"$f.$BASHPID" && chmod 700 "$f.$BASHPID" && mv "$f.$BASHPID" "$f"
  fi
  E2E_ASKPASS_PW=$p SSH_ASKPASS=$f SSH_ASKPASS_REQUIRE=force "$@" </dev/null
}
# One bounded attempt, at most E2E_ATTEMPT seconds; prints nothing; returns the client's status. E2E_SSH_CMD is what a
# login that succeeds runs.
e2e_attack() {
  local kind=$1 src=$2 user=${3:-} dst port=${E2E_PORT:-22} cmd=${E2E_SSH_CMD:-true}; dst=$(_dst "$src")
  local o=(-F none -b "$src" -p "$port" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR
           -o ConnectTimeout=3 -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes -o IdentityAgent=none -i /dev/null
           -o ServerAliveInterval=1 -o ServerAliveCountMax=3)
  local pw=(-o PubkeyAuthentication=no -o PreferredAuthentications=password)
  local t="timeout ${E2E_ATTEMPT:-40}"
  case $kind in
    badpass)   _askpass wrong e2e_atk $t ssh "${o[@]}" "${pw[@]}" -o NumberOfPasswordPrompts=1 -l "${user:-alice}" "$dst" true;;
    badkbd)    _askpass wrong e2e_atk $t ssh "${o[@]}" -o PubkeyAuthentication=no -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 -l "${user:-alice}" "$dst" true;;
    baduser)   _askpass wrong e2e_atk $t ssh "${o[@]}" "${pw[@]}" -o NumberOfPasswordPrompts=1 -l "${user:-oracle}" "$dst" true;;
    maxauth)   _askpass wrong e2e_atk $t ssh "${o[@]}" "${pw[@]}" -o NumberOfPasswordPrompts=7 -l "${user:-alice}" "$dst" true;;
    goodpass)  _askpass "${E2E_PASS:-correct-horse}" e2e_atk $t ssh "${o[@]}" "${pw[@]}" -o NumberOfPasswordPrompts=1 -l "${user:-alice}" "$dst" "$cmd";;
    nokey)     e2e_atk $t ssh "${o[@]}" -o BatchMode=yes -l "${user:-alice}" "$dst" true;;      # valid user, no credential
    nokeyuser) e2e_atk $t ssh "${o[@]}" -o BatchMode=yes -l "${user:-oracle}" "$dst" true;;     # invalid user, no credential
    badkey)    e2e_atk $t ssh "${o[@]}" -o BatchMode=yes -i "${E2E_KEY:?}" -l "${user:-alice}" "$dst" true;;
    nokex)     e2e_atk $t ssh "${o[@]}" -o BatchMode=yes -o KexAlgorithms=diffie-hellman-group1-sha1 -l x "$dst" true;;
    nohostkey) e2e_atk $t ssh "${o[@]}" -o BatchMode=yes -o HostKeyAlgorithms=ssh-dss -l x "$dst" true;;
    nocipher)  e2e_atk $t ssh "${o[@]}" -o BatchMode=yes -o Ciphers=3des-cbc -l x "$dst" true;;
    nomac)     e2e_atk $t ssh "${o[@]}" -o BatchMode=yes -o Ciphers=aes128-ctr -o MACs=hmac-md5 -l x "$dst" true;;
    tcpclose|tcpreset|http|ssh1|badpacket|longbanner|bannerclose|hold|tls)
      e2e_atk $t python3 - "$kind" "$src" "$dst" "$port" "${E2E_HOLD:-5}" <<'PY'
import socket, struct, sys, time
kind, src, dst, port, hold = sys.argv[1:6]
s = socket.socket(socket.AF_INET6 if ":" in dst else socket.AF_INET)
s.settimeout(3)
s.bind((src, 0)); s.connect((dst, int(port)))
def rd():
    try: return s.recv(4096)
    except OSError: return b""
if kind == "tcpclose": pass
elif kind == "tcpreset":
    rd(); s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
elif kind == "http": s.sendall(b"GET / HTTP/1.0\r\n\r\n"); rd(); rd()
elif kind == "tls": s.sendall(bytes.fromhex("1603010200010001fc0303") + b"\x11" * 60 + b"\n"); rd(); rd()
elif kind == "ssh1": s.sendall(b"SSH-1.5-old\r\n"); rd(); rd()
elif kind == "longbanner": s.sendall(b"A" * 9000 + b"\r\n"); rd(); rd()
elif kind == "bannerclose": rd(); s.sendall(b"SSH-2.0-probe\r\n"); rd()
elif kind == "badpacket": rd(); s.sendall(b"SSH-2.0-probe\r\n"); rd(); s.sendall(b"\xff" * 64); rd()
elif kind == "hold": time.sleep(float(hold))
s.close()
PY
      ;;
    *) _die "unknown attack $kind";;
  esac
}
e2e_log() { e2e_exec journalctl --no-pager "$@"; }
e2e_reboot() {
  local old t0; t0=$(_now); old=$(_leader) || _die "$E2E_NAME is not up"
  e2e_exec systemctl reboot || true
  echo "rebooted: $(_wait_boot "$old") in $(( $(_now) - t0 )) ms"
}
e2e_crash() {   # as when the power goes: PID 1 of the machine, hence all of it, is killed at once
  local old t0; t0=$(_now); old=$(_leader) || _die "$E2E_NAME is not up"
  : >"$E2E_STATE/boot-again"; kill -KILL "$old"
  echo "crashed and back: $(_wait_boot "$old") in $(( $(_now) - t0 )) ms"
}
e2e_leader() { _leader; }
e2e_status() { local l; if l=$(_leader); then echo "up leader=$l"; elif _holder >/dev/null; then echo "booting"; else echo down; fi; }
e2e_down() {
  local h n l i t0 cg d; t0=$(_now)
  if h=$(_holder); then
    rm -f "$E2E_STATE/boot-again"
    l=$(_leader)
    if n=$(pgrep -P "$h" -x systemd-nspawn); then
      kill -TERM "$n" 2>/dev/null                      # nspawn asks the machine's init for a clean poweroff
      for i in $(seq 200); do _alive "$h" || break; sleep 0.05; done
      if _alive "$h"; then
        echo "down: the poweroff took over 10 s, killing" >&2
        for i in ${l:-} "$n"; do kill -KILL "$i" 2>/dev/null; done; sleep 0.3
      fi
    fi
    _alive "$h" && { kill -KILL "$h" 2>/dev/null; sleep 0.1; }
  fi
  for i in 1 2 3 4 5; do   # the kernel may take a moment to empty a cgroup
    d=
    for cg in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
      [ -d "$cg/e2e-$E2E_NAME" ] && { find "$cg/e2e-$E2E_NAME" -depth -type d -exec rmdir {} + 2>/dev/null || d=1; }
    done
    [ -z "$d" ] && break; sleep 0.1
  done
  [ -n "$E2E_STATE" ] && [ -d "$E2E_STATE" ] && rm -rf --one-file-system -- "$E2E_STATE"
  rmdir -- "$(dirname -- "$E2E_STATE")" 2>/dev/null
  [ -z "${h:-}" ] || echo "down: $E2E_NAME in $(( $(_now) - t0 )) ms"
  return 0
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  verb=${1:-}; shift || true
  case $verb in
    __hold) _hold;;
    base|up|exec|unit|push|push-tree|pull|attack|probe|atk|log|reboot|crash|leader|status|down) "e2e_$verb" "$@";;
    *) sed -n '3,/^set -u/p' "$0" | sed '$d;s/^# \{0,1\}//'; exit 2;;
  esac
fi
