"""
Many connections: who is where, and who hears what.

    hub           rooms from anywhere: `Hub`, `SyncHub`
    membership    the rooms of one connection
    declaration   what an endpoint class declares of rooms
    local         who hears what in this event loop, and the bridge to the backplane
    calling       questions to others, in all processes, and their answers
    acting        closing others, moving them, and who is there, in all processes
    recovery      from an engine's log to live messages, without a hole
    roster        who is tracked in which room, in all processes
    watchers      who is told when the backplane goes away and comes back
    room          one room, who is in it, and what travels between processes
    history       numbers and positions of rooms that keep messages
    agreement     what all processes say of the history of the same rooms
    presence      what is told of who is there
"""

from socketsundso.rooms.declaration import Declaration as Declaration
from socketsundso.rooms.declaration import asks_nothing as asks_nothing
from socketsundso.rooms.history import Resume as Resume
from socketsundso.rooms.history import Resumed as Resumed
from socketsundso.rooms.hub import Hub as Hub
from socketsundso.rooms.hub import Presence as Presence
from socketsundso.rooms.hub import SyncHub as SyncHub
from socketsundso.rooms.local import Rooms as Rooms
from socketsundso.rooms.local import rooms_in_use as rooms_in_use
from socketsundso.rooms.membership import Membership as Membership
from socketsundso.rooms.presence import Member as Member
from socketsundso.rooms.room import EVERYONE as EVERYONE
from socketsundso.rooms.room import InvalidRoomName as InvalidRoomName
