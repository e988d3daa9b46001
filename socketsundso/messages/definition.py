"""What an endpoint makes of frames and of exceptions, compiled: all that its receive loop needs of its class."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from socketsundso.messages.decoder import Decoder
from socketsundso.messages.dependencies import Overrides
from socketsundso.messages.error_frames import ErrorPolicy
from socketsundso.messages.packed_replies import packed_encoder
from socketsundso.messages.replies import ResponseOptions, encoder_for

_NONE: Overrides = MappingProxyType({})


class Definition:
    """
    One for each class, exchanged for a copy by an instance that gets handlers of its own.

    `decoder` changes when handlers are attached: connections that are open see that, too. `overrides` are what is
    called in place of dependencies. `charge` is called with the endpoint for each message that no route is for; it
    raises what is answered instead.
    """

    __slots__ = ("charge", "decoder", "encode_nameless", "error_policy", "framing", "overrides")

    def __init__(
        self,
        decoder: Decoder,
        error_policy: ErrorPolicy,
        *,
        overrides: Overrides = _NONE,
        charge: Callable[[Any], None] | None = None,
    ) -> None:
        self.decoder, self.error_policy = decoder, error_policy
        self.overrides, self.charge = overrides, charge
        self.framing = error_policy.framing
        # of an answer to a message that no handler is for
        nameless = encoder_for("error", None, ResponseOptions(), self.framing.unpacked)
        is_packed = self.framing.codec.is_binary
        self.encode_nameless = packed_encoder(nameless, self.framing).encode if is_packed else nameless.encode

    def copy(self, decoder: Decoder, overrides: Overrides = _NONE) -> Definition:
        """The same of other handlers."""
        return Definition(decoder, self.error_policy, overrides=overrides, charge=self.charge)
