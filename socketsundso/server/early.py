"""
What uvicorn's HTTP protocols know of the upgrade request and do not hand over: its HTTP version, and bytes that came in
one segment with it.

RFC 6455 4.1 lets a client send frames only after the server's answer, but some do not wait, and uvicorn's
HTTP protocols drop what follows the request. Both keep it within reach while they hand over: this module
finds it, by the names of attributes and without importing either parser.
"""

from __future__ import annotations

import asyncio
import sys


def http_version(transport: asyncio.Transport) -> str:
    """The version of the request that is being handed over: uvicorn writes 1.1 into all of them."""
    scope = getattr(transport.get_protocol(), "scope", None)
    return str(scope["http_version"]) if scope else "1.1"


def bytes_behind_request(transport: asyncio.Transport) -> bytes:
    """What followed the request that uvicorn's HTTP protocol is handing over in the present call."""
    return _h11_rest(transport) or _httptools_rest()


def _h11_rest(transport: asyncio.Transport) -> bytes:
    # h11.Connection.trailing_data is made for protocol switches: (data, whether the peer hung up)
    connection = getattr(transport.get_protocol(), "conn", None)
    rest = getattr(connection, "trailing_data", None)
    return bytes(rest[0]) if rest else b""


def _httptools_rest() -> bytes:
    # uvicorn hands over while it handles HttpParserUpgrade(offset), raised out of parser.feed_data(data)
    error = sys.exc_info()[1]
    if type(error).__name__ != "HttpParserUpgrade" or error is None or error.__traceback__ is None:
        return b""
    data = error.__traceback__.tb_frame.f_locals.get("data", b"")
    return bytes(data[error.args[0] :])
