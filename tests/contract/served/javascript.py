"""JavaScript engines that run a generated client: one process for a module of tests, one snippet for each of them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from socketsundso.contract.model import Api
from socketsundso.contract.typescript.client import typescript
from tests.contract.npm import PACKAGES, binary

DRIVER = Path(__file__).with_name("driver.mjs")
WAIT_S = 30


def compiled(api: Api, folder: Path) -> Path:
    """The client of an API as JavaScript, without its types."""
    source, target = folder / "client.ts", folder / "client.mjs"
    source.write_text(typescript(api), encoding="utf-8")
    subprocess.run(
        [binary("bun"), "build", str(source), "--target=node", f"--outfile={target}"], check=True, capture_output=True
    )
    return target


class Engine:
    """Runs snippets; what is not handled in one fails it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, code: str, **values: Any) -> Any:
        """The value of an async function with this body, in which `values` and what driver.mjs has can be named."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"code": code, "values": values}) + "\n")
        self._process.stdin.flush()
        watchdog = threading.Timer(WAIT_S, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        assert line, "the engine ended"
        told = json.loads(line)
        assert "error" not in told, told["error"]
        return told["value"]


@contextmanager
def engine(client: Path, socket: str) -> Iterator[Engine]:
    """Node with the WebSocket of `ws` or `undici`, or Bun with its own."""
    runs = binary("bun" if socket == "bun" else "node")
    kind = "global" if socket == "bun" else socket
    command = [runs, str(DRIVER), str(client), str(PACKAGES), kind]
    with (
        contextlib.suppress(BrokenPipeError),  # of one that a test has ended
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process,
    ):
        try:
            yield Engine(process)
        finally:
            process.kill()
