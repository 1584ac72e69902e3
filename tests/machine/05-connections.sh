#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A ban ends the host's established sessions, and leaves this machine's own connections to that host alone.
. "$(dirname "$0")/lib.sh"
fresh

E2E_ATTEMPT=60 E2E_SSH_CMD='echo in; exec sleep 60' e2e_attack goodpass 198.51.100.10 alice >"$E2E_STATE/session" 2>&1 & session=$!
CLIENTS+=($session)
check "(an ssh session is up)" within 20 grep -qx in "$E2E_STATE/session"
check "its host is banned by hand, in the jail of ssh" m banishctl ban 198.51.100.10 --jail sshd
ended() { ! _alive $session; }
check "the established session dies" within 15 ended
wait $session; check "because the server no longer answers" test $? -eq 255
check "no new session starts" cut_off 198.51.100.10

# The machine is a client of 198.51.100.11, which is then banned on all ports.
e2e_atk python3 - >/dev/null 2>&1 <<'PY' &
import socket, threading
s = socket.create_server(("198.51.100.11", 7)); s.listen()
def echo(c):
    while data := c.recv(100): c.sendall(data)
while True: threading.Thread(target=echo, args=(s.accept()[0],), daemon=True).start()
PY
server=$!; CLIENTS+=($server)
m sh -c 'cat >/run/client.py' <<'PY'
import os, socket, time
def ask(c):
    c.settimeout(3); c.sendall(b"hello"); return c.recv(100) == b"hello"
for _ in range(50):
    try: old = socket.create_connection(("198.51.100.11", 7), 3); break
    except ConnectionRefusedError: time.sleep(0.1)
assert ask(old); print("connected", flush=True)
while not os.path.exists("/run/host-banned"): time.sleep(0.1)
try: print("old lives" if ask(old) else "old broken", flush=True)
except OSError as e: print("old died:", e, flush=True)
try: print("new lives" if ask(socket.create_connection(("198.51.100.11", 7), 3)) else "new broken", flush=True)
except OSError as e: print("new refused:", e, flush=True)
PY
e2e_exec timeout 60 python3 /run/client.py >"$E2E_STATE/client" 2>&1 & client=$!
check "(a connection of the machine to the host is up)" within 20 grep -qx connected "$E2E_STATE/client"
equal "(a closed port answers the host)" refused "$(e2e_probe 198.51.100.11 198.51.100.1 4444)"
check "the host is banned on all ports" m banishctl ban 198.51.100.11
equal "it reaches no port any more" timeout "$(e2e_probe 198.51.100.11 198.51.100.1 4444)"
check "nor sshd" cut_off 198.51.100.11
m touch /run/host-banned; wait $client
found "the machine's own connection to it lives" '^old lives$' "$(cat "$E2E_STATE/client")"
found "and a new one can be made" '^new lives$' "$(cat "$E2E_STATE/client")"

# Sessions in which the server speaks: a ban of all ports ends them, in both directions, be it the first one or not.
m sh -c 'cat >/run/speaker.py' <<'PY'
# Answers each "hello" over UDP by a line every half a second, for ever, and counts what it hears.
import select, socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", 5001)); who = set(); heard = 0
while True:
    if select.select([s], [], [], 0.5)[0]:
        who.add(s.recvfrom(100)[1]); heard += 1
    else:
        for w in who:
            try: s.sendto(b"tick", w)
            except OSError: pass   # what a rule drops here is told to the sender
    with open("/run/heard", "w") as f: print(heard, file=f)
PY
m systemctl reset-failed speaker.service 2>/dev/null
m systemd-run --quiet --unit=speaker python3 /run/speaker.py
# SRC: an ssh session that prints and reads all the time, and one over UDP, whose client says something all the time too.
sessions() {
  local to; to=$(_dst "$1")
  E2E_ATTEMPT=120 E2E_SSH_CMD='while echo tick; do sleep 0.5; done' e2e_attack goodpass "$1" alice >"$E2E_STATE/ssh" 2>&1 & CLIENTS+=($!)
  e2e_atk timeout 120 python3 - "$1" "$to" >"$E2E_STATE/udp" 2>&1 <<'PY' &
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 0)); s.settimeout(0.5)
while True:
    s.sendto(b"hello", (sys.argv[2], 5001))
    try: print(s.recv(100).decode(), flush=True)
    except TimeoutError: pass
PY
  CLIENTS+=($!)
}
ticks() { [ "$(grep -c tick "$E2E_STATE/ssh")" -ge 3 ] && [ "$(grep -c tick "$E2E_STATE/udp")" -ge 3 ]; }
state_of_sessions() { echo "ssh $(grep -c tick "$E2E_STATE/ssh"), udp $(grep -c tick "$E2E_STATE/udp"), heard $(m cat /run/heard)"; }
# NAME: what each end has heard stays the same for a while.
silent() { local a b; sleep 0.7; a=$(state_of_sessions); sleep 4; b=$(state_of_sessions); equal "$1" "$a" "$b"; }
# One after the other: each begins without a ban of all ports and without connection tracking.
for src in 192.0.2.29 2001:db8::12; do
  m banishctl unban 198.51.100.11 >/dev/null 2>&1
  call UnbanAll s "" >/dev/null; m systemctl restart banishd.service; within 30 caught_up
  absent "(no ban of all ports is left)" 'chain hosts' "$(m nft list table inet banish)"
  sessions $src
  check "(sessions of $src are up over ssh and UDP)" within 30 ticks
  check "$src is banned on all ports" m banishctl ban $src
  silent "$src: nothing passes in its sessions behind the first ban"
  check "$src: the ruleset is flushed" m nft flush ruleset
  check "(and is back)" within 10 m nft list set inet banish ours"$([[ $src = *:* ]] && echo 6 || echo 4)"
  silent "$src: nothing passes behind a flush of the ruleset"
  end_clients
  # The same with connection tracking that came in the middle of the sessions, and another ban before.
  m banishctl unban $src >/dev/null
  sessions $src
  check "(sessions of $src are up again)" within 30 ticks
  m nft 'add table inet tracking; add chain inet tracking c { type filter hook prerouting priority -150; }; add rule inet tracking c ct state new counter'
  m banishctl ban 192.0.2.38 >/dev/null
  sleep 1.5
  check "$src is banned as the second" m banishctl ban $src
  silent "$src: nothing passes in its sessions behind a later ban"
  m nft delete table inet tracking
  m banishctl unban 192.0.2.38 >/dev/null
  end_clients
done
m systemctl stop speaker.service
