#!/usr/bin/env bash
# litestar 2.25.0: a `websocket_listener` does not validate a `data` that is annotated with a Struct or dataclass.
#
# Its documentation says that `data` is "converted / parsed according to the given type annotation", as in its HTTP
# handlers. Without `dto=`, the handler gets the dict that the JSON was, with whatever fields and types a client sends;
# with `dto=MsgspecDTO[Say]` it gets the Struct. Unions of Structs cannot be given as a DTO.
#
# Seen, for {"text": 5, "more": true} where `text` is a str:
#   post:            400
#   listener:        {'text': 5, 'more': True}
#   listener, dto=:  close 4500
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check litestar==2.25.0 >&2
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import sys

import msgspec
from litestar import post, websocket_listener
from litestar.dto import MsgspecDTO
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import create_test_client


class Say(msgspec.Struct):
    text: str


@post("/post")
async def posted(data: Say) -> str:
    return repr(data)


@websocket_listener("/ws")
async def heard(data: Say) -> str:
    return repr(data)


@websocket_listener("/dto", dto=MsgspecDTO[Say])
async def validated(data: Say) -> str:
    return repr(data)


def answer(path):
    try:
        with client.websocket_connect(path) as ws:
            ws.send_json(sent)
            return ws.receive_text()
    except WebSocketDisconnect as closed:
        return f"close {closed.code}"


sent = {"text": 5, "more": True}
with create_test_client([posted, heard, validated]) as client:
    seen = [str(client.post("/post", json=sent).status_code), answer("/ws"), answer("/dto")]
for name, each in zip(("post", "listener", "listener, dto="), seen):
    print(f"{name + ':':17}{each}")
sys.exit(seen != ["400", "{'text': 5, 'more': True}", "close 4500"])
PY
