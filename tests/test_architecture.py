"""The floors of the house: a module imports only from lower floors, and foreign libraries in few places."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "socketsundso"
FLOORS = {
    "errors": 0,
    "models": 1, "annotations": 1, "backplanes": 1, "server": 1, "wire": 1,
    "codegen": 1, "core_schemas": 1,
    "plain_models": 2, "signature": 2, "connection": 2, "presence": 2, "history": 2, "error_frames": 2,
    "decoder": 3, "encoder": 3, "room": 3,
    "handler": 4, "recovery": 4, "roster": 4,
    "rooms": 5,
    "hub": 6,
    "membership": 7,
    "endpoints": 8,
    "__init__": 9,
    "cli": 10,
    "__main__": 11,
}  # fmt: skip
ONLY_IN = {
    "fastapi": set(),
    "redis": {"backplanes"},
    "nats": {"backplanes"},
    "picows": {"server"},
    "websockets": {"server"},
    "uvicorn": {"server", "cli"},
    "orjson": {"encoder", "plain_models"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_lower_floors(path: Path) -> None:
    """No cycle between the rooms of the house, and no arrow upwards."""
    here = room_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "socketsundso" and len(parts) > 1:
            there = parts[1] if parts[1] in FLOORS else "__init__"
            assert there == here or FLOORS[there] < FLOORS[here], f"{here} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_foreign_libraries_stay_where_they_belong(path: Path) -> None:
    """An engine or a server library can be exchanged in one place."""
    for name in imports(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or room_of(path) in allowed, name
