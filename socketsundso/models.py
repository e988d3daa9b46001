"""
`EventMessage`, the pydantic base for messages that users declare whole.

A message is one flat JSON object with a `type`:

    {"type": "message", "room": "lobby", "msg": "hi"}
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class EventMessage(BaseModel):
    """
    A message with its `type`; a base class for incoming and outgoing ones.

    A handler whose only parameter is annotated with a subclass receives the whole message as that model.
    Unknown keys are kept, as in 0.0.x; a subclass may forbid them with `ConfigDict(extra="forbid")`.
    """

    model_config = ConfigDict(extra="allow", use_enum_values=True)

    type: str
