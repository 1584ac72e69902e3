# SPDX-License-Identifier: GPL-3.0-or-later
# 17-commands.sh - commands over the bus: what a local user can do to root's, and what starts a daemon that was stopped.
. "$(dirname "$0")/lib.sh"
fresh

# busctl takes arguments of a signal for those of the last method where that ends with an "in", and complains.
for what in "introspect $M /org/banish1" "introspect $M /org/banish1/jail/sshd" "tree $M"; do
  # shellcheck disable=SC2086
  noise=$(m busctl $what 2>&1 >/dev/null)
  equal "busctl ${what%% *} says nothing but the answer" "" "$noise"
done

cat >"$E2E_STATE/flood.py" <<'PY'
# flood.py KIND FLAGS READ SECONDS: calls as fast as the bus takes them, over 16 connections.
import os, select, socket, struct, sys, time
def align(data, to): return data + b"\0" * (-len(data) % to)
def text(value): value = value.encode(); return struct.pack("<I", len(value)) + value + b"\0"
def message(serial, to, path, interface, member, signature="", body=b"", flags=0):
    fields = b""
    for code, kind, value in [(1, "o", path), (2, "s", interface), (3, "s", member), (6, "s", to)]:
        fields = align(fields, 8) + bytes([code, 1]) + kind.encode() + b"\0" + text(value)
    if signature:
        fields = align(fields, 8) + bytes([8, 1]) + b"g\0" + bytes([len(signature)]) + signature.encode() + b"\0"
    head = b"l" + bytes([1, flags, 1]) + struct.pack("<III", len(body), serial, len(fields)) + fields
    return align(head, 8) + body
def connect():
    s = socket.socket(socket.AF_UNIX); s.connect("/run/dbus/system_bus_socket")
    s.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n"); s.recv(200)
    bus = "org.freedesktop.DBus"
    s.sendall(b"BEGIN\r\n" + message(1, bus, "/org/freedesktop/DBus", bus, "Hello")); time.sleep(.05); s.recv(4096)
    s.setblocking(False); return s
kind, flags, read, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1", float(sys.argv[4])
path, interface, member, signature, body = {
    "objects": ("/org/banish1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "", b""),
    "getall": ("/org/banish1/jail/sshd", "org.freedesktop.DBus.Properties", "GetAll", "s", text("org.banish1.Jail")),
    "check": ("/org/banish1", "org.banish1.Manager", "Check", "", b""),
    "ping": ("/org/banish1", "org.freedesktop.DBus.Peer", "Ping", "", b""),
}[kind]
blob = b"".join(message(n, "org.banish1", path, interface, member, signature, body, flags) for n in range(2, 102))
all_, at, end = [connect() for _ in range(16)], {}, time.time() + seconds
while time.time() < end:
    readable, writable, _ = select.select(all_ if read else [], all_, [], .2)
    for s in readable:
        try: s.recv(1 << 20)
        except OSError: pass
    for s in writable:
        o = at.get(s, 0)
        try: at[s] = (o + s.send(blob[o:])) % len(blob)
        except OSError: pass
PY
e2e_push "$E2E_STATE/flood.py" /tmp; m chmod 755 /tmp/flood.py
memory() { m awk '/^RssAnon/ { print $2 }' "/proc/$(main_pid)/status"; }
longest=0
timed() {   # CMD...: succeeds, and how long it took is kept where it is the longest
  local t0 ms; t0=$(_now); m timeout 60 "$@" >/dev/null 2>&1 || { not_ok "root's $* is done"; return; }
  ms=$(( $(_now) - t0 )); [ "$ms" -le "$longest" ] || longest=$ms
}
before=$(memory)
for flood in "objects 0 1" "objects 0 0" "getall 0 1" "check 0 0" "ping 1 1" "objects 1 1"; do
  # shellcheck disable=SC2086
  e2e_unit --uid=alice python3 /tmp/flood.py $flood 12 >/dev/null 2>&1 & CLIENTS+=($!)
  sleep 1; longest=0
  timed banishctl status; timed banishctl ban 203.0.113.77; timed banishctl list; timed banishctl unban 203.0.113.77
  grown=$(( $(memory) - before ))
  end_clients; m systemctl kill --signal=KILL 'run-*.service' 2>/dev/null
  if [ "$longest" -lt 4000 ]; then ok "root's commands are done while alice floods: $flood"
  else not_ok "root's commands are done while alice floods: $flood" "one took $longest ms"; fi
  if [ "$grown" -lt 16384 ]; then ok "the flood leaves the memory as it was: $flood"
  else not_ok "the flood leaves the memory as it was: $flood" "$grown KiB more"; fi
done

# Stopped and disarmed it stays, whoever asks for what.
call Ban ssstsb 203.0.113.78 "" 0 "" false >/dev/null 2>&1 || m banishctl ban 203.0.113.78 >/dev/null
m systemctl stop banishd.service; said=$(m banishctl disarm)
found "disarm says what puts the table back" "systemctl stop banishd.*" "$said"
found "disarm says how to stay without it after a boot" "systemctl disable banishd" "$said"
for as in 0 alice; do
  e2e_unit --uid="$as" busctl get-property $M /org/banish1 $M.Manager Version >/dev/null 2>&1
  e2e_unit --uid="$as" busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus StartServiceByName su $M 0 >/dev/null 2>&1
  e2e_unit --uid="$as" busctl call $M /org/banish1 org.freedesktop.DBus.Peer Ping >/dev/null 2>&1
done
m banishctl status >/dev/null 2>&1
sleep 2
equal "no call starts what was stopped" inactive "$(m systemctl is-active banishd.service)"
refuse "no call brings the table back" m nft list table inet banish
refuse "there is no way to start it over the bus" m test -e /usr/share/dbus-1/system-services/org.banish1.service
m systemctl start banishd.service

# A jail that is configured but not enabled is told from one that is not there.
said=$(m banishctl ban --jail apache-auth 203.0.113.79 2>&1)
found "a jail that is not enabled is told, with how to enable it" "not enabled.*\[jail.apache-auth\] and enabled = true" "$said"
said=$(m banishctl pause sshx 2>&1)
found "a misspelt jail is told, with what was meant" 'there is no jail "sshx"; did you mean sshd' "$said"
m banishctl unban --all >/dev/null
