"""
The floors of the house: a module imports only from lower floors, a wing shows only its face, no circle anywhere.

A wing is a folder. Its floors have modules, and folders that are wings of their own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "socketsundso"

ROOMS = [
    {"errors", "environment", "refusals"},
    {"models", "wire", "backplanes", "server", "operations", "security"},
    {"messages"},
    {"connection", "handler"},
    {"rooms", "binary_handler", "threads", "guards", "shared_limits", "observing"},
    {"contract", "collecting"},
    {"endpoints"},
    {"__init__"},
    {"testing", "telemetry", "top"},
    {"cli"},
    {"__main__"},
]
"""The rooms by floor, the ground floor first: folders, and the modules beside them."""

WINGS = {
    "messages": [
        {"aliases", "codegen", "core_schemas", "disclosure", "teardown", "refs", "canonical"},
        {"structs"},
        {"codecs"},
        {"framing"},
        {"packed_framing"},
        {"declared", "error_frames", "markers", "envelopes", "json_rpc", "raw_fields"},
        {"forms", "naming", "whole_frames"},
        {"annotations"},
        {"plain_fields", "struct_checks", "signature"},
        {"plain_models"},
        {"judge", "response_errors", "conduct", "whole"},
        {"exact_json", "readers", "values", "flat_models"},
        {"fields"},
        {"built_models"},
        {"route", "writers", "plain_structs"},
        {"decoder", "dependencies", "replies"},
        {"packed_replies"},
        {"definition", "pushes", "details"},
        {"items", "questions", "binary"},
    ],
    "connection": [
        {"queue", "limits", "origins", "stepping", "ahead", "streams", "uploads"},
        {"requests"},
        {"outbound", "application", "handshake", "kept"},
        {"peer"},
        {"current", "refusal", "deadlines", "leaving"},
        {"lines"},
        {"tasks"},
        {"serial", "calls", "text_pings"},
        {"batches"},
        {"concurrent"},
        {"loops"},
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
        {"model", "identifiers"},
        {"speaking"},
        {"schemas", "asyncapi", "python", "typescript"},
        {"describing", "comparing"},
        {"page"},
    ],
    "contract/schemas": [
        {"constraints", "patterns", "keys", "selection", "sharing", "names"},
        {"by_pydantic", "by_msgspec", "canonical"},
        {"components"},
    ],
    "contract/asyncapi": [
        {"drafts", "protocol", "payloads"},
        {"wires", "nodes"},
        {"parameters"},
        {"writing", "reading"},
    ],
    "contract/describing": [{"docstrings", "codes", "sent", "handshake", "wires"}, {"channels"}, {"routes"}],
    "contract/comparing": [{"judging", "bounds"}, {"containment"}, {"diff"}, {"report"}],
    "contract/python": [{"text", "runtime"}, {"types"}, {"parts"}, {"client"}],
    "contract/python/runtime": [
        {"words", "by_msgspec", "by_pydantic", "turns"},
        {"protocol", "frames"},
        {"waiting", "handshake"},
        {"session"},
        {"asynchronous", "synchronous"},
    ],
    "contract/typescript": [{"types", "compact"}, {"channels"}, {"client"}],
    "testing": [
        {"peer", "mailbox"},
        {"frames"},
        {"kinds"},
        {"connection", "broadcasts"},
        {"synchronous"},
        {"connecting"},
        {"plugin"},
    ],
    "telemetry": [
        {"families", "installing", "streaming"},
        {"meters", "opentelemetry"},
        {"tally"},
        {"prometheus", "watching"},
    ],
    "cli": [
        {"target", "documented", "logs"},
        {"mistakes"},
        {"checks", "options", "served"},
        {"run", "schema", "client", "top"},
    ],
    "top": [{"snapshot", "words"}, {"figures"}, {"view"}, {"screen"}],
    "backplanes": [{"base"}, {"memory", "engine"}, {"redis", "nats"}],
    "operations": [
        {"settings", "draining", "admin", "sockets"},
        {"admission", "lines"},
        {"front", "reporting"},
        {"serving"},
        {"workers"},
    ],
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
"""The modules and folders within a wing by floor; its `__init__` is above them all."""

PLANS = {"": ROOMS, **WINGS}
"""By folder."""

ONLY_IN = {
    "fastapi": set(),
    "redis": {"backplanes/redis"},
    "nats": {"backplanes/nats"},
    "picows": {"server/parser", "server/protocol"},
    "websockets": {
        "server/deflate",
        "contract/python/runtime/handshake",
        "contract/python/runtime/frames",
        "contract/python/runtime/asynchronous",
        "contract/python/runtime/synchronous",
    },
    "isal": {"server/packing"},
    "uvicorn": {"server", "operations", "cli"},
    "h11": {"server/head", "cli"},
    "click": {"cli"},
    "opentelemetry": {"telemetry/opentelemetry"},
    "rich": {"top/view", "top/screen"},
    "prometheus_client": {"telemetry/prometheus"},
    "orjson": {"messages/values", "messages/plain_models", "messages/codecs", "messages/packed_replies"},
}
"""Foreign libraries that are imported nowhere else, by module or folder."""

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


def met(path: Path) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """
    The deepest folder that a module and what it imports have in common, and what they are called there.

    `contract/python/client` meets `Api` in `contract`, as a part of `python`: "contract", "python", ("model", "Api").
    """
    parts = parts_of(path)
    for names in own_imports(path):
        depth = 0
        while depth < min(len(parts), len(names)) - 1 and parts[depth] == names[depth]:
            depth += 1
        yield "/".join(parts[:depth]), parts[depth], names[depth:]


def test_every_module_has_its_floor() -> None:
    """A module that is not on the plan has no place yet; a place on the plan is not empty."""
    inside: dict[str, set[str]] = {}
    for path in MODULES:
        *folders, name = parts_of(path)
        for depth, each in enumerate((*folders, name)):
            inside.setdefault("/".join(folders[:depth]), set()).add(each)
    assert inside.keys() == PLANS.keys()
    for folder, floors in PLANS.items():
        assert inside[folder] - ({"__init__"} if folder else set()) == set().union(*floors), folder


@every_module
def test_a_module_imports_only_from_lower_floors(path: Path) -> None:
    """No cycle between the rooms of the house, nor within a wing, and no arrow upwards."""
    for folder, here, (there, *_) in met(path):
        floors = PLANS[folder]
        assert floor_of(floors, there) < floor_of(floors, here), f"{here} imports {there}"


@every_module
def test_nothing_outside_a_wing_imports_past_its_face(path: Path) -> None:
    """What a wing's `__init__` does not name is nobody else's business."""
    for folder, here, (there, *names) in met(path):
        wing = PACKAGE / folder / there
        if wing.is_dir():
            assert len(names) == 1, f"{here} imports {'.'.join(names)} of {there}"
            shown = imports(wing / "__init__.py")
            offered = {name.rpartition(".")[2] for name in shown} | defined(wing / "__init__.py")
            assert names[0] in offered, f"{there} does not offer {names[0]}, which {here} imports"


def defined(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@every_module
def test_foreign_libraries_stay_where_they_belong(path: Path) -> None:
    """An engine or a server library can be exchanged in one place."""
    parts = parts_of(path)
    around = {"/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    for name in imports(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or around & allowed, name
