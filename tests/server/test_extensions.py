"""What middlewares and logs do with `scope["extensions"]`: copy it, write it, hand a copy on."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest
from fastapi import FastAPI
from pydantic import TypeAdapter

from socketsundso import Endpoint, event
from socketsundso.server import Pull, Push
from tests.server.serving import TEXT, closing, masked, peer, request, run, sent_by_asgi, serving

NAMES = ["websocket.http.response", "socketsundso.pull", "socketsundso.push"]


class Echo(Endpoint):
    """Answers, and tells its room."""

    async def on_connect(self) -> None:
        await super().on_connect()
        await self.join("room")

    @event
    async def on_say(self, text: str) -> dict[str, Any]:
        await self.broadcast({"type": "told", "text": text}, room="room")
        return {"text": text}


mounted = FastAPI()
mounted.websocket("/")(Echo)


def scope_of(head: bytes = request(), **options: Any) -> Any:
    """The scope that an application gets."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send({"type": "websocket.close"})

    async def main() -> None:
        async with serving(app, **options) as served, peer(served, head) as client:
            assert await client.response() == 403

    run(main())
    return seen[0]


@pytest.mark.parametrize("offer", [[], ["Sec-WebSocket-Extensions: permessage-deflate"]], ids=["plain", "deflate"])
def test_every_extension_is_a_dict_that_copies_and_serialises(offer: list[str]) -> None:
    """ASGI: a dict of dicts. All common ways to copy and to write one work, and what is written is empty dicts."""
    extensions = scope_of(request("/", *offer), ws_per_message_deflate=True)["extensions"]
    empty = {name: {} for name in extensions}
    assert list(extensions) == NAMES
    assert all(isinstance(entry, dict) for entry in extensions.values())
    assert extensions == empty
    assert json.loads(json.dumps(extensions)) == json.loads(json.dumps(extensions, indent=2)) == empty
    assert json.loads(orjson.dumps(extensions)) == json.loads(msgspec.json.encode(extensions)) == empty
    assert json.loads(TypeAdapter(dict[str, dict[str, Any]]).dump_json(extensions)) == empty
    assert pickle.loads(pickle.dumps(extensions)) == empty
    assert repr(extensions) == repr(empty)


def test_a_copied_scope_has_the_connections_own_entries() -> None:
    """Deep or shallow, of the scope or of one entry: whoever gets the copy can do what the connection can."""
    scope = scope_of()
    for copied in (copy.deepcopy(scope), copy.copy(scope), scope.copy(), {**scope}):
        assert copied == scope
        for name, kind in (("socketsundso.pull", Pull), ("socketsundso.push", Push)):
            entry = copied["extensions"][name]
            assert isinstance(entry, kind)
            assert entry is scope["extensions"][name]
            assert entry is copy.copy(entry) is entry.copy()


def test_entries_are_true_and_each_is_itself() -> None:
    """`if push:` tells an entry from the plain dict that a copy may have left, and a set keeps those of all apart."""
    (one, other) = (scope_of()["extensions"] for _ in range(2))
    for name in ("socketsundso.pull", "socketsundso.push"):
        assert one[name]
        assert one[name] != other[name]
        assert len({one[name], other[name], one[name]}) == 2
        assert not pickle.loads(pickle.dumps(one[name]))


def behind(app: Any, changed: Callable[[Any], Any]) -> Any:
    """`app` behind a middleware that passes on what `changed` makes of the scope."""

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        await app(changed(scope), receive, send)

    return middleware


def rebuilt(scope: Any) -> Any:
    return {**scope, "extensions": {name: dict(entry) for name, entry in scope["extensions"].items()}}


def through_json(scope: Any) -> Any:
    return {**scope, "extensions": json.loads(json.dumps(scope["extensions"]))}


def through_pickle(scope: Any) -> Any:
    return pickle.loads(pickle.dumps(scope))


def without(scope: Any) -> Any:
    return {name: value for name, value in scope.items() if name != "extensions"}


COPIES = {
    "deepcopy": (copy.deepcopy, True),
    "copy": (copy.copy, True),
    "rebuilt": (rebuilt, False),
    "through JSON": (through_json, False),
    "through pickle": (through_pickle, False),
    "without": (without, False),
}


@pytest.mark.parametrize("app", [Echo, mounted], ids=["bare", "fastapi"])
@pytest.mark.parametrize(("changed", "fast"), COPIES.values(), ids=COPIES)
def test_an_endpoint_works_behind_a_middleware_that_copies_the_scope(
    changed: Callable[[Any], Any], fast: bool, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the connection's own entries as fast as ever, without them by ASGI's functions; the peer sees the same."""
    sent = sent_by_asgi(monkeypatch)

    async def main() -> None:
        async with serving(behind(app, changed)) as served, peer(served) as client:
            for text in ("a", "b"):
                client.say(masked(TEXT, json.dumps({"type": "say", "text": text}).encode()))
                heard = [json.loads(await client.text()) for _ in range(2)]
                assert sorted(each["type"] for each in heard) == ["say", "told"]
                assert {each["text"] for each in heard} == {text}
            client.say(closing())
            assert await client.closed() == (1000, "")
            await client.leave()
            await served.idle()

    run(main())
    assert ("websocket.send" not in sent) is fast


def test_a_copied_scope_stands_for_the_same_functions() -> None:
    """A middleware that copies the scope and also wraps `send` and `receive` sees every message all the same."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope = copy.deepcopy(scope)
        pull, push = (scope["extensions"][name] for name in NAMES[1:])
        assert pull.stands_for(receive)
        assert push.stands_for(send)

        async def noted_receive() -> Any:
            message = await receive()
            seen.append(message["type"])
            return message

        async def noted_send(message: Any) -> None:
            seen.append(message["type"])
            await send(message)

        assert not pull.stands_for(noted_receive)
        assert not push.stands_for(noted_send)
        await Quiet(scope, noted_receive, noted_send)

    async def main() -> None:
        async with serving(app) as served, peer(served) as client:
            client.say(*[masked(TEXT, b'{"type":"say","text":"hi"}')] * 3)
            for _ in range(3):
                await client.text()
            client.say(closing())
            await client.closed()

    run(main())
    assert seen.count("websocket.receive") == seen.count("websocket.send") == 3


class Quiet(Endpoint):
    """Answers."""

    @event
    async def on_say(self, text: str) -> dict[str, Any]:
        return {"text": text}
