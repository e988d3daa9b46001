"""`socketsundso run`, as a user starts it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import websockets.sync.client
from click.testing import CliRunner, Result

import socketsundso
from socketsundso.cli import main
from socketsundso.cli import run as cli
from socketsundso.cli.options import SHUTDOWN_TIMEOUT_S
from socketsundso.cli.served import load_app
from tests.server.serving import CERTIFICATE, request
from tests.serving import ROOT, free_port

APP = '''
import os


async def app(scope, receive, send):
    """Tells the path, what the environment says, and who asks how."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    told = [scope["path"], os.environ.get("SOCKETSUNDSO_BACKPLANE", "none"), str(os.getpid()), scope["scheme"]]
    told += scope["client"][:1] if scope["client"] else []
    await send({"type": "websocket.send", "text": " ".join(told)})
    while (await receive())["type"] != "websocket.disconnect":
        pass


def make():
    return app


class Endpoint:
    def __init__(self, scope, receive, send):
        self.scope, self.receive, self.send = scope, receive, send

    def __await__(self):
        assert self.scope["type"] == "websocket"
        return app(self.scope, self.receive, self.send).__await__()


number = 5
'''


@pytest.fixture(autouse=True)
def this_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that a test starts import what is tested here, whatever is installed."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served.py").write_text(APP)
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "socketsundso", "run", *arguments]


@contextlib.contextmanager
def started(folder: Path, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, whose output goes to `folder`/log."""
    with (folder / "log").open("w") as out:
        process = subprocess.Popen(command(*arguments), cwd=folder, stdout=out, stderr=out, text=True, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def until(condition: Callable[[], object], process: subprocess.Popen[str], log: Path) -> None:
    """Return when `condition` holds; to find no server, or one that is going down, means that it does not hold yet."""
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError, websockets.exceptions.WebSocketException):
            if condition():
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server that accepts connections, at the URL."""
    port = free_port()
    with started(folder, *arguments, "--port", str(port)) as process:
        until(lambda: accepts(port), process, folder / "log")
        yield f"ws://127.0.0.1:{port}", process


def accepts(port: int) -> bool:
    """Whether a server takes connections; it has closed this one, and counts it no more, on return."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as probe, contextlib.suppress(ConnectionError):
        probe.shutdown(socket.SHUT_WR)
        probe.recv(1)
    return True


def asked(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, which ends by itself."""
    return subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def told(url: str, **options: Any) -> list[str]:
    with websockets.sync.client.connect(url, open_timeout=30, **options) as client:
        message = client.recv(30)
        assert isinstance(message, str)
        return message.split()


def answer_to_a_wrong_version(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 1\r\n\r\n"
        )
        return raw.recv(100)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [(["served:app"], "/any"), (["served:make", "--factory"], "/any"), (["served:Endpoint"], "/")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_can_be_served(folder: Path, arguments: list[str], path: str) -> None:
    """An application, a factory, and a bare endpoint class, which lives at `/` and needs no lifespan."""
    with running(folder, *arguments, "--lifespan", "on" if "Endpoint" in arguments[0] else "auto") as (
        url,
        _,
    ):
        assert told(url + path)[0] == path
    assert "Traceback" not in (folder / "log").read_text()


def test_endpoints_live_at_the_root_only(folder: Path) -> None:
    """Any other path of a bare endpoint class is refused."""
    with running(folder, "served:Endpoint") as (url, _), pytest.raises(websockets.exceptions.InvalidStatus):
        told(url + "/other")


def test_it_is_our_protocol(folder: Path) -> None:
    """Without `--ws` frames are picows' job: a wrong version is answered with 426."""
    with running(folder, "served:app") as (url, _):
        assert answer_to_a_wrong_version(int(url.rpartition(":")[2])).startswith(b"HTTP/1.1 426 ")


def test_backplane_is_an_environment_variable(folder: Path) -> None:
    """`--backplane` sets SOCKETSUNDSO_BACKPLANE for every worker, before the application is imported."""
    with running(folder, "served:app", "--backplane", "redis://nowhere", "--workers", "2") as (url, _):
        assert told(url)[1] == "redis://nowhere"


def refuses(port: int) -> bool:
    """Whether nobody listens; looks for a moment."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            probe.recv(1)
    except ConnectionRefusedError:
        return True
    except OSError:
        pass
    return False


def test_workers_share_the_work(folder: Path) -> None:
    """With `--workers 2` two processes answer; they drain and end with their parent, and do not keep its port."""
    with running(folder, "served:app", "--workers", "2") as (url, parent):
        pids: set[str] = set()
        deadline = time.monotonic() + 60
        while len(pids) < 2 and time.monotonic() < deadline:
            pids.add(told(url)[2])
        assert len(pids) == 2
        with websockets.sync.client.connect(url) as client:
            client.recv(30)
            parent.kill()
            with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
                client.recv(30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        while not refuses(int(url.rpartition(":")[2])):
            assert time.monotonic() < deadline


def test_sigterm_closes_with_1012(folder: Path) -> None:
    """SIGTERM closes every connection with 1012 and ends the process."""
    with (
        running(folder, "served:app") as (url, process),
        websockets.sync.client.connect(url) as client,
    ):
        client.recv(30)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            client.recv(30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert process.wait(30) == -signal.SIGTERM or process.returncode == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:app", 'cannot serve nowhere:app: Could not import module "nowhere".'),
        ("served:nothing", 'cannot serve served:nothing: Attribute "nothing" not found in module "served".'),
        (
            "served:number",
            "cannot serve served:number: it is 5, not an ASGI application or an endpoint class",
        ),
        ("served", "must be in format"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_mistakes_are_one_line(folder: Path, name: str, said: str, workers: str) -> None:
    """What cannot be served is one line on stderr and a non-zero exit, also with workers."""
    ended = asked(folder, name, "--workers", workers)
    assert ended.returncode != 0
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_port_in_use(folder: Path, workers: str) -> None:
    """A port that is taken is named in one ERROR line, and the exit is not zero."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = asked(folder, "served:app", "--port", str(taken.getsockname()[1]), "--workers", workers)
    assert ended.returncode != 0
    (line,) = [line for line in ended.stderr.splitlines() if " ERROR:" in line]
    assert "ddress already in use" in line


def test_unix_socket(folder: Path) -> None:
    """`--uds` serves a Unix socket."""
    path = folder / "s"
    with started(folder, "served:app", "--uds", str(path)) as process:
        until(path.exists, process, folder / "log")
        with websockets.sync.client.unix_connect(str(path), uri="ws://x/y") as client:
            assert str(client.recv(30)).startswith("/y ")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_inherited_socket(folder: Path, workers: str) -> None:
    """`--fd` serves on a socket that whoever started the process has bound, as systemd does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        descriptor, port = listening.fileno(), listening.getsockname()[1]
        arguments = ("served:app", "--fd", str(descriptor), "--workers", workers)
        with started(folder, *arguments, pass_fds=[descriptor]):
            # connections wait in the socket until the server takes them
            assert told(f"ws://127.0.0.1:{port}/x")[0] == "/x"


def test_tls(folder: Path) -> None:
    """`--ssl-certfile` and `--ssl-keyfile` serve wss."""
    trusting = ssl.create_default_context(cafile=CERTIFICATE)
    with running(folder, "served:app", "--ssl-certfile", str(CERTIFICATE), "--ssl-keyfile", str(CERTIFICATE)) as (
        url,
        _,
    ):
        path, _, _, scheme, _ = told(url.replace("ws://127.0.0.1", "wss://localhost") + "/x", ssl=trusting)
    assert (path, scheme) == ("/x", "wss")


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        ([], ["wss", "10.1.2.3"]),
        (["--forwarded-allow-ips", "10.9.9.9"], ["ws", "127.0.0.1"]),
        (["--no-proxy-headers"], ["ws", "127.0.0.1"]),
    ],
    ids=["trusted", "not trusted", "switched off"],
)
def test_proxy_headers(folder: Path, arguments: list[str], seen: list[str]) -> None:
    """Scheme and client are the ones that a trusted proxy tells."""
    headers = {"X-Forwarded-For": "10.1.2.3", "X-Forwarded-Proto": "https"}
    with running(folder, "served:app", *arguments) as (url, _):
        assert told(url, additional_headers=headers)[3:] == seen


def test_largest_message(folder: Path) -> None:
    """`--ws-max-size` bounds a message: one byte more is answered with 1009."""
    with (
        running(folder, "served:app", "--ws-max-size", "10") as (url, _),
        websockets.sync.client.connect(url) as client,
    ):
        client.recv(30)
        client.send("x" * 10)
        client.send("x" * 11)
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            client.recv(30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


def test_concurrency_counts_websocket_connections(folder: Path) -> None:
    """With `--limit-concurrency` so many connections, ours among them, an HTTP request is answered with 503."""
    with running(folder, "served:app", "--limit-concurrency", "2") as (url, _):
        port = int(url.rpartition(":")[2])
        with websockets.sync.client.connect(url) as client:
            client.recv(30)
            with socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert raw.recv(100).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    ("level", "present", "absent"),
    [
        ("warning", [], ["INFO", "TRACE"]),
        ("info", ['"WebSocket /x" [accepted]'], ["TRACE"]),
        ("trace", ["WebSocket connection made", "WebSocket connection lost", '"WebSocket /x" [accepted]'], []),
    ],
)
def test_log_level(folder: Path, level: str, present: list[str], absent: list[str]) -> None:
    """`--log-level` says what is logged of a connection."""
    with running(folder, "served:app", "--log-level", level) as (url, _):
        told(url + "/x")
    log = (folder / "log").read_text()
    assert [text for text in present if text not in log] == []
    assert [text for text in absent if text in log] == []


# --- reloading


def ends(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def edited(folder: Path, source: str, condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """
    Save the application, and return when `condition` holds.

    Saves it again every few seconds: after each start uvicorn's reloader takes the files as they are at its first look.
    """
    saved_at = 0.0

    def noticed() -> object:
        nonlocal saved_at
        if time.monotonic() > saved_at + 3:
            (folder / "served.py").write_text(source)
            saved_at = time.monotonic()
        return condition()

    until(noticed, process, folder / "log")


NEW = APP.replace('scope["path"]', '"new"')


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_reload(folder: Path, ending: signal.Signals) -> None:
    """With `--reload` an edited file is served, and the server's end leaves no process behind."""
    with running(folder, "served:app", "--reload") as (url, process):
        before = told(url + "/x")
        edited(folder, NEW, lambda: told(url + "/x")[0] == "new", process)
        after = told(url + "/x")
        assert before[2] != after[2]
        process.send_signal(ending)
        process.wait(30)
        assert ends(int(before[2]))
        assert ends(int(after[2]))
    assert "Traceback" not in (folder / "log").read_text()


def is_closed(client: websockets.sync.client.ClientConnection) -> bool:
    with contextlib.suppress(TimeoutError, websockets.exceptions.ConnectionClosed):
        client.recv(0)
    return client.close_code is not None


def test_reload_does_not_wait_for_open_connections(folder: Path) -> None:
    """Who is connected gets 1012, a peer that hangs does not hold up the reload (Kludex/uvicorn#2943: for ever)."""
    with (
        running(folder, "served:app", "--reload") as (url, process),
        websockets.sync.client.connect(url) as client,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as hanging,
    ):
        client.recv(30)
        hanging.sendall(request())
        assert hanging.recv(100).startswith(b"HTTP/1.1 101 ")
        edited(folder, NEW, lambda: is_closed(client), process)
        until(lambda: told(url)[0] == "new", process, folder / "log")
    assert client.close_code == 1012


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_reload_of_a_mistake(folder: Path, ending: signal.Signals) -> None:
    """A mistake is told in the words that it has without `--reload`, and served as soon as it is corrected."""
    log, port = folder / "log", free_port()
    (folder / "served.py").write_text("app = 5\n")
    with started(folder, "served:app", "--reload", "--port", str(port)) as process:
        until(lambda: "Error: cannot serve served:app: it is 5" in log.read_text(), process, log)
        raised = "Error: cannot serve served:app: importing it raised"
        edited(folder, "import json\njson.loads('{')\n", lambda: raised in log.read_text(), process)
        edited(folder, APP, lambda: told(f"ws://127.0.0.1:{port}/x")[0] == "/x", process)
        process.send_signal(ending)
        process.wait(30)
    assert "uvicorn" not in log.read_text().partition("Traceback")[2].partition("Error: ")[0]


def test_without_picows(folder: Path) -> None:
    """Where picows is missing the package imports, and `run` warns in one line and serves all the same."""
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['picows'] = None\n")
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    imported = subprocess.run(
        [sys.executable, "-c", "import socketsundso"],
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert imported.returncode == 0
    port = free_port()
    with started(folder, "served:app", "--port", str(port), env=environment) as process:
        until(lambda: told(f"ws://127.0.0.1:{port}/x")[0] == "/x", process, folder / "log")
    warnings = [line for line in (folder / "log").read_text().splitlines() if line.startswith("Warning")]
    assert len(warnings) == 1


def test_help_shows_uvicorns_options_and_ours() -> None:
    """`run --help` lists the options of the uvicorn that is installed, and --backplane."""
    shown = subprocess.run(command("--help"), capture_output=True, text=True, timeout=60, check=True).stdout
    for option in (
        "--host",
        "--ssl-keyfile",
        "--reload",
        "--workers",
        "--proxy-headers",
        "--backplane",
        "--ws-deflate-min",
    ):
        assert option in shown


# --- in this process: what is handed to uvicorn


@pytest.fixture
def handed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `run` hands to uvicorn instead of serving."""
    options: dict[str, Any] = {}
    monkeypatch.setattr(cli.uvicorn_command, "callback", lambda **given: options.update(given))
    variables = (cli.APP_VARIABLE, cli.FACTORY_VARIABLE, cli.INTERFACE_VARIABLE, cli.BACKPLANE_VARIABLE)
    variables += (cli.DEFLATE_MIN_VARIABLE, cli.DEFLATE_CONTEXT_VARIABLE, cli.JSON_VARIABLE)
    for variable in (*variables, "SOCKETSUNDSO_TEST_SECRET"):
        monkeypatch.setenv(variable, "")
    monkeypatch.delenv("SOCKETSUNDSO_TEST_SECRET")
    monkeypatch.syspath_prepend(str(folder))
    for module in ("served", "kinds", "factories", "needs", "wrong"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return options


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_uvicorn_gets_our_protocols_and_every_option(handed: dict[str, Any]) -> None:
    """uvicorn is called with our protocols and what was given, and finds what to serve in the environment."""
    arguments = ["served:app", "--port", "1", "--root-path", "/x", "--backplane", "redis://h", "--no-proxy-headers"]
    assert invoke("run", *arguments).exit_code == 0
    assert handed["app"] == "socketsundso.cli:load_app"
    assert handed["factory"] is True
    assert (handed["ws"], handed["http"]) == (cli.PROTOCOL, cli.HTTP_PROTOCOLS["httptools"])
    assert (handed["port"], handed["root_path"], handed["proxy_headers"]) == (1, "/x", False)
    assert "backplane" not in handed
    assert os.environ[cli.BACKPLANE_VARIABLE] == "redis://h"
    assert load_app() is sys.modules["served"].app


@pytest.mark.parametrize(
    ("arguments", "minimum", "context"),
    [
        ([], "", ""),
        (["--ws-deflate-min", "256"], "256", ""),
        (["--ws-deflate-min", "off", "--ws-deflate-context"], "off", "1"),
    ],
)
def test_compression_is_told_by_the_environment(
    handed: dict[str, Any], arguments: list[str], minimum: str, context: str
) -> None:
    """Every worker finds there what is to be compressed; uvicorn knows no such option."""
    assert invoke("run", "served:app", *arguments).exit_code == 0
    assert (os.environ[cli.DEFLATE_MIN_VARIABLE], os.environ[cli.DEFLATE_CONTEXT_VARIABLE]) == (minimum, context)
    assert not {"ws_deflate_min", "ws_deflate_context"} & set(handed)


def test_protocols_that_were_chosen_stay(handed: dict[str, Any]) -> None:
    """`--ws` and `--http` overrule; uvicorn's names for HTTP protocols mean ours, with their bounds."""
    invoke("run", "served:app", "--ws", "wsproto", "--http", "h11")
    assert (handed["ws"], handed["http"]) == ("wsproto", cli.HTTP_PROTOCOLS["h11"])
    another = "uvicorn.protocols.http.h11_impl:H11Protocol"
    invoke("run", "served:app", "--ws", "none", "--http", another)
    assert (handed["ws"], handed["http"]) == ("none", another)


def test_what_is_missing_falls_back(handed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without picows and httptools uvicorn's own protocols are chosen, with one line of warning."""

    def nothing_of_ours(name: str) -> Any:
        if name.startswith("socketsundso.server"):
            raise ImportError(name)
        return lambda: None

    monkeypatch.setattr(cli, "import_from_string", nothing_of_ours)
    ended = invoke("run", "served:app")
    assert (handed["ws"], handed["http"]) == ("auto", "auto")
    assert ended.stderr.count("\n") == 1
    assert "picows" in ended.stderr


def test_factories_and_classes_are_told_apart(handed: dict[str, Any]) -> None:
    """A factory is called, a bare endpoint class is served at `/`, with or without `--factory`."""
    invoke("run", "served:make", "--factory")
    assert load_app() is sys.modules["served"].app
    invoke("run", "served:Endpoint")
    (route,) = load_app().routes
    assert (route.path, route.endpoint) == ("/", sys.modules["served"].Endpoint)


BROKEN = """
def configure():
    return int("eighty")


settings = configure()
"""


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        (
            BROKEN,
            [
                "Traceback (most recent call last):",
                '  File "{file}", line 6, in <module>',
                '  File "{file}", line 3, in configure',
                "ValueError: invalid literal for int() with base 10: 'eighty'",
                "Error: cannot serve wrong:app: importing it raised ValueError",
            ],
        ),
        (
            "import no_such_module",
            [
                "Traceback (most recent call last):",
                '  File "{file}", line 1, in <module>',
                "ModuleNotFoundError: No module named 'no_such_module'",
                "Error: cannot serve wrong:app: importing it raised ModuleNotFoundError",
            ],
        ),
        (
            "def app(:",
            [
                '  File "{file}", line 1',
                "SyntaxError: invalid syntax",
                "Error: cannot serve wrong:app: importing it raised SyntaxError",
            ],
        ),
        (
            "import sys; sys.exit()",
            [
                "Traceback (most recent call last):",
                '  File "{file}", line 1, in <module>',
                "SystemExit",
                "Error: cannot serve wrong:app: importing it raised SystemExit",
            ],
        ),
    ],
    ids=["raises", "needs what is missing", "is no Python", "is a script that ends"],
)
def test_a_module_that_cannot_be_imported(handed: dict[str, Any], folder: Path, source: str, lines: list[str]) -> None:
    """Its traceback is shown from its own first line on, and one line says what follows from it."""
    file = folder / "wrong.py"
    file.write_text(source)
    ended = invoke("run", "wrong:app")
    assert ended.exit_code == 1
    shown = [line for line in ended.stderr.splitlines() if not line.startswith("    ")]  # the lines of the source
    assert shown == [line.format(file=file) for line in lines]
    assert not handed


def test_a_package_that_is_not_there(handed: dict[str, Any]) -> None:
    """A package that cannot be found is one line, like a module."""
    ended = invoke("run", "no_such_package.module:app")
    assert ended.stderr.splitlines() == [
        "Error: cannot serve no_such_package.module:app: "
        "importing it raised ModuleNotFoundError: No module named 'no_such_package'"
    ]


def test_a_path_is_no_module(handed: dict[str, Any]) -> None:
    """A path in place of a module is one line that says so."""
    ended = invoke("run", "./served.py:app")
    assert ended.exit_code == 1
    assert ended.stderr == "Error: cannot serve ./served.py:app: './served.py' is not the name of a module\n"


KINDS = """
import functools

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

fastapi = FastAPI()
middleware = CORSMiddleware(fastapi)


async def asgi3(scope, receive, send): ...
async def with_defaults(scope, receive, send, more=None): ...
async def variadic(*arguments): ...
async def wrapped(name, scope, receive, send): ...
partial = functools.partial(wrapped, "name")


def returning(scope, receive, send):
    return asgi3(scope, receive, send)


def asgi2(scope):
    return Asgi2(scope)


class Asgi2:
    def __init__(self, scope): ...
    async def __call__(self, receive, send): ...


class Instance:
    async def __call__(self, scope, receive, send): ...
    async def method(self, scope, receive, send): ...
    async def one(self, scope): ...


class Returning:
    def __call__(self, scope, receive, send):
        return asgi3(scope, receive, send)


instance = Instance()
method = instance.method
returning_instance = Returning()
unspoken = type("Unspoken", (), {"__call__": with_defaults, "__signature__": "none"})()


def wsgi(environ, start_response): ...
async def handler(websocket): ...
async def main(): ...
async def four(a, b, c, d): ...
def keyword(*, scope): ...
one = instance.one


class Silent:
    def __init__(self, scope): ...


class Three:
    def __init__(self, scope, receive, send): ...
"""


def loaded() -> uvicorn.Config:
    """What uvicorn makes of the application that it is given."""
    config = uvicorn.Config("socketsundso.cli:load_app", factory=True, proxy_headers=False, log_config=None, ws="none")
    config.load()
    return config


@pytest.mark.parametrize("name", ["fastapi", "middleware"])
def test_applications_are_served_as_they_are(handed: dict[str, Any], folder: Path, name: str) -> None:
    """What uvicorn takes for ASGI 3 gets nothing around it."""
    (folder / "kinds.py").write_text(KINDS)
    assert invoke("run", f"kinds:{name}").exit_code == 0
    assert loaded().loaded_app is getattr(sys.modules["kinds"], name)


@pytest.mark.parametrize(
    "name",
    [
        *("asgi3", "with_defaults", "variadic", "instance", "unspoken"),
        *("partial", "method", "returning", "returning_instance"),  # which uvicorn by itself takes for ASGI 2
    ],
)
def test_whatever_may_be_an_application_is_served(
    handed: dict[str, Any], folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Functions, instances, methods, partials, and what hides its signature are called with all three arguments."""
    (folder / "kinds.py").write_text(KINDS)
    assert invoke("run", f"kinds:{name}").exit_code == 0
    app: Any = loaded().loaded_app
    asyncio.run(app({"type": "websocket"}, None, None))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["asgi2", "Asgi2"])
def test_asgi_2(handed: dict[str, Any], folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What takes the scope alone is served, with a line that says as what: it may be no application at all."""
    (folder / "kinds.py").write_text(KINDS)
    assert invoke("run", f"kinds:{name}").exit_code == 0
    app: Any = loaded().loaded_app
    asyncio.run(app({"type": "websocket"}, None, None))
    said = f"Warning: kinds:{name} is served as an ASGI 2 application, as with --interface asgi2\n"
    assert capsys.readouterr().err == said
    assert invoke("run", f"kinds:{name}", "--interface", "asgi2").exit_code == 0
    load_app()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["wsgi", "handler", "main", "four", "keyword", "one", "Silent", "Three"])
def test_what_cannot_be_called_as_an_application(handed: dict[str, Any], folder: Path, name: str) -> None:
    """What its signature shows to be something else is refused in one line, before anything is served."""
    (folder / "kinds.py").write_text(KINDS)
    ended = invoke("run", f"kinds:{name}")
    assert ended.exit_code == 1
    assert ended.stderr.count("\n") == 1
    assert "does not take (scope, receive, send): not an ASGI application" in ended.stderr
    assert not handed


def test_wsgi_on_demand(handed: dict[str, Any], folder: Path) -> None:
    """With `--interface wsgi` an application takes two arguments."""
    (folder / "kinds.py").write_text(KINDS)
    assert invoke("run", "kinds:wsgi", "--interface", "wsgi").exit_code == 0
    assert load_app() is sys.modules["kinds"].wsgi


FACTORIES = """
def fails():
    raise RuntimeError("no configuration")


def mistypes():
    return len(5)


def ends():
    raise SystemExit


def gives_nothing(): ...


def gives_a_handler():
    async def handler(websocket): ...

    return handler
"""


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("fails", "calling it raised RuntimeError"),
        ("mistypes", "calling it raised TypeError"),
        ("ends", "calling it raised SystemExit"),
        ("gives_nothing", "calling it gave None, not an ASGI application"),
        ("gives_a_handler", "not an ASGI application"),
    ],
)
def test_a_factory_that_fails(
    handed: dict[str, Any], folder: Path, name: str, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The traceback begins in the factory, and the process ends with the status that is not tried again."""
    (folder / "factories.py").write_text(FACTORIES)
    assert invoke("run", f"factories:{name}", "--factory").exit_code == 0
    with pytest.raises(SystemExit) as ended:
        load_app()
    assert ended.value.code == 3
    shown = capsys.readouterr().err.splitlines()
    assert shown[-1].startswith(f"Error: cannot serve factories:{name}: ")
    assert shown[-1].endswith(last)
    if "raised" in last:
        assert shown[1].startswith(f'  File "{folder / "factories.py"}", line ')


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (FACTORIES.replace("fails", "make"), "Error: cannot serve factories:make: calling it raised RuntimeError"),
        (
            """
def make():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
    return app
""",
            "no database",
        ),
    ],
    ids=["factory", "lifespan"],
)
def test_workers_that_cannot_start(folder: Path, source: str, said: str) -> None:
    """No worker is started again, and the exit status tells (Kludex/uvicorn#1115: for ever, then 0)."""
    (folder / "factories.py").write_text(source)
    ended = asked(folder, "factories:make", "--factory", "--workers", "2", "--port", "0")
    assert ended.returncode == 3
    assert said in ended.stderr
    assert ended.stderr.count(said) <= 2


def test_what_is_told_before_there_is_a_log_is_json_too(
    handed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Warnings about the command line, and those of a worker that finds what it is to serve, with `--log-json`."""
    ended = invoke("run", "served:make", "--log-json", "--workers", "2")
    assert json.loads(ended.stderr)["message"].startswith("2 workers on memory:// do not hear each other")
    load_app()
    told = json.loads(capsys.readouterr().err)
    assert (told["level"], told["message"]) == (
        "warning",
        "served:make takes no arguments: called as with --factory",
    )


def test_a_factory_is_seen_without_the_option(handed: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """What takes no arguments is called, as uvicorn does, with a line that names the option."""
    assert invoke("run", "served:make").exit_code == 0
    assert load_app() is sys.modules["served"].app
    assert capsys.readouterr().err == "Warning: served:make takes no arguments: called as with --factory\n"


def test_environment_of_a_file_is_there_at_import(handed: dict[str, Any], folder: Path) -> None:
    """`--env-file` is read before the application is imported."""
    (folder / "needs.py").write_text(f"import os\n{APP}\nsecret = os.environ['SOCKETSUNDSO_TEST_SECRET']\n")
    (folder / ".env").write_text("SOCKETSUNDSO_TEST_SECRET=found\n")
    assert invoke("run", "needs:app", "--env-file", str(folder / ".env")).exit_code == 0
    assert sys.modules["needs"].secret == "found"


def test_environment_file_needs_dotenv(handed: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where python-dotenv is missing `--env-file` says so in one line."""
    monkeypatch.setitem(sys.modules, "dotenv", None)
    (folder / ".env").write_text("")
    ended = invoke("run", "served:app", "--env-file", str(folder / ".env"))
    assert ended.exit_code == 2
    assert "'--env-file': python-dotenv is not installed" in ended.stderr


def test_an_encrypted_key(handed: dict[str, Any]) -> None:
    """A password that was given is tried; one that was not is asked for by the server alone."""
    locked = CERTIFICATE.with_name("localhost-locked.pem")  # the same key, with the password "right"
    arguments = ["served:app", "--ssl-certfile", str(CERTIFICATE), "--ssl-keyfile", str(locked)]
    assert invoke("run", *arguments).exit_code == 0
    assert invoke("run", *arguments, "--ssl-keyfile-password", "right").exit_code == 0
    assert invoke("run", *arguments, "--ssl-keyfile-password", "wrong").exit_code == 2


def test_mistakes_are_not_looked_for_under_reload(handed: dict[str, Any]) -> None:
    """With `--reload` a broken application is left to the process that reloads it; without, nothing is served."""
    assert invoke("run", "served:nothing", "--reload").exit_code == 0
    assert handed.pop("app")
    assert invoke("run", "served:nothing").exit_code == 1
    assert "app" not in handed


TLS = ["--ssl-certfile", str(CERTIFICATE)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "served:app", "--no-such-option"], "No such option"),
        (["run", "served:app", "--port", "many"], "'many' is not a valid integer"),
        (["run", "served:app", "--port", "99999"], "99999 is not a port"),
        (["run", "served:app", "--ws", "nonsense"], "'--ws': Import string"),
        (["run", "served:app", "--http", "nonsense"], "'--http': Import string"),
        (["run", "served:app", "--loop", "no.module:loop"], "'--loop': No module named 'no'"),
        (["run", "served:app", "--header", "X-Name"], "'--header': 'X-Name' is not NAME:VALUE"),
        (["run", "served:app", "--ssl-certfile", "no.pem"], "'--ssl-certfile': no file no.pem"),
        (["run", "served:app", "--ssl-certfile", __file__], f"'--ssl-certfile': cannot use {__file__}"),
        (["run", "served:app", "--ssl-keyfile", __file__], "'--ssl-keyfile': --ssl-certfile is needed too"),
        (["run", "served:app", "--header", ":value"], "'--header': ':value' is not NAME:VALUE"),
        (["run", "served:app", "--header", "X: 1\r\nY: 2"], "'--header': 'X: 1\\r\\nY: 2' is not NAME:VALUE"),
        (["run", "served:app", "--header", "X:\u20ac"], "'--header': 'X:\u20ac' is not NAME:VALUE"),
        (["run", "served:app", *TLS, "--ssl-version", "99"], "'--ssl-version': invalid or unsupported"),
        (["run", "served:app", *TLS, "--ssl-cert-reqs", "99"], "'--ssl-cert-reqs': 99 is not a valid VerifyMode"),
        (["run", "served:app", *TLS, "--ssl-ciphers", "none"], "No cipher can be selected"),
        (["run", "served:app", *TLS, "--ssl-ca-certs", __file__], "'--ssl-ca-certs': "),
        (["run", "served:app", "--backplane", "nowhere://"], "'--backplane': the backplane's nowhere:// URL names no"),
        (
            ["run", "served:app", "--ws-deflate-min", "1k"],
            "'--ws-deflate-min': '1k' is neither a number",
        ),
        (["run", "served:app", "--env-file", "/"], "'--env-file': / is a folder"),
        (["run", "served:app", "--uds", "no/where"], "'--uds': no folder for no/where"),
        (["run", "served:app", "--uds", ""], "'--uds': a path is needed"),
        (["run", "served:app", "--uds", "x" * 200], "'--uds': AF_UNIX path too long"),
        (["run", "served:app", "--uds", __file__], f"'--uds': {__file__} exists and is no socket"),
        (["run", "served:app", "--fd", "999"], "'--fd': [Errno 9] Bad file descriptor"),
        (["run", "served:app", "--backplane", "kafka://h"], "'--backplane': the backplane's kafka:// URL names no"),
        (["run", "served:app", "--backplane", "redis://h?presence_ttl_s=0"], "'--backplane': a backplane's presence"),
        (["run"], "Missing argument 'APP'"),
        (["walk"], "No such command 'walk'"),
    ],
)
def test_a_wrong_command_line(handed: dict[str, Any], arguments: list[str], said: str) -> None:
    """A mistake in the command line is named on stderr, with exit code 2."""
    ended = invoke(*arguments)
    assert ended.exit_code == 2
    assert said in ended.stderr
    assert not handed


@pytest.mark.parametrize(("option", "module"), [("http", "h11"), ("ws", "wsproto"), ("loop", "uvloop")])
def test_what_is_not_installed(
    handed: dict[str, Any], monkeypatch: pytest.MonkeyPatch, option: str, module: str
) -> None:
    """A choice of uvicorn's whose package is missing is named on stderr, with exit code 2."""
    for name in [name for name in sys.modules if name.startswith("uvicorn.") and name.endswith(f"{module}_impl")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"uvicorn.loops.{module}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    ended = invoke("run", "served:app", f"--{option}", module)
    assert ended.exit_code == 2
    assert f"'--{option}': " in ended.stderr
    assert not handed


def test_environment_variables_of_uvicorn(handed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """UVICORN_PORT and the like stand for options, UVICORN_APP for the application, as with uvicorn's command."""
    for name, value in (("APP", "served:app"), ("PORT", "77"), ("ROOT_PATH", "/x"), ("RELOAD", "1")):
        monkeypatch.setenv(f"UVICORN_{name}", value)
    monkeypatch.setenv(cli.BACKPLANE_VARIABLE, "memory://")
    assert invoke("run", "--root-path", "/y").exit_code == 0
    assert (handed["port"], handed["root_path"], handed["reload"]) == (77, "/y", True)
    assert os.environ[cli.APP_VARIABLE] == "served:app"
    monkeypatch.setenv(cli.BACKPLANE_VARIABLE, "nowhere://")
    assert "'--backplane': the backplane's nowhere:// URL names no engine" in invoke("run").stderr


def test_number_of_workers_in_the_environment(handed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """WEB_CONCURRENCY must be a number, unless --workers overrules it."""
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    ended = invoke("run", "served:app")
    assert ended.exit_code == 2
    assert "WEB_CONCURRENCY is 'many', not a number" in ended.stderr
    assert not handed
    assert invoke("run", "served:app", "--workers", "1").exit_code == 0


def test_spaces_around_a_header(handed: dict[str, Any]) -> None:
    """`--header "NAME: VALUE"` means what it says: on h11 a value that begins with a space breaks each response."""
    assert invoke("run", "served:app", "--header", "X-Name: a b", "--header", "Empty:").exit_code == 0
    assert handed["headers"] == ["X-Name:a b", "Empty:"]


def test_what_uvicorn_cannot_use(handed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What only uvicorn finds wrong is one line too; with `--log-level debug` it has a traceback."""

    def cannot(**given: Any) -> None:
        raise ValueError("of no use")

    monkeypatch.setattr(cli.uvicorn_command, "callback", cannot)
    ended = invoke("run", "served:app")
    said = "Error: cannot serve served:app: ValueError: of no use (--log-level debug tells where)\n"
    assert (ended.exit_code, ended.stderr) == (1, said)
    assert isinstance(invoke("run", "served:app", "--log-level", "debug").exception, ValueError)


def test_a_descriptor_that_is_no_socket(handed: dict[str, Any], folder: Path) -> None:
    """`--fd` with an open file is named on stderr, with exit code 2."""
    with (folder / "served.py").open() as file:
        ended = invoke("run", "served:app", "--fd", str(file.fileno()))
    assert ended.exit_code == 2
    assert "is no socket" in ended.stderr


def test_version_and_help() -> None:
    """`--version` is one line, `--help` and `-h` list the commands, as does the command alone."""
    assert invoke("--version").stdout == f"socketsundso, version {socketsundso.__version__}\n"
    for arguments in (["--help"], ["-h"]):
        assert "Serve APP" in invoke(*arguments).stdout
    assert "Serve APP" in invoke().output
    assert invoke("run", "--version").stdout.startswith(f"Running uvicorn {uvicorn.__version__} with ")


def test_module_is_the_command() -> None:
    """`python -m socketsundso` is the command `socketsundso`, and says so."""
    shown = subprocess.run(
        [sys.executable, "-m", "socketsundso", "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert shown.startswith("Usage: python -m socketsundso ")


def test_endpoint_of_the_examples(tmp_path: Path) -> None:
    """`socketsundso run examples.chat:Chat` serves the bare class."""
    arguments = ("examples.chat:Chat", "--app-dir", str(Path(__file__).parents[2]))
    with running(tmp_path, *arguments) as (url, _), websockets.sync.client.connect(url) as client:
        client.send('{"type": "no_such_event"}')
        assert "unknown_event" in str(client.recv(30))


def test_endpoint_of_ours_lives_at_the_root_only(tmp_path: Path) -> None:
    """Another path, and what is no WebSocket, is answered as by Starlette; below a root path it is served, too."""
    arguments = (
        "examples.chat:Chat",
        "--app-dir",
        str(Path(__file__).parents[2]),
        "--root-path",
        "/api",
        "--lifespan",
        "on",
    )
    with running(tmp_path, *arguments) as (url, _):
        with websockets.sync.client.connect(url) as client:
            client.send('{"type": "no_such_event"}')
            assert "unknown_event" in str(client.recv(30))
        with pytest.raises(websockets.exceptions.InvalidStatus, match="403"):
            websockets.sync.client.connect(url + "/other")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url.replace("ws://", "http://"))


ENDLESS = """
import asyncio

from socketsundso import Endpoint, event


class Endless(Endpoint):
    @event
    async def on_wait(self) -> None:
        await self.send({"type": "waiting"})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("told: cancelled", flush=True)
            raise

    async def on_disconnect(self, code: int) -> None:
        print("told:", code, flush=True)
"""


@pytest.mark.parametrize("options", [[], ["--workers", "2"], ["--loop", "asyncio"]], ids=["one", "workers", "asyncio"])
def test_a_handler_that_never_ends_does_not_keep_the_process(tmp_path: Path, options: list[str]) -> None:
    """After SIGTERM and the time that is given to handlers it is cancelled, told 1012, and the process ends."""
    (tmp_path / "endless.py").write_text(ENDLESS)
    with running(
        tmp_path, "endless:Endless", "--drain-s", "0.2", "--timeout-graceful-shutdown", "1", *options
    ) as served:
        url, process = served
        with websockets.sync.client.connect(url) as client:
            client.send('{"type": "wait"}')
            assert client.recv(timeout=20) == '{"type":"waiting"}'
            process.send_signal(signal.SIGTERM)
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                client.recv(timeout=20)
            assert client.close_code == 1012
        assert process.wait(30) == (0 if "--workers" in options else -signal.SIGTERM)
    told = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("told:")]
    assert told == ["told: cancelled", "told: 1012"]


@pytest.mark.parametrize(
    ("arguments", "environment", "seconds"),
    [
        ([], {}, 10),
        (["--timeout-graceful-shutdown", "3"], {}, 3),
        (["--timeout-graceful-shutdown", "0"], {}, 0),
        ([], {"UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN": "77"}, 77),
    ],
    ids=["default", "option", "zero", "environment"],
)
def test_a_shutdown_is_bounded_by_default(
    handed: dict[str, Any],
    arguments: list[str],
    environment: dict[str, str],
    seconds: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """10 s, where uvicorn waits for ever; what is said holds, and uvicorn's own command is as it was."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    invoke("run", "served:app", *arguments)
    assert handed["timeout_graceful_shutdown"] == seconds
    (theirs,) = [each for each in cli.uvicorn_command.params if each.name == "timeout_graceful_shutdown"]
    assert theirs.default is not SHUTDOWN_TIMEOUT_S


@pytest.mark.parametrize(
    ("arguments", "environment", "warned"),
    [
        (["--workers", "2"], {}, True),
        ([], {"WEB_CONCURRENCY": "3"}, True),
        ([], {"UVICORN_WORKERS": "3"}, True),
        (["--workers", "2", "--backplane", "memory://"], {}, True),
        (["--workers", "2", "--backplane", "redis://nowhere"], {}, False),
        (["--workers", "2"], {"SOCKETSUNDSO_BACKPLANE": "redis://nowhere"}, False),
        (["--workers", "1"], {}, False),
        (["--workers", "1"], {"WEB_CONCURRENCY": "3"}, False),
        (["--workers", "2", "--reload"], {}, False),
        ([], {}, False),
    ],
    ids=str,
)
def test_workers_that_do_not_hear_each_other(
    handed: dict[str, Any],
    arguments: list[str],
    environment: dict[str, str],
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several on memory:// are told of, once and in one line; nobody else is."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said = [line for line in invoke("run", "served:app", *arguments).output.splitlines() if "hear each other" in line]
    assert len(said) == warned
    assert all("workers on memory://" in line and "--backplane" in line for line in said)


RIGID_LOOP = """
import asyncio


class Loop(asyncio.SelectorEventLoop):
    async def create_connection(self, *args, **kwargs):
        transport, protocol = await super().create_connection(*args, **kwargs)
        transport.set_protocol = refuse
        return transport, protocol


def refuse(protocol):
    raise NotImplementedError("protocol cannot be changed")
"""


def test_an_event_loop_that_cannot_serve_websockets(
    handed: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that cannot change their protocol, as rloop's, are told in one line when the server starts."""
    (folder / "rigid.py").write_text(RIGID_LOOP)
    monkeypatch.syspath_prepend(str(folder))
    ended = invoke("run", "served:app", "--loop", "rigid:Loop")
    assert ended.exit_code == 2
    said = ended.output.strip().splitlines()[-1]
    assert said.startswith("Error: Invalid value for '--loop': rigid:Loop cannot serve WebSockets")
    assert invoke("run", "served:app", "--loop", "rigid:Loop", "--ws", "none").exit_code == 0
    assert invoke("run", "served:app", "--loop", "uvloop:new_event_loop").exit_code == 0
