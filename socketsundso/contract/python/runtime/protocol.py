"""
What a generated Python client knows of the protocol: an endpoint as its contract has it, and the frames that all of
them have in common. A part of the file that `python` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

from socketsundso.contract.python.runtime.words import _R, RequestError


class _Event(Generic[_R]):
    """
    An event of the contract: the types of its answers by their `type`, a tuple where it may be several, and of its
    errors by their code.
    """

    def __init__(
        self,
        name: str,
        replies: Mapping[str, Any] | None = None,
        errors: Mapping[str, type[RequestError]] | None = None,
        *,
        acknowledged: bool = False,
        stream: bool = False,
        uploads: bool = False,
        cancellable: bool = False,
    ) -> None:
        self.name, self.replies, self.errors = name, replies or {}, errors or {}
        # a handler that returns a dict may give it any type, of which its annotation says nothing
        self.untyped = next(
            (
                kind
                for kind in self.replies.values()
                if kind is Any or (isinstance(kind, type) and issubclass(kind, dict))
            ),
            None,
        )
        self.acknowledged, self.stream, self.uploads = acknowledged, stream, uploads
        self.answered = bool(replies) or acknowledged or stream or uploads
        self.cancellable = cancellable or stream or uploads


@dataclass(frozen=True)
class _Channel:
    """
    What the contract says of an endpoint. `token` is where one goes, under which name, and what stands before it.

    Fields stand beside the keys of a message's type and ref, or, with a `data_key`, are the value of that; with `parts`
    it is an array of these. With `binary`, the server's binary frames are pushes, too, and never messages.
    """

    name: str
    error: type[RequestError]
    pushes: Mapping[str, Any] = field(default_factory=dict)
    calls: Mapping[str, Any] = field(default_factory=dict)
    history: bool = False
    subprotocols: tuple[str, ...] = ()
    token: tuple[str, str, str] = ("header", "Authorization", "Bearer ")
    type_key: str = "type"
    ref_key: str = "ref"
    data_key: str = ""
    parts: tuple[str, ...] = ()
    binary: bool = False
    errors: Mapping[str, type[RequestError]] = field(default_factory=dict)
    """Those of binary frames, which no `ref` tells apart."""

    def message(self, name: str, fields: Mapping[str, Any], ref: Any) -> Any:
        """A frame, as what its JSON is."""
        if self.parts:
            given = {"type": name, "ref": ref, "data": fields}
            return [given[part] for part in self.parts]
        if self.data_key:
            return {self.type_key: name, self.ref_key: ref, self.data_key: fields}
        return {self.type_key: name, **fields, self.ref_key: ref}


@dataclass
class _RoomResumed:
    recovered: bool
    seq: int | None = None
    epoch: str | None = None
    code: str | None = None


@dataclass
class _Resumed:
    """`{"type": "resumed", "rooms": {"doc:1": {"recovered": true, "seq": 145, "epoch": "a"}}}`"""

    rooms: dict[str, _RoomResumed]


@dataclass
class _Failed:
    """`{"type": "error", "code": "sold_out", "errors": [{"type": "sold_out", "ctx": {"left": 3}}]}`"""

    code: str = ""
    errors: list[dict[str, Any]] = field(default_factory=list)
    retry_after_s: float | None = None


@dataclass
class _More:
    """`{"type": "more", "items": 8}`"""

    items: int


_RESUME: _Event[_Resumed] = _Event("resume", {"resumed": _Resumed})
