"""
What uvicorn's HTTP protocols know of the upgrade request and do not hand over: its HTTP version, whether it is its
turn, and bytes that came in one segment with it.

RFC 6455 4.1 lets a client send frames only after the server's answer, but some do not wait, and uvicorn's
HTTP protocols drop what follows the request. Those on h11 and httptools keep it within reach while they hand over: this
module finds it, by the names of attributes and without importing either parser. From others the handshake is refused.
"""

from __future__ import annotations

import asyncio
import sys
from types import FrameType

from socketsundso.server.handshake import HandshakeRefused

_END = b"\r\n\r\n"  # of a request without a body


def http_version(transport: asyncio.Transport) -> str:
    """The version of the request that is being handed over: uvicorn writes 1.1 into all of them."""
    scope = getattr(transport.get_protocol(), "scope", None)
    return str(scope["http_version"]) if scope else "1.1"


def response_under_way(transport: asyncio.Transport) -> bool:
    """Whether a request in front of the one that is being handed over has not been answered yet."""
    cycle = getattr(transport.get_protocol(), "cycle", None)
    return cycle is not None and not cycle.response_complete


def bytes_behind_request(transport: asyncio.Transport) -> bytes:
    """
    What followed the request that an HTTP protocol is handing over in the present call.

    Raises `HandshakeRefused` if something did and is out of reach.
    """
    rest = _h11_rest(transport) or _httptools_rest()
    if not rest and _may_be_lost(transport):
        raise HandshakeRefused(400, "Frames came before the answer to the handshake")
    return rest


def _may_be_lost(transport: asyncio.Transport) -> bool:
    # Any other HTTP protocol, such as the one on zttp: what its last segment ends with tells whether it ends there.
    protocol = transport.get_protocol()
    if hasattr(getattr(protocol, "conn", None), "trailing_data") or _httptools_upgrade() is not None:
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "data_received" and frame.f_locals.get("self") is protocol:
            data = bytes(frame.f_locals.get("data", b""))
            return not (data.endswith(_END) or _END.endswith(data))
        frame = frame.f_back
    return False


def _h11_rest(transport: asyncio.Transport) -> bytes:
    # h11.Connection.trailing_data is made for protocol switches: (data, whether the peer hung up)
    connection = getattr(transport.get_protocol(), "conn", None)
    rest = getattr(connection, "trailing_data", None)
    return bytes(rest[0]) if rest else b""


def _httptools_rest() -> bytes:
    # uvicorn hands over while it handles HttpParserUpgrade(offset), raised out of parser.feed_data(data)
    error = _httptools_upgrade()
    if error is None or error.__traceback__ is None:
        return b""
    data = error.__traceback__.tb_frame.f_locals.get("data", b"")
    return bytes(data[error.args[0] :])


def _httptools_upgrade() -> BaseException | None:
    error = sys.exc_info()[1]
    return error if type(error).__name__ == "HttpParserUpgrade" else None
