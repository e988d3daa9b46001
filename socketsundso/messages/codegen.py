"""Functions from generated source: what runs for every message is written out, not interpreted."""

from __future__ import annotations

import builtins
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def function(
    arguments: str, body: Sequence[str], names: Mapping[str, Any], *, is_async: bool = False
) -> Callable[..., Any]:
    """The function with these arguments and lines, which finds `names` as its globals."""
    source = f"{'async ' if is_async else ''}def call({arguments}):\n    " + "\n    ".join(body)
    # Builtins by name, too: C code that imports something while this function runs looks for them in its globals.
    scope = {"__builtins__": builtins, **names}
    # a copy: code that several functions share is specialised for none of them
    return types.FunctionType(_code(source).replace(), scope, "call")


@functools.lru_cache(maxsize=256)
def _code(source: str) -> types.CodeType:
    """The code of the function in `source`; kept, since compiling costs more than all else, and many look alike."""
    scope: dict[str, Any] = {}
    exec(source, scope)
    code: types.CodeType = scope["call"].__code__
    return code
