"""
The competitors, and each as a process: started on a free port, pinned to a core, ended whatever happens.

`COMPETITORS`, `BROADCASTERS`, `CONVERSING`, `OBSERVED`, `ENVELOPED` and `BINARY` are the registries; `pick` finds rows
by their short key. A competitor is a module of `benchmarks.competitors`; its `VALIDATES` is read from the source, so
that a package which is not installed is a row of the table that says so and never an import error of the suite.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import reaper
from benchmarks.installed import NotAvailable, bun, node, node_modules, rpckit_python
from benchmarks.load import PLAIN, Arrays, Dialect, Enveloped, JsonRpcRequests, JsonRpcSubscription
from benchmarks.turns import Counter, counter
from tests.serving import free_port

ROOT = Path(__file__).parent.parent
FOLDER = Path(__file__).parent / "competitors"
OURS = "socketsundso.server:WebSocketProtocol"
STARTS_WITHIN_S = 30.0


@dataclass(frozen=True)
class Competitor:
    """
    A row of the table. `ws` is the uvicorn protocol that serves the module's `app`; None: the module is run as
    `python -m ... PORT`, or with Node when its file ends in `.cjs`, or with Bun when it ends in `.mjs`.
    """

    name: str
    module: str
    ws: str | None = "auto"
    key: str = ""
    dialect: Dialect = PLAIN
    ceiling: bool = False
    lifespan: str = "off"
    negotiates: bool = True  # permessage-deflate, if it is told to
    client: str = "none"  # what the load plays, see `PromptLoad`; the server accepts deflate for all but "none"
    ping_s: int = 3600  # no ping comes between the replies; where it matters, a benchmark asks for uvicorn's own 20

    @property
    def file(self) -> Path:
        return next(path for path in FOLDER.iterdir() if path.stem == self.module)

    @property
    def validates(self) -> str:
        found = re.search(r'^(?:const )?VALIDATES = (".*?");?$', self.file.read_text(), re.MULTILINE)
        return str(ast.literal_eval(found.group(1))) if found else "?"

    @property
    def ours(self) -> bool:
        return self.key.startswith("ours")

    def command(self, port: int, workers: int = 1) -> list[str]:
        """The command line that serves this competitor. Raises NotAvailable without Node, Bun or their packages."""
        target = f"benchmarks.competitors.{self.module}"
        deflate = self.client != "none"
        if self.ws is None:
            by = {".cjs": lambda: [node(), str(self.file)], ".mjs": lambda: [bun(), str(self.file)]}
            program = by.get(self.file.suffix, lambda: [sys.executable, "-m", target])()
            return [*program, str(port), *(["deflate"] if deflate else [])]
        python = rpckit_python() if self.key == "rpckit" else sys.executable
        return [
            python, "-m", "uvicorn", f"{target}:app", "--port", str(port), "--ws", self.ws, "--log-level",
            "error", "--no-access-log", "--ws-per-message-deflate", str(deflate).lower(), "--lifespan", self.lifespan,
            "--workers", str(workers), "--backlog", "4096", "--ws-ping-interval", str(self.ping_s),
        ]  # fmt: skip


CHANX = Dialect(tag="action", inside="payload")
SOCKET_IO = Dialect(path="/socket.io/?EIO=4&transport=websocket", before='42["message",', after="]", greeting="40")

COMPETITORS = [
    Competitor("naive FastAPI loop", "fastapi_naive", key="naive"),
    Competitor("tuned FastAPI loop", "fastapi_tuned", key="tuned"),
    Competitor("Starlette + msgspec", "starlette_msgspec", key="msgspec"),
    Competitor("Litestar listener", "litestar_listener", key="litestar"),
    Competitor("chanx on Starlette", "chanx_starlette", key="chanx", dialect=CHANX),
    Competitor("python-socketio", "python_socketio", key="socketio", dialect=SOCKET_IO),
    Competitor("Django Channels on uvicorn", "django_channels", key="channels"),
    Competitor("aiohttp + pydantic", "aiohttp_pydantic", None, key="aiohttp"),
    Competitor("websockets + msgspec", "websockets_msgspec", None, key="websockets"),
    Competitor("socketify + msgspec (C++)", "socketify_msgspec", None, key="socketify"),
    Competitor("socketsundso 0.0.5's algorithm", "socketsundso_005", key="005"),
    Competitor("Node ws + zod", "node_ws_zod", None, key="node"),
    Competitor("Bun + zod", "bun_zod", None, key="bun"),
    Competitor("socketsundso, uvicorn's protocol", "socketsundso_model", key="ours-uvicorn"),
    Competitor("socketsundso, own protocol", "socketsundso_model", OURS, key="ours"),
    Competitor("socketsundso, own protocol, whole models", "socketsundso_whole", OURS, key="ours-model"),
    Competitor("socketsundso, own protocol, Struct", "socketsundso_struct", OURS, key="ours-struct"),
    Competitor("socketsundso, own protocol, dict", "socketsundso_native", OURS, key="ours-native"),
    Competitor("raw echo, uvicorn's protocol", "raw_echo", key="raw-uvicorn", ceiling=True),
    Competitor("raw echo, own protocol", "raw_echo", OURS, key="raw-ours", ceiling=True),
    Competitor("bare picows echo", "picows_echo", None, key="picows", ceiling=True, negotiates=False),
]

BROADCASTERS = [
    Competitor("naive FastAPI loop", "broadcast_naive", key="naive"),
    Competitor("python-socketio room", "broadcast_socketio", key="socketio", dialect=SOCKET_IO),
    Competitor("Litestar channels", "broadcast_litestar", key="litestar", lifespan="on"),
    Competitor("websockets.broadcast", "broadcast_websockets", None, key="websockets"),
    Competitor("Node ws, loop over its clients", "broadcast_node", None, key="node"),
    Competitor("Bun, publish", "broadcast_bun", None, key="bun"),
    Competitor("socketsundso, uvicorn's protocol", "broadcast_socketsundso", key="ours-uvicorn"),
    Competitor("socketsundso, own protocol", "broadcast_socketsundso", OURS, key="ours"),
    Competitor("bare picows loop", "broadcast_picows", None, key="picows", ceiling=True, negotiates=False),
    Competitor("bare os.write loop", "broadcast_write", None, key="write", ceiling=True, negotiates=False),
]

CONVERSING = [
    Competitor("naive FastAPI loop", "conversing_naive", key="naive"),
    Competitor("Litestar's send_websocket_stream", "conversing_litestar", key="litestar"),
    Competitor("fastapi-rpckit", "conversing_rpckit", key="rpckit", dialect=JsonRpcSubscription()),
    Competitor("conversing, uvicorn's protocol", "conversing_socketsundso", key="ours-uvicorn"),
    Competitor("conversing, own protocol", "conversing_socketsundso", OURS, key="ours"),
    Competitor("plain, own protocol", "conversing_plain", OURS, key="ours-plain"),
    Competitor("asking, own protocol", "conversing_asks", OURS, key="ours-asks"),
]

OBSERVED = [
    Competitor("naive FastAPI loop", "fastapi_naive", key="naive"),
    Competitor("socketsundso, own protocol", "socketsundso_model", OURS, key="ours"),
    Competitor("the same, with metrics", "socketsundso_prometheus", OURS, key="ours-prometheus"),
]


FLAT = Enveloped("/flat")


def _enveloped(name: str, dialect: Dialect) -> list[Competitor]:
    return [
        Competitor("naive FastAPI loop", "wire_naive", key="naive", dialect=dialect),
        Competitor("own protocol, flat", "wire_socketsundso", OURS, key="ours-flat", dialect=FLAT),
        Competitor(f"own protocol, {name}", "wire_socketsundso", OURS, key="ours", dialect=dialect),
    ]


ENVELOPED = {
    "renamed": _enveloped("renamed", Enveloped("/renamed", tag="action", ref="requestId")),
    "nested": _enveloped("nested", Enveloped("/nested", tag="event", inside="payload")),
    "arrays": _enveloped("arrays", Arrays("/arrays")),
    "json-rpc": _enveloped("json-rpc", JsonRpcRequests("/rpc")),
}
"""The rows of each envelope's table: the same wire by hand, and our flat messages beside."""

IN_BINARY = Dialect(first_byte=0x82)

BINARY = [
    Competitor("naive FastAPI loop", "binary_naive", key="naive", dialect=IN_BINARY),
    Competitor("@binary, uvicorn's protocol", "binary_socketsundso", key="ours-uvicorn", dialect=IN_BINARY),
    Competitor("@binary, own protocol", "binary_socketsundso", OURS, key="ours", dialect=IN_BINARY),
]


def pick(*keys: str, among: Sequence[Competitor] = COMPETITORS) -> list[Competitor]:
    """The competitors with these keys, in the table's order; all without keys."""
    return [competitor for competitor in among if not keys or competitor.key in keys]


def as_browsers(competitors: Sequence[Competitor], key: str) -> list[Competitor]:
    """
    Those that negotiate, under a browser's offer, and beside the one with this key itself where clients offer nothing,
    or offer it and compress nothing.
    """
    (own,) = pick(key, among=competitors)
    return [
        *(replace(each, client="browser") for each in competitors if each.negotiates),
        replace(own, name="own protocol; offer, plain frames", key=f"{key}-plain", client="plain"),
        replace(own, name="own protocol; nothing offered", key=f"{key}-none"),
    ]


BROWSERS = as_browsers(COMPETITORS, "ours")
BROWSER_MEMBERS = as_browsers(BROADCASTERS, "ours")


def cores() -> tuple[int, int]:
    """A core for the server and another one for the load; with a single core they share it, and say so."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        print("only one core: server and load share it, rates say little")
    return available[0], available[-1]


@contextlib.contextmanager
def running(
    competitor: Competitor, core: int | None, *, workers: int = 1, port: int | None = None
) -> Iterator[tuple[int, int]]:
    """
    Run a competitor on `core` (None: on all of them); gives its port and process id.

    Raises NotAvailable with one clear line when it cannot run: not installed, its port busy, not answering.
    """
    port = free_port() if port is None else port
    refuse_busy(port)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NODE_PATH": str(node_modules()), "PYTHONHASHSEED": "0"}
    command = competitor.command(port, workers)
    with tempfile.TemporaryFile() as output, counter() as turns:
        environment |= turns.environment
        process = None
        try:
            with _uninterrupted():
                process = subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True,
                    preexec_fn=reaper.enlisting(),
                )  # fmt: skip
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            turns.belongs_to(process.pid)
            _wait(port, process, output.fileno())
            yield port, process.pid
        finally:
            if process is not None:
                _end(process)
                reaper.forget(process.pid)
                Counter.forget(process.pid)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back: between a fork and the assignment of its result it would leave a process that nobody knows."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def refuse_busy(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise NotAvailable(f"port {port} is busy") from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and its workers: they are a process group of their own, so a Ctrl-C never reaches them first."""
    for stop, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, stop)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _wait(port: int, process: subprocess.Popen[bytes], output: int) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotAvailable(_reason(os.pread(output, 1 << 16, 0).decode(errors="replace")))
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise NotAvailable(f"does not answer within {STARTS_WITHIN_S:.0f} s")


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (errors or lines or ["ended without a word"])[-1]
