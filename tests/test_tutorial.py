"""The tutorial, as its reader does it: files are written, commands run in their folder, and say what they say there."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backplanes.engines import running as engine
from tests.contract.npm import binary
from tests.pages import BLOCK, NAMED, files_of
from tests.serving import ROOT, free_port, wait_for

PAGE = ROOT / "docs" / "tutorial.md"
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
STAYING = ("socketsundso run ", "python bot.py")
"""How the commands begin that go on in terminals of their own; a server ends the one before it."""


class Reader:
    """Has a folder, terminals, and a port and a Redis that are not those of the page."""

    def __init__(self, folder: Path, redis: str) -> None:
        self._folder, self._port = folder, free_port()
        self._here = {"127.0.0.1:8000": f"127.0.0.1:{self._port}", "redis://127.0.0.1:6379": redis}
        self._staying: dict[str, subprocess.Popen[bytes]] = {}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}

    def read(self, page: str) -> None:
        for language, block in BLOCK.findall(page):
            if named := NAMED.match(block):
                (self._folder / named[1]).write_text(self._adapted(block))
            elif language == "console":
                for command, told in COMMAND.findall(block):
                    self._type(self._adapted(command), told)

    def _adapted(self, text: str) -> str:
        for there, here in self._here.items():
            text = text.replace(there, here)
        return text

    def _type(self, command: str, told: str) -> None:
        kind = next((start for start in STAYING if command.startswith(start)), None)
        if kind is not None:
            self._stay(kind, command)
            return
        ran = subprocess.run(
            command, shell=True, cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=100
        )
        assert not ran.returncode, ran.stdout + ran.stderr
        assert re.search(".*".join(map(re.escape, told.split("..."))), ran.stdout), (command, ran.stdout)

    def _stay(self, kind: str, command: str) -> None:
        self._end(kind)
        is_server = kind == STAYING[0]
        self._staying[kind] = process = subprocess.Popen(
            [*command.split(), *(["--port", str(self._port)] if is_server else [])],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if is_server:
            wait_for(self._port, process)

    def _end(self, kind: str) -> None:
        if (process := self._staying.pop(kind, None)) is not None:
            process.send_signal(signal.SIGINT)  # Ctrl-C
            process.communicate(timeout=30)

    def leave(self) -> None:
        for kind in reversed(list(self._staying)):
            self._end(kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All that is in the reader's folder at the end."""
    folder = tmp_path_factory.mktemp("tutorial")
    with engine("redis") as redis, contextlib.ExitStack() as stack:
        reader = Reader(folder, redis.url)
        stack.callback(reader.leave)
        reader.read(PAGE.read_text())
    return folder


def test_all_of_it_goes_as_it_is_told(folder: Path) -> None:
    """Nothing of what the page shows is missing in its reader's folder: every block that names a file is one."""
    made = {"chat_client.py", "chat.ts", "chat.asyncapi.json"}
    assert {path.name for path in folder.iterdir() if path.is_file()} == set(files_of(PAGE.name)) | made


def test_the_page_for_browsers_is_typed(folder: Path) -> None:
    """The TypeScript of the page fits to the client that is generated there, strictly."""
    options = ["--noEmit", "--strict", "--module", "ES2020", "--moduleResolution", "bundler"]
    command = [binary("tsc"), *options, "--target", "ES2020", "--lib", "ES2020,DOM", "page.ts"]
    compiled = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert not compiled.returncode, compiled.stdout
