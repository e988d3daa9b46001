"""
What every generated Python client has: the modules of `runtime/`, as one text.

They are typed, linted and tested as modules. In the file they stand one behind the other, in one namespace, without
what they import of each other, and with all other imports at its top.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from socketsundso.contract.python.types import Models

_FOLDER = Path(__file__).with_name("runtime")
_PARTS = ("words", "protocol", "waiting", "session", "handshake", "frames", "asynchronous", "turns", "synchronous")
"""In the order in which they need each other; before them comes the one that reads and writes."""

_IMPORTS: Mapping[Models, Mapping[str, str]] = {
    "msgspec": {"msgspec": "Struct as _Struct, field as _field"},
    "pydantic": {"pydantic": "Field as _Field"},
}
_COMMON_IMPORTS = {
    "collections.abc": "AsyncIterable, Awaitable, Callable, Iterable",
    "datetime": "date as _date, datetime as _datetime, time as _time, timedelta as _timedelta",
    "decimal": "Decimal as _Decimal",
    "typing": "Any, ClassVar, Literal, Never, TYPE_CHECKING, TypeAlias, Unpack, overload",
    "uuid": "UUID as _UUID",
}


@dataclass(frozen=True)
class Part:
    """A module, whose lines stand where they stand in its file, without imports."""

    path: Path
    imports: frozenset[tuple[str, str]]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Runtime:
    """`names` are all that it defines and imports: what nothing else can be called."""

    imports: tuple[str, ...]
    code: tuple[str, ...]
    names: frozenset[str]


@cache
def runtime(models: Models) -> Runtime:
    found = parts(models)
    imports = imports_of(found, models)
    code = tuple(line for part in found for line in _without_gaps(part.lines))
    names = {name.split()[-1] for _, name in imports} | _defined("\n".join(code))
    return Runtime(tuple(_import_lines(imports)), code, frozenset(names))


@cache
def parts(models: Models) -> tuple[Part, ...]:
    return tuple(_part(_FOLDER / f"{name}.py") for name in (f"by_{models}", *_PARTS))


def _part(path: Path) -> Part:
    text = path.read_text(encoding="utf-8")
    lines, imports = text.split("\n"), set[tuple[str, str]]()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.update(_each_import(node))
        elif not _is_left_out(node):
            continue
        last = node.end_lineno or node.lineno
        lines[node.lineno - 1 : last] = [""] * (last - node.lineno + 1)
    return Part(path, frozenset(imports), tuple(lines))


def imports_of(found: Iterable[Part], models: Models) -> set[tuple[str, str]]:
    """What the parts, and the classes behind them, import of others."""
    tables = {**_COMMON_IMPORTS, **_IMPORTS[models]}
    imports = {(module, name) for module, names in tables.items() for name in names.split(", ")}
    imports |= {each for part in found for each in part.imports}
    return {(module, name) for module, name in imports if module.split(".")[0] not in ("__future__", "socketsundso")}


def _defined(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.parse(source).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return found


def _is_left_out(node: ast.stmt) -> bool:
    """The docstring of a part, and what it shows to the other parts."""
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.lineno == 1


def _each_import(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """`("typing", "Any")`, `("websockets.sync.client", "connect as _connect_sync")`, `("", "re")`."""
    for alias in node.names:
        name = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
        yield (node.module or "" if isinstance(node, ast.ImportFrom) else "", name)


def _import_lines(imports: set[tuple[str, str]]) -> Iterator[str]:
    yield from ("from __future__ import annotations", "")
    for is_foreign in (False, True):
        modules = sorted({module or name for module, name in imports if _is_foreign(module or name) == is_foreign})
        for module in modules:
            names = sorted({name for each, name in imports if each == module})
            if not names:
                yield f"import {module}"
            elif len(line := f"from {module} import {', '.join(names)}") <= 120:
                yield line
            else:
                yield f"from {module} import ("
                yield from (f"    {name}," for name in names)
                yield ")"
            if ("", module) in imports and names:
                yield f"import {module}"
        yield ""


def _is_foreign(module: str) -> bool:
    return module.split(".")[0] in ("websockets", "msgspec", "pydantic", "pydantic_core")


def _without_gaps(lines: Iterable[str]) -> list[str]:
    """At most two empty lines in a row, and none at the ends."""
    kept: list[str] = []
    for line in lines:
        if line or (kept and kept[-2:] != ["", ""]):
            kept.append(line)
    while kept and not kept[-1]:
        kept.pop()
    return [*kept, "", ""]
