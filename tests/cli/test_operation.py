"""What `socketsundso run` is told of a worker's operation, and who gets it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner

from socketsundso.cli import main
from socketsundso.cli import run as cli
from socketsundso.operations import Server, Settings, Supervisor
from socketsundso.telemetry import watch


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """The server and the parent process that uvicorn's command would have made."""
    (tmp_path / "apps.py").write_text("async def app(scope, receive, send): ...\n")
    made: list[tuple[Any, Any]] = []
    names = sys.modules["uvicorn.main"].__dict__
    monkeypatch.setattr(
        cli.uvicorn_command, "callback", lambda **_: made.append((names["Server"], names["Multiprocess"]))
    )
    for variable in (cli.APP_VARIABLE, cli.FACTORY_VARIABLE, cli.INTERFACE_VARIABLE):
        monkeypatch.setenv(variable, "")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "apps", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return made


def settings_of(made: Any) -> Settings:
    return made.keywords["settings"]  # type: ignore[no-any-return]


GIVEN = {
    "drain_s": ("2.5", 2.5),
    "health": ("/healthz", "/healthz"),
    "admin": ("unix:///tmp/not-there.sock", "/tmp/not-there.sock"),
    "max_connections": ("7", 7),
    "max_connections_per_ip": ("3", 3),
    "max_handshakes_per_s": ("0.5", 0.5),
    "max_queued_bytes": ("64m", 64 << 20),
    "max_rss": ("2G", 2 << 30),
}


@pytest.mark.parametrize("where", ["options", "environment"])
def test_every_setting_reaches_server_and_parent(
    told: list[tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Given on the command line or in the environment; uvicorn's own names are as before afterwards."""
    arguments = ["run", "apps:app"]
    for name, (given, _) in GIVEN.items():
        if where == "options":
            arguments += [f"--{name.replace('_', '-')}", given]
        else:
            monkeypatch.setenv(f"SOCKETSUNDSO_{name.upper()}", given)
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 0, ended.stderr
    ((server, parent),) = told
    assert (server.func, parent.func) == (Server, Supervisor)
    assert server.keywords["watch"] is parent.keywords["watch"] is watch
    assert settings_of(server) == settings_of(parent) == Settings(**{name: value for name, (_, value) in GIVEN.items()})
    assert sys.modules["uvicorn.main"].__dict__["Server"] is uvicorn.Server


def test_without_options_only_the_drain_is_on(told: list[tuple[Any, Any]]) -> None:
    """Nobody is refused, and no path is taken from the application, unless it is said."""
    assert CliRunner().invoke(main, ["run", "apps:app"]).exit_code == 0
    assert settings_of(told[0][0]) == Settings(drain_s=10.0)
    assert told[0][0].keywords.keys() == {"settings"}  # and nobody watches


def test_a_reload_does_not_drain(told: list[tuple[Any, Any]]) -> None:
    """Who edits a file does not wait for the browsers that look at it."""
    assert CliRunner().invoke(main, ["run", "apps:app", "--reload", "--drain-s", "5"]).exit_code == 0
    assert settings_of(told[0][0]).drain_s == 0


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("drain-s", "-1"),
        ("drain-s", "nan"),
        ("drain-s", "inf"),
        ("health", "healthz"),
        ("admin", "/no/folder/s"),
        ("admin", "unix:"),
        ("admin", f"/tmp/{'x' * 200}"),
        ("max-connections", "0"),
        ("max-connections-per-ip", "few"),
        ("max-handshakes-per-s", "0"),
        ("max-handshakes-per-s", "nan"),
        ("max-queued-bytes", "5X"),
        ("max-rss", "0"),
    ],
)
def test_what_is_no_setting(told: list[tuple[Any, Any]], option: str, given: str) -> None:
    """A mistake is one line that names the option, and nothing is served."""
    ended = CliRunner().invoke(main, ["run", "apps:app", f"--{option}", given])
    assert ended.exit_code == 2
    assert f"'--{option}'" in ended.stderr
    assert not told


def test_memory_where_the_system_does_not_tell(told: list[tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """`--max-rss` is refused there, rather than ignored."""
    monkeypatch.setattr(cli, "tells_memory", lambda: False)
    ended = CliRunner().invoke(main, ["run", "apps:app", "--max-rss", "2G"])
    assert ended.exit_code == 2
    assert "no /proc" in ended.stderr
