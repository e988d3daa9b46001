"""
Many connections: who is where, and who hears what.

    hub           rooms from anywhere: `Hub`, `SyncHub`
    membership    what an endpoint can do with rooms
    local         who hears what in this event loop, and the bridge to the backplane
    recovery      from an engine's log to live messages, without a hole
    roster        who is tracked in which room, in all processes
    room          one room, who is in it, and what travels between processes
    history       numbers and positions of rooms that keep messages
    presence      what is told of who is there
"""

from socketsundso.rooms.hub import Hub as Hub
from socketsundso.rooms.hub import SyncHub as SyncHub
from socketsundso.rooms.membership import Membership as Membership
from socketsundso.rooms.presence import Member as Member
from socketsundso.rooms.room import InvalidRoomName as InvalidRoomName
