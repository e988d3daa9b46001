"""The TypeScript client as it is written, and compiled as strictly as can be, with code that uses it and abuses it."""

from __future__ import annotations

import functools
import gzip
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from examples import chat, cursors, llm_stream, pydantic_models, upload
from socketsundso.contract import api_of
from socketsundso.contract.model import Api, Binary, Call, Channel, Error, Features, Message, Receive, Wire
from socketsundso.contract.typescript.client import runtime, typescript
from socketsundso.contract.typescript.compact import REGION
from socketsundso.errors import ContractError
from tests.contract.apis import APIS, CHAT, INTEGER, ODD, SHOP, STRING, WIRES, fields, ref, within
from tests.contract.npm import PACKAGES, binary
from tests.contract.served.described import API as SERVED
from tests.contract.served.enveloped import APIS as FREE
from tests.contract.test_typescript_types import sample

EVERYTHING = {
    "target": "es2020",
    "lib": ["es2020"],
    "module": "esnext",
    "moduleResolution": "bundler",
    "types": [],
    "noEmit": True,
    "declaration": True,
    "strict": True,
    "exactOptionalPropertyTypes": True,
    "noFallthroughCasesInSwitch": True,
    "noImplicitOverride": True,
    "noImplicitReturns": True,
    "noPropertyAccessFromIndexSignature": False,
    "noUncheckedIndexedAccess": True,
    "noUnusedLocals": True,
    "noUnusedParameters": True,
    "isolatedModules": True,
    "verbatimModuleSyntax": True,
    "erasableSyntaxOnly": True,
}
"""The compiler's options: ES2020 alone, without the declarations of browsers or of Node."""

USAGE = """
import { Chat, ChatError, RequestError } from "./chat.ts";
import { Admin, Blurred, Shop, SoldOut, TooLate } from "./shop.ts";
import { Chat as NestedChat } from "./chat_nested.ts";

export function watch(chat: NestedChat): void {
  chat.on("gap", ({ event, dropped }) => console_(event === "gap", dropped));
  chat.on("presence_state", state => console_<"presence_state">(state.event, state.members["ada"]));
  chat.room("lobby").on("presence_diff", diff => console_<"presence_diff">(diff.event, diff.joins, diff.leaves));
}

export async function talk(chat: Chat): Promise<number> {
  const said = await chat.say({ room: "lobby", msg: "hi", mentions: ["ada"] }, { retry: true, timeoutMs: 1000 });
  const entered: { type: "enter" } = await chat.enter({ room: "lobby", name: "ada" });
  const left: void = await chat.leave({ room: "lobby" });
  const pong: "pong" = (await chat.ping()).type;
  await chat.ping({});
  const off: () => void = chat.on("posted", message => console_(message.sender.name, message.seq ?? 0, message.type));
  chat.once("presence_diff", diff => console_(Object.keys(diff.joins)));
  chat.on("error", error => console_(error.code, error.errors[0]?.loc[0], error.retryAfterMs));
  const room = chat.room("lobby");
  room.on("typing", message => console_(message.users[0]?.avatar ?? ""));
  room.on("members", members => console_(members.get("ada")?.["name"]));
  room.on("gap", gap => console_(gap.dropped === null ? "?" : gap.dropped + 1));
  chat.onOpen(async ({ reconnected, resumed }) => console_(reconnected, resumed["lobby"]?.recovered));
  chat.onState(status => console_(status.state === "waiting" ? status.delayMs : status.code));
  off();
  console_(entered, left, pong, room.position?.seq, chat.state);
  return said.type === "said" ? said.id : said.seconds;
}

export async function trade(shop: Shop): Promise<string[]> {
  try {
    const bought = await shop.buy({ symbol: "X", count: 3, note: null, side: "buy" });
    const prices: string[] = bought.lines.map(line => line.price);
    for await (const tick of shop.ticks({ symbols: prices })) {
      if (tick.type === "tick") console_(tick.price + 1, tick.at);
      else break;
    }
    async function* orders() {
      yield { id: 1, lines: [] };
    }
    const sent: boolean = shop.sendBytes(new Uint8Array([1])) && shop.sendBytes(new ArrayBuffer(1));
    shop.onBytes(data => console_<boolean>(sent, data.byteLength + (data[0] ?? 0)))();
    const { count } = await shop.importOrders({ name: "march" }, orders());
    await shop.importOrders({ name: "april" }, [{ id: count, lines: [{ symbol: "X", price: "1.00" }] }]);
    return prices;
  } catch (error) {
    if (error instanceof SoldOut) return [`${error.left + error.details.left}`, error.code];
    if (error instanceof Blurred) return [error.of];
    if (error instanceof TooLate) return [error.opens];
    if (error instanceof ChatError && error instanceof RequestError) return [error.code];
    throw error;
  }
}

export function answer(shop: Shop): void {
  shop.handle("confirm", async ({ order }, { signal }) => order.lines.length > 0 && !signal.aborted);
  shop.handle("locate", () => [1, 2]);
}

new Shop("wss://example.com" + Shop.path, {
  path: { shop: "north" },
  query: async () => ({ limit: 10 }),
  token: () => Promise.resolve("secret"),
  endsAt: code => code === 1000,
});
new Admin(Admin.path, { path: { region: "r", id: 7 } }).close_({ reason: "done" });
declare function console_<First>(first: First, ...values: unknown[]): void;
"""

ABUSE = """
import { Chat } from "./chat.ts";
import { Shop } from "./shop.ts";
import { Chat as NestedChat } from "./chat_nested.ts";

declare const chat: Chat, shop: Shop, nested: NestedChat;
export const results = [
  chat.say({ room: "lobby" }),
  chat.say({ room: "lobby", msg: 1 }),
  chat.say({ room: "lobby", msg: "hi", more: 1 }),
  chat.say({ room: "lobby", msg: "hi", mentions: undefined }),
  chat.say(),
  chat.ping({ room: "lobby" }),
  chat.shout({ msg: "hi" }),
  chat.on("postd", () => {}),
  chat.on("posted", message => message.nothing),
  chat.handle("ask", () => 1),
  chat.room("lobby").on("anything", () => {}),
  chat.say({ room: "lobby", msg: "hi" }).then(said => said.id),
  chat._pending,
  chat.sendBytes(new Uint8Array()),
  shop.sendBytes("text"),
  shop.onBytes(data => data.text()),
  nested.on("gap", gap => gap.type),
  nested.on("presence_diff", diff => diff.event === "gap"),
  shop.ticks({ symbols: [] }).then(() => {}),
  shop.importOrders({ name: "march" }),
  shop.importOrders({ name: "march" }, [{ id: "x", lines: [] }]),
  shop.handle("confirm", () => "yes"),
  shop.buy({ symbol: "X", count: 1 }, { retries: 3 }),
  new Shop("/", { path: { shop: "west" } }),
  new Shop("/", { query: { limit: "ten" } }),
];
"""


def abuse() -> str:
    """Each line is expected to be an error."""
    return re.sub(r"(?m)^(?=  )", "  // @ts-expect-error\n", ABUSE)


def using(*, rooms: bool, streams: bool, uploads: bool, calls: bool, apart: bool, binary: bool) -> Api:
    """An API with these parts of the protocol and no others."""
    receives = [
        Receive("ask", fields("n", n=INTEGER), replies=(Message("asked", fields()),)),
        Receive("tell", fields()),
    ]
    if streams:
        receives.append(Receive("ticks", fields(), replies=(Message("tick", fields()),), stream=True))
    if uploads:
        receives.append(Receive("send", fields(), acknowledged=True, uploads=INTEGER))
    if uploads and streams:
        receives.append(Receive("both", fields(), replies=(Message("tick", fields()),), stream=True, uploads=INTEGER))
    asked = (Call(Message("confirm", fields()), STRING),) if calls else ()
    wire = WIRES["array"] if apart else Wire()
    features, frames = Features(rooms, rooms), Binary("photo", sends=True) if binary else None
    channel = Channel("part", "/", receives=tuple(receives), calls=asked, features=features, wire=wire, binary=frames)
    return Api("Part", "1", (channel,))


REGIONS = ("rooms", "streams", "uploads", "calls", "apart")
CHOSEN = [chosen for count in range(len(REGIONS) + 1) for chosen in combinations(REGIONS, count)]
PARTS = {
    f"part_{'_'.join(chosen) or 'none'}": using(
        **{region: region in chosen for region in REGIONS},  # type: ignore[arg-type]
        binary=number % 2 == 1,  # which needs no other one, so that half of all will do
    )
    for number, chosen in enumerate(CHOSEN)
}


def many(count: int) -> Api:
    """As many events as a large application has, or many more, each with fields, a summary and a reply of its own."""
    return Api(
        "Many",
        "1",
        (
            Channel(
                "many",
                "/ws",
                receives=tuple(
                    Receive(
                        f"event_{number}",
                        fields("room", "msg", room=STRING, msg=STRING, count={"type": "integer", "default": 0}),
                        replies=(Message(f"reply_{number}", ref(f"Reply{number}")),),
                        summary=f"Does what event {number} does.",
                    )
                    for number in range(count)
                ),
                features=Features(history=True, presence=True),
            ),
        ),
        {f"Reply{number}": fields("id", "name", id=INTEGER, name=STRING) for number in range(count)},
    )


HOSTILE = (
    "*/ globalThis.hacked = 1; /* ` ${globalThis.hacked = 1} \" ' \\ \n\r\u2028\u2029\x00\x85 "
    "@ts-ignore // @ts-nocheck <!-- -->"
)


def hostile() -> Api:
    """Every text of a contract that its author chooses tries to be code."""
    schema = fields(
        HOSTILE, **{HOSTILE: {"const": HOSTILE, "description": HOSTILE, "pattern": HOSTILE, "default": HOSTILE}}
    )
    message = Message(HOSTILE, schema, "Hostile", HOSTILE, HOSTILE)
    error = Error(HOSTILE, HOSTILE, schema, "Own")
    event = Receive(HOSTILE, schema, (message,), errors=(error,), summary=HOSTILE, description=HOSTILE)
    return Api(
        HOSTILE,
        HOSTILE,
        (
            Channel(
                "hostile", HOSTILE, HOSTILE, HOSTILE, subprotocols=(HOSTILE,), receives=(event,), pushes=(message,),
                calls=(Call(message, schema),),
            ),
        ),
        {"Used": schema},
        description=HOSTILE,
    )  # fmt: skip


EXAMPLES = {
    f"example_{app.__module__.rpartition('.')[2]}": api_of(app)
    for app in (chat.Chat, cursors.Board, llm_stream.Model, pydantic_models.Shop, upload.Importer)
}

ENVELOPED = {
    "chat_nested": within(CHAT, WIRES["nested"]),
    "shop_array": within(SHOP, WIRES["array"]),
    "values": FREE["nested"],
}

FILES = {
    **{
        f"{name}.ts": typescript(api)
        for name, api in {**APIS, "served": SERVED, **EXAMPLES, **PARTS, **ENVELOPED}.items()
    },
    "many.ts": typescript(many(1000)),
    "hostile.ts": typescript(hostile()),
    "runtime.ts": runtime(),
    "types.ts": sample(),
    "usage.ts": USAGE,
    "abuse.ts": abuse(),
}


OLD = ["chat.ts", "chat_nested.ts", "shop.ts", "odd.ts", "types.ts", "usage.ts", "abuse.ts"]
"""What the compiler of the years before is asked about, which takes its time."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Mapping[str, list[str]]]:
    """What a compiler says of each file; each is run once."""

    @functools.cache
    def run(version: str) -> Mapping[str, list[str]]:
        folder = tmp_path_factory.mktemp(version)
        for name, text in FILES.items():
            (folder / name).write_text(text, encoding="utf-8")
        files = OLD if version == "typescript-5" else list(FILES)
        options = {**EVERYTHING, "allowImportingTsExtensions": True}
        (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": files}))
        compiler = binary("tsc", PACKAGES if version == "typescript" else PACKAGES / version)
        ended = subprocess.run([compiler, "-p", ".", "--pretty", "false"], cwd=folder, capture_output=True, text=True)
        said: dict[str, list[str]] = {name: [] for name in files}
        for line in ended.stdout.splitlines():
            if match := re.match(r"(\w+\.ts)(\(.*)", line):
                said[match[1]].append(match[2])
            else:
                assert line.startswith(" "), line
        return said

    return run


NEW = [name for name in FILES if not name.startswith("part_")]


@pytest.mark.parametrize(
    ("version", "name"), [*(("typescript", name) for name in NEW), *(("typescript-5", name) for name in OLD)]
)
def test_a_file_compiles(compiled: Callable[[str], Mapping[str, list[str]]], version: str, name: str) -> None:
    """With every check that there is; in `abuse` and `types` each wrong line is an error that was expected."""
    assert compiled(version)[name] == []


def test_a_file_compiles_whatever_its_api_leaves_out(compiled: Callable[[str], Mapping[str, list[str]]]) -> None:
    """The parts of the runtime need each other in no combination."""
    said = compiled("typescript")
    assert {name: said[name] for name in said if name.startswith("part_") and said[name]} == {}
    assert {name for name, _ in REGION.findall(runtime())} == {*REGIONS, "binary"}


def test_the_same_api_gives_the_same_text() -> None:
    """Whatever order its mappings have."""
    turned = replace(SHOP, components=dict(reversed(SHOP.components.items())))
    assert typescript(turned) == typescript(SHOP)


def test_no_text_of_a_contract_is_code() -> None:
    """Nor seen as anything but a comment or a literal."""
    text = FILES["hostile.ts"]
    literals = r'"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`'
    comments = re.compile(rf"{literals}|(/\*.*?\*/|//[^\n]*)", re.DOTALL)
    assert "hacked" in text
    assert "hacked" not in comments.sub("", text)
    assert all(char.isprintable() or char == "\n" for char in text)
    assert not any(re.search(r"(?<!\\)@ts-", each) for each in comments.findall(text))


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        (
            Channel("chat", "/", receives=(Receive("chat.send", fields()), Receive("chat_send", fields()))),
            "event 'chat.send' and event 'chat_send' would both be the method of Chat 'chatSend'; rename one of them",
        ),
        (
            Channel("chat", "/", receives=(Receive("💥", fields()),)),
            "event '💥': no letter and no digit to make the name of a method of Chat of; rename it",
        ),
        (
            Channel("user", "/", pushes=(Message("user", ref("User")),)),
            "channel 'user' and component 'User' would both be the type 'User'; rename one of them",
        ),
        (
            Channel("chat", "/", receives=(Receive("say", fields(n=ref("Nobody"))),)),
            "channel 'chat' refers to the component 'Nobody', which the contract does not have",
        ),
        (
            Channel("chat", "/", errors=(Error("full", details=fields(n=INTEGER)), Error("full", details=fields()))),
            "error 'full' is declared twice, and not alike; rename one of them",
        ),
        (
            Channel("chat", "/", pushes=(Message("loop", ref("Loop")),)),
            "component 'Loop' is defined by nothing but itself; give it a field or an item",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused(channel: Channel, said: str) -> None:
    """With the names of those who clash, and the remedy."""
    loop = {"anyOf": [ref("Loop"), {"type": "null"}]}
    with pytest.raises(ContractError) as refused:
        typescript(Api("Chat", "1", (channel,), {"User": fields(), "Loop": loop}))
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("event", "method"),
    [
        ("class", "class_"), ("constructor", "constructor_"), ("then", "then_"), ("on", "on_"), ("room", "room_"),
        ("state", "state_"), ("__proto__", "proto"), ("send", "send"), ("2fa", "_2fa"),
    ],
)  # fmt: skip
def test_an_event_that_is_called_like_something_else(event: str, method: str) -> None:
    """Keywords, what objects have, what the client has: `_` behind it."""
    api = Api("Chat", "1", (Channel("chat", "/", receives=(Receive(event, fields()),)),))
    assert f"  {method}(params?: NoParams, options?: RequestOptions): Promise<void> {{" in typescript(api)


def test_a_component_that_is_called_like_the_runtime_gets_another_name() -> None:
    """Or one of the language's own: neither is replaced in the file."""
    names = ("Map", "RoomView", "Promise", "string", "Fine")
    pushes = tuple(Message(name.lower(), ref(name)) for name in names)
    written = typescript(Api("Chat", "1", (Channel("chat", "/", pushes=pushes),), {name: fields() for name in names}))
    declared = re.findall(r"(?m)^export (?:type|interface) (\w+) ?[={].*never", written.partition("// ----")[2])
    assert declared == ["Fine", "Map_", "Promise_", "RoomView_", "string_"]


def test_what_nothing_refers_to_is_left_out() -> None:
    """As are the errors of the package, which are RequestErrors."""
    assert "Unused" not in typescript(ODD)
    assert "ValidationError" not in typescript(CHAT)


def test_files_are_small(tmp_path: Path) -> None:
    """A chat is at most 20 kB, an API of a hundred events 60 kB."""
    assert len(typescript(CHAT).encode()) < 20_000
    assert len(typescript(EXAMPLES["example_chat"]).encode()) < 20_000
    assert len(typescript(many(100)).encode()) < 60_000


def test_the_runtime_is_small(tmp_path: Path) -> None:
    """All of it, for browsers: at most 6 kB."""
    file = tmp_path / "all.ts"
    file.write_text(runtime())
    minified = subprocess.run([binary("bun"), "build", "--minify", str(file)], check=True, capture_output=True).stdout
    assert len(gzip.compress(minified, 9)) < 6_000


def test_a_reply_without_fields_is_told_by_its_type() -> None:
    """`switch (reply.type)` narrows a union of which one has nothing but its `type`."""
    replies = (Message("pong", {"type": "object"}), Message("busy", fields("n", n=INTEGER)))
    channel = Channel("chat", "/", receives=(Receive("ping", fields(), replies=replies),))
    assert 'Promise<{ type: "pong"; [key: string]: unknown } |' in typescript(Api("Chat", "1", (channel,)))
