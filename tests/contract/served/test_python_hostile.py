"""What a server should not send, and what it may send but clients trip over: the client answers clearly, and lives."""

from __future__ import annotations

import asyncio
import json
import logging
from types import ModuleType
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from socketsundso.contract.model import Api, Channel, Error, Features, Message, Receive

from ..apis import INTEGER, STRING, fields
from ..clients import load
from .servers import heard, scripted, until

POSTED = Message("posted", fields("msg", msg=STRING), "Posted")
IMPORTED = Message("imported", fields("count", count=INTEGER), "Imported")
GOT = Message("got", fields("n", n=INTEGER), "Got")
GONE = Error("gone", details=fields("since", since=INTEGER), name="Gone")
SHELF = Api(
    "Shelf",
    "1",
    (
        Channel(
            "shelf",
            "/",
            receives=(
                Receive(
                    "get", fields("n", n=INTEGER), (Message("got", fields("n", n=INTEGER), "Got"),), errors=(GONE,)
                ),
                Receive("put", fields("n", n=INTEGER)),
                Receive("ping", fields(), (Message("ping", {"type": "object", "additionalProperties": STRING}),)),
                Receive("list", fields(), (Message("row", fields("n", n=INTEGER), "Row"),), stream=True),
                Receive("import", fields(), (IMPORTED,), uploads=INTEGER),
                Receive("map", fields(), (IMPORTED,), uploads=INTEGER, stream=True),
            ),
            pushes=(POSTED, Message("prices", {"type": "object", "additionalProperties": INTEGER}, "Prices")),
            features=Features(history=True, presence=True),
        ),
    ),
)
FAST = {"backoff": lambda attempt: 0.001}


@pytest.fixture(scope="module", params=["msgspec", "pydantic"])
def made(request: pytest.FixtureRequest) -> ModuleType:
    return load(SHELF, request.param)


@pytest.fixture(scope="module")
def client() -> ModuleType:
    return load(SHELF)


BAD = [
    b"",
    b"{",
    b"nul",
    b"[]",
    b'"posted"',
    b"{}",
    b'{"type":null}',
    b'{"type":7}',
    b'{"type":"posted"}',
    b'{"type":"posted","msg":7}',
    b'{"type":"posted","msg":"\xff"}',
    b'{"type":"prices","a":"x"}',
    b'{"type":"nobody knows","msg":"x"}',
    b'{"type":"posted","msg":"x","ref":1e400}',
    b'{"type":"posted","msg":"x","ref":77}',
    b'{"type":"posted","msg":"x","ref":[]}',
    b'{"type":"posted","msg":"x","ref":true}',
    b'{"type":"got","n":1,"ref":"s:1"}',
    b'{"type":"complete","ref":99}',
    b'{"type":"cancel","ref":"s:9"}',
    b'{"type":"cancel","ref":{}}',
    b'{"type":"more","ref":99,"items":"many"}',
    b'{"type":"error","ref":99,"code":"late"}',
    b'{"type":"error","code":7}',
    b'{"type":"error","ref":{}}',
    b'{"type":"room_position","room":7}',
    b'{"type":"presence_diff","room":"r","joins":[]}',
    b'{"type":"resumed","rooms":{"r":{"recovered":true}}}',
    b'{"type":"posted","msg":' + b"[" * 100_000,
]
"""None of them is a push of the contract, nor an answer to anything that was asked."""


def test_what_is_not_understood_is_ignored(made: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """However malformed, and the next message is read; what cannot be read is logged, what is only unknown is not."""

    async def script(connection: ServerConnection) -> None:
        for frame in BAD:
            await connection.send(frame, text=True)
        await connection.send(b'{"type":"posted","msg":"binary"}')
        await connection.send(json.dumps({"type": "posted", "msg": "at last", "unknown": {"key": [1]}}))
        await connection.wait_closed()

    async def main() -> None:
        async with scripted(script) as url, made.Shelf(url) as shelf:
            assert await anext(aiter(shelf)) == made.Posted(msg="binary")
            assert await anext(aiter(shelf)) == made.Posted(msg="at last")
            assert shelf.state == "open"

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert 15 <= len(caplog.records) <= 22


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"type": "got"}, "get was answered with no Got"),
        ({"type": "got", "n": "x"}, "get was answered with no Got"),
        ({"type": "other", "n": 1}, "get was answered with 'other', which the contract does not have"),
        ({"type": "complete"}, "get was answered with 'complete'"),
    ],
)
def test_an_answer_that_the_contract_lacks_is_raised(made: ModuleType, answer: dict[str, Any], error: str) -> None:
    """By the request that it answers: nobody waits for its time limit."""

    async def script(connection: ServerConnection) -> None:
        question = await heard(connection)
        await connection.send(json.dumps({**answer, "ref": question["ref"]}))
        await connection.wait_closed()

    async def main() -> None:
        async with scripted(script) as url, made.Shelf(url) as shelf:
            with pytest.raises(made.InvalidMessage, match=error):
                await shelf.get(n=1)
            assert shelf.state == "open"

    asyncio.run(main())


def test_a_dict_may_have_any_type(made: ModuleType) -> None:
    """Where the contract says nothing of it but that it is a dict: its handler gives it the type that it likes."""

    async def script(connection: ServerConnection) -> None:
        for kind in ("ping", "pong"):
            question = await heard(connection)
            await connection.send(json.dumps({"type": kind, "a": "x", "ref": question["ref"]}))
        await connection.wait_closed()

    async def main() -> None:
        async with scripted(script) as url, made.Shelf(url) as shelf:
            assert [await shelf.ping(), await shelf.ping()] == [{"a": "x"}, {"a": "x"}]

    asyncio.run(main())


def test_the_second_answer_is_ignored(client: ModuleType) -> None:
    """And one that comes after its time limit, and a stream's items after its end."""

    async def script(connection: ServerConnection) -> None:
        first = await heard(connection)
        second = await heard(connection)
        for ref, n in ((second["ref"], 2), (second["ref"], 3), (first["ref"], 1)):
            await connection.send(json.dumps({"type": "got", "n": n, "ref": ref}))
        stream = (await heard(connection))["ref"]
        for kind in ("row", "complete", "row", "complete"):
            await connection.send(json.dumps({"type": kind, "n": 1, "ref": stream}))
        last = await heard(connection)
        await connection.send(json.dumps({"type": "got", "n": 4, "ref": last["ref"]}))
        await connection.wait_closed()

    async def main() -> None:
        async with scripted(script) as url, client.Shelf(url) as shelf:
            with pytest.raises(TimeoutError):
                await shelf.get(n=1, timeout_s=0.01)
            assert (await shelf.get(n=2)).n == 2
            assert [row.n async for row in shelf.list_()] == [1]
            assert (await shelf.get(n=4)).n == 4

    asyncio.run(main())


def test_an_error_frame_without_details_is_an_error(client: ModuleType) -> None:
    """Only a code; codes that nobody declared; the time that a rate limit asks for."""

    async def script(connection: ServerConnection) -> None:
        for told in ({}, {"code": "new"}, {"code": "rate_limited", "retry_after_s": 0.5}):
            ref = (await heard(connection))["ref"]
            await connection.send(json.dumps({"type": "error", "ref": ref, **told}))
        await connection.wait_closed()

    async def main() -> None:
        async with scripted(script) as url, client.Shelf(url) as shelf:
            told = []
            for _ in range(3):
                with pytest.raises(client.ShelfError) as caught:
                    await shelf.get(n=1)
                told.append((caught.value.code, caught.value.errors, caught.value.retry_after_s))
            assert told == [("", [], None), ("new", [], None), ("rate_limited", [], 0.5)]
            assert str(caught.value) == "get: rate_limited"

    asyncio.run(main())


def test_an_error_whose_details_are_others_is_the_channels(client: ModuleType) -> None:
    """A server that tells less than its contract is still understood: the code is there."""
    details: list[Any] = [[], [{}], [{"ctx": {}}], [{"ctx": {"since": "x"}}], [{"ctx": {"since": 3}}]]

    async def script(connection: ServerConnection) -> None:
        for errors in details:
            ref = (await heard(connection))["ref"]
            await connection.send(json.dumps({"type": "error", "code": "gone", "errors": errors, "ref": ref}))
        await connection.wait_closed()

    async def main() -> None:
        async with scripted(script) as url, client.Shelf(url) as shelf:
            kinds = []
            for _ in details:
                with pytest.raises(client.ShelfError) as caught:
                    await shelf.get(n=1)
                assert caught.value.code == "gone"
                kinds.append(type(caught.value).__name__)
            assert kinds == ["ShelfError"] * 4 + ["Gone"]

    asyncio.run(main())


def test_an_error_that_nobody_waits_for_is_told(client: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """Of an event without an answer, with its name; to `on_error`, else to the log."""

    async def script(connection: ServerConnection) -> None:
        for _ in range(2):
            ref = (await heard(connection))["ref"]
            await connection.send(json.dumps({"type": "error", "code": "forbidden", "errors": [], "ref": ref}))
        await connection.send(json.dumps({"type": "error", "code": "malformed_message", "errors": []}))
        await connection.wait_closed()

    async def main() -> None:
        async with scripted(script) as url, client.Shelf(url) as shelf:
            await shelf.put(n=1)
            await until(lambda: caplog.records)
            told: list[Any] = []
            shelf.on_error(told.append)
            await shelf.put(n=2)
            await until(lambda: len(told) == 2)
            assert [(error.code, error.event) for error in told] == [("forbidden", "put"), ("malformed_message", None)]

    asyncio.run(main())
    assert caplog.messages == ["Shelf: put: forbidden"]


def test_pushes_that_nobody_takes_are_counted(client: ModuleType) -> None:
    """The newest are kept; in the place of the others stands how many they were, and the iteration goes on."""

    async def script(connection: ServerConnection) -> None:
        await heard(connection)
        for n in range(100):
            await connection.send(json.dumps({"type": "posted", "msg": str(n)}))
        await connection.send(json.dumps({"type": "got", "n": 0, "ref": 1}))
        await connection.wait_closed()

    async def main() -> None:
        async with scripted(script) as url, client.Shelf(url, max_pushes=10) as shelf:
            posted = shelf.pushes(client.Posted)
            await shelf.get(n=0)
            with pytest.raises(client.Overrun) as caught:
                await anext(posted)
            assert caught.value.dropped == 90
            assert [(await anext(posted)).msg for _ in range(10)] == [str(n) for n in range(90, 100)]
            assert (await anext(aiter(shelf))).msg == "90"  # what came before anybody read is no loss

    asyncio.run(main())


def test_callbacks_that_are_too_slow_are_logged(client: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """With how many pushes they have missed; state callbacks may be async, and fail."""
    seen: list[str] = []

    async def script(connection: ServerConnection) -> None:
        await heard(connection)
        for n in range(50):
            await connection.send(json.dumps({"type": "posted", "msg": str(n)}))
        await connection.wait_closed()

    async def slowly(push: Any) -> None:
        seen.append(push.msg)
        await asyncio.sleep(0.01)

    async def failing(state: str) -> None:
        raise LookupError(state)

    async def main() -> None:
        async with scripted(script) as url:
            shelf = client.Shelf(url, max_pushes=10)
            shelf.on(client.Posted, slowly)
            shelf.on_state(failing)
            async with shelf:
                await shelf.put(n=0)
                await until(lambda: "49" in seen)

    asyncio.run(main())
    assert any("came faster than they were taken" in text for text in caplog.messages)
    assert "Shelf: a callback failed" in caplog.messages


def test_who_reads_pushes_as_they_come_loses_none(client: ModuleType) -> None:
    """However many arrive at once: who waits for them has a turn in between."""

    async def script(connection: ServerConnection) -> None:
        await heard(connection)
        message = b'{"type":"posted","msg":"tick"}'
        connection.transport.write((bytes((0x81, len(message))) + message) * 20_000)
        await connection.send('{"type":"posted","msg":"end"}')
        await connection.wait_closed()

    async def main() -> None:
        async with scripted(script) as url, client.Shelf(url, max_pushes=300) as shelf:
            posted = shelf.pushes(client.Posted)
            await shelf.put(n=0)
            count = 0
            while (await anext(posted)).msg != "end":
                count += 1
            assert count == 20_000

    asyncio.run(main())


def test_a_stream_that_nobody_takes_is_cancelled(client: ModuleType) -> None:
    """What is here may be taken, then Overrun says so; and the server is told."""
    cancelled: list[Any] = []

    async def script(connection: ServerConnection) -> None:
        ref = (await heard(connection))["ref"]
        for n in range(20):
            await connection.send(json.dumps({"type": "row", "n": n, "ref": ref}))
        cancelled.append(await heard(connection))
        await connection.wait_closed()

    async def take_all(stream: Any, taken: list[int]) -> None:
        async for row in stream:
            taken.append(row.n)
            await until(lambda: cancelled)

    async def main() -> None:
        async with scripted(script) as url, client.Shelf(url, max_items=5) as shelf:
            stream = shelf.list_()
            taken: list[int] = []
            with pytest.raises(client.Overrun):
                await take_all(stream, taken)
            assert taken == list(range(len(taken)))
            assert 5 <= len(taken) < 20
            await until(lambda: cancelled)
            assert cancelled == [{"type": "cancel", "ref": 1}]

    asyncio.run(main())


def test_a_mapping_has_none_of_the_envelope(made: ModuleType) -> None:
    """Its keys are the server's, and its values are of their type."""

    async def script(connection: ServerConnection) -> None:
        await connection.send('{"type":"prices","a":1,"b":2}')
        await connection.wait_closed()

    async def main() -> None:
        async with scripted(script) as url, made.Shelf(url) as shelf:
            prices = await anext(aiter(shelf))
            assert isinstance(prices, made.Prices)
            assert prices == {"a": 1, "b": 2}

    asyncio.run(main())


def test_presence_is_a_map(made: ModuleType) -> None:
    """Kept from what is told, and taken anew from a new state."""

    async def script(connection: ServerConnection) -> None:
        for told in (
            {"type": "presence_state", "room": "r", "members": {"a": 1, "b": 2}},
            {"type": "presence_diff", "room": "r", "joins": {"c": 3, "b": 4}, "leaves": {"a": 1}},
            {"type": "presence_state", "room": "r", "members": {"z": None}},
        ):
            await connection.send(json.dumps(told))
            await heard(connection)
        await connection.wait_closed()

    async def main() -> None:
        async with scripted(script) as url, made.Shelf(url) as shelf:
            seen = []
            for _ in range(3):
                await anext(aiter(shelf))
                seen.append(dict(shelf.room("r").members))
                await shelf.put(n=1)
            assert seen == [{"a": 1, "b": 2}, {"b": 4, "c": 3}, {"z": None}]

    asyncio.run(main())


async def take_upload(connection: ServerConnection, *, more: int = 8) -> list[Any]:
    """As a server does: 16 items, and so many more each time."""
    ref = (await heard(connection))["ref"]
    items: list[Any] = []
    while (frame := await heard(connection))["type"] == "item":
        assert frame["ref"] == ref
        items.append(frame["item"])
        if len(items) >= 16 and (len(items) - 16) % more == 0:
            await connection.send(json.dumps({"type": "more", "ref": ref, "items": more}))
    assert frame == {"type": "complete", "ref": ref}
    await connection.send(json.dumps({"type": "imported", "count": len(items), "ref": ref}))
    return items


def test_an_upload_sends_no_more_than_it_may(made: ModuleType) -> None:
    """16 items, and what the server then allows; from an async iterable, and from a plain one."""
    uploads: list[list[int]] = []

    async def script(connection: ServerConnection) -> None:
        uploads.append(await take_upload(connection))
        uploads.append(await take_upload(connection, more=3))
        await connection.wait_closed()

    async def numbers() -> Any:
        for n in range(100):
            yield n
            await asyncio.sleep(0)

    async def main() -> None:
        async with scripted(script) as url, made.Shelf(url) as shelf:
            assert (await shelf.import_(items=numbers())).count == 100
            assert (await shelf.import_(items=range(50))).count == 50
            assert uploads == [list(range(100)), list(range(50))]

    asyncio.run(main())


def test_an_upload_waits_for_the_server(client: ModuleType) -> None:
    """The 17th item is asked for, and not sent; an answer before the end stops it."""
    asked: list[int] = []

    async def script(connection: ServerConnection) -> None:
        ref = (await heard(connection))["ref"]
        for _ in range(16):
            await heard(connection)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await heard(connection)
        await connection.send(json.dumps({"type": "imported", "count": 16, "ref": ref}))
        assert (await heard(connection))["type"] == "put"
        await connection.close()

    async def numbers() -> Any:
        try:
            for n in range(100):
                asked.append(n)
                yield n
        finally:
            asked.append(-1)

    async def main() -> None:
        async with scripted(script) as url, client.Shelf(url) as shelf:
            assert (await shelf.import_(items=numbers())).count == 16
            await shelf.put(n=1)
            await until(lambda: shelf.state == "closed")
            assert asked == [*range(17), -1]

    asyncio.run(main())


def test_what_the_items_of_an_upload_raise_is_raised(client: ModuleType) -> None:
    """And the server is told that there will be no more."""
    cancelled: list[Any] = []

    async def script(connection: ServerConnection) -> None:
        await heard(connection)
        await heard(connection)
        cancelled.append(await heard(connection))
        await connection.wait_closed()

    def numbers() -> Any:
        yield 1
        raise LookupError("no more")

    async def main() -> None:
        async with scripted(script) as url, client.Shelf(url) as shelf:
            with pytest.raises(LookupError, match="no more"):
                await shelf.import_(items=numbers())
            await until(lambda: cancelled)
            assert cancelled == [{"type": "cancel", "ref": 1}]

    asyncio.run(main())


def test_an_upload_may_be_answered_by_a_stream(client: ModuleType) -> None:
    """Items go up while answers come down."""

    async def script(connection: ServerConnection) -> None:
        ref = (await heard(connection))["ref"]
        while (frame := await heard(connection))["type"] == "item":
            await connection.send(json.dumps({"type": "imported", "count": frame["item"], "ref": ref}))
        await connection.send(json.dumps({"type": "complete", "ref": ref}))
        await connection.wait_closed()

    async def main() -> None:
        async with scripted(script) as url, client.Shelf(url) as shelf:
            assert [each.count async for each in shelf.map(items=range(3))] == [0, 1, 2]

    asyncio.run(main())


def test_a_connection_that_is_lost_ends_an_upload(client: ModuleType) -> None:
    """At once; its items are asked for no more."""

    async def script(connection: ServerConnection) -> None:
        await heard(connection)
        connection.transport.abort()

    async def main() -> None:
        async with scripted(script) as url, client.Shelf(url, **FAST) as shelf:
            with pytest.raises(client.Disconnected):
                await shelf.import_(items=range(100))

    asyncio.run(main())


def test_a_server_that_accepts_and_closes_is_not_stormed(client: ModuleType) -> None:
    """A connection that did not last does not begin the delays anew."""
    attempts: list[int] = []

    async def script(connection: ServerConnection) -> None:
        await connection.close(1011)

    def backoff(attempt: int) -> float:
        attempts.append(attempt)
        return 0.001

    async def main() -> None:
        async with scripted(script) as url, client.Shelf(url, backoff=backoff):
            await until(lambda: len(attempts) == 5)
        assert attempts == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_what_comes_with_the_handshake_is_not_lost(client: ModuleType) -> None:
    """A message and a close, in one segment with the answer to the handshake."""

    async def script(connection: ServerConnection) -> None:
        await connection.send('{"type":"posted","msg":"hello"}')
        await connection.close(4403, "not you")

    async def main() -> None:
        async with scripted(script) as url, client.Shelf(url) as shelf:
            assert (await anext(aiter(shelf))).msg == "hello"
            with pytest.raises(client.Disconnected, match="closed with 4403: not you"):
                await anext(aiter(shelf))

    asyncio.run(main())


def test_rooms_that_the_server_refuses_to_resume_are_gaps(client: ModuleType) -> None:
    """An error as the answer to `resume`, too; what waited is sent all the same."""

    async def first(connection: ServerConnection) -> None:
        await connection.send('{"type":"room_position","room":"r","seq":3,"epoch":"a"}')
        await connection.send('{"type":"posted","msg":"x","room":"r","seq":4}')
        await heard(connection)
        await connection.close(1011)

    async def second(connection: ServerConnection) -> None:
        question = await heard(connection)
        assert question == {"type": "resume", "rooms": {"r": {"seq": 4, "epoch": "a"}}, "ref": question["ref"]}
        await connection.send(
            json.dumps({"type": "error", "code": "rate_limited", "errors": [], "ref": question["ref"]})
        )
        question = await heard(connection)
        await connection.send(json.dumps({"type": "got", "n": 1, "ref": question["ref"]}))
        await connection.wait_closed()

    async def main() -> None:
        async with scripted(first, second) as url, client.Shelf(url, **FAST) as shelf:
            opened: list[Any] = []
            shelf.on_open(opened.append)
            gaps = shelf.pushes(client.Gap)
            await shelf.put(n=1)
            await until(lambda: opened)
            assert (await shelf.get(n=1)).n == 1
            assert (await anext(gaps)).room == "r"
            assert opened[0].resumed == {"r": False}

    asyncio.run(main())
