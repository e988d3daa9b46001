"""Rooms as an endpoint's author uses them: one process, the memory backplane, real clients."""

from __future__ import annotations

import asyncio
import urllib.request
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import msgspec
import pytest
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

from socketsundso import DefinitionError, Endpoint, EventError, Hub, Keep, SyncHub, event
from socketsundso.connection.outbound import Outgoing
from socketsundso.messages import encode_push
from socketsundso.rooms import declaration
from socketsundso.rooms.local import Rooms, rooms_for
from socketsundso.rooms.room import EVERYONE

from ..backplanes.listener import until
from .serving import run, serving

pytestmark = pytest.mark.usefixtures("backplane", "both_protocols")


class Note(BaseModel):
    type: str = "note"
    text: str


class Seen(msgspec.Struct, tag="seen"):
    by: str


class Chat(Endpoint):
    @event
    async def on_enter(self, room: str) -> dict[str, Any]:
        await self.join(room)
        return {"id": self.id, "rooms": sorted(self.rooms)}

    @event
    async def on_exit(self, room: str) -> dict[str, Any]:
        await self.leave(room)
        return {"rooms": sorted(self.rooms)}

    @event
    async def on_say(self, room: list[str], text: str, but_me: bool = False) -> dict[str, Any]:
        await self.broadcast(Note(text=text), room=room, exclude_self=but_me)
        return {"type": "said"}

    @event
    async def on_iam(self, user: str) -> dict[str, Any]:
        await self.identify(user)
        return {"type": "ok"}


def test_a_broadcast_reaches_the_members_and_nobody_else() -> None:
    """The sender too, unless it leaves itself out; and before its own reply."""

    async def main() -> None:
        async with serving(Chat) as client:
            ada, bob, eve = [await client() for _ in range(3)]
            await ada.call("enter", room="r")
            await bob.call("enter", room="r")
            await eve.call("enter", room="other")
            await ada.send("say", room=["r"], text="1")
            assert await ada.receives(2) == [{"type": "note", "text": "1"}, {"type": "said"}]
            assert await bob.receive() == {"type": "note", "text": "1"}
            await ada.send("say", room=["r"], text="2", but_me=True)
            assert await ada.receive() == {"type": "said"}
            assert await bob.receive() == {"type": "note", "text": "2"}
            await ada.call("say", room=["other"], text="3")
            assert await eve.receive() == {"type": "note", "text": "3"}

    run(main)


def test_several_rooms_at_once_reach_each_member_once() -> None:
    """Whoever is in two of the rooms gets one copy."""

    async def main() -> None:
        async with serving(Chat) as client:
            both, one = await client(), await client()
            await both.call("enter", room="a")
            await both.call("enter", room="b")
            await one.call("enter", room="b")
            await one.send("say", room=["a", "b", "a"], text="1")
            assert await both.receive() == {"type": "note", "text": "1"}
            assert await one.receives(2) == [{"type": "note", "text": "1"}, {"type": "said"}]
            await one.call("say", room=["a"], text="2")
            assert await both.receive() == {"type": "note", "text": "2"}

    run(main)


def test_join_is_idempotent_and_leave_of_a_stranger_is_nothing() -> None:
    """`self.rooms` shows what is."""

    async def main() -> None:
        async with serving(Chat) as client:
            ada = await client()
            await ada.call("enter", room="r")
            assert (await ada.call("enter", room="r"))["rooms"] == ["r"]
            assert (await ada.call("exit", room="never"))["rooms"] == ["r"]
            assert (await ada.call("exit", room="r"))["rooms"] == []
            await ada.send("say", room=["r"], text="unheard")
            assert await ada.receive() == {"type": "said"}

    run(main)


def test_nothing_is_left_of_an_emptied_room(backplane: str) -> None:
    """Neither in the registry nor on the bus, whether members leave or vanish."""

    async def main() -> None:
        async with serving(Chat) as client:
            ada, bob = await client(), await client()
            await ada.call("enter", room="r")
            await bob.call("enter", room="r")
            await bob.call("iam", user="u")
            everyone = rooms_for(backplane)
            assert set(everyone.topics) == {"rr", "uu"}
            await ada.call("exit", room="r")
            bob.connection.transport.abort()
            await until(lambda: not everyone.topics, "the registry is empty")
            assert set(everyone.backplane.bus.subscribers) == {EVERYONE}  # type: ignore[attr-defined]  # of memory

    run(main)


def test_a_hub_reaches_rooms_and_users_and_leaves_out_whom_it_is_told_to(backplane: str) -> None:
    """`Chat.hub`, one of its own, and one in another thread without await."""

    async def main() -> None:
        async with serving(Chat) as client:
            ada, bob = await client(), await client()
            await ada.call("enter", room="r")
            bob_id = (await bob.call("enter", room="r"))["id"]
            await bob.call("iam", user="u-2")
            await Chat.hub.to("r").send(Seen(by="hub"))
            assert await ada.receive() == await bob.receive() == {"type": "seen", "by": "hub"}
            async with Hub(backplane) as hub:
                await hub.to("r").except_(bob_id).send({"type": "only", "n": 1})
                await hub.to_user("u-2").send({"type": "user", "n": 2})
                assert hub.status == "connected"
                assert (hub.status.published, hub.status.dropped, hub.status.refused) == (3, 0, 0)
            assert hub.status == "closed"
            assert await ada.receive() == {"type": "only", "n": 1}
            assert await bob.receive() == {"type": "user", "n": 2}

            def in_a_thread() -> str:
                with SyncHub(backplane) as hub:
                    hub.to("r", "nowhere").except_(bob_id).send({"type": "thread"})
                    return str(hub.status)

            assert await asyncio.to_thread(in_a_thread) == "connected"
            assert await ada.receive() == {"type": "thread"}

    run(main)


def test_an_http_route_and_a_background_task_reach_the_rooms() -> None:
    """Of the same application, with any kind of value that a handler may return."""

    @dataclass
    class Told:
        by: str

    async def later() -> None:
        await Chat.hub.to("r").send({"type": "told", "by": "a task"})

    async def say(request: Request) -> PlainTextResponse:
        await Chat.hub.to("r").send(Told("a route"))
        return PlainTextResponse("said", background=BackgroundTask(later))

    async def main() -> None:
        app = Starlette(routes=[WebSocketRoute("/", Chat), Route("/say", say)])
        async with serving(app) as client:
            ada = await client()
            await ada.call("enter", room="r")
            host, port = ada.connection.transport.get_extra_info("peername")
            answer = await asyncio.to_thread(urllib.request.urlopen, f"http://{host}:{port}/say", timeout=20)
            with answer:
                assert answer.read() == b"said"
            assert await ada.receives(2) == [{"type": "told", "by": "a route"}, {"type": "told", "by": "a task"}]

    run(main)


def test_a_broadcast_is_encoded_once_and_framed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many members there are, and however many rooms; what comes from other processes is not decoded."""
    encoded, framed = [], []
    monkeypatch.setattr(declaration, "encode_push", lambda *args: encoded.append(args) or encode_push(*args))
    monkeypatch.setattr(Outgoing, "frame", lambda out, wire: framed.append(out._frame is None) or _frame(out, wire))

    async def main() -> None:
        async with serving(Chat) as client:
            clients = [await client() for _ in range(8)]
            for each in clients:
                await each.call("enter", room="a")
                await each.call("enter", room="b")
            await clients[0].call("say", room=["a", "b"], text="1", but_me=True)
            for each in clients[1:]:
                assert await each.receive() == {"type": "note", "text": "1"}
            assert len(encoded) == 1
            assert sum(framed) in (0, 1)  # none where uvicorn's own protocol makes the frames
            other = Rooms(Chat._declaration.url)
            await other.broadcast(["ra"], b"not even JSON")
            assert await clients[0].connection.recv() == "not even JSON"

    run(main)


_frame = Outgoing.frame


@pytest.mark.parametrize("name", ["", "a*", "room.>", "x" * 201, "a\nb", "what?", "[a]", "\x00"])
def test_a_name_that_no_room_can_have_is_answered_not_obeyed(name: str) -> None:
    """The connection lives, and the error names the rule."""

    async def main() -> None:
        async with serving(Chat) as client:
            ada = await client()
            answer = await ada.call("enter", room=name)
            assert (answer["code"], answer["errors"][0]["type"]) == ("validation_error", "room_name")
            assert (await ada.call("enter", room="r"))["rooms"] == ["r"]

    run(main)


@pytest.mark.parametrize("name", ["*", "a\nb", ""])
def test_a_hub_refuses_such_a_name_where_it_is_called(name: str) -> None:
    """It is a ValueError there."""
    with pytest.raises(ValueError, match="room's name"):
        Hub("memory://").to(name)


@pytest.mark.parametrize("kind", ["async", "sync", "error"])
def test_authorize_decides_who_may_join(kind: str) -> None:
    """False or an EventError: `forbidden`, and not a member."""

    class Guarded(Chat):
        if kind == "async":

            async def authorize(self, room: str) -> bool:
                return room == "open"
        else:

            def authorize(self, room: str) -> bool:  # type: ignore[override]  # may be sync
                if kind == "error" and room != "open":
                    raise EventError("forbidden", "members only")
                return room == "open"

    async def main() -> None:
        async with serving(Guarded) as client:
            ada = await client()
            assert (await ada.call("enter", room="secret"))["code"] == "forbidden"
            assert (await ada.call("enter", room="open"))["rooms"] == ["open"]

    run(main)


@pytest.mark.usefixtures("backplane", "both_protocols")
@pytest.mark.parametrize("answer", [None, 0, "", [], EventError("too_many", "come back later"), KeyError("x")])
def test_who_is_not_let_in_stays_outside(answer: Any) -> None:
    """Nor by a branch of `authorize` that says nothing, or by a bug in it; an EventError has its own code."""

    class Guarded(Chat):
        def authorize(self, room: str) -> Any:  # type: ignore[override]  # may be sync, and wrong
            if isinstance(answer, Exception):
                raise answer
            return answer

    async def main() -> None:
        async with serving(Guarded) as client:
            ada = await client()
            code = {EventError: "too_many", KeyError: "internal_error"}.get(type(answer), "forbidden")
            assert (await ada.call("enter", room="r"))["code"] == code
            assert (await ada.call("exit", room="other"))["rooms"] == []

    run(main)


def test_what_emits_does_not_list_is_refused() -> None:
    """By class or, for a dict, by its type; the error names what is listed. A reply is no push."""

    class Strict(Endpoint):
        emits = [Note, Seen]

        @event
        async def on_try(self, what: str) -> dict[str, Any]:
            values: dict[str, Any] = {
                "model": Note(text="a"), "struct": Seen(by="b"), "dict": {"type": "note", "text": "c"},
                "other": {"type": "other"}, "class": Keep(),
            }  # fmt: skip
            await self.join("r")
            try:
                await self.broadcast(values[what], room="r")
            except TypeError as error:
                return {"type": "refused", "why": str(error)}
            return {"type": "done"}

    async def main() -> None:
        async with serving(Strict) as client:
            ada = await client()
            for what in ("model", "struct", "dict"):
                assert (await ada.call("try", what=what))["type"] == "done"
            for what in ("other", "class"):
                answer = await ada.call("try", what=what)
                assert answer["type"] == "refused"
                assert "note, seen" in answer["why"]

    run(main)


def test_on_disconnect_can_say_farewell_and_membership_ends_even_if_it_raises(backplane: str) -> None:
    """The rooms are still there in it; the leaver itself gets nothing."""

    class Polite(Chat):
        async def on_disconnect(self, close_code: int) -> None:
            await self.broadcast({"type": "bye", "rooms": sorted(self.rooms)}, room=self.rooms)
            raise RuntimeError("and then something went wrong")

    async def main() -> None:
        async with serving(Polite) as client:
            ada, bob = await client(), await client()
            await ada.call("enter", room="r")
            await bob.call("enter", room="r")
            await bob.connection.close()
            assert await ada.receive() == {"type": "bye", "rooms": ["r"]}
            everyone = rooms_for(backplane)
            await until(lambda: len(everyone.topics["rr"].live) == 1, "one member")

    run(main)


def test_joining_before_accept_is_a_programmers_error() -> None:
    """RuntimeError with the remedy; after `super().on_connect()` it works."""
    errors: list[BaseException] = []

    class Early(Chat):
        async def on_connect(self) -> None:
            try:
                await self.join("r")
            except RuntimeError as error:
                errors.append(error)
            await super().on_connect()
            await self.join("r")

    async def main() -> None:
        async with serving(Early) as client:
            ada = await client()
            assert (await ada.call("exit", room="x"))["rooms"] == ["r"]
        assert "after" in str(errors[0])

    run(main)


def test_events_named_like_the_methods_leave_the_methods_alone() -> None:
    """`@event async def join` is an event; `self.join` inside it is the method."""

    class Named(Endpoint):
        @event("join")
        async def join_(self, room: str) -> dict[str, Any]:
            await self.join(room)
            return {"rooms": sorted(self.rooms)}

        @event
        async def broadcast(self, text: str) -> None:  # type: ignore[override]
            pass

        @event
        async def shout(self, text: str) -> None:
            await self.broadcast({"type": "loud", "text": text}, room="r")  # type: ignore[call-arg]

    async def main() -> None:
        async with serving(Named) as client:
            ada = await client()
            assert (await ada.call("join", room="r"))["rooms"] == ["r"]
            await ada.send("shout", text="x")
            assert await ada.receive() == {"type": "loud", "text": "x"}

    run(main)


def test_an_endpoint_without_rooms_keeps_no_state_for_them(backplane: str) -> None:
    """No membership, no backplane, the plain send."""
    seen: list[Endpoint] = []

    class Plain(Endpoint):
        @event
        async def on_ping(self) -> dict[str, Any]:
            seen.append(self)
            return {"type": "pong"}

    async def main() -> None:
        async with serving(Plain) as client:
            ada = await client()
            await ada.call("ping")
            assert "_in_rooms" not in vars(seen[0])
            assert rooms_for(backplane).state == "closed"
            assert await ada.call("resume") == await ada.call("resume")

    run(main)


@pytest.mark.parametrize(
    ("declaration", "match"),
    [
        ({"on_slow": "wait"}, "drop_oldest"),
        ({"history": {"doc:*": 100}}, "Keep"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_at_class_creation(declaration: Any, match: str) -> None:
    """The text names what is allowed."""
    with pytest.raises(DefinitionError, match=match):
        type("Wrong", (Endpoint,), declaration)


def test_names_of_the_wire_are_reserved_only_where_the_feature_is_used() -> None:
    """`resume` may be anybody's event, except on an endpoint with history."""

    async def on_resume(self: Any) -> None: ...

    type("Fine", (Endpoint,), {"on_resume": event(on_resume)})
    with pytest.raises(DefinitionError, match="resume"):
        type("Wrong", (Endpoint,), {"on_resume": event(on_resume), "history": {"*": Keep()}})


@pytest.mark.parametrize("feature", [{"history": {"*": Keep()}}, {"notify_gaps": True}], ids=["history", "notify_gaps"])
def test_gap_is_reserved_where_gaps_are_told(feature: Any) -> None:
    """As an event and as a message; anybody else may have both."""

    async def on_gap(self: Any) -> None: ...

    class Gap(BaseModel):
        width: int

    for own in ({"on_gap": event(on_gap)}, {"emits": [Gap]}):
        type("Fine", (Endpoint,), own)
        with pytest.raises(DefinitionError, match="'gap': Wrong"):
            type("Wrong", (Endpoint,), own | feature)


def test_a_subclass_of_an_endpoint_with_history_keeps_it_or_not() -> None:
    """`resume` comes with the history of the class itself, not with the base's; by then it may be anybody's event."""

    async def on_resume(self: Any) -> None: ...

    class Keeping(Chat):
        history = {"*": Keep()}

    class Forgetting(Keeping):
        history = {}

    assert "resume" in type("Heir", (Keeping,), {})._definition.decoder.routes
    assert "resume" not in Forgetting._definition.decoder.routes
    with pytest.raises(DefinitionError, match="resume"):
        type("Wrong", (Keeping,), {"on_resume": event(on_resume)})
    assert "resume" in type("Fine", (Forgetting,), {"on_resume": event(on_resume)})._definition.decoder.routes


class _Model(BaseModel):
    seq: int


class _Aliased(BaseModel):
    number: int = Field(alias="seq")


class _Struct(msgspec.Struct):
    number: int = msgspec.field(name="seq")


@dataclass
class _Dataclass:
    seq: int


class _TypedDict(TypedDict):
    type: Literal["dict"]
    seq: int


@pytest.mark.parametrize("kind", [_Model, _Aliased, _Struct, _Dataclass, _TypedDict])
def test_what_an_endpoint_with_history_pushes_has_no_seq_of_its_own(kind: Any) -> None:
    """Refused at class creation, by its name on the wire; without history it is anybody's field."""
    type("Fine", (Endpoint,), {"emits": [kind]})
    with pytest.raises(DefinitionError, match="seq"):
        type("Wrong", (Endpoint,), {"emits": [kind], "history": {"*": Keep()}})


def test_two_backplanes_never_mix() -> None:
    """`backplane` on the class overrides the environment."""

    class Other(Chat):
        backplane = "memory://other-one"

    async def main() -> None:
        async with serving(Chat) as client, serving(Other) as other:
            ada, bob = await client(), await other()
            await ada.call("enter", room="r")
            await bob.call("enter", room="r")
            await bob.call("say", room=["r"], text="1")
            await ada.send("say", room=["r"], text="2")
            assert await ada.receive() == {"type": "note", "text": "2"}

    run(main)
