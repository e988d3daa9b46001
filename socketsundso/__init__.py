"""
socketsundso: typed WebSocket APIs. Handler signatures are the protocol.

    class Chat(Endpoint):
        @event
        async def on_message(self, room: str, msg: str) -> Posted: ...
"""

from socketsundso.backplanes import Keep as Keep
from socketsundso.binary_handler import binary as binary
from socketsundso.connection import Conflate as Conflate
from socketsundso.connection import Current as Current
from socketsundso.connection import RateLimit as RateLimit
from socketsundso.endpoints import WebSocketHandlingEndpoint as WebSocketHandlingEndpoint
from socketsundso.errors import BackplaneUnavailable as BackplaneUnavailable
from socketsundso.errors import CallFailed as CallFailed
from socketsundso.errors import CallRefused as CallRefused
from socketsundso.errors import CallTimeout as CallTimeout
from socketsundso.errors import DefinitionError as DefinitionError
from socketsundso.errors import EventError as EventError
from socketsundso.errors import InvalidAnswer as InvalidAnswer
from socketsundso.errors import RateLimited as RateLimited
from socketsundso.guards import Call as Call
from socketsundso.guards import Handle as Handle
from socketsundso.guards import scopes as scopes
from socketsundso.handler import Handler as Handler
from socketsundso.handler import event as event
from socketsundso.messages import ArrayEnvelope as ArrayEnvelope
from socketsundso.messages import Depends as Depends
from socketsundso.messages import Envelope as Envelope
from socketsundso.messages import JsonRpc as JsonRpc
from socketsundso.models import EventMessage as EventMessage
from socketsundso.rooms import Hub as Hub
from socketsundso.rooms import InvalidRoomName as InvalidRoomName
from socketsundso.rooms import Member as Member
from socketsundso.rooms import SyncHub as SyncHub
from socketsundso.shared_limits import SharedRateLimit as SharedRateLimit

Endpoint = WebSocketHandlingEndpoint
"""`WebSocketHandlingEndpoint`, which is its name in 0.0.x."""

__version__ = "0.1.0"
