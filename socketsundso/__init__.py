"""
socketsundso: typed WebSocket APIs. Handler signatures are the protocol.

    class Chat(Endpoint):
        @event
        async def on_message(self, room: str, msg: str) -> Posted: ...
"""

from socketsundso.backplanes import Keep as Keep
from socketsundso.connection import Conflate as Conflate
from socketsundso.endpoints import WebSocketHandlingEndpoint as WebSocketHandlingEndpoint
from socketsundso.errors import BackplaneUnavailable as BackplaneUnavailable
from socketsundso.errors import DefinitionError as DefinitionError
from socketsundso.errors import EventError as EventError
from socketsundso.handler import Handler as Handler
from socketsundso.handler import event as event
from socketsundso.hub import Hub as Hub
from socketsundso.hub import SyncHub as SyncHub
from socketsundso.models import EventMessage as EventMessage
from socketsundso.presence import Member as Member
from socketsundso.room import InvalidRoomName as InvalidRoomName

Endpoint = WebSocketHandlingEndpoint

__version__ = "0.1.0"
