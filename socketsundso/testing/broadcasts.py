"""
What is sent to rooms, users and everyone, seen where it goes out: whether anybody is there or not.

    with broadcasts() as sent:
        await ws.ask("say", room="lobby", msg="hi")
    assert sent.take(Posted, room="lobby").msg == "hi"
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import msgspec

from socketsundso.rooms import EVERYONE, Rooms
from socketsundso.testing.kinds import Kind
from socketsundso.testing.mailbox import Message, Received
from socketsundso.wire import BinaryPayload

T = TypeVar("T")


@dataclass(frozen=True)
class Broadcast:
    """
    One message, and whom it is for, by names of rooms and of users, or `to_everyone`:
    `Broadcast({"type": "posted", "msg": "hi"}, rooms=("lobby",))`. Of a binary one its `bytes`.
    """

    message: Received
    rooms: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    to_everyone: bool = False
    excluded: frozenset[str] = frozenset()
    """Ids of connections that do not get it."""

    def is_for(self, room: str | None, user: str | None) -> bool:
        """Does it go to this room and this user? None: whichever."""
        return (room is None or room in self.rooms) and (user is None or user in self.users)


class Broadcasts(Sequence[Broadcast]):
    """In the order in which they went out. What an endpoint broadcasts, and what hubs send, of this process."""

    def __init__(self) -> None:
        self._seen: list[Broadcast] = []
        self._lock = threading.Lock()  # several event loops may be in use

    @overload
    def take(self, kind: type[T], /, *, room: str | None = None, user: str | None = None, **fields: Any) -> T: ...
    @overload
    def take(self, kind: str, /, *, room: str | None = None, user: str | None = None, **fields: Any) -> Message: ...
    def take(self, kind: Any, /, *, room: str | None = None, user: str | None = None, **fields: Any) -> Any:
        """
        The first of a `type`, of a class, or of `bytes`, to this room or user, and no longer among these.
        AssertionError, which shows what there is, if there is none: a broadcast is here when the call that made it has
        returned.
        """
        wanted: Kind[Any] = Kind(kind, fields)
        with self._lock:
            for broadcast in self._seen:
                if broadcast.is_for(room, user) and wanted.matches(broadcast.message):
                    self._seen.remove(broadcast)
                    return wanted.read(broadcast.message)
            seen = "\n  ".join(map(repr, self._seen)) or "nothing"
        to = "".join(f" to {what} {name!r}" for what, name in (("room", room), ("user", user)) if name is not None)
        raise AssertionError(f"no broadcast of {wanted}{to}; there is:\n  {seen}")

    def add(self, topics: Sequence[str], payloads: Sequence[bytes], excluded: frozenset[str]) -> None:
        """What has gone out, in the words of rooms: topics as of `room_topic`, payloads as JSON."""
        with self._lock:
            self._seen += [
                Broadcast(
                    bytes(payload) if type(payload) is BinaryPayload else msgspec.json.decode(payload),
                    tuple(topic[1:] for topic in topics if topic[0] == "r"),
                    tuple(topic[1:] for topic in topics if topic[0] == "u"),
                    EVERYONE in topics,
                    excluded,
                )
                for payload in payloads
            ]

    def __getitem__(self, index: Any) -> Any:
        return self._seen[index]

    def __len__(self) -> int:
        return len(self._seen)

    def __repr__(self) -> str:
        return f"Broadcasts({self._seen!r})"


@contextlib.contextmanager
def broadcasts() -> Generator[Broadcasts]:
    """See all that is sent to many within the block; it is delivered as ever."""
    seen = Broadcasts()
    one, many = Rooms.broadcast, Rooms.broadcast_many
    replaced: Any = Rooms  # its methods are put back below
    replaced.broadcast = _seen_by(seen, one, lambda payload: [payload])
    replaced.broadcast_many = _seen_by(seen, many, list)
    try:
        yield seen
    finally:
        replaced.broadcast, replaced.broadcast_many = one, many


def _seen_by(seen: Broadcasts, method: Callable[..., Any], payloads_of: Callable[[Any], list[bytes]]) -> Any:
    @functools.wraps(method)
    async def sent(rooms: Rooms, topics: list[str], payload: Any, excluded: Any = (), *more: Any, **named: Any) -> None:
        await method(rooms, topics, payload, excluded, *more, **named)
        seen.add(topics, payloads_of(payload), frozenset(excluded))

    return sent
