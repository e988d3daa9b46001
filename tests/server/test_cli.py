"""`socketsundso run`, as a user starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client
from click.testing import CliRunner, Result

import socketsundso
from socketsundso import cli

APP = '''
import os


async def app(scope, receive, send):
    """Tells the path, and what the environment says."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    told = scope["path"] + " " + os.environ.get("SOCKETSUNDSO_BACKPLANE", "none") + " " + str(os.getpid())
    await send({"type": "websocket.send", "text": told})
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served.py").write_text(APP)
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "socketsundso", "run", *arguments]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server that accepts connections, at the URL."""
    port = free_port()
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command(*arguments, "--port", str(port)), cwd=folder, stdout=out, stderr=out, text=True
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"ws://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def told(url: str) -> list[str]:
    with websockets.sync.client.connect(url, open_timeout=30) as client:
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


def test_workers_share_the_work(folder: Path) -> None:
    """With `--workers 2` two processes answer."""
    with running(folder, "served:app", "--workers", "2") as (url, _):
        pids: set[str] = set()
        deadline = time.monotonic() + 60
        while len(pids) < 2 and time.monotonic() < deadline:
            pids.add(told(url)[2])
        assert len(pids) == 2


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
    ended = subprocess.run(
        command(name, "--workers", workers),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_port_in_use(folder: Path, workers: str) -> None:
    """A port that is taken is named in one ERROR line, and the exit is not zero."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        arguments = ("served:app", "--port", str(taken.getsockname()[1]), "--workers", workers)
        ended = subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")]
    assert "ddress already in use" in line


def test_unix_socket(folder: Path) -> None:
    """`--uds` serves a Unix socket."""
    path = folder / "s"
    process = subprocess.Popen(command("served:app", "--uds", str(path)), cwd=folder, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with websockets.sync.client.unix_connect(str(path), uri="ws://x/y") as client:
            message = client.recv(30)
            assert isinstance(message, str)
            assert message.startswith("/y ")
    finally:
        process.terminate()
        process.wait(30)


def test_without_picows(folder: Path) -> None:
    """Where picows is missing the package imports, and `run` warns in one line and serves all the same."""
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['picows'] = None\n")
    environment = os.environ | {"PYTHONPATH": str(folder)}
    imported = subprocess.run(
        [sys.executable, "-c", "import socketsundso"],
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert imported.returncode == 0
    port = free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command("served:app", "--port", str(port)), cwd=folder, env=environment, stderr=log, stdout=log
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                assert told(f"ws://127.0.0.1:{port}/x")[0] == "/x"
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        process.terminate()
        process.wait(30)
    warnings = [line for line in (folder / "log").read_text().splitlines() if line.startswith("Warning")]
    assert len(warnings) == 1


def test_help_shows_uvicorns_options_and_ours() -> None:
    """`run --help` lists the options of the uvicorn that is installed, and --backplane."""
    shown = subprocess.run(command("--help"), capture_output=True, text=True, timeout=60, check=True).stdout
    for option in ("--host", "--ssl-keyfile", "--reload", "--workers", "--proxy-headers", "--backplane"):
        assert option in shown


# --- in this process: what is handed to uvicorn


@pytest.fixture
def handed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `run` hands to uvicorn instead of serving."""
    options: dict[str, Any] = {}
    monkeypatch.setattr(cli.uvicorn_command, "callback", lambda **given: options.update(given))
    for variable in (cli.APP_VARIABLE, cli.FACTORY_VARIABLE, cli.BACKPLANE_VARIABLE):
        monkeypatch.setenv(variable, "")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "served", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return options


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


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
    assert cli.load_app() is sys.modules["served"].app


def test_protocols_that_were_chosen_stay(handed: dict[str, Any]) -> None:
    """`--ws` and `--http` overrule; uvicorn's names for HTTP protocols mean ours, with their bounds."""
    invoke("run", "served:app", "--ws", "wsproto", "--http", "h11")
    assert (handed["ws"], handed["http"]) == ("wsproto", cli.HTTP_PROTOCOLS["h11"])
    invoke("run", "served:app", "--ws", "none", "--http", "some.module:Protocol")
    assert (handed["ws"], handed["http"]) == ("none", "some.module:Protocol")


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
    assert cli.load_app() is sys.modules["served"].app
    invoke("run", "served:Endpoint")
    (route,) = cli.load_app().routes
    assert (route.path, route.endpoint) == ("/", sys.modules["served"].Endpoint)


def test_mistakes_are_not_looked_for_under_reload(handed: dict[str, Any]) -> None:
    """With `--reload` a broken application is left to the process that reloads it; without, nothing is served."""
    assert invoke("run", "served:nothing", "--reload").exit_code == 0
    assert handed.pop("app")
    assert invoke("run", "served:nothing").exit_code == 1
    assert "app" not in handed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "served:app", "--no-such-option"], "No such option"),
        (["run", "served:app", "--port", "many"], "'many' is not a valid integer"),
        (["run", "served:app", "--port", "99999"], "99999 is not a port"),
        (["run", "served:app", "--ws", "nonsense"], "'--ws': Import string"),
        (["run", "served:app", "--ssl-certfile", "no.pem"], "'--ssl-certfile': no file no.pem"),
        (["run", "served:app", "--uds", "no/where"], "'--uds': no folder for no/where"),
        (["run", "served:app", "--fd", "999"], "'--fd': 999: Bad file descriptor"),
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


def test_version_and_help() -> None:
    """`--version` is one line, `--help` and `-h` list the commands, as does the command alone."""
    assert invoke("--version").stdout == f"socketsundso, version {socketsundso.__version__}\n"
    for arguments in (["--help"], ["-h"]):
        assert "Serve APP" in invoke(*arguments).stdout
    assert "Serve APP" in invoke().output


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
