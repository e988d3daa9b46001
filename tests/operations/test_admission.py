"""Who is let in: the rules by a clock that the test is, and the answers over real sockets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from socketsundso import Endpoint, event, refusals
from socketsundso.operations import Settings
from socketsundso.operations.admission import LONGEST_RETRY_S, Admission, address_of, process_bytes, tells_memory
from socketsundso.operations.front import Front
from tests.harness import talk
from tests.operations.worker import hear, say, working
from tests.server.serving import Served, echo, peer, request, run, until

HERE = ("192.0.2.1", 1234)
THERE = ("192.0.2.2", 1234)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def reason(admission: Admission, client: Any = HERE) -> str | None:
    refusal = admission.refuses(client)
    return None if refusal is None else refusal.reason


def test_without_settings_all_are_let_in() -> None:
    """No option, no bound."""
    admission = Admission(Settings())
    for _ in range(1000):
        assert reason(admission) is None
        admission.enter(HERE)


def test_so_many_connections() -> None:
    """The one beyond `max_connections` is refused until another one leaves."""
    admission = Admission(Settings(max_connections=2))
    admission.enter(HERE)
    admission.enter(THERE)
    assert reason(admission) == "max_connections"
    admission.leave(THERE)
    assert reason(admission) is None


def test_so_many_of_an_address() -> None:
    """Those of one address do not count for another one, and nothing is kept of who has left."""
    admission = Admission(Settings(max_connections_per_ip=1))
    admission.enter(HERE)
    assert reason(admission) == "max_connections_per_ip"
    assert reason(admission, THERE) is None
    assert reason(admission, None) is None  # a Unix socket has no addresses
    admission.leave(HERE)
    assert reason(admission) is None
    assert not admission._of_address


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8:1:2::9]:4711", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        ("unknown", "unknown"),
        ("unknown:4711", "unknown"),
        ("", None),
    ],
)
def test_whom_an_address_stands_for(host: str, counted: str | None) -> None:
    """A household has a /64 of IPv6; an IPv4 address is the same in either way of writing it."""
    assert address_of((host, 1)) == counted


def test_so_many_handshakes_in_a_second() -> None:
    """A second's worth may come at once, then one in each interval; who is refused is not charged."""
    clock = Clock()
    admission = Admission(Settings(max_handshakes_per_s=10), clock)
    assert [reason(admission) for _ in range(12)] == [None] * 10 + ["max_handshakes_per_s"] * 2
    clock.now = 0.1
    assert [reason(admission) for _ in range(2)] == [None, "max_handshakes_per_s"]
    clock.now = 60.0
    assert [reason(admission) for _ in range(11)] == [None] * 10 + ["max_handshakes_per_s"]


def test_less_than_one_handshake_in_a_second() -> None:
    """Half a handshake in a second is one every two seconds."""
    clock = Clock()
    admission = Admission(Settings(max_handshakes_per_s=0.5), clock)
    assert [reason(admission) for _ in range(2)] == [None, "max_handshakes_per_s"]
    clock.now = 2.0
    assert reason(admission) is None


def test_so_much_memory() -> None:
    """While the process has more than `max_rss` nobody is let in, as of the latest look at it."""
    memory = 100
    admission = Admission(Settings(max_rss=99), resident_bytes=lambda: memory)
    assert reason(admission) is None
    admission.measure([])
    assert reason(admission) == "max_rss"
    memory = 99
    admission.measure([])
    assert reason(admission) is None


@pytest.mark.skipif(not tells_memory(), reason="no /proc: the system does not say how much memory a process has")
def test_the_memory_of_this_process() -> None:
    """It is measured in bytes: an interpreter has some megabytes, and no terabyte."""
    assert 1 << 22 < process_bytes() < 1 << 40


class Waiting:
    """A connection from which something waits."""

    def __init__(self, size: int) -> None:
        self.waiting_bytes = size
        self.held = 0

    def hold_reading(self) -> None:
        self.held += 1

    def read_on(self) -> None:
        self.held = 0


def test_so_much_waits_for_handlers() -> None:
    """Who has sent what waits is not read until three quarters are left; who has sent nothing is read on."""
    admission = Admission(Settings(max_queued_bytes=100))
    large, small, quiet = Waiting(90), Waiting(20), Waiting(0)
    http = object()
    connections = [large, small, quiet, http]
    admission.measure(connections)
    assert (large.held, small.held, quiet.held) == (1, 1, 0)
    assert reason(admission) == "max_queued_bytes"
    large.waiting_bytes = 70  # less than the bound, more than enough
    admission.measure(connections)
    assert (bool(large.held), bool(small.held)) == (True, True)
    assert reason(admission) is None
    large.waiting_bytes = 50
    admission.measure(connections)
    assert (large.held, small.held) == (0, 0)


def test_refusals_are_counted_by_reason() -> None:
    """The process's count tells how many handshakes each bound has cost, under its name."""
    before = refusals.refused["max_connections"]
    admission = Admission(Settings(max_connections=1))
    admission.enter(HERE)
    for _ in range(3):
        admission.refuses(HERE)
    assert refusals.refused["max_connections"] - before == 3


def test_a_bound_that_is_reached_is_a_line_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log names the option once, not once for each of a flood."""
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)  # servers of other tests may have set it
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "disabled", False)
    caplog.set_level(logging.WARNING, "uvicorn.error")
    clock = Clock()
    admission = Admission(Settings(max_connections=1), clock)
    admission.enter(HERE)
    for clock.now in (0.0, 1.0, 59.0, 60.0):
        admission.refuses(HERE)
    lines = {record.getMessage() for record in caplog.records}  # each has another number
    assert len(lines) == 2
    assert all(line.startswith("Handshakes are refused: --max-connections 1 ") for line in lines)


# ---- over sockets


async def refused_with(served: Served, *headers: str) -> tuple[int, int]:
    """Status and `Retry-After` of the answer to a handshake."""
    async with peer(served, request("/", *headers)) as client:
        status = await client.response()
        return status, int(client.headers.get("retry-after", 0))


def test_a_full_worker_answers_503() -> None:
    """The application does not see the handshake; the client is told when to come back; who leaves makes room."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await echo(scope, receive, send)

    async def main() -> None:
        async with working(app, settings={"max_connections": 1}) as served:
            async with peer(served):
                status, wait_s = await refused_with(served)
                assert status == 503
                assert 1 <= wait_s <= LONGEST_RETRY_S
            assert len(seen) == 1
            await served.idle()
            async with peer(served):
                pass

    run(main())


def test_an_address_behind_a_proxy_answers_429() -> None:
    """With `--proxy-headers` it is the client's own address that counts, not the proxy's."""

    async def main() -> None:
        async with working(echo, settings={"max_connections_per_ip": 1}) as served:
            forwarded = "X-Forwarded-For: 192.0.2.7"
            async with peer(served, request("/", forwarded)) as client:
                assert await client.response() == 101
                assert (await refused_with(served, forwarded))[0] == 429
                async with peer(served):  # the proxy itself
                    pass

    run(main())


def test_uvicorns_protocol_is_bounded_too() -> None:
    """The answer is the same where uvicorn's own protocol serves."""

    async def main() -> None:
        async with working(echo, settings={"max_connections": 1}, ws="websockets-sansio") as served, peer(served):
            assert (await refused_with(served))[0] == 503

    run(main())


def test_a_server_that_has_no_responses_for_handshakes() -> None:
    """It has ASGI's close alone, which is 403 there."""
    admission = Admission(Settings(max_connections=1))
    admission.enter(HERE)
    refusing = talk(Front(echo, admission, None, "", lambda: False), client=THERE, extensions={})
    assert refusing.sent == [{"type": "websocket.close", "code": 1013, "reason": "too many connections"}]


def test_without_proxy_headers_the_peers_address_counts() -> None:
    """`--no-proxy-headers`: nobody is somebody else by saying so."""

    async def main() -> None:
        async with working(echo, settings={"max_connections_per_ip": 1}, proxy_headers=False) as served, peer(served):
            assert (await refused_with(served, "X-Forwarded-For: 192.0.2.7"))[0] == 429

    run(main())


class Slow(Endpoint):
    go: asyncio.Event

    @event
    async def on_slow(self, pad: str) -> dict[str, Any]:
        await self.go.wait()
        return {"size": len(pad)}


class SlowTurns(Slow):
    @event(concurrent=True)
    async def on_other(self) -> None: ...


@pytest.mark.parametrize("kind", [Slow, SlowTurns])
def test_what_waits_is_bounded_for_all(kind: type[Slow]) -> None:
    """Whose messages wait is not read any more, nobody else is let in, and everything is answered in the end."""

    async def main() -> None:
        endpoint = type("TestSlow", (kind,), {"go": asyncio.Event()})
        async with working(endpoint, settings={"max_queued_bytes": 10_000}) as served, peer(served) as client:
            for _ in range(3):
                say(client, "slow", pad="x" * 10_000)
            (connection,) = served.connections
            await until(lambda: connection.reading_paused)
            assert (await refused_with(served))[0] == 503
            endpoint.go.set()
            assert [await hear(client) for _ in range(3)] == [{"type": "slow", "size": 10_000}] * 3
            await until(lambda: not connection.reading_paused)
            say(client, "slow", pad="")
            assert await hear(client) == {"type": "slow", "size": 0}

    run(main())
