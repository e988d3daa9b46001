"""
A WebSocket protocol for uvicorn on picows: `uvicorn app:app --ws socketsundso.server:WebSocketProtocol`.

It serves any ASGI application and knows nothing of this package's endpoints. What enters is the upgrade
request that uvicorn's HTTP protocols hand over as bytes, then the bytes of the connection; what leaves are
ASGI messages to the application and frames to the peer. One module per question:

    handshake   is this upgrade request valid (RFC 6455, section 4), and what is answered to it
    rejection   the HTTP response of an application that does not accept (`websocket.http.response`)
    parser      bytes -> frames: the only module that knows picows' private side
    messages    frames -> messages: fragments, UTF-8, sizes, reserved bits
    deflate     permessage-deflate (RFC 7692): what is agreed on, and what the peer has compressed
    packing     what is compressed for peers, once for all of them where it is for many
    frames      messages -> bytes
    extension   what the entries of `scope["extensions"]` are to those who copy and write them
    inbox       messages on their way to the application, bounded in bytes
    outbox      frames on their way to the peer, in order, joined per turn of the event loop
    head        for `socketsundso run`: uvicorn's HTTP protocols with bounds on a request's head
    keepalive   pings and what follows when nobody answers
    protocol    the life of one connection, which ties the others together

Importing this package needs picows (`ImportError` on platforms that have none).
"""

from socketsundso.server.deflate import compressed_bytes as compressed_bytes
from socketsundso.server.deflate import count_inflated as count_inflated
from socketsundso.server.deflate import inflated_bytes as inflated_bytes
from socketsundso.server.inbox import Pull
from socketsundso.server.outbox import Push
from socketsundso.server.protocol import WebSocketProtocol

__all__ = ["Pull", "Push", "WebSocketProtocol"]
