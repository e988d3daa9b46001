"""
The load that does not batch: each connection that has its reply is answered before the next one is looked at.

Its loop is in C (`prompt.c`), so that it waits for the server, and not the server for it. What came back is checked
when the clock has stopped: byte by byte with what was right before, and where it differs by its content.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from benchmarks.deflate import OFFER, Answer, Inflater, cycle, frames_of, opening_frames, repeated_frames
from benchmarks.installed import compiled
from benchmarks.load import PLAIN, Body, Dialect, Opened, Passage, Shape, masked_frame, message, opened


@cache
def _library() -> Any:
    return ctypes.CDLL(str(compiled("prompt.c")))


class Exchange(NamedTuple):
    """What a client says, and all that answers it."""

    body: Body
    answers: list[Body]


class Script:
    """What connections say over and over, in frames as C takes them."""

    def __init__(self, frames: Sequence[bytes], in_flight: int) -> None:
        self.length, self.in_flight = len(frames), in_flight
        repeated = [frames[at % len(frames)] for at in range(len(frames) + in_flight)]
        self.data = b"".join(repeated)
        ends, end = (ctypes.c_size_t * len(repeated))(), 0
        for at, frame in enumerate(repeated):
            ends[at] = end = end + len(frame)
        self.ends = ends


class PromptLoad:
    """
    Open connections of this shape. `client` says what they are: "none" offers nothing, "browser" offers deflate as
    Chromium does and compresses every message, "plain" offers it and compresses none. With `fresh` nobody has said
    anything yet, and there is one message for each connection. Messages of `size` are answered with themselves; an
    `exchange` is said and answered instead of them.
    """

    def __init__(
        self,
        port: int,
        shape: Shape,
        size: int = 80,
        dialect: Dialect = PLAIN,
        *,
        client: str = "none",
        fresh: bool = False,
        exchange: Exchange | None = None,
    ) -> None:
        self.shape, self.dialect, self.client = shape, dialect, client
        self.received_bytes = self.sent_bytes = 0  # of the last run, frames with their heads
        self._opened: list[Opened] = []
        self._right: dict[int, bytes] = {}  # the payload of each answer, once it was found right
        try:
            self._open(port, size, fresh, exchange)
        except BaseException:
            self.close()
            raise

    def _open(self, port: int, size: int, fresh: bool, exchange: Exchange | None) -> None:
        offer = "" if self.client == "none" else OFFER
        for _ in range(self.shape.connections):
            self._opened.append(opened(port, self.dialect, offer))
            self._opened[-1].sock.settimeout(None)
        self.answer = answer = Answer.of(self._opened[0].extensions)
        shared: dict[bytes, bytes] = {}
        self._inflaters = [Inflater(answer, shared) for _ in self._opened]
        for inflater, each in zip(self._inflaters, self._opened, strict=True):
            for frame in each.greeted:
                inflater.payload(frame)
        self._positions = (ctypes.c_long * len(self._opened))()
        bodies = [message(size)] if self.client == "none" else cycle(size, answer)
        exchanges = [exchange] if exchange else [Exchange(body, [body]) for body in bodies]
        self._answers = [each for said in exchanges for each in (*self.dialect.acknowledgement, *said.answers)]
        self._frames_each = len(self._answers) // len(exchanges)
        payloads = [self.dialect.encode(each.body) for each in exchanges]
        compresses = self.client == "browser" and answer.deflate
        frames = repeated_frames(payloads, answer) if compresses else [*map(masked_frame, payloads)]
        self._script = Script(frames, self.shape.in_flight)
        if compresses and fresh:
            self._script = Script(opening_frames(payloads, answer), self.shape.in_flight)
        elif compresses and answer.client_keeps:
            opening = Script(opening_frames(payloads, answer), min(16, len(payloads)))
            for at in range(len(self._opened)):
                self._run(opening, len(payloads), at, at + 1)

    def run(self, messages: int) -> Passage:
        """Send and receive `messages`, as fast as the server answers."""
        return self._run(self._script, messages, 0, len(self._opened))

    def _run(self, script: Script, messages: int, first: int, end: int) -> Passage:
        count = end - first
        fds = (ctypes.c_int * count)(*(each.sock.fileno() for each in self._opened[first:end]))
        positions = (ctypes.c_long * count)(*self._positions[first:end])
        waits, sent = (ctypes.c_double * messages)(), ctypes.c_uint64()
        received, lengths = (ctypes.c_void_p * count)(), (ctypes.c_size_t * count)()
        run, long = _library().prompt_run, ctypes.c_long
        start, cpu = time.perf_counter(), time.process_time()
        failed = run(
            long(count), fds, script.data, script.ends, long(script.length), positions, long(messages),
            long(script.in_flight), long(self._frames_each), waits, received, lengths, ctypes.byref(sent),
        )  # fmt: skip
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        data = [ctypes.string_at(at, length) if at else b"" for at, length in zip(received, lengths, strict=True)]
        _library().prompt_release(long(count), received)
        if failed:
            raise ConnectionError(f"under load: {os.strerror(-failed)}")
        self.sent_bytes, self.received_bytes = sent.value, sum(lengths)
        for at, each in enumerate(data, first):
            self._check(each, at)
        self._positions[first:end] = list(positions)
        return Passage(wall, cpu, [(wait, 1) for wait in waits])

    def _check(self, data: bytes, connection: int) -> None:
        """The replies on one connection are those to its messages, in order."""
        answers, inflater, right = self._answers, self._inflaters[connection], self._right
        for at, frame in enumerate(frames_of(data), self._positions[connection] * self._frames_each):
            index, payload = at % len(answers), inflater.payload(frame)
            if payload != right.get(index):
                if self.dialect.decode(payload) != answers[index]:
                    raise AssertionError(f"the server answered {payload[:200]!r}")
                right[index] = payload

    def close(self) -> None:
        for each in self._opened:
            each.sock.close()
