"""
`JsonRpc`: the envelope of JSON-RPC 2.0, https://www.jsonrpc.org/specification.

    {"jsonrpc":"2.0","id":7,"method":"say","params":{"msg":"hi"}}          a request
    {"jsonrpc":"2.0","result":{"at":1},"id":7}                             its result
    {"jsonrpc":"2.0","error":{"code":-32602,"message":"Invalid params","data":{"code":"validation_error",...}},"id":7}
    {"jsonrpc":"2.0","method":"posted","params":{"msg":"hi"}}              a notification, from either side

What has no `id` is never answered. What the server sends about a request without being its answer (an item of its
stream, the credit of its upload) is a notification, too, whose `params` have the `id` as `ref`; so are a client's.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from socketsundso.errors import DefinitionError
from socketsundso.messages.canonical import taken_apart
from socketsundso.messages.codecs import Misshapen
from socketsundso.messages.framing import (
    Fields,
    Framing,
    NestedFraming,
    Outline,
    data_field,
    identifier,
)
from socketsundso.messages.refs import BAD_REF, INT64, MAX_REF_LENGTH, UNREADABLE, Ref

_PARSE_ERROR, _INVALID_REQUEST = -32700, -32600
_CODES = {
    "parse_error": (_PARSE_ERROR, "Parse error"),
    "malformed_message": (_INVALID_REQUEST, "Invalid Request"),
    "unknown_event": (-32601, "Method not found"),
    "validation_error": (-32602, "Invalid params"),
    "internal_error": (-32603, "Internal error"),
    "response_error": (-32603, "Internal error"),
}
_SERVER_ERROR = (-32000, "Server error")  # of all others, the application's and those that the specification lacks
_OWN_CODE = re.compile(r"-?\d{1,9}")

_ID = Annotated[int, Meta(ge=INT64[0], le=INT64[-1])] | Annotated[str, Meta(max_length=MAX_REF_LENGTH)]
_VERSION = ("jsonrpc", Literal["2.0"])
_HEAD = b'{"jsonrpc":"2.0",'

_FOLLOWING = frozenset({b'"more"', b'"cancel"'})
"""Canonical messages about a request that do not answer it."""


@dataclass(frozen=True)
class JsonRpc:
    """
    JSON-RPC 2.0: `envelope = JsonRpc()` in the class of an endpoint.

        {"jsonrpc":"2.0","id":7,"method":"say","params":{"msg":"hi"}}   ->   {"jsonrpc":"2.0","result":null,"id":7}

    The events are the methods; `params` may be an array in the order of the handler's parameters. A result is what the
    handler returns, any JSON value. An array of requests is a batch, of at most `max_batch`.

    Raises `DefinitionError` for a `max_batch` that is no positive number.
    """

    max_batch: int = 100

    def __post_init__(self) -> None:
        if type(self.max_batch) is not int or self.max_batch < 1:
            raise DefinitionError(f"{self}: max_batch is {self.max_batch!r}; it is how many requests a batch may have")

    @property
    def ref(self) -> None:
        """What requests and answers share is the `id`."""

    def framing(self, ref_key: str) -> Framing:
        """What it is compiled to. The class's `ref_key` counts for nothing."""
        return JsonRpcFraming(self.max_batch)


class InParams(bytes):
    """A notification about a request: the `ref` is to be among its params."""


class JsonRpcFraming(NestedFraming):
    """`{"jsonrpc":"2.0","id":7,"method":"say","params":{"msg":"hi"}}`, and what the specification says of it."""

    answers_requests = True
    answer_place = ("result",)
    names_replies = False

    def __init__(self, max_batch: int) -> None:
        super().__init__("method", "id", "params", ignores=True)
        self.whole = None
        self.max_batch = max_batch

    @property
    def model_key(self) -> str:
        return ""

    # ---- reading

    @property
    def _ref_field(self) -> tuple[str, Any, Any]:
        return "ref", _ID, msgspec.field(name="id", default=None)  # null is none, and no number with a fraction

    def _struct(self, event: str, fields: Fields, namespace: Mapping[str, Any], closed: bool) -> type:
        return super()._struct(event, [*fields, (*_VERSION, msgspec.field())], namespace, closed)

    def struct(
        self, event: str, fields: Fields | None, namespace: Mapping[str, Any], *, closed: bool, needed: bool
    ) -> type:
        if fields is None:  # they are not looked at, but an array is to be given their names
            fields, closed, needed = [], False, False
        return super().struct(event, fields, namespace, closed=closed, needed=needed)

    def following(
        self, event: str, fields: Fields, namespace: Mapping[str, Any], *, closed: bool, needed: bool
    ) -> type:
        data = data_field(event, [*fields, ("ref", _ID, msgspec.field())], closed, needed=True, name="params")
        return msgspec.defstruct(
            f"Message_{identifier(event)}",
            [data.field, (*_VERSION, msgspec.field()), ("id", Raw | UnsetType, UNSET)],
            namespace={
                **namespace,
                "Data": data.struct,
                "ref": property(operator.attrgetter("data.ref")),
                "__post_init__": _check_following,
            },
            tag_field="method",
            tag=event,
            kw_only=True,
            gc=False,
            eq=False,
        )

    @functools.cached_property
    def peek(self) -> Callable[[str], Any]:
        fields: Any = [("type", str, msgspec.field(name="method")), self._ref_field, (*_VERSION, msgspec.field())]
        return msgspec.json.Decoder(msgspec.defstruct("Peek", fields, kw_only=True, gc=False)).decode

    def outline(self, text: str) -> Outline:
        try:
            keys = msgspec.json.decode(text, type=dict[str, Raw])
        except UNREADABLE:
            raise Misshapen("dict_type", "Input should be an object") from None
        if bytes(keys.get("jsonrpc", b"")) != b'"2.0"':
            raise Misshapen("literal_error", "Input should be '2.0'", ("jsonrpc",))
        ref = keys.get("id")
        if ref is not None and not _is_id(ref):
            raise Misshapen(BAD_REF.type, BAD_REF.message(), ("id",))
        return Outline(keys.get("method"), ref)

    def named(self, text: str, keys: Sequence[str | None]) -> str:
        """
        A request whose params may be an array, with them by their names.

        Raises `Misshapen` for too many, and for one that has no name.
        """
        frame = msgspec.json.decode(text, type=dict[str, Raw])
        if not bytes(frame.get("params", b"")).startswith(b"["):
            return text
        params = msgspec.json.decode(frame["params"], type=list[Raw])
        if len(params) > len(keys):
            raise Misshapen("too_long", f"Input should be an array of at most {len(keys)} items", ("params",))
        if None in (given := keys[: len(params)]):
            what = (
                f"Input should be an object: what is item {given.index(None)} of an array is taken from within another"
            )
            raise Misshapen("dict_type", f"{what} and has no place of its own", ("params",))
        frame["params"] = Raw(msgspec.json.encode(dict(zip(keys, params, strict=False))))
        return msgspec.json.encode(frame).decode()

    def response(self, namespace: Mapping[str, Any]) -> type:
        """What the answers to questions of ours are decoded to, which have no method."""
        optional = Raw | UnsetType
        fields: Any = [
            ("ref", _ID, msgspec.field(name="id")),
            ("answer", optional, msgspec.field(name="result", default=UNSET)),
            ("failure", optional, msgspec.field(name="error", default=UNSET)),
            ("method", optional, UNSET),
            (*_VERSION, msgspec.field()),
        ]
        names = {**namespace, "refusal": property(_refusal), "__post_init__": _check_response}
        return msgspec.defstruct("Response", fields, namespace=names, kw_only=True, gc=False, eq=False)

    def is_answer(self, text: str) -> bool:
        """Has it a result or an error, and no method? Whatever is wrong with it, two peers that answer it never end."""
        try:
            keys = msgspec.json.decode(text, type=dict[str, Raw]).keys()
        except UNREADABLE:
            return False
        return "method" not in keys and not keys.isdisjoint(("result", "error"))

    def requests(self, text: str) -> list[Raw] | None:
        """Those of a batch, None for what is none. Raises `Misshapen` for an empty one, and for one of too many."""
        if not text.lstrip(" \t\r\n").startswith("["):
            return None
        try:
            found = self._batch(text)
        except msgspec.ValidationError:
            found = []
        except UNREADABLE:
            return None
        if not found:
            raise Misshapen("batch_size", f"Input should be an array of 1 to {self.max_batch} requests")
        return found

    @functools.cached_property
    def _batch(self) -> Callable[[str], list[Raw]]:
        """Reads as many requests as there may be: a list would first hold all that there are."""
        place = Raw | UnsetType
        kind = msgspec.defstruct(
            "Batch",
            [(f"r{number}", place, UNSET) for number in range(self.max_batch)],
            array_like=True,
            forbid_unknown_fields=True,
        )
        decode = msgspec.json.Decoder(kind).decode
        return lambda text: [each for each in msgspec.structs.astuple(decode(text)) if each is not UNSET]

    # ---- writing

    def around(self, name: bytes) -> tuple[bytes, bytes]:
        return _HEAD + b'"result":', b"}"

    def frame(self, canonical: bytes) -> bytes:
        name, data = taken_apart(canonical)
        if name == b'"complete"':
            return NULL_RESULT
        body = b'%b"method":%b,"params":%b}' % (_HEAD, name, data)
        return InParams(body) if name in _FOLLOWING else body

    def with_ref(self, frame: bytes, ref: Ref) -> bytes:
        if not isinstance(frame, InParams):
            return super().with_ref(frame, ref)
        comma = b"" if frame.endswith(b"{}}") else b","
        return b'%b%b"ref":%b}}' % (frame[:-2], comma, msgspec.json.encode(ref))

    def answer(self, name: str, fields: Mapping[str, Any], ref: Ref | None) -> dict[str, Any] | None:
        if name != "error":
            return {"jsonrpc": "2.0", "method": name, "params": fields}
        code, message = _told(str(fields["code"]))
        if ref is None and code not in (_PARSE_ERROR, _INVALID_REQUEST):
            return None
        own = next((error["msg"] for error in fields["errors"] if error.get("type") == fields["code"]), message)
        return {"jsonrpc": "2.0", "error": {"code": code, "message": own, "data": fields}, "id": ref}

    @functools.cached_property
    def of_items(self) -> Framing:
        return _ItemFraming(self.max_batch)


class _ItemFraming(JsonRpcFraming):
    """`{"jsonrpc":"2.0","method":"token","params":{"item":{...},"ref":7}}`"""

    def around(self, name: bytes) -> tuple[bytes, bytes]:
        return b'%b"method":%b,"params":{"item":' % (_HEAD, name), b"}"

    def frame(self, canonical: bytes) -> bytes:
        before, behind = self.around(taken_apart(canonical)[0])
        return before + taken_apart(canonical)[1] + behind

    def with_ref(self, frame: bytes, ref: Ref) -> bytes:
        return frame[:-1] + self.ref_end(ref)

    def ref_end(self, ref: Ref) -> bytes:
        return b',"ref":%b}}' % msgspec.json.encode(ref)


NULL_RESULT = _HEAD + b'"result":null}'


def _is_id(raw: Raw) -> bool:
    try:
        msgspec.json.decode(raw, type=_ID)
    except UNREADABLE:
        return False
    return True


def _told(code: str) -> tuple[int, str]:
    """The code of an error, and what it is called."""
    if _OWN_CODE.fullmatch(code):
        return int(code), _SERVER_ERROR[1]
    return _CODES.get(code, _SERVER_ERROR)


def _check_following(message: Any) -> None:
    if message.id is not UNSET:
        raise ValueError("a request, which is to be answered")


def _check_response(response: Any) -> None:
    if response.method is not UNSET:
        raise ValueError("a request")
    if response.answer is UNSET and response.failure is UNSET:
        raise ValueError("neither a result nor an error")


def _refusal(response: Any) -> Raw | UnsetType:
    """The error of a response, as refusals are written in other envelopes."""
    if response.failure is UNSET or bytes(response.failure) == b"null":
        return UNSET
    try:
        failure = msgspec.json.decode(response.failure, type=dict[str, Any])
    except UNREADABLE:
        return response.failure  # type: ignore[no-any-return]  # a Raw, which is refused
    data = failure.get("data")
    code = data.get("code") if isinstance(data, dict) else None
    told = {"code": code if isinstance(code, str) else str(failure.get("code")), "message": failure.get("message")}
    return Raw(msgspec.json.encode(told))
