"""Options of the benchmarks, and the figures they leave behind."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest

from benchmarks.progress import Show
from benchmarks.servers import cores

FIGURES: dict[str, Any] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="longer runs and more sizes")
    parser.addoption("--only", default="", help="only the questions whose name holds this, e.g. roundtrip")
    parser.addoption("--json", default="", help="write all figures of the servers to this file")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    only = str(config.getoption("--only"))
    items[:] = [item for item in items if only in item.nodeid]


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


@pytest.fixture
def pinned() -> Iterator[int]:
    """The core for the servers; the load, which is this process, stays on another one."""
    available = os.sched_getaffinity(0)
    server_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    yield server_core
    os.sched_setaffinity(0, available)


@pytest.fixture
def show(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Show:
    return Show(capsys, request.node.name.removeprefix("test_"))


@pytest.fixture
def figures() -> dict[str, Any]:
    """What a benchmark puts here ends in the file of `--json`."""
    return FIGURES


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--json")
    if path:
        packages = ["msgspec", "pydantic", "orjson", "starlette", "uvicorn", "uvloop", "picows", "fastapi"]
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        machine = {
            "machine": platform.platform(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in packages},
            "commit": commit.stdout.strip(),
        }
        with open(path, "w") as file:
            json.dump({**machine, "figures": FIGURES}, file, indent=1)
