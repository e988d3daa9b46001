"""
Who is told of an endpoint's connections and messages: telemetry, which nothing in here knows.

    class Loud(Observer):
        def opened(self, endpoint): print(endpoint.id, "is here")

    Chat.add_observer(Loud())

An observer is told of the ends of a connection, which are rare. What happens with each message it cannot be told: it
puts itself around what is compiled (`compiled`), as `guards` does. So who has no observer has nothing in its way: its
routes are what they were, and no loop asks whether somebody listens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

from socketsundso.messages import Route

logger = logging.getLogger("socketsundso")


class Observer:
    """
    What can be heard of endpoints; override what is of interest. `endpoint` is the connection's own instance.

    Called within the connection's own task, or where classes are made: nothing may wait. What an observer raises is
    logged, and changes nothing.
    """

    def compiled(self, endpoint: type, route: Route) -> None:
        """An event of a class has been compiled, guards and middleware included; again whenever that is done anew."""

    def began(self, endpoint: Any) -> None:
        """A handshake has come."""

    def refused(self, endpoint: Any, reason: str) -> None:
        """It is refused, with the code of an error frame as the reason: `unauthorized` for 401."""

    def opened(self, endpoint: Any) -> None:
        """It is accepted, and messages are taken from now on."""

    def answers(self, endpoint: Any, exc: Exception) -> None:
        """A message is answered with this exception, most likely by an error frame."""

    def pushes(self, endpoint: Any, message: Any, size: int) -> None:
        """`endpoint.send` writes this message, or `send_bytes` these bytes, which answers nothing; of `size` bytes."""

    def asked(self, endpoint: Any, question: str, outcome: str, seconds: float) -> None:
        """
        A question to the client has its end: one of those of the class's `calls`, by its `type`; `seconds` after it.

        Its outcome is `answered`, `refused` by the client, `invalid` (what it said), `timeout`, `gone` (the client),
        `cancelled` (who asked does not wait any more) or `failed` (a validator's bug).
        """

    def ended(self, endpoint: Any, code: int, by_peer: bool) -> None:
        """The last that is heard of a connection, accepted or not; `by_peer`: the code may be anybody's invention."""


def tell(observers: Iterable[Observer], what: str, *about: Any) -> None:
    """Call this method of all of them."""
    for observer in observers:
        try:
            getattr(observer, what)(*about)
        except Exception:
            logger.exception("%s.%s failed", type(observer).__name__, what)


class Load(NamedTuple):
    """
    What runs and waits for one connection at the moment.

    `queued_messages` and `queued_bytes` are those of the queue for a slow reader, `unsent_bytes` those in the server's
    own buffers. `streams` and uploads that run, `calls` whose answer has not come. `waiting_bytes` are those of
    messages that wait for handlers, and of their queues. What only our own server knows is 0 on others.
    """

    queued_messages: int = 0
    queued_bytes: int = 0
    unsent_bytes: int = 0
    streams: int = 0
    calls: int = 0
    waiting_bytes: int = 0
