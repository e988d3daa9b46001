"""What a `ref` may be, which a request and its answers share: an integer of 64 bits, or a short text."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw
from pydantic_core import PydanticCustomError

Ref = int | str

UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)  # what msgspec alone raises

MAX_REF_LENGTH = 64
INT64 = range(-(2**63), 2**63)
REF_TYPE = Annotated[int, Meta(ge=INT64[0], le=INT64[-1])] | Annotated[str, Meta(max_length=MAX_REF_LENGTH)] | None

BAD_REF = PydanticCustomError("ref_type", "Input should be an integer of 64 bits or a string of at most 64 characters")


def check_ref(value: Any) -> Any:
    """The value, as pydantic's validators take it. Raises `BAD_REF`."""
    fits = value is None or (
        len(value) <= MAX_REF_LENGTH
        if isinstance(value, str)
        else isinstance(value, int) and not isinstance(value, bool) and value in INT64
    )
    if not fits:
        raise BAD_REF
    return value


def read_ref(raw: Raw | None) -> tuple[Ref | None, bool]:
    """The `ref` in a frame, and whether it is a valid one."""
    if raw is None:
        return None, True
    try:
        return msgspec.json.decode(raw, type=REF_TYPE), True
    except UNREADABLE:
        return None, False
