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
