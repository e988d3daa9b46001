"""
How long and how large the head of an HTTP request may become before it is complete.

uvicorn's HTTP protocols wait for ever for the end of a head, and the one on httptools keeps as much of it as
the peer cares to send. `socketsundso run` serves with `H11Protocol` and `http_httptools.HttpToolsProtocol`,
which are uvicorn's with a watch on each head: of a connection's first from the moment it is open, of a later
one from its first byte. What exceeds the bounds is answered with 408 or 431 and hung up on. Bodies, responses
and the idle time between requests are uvicorn's matter.

They also read `Connection` and `Upgrade` as the lists that they are.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http import h11_impl

from socketsundso.server.handshake import MAX_REQUEST_BYTES, plain_response

HEAD_TIMEOUT_S = 20.0  # from the connection's beginning, or the first byte of a later request
LINGER_S = 2.0  # for the peer's hanging up after a refusal


class HeadWatch:
    """The head that one connection is receiving, if it is. Refuses it by itself when the time is over."""

    __slots__ = ("_bytes", "_protocol", "_timer", "_transport", "refused", "under_way")

    def __init__(self, protocol: Any, transport: asyncio.Transport) -> None:
        self._protocol = protocol  # either of uvicorn's
        self._transport = transport
        self._bytes = 0  # of the present head, without the segment in which a later request began
        self._timer: asyncio.TimerHandle | None = None
        self.under_way = False
        self.refused = False  # nothing that still comes matters

    def begin(self) -> None:
        """A head is under way; to say so again changes nothing."""
        if not self.under_way:
            self.under_way = True
            self._bytes = 0
            self._set_timer(HEAD_TIMEOUT_S, self._expired)

    def end(self) -> None:
        """The head is complete, or the connection gone."""
        self.under_way = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def add(self, size: int, *, bounded: bool) -> None:
        """`size` more bytes of the head have come; if it is `bounded`, it may be too large by now."""
        self._bytes += size
        if bounded and self._bytes > MAX_REQUEST_BYTES:
            self._refuse(plain_response(431, "Request header fields too large", self._default_headers))

    @property
    def _default_headers(self) -> list[tuple[bytes, bytes]]:
        headers: list[tuple[bytes, bytes]] = self._protocol.server_state.default_headers
        return headers

    def _expired(self) -> None:
        cycle = self._protocol.cycle
        if cycle is not None and not cycle.response_complete:
            # a pipelined request: reading may be paused until the response before it is complete
            self._set_timer(HEAD_TIMEOUT_S, self._expired)
        elif cycle is None and not self._bytes:  # not a word
            self._transport.close()
        else:
            self._refuse(plain_response(408, "The request took too long", self._default_headers))

    def _refuse(self, response: bytes) -> None:
        self.end()
        if self._transport.is_closing():
            return
        self.refused = True
        self._transport.write(response)
        # closing at once while the peer still sends makes TCP reset the connection, and the answer is lost
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._set_timer(LINGER_S, self._transport.abort)
        else:
            self._transport.close()

    def _set_timer(self, seconds: float, callback: Any) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, callback)


class Watched(asyncio.Protocol):
    """What both protocols share, in front of uvicorn's: the watch of a connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._watch = HeadWatch(self, transport)
        self._watch.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.end()
        super().connection_lost(exc)

    def _get_upgrade(self) -> bytes | None:
        """
        What uvicorn is to switch to, if the client asks for that.

        RFC 9110 7.6.1, 7.8: `Connection` and `Upgrade` are lists, over any number of lines; uvicorn reads the last line
        of each, and `Upgrade` as one name. RFC 6455 4.2.1: WebSocket if it is among them, in whatever case.
        """
        if b"upgrade" not in self._listed(b"connection"):
            return None
        protocols = self._listed(b"upgrade")
        return b"websocket" if b"websocket" in protocols else protocols[0] if protocols else None

    def _listed(self, name: bytes) -> list[bytes]:
        headers: list[tuple[bytes, bytes]] = self.headers  # type: ignore[attr-defined]  # uvicorn's
        tokens = (token.strip(b" \t") for header, value in headers if header == name for token in value.split(b","))
        return [token.lower() for token in tokens if token]


class H11Protocol(Watched, h11_impl.H11Protocol):
    """uvicorn's HTTP protocol on h11, which bounds the size of a head itself, with a bound on its time."""

    def data_received(self, data: bytes) -> None:
        if self._watch.refused:
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._watch.begin()
            self._watch.add(len(data), bounded=False)  # h11 does that
        else:
            self._watch.end()
