"""Functions from generated source: what runs for every message is written out, not interpreted."""

from __future__ import annotations

import builtins
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_OWN = "generated"
"""The attribute with the source of a function, its head and its body."""


def function(
    arguments: str, body: Sequence[str], names: Mapping[str, Any], *, is_async: bool = False
) -> Callable[..., Any]:
    """The function with these arguments and lines, which finds `names` as its globals."""
    head = f"{'async ' if is_async else ''}def call({arguments}):"
    return _function(head, "\n    ".join(body), names)


def named(known: Any, names: dict[str, Any]) -> str:
    """A name for what source refers to, which is added to those that it finds."""
    name = f"known_{len(names)}"
    names[name] = known
    return name


def lines_before(generated: Callable[..., Any], lines: Sequence[str], names: Mapping[str, Any]) -> Any:
    """
    The function again, with these lines in front of its own, which find `names`, too. None where it is none of ours, or
    has other things by these names.

    A call within a call costs more than all that such lines do: benchmarks/test_telemetry.py.
    """
    if not isinstance(generated, types.FunctionType) or _OWN not in vars(generated):
        return None
    if not names.keys().isdisjoint(generated.__globals__):
        return None
    head, body = vars(generated)[_OWN]
    return _function(head, "\n    ".join((*lines, body)), {**generated.__globals__, **names})


def _function(head: str, body: str, names: Mapping[str, Any]) -> Callable[..., Any]:
    # Builtins by name, too: C code that imports something while this function runs looks for them in its globals.
    scope = {"__builtins__": builtins, **names}
    # a copy: code that several functions share is specialised for none of them
    made = types.FunctionType(_code(f"{head}\n    {body}").replace(), scope, "call")
    vars(made)[_OWN] = head, body
    return made


@functools.lru_cache(maxsize=256)
def _code(source: str) -> types.CodeType:
    """The code of the function in `source`; kept, since compiling costs more than all else, and many look alike."""
    scope: dict[str, Any] = {}
    exec(source, scope)
    code: types.CodeType = scope["call"].__code__
    return code
