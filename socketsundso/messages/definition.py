"""What an endpoint makes of frames and of exceptions, compiled: all that its receive loop needs of its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketsundso.messages.decoder import Decoder
from socketsundso.messages.error_frames import ErrorPolicy
from socketsundso.messages.replies import ResponseOptions, encoder_for


class Definition:
    """
    One for each class, exchanged for a copy by an instance that gets handlers of its own.

    `decoder` changes when handlers are attached: connections that are open see that, too. `charge` is called with the
    endpoint for each message that no route is for; it raises what is answered instead.
    """

    __slots__ = ("charge", "decoder", "encode_nameless", "error_policy", "ref_key")

    def __init__(
        self, decoder: Decoder, error_policy: ErrorPolicy, charge: Callable[[Any], None] | None = None
    ) -> None:
        self.decoder, self.error_policy, self.charge = decoder, error_policy, charge
        self.ref_key = error_policy.ref_key
        # of an answer to a message that no handler is for
        self.encode_nameless = encoder_for("error", None, ResponseOptions(), self.ref_key).encode
