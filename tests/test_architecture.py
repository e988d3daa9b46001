"""The floors of the house: a module imports only from lower floors, a wing shows only its face, no circle anywhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "socketsundso"

ROOMS = [
    {"errors", "environment"},
    {"models", "wire", "backplanes", "server", "security"},
    {"messages"},
    {"connection", "handler"},
    {"rooms", "collecting", "threads", "guards", "shared_limits"},
    {"contract"},
    {"endpoints"},
    {"__init__"},
    {"testing"},
    {"cli"},
    {"__main__"},
]
"""The rooms by floor, the ground floor first: folders, and the modules beside them."""

WINGS = {
    "messages": [
        {"aliases", "codegen", "core_schemas", "disclosure", "teardown"},
        {"declared", "structs", "error_frames", "markers"},
        {"forms"},
        {"annotations"},
        {"plain_models", "signature"},
        {"judge", "response_errors", "conduct"},
        {"exact_json", "raw_fields", "readers", "values"},
        {"fields"},
        {"route", "writers"},
        {"decoder", "dependencies", "replies"},
        {"definition", "pushes", "details"},
        {"items", "questions"},
    ],
    "connection": [
        {"queue", "limits", "origins", "stepping", "ahead", "streams", "uploads"},
        {"requests"},
        {"outbound", "application", "handshake", "kept"},
        {"peer"},
        {"current", "refusal", "deadlines", "tasks", "leaving"},
        {"serial", "calls"},
        {"concurrent"},
    ],
    "rooms": [
        {"presence", "history"},
        {"room"},
        {"calling"},
        {"acting", "recovery", "roster", "watchers", "agreement"},
        {"local"},
        {"hub"},
        {"declaration"},
        {"membership"},
    ],
    "contract": [
        {"model", "identifiers", "python_msgspec", "python_pydantic", "python_words", "compact"},
        {"names", "patterns", "sharing", "keys", "selection", "drafts", "protocol", "docstrings", "codes", "sent"},
        {"constraints", "nodes", "payloads", "python_text", "python_protocol", "typescript_types"},
        {"canonical", "parameters", "judging", "bounds", "typescript_channels"},
        {"by_pydantic", "by_msgspec", "containment", "python_types", "python_waiting", "python_handshake"},
        {"schemas", "asyncapi", "reading", "diff", "python_frames", "python_runtime", "python_session", "typescript"},
        {"describe", "handshake", "report", "python", "python_async", "python_sync"},
        {"routes"},
        {"page"},
    ],
    "testing": [
        {"peer", "mailbox"},
        {"kinds"},
        {"connection", "broadcasts"},
        {"synchronous"},
        {"connecting"},
        {"plugin"},
    ],
    "cli": [{"target", "documented"}, {"run", "schema", "client"}],
    "backplanes": [{"base"}, {"memory", "engine"}, {"redis", "nats"}],
    "server": [
        {"extension", "frames", "handshake", "keepalive"},
        {"early", "head", "rejection", "parser", "packing"},
        {"deflate"},
        {"outbox", "http_httptools"},
        {"inbox"},
        {"messages"},
        {"protocol"},
    ],
}
"""The modules within a wing by floor; its `__init__` is above them all."""

ONLY_IN = {
    "fastapi": set(),
    "redis": {"backplanes/redis"},
    "nats": {"backplanes/nats"},
    "picows": {"server/parser", "server/protocol"},
    "websockets": {
        "server/deflate",
        "contract/python_handshake",
        "contract/python_frames",
        "contract/python_async",
        "contract/python_sync",
    },
    "isal": {"server/packing"},
    "uvicorn": {"server", "cli"},
    "h11": {"server/head", "cli"},
    "click": {"cli"},
    "orjson": {"messages/values", "messages/plain_models"},
}
"""Foreign libraries that are imported nowhere else, by module."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def parts_of(path: Path) -> tuple[str, ...]:
    """`messages/decoder.py` -> ("messages", "decoder")."""
    return path.relative_to(PACKAGE).with_suffix("").parts


def floor_of(floors: list[set[str]], name: str) -> int:
    return next((floor for floor, modules in enumerate(floors) if name in modules), len(floors))


def imports(path: Path) -> set[str]:
    """Whole names, `package.module.name`, of everything that is imported anywhere in a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_imports(path: Path) -> set[tuple[str, ...]]:
    """What it imports of the package, as parts of names: ("messages", "Decoder")."""
    own = set()
    for name in imports(path):
        package, *parts = name.split(".")
        if package == "socketsundso":
            is_room = bool(parts) and ((PACKAGE / parts[0]).is_dir() or (PACKAGE / f"{parts[0]}.py").is_file())
            own.add(tuple(parts) if is_room else ("__init__", *parts))
    return own


every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: "/".join(parts_of(path)))


def test_every_module_has_its_floor() -> None:
    """A module that is not on the plan has no place yet; a place on the plan is not empty."""
    stand = {parts_of(path)[0] for path in MODULES}
    assert stand == set().union(*ROOMS)
    for wing, floors in WINGS.items():
        inside = {parts_of(path)[1] for path in MODULES if parts_of(path)[0] == wing} - {"__init__"}
        assert inside == set().union(*floors)


@every_module
def test_a_module_imports_only_from_lower_floors(path: Path) -> None:
    """No cycle between the rooms of the house, nor within a wing, and no arrow upwards."""
    room, *inner = parts_of(path)
    for there, *names in own_imports(path):
        if there != room:
            assert floor_of(ROOMS, there) < floor_of(ROOMS, room), f"{room} imports {there}"
        elif room in WINGS:
            floors = WINGS[room]
            assert floor_of(floors, names[0]) < floor_of(floors, inner[0]), f"{room}/{inner[0]} imports {names[0]}"


@every_module
def test_nothing_outside_a_wing_imports_past_its_face(path: Path) -> None:
    """What a wing's `__init__` does not name is nobody else's business."""
    room = parts_of(path)[0]
    for there, *names in own_imports(path):
        if there != room and (PACKAGE / there).is_dir():
            assert len(names) == 1, f"{room} imports {'.'.join(names)} of {there}"
            shown = imports(PACKAGE / there / "__init__.py")
            offered = {name.rpartition(".")[2] for name in shown} | defined(PACKAGE / there / "__init__.py")
            assert names[0] in offered, f"{there} does not offer {names[0]}, which {room} imports"


def defined(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@every_module
def test_foreign_libraries_stay_where_they_belong(path: Path) -> None:
    """An engine or a server library can be exchanged in one place."""
    room, *inner = parts_of(path)
    for name in imports(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or {room, "/".join((room, *inner))} & allowed, name
