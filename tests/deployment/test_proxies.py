"""The proxies of docs/deployment.md, as they are told there: with TLS, before two hosts that Redis joins."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.backplanes.engines import running as engine
from tests.pages import files_of
from tests.rooms.serving import Client, run
from tests.server.serving import CERTIFICATE, until
from tests.serving import free_port, serving, wait_for

TOLD = files_of("deployment.md")
PATH = f"{os.environ['PATH']}:/usr/sbin"  # where Debian has servers
ADDRESS = "127.0.0.9"
"""The client's, which is neither the proxies' nor one that they are told to believe."""


def nginx(folder: Path, port: int, hosts: list[int]) -> list[str]:
    site = adapted(
        TOLD["/etc/nginx/conf.d/chat.conf"],
        hosts,
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/chat.example.com.pem", str(CERTIFICATE)),
        ("/etc/ssl/private/chat.example.com.key", str(CERTIFICATE)),
        ("/var/log/nginx/chat.log", "/dev/stdout"),
        ("/var/log/nginx/chat.error.log", "stderr"),
    )
    (folder / "chat.conf").write_text(site)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;\n"
        f"events {{}} http {{ access_log off; {paths} include {folder}/chat.conf; }}\n"
    )
    return ["nginx", "-e", "stderr", "-c", f"{folder}/nginx.conf"]


def haproxy(folder: Path, port: int, hosts: list[int]) -> list[str]:
    configuration = adapted(
        TOLD["/etc/haproxy/haproxy.cfg"],
        hosts,
        ("bind :443", f"bind 127.0.0.1:{port}"),
        ("/etc/haproxy/chat.example.com.pem", str(CERTIFICATE)),
        ("maxconn 100000", "maxconn 1000"),  # more than this process may have
    )
    (folder / "haproxy.cfg").write_text(configuration)
    return ["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"]


def caddy(folder: Path, port: int, hosts: list[int]) -> list[str]:
    site = adapted(
        TOLD["/etc/caddy/Caddyfile"],
        hosts,
        ("chat.example.com {", f"https://localhost:{port} {{\n tls {CERTIFICATE} {CERTIFICATE}\n"),
        # neither the port of its administration, nor that which leads plain HTTP to TLS
        ("log default {", "admin off\n auto_https disable_redirects\n log default {"),
    )
    (folder / "Caddyfile").write_text(site)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile"]


PROXIES: list[Callable[[Path, int, list[int]], list[str]]] = [nginx, haproxy, caddy]


def adapted(told: str, hosts: list[int], *changes: tuple[str, str]) -> str:
    """What is told, with the ports and files of this machine."""
    addresses = [(f"10.0.0.1{number}:8001", f"127.0.0.1:{port}") for number, port in enumerate(hosts, 1)]
    for old, new in (*addresses, *changes):
        assert old in told
        told = told.replace(old, new)
    return told


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[int]]:
    """The ports of two servers."""
    with engine("redis") as redis, contextlib.ExitStack() as stack:
        options = ["--health", "/healthz", "--drain-s", "1", "--backplane", redis.url]
        ports = [free_port(), free_port()]
        for port in ports:
            command = ["-m", "socketsundso", "run", "tests.deployment.host:Host", "--port", str(port), *options]
            stack.enter_context(serving(*command, port=port))
        yield ports


LOGS: dict[str, Path] = {}
"""What each proxy writes, by its name."""


@contextlib.contextmanager
def proxied(proxy: Callable[[Path, int, list[int]], list[str]], hosts: list[int], folder: Path) -> Iterator[int]:
    """The port of a proxy that answers."""
    if shutil.which(proxy.__name__, path=PATH) is None:
        pytest.skip(f"no {proxy.__name__} on this machine")
    port = free_port()
    home = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    command, environment = proxy(folder, port, hosts), {**os.environ, **home, "PATH": PATH}
    LOGS[proxy.__name__] = folder / "log"
    with (
        LOGS[proxy.__name__].open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            wait_for(port, process)
            yield port
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def proxies(hosts: list[int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of all proxies, by name."""
    with contextlib.ExitStack() as stack:
        yield {
            proxy.__name__: stack.enter_context(proxied(proxy, hosts, tmp_path_factory.mktemp(proxy.__name__)))
            for proxy in PROXIES
        }


@contextlib.asynccontextmanager
async def client(port: int, query: str = "", **options: Any) -> AsyncIterator[Client]:
    trust = ssl.create_default_context(cafile=CERTIFICATE)
    options |= {"host": "127.0.0.1", "local_addr": (ADDRESS, 0), "ssl": trust}
    async with connect(f"wss://localhost:{port}/{query}", **options) as connection:
        yield Client(connection)


each_proxy = pytest.mark.parametrize("name", [proxy.__name__ for proxy in PROXIES])


@each_proxy
def test_the_client_is_who_it_is_whatever_it_says(proxies: dict[str, int], name: str) -> None:
    """Its address and its scheme reach the application through the proxy; those that it makes up do not."""
    made_up = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "http"}

    async def main() -> None:
        async with client(proxies[name], additional_headers=made_up) as ada:
            told = await ada.call("who")
        assert (told["client"], told["scheme"]) == (ADDRESS, "wss")

    run(main)


@each_proxy
def test_its_lines_have_no_query(proxies: dict[str, int], name: str) -> None:
    """A connection is a line when it has ended, of who it was and how long, without a token."""

    async def main() -> None:
        async with client(proxies[name], "?token=tok-of-query") as ada:
            await ada.call("who")
        await until(lambda: ADDRESS in LOGS[name].read_text())

    run(main)
    assert "tok-of-query" not in LOGS[name].read_text()


@each_proxy
def test_two_hosts_behind_a_proxy_are_one(proxies: dict[str, int], name: str) -> None:
    """Two clients are on different hosts, where the fewest are, and hear each other."""

    async def main() -> None:
        async with client(proxies[name]) as ada, client(proxies[name]) as grace:
            assert (await ada.call("who"))["pid"] != (await grace.call("who"))["pid"]
            for each in (ada, grace):
                await each.call("enter", room=name)
            await ada.call("say", room=name, text="hi")
            assert await grace.receive() == {"type": "said", "text": "hi"}

    run(main)


@each_proxy
def test_compression_is_agreed_on_through_a_proxy(proxies: dict[str, int], name: str) -> None:
    """permessage-deflate is between client and server, and what it makes of a message arrives."""
    text = "so much to say " * 200

    async def main() -> None:
        async with client(proxies[name]) as ada, client(proxies[name]) as grace:
            assert grace.connection.response is not None
            assert "permessage-deflate" in grace.connection.response.headers["Sec-WebSocket-Extensions"]
            await grace.call("enter", room="long")
            await ada.call("say", room="long", text=text)
            assert (await grace.receive())["text"] == text

    run(main)


@each_proxy
def test_a_proxy_is_more_patient_than_the_server(name: str) -> None:
    """Two pings of the server fit into the silence that it bears, unless it bears all of it."""
    told = next(text for path, text in TOLD.items() if path.startswith(f"/etc/{name}/"))
    patience = re.findall(r"(?:proxy_read_timeout|proxy_send_timeout|timeout tunnel) (\d+)s", told)
    assert len(patience) == {"nginx": 2, "haproxy": 1, "caddy": 0}[name]
    assert all(int(seconds) > 2 * (20 + 20) for seconds in patience)


def test_a_restart_reaches_clients_as_1012_and_new_ones_meet_the_other_host(proxies: dict[str, int]) -> None:
    """While a host drains, no proxy cuts a connection of it, and none sends anybody there."""

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            old = [await stack.enter_async_context(client(port)) for port in proxies.values() for _ in range(4)]
            served = [(await each.call("who"))["pid"] for each in old]
            draining, other = sorted(set(served))
            os.kill(draining, signal.SIGTERM)
            leaving = [each for each, pid in zip(old, served, strict=True) if pid == draining]
            assert await leaving[0].closed() == 1012
            for port in [*proxies.values()] * 3:
                async with client(port) as new:
                    assert (await new.call("who"))["pid"] == other
            assert {await each.closed() for each in leaving} == {1012}
            staying = [each for each, pid in zip(old, served, strict=True) if pid == other]
            assert {(await each.call("who"))["pid"] for each in staying} == {other}

    run(main)
