"""
What runs before messages are taken, `authenticate`, while the peer leaves: it may finish, but not take for ever.

Only our own server tells; elsewhere a peer that has left is found out by whoever sends to it.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from socketsundso.connection.peer import SHUTDOWN_CODE, Peer
from socketsundso.wire import Source, source_of


class UnlessGone:
    """
    `with UnlessGone(peer, grace_s):` is cancelled so many seconds after the peer has left, and raises
    `WebSocketDisconnect` then.
    """

    __slots__ = ("_departure", "_grace", "_grace_s", "_is_cut", "_peer", "_source", "_task")

    def __init__(self, peer: Peer, grace_s: float) -> None:
        self._peer, self._grace_s = peer, grace_s
        self._source: Source | None = None  # while it tells
        self._task: asyncio.Task[object] | None = None
        self._departure: Message | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._is_cut = False

    def __enter__(self) -> None:
        self._source = source_of(self._peer.websocket.scope, self._peer.receive)
        if self._source is not None:
            self._task = asyncio.current_task()
            self._source.watch(self)

    def peer_left(self, message: Message) -> None:
        self._peer.tell_departure()
        self._departure = message
        grace_s = 0 if message.get("code") == SHUTDOWN_CODE else self._grace_s
        self._grace = asyncio.get_running_loop().call_later(grace_s, self._cut)

    def _cut(self) -> None:
        assert self._task is not None
        self._is_cut = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        task, self._task = self._task, None
        if self._source is not None:
            self._source.watch(None)
        if self._grace is not None:
            self._grace.cancel()
        if self._is_cut and task is not None and not task.uncancel() and kind is asyncio.CancelledError:
            assert self._departure is not None
            raise WebSocketDisconnect(self._peer.note_departure(self._departure)) from None
