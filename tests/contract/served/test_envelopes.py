"""Generated clients of both languages, and endpoints in every envelope but the default one, which all others are in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import pytest

from ..clients import load
from .enveloped import APIS, app
from .javascript import Engine, compiled, engine
from .servers import serving_in_thread

APART = [name for name in APIS if name != "renamed"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_in_thread(app) as (served, _):
        yield served.url.removesuffix("/")


@pytest.fixture(scope="module", params=["msgspec", "pydantic"])
def made(request: pytest.FixtureRequest) -> dict[str, ModuleType]:
    """The generated modules by the envelope."""
    return {name: load(api, request.param) for name, api in APIS.items()}


def client(made: dict[str, ModuleType], name: str, url: str) -> Any:
    """A client of the endpoint in this envelope, which is open within `async with`."""
    module = made[name]
    kind = module.Free if name in APART else module.Office
    return kind(f"{url}/{name}", backoff=lambda attempt: 0.001)


@pytest.mark.parametrize("name", APIS)
def test_python_clients_speak_it(name: str, made: dict[str, ModuleType], url: str) -> None:
    """Requests, unions, errors with details, streams, uploads, calls."""
    module = made[name]

    async def rows() -> AsyncIterator[Any]:
        for number in range(40):
            yield module.Row(n=number)

    async def main() -> None:
        async with client(made, name, url) as office:
            assert (await office.say(text="hi")).text == "hi"
            assert (await office.say()).text == "nothing"
            assert await office.move(x=1) == module.Moved(x=1)
            assert (await office.move(x=0)).text == "stay"
            with pytest.raises(module.SoldOut) as caught:
                await office.buy(count=1)
            assert caught.value.left == 3
            assert [row.n async for row in office.count(to=3)] == [0, 1, 2]
            assert (await office.sum(items=rows())).text == "780"
            office.handle(module.Confirm, lambda confirm: confirm.question == "sure?")
            assert (await office.ask()).text == "True"

    asyncio.run(main())


@pytest.mark.parametrize("name", APIS)
def test_python_clients_resume_rooms(name: str, made: dict[str, ModuleType], url: str) -> None:
    """Pushes have their numbers, and what was missed comes after a lost connection."""
    module, room = made[name], f"doc:{name}-{id(made)}"

    async def main() -> None:
        async with client(made, name, url) as one, client(made, name, url) as other:
            view = one.room(room)
            pushes = view.pushes(module.Posted)
            await one.post(room=room, text="a")
            assert (await anext(pushes)).text == "a"
            assert view.position.seq == 1
            opened = asyncio.Event()
            one.on_open(lambda told: opened.set() if told.resumed == {room: True} else None)
            await one.drop()
            await other.post(room=room, text="b")
            assert (await anext(pushes)).text == "b"
            await opened.wait()
            assert view.position.seq == 2

    asyncio.run(main())


@pytest.mark.parametrize("name", APART)
def test_python_clients_read_any_value(name: str, made: dict[str, ModuleType], url: str) -> None:
    """Where it stands apart, a reply is what the handler returns."""
    module = made[name]

    async def main() -> None:
        async with client(made, name, url) as office:
            assert await office.names(type="ada") == ["ada"]
            assert await office.rows() == [module.Row(n=1), module.Row(n=2)]
            assert await office.number() == 7
            assert await office.either(rows=True) == [module.Row(n=1)]
            assert await office.either(rows=False) == {"a": 1}
            assert await office.anything() == {"a": [1, None]}

    asyncio.run(main())


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    """Node with the client of each envelope."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(engine(compiled(api, tmp_path_factory.mktemp(name)), "undici"))
            for name, api in APIS.items()
        }


@pytest.mark.parametrize("name", APIS)
def test_typescript_clients_speak_it(name: str, engines: dict[str, Engine], url: str) -> None:
    """Requests, unions, errors with details, streams, uploads, calls."""
    told = engines[name].run(
        """
        const office = open(Client, url);
        office.handle("confirm", ({ question }) => question === "sure?");
        const items = [];
        for await (const { n } of office.count({ to: 3 })) items.push(n);
        const error = await office.buy({ count: 1 }).catch(error => error);
        const rows = Array.from({ length: 40 }, (_, n) => ({ n }));
        return [
          (await office.say({ text: "hi" })).text,
          (await office.say()).text,
          (await office.move({ x: 1 })).x,
          (await office.move({ x: 0 })).text,
          [error instanceof SoldOut, error.left],
          items,
          (await office.sum(undefined, rows)).text,
          (await office.ask()).text,
        ];
        """.replace("Client", "Free" if name in APART else "Office"),
        url=f"{url}/{name}",
    )
    assert told == ["hi", "nothing", 1, "stay", [True, 3], [0, 1, 2], "780", "True"]


@pytest.mark.parametrize("name", APIS)
def test_typescript_clients_resume_rooms(name: str, engines: dict[str, Engine], url: str) -> None:
    """Pushes have their numbers, and what was missed comes after a lost connection."""
    told = engines[name].run(
        """
        const [one, other] = [open(Client, url), open(Client, url)];
        const texts = [], view = one.room(room);
        view.on("posted", ({ text }) => texts.push(text));
        await one.post({ room, text: "a" });
        await until(() => texts.length === 1);
        const before = view.position.seq;
        const resumed = new Promise(done => one.onOpen(({ reconnected, resumed }) => reconnected && done(resumed)));
        await one.drop();
        await until(() => one.state !== "open");
        await other.post({ room, text: "b" });
        await until(() => texts.length === 2);
        return [texts, before, view.position.seq, (await resumed)[room].recovered];
        """.replace("Client", "Free" if name in APART else "Office"),
        url=f"{url}/{name}",
        room=f"doc:ts-{name}",
    )
    assert told == [["a", "b"], 1, 2, True]


@pytest.mark.parametrize("name", APIS)
def test_a_gap_that_the_client_finds_has_the_key_of_the_envelope(
    name: str, engines: dict[str, Engine], url: str
) -> None:
    """As one of the server has, and as it is typed."""
    told = engines[name].run(
        """
        const office = open(Client, url), gaps = [], view = office.room(room);
        office.on("gap", gap => gaps.push(gap));
        await office.post({ room, text: "a" });
        view.position.epoch = "of another server";
        await office.drop();
        await until(() => gaps.length === 1);
        return gaps;
        """.replace("Client", "Free" if name in APART else "Office"),
        url=f"{url}/{name}",
        room=f"doc:gap-{name}",
    )
    key = APIS[name].channels[0].wire.type_key
    assert told == [{key: "gap", "room": f"doc:gap-{name}", "dropped": None}]


@pytest.mark.parametrize("name", APART)
def test_typescript_clients_read_any_value(name: str, engines: dict[str, Engine], url: str) -> None:
    """Where it stands apart, a reply is what the handler returns; an object has its type beside."""
    told = engines[name].run(
        """
        const office = open(Free, url);
        return [
          await office.names({ type: "ada" }),
          await office.rows(),
          await office.number(),
          await office.either({ rows: true }),
          (await office.either({ rows: false })).a,
          (await office.anything()).a,
        ];
        """,
        url=f"{url}/{name}",
    )
    assert told == [["ada"], [{"n": 1}, {"n": 2}], 7, [{"n": 1}], 1, [1, None]]


@pytest.mark.parametrize("name", APIS)
def test_a_heartbeat_is_answered(name: str, engines: dict[str, Engine], url: str) -> None:
    """Its frame has a ref alone, wherever that is: the client hears the answer, and tells nobody of an error."""
    told = engines[name].run(
        """
        const office = open(Client, url, { heartbeatMs: 20 });
        let sent = 0, errors = 0;
        office.on("error", () => errors++);
        await office.say();
        const socket = office.constructor && Object.values(office).find(each => each?.readyState === 1);
        const send = socket.send.bind(socket);
        socket.send = text => (sent++, send(text));
        await until(() => sent > 2);
        return [errors, office.state, office.states.filter(({ state }) => state === "open").length];
        """.replace("Client", "Free" if name in APART else "Office"),
        url=f"{url}/{name}",
    )
    assert told == [0, "open", 1]
