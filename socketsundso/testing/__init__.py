"""
Tests of endpoints, in process: `connect` is a client without a server, `broadcasts` sees what goes to rooms.

    async with connect(Chat, user="ada") as ws:
        posted = await ws.ask("say", msg="hi", returns=Posted)

    plugin        fixtures of pytest: `ws_connect`, `ws_broadcasts`, `ws_backplane`
    connecting    `connect`, for `async with` and `with`
    connection    what a client does, and what it expects
    synchronous   the same without `await`
    broadcasts    what is sent to many
    peer          the other side of ASGI
    frames        the envelope of what is sent and comes
    mailbox       what has come, and who waits for it
    kinds         what a test names messages by
"""

from socketsundso.testing.broadcasts import Broadcast as Broadcast
from socketsundso.testing.broadcasts import Broadcasts as Broadcasts
from socketsundso.testing.broadcasts import broadcasts as broadcasts
from socketsundso.testing.connecting import Connecting as Connecting
from socketsundso.testing.connecting import connect as connect
from socketsundso.testing.connection import Connection as Connection
from socketsundso.testing.connection import Declined as Declined
from socketsundso.testing.connection import ErrorReply as ErrorReply
from socketsundso.testing.peer import Close as Close
from socketsundso.testing.peer import HandshakeRefused as HandshakeRefused
from socketsundso.testing.synchronous import SyncConnection as SyncConnection
