"""Autobahn's cases, driven by kosoku against an echo server in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

KOSOKU = Path(sysconfig.get_path("scripts")) / "kosoku"
COMPRESSION = [*(f"12.{number}" for number in range(1, 6)), *(f"13.{number}" for number in range(1, 8))]
LONG = {
    "all": ["9.*", "12.*", "13.*"],
    # of each text and window every size up to 64 KB, and 8 KB in 32 frames: a seventh of the bytes to
    # compress; the others need minutes of two quiet cores
    "sample": ["9.*", *(f"{group}.{case}" for group in COMPRESSION for case in (*range(1, 10), 11))],
}
ALONE = [f"{group}.{case}" for group in COMPRESSION for case in (2, 5, 11)]


@dataclass
class Autobahn:
    """One server under test."""

    port: int
    directory: Path

    def start(self, *cases: str, parallel: int = 1) -> Run:
        """Start `cases` (Autobahn's numbers, with `*`)."""
        out = self.directory / f"{len(list(self.directory.iterdir()))}"
        out.mkdir()
        arguments = [argument for case in cases for argument in ("-i", case)]
        command = [str(KOSOKU), f"127.0.0.1:{self.port}", *arguments, "-p", str(parallel), "-o", str(out)]
        with (out / "log").open("wb") as log:
            return Run(subprocess.Popen(command, stdout=log, stderr=log), out)


@dataclass
class Run:
    """Cases under way."""

    process: subprocess.Popen[bytes]
    out: Path

    def verdicts(self) -> dict[str, dict[str, Any]]:
        """Wait for the end, return the verdict of each case."""
        self.process.wait(280)
        (report,) = json.loads((self.out / "index.json").read_text()).values()
        return dict(report)


def _server(loop: str, deflate: str, directory: Path) -> Iterator[Autobahn]:
    """One that is not watched by a coverage run, under which the cases' 20 s get short: other tests run its lines."""
    command = [sys.executable, "-m", "tests.conformance.echo_server", loop, deflate]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    folder = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, env=environment) as process:
        assert process.stdout is not None
        try:
            yield Autobahn(int(process.stdout.readline()), directory)
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def on_uvloop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Autobahn]:
    yield from _server("uvloop", "contexts", tmp_path_factory.mktemp("uvloop"))


@pytest.fixture(scope="session")
def on_asyncio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Autobahn]:
    yield from _server("asyncio", "contexts", tmp_path_factory.mktemp("asyncio"))


@pytest.fixture(scope="session")
def on_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Autobahn]:
    yield from _server("uvloop", "alone", tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="session")
def long_run(on_uvloop: Autobahn, request: pytest.FixtureRequest) -> Iterator[Run]:
    """The groups that take minutes: they run while the other tests do."""
    cases = LONG[request.config.getoption("--autobahn")]
    yield from _ended(on_uvloop.start(*cases, parallel=2))  # beyond that a case waits for the others, in its 20 s


@pytest.fixture(scope="session")
def alone_run(on_alone: Autobahn) -> Iterator[Run]:
    yield from _ended(on_alone.start(*ALONE))


def _ended(run: Run) -> Iterator[Run]:
    try:
        yield run
    finally:
        run.process.kill()
        run.process.wait()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for the long run comes last, what starts it first."""
    items.sort(key=lambda item: (bool(item.get_closest_marker("last")), not item.get_closest_marker("first")))
