#!/usr/bin/env bash
# daphne 4.2.3 (autobahn 24.4.2): an application's close with a code below 3000, other than 1000, raises, and the
# connection stays open.
#
# ASGI's `websocket.close` takes any code, RFC 6455 gives servers 1001, 1008, 1011, 1012, 1013 to say why, and the other
# ASGI servers send them. Here `send` raises a bare Exception; nothing is sent to the peer, who can go on talking.
#
# Seen:
#   1000: closed with 1000
#   4000: closed with 4000
#   1001: send raised Exception, the peer was answered afterwards   (1008, 1011, 1012, 1013: the same)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check daphne==4.2.3 autobahn==24.4.2 websockets==17.4 >&2
cat >"$folder/app.py" <<'PY'
async def app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"].isdecimal():
            try:
                await send({"type": "websocket.close", "code": int(message["text"])})
            except Exception as exc:
                await send({"type": "websocket.send", "text": f"send raised {type(exc).__name__}"})
        else:
            await send({"type": "websocket.send", "text": message["text"]})
PY
cat >"$folder/main.py" <<'PY'
import socket
import subprocess
import sys
import time
from pathlib import Path

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
daphne = Path(sys.executable).with_name("daphne")
server = subprocess.Popen(
    [daphne, "-b", "127.0.0.1", "-p", str(port), "app:app"],
    cwd=Path(__file__).parent,
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
)
seen = {}
try:
    for code in (1000, 4000, 1001, 1008, 1011, 1012, 1013):
        for _ in range(300):
            try:
                client = connect(f"ws://127.0.0.1:{port}/", open_timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        with client:
            client.send(str(code))
            try:
                said = client.recv(timeout=10)
                client.send("still there?")
                seen[code] = said + (", the peer was answered afterwards" if client.recv(timeout=10) else "")
            except ConnectionClosed as closed:
                seen[code] = f"closed with {closed.rcvd.code}"
        print(f"{code}: {seen[code]}")
finally:
    server.terminate()
    server.wait()
raised = "send raised Exception, the peer was answered afterwards"
sys.exit(seen != {1000: "closed with 1000", 4000: "closed with 4000"} | dict.fromkeys((1001, 1008, 1011, 1012, 1013), raised))
PY
"$folder/venv/bin/python" "$folder/main.py"
