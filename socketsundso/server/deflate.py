"""
permessage-deflate (RFC 7692): every message by itself, or with the contexts of `websockets`.

By default no context is kept in either direction, so nothing of zlib belongs to a connection: one compressor for each
window size serves all connections of an event loop, and a message to many of them is compressed once. Decompressors are
never shared: a peer could refer to what another one has sent. For few clients on thin lines `Contexts` keeps a pair of
contexts for each connection, some 50 kB once a message has needed them.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import sys
import weakref
import zlib
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from websockets.exceptions import InvalidHeaderFormat, NegotiationError, PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.headers import build_extension, parse_extension

from socketsundso.environment import DEFLATE_CONTEXT_VARIABLE, DEFLATE_MIN_VARIABLE, is_deflate_min
from socketsundso.server.frames import FIN_BINARY, FIN_TEXT, RSV1, frame, payload_of
from socketsundso.server.handshake import HandshakeRefused
from socketsundso.server.packing import MEMORY_LEVEL, REPLY, TAIL, Packer, smaller_frame

MIN_BYTES = 1024  # from here on a reply is compressed: below, it costs more CPU than the bytes are worth
MIN_READY_BYTES = 256  # ... a ready frame, which is compressed once for all
NEVER = sys.maxsize

WINDOW_BITS = 12  # of clients where they let us choose; with contexts of both sides, where each costs memory
MAX_WINDOW_BITS = 15  # what either side may use where nothing was agreed

MAX_STREAMS = 16  # a frame may hold several streams that end with a block of BFINAL; each costs a copy of the rest

Parameter = tuple[str, str | None]
_SERVER_WINDOW, _CLIENT_WINDOW = "server_max_window_bits", "client_max_window_bits"
_NO_CONTEXTS: list[Parameter] = [("server_no_context_takeover", None), ("client_no_context_takeover", None)]
_BITS = re.compile("[89]|1[0-5]")  # RFC 7692 7.1.2: a decimal integer without leading zeros between 8 and 15

_FACTORY = ServerPerMessageDeflateFactory(
    server_max_window_bits=WINDOW_BITS,
    client_max_window_bits=WINDOW_BITS,
    compress_settings={"memLevel": MEMORY_LEVEL},
)

logger = logging.getLogger("socketsundso.server")


class DeflateError(Exception):
    """What the peer sent is no deflate stream."""


class TooBig(Exception):
    """The message would be larger than allowed."""


class Settings(NamedTuple):
    """What `--ws-deflate-min` and `--ws-deflate-context` say."""

    min_bytes: int | None = None  # None: MIN_BYTES and MIN_READY_BYTES, with contexts 0
    contexts: bool = False

    @property
    def thresholds(self) -> tuple[int, int]:
        """From how many bytes of payload on replies and ready frames are compressed."""
        if self.min_bytes is not None:
            return self.min_bytes, self.min_bytes
        return (0, 0) if self.contexts else (MIN_BYTES, MIN_READY_BYTES)


def settings() -> Settings:
    """Those of the environment, which is how they reach every worker."""
    return _settings(os.environ.get(DEFLATE_MIN_VARIABLE, ""), os.environ.get(DEFLATE_CONTEXT_VARIABLE, ""))


@functools.lru_cache
def _settings(minimum: str, context: str) -> Settings:
    if not is_deflate_min(minimum):
        logger.error("%s is %r, neither a number of bytes nor off: ignored", DEFLATE_MIN_VARIABLE, minimum)
        minimum = ""
    least = None if not minimum else NEVER if minimum == "off" else min(int(minimum), NEVER)
    return Settings(least, context.lower() in ("1", "true", "yes", "on"))


class Inflating(Protocol):
    """Takes the data frames of one compressed message after another."""

    def decompress(self, opcode: int, payload: bytes, *, fin: bool, rsv1: bool, max_bytes: int) -> bytes:
        """The data in one frame; raises `DeflateError`, or `TooBig` for more than `max_bytes`."""


class Agreed(Protocol):
    """What was negotiated with one peer."""

    @property
    def response(self) -> str:
        """The value of the response's Sec-WebSocket-Extensions."""

    @property
    def alone(self) -> bool:
        """Whether each message is compressed by itself."""

    def inflate(self, payload: bytes, max_bytes: int) -> bytes:
        """The data of a message that is one frame; raises `DeflateError`, or `TooBig`. Only if `alone`."""

    def inflating(self) -> Inflating:
        """What takes the frames of the next message."""

    def frame(self, payload: bytes, *, text: bool) -> bytes:
        """The frame of a message, compressed if that makes it smaller."""

    def ready(self, frame: bytes) -> bytes:
        """What this peer gets in place of a frame that is ready for every peer."""


class Packers:
    """The packers of one event loop."""

    def __init__(self) -> None:
        self._packers: dict[int, Packer] = {}
        self._agreed: dict[str, Deflate] = {}

    def of_bits(self, bits: int) -> Packer:
        if bits not in self._packers:
            self._packers[bits] = Packer(bits)
        return self._packers[bits]

    def all(self) -> list[Packer]:
        return list(self._packers.values())

    def agreement(self, server_bits: int | None, client_bits: int | None) -> Deflate:
        """The one of all connections that negotiate these windows; None: not named."""
        named = [(_SERVER_WINDOW, server_bits), (_CLIENT_WINDOW, client_bits)]
        parameters = [*_NO_CONTEXTS, *((name, str(bits)) for name, bits in named if bits is not None)]
        response = build_extension([(PerMessageDeflate.name, parameters)])
        if response not in self._agreed:
            packer = self.of_bits(server_bits or MAX_WINDOW_BITS)
            self._agreed[response] = Deflate(response, packer, client_bits or MAX_WINDOW_BITS)
        return self._agreed[response]


_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Packers] = weakref.WeakKeyDictionary()


def packers_of(loop: asyncio.AbstractEventLoop) -> Packers:
    """The ones of `loop`: zlib compresses without the interpreter's lock, another thread must not get in between."""
    packers = _of_loops.get(loop)
    if packers is None:
        packers = _of_loops[loop] = Packers()
    return packers


def compressed_bytes() -> tuple[int, int]:
    """Bytes of all messages that were compressed, before and after; of all event loops."""
    packers = [packer for of_loop in tuple(_of_loops.values()) for packer in of_loop.all()]
    before, after = sum(packer.taken_bytes for packer in packers), sum(packer.made_bytes for packer in packers)
    return before + _in_context.before, after + _in_context.after


class Passed:
    """Bytes of messages before and after."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.before = self.after = 0

    def note(self, before: int, after: int) -> None:
        self.before += before
        self.after += after


_inflated, _in_context = Passed(), Passed()


def inflated_bytes() -> tuple[int, int]:
    """Bytes of all messages that came compressed, as they came and as they are; `count_inflated` before that."""
    return _inflated.before, _inflated.after


def count_inflated(wanted: bool) -> None:
    """Whether whole messages are counted, of all connections of the process: who does not want to know pays nothing."""
    Deflate.inflate = _inflate_counted if wanted else _inflate  # type: ignore[method-assign]


class Deflate:
    """Each message by itself: nothing in here belongs to one connection."""

    __slots__ = ("_packer", "_wbits", "ready", "response")

    alone = True

    def __init__(self, response: str, packer: Packer, client_bits: int) -> None:
        self.response = response
        self.ready = packer.twins.__getitem__
        self._packer = packer
        self._wbits = -client_bits

    def inflate(self, payload: bytes, max_bytes: int) -> bytes:
        if not payload:
            raise DeflateError  # as in `Inflation`
        decoder = zlib.decompressobj(self._wbits)
        try:
            # one byte too many is enough to notice, and to zlib 0 means "no limit"
            data = decoder.decompress(payload + TAIL, max_bytes + 1 if max_bytes < NEVER else 0)
        except zlib.error as exc:
            raise DeflateError from exc
        if decoder.eof:
            data = Inflation(self._wbits, decoder).behind_final_blocks(data, max_bytes)
        if len(data) > max_bytes:
            raise TooBig
        return data

    def inflating(self) -> Inflation:
        return Inflation(self._wbits)

    def frame(self, payload: bytes, *, text: bool) -> bytes:
        return smaller_frame(FIN_TEXT if text else FIN_BINARY, payload, self._packer.pack(payload, REPLY))


_inflate = Deflate.inflate


def _inflate_counted(self: Deflate, payload: bytes, max_bytes: int) -> bytes:
    data = _inflate(self, payload, max_bytes)
    _inflated.before += len(payload)  # `note`, unfolded: for each message of a browser
    _inflated.after += len(data)
    return data


class Inflation:
    """One compressed message, frame by frame."""

    __slots__ = ("_decoder", "_empty", "_wbits")

    def __init__(self, wbits: int, decoder: zlib._Decompress | None = None) -> None:
        self._wbits = wbits
        self._decoder = decoder or zlib.decompressobj(wbits)
        self._empty = True  # whether no byte has come

    def decompress(self, opcode: int, payload: bytes, *, fin: bool, rsv1: bool, max_bytes: int) -> bytes:
        self._empty = self._empty and not payload
        if fin and self._empty:
            # RFC 7692 7.2.3.6: even an empty message is one octet; zlib would take the end of this for a beginning
            raise DeflateError
        try:
            data = self._decoder.decompress(
                payload + TAIL if fin else payload, max_bytes + 1 if max_bytes < NEVER else 0
            )
        except zlib.error as exc:
            raise DeflateError from exc
        if self._decoder.eof:
            data = self.behind_final_blocks(data, max_bytes)
        if len(data) > max_bytes:
            raise TooBig
        _inflated.note(len(payload), len(data))
        return data

    def behind_final_blocks(self, data: bytes, max_bytes: int) -> bytes:
        """
        `data` and what follows in the same frame.

        RFC 7692 7.2.1: a block may have BFINAL set, and the next one begins at the next byte. zlib takes it for the end
        of the stream, and would silently ignore what follows.
        """
        for _ in range(MAX_STREAMS):
            if not self._decoder.eof or len(data) > max_bytes:
                return data
            rest = self._decoder.unused_data
            self._decoder = zlib.decompressobj(self._wbits)
            try:
                data += self._decoder.decompress(rest, max_bytes - len(data) + 1 if max_bytes < NEVER else 0)
            except zlib.error as exc:
                raise DeflateError from exc
        raise DeflateError


class Contexts:
    """The agreed parameters of one connection and, once used, its contexts."""

    __slots__ = ("_contexts", "_empty", "_parameters", "response")

    alone = False

    def __init__(self, agreed: PerMessageDeflate, response: str) -> None:
        self.response = response
        self._parameters = (
            agreed.remote_no_context_takeover,
            agreed.local_no_context_takeover,
            agreed.remote_max_window_bits,
            agreed.local_max_window_bits,
            agreed.compress_settings,
        )
        self._contexts: PerMessageDeflate | None = None
        self._empty = False  # whether no byte of the message under way has come

    def _used(self) -> PerMessageDeflate:
        if self._contexts is None:
            self._contexts = PerMessageDeflate(*self._parameters)
        return self._contexts

    def inflate(self, payload: bytes, max_bytes: int) -> bytes:
        return self.decompress(Opcode.BINARY, payload, fin=True, rsv1=True, max_bytes=max_bytes)

    def inflating(self) -> Contexts:
        return self

    def decompress(self, opcode: int, payload: bytes, *, fin: bool, rsv1: bool, max_bytes: int) -> bytes:
        contexts = self._used()
        self._empty = (rsv1 or self._empty) and not payload
        if fin and self._empty:
            raise DeflateError  # as in `Inflation`
        try:
            # to zlib 0 means "no limit": one byte too many is enough for the caller to notice
            decoded = contexts.decode(Frame(Opcode(opcode), payload, fin, rsv1), max_size=max_bytes or 1)
        except PayloadTooBig:
            raise TooBig from None
        except ProtocolError as exc:
            raise DeflateError from exc
        if len(decoded.data) > max_bytes:
            raise TooBig
        self._restart_after_final_block(contexts)
        if rsv1 or opcode == Opcode.CONT:  # a plain message may come among compressed ones
            _inflated.note(len(payload), len(decoded.data))
        return bytes(decoded.data)

    def _restart_after_final_block(self, contexts: PerMessageDeflate) -> None:
        decoder = getattr(contexts, "decoder", None)  # deleted after a message without context takeover
        if decoder is None or not decoder.eof:
            return
        if decoder.unused_data.strip(b"\x00\xff"):
            raise DeflateError
        contexts.decoder = zlib.decompressobj(wbits=-contexts.remote_max_window_bits)

    def frame(self, payload: bytes, *, text: bool) -> bytes:
        opcode = Opcode.TEXT if text else Opcode.BINARY
        encoded = self._used().encode(Frame(opcode, payload))
        _in_context.note(len(payload), len(encoded.data))
        return frame((FIN_TEXT if text else FIN_BINARY) | RSV1, bytes(encoded.data))

    def ready(self, frame: bytes) -> bytes:
        payload = payload_of(frame)
        return frame if payload is None else self.frame(payload, text=frame[0] == FIN_TEXT)


def negotiate(offers: list[bytes], packers: Packers, *, contexts: bool = False) -> Agreed | None:
    """The first offer that can be accepted, among the values of Sec-WebSocket-Extensions."""
    try:
        extensions = [offer for value in offers for offer in parse_extension(value.decode("latin-1"))]
    except InvalidHeaderFormat:
        raise HandshakeRefused(400, "Sec-WebSocket-Extensions cannot be parsed") from None
    for name, parameters in extensions:
        if name == PerMessageDeflate.name:
            agreed = _with_contexts(list(parameters)) if contexts else _without(parameters, packers)
            if agreed is not None:
                return agreed
    return None


def _without(offered: Iterable[Parameter], packers: Packers) -> Deflate | None:
    """
    The agreement on what was offered, None if it cannot be accepted.

    Every client that was tried takes the two parameters unasked, and plain messages among compressed ones; the windows
    are named only to who did (RFC 7692 7.1.2: there are clients that refuse what they did not offer).
    """
    found: dict[str, str | None] = {}
    for name, value in offered:
        if name in found or not _valid(name, value):
            return None
        found[name] = value
    server_bits = int(found[_SERVER_WINDOW] or 0) if _SERVER_WINDOW in found else None
    if server_bits == 8:  # zlib has no such window
        return None
    client_bits = min(int(found[_CLIENT_WINDOW] or WINDOW_BITS), WINDOW_BITS) if _CLIENT_WINDOW in found else None
    # nor have clients: what offers 8 uses no more (7.1.2.2), and some refuse to hear it
    return packers.agreement(server_bits, None if client_bits == 8 else client_bits)


def _valid(name: str, value: str | None) -> bool:
    if name in (_SERVER_WINDOW, _CLIENT_WINDOW):
        return name == _CLIENT_WINDOW if value is None else _BITS.fullmatch(value) is not None
    return (name, value) in _NO_CONTEXTS


def _with_contexts(offered: list[Parameter]) -> Contexts | None:
    try:
        accepted, agreed = _FACTORY.process_request_params(offered, [])
    except (NegotiationError, ValueError):  # ValueError: zlib has no window of 8 bits; older `websockets` try
        return None
    wanted = {name for name, _ in offered}
    named = [
        (name, value)
        for name, value in accepted
        if (name != _SERVER_WINDOW or name in wanted) and (name, value) != (_CLIENT_WINDOW, "8")
    ]
    return Contexts(agreed, build_extension([(PerMessageDeflate.name, named)]))
