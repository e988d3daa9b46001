"""
What an entry of `scope["extensions"]` is to those who only carry it: an empty dict.

ASGI's entries are dicts of plain values, and middlewares rely on it: they copy scopes, log them, write them as JSON.
An entry of ours is alive, it belongs to one connection. So it is a dict that has nothing in it, and whose copy is
itself: who copies a scope deeply and passes the copy on hands over the connection's own entry. Where a dict is
rebuilt from what is in it (JSON, pickle, `dict(entry)`) a plain empty one takes its place, and says by that that
there is nothing to use.
"""

from __future__ import annotations

from abc import ABC
from typing import Any, Self


class Extension(dict[str, Any], ABC):
    """An empty dict that copies carry along; true, hashable, and equal to no other entry."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def copy(self) -> Self:  # dict's would give a plain one
        return self

    def __reduce_ex__(self, protocol: object) -> tuple[type[dict[str, Any]], tuple[()]]:
        # a pickle is for another process, where the connection is not
        return dict, ()

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self is other or (not isinstance(other, Extension) and super().__eq__(other))

    def __ne__(self, other: object) -> bool:  # dict has one of its own
        return not self == other

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none, but two connections' entries differ for ever
        return id(self) >> 4
