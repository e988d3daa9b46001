"""
The envelope of an endpoint class -> the wire of its channel, as plain data.

    Envelope(type="event", data="payload")   ->   Wire("event", "ref", "payload")
"""

from __future__ import annotations

from typing import Any

from socketsundso.contract.model import Wire
from socketsundso.errors import DefinitionError
from socketsundso.messages import ArrayEnvelope, Envelope, Framing


def wire_of(endpoint: Any) -> Wire:
    """Raises `DefinitionError` for an envelope that contracts have no words for."""
    envelope: Any = endpoint.envelope
    framing: Framing = endpoint._framing
    match envelope:
        case Envelope(data=None):
            return Wire(str(framing.type_place), str(framing.ref_place))
        case Envelope(data=str(data), extra=extra):
            return Wire(str(framing.type_place), str(framing.ref_place), data, is_open=extra == "ignore")
        case ArrayEnvelope(parts=parts):
            return Wire(parts=parts)
    raise DefinitionError(
        f"its envelope is {envelope!r}, which no contract can describe: there are documents, clients and a page for "
        "Envelope(...) and ArrayEnvelope(...) alone; include_in_schema = False in the class leaves it out"
    )
