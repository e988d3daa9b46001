"""The file that is generated: its names, its types, its texts, and that strict checkers have nothing to say."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from socketsundso.contract.model import Api, Call, Channel, Error, Features, Message, Parameter, Receive
from socketsundso.contract.python.client import Models, python
from socketsundso.contract.python.parts import parts
from socketsundso.contract.python.text import docstring
from socketsundso.errors import ContractError

from ..serving import ROOT
from .apis import APIS, INTEGER, SHOP, STRING, fields, ref
from .clients import load
from .served.enveloped import APIS as FREE

MODELS: tuple[Models, ...] = ("msgspec", "pydantic")


def api(*receives: Receive, pushes: tuple[Message, ...] = (), **components: Any) -> Api:
    return Api("Chat", "1", (Channel("chat", "/", receives=receives, pushes=pushes),), components)


USES = """
import asyncio
from typing import assert_type

import {chat} as chat
import {shop} as shop


async def main() -> None:
    async with chat.Chat("wss://example.com/ws", token="t") as client:
        assert_type(await client.say(room="lobby", msg="hi", mentions=["ada"]), chat.Said | chat.Muted)
        assert_type(await client.enter(room="lobby", name="ada", retry=True, timeout_s=3), None)
        async for push in client:
            assert_type(push, chat.Posted | chat.Typing | chat.Gap | chat.PresenceState | chat.PresenceDiff)
        async for posted in client.pushes(chat.Posted):
            assert_type(posted.sender.name, str)
        client.on(chat.Typing, lambda typing: print(typing.users[0].id))
        async for posted in client.room("lobby").pushes(chat.Posted):
            print(posted.msg)
    async with shop.Shop("wss://example.com/shops/{{shop}}", shop="north", limit=3, session="s") as buyer:
        try:
            assert_type(await buyer.buy(symbol="X", count=3, side="buy", note=None), shop.Order)
        except shop.SoldOut as exc:
            assert_type(exc.left, int)
        except shop.ShopError as exc:
            assert_type(exc.code, str)
        async with buyer.ticks(symbols=["X"]) as ticks:
            async for tick in ticks:
                assert_type(tick, shop.Tick | shop.Halted)
        order = shop.Order(id=1, lines=[shop.Line(symbol="X", price="1.50")])
        assert_type(await buyer.import_orders(name="march", items=[order]), shop.Imported)
        buyer.handle(shop.Confirm, lambda confirm: confirm.order.id == 1)
        buyer.handle(shop.Locate, lambda locate: (1.0, 2.0))


def blocking() -> None:
    with chat.ChatSync("wss://example.com/ws", token=lambda: "t") as client:
        assert_type(client.say(room="lobby", msg="hi"), chat.Said | chat.Muted)
        for push in client:
            assert_type(push, chat.Posted | chat.Typing | chat.Gap | chat.PresenceState | chat.PresenceDiff)
    with shop.ShopSync("wss://example.com/shops/{{shop}}", shop="south", limit=3) as buyer:
        for tick in buyer.ticks(symbols=[]):
            assert_type(tick, shop.Tick | shop.Halted)


async def wrong(client: chat.Chat, buyer: shop.Shop) -> None:
    await client.say(room="lobby")  # type: ignore[call-arg]
    await client.say(room=1, msg="hi")  # type: ignore[arg-type]
    await client.say(room="lobby", msg="hi", unknown=1)  # type: ignore[call-arg]
    await buyer.buy(symbol="X", count=1, side="steal")  # type: ignore[arg-type]
    buyer.handle(shop.Confirm, lambda confirm: "yes")  # type: ignore[arg-type, return-value]
    chat.Chat("wss://example.com", tokn="t")  # type: ignore[call-arg]
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of all APIs, for both kinds of models, and what uses them."""
    folder = tmp_path_factory.mktemp("clients")
    for name, each in {**APIS, "values": FREE["array"]}.items():
        for models in MODELS:
            (folder / f"{name}_{models}.py").write_text(python(each, models), encoding="utf-8")
    (folder / "uses.py").write_text(USES.format(chat="chat_msgspec", shop="shop_pydantic"))
    return folder


def test_strict_checkers_have_nothing_to_say(written: Path) -> None:
    """mypy --strict, of the files and of what uses them: replies, pushes, errors and streams have their types."""
    options = ("--strict", "--no-error-summary", "--cache-dir", str(ROOT / ".mypy_cache"))
    files = ("uses.py", "chat_msgspec.py", "shop_pydantic.py", "odd_msgspec.py", "values_msgspec.py")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *files], cwd=written, capture_output=True, text=True
    )
    assert checked.stdout + checked.stderr == ""


@pytest.mark.parametrize("models", MODELS)
@pytest.mark.parametrize("name", APIS)
def test_the_file_stands_alone(written: Path, name: str, models: str) -> None:
    """It imports nothing but websockets, its models and the standard library, and not the other models."""
    source = (written / f"{name}_{models}.py").read_text(encoding="utf-8")
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            imported.add(node.module.split(".")[0])
    foreign = imported - sys.stdlib_module_names
    assert foreign == {"websockets", *({"msgspec"} if models == "msgspec" else {"pydantic", "pydantic_core"})}


@pytest.mark.parametrize("models", MODELS)
def test_every_part_is_a_module(models: Models) -> None:
    """It has what it needs: what is typed and linted is what stands in the file."""
    for part in parts(models):
        importlib.import_module(f"socketsundso.contract.python.runtime.{part.path.stem}")


@pytest.mark.parametrize("models", MODELS)
def test_the_whole_file_is_what_the_other_tests_run_in_pieces(models: Models) -> None:
    """The same names, and everything that has annotations can be asked for them."""
    whole, pieces = load(SHOP, models, whole=True), load(SHOP, models)
    public = {name for name in vars(whole) if not name.startswith("__")} - {"annotations"}
    assert public == {name for name in vars(pieces) if not name.startswith("__")}
    for module in (whole, pieces):
        assert get_type_hints(module.Tick)["price"] is float


def test_the_same_contract_gives_the_same_file() -> None:
    """To the byte, in every process: it can be committed, and compared in CI."""
    code = "from tests.contract.apis import ODD; from socketsundso.contract import python; print(python(ODD))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_names_are_snake_case_and_never_the_clients_own() -> None:
    """Keywords, the client's own methods and what annotations need get a `_` behind."""
    events = ("chat.send", "getHTTPStatus", "class", "on", "close", "open", "list", "room", "__init__", "self", "größe")
    made = load(api(*(Receive(event, fields()) for event in events)))
    names = {name for name in vars(made.Chat) if not name.startswith("__") or name == "__init__"} - {"handle"}
    assert names == {
        *(
            "chat_send",
            "get_http_status",
            "class_",
            "on_",
            "close_",
            "open_",
            "list_",
            "room_",
            "init",
            "self_",
            "größe",
        ),
        "__init__",
    }


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (api(Receive("a.b", fields()), Receive("a_b", fields())), "'a.b' and the event 'a_b' would both be"),
        (api(Receive("Say", fields()), Receive("say", fields())), "'Say' and the event 'say' would both be"),
        (api(Receive("!?", fields())), "the event '!\\?': no letter and no digit"),
        (api(Receive("a", fields(**{"x y": STRING, "x-y": STRING}))), "the field 'x y' of A and the field 'x-y'"),
    ],
)
def test_names_that_fall_together_are_an_error(made: Api, error: str) -> None:
    """It names both: nobody has to guess which one a method is."""
    with pytest.raises(ContractError, match=error):
        python(made)


def test_types_have_the_names_of_what_every_client_has_only_with_a_mark() -> None:
    """A model called as one of those, or as the channel, gets a `_`; Exception and Event are the application's."""
    names = ("Chat", "ChatError", "Gap", "RequestError", "Event", "Exception", "Any", "chat", "Room")
    made = load(
        api(pushes=tuple(Message(name, ref(name), name) for name in names), **dict.fromkeys(names, fields(a=INTEGER)))
    )
    assert {cls.__name__ for cls in made._CHAT_CHANNEL.pushes.values()} == {
        *("Chat_", "ChatError_", "Gap_", "RequestError_", "Event", "Exception", "Any_", "Chat__", "Room")
    }


@given(st.text())
@example('\\N{x} """ \\" \\')
@example('ends with "')
def test_descriptions_never_break_out(text: str) -> None:
    """Whatever they hold, they are the docstring, and nothing else."""
    shown = ast.literal_eval("\n".join(docstring(text, "    ")).strip())
    assert shown.split() == text.split()


def test_a_title_is_a_text(tmp_path: Path) -> None:
    """Also where it looks like code, or has no encoding."""
    source = python(Api('"""\nimport os\n"""', "\\", description='\ud800 \x00 \r\n end"'))
    ast.parse(source.encode())
    assert "\n\nimport os" not in source.partition("from __future__")[2]


def test_a_thousand_events_are_one_file() -> None:
    """In well under a second; each has its method and its types."""
    receives = tuple(
        Receive(f"event{n}", fields("a", a=ref(f"Model{n}")), (Message(f"done{n}", ref(f"Model{n}"), f"Model{n}"),))
        for n in range(1000)
    )
    made = load(api(*receives, **{f"Model{n}": fields("x", x=INTEGER) for n in range(1000)}), whole=True)
    assert callable(made.Chat.event999)
    assert made.Model999(x=1).x == 1


def test_messages_of_one_shape_are_told_apart() -> None:
    """Two types with one schema are two classes, so that `isinstance` knows which one came."""
    member = fields("name", name=STRING)
    made = load(
        api(pushes=(Message("joined", ref("Member"), "Member"), Message("left", ref("Member"), "")), Member=member)
    )
    joined, left = made._CHAT_CHANNEL.pushes["joined"], made._CHAT_CHANNEL.pushes["left"]
    assert (joined, left) == (made.Member, made.Left)
    assert issubclass(left, joined)


@pytest.mark.parametrize("models", MODELS)
def test_replies_of_one_type_are_told_apart_by_their_fields(models: Models) -> None:
    """What answers `-> Posted | Joined`, which have no `type` of their own, is read as the one that it is."""
    replies = (
        Message("either", fields("room", room=STRING), "Posted"),
        Message("either", fields("room", "name", room=STRING, name=STRING), "Joined"),
    )
    made = load(api(Receive("either", fields(), replies=replies)), models)
    read = made._Readers({"type", "ref"})[made._CHAT__EITHER.replies["either"]]
    assert read(b'{"type":"either","ref":1,"room":"a"}') == made.Posted(room="a")
    assert read(b'{"type":"either","ref":2,"room":"a","name":"ada"}') == made.Joined(room="a", name="ada")


def test_a_mapping_stands_for_all_replies_of_its_type() -> None:
    """Nothing tells `dict` from a class beside it."""
    replies = (Message("either", fields("a", a=STRING), "A"), Message("either", {"type": "object"}, "Either"))
    made = load(api(Receive("either", fields(), replies=replies)))
    assert made._CHAT__EITHER.replies == {"either": made.Either}


def test_an_error_of_two_channels_is_the_error_of_both() -> None:
    """`except ChatError` and `except ShopError` catch it."""
    error = Error("sold_out", details=fields("left", left=INTEGER), name="SoldOut")
    channels = tuple(
        Channel(name, "/", receives=(Receive("buy", fields(), errors=(error,)),)) for name in ("chat", "shop")
    )
    made = load(Api("Both", "1", channels))
    assert made.SoldOut.__bases__ == (made.ChatError, made.ShopError)


def test_one_class_for_two_errors_is_an_error() -> None:
    """Two channels that give one name to different details are named."""
    errors = [Error("sold_out", details=fields(x, **{x: INTEGER}), name="SoldOut") for x in ("left", "until")]
    channels = tuple(Channel(name, "/", errors=(error,)) for name, error in zip(("chat", "shop"), errors, strict=True))
    with pytest.raises(ContractError, match="of the channel 'chat' and the error 'sold_out' of the channel 'shop'"):
        python(Api("Both", "1", channels))


def test_channels_and_events_may_be_called_as_anything() -> None:
    """Also as each other, and as what is in every file: no constant is another one's."""
    names = ("text", "resume", "chat", "chat_say", "any", "client", "open")
    channels = tuple(
        Channel(name, "/", receives=(Receive("say", fields()), Receive("send_say", fields()))) for name in names
    )
    made = load(Api("All", "1", channels), whole=True)
    assert made._CHAT_SAY_CHANNEL.name == "ChatSay"
    assert made._RESUME.replies == {"resumed": made._Resumed}
    assert made._CHAT__SAY.name == "say"


def test_components_may_be_called_as_anything() -> None:
    """Where nothing of a name is left it is a value; two that become one are told apart by a `_`."""
    names = ("!!", "user", "User", "a.b", "a_b", "日本", "1st")
    pushes = tuple(Message(name, ref(name), name) for name in names)
    made = load(api(pushes=pushes, **dict.fromkeys(names, fields(a=INTEGER))))
    found = [kind.__name__ for kind in made._CHAT_CHANNEL.pushes.values()]
    assert found == ["Value", "User", "User_", "AB", "AB_", "日本", "_1st"]


SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic"},
    "query": {"type": "httpApiKey", "in": "query", "name": "key"},
    "cookie": {"type": "httpApiKey", "in": "cookie", "name": "sid"},
    "header": {"type": "httpApiKey", "in": "header", "name": "X-Key"},
    "oauth": {"type": "oauth2", "flows": {}},
    "other": {"type": "X509"},
}


@pytest.mark.parametrize(
    ("security", "place"),
    [
        ((), ("header", "Authorization", "Bearer ")),
        (("other", "unknown"), ("header", "Authorization", "Bearer ")),
        (("query",), ("query", "key", "")),
        (("query", "header"), ("header", "X-Key", "")),
        (("cookie",), ("cookie", "sid", "")),
        (("basic",), ("header", "Authorization", "Basic ")),
        (("oauth",), ("header", "Authorization", "Bearer ")),
    ],
)
def test_the_token_goes_where_the_contract_says(security: tuple[str, ...], place: tuple[str, str, str]) -> None:
    """A header, if there is a choice: URLs are logged."""
    made = load(Api("Chat", "1", (Channel("chat", "/", security=security),), security=SCHEMES))
    assert made._CHAT_CHANNEL.token == place


def handshake(made: ModuleType, url: str, token: str | None = None, **given: Any) -> Any:
    client = made.Shop(url, **given)
    return made._request(client._channel, client._url, client._parameters, token, {"X-More": "1"}, {"more": [1, 2]})


def test_parameters_are_in_the_handshake() -> None:
    """In their places, escaped; what is optional and not given is left out."""
    made = load(SHOP)
    request = handshake(
        made, "https://example.com/shops/{shop}?a=b", "t", shop="north/ä", limit=3, x_tenant="acme", session="s;1"
    )
    assert request.url == "wss://example.com/shops/north%2F%C3%A4?a=b&limit=3&more=1&more=2"
    assert request.headers == [
        ("x-tenant", "acme"),
        ("X-More", "1"),
        ("Authorization", "Bearer t"),
        ("Cookie", "session=s%3B1"),
    ]


def test_a_placeholder_that_nobody_fills_is_an_error_at_once() -> None:
    """Not at the third attempt to connect."""
    with pytest.raises(ValueError, match=r"has \{shop\}, which was not given"):
        load(Api("Chat", "1", (Channel("chat", "/"),))).Chat("ws://example.com/{shop}")


def test_an_api_without_anything_is_a_file() -> None:
    """No channel, no message; a channel with calls only."""
    ast.parse(python(Api("Nothing", "0")))
    made = load(Api("Asks", "0", (Channel("asks", "/", calls=(Call(Message("ask", fields(), "Ask"), INTEGER),)),)))
    assert set(made._ASKS_CHANNEL.calls) == {"ask"}


def test_parameters_of_the_handshake_are_never_options() -> None:
    """One that is called as an option of every client gets a `_`."""
    parameters = tuple(Parameter(name, "query", STRING) for name in ("token", "headers", "url", "class"))
    made = load(Api("Chat", "1", (Channel("chat", "/", parameters=parameters, features=Features()),)))
    client = made.Chat("ws://example.com", token_="t", headers_="h", url_="u", class_="c")
    assert client._parameters.query == {"token": "t", "headers": "h", "url": "u", "class": "c"}
