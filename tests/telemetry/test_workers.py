"""Multi-process mode of `prometheus_client`, under `socketsundso run --workers 2`."""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.cli.test_run import answer_to_a_wrong_version
from tests.serving import free_port, serving

APP = """
import os

from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute

from socketsundso import Endpoint, event
from socketsundso.telemetry import prometheus

prometheus.instrument()


class Chat(Endpoint):
    @event
    async def on_say(self, msg: str) -> dict[str, int]:
        return {"pid": os.getpid()}


app = Starlette(routes=[WebSocketRoute("/ws", Chat), Mount("/metrics", prometheus.metrics_app())])
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("workers")
    (folder / "shared").mkdir()
    (folder / "counted.py").write_text(APP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder / "shared"))
        port = free_port()
        options = "--workers", "2", "--app-dir", str(folder), "--port", str(port)
        with serving("-m", "socketsundso", "run", "counted:app", *options, port=port):
            yield port


def scraped(port: int, sample: str) -> float:
    """The value of a sample, such as `connections{endpoint="Chat"}`; 0 where it is not shown."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics/") as answer:
        found = re.search(rf"^socketsundso_{re.escape(sample)} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pid_of(client: ClientConnection) -> int:
    """Which worker has it; one message more."""
    client.send('{"type":"say","msg":"hi"}')
    return int(re.findall(r"\d+", str(client.recv(10)))[0])


def on_both(port: int, stack: ExitStack) -> dict[int, list[ClientConnection]]:
    """Connections until both workers have some."""
    by_pid: dict[int, list[ClientConnection]] = {}

    def connected() -> bool:
        client = stack.enter_context(connect(f"ws://127.0.0.1:{port}/ws", open_timeout=30))
        by_pid.setdefault(pid_of(client), []).append(client)
        return len(by_pid) == 2

    until(connected)
    return by_pid


def test_a_scrape_shows_all_workers(port: int) -> None:
    """Whoever answers it adds up what both have counted; one that is killed has no open connections any more."""
    with ExitStack() as stack:
        by_pid = on_both(port, stack)
        number = sum(map(len, by_pid.values()))
        until(lambda: scraped(port, 'connections{endpoint="Chat"}') == number)
        until(lambda: scraped(port, 'received_messages_total{endpoint="Chat",event="say"}') == number)
        label = 'endpoint="Chat",event="say",{}outcome="ok"'
        assert scraped(port, f"handler_seconds_count{{{label.format('')}}}") == number
        last = label.format('le="+Inf",')
        assert scraped(port, f"handler_seconds_bucket{{{last}}}") == number
        refused = 'server_handshakes_refused_total{reason="upgrade_required"}'
        assert answer_to_a_wrong_version(port).startswith(b"HTTP/1.1 426 ")
        until(lambda: scraped(port, refused) == 1)
        killed, left = sorted(by_pid, key=lambda pid: len(by_pid[pid]))
        os.kill(killed, signal.SIGKILL)
        until(lambda: scraped(port, 'connections{endpoint="Chat"}') == len(by_pid[left]))
        assert scraped(port, 'received_messages_total{endpoint="Chat",event="say"}') == number
