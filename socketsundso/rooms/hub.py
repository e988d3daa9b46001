"""
Rooms from anywhere: an HTTP route, a background task, a worker that serves no socket, a plain thread.

    async with Hub("redis://localhost") as hub:
        await hub.to("room:1").send(Posted(text="hi"))

    with SyncHub("redis://localhost") as hub:
        hub.to_user("user-42").send({"type": "invoice", "number": 7})

A `Hub` sends to the connections of all processes on the same backplane: the one that it names, else the one of the
environment's SOCKETSUNDSO_BACKPLANE. With `memory://` these are the ones of its own process, whichever event loop or
thread they belong to.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import CancelledError
from typing import Any, Literal, TypeVar, overload

import msgspec
from msgspec import UNSET
from pydantic_core import ValidationError

from socketsundso.backplanes import Keep, default_url, ended
from socketsundso.connection import SENDABLE_CODES, fitting_reason, require_timeout
from socketsundso.errors import BackplaneUnavailable, CallFailed, InvalidAnswer
from socketsundso.messages import BYTES, Asks, Expected, asked_by_anybody, encode_any, encode_push
from socketsundso.rooms.acting import Act, Close, Join, Leave, Whom
from socketsundso.rooms.calling import Ask, Poll, Said
from socketsundso.rooms.history import declaration, valid_count
from socketsundso.rooms.local import Rooms, known_rooms, rooms_for
from socketsundso.rooms.presence import Member
from socketsundso.rooms.room import EVERYONE, names_of, room_topic, user_topic, valid_name
from socketsundso.rooms.watchers import C, Callback, watch

MANY_PER_TIMEOUT = 1000
"""Messages of a `SyncHub`'s `send_many` that are given its time together."""

OnUnavailable = Literal["raise", "count"]
T = TypeVar("T")


class Status(str):
    """
    "connected", "reconnecting" or "closed", with counters of this process and event loop.

    `published` broadcasts, messages `delivered` to connections, messages `dropped` by the policies for slow
    readers, and broadcasts `refused` because the engine was away.
    """

    __slots__ = ("delivered", "dropped", "published", "refused")

    @classmethod
    def of(cls, rooms: Rooms | None) -> Status:
        status = cls("closed" if rooms is None else rooms.state)
        for counter in cls.__slots__:
            setattr(status, counter, 0 if rooms is None else getattr(rooms.counters, counter))
        return status

    published: int
    delivered: int
    dropped: int
    refused: int


class Target:
    """
    Whom a message, or an act, is for: connections in all processes. Immutable: `except_` returns another one.

    `close`, `leave` and `join` return when every process has done it, with the number of connections that it was done
    to. A process that does not answer within 5 s is not counted, which is logged. While the engine is away they are
    done in this process and raise `BackplaneUnavailable` then, unless the hub counts that instead.
    """

    __slots__ = ("_excluded", "_hub", "_topics")

    def __init__(self, hub: Hub, topics: Iterable[str], excluded: frozenset[str] = frozenset()) -> None:
        self._hub, self._topics, self._excluded = hub, tuple(dict.fromkeys(topics)), excluded

    def except_(self, *connections: Any) -> Target:
        """Leave these connections out: endpoints, or their ids."""
        return Target(self._hub, self._topics, self._excluded | ids_of(connections))

    async def send(self, message: Any, *, ttl_s: float | None = None) -> None:
        """
        Send a message of any kind that a handler may return, or bytes as a binary frame; each connection gets it once.

        A dict needs a `type`; other values have one of their own or take it from their class's name. Raises
        `BackplaneUnavailable` while the engine is away, unless the hub counts that instead.
        """
        await self._hub._send(list(self._topics), message, self._excluded, ttl_s)

    async def send_many(self, messages: Iterable[Any], *, ttl_s: float | None = None) -> None:
        """
        As `send` for each of them, in their order, and much cheaper: the engine is not waited for each time.

        None is sent where one of them cannot be encoded. Where the engine goes away `BackplaneUnavailable.taken` tells
        how many it has certainly taken, from the first on; behind them it may have had a few more (200 at most), and
        nothing else is sent. A hub that counts instead counts them all.
        """
        payloads = self._hub._encode_many(messages)
        await self._hub._send_many(list(self._topics), payloads, self._excluded, ttl_s)

    async def close(self, code: int = 1000, reason: str | None = None) -> int:
        """
        Close these connections, behind what was sent to them before: `hub.to_user("u1").close(4001, "signed out")`.

        Nobody waits for the peers; what they send from now on is not handled. Connections that are closed already do
        not count. Raises ValueError for a code that no close frame has (3000 to 4999 are yours); a reason is cut after
        123 bytes.
        """
        if type(code) is not int or code not in SENDABLE_CODES:
            raise ValueError(f"no connection can be closed with {code!r}; 3000 to 4999 are an application's own codes")
        return await self._hub._act(self, Close(code, fitting_reason(reason or "")))

    async def leave(self, *rooms: str | Iterable[str]) -> int:
        """
        Take these connections out of rooms: of those that are named, else, of everybody in a room, out of that room.

        `hub.to("lobby").leave()` empties it, `hub.to_user("u1").leave("lobby")` takes one user out. It ends as with
        their own `leave`: nothing is told to them. Who is in none of the rooms does not count.
        """
        names = [name for room in rooms for name in names_of(room)]
        if not rooms and any(topic[0] != "r" for topic in self._topics):
            raise ValueError('users, and everyone, leave rooms that are named: hub.to_user("u1").leave("lobby")')
        return await self._hub._act(self, Leave(names if rooms else [topic[1:] for topic in self._topics]))

    async def join(self, room: str | Iterable[str], *more: str | Iterable[str]) -> int:
        """
        Take these connections into rooms, as with their own `join`: each is told positions and presence, and hears
        what is broadcast from now on. They stay where they are, too.

        **Neither `authorize` nor `max_rooms` is asked**: who calls this decides. A connection that cannot be taken in
        does not count; its process logs why. Who is in all of the rooms already counts.
        """
        return await self._hub._act(self, Join([name for each in (room, *more) for name in names_of(each)]))

    @overload
    async def call(self, question: Any, *, returns: type[T], timeout_s: float = 30.0) -> T: ...
    @overload
    async def call(self, question: Any, *, timeout_s: float = 30.0) -> Any: ...
    async def call(self, question: Any, *, returns: Any = UNSET, timeout_s: float = 30.0) -> Any:
        """
        Ask all of these connections, and take the first valid answer; the others are told that nobody waits any more.

            yes = await Chat.hub.to_user("u1").call(Confirm(order=1), returns=bool, timeout_s=10)

        A connection is asked what its class lists in `calls`, and its answer is validated there; others are passed
        over. Who refuses, leaves or answers what is not valid is out of it, while somebody else may answer.

        Where nobody is left, raises what a client refused with, `CallRefused`, else `InvalidAnswer`; `CallTimeout`
        after `timeout_s` seconds; `CallRefused` with the code `gone` at once where nobody is there or all have left.
        Raises `BackplaneUnavailable`, before anybody is asked, while the engine is away; a hub that counts instead, as
        the one of a class does, asks those of this process.
        """
        expected, poll = await self._hub._call(self, question, returns, timeout_s, first=True)
        if poll.answers:
            return _value(expected, poll.answers[0])
        raise poll.failure()

    @overload
    async def call_all(
        self, question: Any, *, returns: type[T], timeout_s: float = 30.0
    ) -> list[tuple[str, T | CallFailed]]: ...
    @overload
    async def call_all(self, question: Any, *, timeout_s: float = 30.0) -> list[tuple[str, Any]]: ...
    async def call_all(self, question: Any, *, returns: Any = UNSET, timeout_s: float = 30.0) -> list[tuple[str, Any]]:
        """
        Ask all of these connections, and wait for all, `timeout_s` seconds at most: `[(id, answer), ...]`, with the
        exception that `call` would raise in place of an answer that a connection has not given.

        Nobody there: an empty list. Raises as `call` what concerns no single connection.
        """
        expected, poll = await self._hub._call(self, question, returns, timeout_s, first=False)
        return [(said.connection, _outcome(expected, said)) for said in poll.said]


def _value(expected: Expected, said: Said) -> Any:
    assert said.answer is not None
    try:
        return expected.value(said.answer)
    except ValidationError as exc:  # what is expected here is something else
        raise InvalidAnswer(exc) from None


def _outcome(expected: Expected, said: Said) -> Any:
    if said.answer is None:
        return said.failure
    try:
        return _value(expected, said)
    except InvalidAnswer as exc:
        return exc


def ids_of(connections: Iterable[Any]) -> frozenset[str]:
    return frozenset(each if isinstance(each, str) else each.id for each in connections)


class Hub:
    """
    Broadcasts and presence without a connection of one's own. Opens at its first use, or with `async with`.

    Without a `url` the environment's SOCKETSUNDSO_BACKPLANE names the backplane, as for endpoints, else it is memory.

    `on_unavailable` decides what a send does while the engine is away: "raise" `BackplaneUnavailable`, or
    "count" it in `status.refused`. `history` declares rooms as an endpoint does; a hub that was not told
    asks the engine.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        history: Mapping[str, Keep] | None = None,
        on_unavailable: OnUnavailable = "raise",
        encode: Callable[[Any], bytes] = encode_any,
        asks: Asks | None = None,
    ) -> None:
        self._url = url
        self._history = declaration("Hub", history or {})
        self._on_unavailable = on_unavailable
        self._encode = encode
        self._asks = asks or functools.partial(asked_by_anybody, encode=encode_push)
        self._used: dict[asyncio.AbstractEventLoop, Rooms] = {}  # of each event loop that uses the hub; the latest last
        self._released = False  # closed, and not used again since
        self._callbacks: dict[Callback, None] = {}  # of `on_status`
        self.presence = Presence(self)

    async def __aenter__(self) -> Hub:
        await self._opened()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """
        Let go of the backplane in this event loop; its connection ends unless endpoints of the loop are using it.
        """
        rooms, was_released = self._used.pop(asyncio.get_running_loop(), None), self._released
        self._released = True
        watched = rooms or known_rooms(self.url)
        if watched is not None and not was_released:
            for callback in self._callbacks:
                watched.watchers.call(callback, "closed")
            await watched.watchers.settle()
        if rooms is not None:
            await rooms.release(self)

    async def _opened(self) -> Rooms:
        rooms, loop = rooms_for(self.url), asyncio.get_running_loop()
        if self._used.get(loop) is not rooms or not rooms.agreed(self._history):
            was_released, self._released = self._released, False
            reopened = was_released and rooms.state != "closed"
            rooms.use(self)
            try:
                await rooms.agree(self._history)
            except BaseException:
                if self._used.get(loop) is not rooms:
                    self._released = was_released or not self._used
                    await rooms.release(self)
                raise
            for ended_loop in [each for each in tuple(self._used) if each.is_closed()]:
                self._used.pop(ended_loop, None)
            self._used[loop] = rooms
            for callback in self._callbacks if reopened else ():
                rooms.watchers.call(callback, rooms.state)
        await rooms.open()
        return rooms

    @property
    def url(self) -> str:
        """The backplane's: as given, else the environment's SOCKETSUNDSO_BACKPLANE, else memory; as endpoints do."""
        return self._url or default_url()

    @property
    def status(self) -> Status:
        in_use = None if self._released else known_rooms(self.url)
        return Status.of(self._rooms or in_use)

    def on_status(self, callback: C) -> C:
        """
        Have a callback, sync or async, called with "connected", "reconnecting" or "closed" whenever `status` changes.

        Also a decorator. Called in each event loop that uses the backplane, the first "connected" included; one call
        after the other, and what it raises is logged. It may be registered before anything is open, and belongs to
        this hub: it ends with it.
        """
        self._callbacks[callback] = None
        watch(self)
        return callback

    def callbacks(self) -> Iterable[Callback]:
        """Those of `on_status`, unless this hub is closed: what others do with the backplane is not its business."""
        return () if self._released else tuple(self._callbacks)

    @property
    def _rooms(self) -> Rooms | None:
        """Those of the running event loop, else those that were used last."""
        used = tuple(self._used.items())  # other threads may use the hub meanwhile
        with contextlib.suppress(RuntimeError):
            if (own := self._used.get(asyncio.get_running_loop())) is not None:
                return own
        return used[-1][1] if used else None

    def to(self, *rooms: str | Iterable[str]) -> Target:
        """Everybody in any of the rooms."""
        return Target(self, [room_topic(name) for room in rooms for name in names_of(room)])

    def to_user(self, *users: str) -> Target:
        """Every connection that has identified itself as one of the users."""
        return Target(self, [user_topic(valid_name(user)) for user in users])

    @property
    def everyone(self) -> Target:
        """
        Every connection on this backplane, in rooms or not: of endpoints that declare something of rooms (`backplane`,
        `emits`, `history`, `presence_events`, `authorize`, `on_backplane`) from the accept on, of others from the first
        `join` or `identify` on.
        """
        return Target(self, [EVERYONE])

    async def members(self, room: str) -> list[Member]:
        """
        Everybody in a room, in all processes, in no order: `[Member(id, meta)]`, with the ids of connections, and what
        they are tracked with, None for who is not.

        A process that does not answer within 5 s is left out, which is logged. Raises `BackplaneUnavailable` while the
        engine is away, whatever `on_unavailable` says.
        """
        rooms = await self._opened()
        return await rooms.acting.members(valid_name(room))

    async def history(self, room: str, limit: int = 50) -> list[dict[str, Any]]:
        """
        The newest messages of a room with history, in order, each as its members got it:
        `[{"type":"said","msg":"hi","room":"lobby","seq":7}]`. Fewer than `limit` where fewer are kept.

        A look that changes nothing. `limit` is 0 to 10,000, else `InvalidCount` (a ValueError; answered with
        `validation_error` in a handler). Raises ValueError for a room that keeps no history, and
        `BackplaneUnavailable` while the engine is away, whatever `on_unavailable` says.
        """
        valid_name(room)
        valid_count("limit", limit)
        rooms = await self._opened()
        return [msgspec.json.decode(message) for message in await rooms.past(room, limit)]

    async def _send(self, topics: list[str], message: Any, excluded: frozenset[str], ttl_s: float | None) -> None:
        payload = self._encode(message)
        rooms = await self._opened()
        try:
            await rooms.broadcast(topics, payload, excluded, ttl_s, must_publish=self._on_unavailable == "raise")
        except BackplaneUnavailable:
            if self._on_unavailable == "raise":
                raise

    async def _call(
        self, target: Target, question: Any, returns: Any, timeout_s: float, first: bool
    ) -> tuple[Expected, Poll]:
        require_timeout(timeout_s)
        expected, body = self._asks(question, returns)
        rooms, must_publish = await self._opened(), self._on_unavailable == "raise"
        ask, whom = Ask(expected.question, body, timeout_s), Whom(target._topics, target._excluded)
        poll = await rooms.acting.call(ask, whom, first, must_publish)
        if must_publish and poll.was_cut_off and not (first and poll.answers):
            raise BackplaneUnavailable("the engine went away before all processes had answered")
        return expected, poll

    async def _act(self, target: Target, act: Act) -> int:
        rooms = await self._opened()
        whom = Whom(target._topics, target._excluded)
        return await rooms.acting.act(act, whom, must_publish=self._on_unavailable == "raise")

    def _encode_many(self, messages: Iterable[Any]) -> list[bytes]:
        if isinstance(messages, (str, *BYTES, Mapping)):
            raise TypeError(f"send_many takes a list of messages, not one {type(messages).__name__}; use send for one")
        return [self._encode(message) for message in messages]

    async def _send_many(
        self, topics: list[str], payloads: list[bytes], excluded: frozenset[str], ttl_s: float | None
    ) -> None:
        rooms, must_publish = await self._opened(), self._on_unavailable == "raise"
        try:
            await rooms.broadcast_many(topics, payloads, excluded, ttl_s, must_publish=must_publish)
        except BackplaneUnavailable:
            if must_publish:
                raise


class Presence:
    """Who is in a room, in all processes."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def list(self, room: str) -> list[Member]:
        """
        `[Member(id, meta)]` of everybody tracked in the room. Raises `BackplaneUnavailable` while it is
        away.
        """
        rooms = await self._hub._opened()
        return await rooms.members(valid_name(room))

    async def count(self, room: str) -> int:
        """How many members `list` would give, without their metas. Raises `BackplaneUnavailable`, too."""
        rooms = await self._hub._opened()
        return await rooms.count(valid_name(room))


class SyncTarget:
    """`Target` for code that does not wait with `await`."""

    __slots__ = ("_hub", "_target")

    def __init__(self, hub: SyncHub, target: Target) -> None:
        self._hub, self._target = hub, target

    def except_(self, *connections: Any) -> SyncTarget:
        return SyncTarget(self._hub, self._target.except_(*connections))

    def send(self, message: Any, *, ttl_s: float | None = None) -> None:
        """As `Target.send`, and returns when the engine has it. TimeoutError after `timeout_s`."""
        self._hub._run(self._target.send(message, ttl_s=ttl_s))

    def send_many(self, messages: Iterable[Any], *, ttl_s: float | None = None) -> None:
        """
        As `Target.send_many`, and returns when the engine has them. `timeout_s` is for each thousand of them: after it
        `BackplaneUnavailable` tells, too, how many were taken.
        """
        target, hub, taken = self._target, self._hub, 0
        payloads = target._hub._encode_many(messages)
        for start in range(0, len(payloads), MANY_PER_TIMEOUT):
            some = payloads[start : start + MANY_PER_TIMEOUT]
            try:
                hub._run(target._hub._send_many(list(target._topics), some, target._excluded, ttl_s))
            except BackplaneUnavailable as error:
                error.taken += taken
                raise
            except TimeoutError:
                raise BackplaneUnavailable(f"not taken within {hub._timeout_s:g} s", taken=taken) from None
            taken += len(some)

    def close(self, code: int = 1000, reason: str | None = None) -> int:
        """
        As `Target.close`. TimeoutError after `timeout_s`, and RuntimeError where an event loop is running, as of the
        two others: it could not answer.
        """
        return self._hub._ask(self._target.close(code, reason))

    def leave(self, *rooms: str | Iterable[str]) -> int:
        return self._hub._ask(self._target.leave(*rooms))

    def join(self, room: str | Iterable[str], *more: str | Iterable[str]) -> int:
        return self._hub._ask(self._target.join(room, *more))

    @overload
    def call(self, question: Any, *, returns: type[T], timeout_s: float = 30.0) -> T: ...
    @overload
    def call(self, question: Any, *, timeout_s: float = 30.0) -> Any: ...
    def call(self, question: Any, *, returns: Any = UNSET, timeout_s: float = 30.0) -> Any:
        """As `Target.call`. RuntimeError where an event loop is running, which would have to answer."""
        return self._hub._ask(self._target.call(question, returns=returns, timeout_s=timeout_s), timeout_s)

    @overload
    def call_all(
        self, question: Any, *, returns: type[T], timeout_s: float = 30.0
    ) -> list[tuple[str, T | CallFailed]]: ...
    @overload
    def call_all(self, question: Any, *, timeout_s: float = 30.0) -> list[tuple[str, Any]]: ...
    def call_all(self, question: Any, *, returns: Any = UNSET, timeout_s: float = 30.0) -> list[tuple[str, Any]]:
        return self._hub._ask(self._target.call_all(question, returns=returns, timeout_s=timeout_s), timeout_s)


class SyncPresence:
    def __init__(self, hub: SyncHub, presence: Presence) -> None:
        self._hub, self._presence = hub, presence

    def list(self, room: str) -> list[Member]:
        return self._hub._run(self._presence.list(room))

    def count(self, room: str) -> int:
        return self._hub._run(self._presence.count(room))


class SyncHub:
    """
    A `Hub` for plain threads, Celery tasks and scripts: the same calls, without `await`, from any thread.

    It runs an event loop in a thread of its own, from the first use to `close` or the end of `with`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        history: Mapping[str, Keep] | None = None,
        on_unavailable: OnUnavailable = "raise",
        timeout_s: float = 10.0,
    ) -> None:
        self._hub = Hub(url, history=history, on_unavailable=on_unavailable)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self.presence = SyncPresence(self, self._hub.presence)

    def __enter__(self) -> SyncHub:
        self._run(self._open())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def _open(self) -> None:
        await self._hub._opened()

    def close(self) -> None:
        """Let go of the engine, and end the thread. It begins anew where the hub is used again."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None and self._pid == os.getpid():
            asyncio.run_coroutine_threadsafe(self._end(), loop).result(self._timeout_s)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _end(self) -> None:
        """Close, and let go of threads whose calls are under way."""
        await self._hub.aclose()
        await ended(*asyncio.all_tasks() - {asyncio.current_task()})

    @property
    def status(self) -> Status:
        return self._hub.status

    def on_status(self, callback: C) -> C:
        """As `Hub.on_status`; called in this hub's own thread, so that a call of the hub from there would never end."""
        return self._hub.on_status(callback)

    def to(self, *rooms: str | Iterable[str]) -> SyncTarget:
        return SyncTarget(self, self._hub.to(*rooms))

    def to_user(self, *users: str) -> SyncTarget:
        return SyncTarget(self, self._hub.to_user(*users))

    @property
    def everyone(self) -> SyncTarget:
        return SyncTarget(self, self._hub.everyone)

    def members(self, room: str) -> list[Member]:
        """As `Hub.members`. TimeoutError after `timeout_s`, RuntimeError where an event loop is running."""
        return self._ask(self._hub.members(room))

    def history(self, room: str, limit: int = 50) -> list[dict[str, Any]]:
        """As `Hub.history`. TimeoutError after `timeout_s`."""
        return self._run(self._hub.history(room, limit))

    def _ask(self, call: Coroutine[Any, Any, T], longer_s: float = 0) -> T:
        """For what all event loops of the process answer: none of them may be the one that waits."""
        if asyncio._get_running_loop() is not None:
            call.close()
            raise RuntimeError("a SyncHub would stop this event loop, which is asked, too; await the same of a Hub")
        return self._run(call, longer_s)

    def _run(self, call: Coroutine[Any, Any, T], longer_s: float = 0) -> T:
        """Wait for `timeout_s`, and for as long as the call itself waits."""
        with self._lock:  # not to be closed between the two
            running = asyncio.run_coroutine_threadsafe(call, self._running_loop())
        try:
            return running.result(self._timeout_s + longer_s)
        except CancelledError:
            raise RuntimeError("the hub was closed while it was called") from None
        finally:
            running.cancel()  # of no effect, unless the time is over

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """With the lock held."""
        if self._loop is None or self._pid != os.getpid():  # a thread does not survive a fork
            self._pid = os.getpid()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="socketsundso SyncHub", daemon=True)
            self._thread.start()
        return self._loop
