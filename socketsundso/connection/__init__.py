"""
The life of one connection.

    application   an endpoint class as an ASGI application
    peer          what is known of the other side, and sending to it in order; the one owner of that state
    serial        the receive loop: one message at a time
    concurrent    the receive loop of endpoints that converse: streams, concurrent handlers, cancel
    binary        both of endpoints with a `@binary` method
    calls         what the server has asked, and who waits for the answers
    requests      what is under way on one connection, and whose turn it is
    streams       items of a handler, one by one
    uploads       items for a handler, one by one
    ahead         what is read while a handler runs, on servers that do not tell when a peer leaves
    stepping      coroutines taken step by step in the task that awaits them
    leaving       a peer that leaves before messages are taken
    tasks         those that belong to a connection, and end with it
    current       which message is being answered
    lines         which connection, message and user a log line is about
    kept          what lives as long as the connection: dependencies with scope="connection"
    handshake     what dependencies take of the handshake, solved by FastAPI
    origins       which pages may connect
    deadlines     what closes a connection by the clock
    batches       several requests in one frame
    text_pings    texts that are answered as they are
    limits        how many messages of one connection are let pass
    refusal       what a peer is told whose connection did not come about
    outbound      what is on its way to a peer: written at once, or in its turn
    queue         what waits for a slow reader: in order, bounded, with a policy; control frames are never dropped
"""

from socketsundso.connection import refusal as refusal
from socketsundso.connection.application import ASGIClass as ASGIClass
from socketsundso.connection.batches import declared_batches as declared_batches
from socketsundso.connection.calls import Calls as Calls
from socketsundso.connection.calls import ObservedCalls as ObservedCalls
from socketsundso.connection.calls import require_timeout as require_timeout
from socketsundso.connection.concurrent import Concurrent as Concurrent
from socketsundso.connection.current import NOTHING as NOTHING
from socketsundso.connection.current import Answered as Answered
from socketsundso.connection.current import Current as Current
from socketsundso.connection.current import RequestingPeer as RequestingPeer
from socketsundso.connection.current import answering as answering
from socketsundso.connection.current import current as current
from socketsundso.connection.current import end_answer as end_answer
from socketsundso.connection.current import is_valid as is_valid
from socketsundso.connection.deadlines import Deadlines as Deadlines
from socketsundso.connection.deadlines import Expiry as Expiry
from socketsundso.connection.deadlines import check_seconds as check_seconds
from socketsundso.connection.deadlines import seconds_since_1970 as seconds_since_1970
from socketsundso.connection.handshake import check_handshake as check_handshake
from socketsundso.connection.handshake import handshake_of as handshake_of
from socketsundso.connection.kept import Kept as Kept
from socketsundso.connection.leaving import UnlessGone as UnlessGone
from socketsundso.connection.limits import Meter as Meter
from socketsundso.connection.limits import Named as Named
from socketsundso.connection.limits import RateLimit as RateLimit
from socketsundso.connection.limits import check_rate_limit as check_rate_limit
from socketsundso.connection.limits import refuse as refuse
from socketsundso.connection.lines import about as about
from socketsundso.connection.lines import name_of as name_of
from socketsundso.connection.loops import loop_for as loop_for
from socketsundso.connection.origins import OriginPattern as OriginPattern
from socketsundso.connection.origins import Origins as Origins
from socketsundso.connection.origins import declared_origins as declared_origins
from socketsundso.connection.outbound import SLOW_CLOSE_CODE as SLOW_CLOSE_CODE
from socketsundso.connection.outbound import Connection as Connection
from socketsundso.connection.outbound import take_turns as take_turns
from socketsundso.connection.peer import SENDABLE_CODES as SENDABLE_CODES
from socketsundso.connection.peer import DeflateMin as DeflateMin
from socketsundso.connection.peer import Departure as Departure
from socketsundso.connection.peer import Peer as Peer
from socketsundso.connection.peer import check_deflate_min as check_deflate_min
from socketsundso.connection.peer import check_subprotocols as check_subprotocols
from socketsundso.connection.peer import fitting_reason as fitting_reason
from socketsundso.connection.peer import new_id as new_id
from socketsundso.connection.queue import NEVER as NEVER
from socketsundso.connection.queue import POLICIES as POLICIES
from socketsundso.connection.queue import BinaryOutgoing as BinaryOutgoing
from socketsundso.connection.queue import Bounds as Bounds
from socketsundso.connection.queue import Conflate as Conflate
from socketsundso.connection.queue import Counters as Counters
from socketsundso.connection.queue import Notice as Notice
from socketsundso.connection.queue import OutboundQueue as OutboundQueue
from socketsundso.connection.queue import Outgoing as Outgoing
from socketsundso.connection.queue import SlowPolicy as SlowPolicy
from socketsundso.connection.queue import gap_notice as gap_notice
from socketsundso.connection.serial import Serial as Serial
from socketsundso.connection.tasks import Tasks as Tasks
from socketsundso.connection.text_pings import declared_pings as declared_pings
