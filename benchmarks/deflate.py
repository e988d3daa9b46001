"""
permessage-deflate (RFC 7692) as Chromium speaks it: what it offers, and every message compressed, however short.

Where the server answers `client_no_context_takeover` a message is compressed alone, else with the connection's context.
The messages are no copies of each other within a window, so that a context gains what it gains with real ones.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.load import PLAIN, Body, framed, message, payload_of

OFFER = "permessage-deflate; client_max_window_bits"
TAIL = b"\x00\x00\xff\xff"  # what both sides leave out at the end of a message
RSV1 = 0x40


@dataclass(frozen=True)
class Answer:
    """What the server made of the offer. With nothing of it messages go as they are."""

    deflate: bool = False
    server_keeps: bool = False
    client_keeps: bool = False
    client_window: int = 15
    server_window: int = 15

    @classmethod
    def of(cls, header: str) -> Answer:
        """Raises ConnectionError for what Chromium would refuse."""
        names = [part.strip() for part in header.split(";")]
        if names == [""]:
            return cls()
        parameters = {name.partition("=")[0].strip(): name.partition("=")[2].strip(' "') for name in names[1:]}
        known = {"server_no_context_takeover", "client_no_context_takeover"}
        known |= {"server_max_window_bits", "client_max_window_bits"}
        if names[0] != "permessage-deflate" or parameters.keys() - known:
            raise ConnectionError(f"the server answered the offer with {header}")
        return cls(
            True,
            "server_no_context_takeover" not in parameters,
            "client_no_context_takeover" not in parameters,
            int(parameters.get("client_max_window_bits", "15")),
            int(parameters.get("server_max_window_bits", "15")),
        )


def cycle(size: int, answer: Answer) -> list[Body]:
    """Messages of `size` bytes, together more than the window of whoever keeps one, texts made of words."""
    windows = [answer.client_window] * answer.client_keeps + [answer.server_window] * answer.server_keeps
    window = 1 << max(windows, default=12)
    rolls = random.Random(size)
    words = ["".join(rolls.choices("etaoinshrdlucmfw", k=rolls.randint(2, 9))) for _ in range(800)]
    bodies = []
    for _ in range(window // size + 2):
        text = ""
        room = size - len(PLAIN.encode({**message(), "msg": ""}))
        while len(text) < room:
            text += rolls.choice(words) + " "
        bodies.append({**message(), "msg": text[:room], "sender": rolls.randint(10, 99)})
    return bodies


class Packer:
    """The frames that one client sends, each message compressed."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._context = zlib.compressobj(wbits=-answer.client_window)

    def frame(self, payload: bytes) -> bytes:
        if not self._answer.client_keeps:
            self._context = zlib.compressobj(wbits=-self._answer.client_window)
        packed = self._context.compress(payload) + self._context.flush(zlib.Z_SYNC_FLUSH)
        return framed(packed.removesuffix(TAIL), 0x81 | RSV1)


def opening_frames(payloads: Sequence[bytes], answer: Answer) -> list[bytes]:
    """The first frames of a client, which give the server the context that all later ones rely on."""
    return [*map(Packer(answer).frame, payloads)]


def repeated_frames(payloads: Sequence[bytes], answer: Answer) -> list[bytes]:
    """
    The frames of a client that has said these payloads and says them again, and again.

    They refer to no more than one time of them, and so are right each time from the second one on.
    """
    packer = Packer(answer)
    for payload in payloads if answer.client_keeps else ():
        packer.frame(payload)
    return [*map(packer.frame, payloads)]


class Inflater:
    """The payloads of what one server sends on one connection; `cache` may be shared where messages stand alone."""

    def __init__(self, answer: Answer, cache: dict[bytes, bytes] | None = None) -> None:
        self._keeps, self._cache = answer.server_keeps, {} if cache is None else cache
        self._context = zlib.decompressobj(wbits=-15)

    def payload(self, frame: bytes) -> bytes:
        packed = payload_of(frame)
        if not frame[0] & RSV1:
            return packed
        if self._keeps:
            return self._context.decompress(packed + TAIL)
        if packed not in self._cache:
            self._cache[packed] = zlib.decompressobj(wbits=-15).decompress(packed + TAIL)
        return self._cache[packed]


def frames_of(data: bytes) -> Iterator[bytes]:
    """The whole text frames at the beginning of what a server sent, without its pings."""
    at = 0
    while at + 2 <= len(data):
        size, start = data[at + 1], at + 2
        if size >= 126:
            start = at + (4 if size == 126 else 10)
            size = int.from_bytes(data[at + 2 : start], "big")
        if start + size > len(data):
            return
        if data[at] & 15 == 1:
            yield bytes(data[at : start + size])
        at = start + size
