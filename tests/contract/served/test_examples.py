"""Every example, talked to by the clients that are generated of it: what each example is about, in both languages."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from socketsundso.contract import api_of

from ..clients import load
from .javascript import Engine, compiled, engine
from .servers import serving

ROWS = [{"day": "2026-01-02", "amount": "3.50"}, {"day": "2026-01-03", "amount": "4"}]


async def chat(client: Any, url: str) -> Any:
    async with client.Chat(f"{url}ws") as ada:
        said = ada.pushes(client.Said)
        await ada.enter(room="lobby", name="ada")
        await ada.message(msg="hi")
        return (await anext(said)).msg


async def cursors(client: Any, url: str) -> Any:
    async with client.Board(f"{url}ws") as ada, client.Board(f"{url}ws") as grace:
        moved = grace.pushes(client.Moved)
        await grace.enter(name="grace", hue=1)
        await ada.enter(name="ada", hue=2)
        await ada.move(x=0.5, y=0.25)
        found = await anext(moved)
        return [found.x, found.y]


async def database(client: Any, url: str) -> Any:
    async with client.Notebook(f"{url}ws") as notebook:
        title = uuid.uuid4().hex
        added = await notebook.add(title=title, text="two")
        return [added.title == title, (await notebook.list_(limit=1)).notes[0].title == title]


async def decorator(client: Any, url: str) -> Any:
    async with client.App(url) as app:
        return [(await app.echo(message="hi")).message, (await app.add(a=1, b=2))["sum"]]


async def fastapi_app(client: Any, url: str) -> Any:
    async with client.Greeter(f"{url}ws", lang="de") as greeter, client.Counter(f"{url}count") as counter:
        return [(await greeter.greet(name="ada"))["text"], (await counter.count(by=3))["count"]]


async def llm_stream(client: Any, url: str) -> Any:
    async with client.Model(f"{url}ws") as model:
        return len([token async for token in model.generate(prompt="hello", words=3, pace_s=0)])


async def pydantic_models(client: Any, url: str) -> Any:
    async with client.Shop(url) as shop:
        receipt, closed = await shop.receipt(order=7), await shop.close_shop(minutes=5)
        try:
            await shop.receipt(order=101)
        except client.ShopError as error:
            return [receipt.order, closed.what, error.code]


async def remote_control(client: Any, url: str) -> Any:
    async with client.Device(f"{url}device") as lamp, client.Person(f"{url}person") as adam:
        lamp.handle(client.Switch, lambda question: client.State_(on=question.on))
        await lamp.hello(name="lamp", key="let-me-in")
        await adam.sign_in(token="t-adam")
        return (await adam.switch(device="lamp", on=True)).on


async def upload(client: Any, url: str) -> Any:
    async def rows() -> AsyncIterator[Any]:
        for row in ROWS:
            yield client.Row(**row)

    async with client.Importer(f"{url}ws") as importer:
        imported = await importer.import_(account="python", items=rows())
        return [imported.rows, str(imported.total)]


TOLD: dict[str, tuple[Any, Any, str]] = {
    "chat": (
        chat,
        "hi",
        """
        const ada = open(Chat, url + "ws");
        const said = next(ada, "said");
        await ada.enter({ room: "hall", name: "ada" });
        await ada.message({ msg: "hi" });
        return (await said).msg;
        """,
    ),
    "cursors": (
        cursors,
        [0.5, 0.25],
        """
        const [ada, grace] = [open(Board, url + "ws"), open(Board, url + "ws")];
        await grace.enter({ name: "grace", hue: 1 });
        await ada.enter({ name: "ada", hue: 2 });
        const moved = next(grace, "moved");
        await ada.move({ x: 0.5, y: 0.25 });
        const { x, y } = await moved;
        return [x, y];
        """,
    ),
    "database": (
        database,
        [True, True],
        """
        const notebook = open(Notebook, url + "ws");
        const title = crypto.randomUUID();
        const added = await notebook.add({ title, text: "two" });
        return [added.title === title, (await notebook.list({ limit: 1 })).notes[0].title === title];
        """,
    ),
    "decorator": (
        decorator,
        ["hi", 3],
        """
        const app = open(App, url);
        return [(await app.echo({ message: "hi" })).message, (await app.add({ a: 1, b: 2 })).sum];
        """,
    ),
    "fastapi_app": (
        fastapi_app,
        ["hallo ada", 3],
        """
        const greeter = open(Greeter, url + "ws", { query: { lang: "de" } });
        const counter = open(Counter, url + "count");
        return [(await greeter.greet({ name: "ada" })).text, (await counter.count({ by: 3 })).count];
        """,
    ),
    "llm_stream": (
        llm_stream,
        3,
        """
        const tokens = [];
        for await (const token of open(Model, url + "ws").generate({ prompt: "hello", words: 3, pace_s: 0 })) {
          tokens.push(token.text);
        }
        return tokens.length;
        """,
    ),
    "pydantic_models": (
        pydantic_models,
        [7, "closed for 5 minutes", "not_found"],
        """
        const shop = open(Shop, url);
        const receipt = await shop.receipt({ order: 7 });
        const closed = await shop.closeShop({ minutes: 5 });
        return [receipt.order, closed.what, (await failure(shop.receipt({ order: 101 }))).code];
        """,
    ),
    "remote_control": (
        remote_control,
        True,
        """
        const [lamp, adam] = [open(Device, url + "device"), open(Person, url + "person")];
        lamp.handle("switch", async question => ({ on: question.on }));
        await lamp.hello({ name: "lamp-ts", key: "let-me-in" });
        await adam.signIn({ token: "t-adam" });
        return (await adam.switch_({ device: "lamp-ts", on: true })).on;
        """,
    ),
    "upload": (
        upload,
        [2, "7.50"],
        """
        const imported = await open(Importer, url + "ws").import_({ account: "typescript" }, rows);
        return [imported.rows, imported.total];
        """,
    ),
}


@pytest.fixture(autouse=True)
def rooms_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the chat, all rooms have a history: on a backplane that others use, theirs would have, too."""
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", f"memory://{uuid.uuid4().hex}")


def app_of(example: str) -> Any:
    module = importlib.import_module(f"examples.{example}")
    return getattr(module, "app", None) or getattr(module, {"decorator": "App", "pydantic_models": "Shop"}[example])


def test_no_example_is_left_out() -> None:
    """One that is added has to be talked to here."""
    folder = Path(__file__).parents[3] / "examples"
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(TOLD)


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """With what the application does at its start."""
    lifespan = getattr(getattr(app, "router", None), "lifespan_context", contextlib.nullcontext)
    async with lifespan(app), serving(app) as server:
        yield server.url


@pytest.mark.parametrize("models", ["msgspec", "pydantic"])
@pytest.mark.parametrize("example", TOLD)
def test_the_python_client_of_an_example(example: str, models: Any) -> None:
    """It does what the example is there to show."""
    talk, expected, _ = TOLD[example]

    async def main() -> Any:
        app = app_of(example)
        async with served(app) as url:
            return await talk(load(api_of(app), models), url)

    assert asyncio.run(main()) == expected


@pytest.mark.parametrize("example", TOLD)
def test_the_typescript_client_of_an_example(example: str, tmp_path: Path) -> None:
    """The same, in Node."""
    _, expected, code = TOLD[example]

    async def main() -> Any:
        app = app_of(example)
        with engine(compiled(api_of(app), tmp_path), "ws") as js:
            async with served(app) as url:
                return await asyncio.to_thread(run, js, url, code)

    assert asyncio.run(main()) == expected


def run(js: Engine, url: str, code: str) -> Any:
    return js.run(code, url=url, rows=ROWS)
