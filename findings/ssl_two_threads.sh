#!/usr/bin/env bash
# websockets 17.4, `websockets.sync`: over TLS 1.3 about one connection in a hundred hangs in its handshake, for ever without a timeout.
#
# The synchronous client reads in a thread of its own and sends in the caller's, with one SSLSocket. CPython gives up the
# GIL in both calls, and OpenSSL does not allow them at the same time on one connection. What makes it happen in every
# handshake is TLS 1.3: the server's session tickets arrive, and are read by the one thread, just when the other one sends
# the upgrade request. Most users have TLS ended by a proxy that speaks 1.3, and see a rare TimeoutError of "a slow server".
#
# Seen on Python 3.11.7, 3.12.1 and 3.13.0 with OpenSSL 3.0.19 (the library alone: at most 2,000 connections, to the first that hangs):
#   ssl, a thread that reads and one that sends, TLS 1.3: hangs at connection 5
#   ssl, a thread that reads and one that sends, TLS 1.2: 2,000 connections, none hangs
#   websockets 17.4, TLS 1.3: hangs at connection 199
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check websockets==17.4 >&2
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -keyout "$folder/key.pem" -out "$folder/cert.pem" 2>/dev/null
cat >"$folder/main.py" <<'PY'
import asyncio
import contextlib
import os
import socket
import ssl
import sys
import threading

from websockets.asyncio.server import serve
from websockets.sync.client import connect

CERTIFICATE, KEY = sys.argv[1:]
MOST, PATIENCE_S = 2000, 5

ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
ours.load_cert_chain(CERTIFICATE, KEY)


def trust(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=CERTIFICATE)
    context.maximum_version = version
    return context


def echo(listening: socket.socket) -> None:
    def talk(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), ours.wrap_socket(connection, server_side=True) as secured:
            while data := secured.recv(4096):
                secured.sendall(data)

    while True:
        threading.Thread(target=talk, args=(listening.accept()[0],), daemon=True).start()


def plain(version: ssl.TLSVersion) -> int:
    """The first connection that hangs, or 0."""
    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=echo, args=(listening,), daemon=True).start()
    context = trust(version)
    for number in range(1, MOST + 1):
        raw = socket.create_connection(listening.getsockname())
        secured, answered = context.wrap_socket(raw, server_hostname="localhost"), threading.Event()

        def read() -> None:
            with contextlib.suppress(OSError):
                secured.recv(4096)
                answered.set()

        threading.Thread(target=read, daemon=True).start()
        secured.sendall(b"hello")
        if not answered.wait(PATIENCE_S):
            return number
        secured.close()
    return 0


def by_websockets() -> int:
    listening, started = socket.create_server(("127.0.0.1", 0)), threading.Event()

    async def handle(connection) -> None:
        async for message in connection:
            await connection.send(message)

    async def main() -> None:
        async with serve(handle, sock=listening, ssl=ours):
            started.set()
            await asyncio.Future()

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    started.wait()
    url, context = f"wss://localhost:{listening.getsockname()[1]}", trust(ssl.TLSVersion.TLSv1_3)
    for number in range(1, MOST + 1):
        try:
            with connect(url, ssl=context, proxy=None, open_timeout=PATIENCE_S, close_timeout=PATIENCE_S) as connection:
                connection.send("hello")
                connection.recv(timeout=PATIENCE_S)
        except TimeoutError:
            return number
    return 0


def told(hangs_at: int) -> str:
    return f"hangs at connection {hangs_at}" if hangs_at else f"{MOST:,} connections, none hangs"


seen = {version: plain(version) for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)}
print(f"Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}")
for version, hangs_at in seen.items():
    print(f"ssl, a thread that reads and one that sends, {version.name}: {told(hangs_at)}")
print(f"websockets, TLSv1_3: {told(library := by_websockets())}")
sys.stdout.flush()
os._exit(not (seen[ssl.TLSVersion.TLSv1_3] and library and not seen[ssl.TLSVersion.TLSv1_2]))  # threads hang on
PY
"$folder/venv/bin/python" "$folder/main.py" "$folder/cert.pem" "$folder/key.pem"
