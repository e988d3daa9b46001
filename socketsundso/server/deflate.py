"""
permessage-deflate (RFC 7692), on top of the implementation in `websockets`.

Settings are those of uvicorn's own protocols. The two zlib contexts, some 40 kB, are made when the first
compressed message needs them: a connection that negotiates and then idles costs nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from websockets.exceptions import InvalidHeaderFormat, NegotiationError, PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.headers import build_extension, parse_extension

from socketsundso.server.frames import FIN_BINARY, FIN_TEXT, RSV1, frame
from socketsundso.server.handshake import HandshakeRefused

Parameter = tuple[str, str | None]
_SERVER_WINDOW = "server_max_window_bits"

_FACTORY = ServerPerMessageDeflateFactory(
    server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
)


class DeflateError(Exception):
    """What the peer sent is no deflate stream."""


class TooBig(Exception):
    """The message would be larger than allowed."""


class Deflate:
    """The agreed parameters of one connection and, once used, its contexts."""

    __slots__ = ("_contexts", "_empty", "_parameters", "response")

    def __init__(self, agreed: PerMessageDeflate, response: str) -> None:
        self.response = response  # the value of the response's Sec-WebSocket-Extensions
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

    def decompress(self, opcode: int, payload: bytes, *, fin: bool, rsv1: bool, max_bytes: int) -> bytes:
        """The data in one frame of a compressed message; raises `DeflateError` or `TooBig`."""
        contexts = self._used()
        self._empty = (rsv1 or self._empty) and not payload
        if fin and self._empty:
            # RFC 7692 7.2.3.6: even an empty message is one octet; zlib would take the end of this for a beginning
            raise DeflateError
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
        return bytes(decoded.data)

    def _restart_after_final_block(self, contexts: PerMessageDeflate) -> None:
        # RFC 7692 7.2.3.4: a message may end with a block that has BFINAL set. zlib takes it for the end of
        # the stream and would silently ignore every later message.
        decoder = getattr(contexts, "decoder", None)  # deleted after a message without context takeover
        if decoder is None or not decoder.eof:
            return
        if decoder.unused_data.strip(b"\x00\xff"):
            raise DeflateError
        contexts.decoder = zlib.decompressobj(wbits=-contexts.remote_max_window_bits)

    def frame(self, payload: bytes, *, text: bool) -> bytes:
        """The compressed frame of a message."""
        opcode = Opcode.TEXT if text else Opcode.BINARY
        encoded = self._used().encode(Frame(opcode, payload))
        return frame((FIN_TEXT if text else FIN_BINARY) | RSV1, bytes(encoded.data))


def negotiate(offers: list[bytes]) -> Deflate | None:
    """The first offer that can be accepted, among the values of Sec-WebSocket-Extensions."""
    try:
        extensions = [offer for value in offers for offer in parse_extension(value.decode("latin-1"))]
    except InvalidHeaderFormat:
        raise HandshakeRefused(400, "Sec-WebSocket-Extensions cannot be parsed") from None
    for name, parameters in extensions:
        if name == PerMessageDeflate.name:
            try:
                accepted, agreed = _FACTORY.process_request_params(parameters, [])
            except (NegotiationError, ValueError):  # ValueError: zlib has no window of 8 bits; older `websockets` try
                continue
            return Deflate(agreed, build_extension([(name, _named(accepted, parameters))]))
    return None


def _named(accepted: Iterable[Parameter], offered: Iterable[Parameter]) -> list[Parameter]:
    """
    What of the agreement the answer names.

    RFC 7692 7.1.2.1 allows `server_max_window_bits` also where it was not offered, but there are clients that refuse
    what they did not offer. Ours may be small without a word: a peer's larger window reads it too.
    """
    wanted = {name for name, _ in offered}
    return [(name, value) for name, value in accepted if name != _SERVER_WINDOW or name in wanted]
