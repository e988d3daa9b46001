"""Rooms of the TypeScript client: where it is in them, what it missed, who is there."""

from __future__ import annotations

from collections.abc import Callable

from tests.backplanes.engines import running
from tests.contract.served.conftest import command
from tests.contract.served.javascript import Engine
from tests.serving import free_port, serving

ROOM = """
const name = "doc:" + Math.random();
const bob = open(Chat, url + "/chat", { token: "bob" });
const ada = open(Chat, url + "/chat", { token: "ada" });
const room = ada.room(name), seen = [], gaps = [];
room.on("posted", message => seen.push(message.msg));
room.on("gap", gap => gaps.push(gap.dropped));
const say = (...texts) => Promise.all(texts.map(msg => bob.say({ room: name, msg })));
const lose = async client => {
  await client.drop({}).catch(() => {});
  await until(() => client.state === "waiting");
};
const back = async client => {
  await until(() => client.state === "open");
  await client.who();
};
await bob.enter({ room: name });
await ada.enter({ room: name });
"""


def test_what_was_missed_comes_before_what_is_new(js: Engine, url: str) -> None:
    """While the connection was lost others spoke: in order, each once, and no gap is told."""
    told = js.run(
        ROOM
        + """
        const openings = [];
        ada.onOpen(opening => openings.push([opening.reconnected, opening.resumed[name]?.recovered]));
        await say("one");
        await until(() => seen.length === 1);
        await lose(ada);
        await say("two", "three");
        await until(() => ada.state === "open");
        await say("four");
        await until(() => seen.length === 4);
        return [seen, gaps, openings, room.position.seq, ada.room(name) === room];
        """,
        url=url,
    )
    assert told == [["one", "two", "three", "four"], [], [[False, None], [True, True]], 4, True]


def test_resume_is_the_first_that_is_said(node: Engine) -> None:
    """Before what `onOpen` asks, and before what waited; live messages come behind the answer."""
    told = node.run(
        """
        const heard = [];
        const address = await serve((socket, said) => {
          heard.push(said);
          if (heard.length === 1) {
            socket.say({ type: "room_position", room: "doc:1", seq: 7, epoch: "a" });
            setTimeout(() => socket.close(1012), 20);
          } else {
            socket.on("message", data => {
              const { type, ref } = JSON.parse(data);
              if (type !== "resume") return socket.say({ type, ref });
              socket.say({ type: "resumed", ref, rooms: { "doc:1": { recovered: true, seq: 8, epoch: "a" } } });
              socket.say({ type: "posted", msg: "missed", room: "doc:1", seq: 8 });
            });
          }
        });
        const chat = open(Chat, address), seen = [];
        chat.room("doc:1").on("posted", message => seen.push(message.msg));
        chat.onOpen(async ({ reconnected }) => { if (reconnected) await chat.enter({ room: "doc:2" }) });
        await until(() => chat.state === "waiting");
        await chat.say({ room: "doc:1", msg: "waited" });
        return [heard[1].map(each => each.type), heard[1][0].rooms, seen];
        """
    )
    assert told == [["resume", "enter", "say"], {"doc:1": {"seq": 7, "epoch": "a"}}, ["missed"]]


def test_more_than_the_room_keeps_is_a_gap(js: Engine, url: str) -> None:
    """Told once, with the number that is missing, to the room and to the client; from there on it goes on."""
    told = js.run(
        ROOM
        + """
        const all = [];
        ada.on("gap", gap => all.push([gap.room === name, gap.dropped]));
        await say("one");
        await until(() => seen.length === 1);
        await lose(ada);
        await bob.flood({ room: name, count: 30 });
        await back(ada);
        await say("behind");
        await until(() => seen.length === 2);
        await lose(ada);
        await back(ada);
        return [seen, gaps, all, room.position.seq];
        """,
        url=url,
    )
    assert told == [["one", "behind"], [30], [[True, 30]], 32]


def test_a_gap_can_be_filled_by_entering_anew(js: Engine, url: str) -> None:
    """What the room still keeps comes, and what has come before does not come again."""
    told = js.run(
        ROOM
        + """
        await say("one");
        await until(() => seen.length === 1);
        await lose(ada);
        await bob.flood({ room: name, count: 30 });
        await back(ada);
        await ada.exit({ room: name });
        await ada.enter({ room: name, last: 3 });
        await until(() => seen.length === 4);
        await ada.exit({ room: name });
        await ada.enter({ room: name, last: 3 });
        await ada.who();
        return [seen, gaps];
        """,
        url=url,
    )
    assert told == [["one", "27", "28", "29"], [30]]


def test_a_room_that_was_closed_is_not_resumed(js: Engine, url: str) -> None:
    """Nor is one that has no view: who has left does not come back by a lost connection."""
    told = js.run(
        ROOM
        + """
        await ada.enter({ room: name + "x" });
        room.close();
        let resumed;
        ada.onOpen(opening => (resumed = opening.resumed));
        await lose(ada);
        await back(ada);
        await say("two");
        await ada.who();
        return [seen, resumed, ada.room(name).position ?? null];
        """,
        url=url,
    )
    assert told == [[], {}, None]


def test_a_room_that_is_entered_again_begins_anew(js: Engine, url: str) -> None:
    """With a view that was closed between: what it had seen comes again."""
    told = js.run(
        ROOM
        + """
        await say("one", "two");
        await until(() => seen.length === 2);
        await ada.exit({ room: name });
        room.close();
        const again = [];
        ada.room(name).on("posted", message => again.push(message.msg));
        await ada.enter({ room: name, last: 10 });
        await until(() => again.length === 2);
        return [seen, again];
        """,
        url=url,
    )
    assert told == [["one", "two"], ["one", "two"]]


def test_a_room_that_it_may_not_be_in_any_more_is_a_gap(node: Engine) -> None:
    """And is not asked for again."""
    told = node.run(
        """
        let connections = 0;
        const asked = [];
        const address = await serve(socket => {
          if (++connections === 1) socket.say({ type: "room_position", room: "doc:1", seq: 7, epoch: "a" });
          socket.on("message", data => {
            const { type, ref, rooms } = JSON.parse(data);
            asked.push(rooms);
            socket.say({ type: "resumed", ref, rooms: { "doc:1": { recovered: false, code: "forbidden" } } });
          });
          if (connections < 3) setTimeout(() => socket.close(1012), 30);
        });
        const chat = open(Chat, address), gaps = [], resumed = [];
        chat.room("doc:1").on("gap", gap => gaps.push(gap));
        chat.onOpen(opening => resumed.push(opening.resumed));
        await until(() => resumed.length === 3);
        return [gaps, resumed, asked];
        """
    )
    gap = {"type": "gap", "room": "doc:1", "dropped": None}
    refused = {"doc:1": {"recovered": False, "code": "forbidden"}}
    assert told == [[gap], [{}, refused, {}], [{"doc:1": {"seq": 7, "epoch": "a"}}]]


def test_a_gap_of_the_server_is_told_once(node: Engine) -> None:
    """The new position behind it says the same again."""
    told = node.run(
        """
        const address = await serve(socket => {
          socket.say({ type: "room_position", room: "r", seq: 1, epoch: "a" });
          socket.say({ type: "posted", room: "r", seq: 2, msg: "two" });
          socket.say({ type: "gap", room: "r", dropped: 3 });
          socket.say({ type: "room_position", room: "r", seq: 5, epoch: "a" });
          socket.say({ type: "posted", room: "r", seq: 6, msg: "six" });
          socket.say({ type: "room_position", room: "r", seq: 9, epoch: "b" });
          socket.say({ type: "posted", room: "r", seq: 10, msg: "ten" });
          socket.say({ type: "gap", room: null, dropped: 1 });
        });
        const chat = open(Chat, address), seen = [], all = [];
        const room = chat.room("r");
        room.on("posted", message => seen.push(message.msg));
        room.on("gap", gap => seen.push(gap.dropped));
        chat.on("gap", gap => all.push(gap.dropped));
        await until(() => all.length === 3);
        return [seen, all];
        """
    )
    assert told == [["two", 3, "six", None, "ten"], [3, None, 1]]


def test_presence_is_a_map(js: Engine, url: str) -> None:
    """Of who is there by id, kept up by what the server tells; whoever shows it is told of each change."""
    told = js.run(
        ROOM
        + """
        const changes = [];
        room.on("members", members => changes.push([...members.keys()].sort()));
        const show = () => [...room.members].map(([id, meta]) => [id, meta.name]).sort();
        await until(() => room.members.size === 2);
        const both = show();
        bob.close();
        await until(() => room.members.size === 1);
        await lose(ada);
        const lost = show();
        await back(ada);
        await ada.enter({ room: name });
        await until(() => room.members.size === 1);
        return [both, show(), lost, changes.at(-1)];
        """,
        url=url,
    )
    alone = [["ada", "ada"]]
    assert told == [[["ada", "ada"], ["bob", "bob"]], alone, alone, ["ada"]]


def test_who_is_there_is_known_to_a_view_that_comes_late(js: Engine, url: str) -> None:
    """What was told before `room()` was called has not been lost."""
    told = js.run(
        """
        const name = "doc:" + Math.random(), chat = open(Chat, url + "/chat", { token: "ada" });
        await chat.enter({ room: name });
        await chat.say({ room: name, msg: "one" });
        const { members, position } = await until(() => chat.room(name).members.size && chat.room(name));
        return [[...members.keys()], position.seq];
        """,
        url=url,
    )
    assert told == [["ada"], 1]


def test_names_from_the_wire_reach_no_prototype(node: Engine) -> None:
    """A member, a room or a type may be called what it likes."""
    told = node.run(
        """
        const address = await serve(socket => {
          for (const room of ["__proto__", "constructor"]) {
            socket.say({ type: "presence_state", room, members: {} });
            socket.send(`{"type":"presence_diff","room":"${room}","joins":{"__proto__":{"name":"eve"}},"leaves":{}}`);
          }
          socket.say({ type: "constructor" });
          socket.say({ type: "error", code: "toString", errors: [] });
        });
        const chat = open(Chat, address);
        const error = await next(chat, "error");
        const members = chat.room("__proto__").members;
        return [error.code, [...members], {}.name ?? null, reported];
        """
    )
    assert told == ["toString", [["__proto__", {"name": "eve"}]], None, []]


def test_an_engine_that_was_killed_is_a_gap_and_no_end(engines: Callable[[str], Engine]) -> None:
    """Redis comes back without its data: the room has another epoch, and what is said from then on is heard."""
    js = engines("ws")
    port = free_port()
    with running("redis") as redis, serving(*command(port, "--backplane", redis.url), port=port):
        js.run(
            ROOM
            + """
            await say("one");
            await until(() => seen.length === 1);
            Object.assign(world, { ada, bob, seen, gaps, name, lose });
            """,
            url=f"ws://127.0.0.1:{port}",
        )
        redis.kill()
        js.run("await world.lose(world.ada); await until(() => world.ada.state === 'open')")
        redis.start()
        told = js.run(
            """
            const { ada, bob, seen, gaps, name } = world;
            for (const key of Object.keys(world)) delete world[key];
            await until(() => gaps.length);
            await until(() => bob.say({ room: name, msg: "two" }).then(() => true, () => false));
            await until(() => seen.length > 1);
            return [seen[0], new Set(seen.slice(1)).size, gaps];
            """
        )
    assert told == ["one", 1, [None]]
