"""What one scrape shows of a server on which everything that is counted has happened, by hand-counted numbers."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from socketsundso.server.inbox import MESSAGE_BYTES
from tests.backplanes.engines import EngineServer, running
from tests.cli.test_run import answer_to_a_wrong_version
from tests.server.serving import TEXT, masked, request
from tests.serving import free_port, serving

READERS = "Close", "Oldest", "Newest", "Latest", "Mortal"
"""The classes of readers."""

MOST = 8
"""Connections."""

MESSAGES, SIZE = 40, 1 << 18
"""So much is broadcast to readers that read nothing: what the kernel takes is less."""


class Scrape:
    """The samples of one scrape, by name and labels."""

    def __init__(self, port: int) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics/") as answer:
            self.text = answer.read().decode()
        self.samples = dict(re.findall(r"^socketsundso_(\S+) (\S+)$", self.text, re.MULTILINE))

    def __getitem__(self, sample: str) -> float:
        return float(self.samples.get(sample, "nan"))


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineServer]:
    with running("redis") as server:
        yield server


@pytest.fixture(scope="module")
def port(engine: EngineServer) -> Iterator[int]:
    port = free_port()
    options = "--backplane", engine.url, "--port", str(port), "--max-connections", str(MOST), "--log-level", "error"
    with serving("-m", "socketsundso", "run", "tests.telemetry.desk:app", *options, port=port):
        yield port


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def say(client: ClientConnection, type_: str, **fields: Any) -> int:
    """Gives the number of bytes."""
    text = json.dumps({"type": type_, **fields}, separators=(",", ":"))
    client.send(text)
    return len(text)


def hear(client: ClientConnection, type_: str) -> Any:
    """The next message, which is of this type."""
    heard = json.loads(client.recv(30))
    assert heard["type"] == type_, heard
    return heard


@pytest.fixture(scope="module")
def talked(port: int) -> Scrape:
    """One connection that does everything, and is compressed in both directions."""
    with connect(f"ws://127.0.0.1:{port}/desk", max_size=None) as client:
        for msg in ("hi", "x" * 5000):
            say(client, "say", msg=msg)
            hear(client, "say")
        say(client, "say", msg="a", times="2")
        hear(client, "say")
        for wrong in ("say", "sold_out", "shout"):
            say(client, wrong)
            hear(client, "error")
        say(client, "items", ref=1, count=3)
        for _ in range(3):
            hear(client, "said")
        hear(client, "complete")
        say(client, "add", ref=2)
        for number in (1, 2):
            say(client, "item", ref=2, item=number)
        say(client, "complete", ref=2)
        assert hear(client, "add")["total"] == 3
        say(client, "order", order=7)
        say(client, "reply", ref=hear(client, "confirm")["ref"], answer=True)
        assert hear(client, "order")["msg"] == "yes"
        say(client, "notify")
        hear(client, "notice")
        assert client.recv(30) == b"pcm"
    with pytest.raises(InvalidStatus):
        connect(f"ws://127.0.0.1:{port}/desk?nobody=1")
    assert answer_to_a_wrong_version(port).startswith(b"HTTP/1.1 426 ")
    until(lambda: Scrape(port)['connections{endpoint="Desk"}'] == 0)
    return Scrape(port)


def desk(event: str) -> str:
    return f'{{endpoint="Desk",event="{event}"}}'


def test_connections_and_handshakes(talked: Scrape) -> None:
    """Now and ever, by close code; refusals by who refused."""
    assert talked['connections_opened_total{endpoint="Desk"}'] == 1
    assert talked['connections_closed_total{code="1000",endpoint="Desk"}'] == 1
    assert talked['handshakes_refused_total{endpoint="Desk",reason="unauthorized"}'] == 1
    assert talked['server_handshakes_refused_total{reason="upgrade_required"}'] == 1


def test_messages_and_bytes(talked: Scrape) -> None:
    """In and out, by event, as long as they were before they were compressed."""
    assert talked[f"received_messages_total{desk('say')}"] == 4
    texts = ['{"type":"say","msg":"hi"}', '{"type":"say","msg":""}' + "x" * 5000]
    texts += ['{"type":"say","msg":"a","times":"2"}', '{"type":"say"}']
    assert talked[f"received_bytes_total{desk('say')}"] == sum(map(len, texts))
    assert talked[f"received_messages_total{desk('(unknown)')}"] == 1
    assert talked[f"sent_messages_total{desk('say')}"] == 3
    assert talked[f"sent_bytes_total{desk('say')}"] == 3 * len('{"type":"say","msg":""}') + 5000 + 2 + 2
    assert [talked[f"sent_messages_total{desk(event)}"] for event in ("items", "add", "order")] == [3, 1, 1]
    assert talked[f"slow_path_total{desk('say')}"] == 2
    assert talked['pushed_messages_total{endpoint="Desk",type="notice"}'] == 1
    assert talked['pushed_bytes_total{endpoint="Desk",type="notice"}'] == len('{"type":"notice","text":"sent"}')
    assert talked['pushed_bytes_total{endpoint="Desk",type="bytes"}'] == 3


def test_handlers_and_errors(talked: Scrape) -> None:
    """Seconds by event and outcome, streams and uploads among them; error frames by code; calls by outcome."""
    counts = {
        (event, outcome): talked[f'handler_seconds_count{{endpoint="Desk",event="{event}",outcome="{outcome}"}}']
        for event, outcome in (("say", "ok"), ("say", "invalid"), ("sold_out", "refused"), ("items", "ok"),
                               ("add", "ok"), ("order", "ok"))
    }  # fmt: skip
    assert counts == dict.fromkeys(counts, 1) | {("say", "ok"): 3}
    for code in ("validation_error", "sold_out", "unknown_event"):
        assert talked[f'errors_total{{code="{code}",endpoint="Desk"}}'] == 1
    assert talked['call_seconds_count{endpoint="Desk",outcome="answered",question="confirm"}'] == 1
    assert [talked[f'{gauge}{{endpoint="Desk"}}'] for gauge in ("streams", "calls", "queued_bytes")] == [0, 0, 0]


def test_compression(talked: Scrape) -> None:
    """Both ways: all that this client says is compressed, and the one answer that is large."""
    before, after = (talked[f'inflate_bytes_total{{stage="{stage}"}}'] for stage in ("before", "after"))
    assert 5000 < after < 6000
    assert before < after / 5
    before, after = (talked[f'deflate_bytes_total{{stage="{stage}"}}'] for stage in ("before", "after"))
    assert before == 5000 + len('{"type":"say","msg":""}')
    assert after < before / 5


def test_an_engine_that_goes_away(port: int, engine: EngineServer, talked: Scrape) -> None:
    """It is seen, as is what it could not take, and that it is back."""
    up, refused = 'backplane_up{backplane="redis"}', 'broadcasts_refused_total{backplane="redis"}'
    with connect(f"ws://127.0.0.1:{port}/desk") as client:

        def written() -> Any:
            say(client, "write", room="doc:1")
            while (heard := json.loads(client.recv(30)))["type"] != "write":
                pass
            return heard["msg"]

        assert written() == "done"
        assert Scrape(port)[up] == 1
        engine.kill()
        until(lambda: Scrape(port)[up] == 0)
        assert written() == "away"
        assert Scrape(port)[refused] == 1
        engine.start()
        until(lambda: Scrape(port)[up] == 1)
        assert written() == "done"
    scrape = Scrape(port)
    assert scrape['broadcasts_total{backplane="redis"}'] == 3
    assert scrape['deliveries_total{backplane="redis"}'] == 2
    assert scrape['backplane_seconds_count{backplane="redis",call="append"}'] == 3
    assert scrape['backplane_seconds_count{backplane="redis",call="subscribe"}'] >= 1


def slow(port: int, path: str) -> socket.socket:
    """A client that enters the room, and then reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    client.settimeout(30)
    client.connect(("127.0.0.1", port))
    client.sendall(request(f"/{path}"))
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += client.recv(4096)
    client.sendall(masked(TEXT, b'{"type":"enter"}'))
    while path.encode() not in heard.partition(b"\r\n\r\n")[2]:
        heard += client.recv(4096)
    return client


def test_slow_readers(port: int, talked: Scrape) -> None:
    """What has become of their messages, by their policies; and what waits meanwhile."""
    why = "closed", "drop_oldest", "drop_newest", "conflate", "ttl"
    with ExitStack() as stack:
        for reader in READERS:
            stack.enter_context(slow(port, reader))
        client = stack.enter_context(connect(f"ws://127.0.0.1:{port}/Reader"))

        def flood(messages: int) -> Scrape:
            say(client, "flood", messages=messages, size=SIZE)
            hear(client, "flood")
            return Scrape(port)

        before = Scrape(port)['delivered_bytes_total{backplane="redis"}']
        scrape = flood(MESSAGES)
        assert scrape['delivered_bytes_total{backplane="redis"}'] - before > MESSAGES * 4 * SIZE
        # what is too old is found when the next message comes
        until(lambda: all(flood(1)[f'dropped_messages_total{{backplane="redis",why="{each}"}}'] >= 1 for each in why))
    assert scrape['connections_closed_total{code="1013",endpoint="Close"}'] == 1
    for reader in ("Oldest", "Newest", "Latest"):
        assert SIZE < scrape[f'queued_bytes{{endpoint="{reader}"}}'] < 2 * SIZE
        assert scrape[f'queued_messages{{endpoint="{reader}"}}'] == 1
        assert scrape[f'unsent_bytes{{endpoint="{reader}"}}'] > 0


def test_messages_that_wait_for_a_handler(port: int, talked: Scrape) -> None:
    """By their bytes, and what each one weighs besides, while the one before is under way."""
    with connect(f"ws://127.0.0.1:{port}/Reader") as client:
        say(client, "hold")
        waiting = say(client, "enter") + say(client, "enter")
        until(lambda: Scrape(port)['waiting_bytes{endpoint="Reader"}'] == waiting + 2 * MESSAGE_BYTES)


def test_one_connection_too_many(port: int, talked: Scrape) -> None:
    """It is counted under the name of the bound."""
    with ExitStack() as stack:
        for _ in range(MOST):
            stack.enter_context(connect(f"ws://127.0.0.1:{port}/desk"))
        with pytest.raises(InvalidStatus):
            connect(f"ws://127.0.0.1:{port}/desk")
    assert Scrape(port)['server_handshakes_refused_total{reason="max_connections"}'] == 1
