"""What `socketsundso run` is told of a worker's operation, and who gets it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from click.testing import CliRunner
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from socketsundso.cli import checks, main, options, served
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
    for variable in (served.APP_VARIABLE, served.FACTORY_VARIABLE, served.INTERFACE_VARIABLE):
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
        ("health", "/healthz?deep"),
        ("admin", "/no/folder/s"),
        ("admin", "unix:"),
        ("admin", f"/tmp/{'x' * 200}"),
        ("max-connections", "0"),
        ("max-connections-per-ip", "few"),
        ("max-handshakes-per-s", "0"),
        ("max-handshakes-per-s", "nan"),
        ("max-queued-bytes", "5X"),
        ("max-rss", "0"),
        # uvicorn's, which takes them and serves nobody, ends at once, or fails later
        ("workers", "0"),
        ("limit-concurrency", "0"),
        ("limit-max-requests", "-1"),
        ("limit-max-requests-jitter", "-9"),
        ("backlog", "-1"),
        ("ws-max-size", "-1"),
        ("ws-ping-interval", "nan"),
        ("timeout-keep-alive", "-1"),
        ("timeout-graceful-shutdown", "-1"),
        ("root-path", "api"),
        # and what it would take for the names of hosts, which no client has
        ("forwarded-allow-ips", "10.0.0.1/8"),
        ("forwarded-allow-ips", "nginx"),
        ("forwarded-allow-ips", "10.0.0.1,*"),
    ],
)
def test_what_is_no_setting(told: list[tuple[Any, Any]], option: str, given: str) -> None:
    """A mistake is one line that names the option, and nothing is served."""
    ended = CliRunner().invoke(main, ["run", "apps:app", f"--{option}", given])
    assert ended.exit_code == 2
    assert f"'--{option}'" in ended.stderr
    assert not told


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.json", "{"),
        ("log.json", '{"version": 1, "handlers": {"x": {"class": "no.Such"}}}'),
        ("log.ini", "no sections"),
        ("log.yaml", "version: ["),
    ],
)
def test_what_is_no_log_config(told: list[tuple[Any, Any]], tmp_path: Path, name: str, text: str) -> None:
    """The mistake is that option's, and nothing is served."""
    (tmp_path / name).write_text(text)
    ended = CliRunner().invoke(main, ["run", "apps:app", "--log-config", str(tmp_path / name)])
    assert (ended.exit_code, ended.stderr.count("Error:")) == (2, 1)
    assert "'--log-config'" in ended.stderr
    assert not told


def test_a_file_of_the_environment_has_settings_too(
    told: list[tuple[Any, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that stands there is not ignored; what is said on the command line counts more."""
    monkeypatch.setattr(os, "environ", {**os.environ})
    (tmp_path / "env").write_text("SOCKETSUNDSO_MAX_CONNECTIONS=7\nSOCKETSUNDSO_DRAIN_S=3\nUVICORN_PORT=4711\n")
    arguments = ["run", "apps:app", "--drain-s", "5", "--env-file", str(tmp_path / "env")]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert settings_of(told[0][0]) == Settings(drain_s=5.0, max_connections=7)


@pytest.mark.parametrize(
    ("given", "trusted", "strangers"),
    [
        (None, ["127.0.0.1", "::ffff:127.0.0.1"], ["10.0.0.1", "::1"]),
        ("10.0.0.0/8, ::1,", ["10.1.2.3", "::ffff:10.1.2.3", "::1"], ["127.0.0.1", "::ffff:11.0.0.1"]),
        ("*", ["203.0.113.9", "::ffff:203.0.113.9", None], []),
    ],
)
def test_a_proxy_is_trusted_in_both_forms_of_its_address(
    monkeypatch: pytest.MonkeyPatch, given: str | None, trusted: list[str | None], strangers: list[str]
) -> None:
    """A socket of both kinds, as `--host ::` makes with workers, shows an IPv4 address as one of IPv6."""
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    hosts = ProxyHeadersMiddleware(cast(Any, None), checks.checked_proxies(given)).trusted_hosts
    assert [host in hosts for host in (*trusted, *strangers)] == [True] * len(trusted) + [False] * len(strangers)


def test_memory_where_the_system_does_not_tell(told: list[tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """`--max-rss` is refused there, rather than ignored."""
    monkeypatch.setattr(options, "tells_memory", lambda: False)
    ended = CliRunner().invoke(main, ["run", "apps:app", "--max-rss", "2G"])
    assert ended.exit_code == 2
    assert "no /proc" in ended.stderr
