"""
A connection of `websockets` that hands over messages without a queue between. A part of the file that `python` writes.

Most messages are one text frame, neither masked nor compressed: those are cut out of what the network brings, and never
see websockets' parser, which would cost five times as much. Every other frame goes there as it is, and whole: pings,
closes, fragments, what is compressed. So messages keep their order, and a ping is answered however many messages wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.protocol import State

from socketsundso.contract.python.runtime.words import _BinaryFrame

_FRAMES_PER_TURN = 256
_LONGEST_HEAD = 1 << 16
_TEXT = 0x81  # a whole message in one frame, not compressed
_MASKED = 1 << 64  # which no server may do: websockets closes the connection, as for what is too large


class _Connection(ClientConnection):
    """Nothing is handed over before `start`. After at most 256 messages who waits for them gets a turn."""

    def __init__(self, *args: Any, max_size: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._max_size = max_size
        self._early: list[bytes] = []  # messages that came before `start`
        self._deliver: Callable[[list[bytes]], None] = self._early.extend
        self._rest = b""  # what came and is not handed over
        self._in_handshake = True
        self._passes_all = False  # websockets' parser alone reads: a handshake that was refused, a message too large
        self._is_paused = False
        self._fragments: list[bytes] = []
        self._is_binary = False  # they are

    def start(self, deliver: Callable[[list[bytes]], None]) -> None:
        deliver(self._early)
        self._deliver = deliver

    def data_received(self, data: bytes) -> None:
        if self._passes_all:
            super().data_received(data)
            return
        self._rest += data
        if self._in_handshake:
            self._read_handshake()
        if not self._is_paused:
            self._go_on()

    def eof_received(self) -> None:
        self._read_frames(len(self._rest))
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._read_frames(len(self._rest))
        super().connection_lost(exc)

    def process_event(self, event: Any) -> None:
        """A frame that went through websockets' parser."""
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            if event.opcode is not Opcode.CONT:
                self._is_binary = event.opcode is Opcode.BINARY
            self._fragments.append(bytes(event.data))
            if event.fin:
                message, self._fragments = b"".join(self._fragments), []
                self._deliver([_BinaryFrame(message) if self._is_binary else message])
        else:
            super().process_event(event)

    def _read_handshake(self) -> None:
        head, end, rest = self._rest.partition(b"\r\n\r\n")
        if end:
            self._in_handshake = False
            self._rest = b""
            super().data_received(head + end)
            self._passes_all = self.response is None or self.response.status_code != 101
            self._rest = rest
        if self._passes_all or (self._in_handshake and len(self._rest) > _LONGEST_HEAD):
            self._pass_all(0)

    def _pass_all(self, position: int) -> None:
        self._passes_all, rest, self._rest = True, self._rest[position:], b""
        super().data_received(rest)

    def _go_on(self) -> None:
        """Read what is here, but let others have their turn."""
        if self._read_frames(_FRAMES_PER_TURN):
            self._is_paused = True
            self.transport.pause_reading()
            self.loop.call_soon(self._go_on)
        elif self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()

    def _read_frames(self, limit: int) -> bool:
        """Whether there are more than the limit allows."""
        if self._in_handshake or self._passes_all:
            return False
        data, position, messages = self._rest, 0, list[bytes]()
        available, is_whole = len(data), not self._fragments
        for _ in range(limit):
            start = position + 2
            if available < start:
                break
            size = data[position + 1]
            if size > 125:
                start += 2 if size == 126 else 8
                if available < start:
                    break
                size = int.from_bytes(data[position + 2 : start]) if size < 128 else _MASKED
                if size > self._max_size:
                    self._deliver(messages)
                    self._pass_all(position)
                    return False
            end = start + size
            if available < end:
                break
            if is_whole and data[position] == _TEXT:
                messages.append(data[start:end])
            else:
                self._deliver(messages)
                messages = []
                super().data_received(data[position:end])
                if self.protocol.state is not State.OPEN:  # it was a close, or no frame that a server may send
                    self._pass_all(end)
                    return False
                is_whole = not self._fragments
            position = end
        else:
            self._rest = data[position:]
            self._deliver(messages)
            return True
        self._rest = data[position:]
        self._deliver(messages)
        return False
