"""Calls of hubs: what a process asks of connections wherever they are, and every end of that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel

from socketsundso import (
    BackplaneUnavailable,
    CallFailed,
    CallRefused,
    CallTimeout,
    Endpoint,
    Hub,
    InvalidAnswer,
    SyncHub,
    event,
)
from socketsundso.backplanes import PROCESSES, engine
from socketsundso.rooms import acting, calling
from socketsundso.rooms.local import rooms_for
from socketsundso.rooms.room import EVERYONE

from ..backplanes.listener import opened, until
from .peer import cut_off
from .serving import Client, Connect, run, serving

LONG_S = 1000.0  # longer than any test: what ends, ends at once
here_and_elsewhere = pytest.mark.parametrize("where", ["here", "elsewhere"])


class Confirm(BaseModel):
    order: int


class Rate(BaseModel):
    what: str


class Rating(BaseModel):
    stars: int


def no_bug(text: str) -> str:
    if text == "bug":
        raise RuntimeError("a bug")
    return text


class Say(BaseModel): ...


class Desk(Endpoint):
    calls = {Confirm: bool, Rate: Rating, Say: Annotated[str, AfterValidator(no_bug)]}

    @event
    async def on_iam(self, user: str) -> dict[str, Any]:
        await self.identify(user)
        return {"id": self.id}

    @event
    async def on_ping(self) -> dict[str, Any]:
        return {}


async def ask(where: str, user: str, question: Any, *, method: str = "call", **options: Any) -> Any:
    """By a hub of the application's own process, or by one that shares nothing but the backplane with it."""
    options = {"timeout_s": LONG_S} | options
    if where == "here":
        return await getattr(Desk.hub.to_user(user), method)(question, **options)

    def in_a_thread() -> Any:
        with SyncHub() as hub:
            return getattr(hub.to_user(user), method)(question, **options)

    return await asyncio.to_thread(in_a_thread)


async def people(client: Connect, *users: str) -> list[Client]:
    found = [await client() for _ in users]
    for each, user in zip(found, users, strict=True):
        await each.call("iam", user=user)
    return found


async def hears_nothing(*clients: Client) -> None:
    for each in clients:
        await each.send("ping", ref=0)
        assert await each.receive() == {"type": "ping", "ref": 0}


async def refuse(client: Client, ref: str, code: str, message: str | None = None) -> None:
    await client.send("reply", ref=ref, error={"code": code, "message": message})


# ---- answers


@pytest.mark.usefixtures("everywhere")
def test_everyone_is_asked_who_has_declared_answers() -> None:
    """From its accept on, though it is in no room and nobody has said who it is."""

    async def main() -> None:
        async with serving(Desk) as client:
            one, two = await client(), await client()
            asked = asyncio.create_task(Desk.hub.everyone.call_all(Confirm(order=1), returns=bool, timeout_s=LONG_S))
            for each, answer in ((one, True), (two, False)):
                await each.send("reply", ref=(await each.receive())["ref"], answer=answer)
            assert sorted(answer for _, answer in await asked) == [False, True]

    run(main)


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_the_first_answer_is_the_users(where: str) -> None:
    """
    All devices of the user are asked; those that have not answered are told, and nobody else hears of it. Who asked
    hears the answer in whichever process it is (Flask-SocketIO #1533).
    """

    async def main() -> None:
        async with serving(Desk) as client:
            laptop, phone, other = await people(client, "u1", "u1", "u2")
            asking = asyncio.create_task(ask(where, "u1", Confirm(order=7), returns=bool))
            for each in (laptop, phone):
                assert await each.receive() == {"type": "confirm", "order": 7, "ref": "s:1"}
            await phone.send("reply", ref="s:1", answer=True)
            assert await asking is True
            assert await laptop.receive() == {"type": "cancel", "ref": "s:1"}
            await hears_nothing(phone, laptop, other)

    run(main)


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_all_are_asked_and_each_has_its_own_end(where: str) -> None:
    """An answer, a refusal, one that is not valid, and one that leaves: in the order in which they are known."""

    async def main() -> None:
        async with serving(Desk) as client:
            clients = [await client() for _ in range(4)]
            ids = [(await each.call("iam", user="u1"))["id"] for each in clients]
            asking = asyncio.create_task(ask(where, "u1", Rate(what="tea"), returns=Rating, method="call_all"))
            for each in clients:
                assert (await each.receive())["type"] == "rate"
            await clients[0].send("reply", ref="s:1", answer={"stars": 5})
            await refuse(clients[1], "s:1", "declined", "no")
            await clients[2].send("reply", ref="s:1", answer={"stars": "many"})
            assert (await clients[2].receive())["code"] == "validation_error"
            await clients[3].connection.close()
            ends = dict(await asking)
            assert set(ends) == set(ids)
            assert ends[ids[0]] == Rating(stars=5)
            assert (ends[ids[1]].code, ends[ids[1]].message) == ("declined", "no")
            assert [error["loc"] for error in ends[ids[2]].errors] == [("answer", "stars")]
            assert ends[ids[3]].code == "gone"

    run(main)


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_who_refuses_is_out_of_it_while_another_may_answer(where: str) -> None:
    """So is who answers what is not valid."""

    async def main() -> None:
        async with serving(Desk) as client:
            one, two, three = await people(client, "u1", "u1", "u1")
            asking = asyncio.create_task(ask(where, "u1", Confirm(order=7), returns=bool))
            for each in (one, two, three):
                await each.receive()
            await refuse(one, "s:1", "declined")
            await two.send("reply", ref="s:1", answer="?")
            assert (await two.receive())["code"] == "validation_error"
            await three.send("reply", ref="s:1", answer=False)
            assert await asking is False

    run(main)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (["leaves", "refuses"], CallRefused("declined", "no")),
        (["wrong", "leaves"], InvalidAnswer),
        (["wrong", "refuses"], CallRefused("declined", "no")),
        (["leaves", "leaves"], CallRefused("gone")),
    ],
)
@pytest.mark.usefixtures("backplane")
@here_and_elsewhere
def test_where_nobody_is_left_what_a_client_said_is_raised(where: str, ends: list[str], expected: Any) -> None:
    """At once, when the last one has had its end."""

    async def main() -> None:
        async with serving(Desk) as client:
            clients = await people(client, *["u1"] * len(ends))
            asking = asyncio.create_task(ask(where, "u1", Confirm(order=7), returns=bool))
            for each in clients:
                await each.receive()
            for each, how in zip(clients, ends, strict=True):
                if how == "leaves":
                    await each.connection.close()
                elif how == "refuses":
                    await refuse(each, "s:1", "declined", "no")
                else:
                    await each.send("reply", ref="s:1", answer=[])
            with pytest.raises(CallFailed) as caught:
                await asking
            if isinstance(expected, CallFailed):
                assert str(caught.value) == str(expected)
            else:
                assert isinstance(caught.value, expected)

    run(main)


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_nobody_there_is_said_at_once(where: str) -> None:
    """The processes have answered; `call_all` has an empty list."""

    async def main() -> None:
        async with serving(Desk) as client:
            await people(client, "u2")
            with pytest.raises(CallRefused, match="gone"):
                await ask(where, "u1", Confirm(order=7))
            assert await ask(where, "u1", Confirm(order=7), method="call_all") == []

    run(main)


@pytest.mark.usefixtures("backplane")
@here_and_elsewhere
def test_who_does_not_answer_in_time_is_told_and_may_come_late(where: str) -> None:
    """A late answer is ignored, and is no answer to the next question."""

    async def main() -> None:
        async with serving(Desk) as client:
            (ada,) = await people(client, "u1")
            with pytest.raises(CallTimeout):
                await ask(where, "u1", Confirm(order=7), timeout_s=0.5)
            assert [each["type"] for each in await ada.receives(2)] == ["confirm", "cancel"]
            asking = asyncio.create_task(ask(where, "u1", Confirm(order=8)))
            assert (await ada.receive())["ref"] == "s:2"
            await ada.send("reply", ref="s:1", answer=False)
            await hears_nothing(ada)
            await ada.send("reply", ref="s:2", answer=True)
            assert await asking is True

    run(main)


@pytest.mark.usefixtures("backplane")
@here_and_elsewhere
def test_all_that_is_known_at_the_end_of_the_time_is_given(where: str) -> None:
    """Who was asked and has said nothing has a `CallTimeout`."""

    async def main() -> None:
        async with serving(Desk) as client:
            one, _ = await people(client, "u1", "u1")
            asking = asyncio.create_task(ask(where, "u1", Confirm(order=7), method="call_all", timeout_s=0.5))
            await one.receive()
            await one.send("reply", ref="s:1", answer=True)
            answers = [answer for _, answer in await asking]
            assert [type(each) for each in answers] in ([bool, CallTimeout], [CallTimeout, bool])

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_who_waits_no_more_withdraws_the_question() -> None:
    """A caller that is cancelled: clients in all processes are told."""

    async def main() -> None:
        async with serving(Desk) as client, Hub() as hub:
            (ada,) = await people(client, "u1")
            for each in (hub, Desk.hub):
                asking = asyncio.create_task(each.to_user("u1").call(Confirm(order=7)))
                assert (await ada.receive())["type"] == "confirm"
                asking.cancel()
                assert (await ada.receive())["type"] == "cancel"
                with pytest.raises(asyncio.CancelledError):
                    await asking
            assert not rooms_for(hub.url).acting._questions
            await until(lambda: not rooms_for(hub.url).acting._inquiries, "nothing is left")

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_a_handler_may_ask_its_own_user() -> None:
    """Its own connection is one of those, and answers while the handler waits."""

    class Own(Desk):
        @event
        async def on_pay(self) -> dict[str, Any]:
            await self.identify("me")
            return {"sure": await self.hub.to_user("me").call(Confirm(order=7), returns=bool, timeout_s=LONG_S)}

    async def main() -> None:
        async with serving(Own) as client:
            ada = await client()
            await ada.send("pay", ref=1)
            await ada.receive()
            await ada.send("reply", ref="s:1", answer=True)
            assert await ada.receive() == {"type": "pay", "sure": True, "ref": 1}

    run(main)


@pytest.mark.usefixtures("backplane")
def test_who_is_never_asked_that_is_passed_over() -> None:
    """Connections of other classes, and those that are left out."""

    class Other(Endpoint):
        calls = {Rate: Rating}

        @event
        async def on_iam(self) -> dict[str, Any]:
            await self.identify("u1")
            return {}

    async def main() -> None:
        async with serving(Desk) as client, serving(Other) as other, Hub() as hub:
            one, two = await client(), await client()
            await one.call("iam", user="u1")
            left_out = (await two.call("iam", user="u1"))["id"]
            stranger = await other()
            await stranger.call("iam")
            asking = asyncio.create_task(hub.to_user("u1").except_(left_out).call(Confirm(order=7)))
            await one.receive()
            await hears_nothing(two)
            await one.send("reply", ref="s:1", answer=True)
            assert await asking is True
            await stranger.send("nothing", ref=1)
            assert (await stranger.receive())["code"] == "unknown_event"

    run(main)


@pytest.mark.usefixtures("backplane")
def test_a_hub_of_no_class_reads_answers_as_it_says() -> None:
    """As JSON has them, or as `returns`; what is valid for the class of the connection may be wrong here."""

    async def main() -> None:
        async with serving(Desk) as client, Hub() as hub:
            (ada,) = await people(client, "u1")

            async def answered(**options: Any) -> Any:
                asking = asyncio.create_task(hub.to_user("u1").call({"type": "rate", "what": "tea"}, **options))
                await ada.send("reply", ref=(await ada.receive())["ref"], answer={"stars": 5})
                return await asking

            assert await answered() == {"stars": 5}
            assert await answered(returns=Rating) == Rating(stars=5)
            with pytest.raises(InvalidAnswer) as caught:
                await answered(returns=int)
            assert caught.value.errors[0]["loc"] == ("answer",)

    run(main)


@pytest.mark.usefixtures("backplane")
@pytest.mark.parametrize(
    ("hub", "question", "options", "error", "text"),
    [
        (lambda: Desk.hub, {"type": "unheard"}, {}, TypeError, "its `calls` lists"),
        (lambda: Desk.hub, Confirm(order=1), {"returns": int}, TypeError, "the answer to 'confirm'"),
        (lambda: Desk.hub, Confirm(order=1), {"timeout_s": 0}, ValueError, "number of seconds"),
        (lambda: Endpoint.hub, Confirm(order=1), {}, RuntimeError, "asks nothing"),
        (Hub, {"order": 1}, {}, TypeError, "needs a `type`"),
    ],
)
def test_what_can_be_no_call_is_refused_before_anybody_is_asked(
    hub: Callable[[], Hub], question: Any, options: Any, error: type[Exception], text: str
) -> None:
    async def main() -> None:
        with pytest.raises(error, match=text):
            await hub().to_user("u1").call(question, **options)

    run(main)


@pytest.mark.usefixtures("backplane")
def test_a_bug_of_a_validator_is_logged_where_the_client_is(caplog: pytest.LogCaptureFixture) -> None:
    """And the caller hears of an `internal_error`."""

    async def main() -> None:
        async with serving(Desk) as client:
            (ada,) = await people(client, "u1")
            asking = asyncio.create_task(Desk.hub.to_user("u1").call(Say()))
            await ada.send("reply", ref=(await ada.receive())["ref"], answer="bug")
            with pytest.raises(CallRefused, match="internal_error"):
                await asking

    run(main)
    assert "RuntimeError: a bug" in caplog.text


@pytest.mark.usefixtures("backplane")
def test_a_thread_hub_refuses_to_stop_the_event_loop_that_answers() -> None:
    """Where one is running; the error says what to do instead."""

    async def main() -> None:
        with SyncHub() as hub:
            for method in (hub.to_user("u1").call, hub.to_user("u1").call_all):
                with pytest.raises(RuntimeError, match="await the same of a Hub"):
                    method(Confirm(order=1))

    run(main)


@pytest.mark.usefixtures("backplane")
def test_many_connections_are_announced_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is in the list once."""
    monkeypatch.setattr(calling, "IDS_AT_ONCE", 2)

    async def main() -> None:
        async with serving(Desk) as client:
            clients = await people(client, *["u1"] * 5)
            asking = asyncio.create_task(ask("elsewhere", "u1", Confirm(order=7), method="call_all"))
            for each in clients:
                await each.receive()
                await each.send("reply", ref="s:1", answer=True)
            assert [answer for _, answer in await asking] == [True] * 5

    run(main)


def test_an_answer_that_no_engine_carries_is_a_refusal(between_processes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it until the time is over."""
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", between_processes)
    monkeypatch.setattr(engine, "MAX_PAYLOAD_BYTES", 10_000)

    async def main() -> None:
        async with serving(Desk) as client:
            (ada,) = await people(client, "u1")
            asking = asyncio.create_task(ask("elsewhere", "u1", Say()))
            await ada.send("reply", ref=(await ada.receive())["ref"], answer="x" * 20_000)
            with pytest.raises(CallRefused, match="too_large"):
                await asking

    run(main)


# ---- when others do not answer


@pytest.mark.parametrize("on_unavailable", ["raise", "count"])
def test_without_its_engine_nobody_or_the_own_process_is_asked(
    between_processes: str, on_unavailable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub has it: it refuses before it asks, or counts that nobody else was asked."""
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", between_processes)

    async def main() -> None:
        async with serving(Desk) as client, Hub(on_unavailable=on_unavailable) as hub:
            (ada,) = await people(client, "u1")
            async with cut_off(rooms_for(between_processes)):
                refused = hub.status.refused
                asking = asyncio.create_task(hub.to_user("u1").call(Confirm(order=7)))
                if on_unavailable == "raise":
                    with pytest.raises(BackplaneUnavailable):
                        await asking
                    await hears_nothing(ada)
                else:
                    await ada.receive()
                    await ada.send("reply", ref="s:1", answer=True)
                    assert await asking is True
                assert hub.status.refused == refused + 1

    run(main)


def test_an_engine_that_goes_away_ends_the_wait_for_others(between_processes: str) -> None:
    """No answer comes any more: that is said at once."""

    async def main() -> None:
        async with opened(between_processes) as (stranger, _), Hub(between_processes) as hub:
            await stranger.hold(PROCESSES, "silent", b"1")
            asking = asyncio.create_task(hub.to_user("u1").call(Confirm(order=7), timeout_s=LONG_S))
            rooms = rooms_for(between_processes)
            await until(lambda: rooms.acting._questions, "it is asked")
            async with cut_off(rooms):
                with pytest.raises(BackplaneUnavailable, match="away"):
                    await asking

    run(main)


def test_a_process_that_says_nothing_is_waited_for_no_longer_than_by_acts(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that was killed, or of an older release: the others' answers are what there is."""
    monkeypatch.setattr(acting, "ANSWER_S", 0.05)
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", url)

    async def main() -> None:
        async with opened(url, EVERYONE) as (stranger, _), Hub(url) as hub:
            await stranger.hold(PROCESSES, stranger.owner, b"1")
            assert await hub.to_user("u1").call_all(Confirm(order=7), timeout_s=LONG_S) == []
            assert caplog.text.count("have not answered") == 1

    with caplog.at_level(logging.WARNING, "socketsundso.rooms"):
        run(main)


def test_where_nobody_knows_who_there_is_those_who_speak_are_waited_for(nats_engine: Any) -> None:
    """A NATS without JetStream: after a moment nobody is there, unless somebody has said whom it asks."""
    url = f"{nats_engine.url}?prefix=blindcall"

    class Blind(Desk):
        backplane = url

    async def main() -> None:
        async with serving(Blind) as client:
            (ada,) = await people(client, "u1")
            polls: list[Any] = []

            def in_a_thread(user: str) -> list[Any]:
                with SyncHub(url) as hub:
                    rooms: Any = hub._hub._rooms  # it is open

                    async def unknown(topic: str) -> dict[str, bytes]:
                        raise BackplaneUnavailable("no JetStream")

                    rooms.backplane.held = unknown
                    polls.append(rooms.acting._questions)
                    return [answer for _, answer in hub.to_user(user).call_all(Confirm(order=7), timeout_s=LONG_S)]

            assert await asyncio.to_thread(in_a_thread, "nobody") == []
            asking = asyncio.create_task(asyncio.to_thread(in_a_thread, "u1"))
            await ada.receive()
            await until(lambda: [poll.unheard for poll in polls[-1].values()] == [set()], "the moment is over")
            await ada.send("reply", ref="s:1", answer=True)
            assert await asking == [True]

    run(main)
