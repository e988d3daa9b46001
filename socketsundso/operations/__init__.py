"""
What `socketsundso run` has beside a protocol: how workers begin, end, and whom they let in.

uvicorn's server and its parent process, with what a server of long connections needs; serves any ASGI application over
any of uvicorn's protocols. One module per question:

    settings    what the command line says, as plain data
    admission   who is let in
    front       what stands before the application: probes, refusals
    draining    who is told 1012, and when, while a worker ends
    serving     one worker
    workers     the parent process of several
    sockets     paths of Unix sockets, and whose they are
    admin       the Unix socket at which is told what they do
    reporting   what one worker tells
    lines       between the parent and its workers, who tell it
"""

from socketsundso.operations.admin import PATH
from socketsundso.operations.admission import tells_memory
from socketsundso.operations.serving import STARTUP_FAILURE, Server
from socketsundso.operations.settings import DRAIN_S, Settings
from socketsundso.operations.sockets import Unusable, path_of, remove_abandoned, require_vacant
from socketsundso.operations.workers import ANSWER_S, Supervisor

__all__ = [
    "ANSWER_S", "DRAIN_S", "PATH", "STARTUP_FAILURE", "Server", "Settings", "Supervisor", "Unusable", "path_of",
    "remove_abandoned", "require_vacant", "tells_memory",
]  # fmt: skip
