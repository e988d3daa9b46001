#!/usr/bin/env bash
# rloop 0.5.0: a transport has `set_protocol`, and it raises NotImplementedError.
#
# asyncio's documentation lists `BaseTransport.set_protocol`; HTTP servers hand a connection over to a WebSocket protocol
# with it. Whoever asks `hasattr(transport, "set_protocol")` beforehand is told that it is there.
#
# Seen:
#   asyncio: there, works
#   rloop:   there, NotImplementedError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check rloop==0.5.0 >&2
"$folder/venv/bin/python" - <<'PY'
import asyncio
import sys

import rloop


async def outcome():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    is_there = "there" if hasattr(transport, "set_protocol") else "missing"
    try:
        transport.set_protocol(asyncio.Protocol())
        return f"{is_there}, works"
    except NotImplementedError as exc:
        return f"{is_there}, {type(exc).__name__}"
    finally:
        transport.close()
        server.close()


seen = []
for name, factory in (("asyncio", asyncio.new_event_loop), ("rloop", rloop.new_event_loop)):
    loop = factory()
    seen.append(loop.run_until_complete(outcome()))
    print(f"{name + ':':9}{seen[-1]}")
sys.exit(seen != ["there, works", "there, NotImplementedError"])
PY
