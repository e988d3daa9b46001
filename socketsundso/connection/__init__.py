"""
The life of one connection.

    outbound      what is on its way to a peer: in order, bounded, with a policy for a slow reader
"""

from socketsundso.connection.outbound import NEVER as NEVER
from socketsundso.connection.outbound import POLICIES as POLICIES
from socketsundso.connection.outbound import SLOW_CLOSE_CODE as SLOW_CLOSE_CODE
from socketsundso.connection.outbound import Conflate as Conflate
from socketsundso.connection.outbound import Connection as Connection
from socketsundso.connection.outbound import Counters as Counters
from socketsundso.connection.outbound import OutboundQueue as OutboundQueue
from socketsundso.connection.outbound import Outgoing as Outgoing
from socketsundso.connection.outbound import SlowPolicy as SlowPolicy
from socketsundso.connection.outbound import gap_notice as gap_notice
from socketsundso.connection.outbound import take_turns as take_turns
