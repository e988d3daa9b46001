"""
What users of a generated Python client meet beside their own messages: errors, and what rooms tell. A part of the file
that `python` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, TypeVar

_R = TypeVar("_R")
_P = TypeVar("_P")
_PushT = TypeVar("_PushT")


class _BinaryFrame(bytes):
    """What came in a binary frame, and is no message."""


class RequestError(Exception):
    """
    The server refused a request. `code` says why (`validation_error`, `forbidden`, ...), `errors` has pydantic's keys
    (`type`, `loc`, `msg`), `retry_after_s` is the time that a rate limit asks for.
    """

    code = ""
    _details: ClassVar[Any] = None  # the type of what an application's own error tells; its fields are attributes

    def __init__(
        self,
        code: str,
        errors: list[dict[str, Any]] | None = None,
        *,
        event: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.code, self.errors, self.event, self.retry_after_s = code, errors or [], event, retry_after_s
        super().__init__(code, self.errors)

    def __str__(self) -> str:
        told = [f"{'.'.join(map(str, each.get('loc') or ()))} {each.get('msg', '')}".strip() for each in self.errors]
        return f"{self.event or 'a message'}: {self.code}" + (f" ({'; '.join(told)})" if any(told) else "")


class InvalidMessage(Exception):
    """The server sent what its contract does not have: this client is too old, or one of them is wrong."""


class Disconnected(ConnectionError):
    """
    There is no connection. `code` and `reason` are those of its close, `status` is HTTP's where the handshake was
    refused. A request that was in flight may have been handled, or not: nobody knows.
    """

    def __init__(self, text: str, *, code: int | None = None, reason: str = "", status: int | None = None) -> None:
        self.code, self.reason, self.status = code, reason, status
        super().__init__(text)

    def again(self) -> Self:
        """For one more of those who have to be told: an exception is raised in one place."""
        copy = type(self)(str(self), code=self.code, reason=self.reason, status=self.status)
        copy.__cause__ = self.__cause__
        return copy


class Overrun(Exception):
    """
    More came than was taken: `dropped` messages are missing here. Of pushes the next ones follow, if they are asked
    for; a stream has ended.
    """

    def __init__(self, dropped: int) -> None:
        self.dropped = dropped
        super().__init__(f"{dropped} came faster than they were taken, and are lost")


class CallRefused(Exception):
    """Raise it where the server's calls are handled: it gets `code` and `message` in place of an answer."""

    def __init__(self, code: str, message: str = "") -> None:
        self.code, self.message = code, message
        super().__init__(code, message)


ClientState = Literal["connecting", "open", "waiting", "closed"]
"""Of a client: `waiting` is between two attempts to connect, `closed` is for good."""


@dataclass(frozen=True)
class ConnectionOpened:
    """
    A connection is open, and nothing else is sent yet. `resumed` tells of each room with history that was known before
    whether nothing of it is missing.
    """

    reconnected: bool
    resumed: Mapping[str, bool]


@dataclass(frozen=True)
class RoomPosition:
    """How far a room with history was read."""

    seq: int
    epoch: str


@dataclass
class _RoomState:
    """What is known of a room. No epoch: it keeps no history, or was not joined."""

    seq: int = 0
    epoch: str | None = None
    members: dict[str, Any] = field(default_factory=dict)

    @property
    def position(self) -> RoomPosition | None:
        return None if self.epoch is None else RoomPosition(self.seq, self.epoch)


@dataclass
class _RoomPositioned:
    """`{"type": "room_position", "room": "doc:1", "seq": 141, "epoch": "a"}`"""

    room: str
    seq: int
    epoch: str

    def _note(self, state: _RoomState) -> None:
        state.seq, state.epoch = self.seq, self.epoch


@dataclass
class PresenceState:
    """Who is in a room: the metas of its members by their ids. It replaces what was known."""

    room: str
    members: dict[str, Any]

    def _note(self, state: _RoomState) -> None:
        state.members = dict(self.members)


@dataclass
class PresenceDiff:
    """Who has come into a room, or has another meta now, and who has left it."""

    room: str
    joins: dict[str, Any]
    leaves: dict[str, Any]

    def _note(self, state: _RoomState) -> None:
        state.members = {id_: meta for id_, meta in state.members.items() if id_ not in self.leaves} | self.joins


@dataclass
class Gap:
    """
    Messages of a room are missing here: `dropped` of them, None where nobody knows how many, as where a room could not
    be resumed after a reconnect: what is shown of it has to be loaded anew. No room: of what was sent to this user.
    """

    room: str | None = None
    dropped: int | None = None

    def _note(self, state: _RoomState) -> None:
        """The position that comes with it says where the room goes on."""
