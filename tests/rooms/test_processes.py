"""
Several server processes on one engine, hundreds of clients: who gets what, and how often, also when
something is killed. Every test counts.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest

from socketsundso import Hub
from socketsundso.rooms import acting

from ..backplanes.engines import EngineServer, running
from .crowd import DEADLINE_S, Client, Process, Tally, connect, crowd, say, until
from .serving import run

PRESENCE_TTL_S = 6.0  # who is not scheduled for less than half of it stays present
_rooms = itertools.count(1)


class Cluster(NamedTuple):
    engine: EngineServer
    url: str
    here: Process
    """`socketsundso run`."""
    there: Process
    """Plain uvicorn, with uvicorn's own WebSocket protocol."""

    @property
    def ports(self) -> tuple[int, int]:
        return self.here.port, self.there.port


@pytest.fixture(scope="module", params=["redis", "nats"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """An engine of this module's own, since it will be killed, and two server processes."""
    with running(request.param) as engine:
        url = f"{engine.url}?presence_ttl_s={PRESENCE_TTL_S}"
        processes = [Process(url), Process(url, plain_uvicorn=True)]
        try:
            asyncio.run(started(*processes))
            yield Cluster(engine, url, *processes)
            for process in processes:
                assert process.text().partition("Traceback")[2] == ""
        finally:
            for process in processes:
                process.close()


async def started(*processes: Process) -> None:
    await asyncio.gather(*(process.started() for process in processes))


async def states(clients: Iterable[Client], wanted: str) -> None:
    """Wait until each client's process says so of its backplane."""
    async with asyncio.timeout(DEADLINE_S):
        for client in clients:
            while (await client.call("status"))["state"] != wanted:
                await asyncio.sleep(0.02)


@pytest.fixture
def room() -> str:
    return f"room:{next(_rooms)}"


def test_everybody_gets_everything_once_and_in_order(cluster: Cluster, room: str) -> None:
    """240 clients on two processes, eight of them talking at the same time, four on each."""

    async def main() -> None:
        async with crowd(cluster.ports * 120, room) as clients:
            sent = await say(clients[:8], room, range(10))
            await until(lambda: all(len(client.said) >= 80 for client in clients), "everybody has everything")
            tally = Tally.of(clients, sent)
            assert tally == Tally(sent=80, received=80 * 240, lost=0, duplicated=0, misordered=0)

    run(main)


def test_four_workers_behind_one_port(cluster: Cluster, room: str) -> None:
    """`--workers 4`: 200 clients wherever the kernel put them; a process without sockets talks, too."""
    process = Process(cluster.url, "--workers", "4")

    async def main() -> None:
        await process.has_said("Application startup complete", 4)
        async with crowd([process.port] * 200, room) as clients, Hub(cluster.url) as hub:
            speakers = list({client.pid: client for client in clients}.values())
            assert len(speakers) >= 2, "the kernel has put all of them to one worker"
            sent = await say(speakers, room, range(10))
            for n in range(10):
                await hub.to(room).send({"type": "said", "sender": 99, "n": n})
                sent.append((99, n))
            await until(lambda: all(len(client.said) >= len(sent) for client in clients), "everybody has everything")
            tally = Tally.of(clients, sent)
            assert tally == Tally(len(sent), received=len(sent) * 200, lost=0, duplicated=0, misordered=0)

    try:
        run(main)
    finally:
        process.close()


def test_the_engine_is_killed_and_restarted(cluster: Cluster, room: str) -> None:
    """
    Meanwhile everybody hears the people of the own process; afterwards everybody again, with nothing
    twice.
    """

    async def main() -> None:
        async with crowd(cluster.ports * 20, room) as clients:
            speakers, mine, theirs = clients[:2], clients[::2], clients[1::2]
            before = await say(speakers, room, range(5))
            await until(lambda: all(len(client.said) == 10 for client in clients), "everybody has heard")
            cluster.engine.kill()
            await states(speakers, "reconnecting")
            await say(speakers, room, range(5, 10))
            assert (await speakers[0].call("say", room="doc:away", sender=0, n=0))["refused"] is True
            cluster.engine.start()
            await states(speakers, "connected")
            after = await say(speakers, room, range(10, 15))
            await until(lambda: all(len(client.said) >= 25 for client in clients), "everybody hears again")
            for who, side in enumerate((mine, theirs)):
                own = [(who, n) for n in range(5, 10)]
                tally = Tally.of(side, [*before, *own, *after])
                assert tally == Tally(25, received=25 * 20, lost=0, duplicated=0, misordered=0)
            statuses = [await speaker.call("status") for speaker in speakers]
            assert [status["refused"] >= 5 for status in statuses] == [True, True]

    async def all_is_well_again() -> None:
        async with crowd(cluster.ports, room) as clients:
            await states(clients, "connected")

    try:
        run(main)
    finally:
        cluster.engine.kill()
        cluster.engine.start()
        run(all_is_well_again)


def test_a_killed_process_disappears_from_presence(cluster: Cluster, room: str) -> None:
    """SIGKILL: its members leave once, after `presence_ttl_s` at most; nobody else leaves; the rest hear each other."""
    victim = Process(cluster.url)

    async def main() -> None:
        await victim.started()
        async with crowd([*cluster.ports * 10, *[victim.port] * 10], room) as clients:
            for n, client in enumerate(clients):
                client.send("appear", room=room, name=f"{n:02}")
            everybody = [f"{n:02}" for n in range(30)]

            async def here(names: list[str]) -> None:
                for client in clients[:2]:
                    while (await client.call("who", room=room)).get("names") != names:
                        await asyncio.sleep(0.05)

            await asyncio.wait_for(here(everybody), 60)
            before = [len(client.told("presence_diff")) for client in clients]
            victim.kill()
            await asyncio.wait_for(here(everybody[:20]), 60)
            await until(lambda: all(client.gone for client in clients[20:]), "its clients have noticed")
            sent = await say(clients[:2], room, range(5))
            await until(lambda: all(len(client.said) == 10 for client in clients[:20]), "the others go on")
            assert Tally.of(clients[:20], sent) == Tally(10, received=200, lost=0, duplicated=0, misordered=0)

            def left(client: Client, seen: int) -> list[str]:
                diffs = client.told("presence_diff")[seen:]
                return sorted(meta["name"] for diff in diffs for meta in diff["leaves"].values())

            for client, seen in zip(clients[:20], before, strict=False):
                await until(lambda: len(left(client, seen)) >= 10, "all are told to have left")  # noqa: B023  # awaited in this round
                assert left(client, seen) == everybody[20:]

    try:
        run(main)
    finally:
        victim.kill()
        victim.close()


def test_a_script_acts_on_the_connections_of_all_processes(cluster: Cluster, room: str) -> None:
    """Forty clients of two servers are listed, moved, told something at once, and signed out, each counted once."""

    async def main() -> None:
        game = f"{room}:game"
        async with crowd(cluster.ports * 20, room) as clients, Hub(cluster.url) as hub:
            clients[0].send("appear", room=room, name="ada")
            await until(lambda: clients[1].told("presence_diff"), "the other process knows of her")
            members = await hub.members(room)
            assert (len(members), [each.meta for each in members if each.meta]) == (40, [{"name": "ada"}])
            assert await hub.to(room).join(game) == 40
            await hub.to(game).send({"type": "said", "sender": 0, "n": 1})
            await hub.everyone.except_(members[0].id).send({"type": "said", "sender": 0, "n": 2})
            await until(lambda: sum(len(client.said) for client in clients) == 79, "everybody has heard")
            assert await hub.to(room).leave() == 40
            assert (await hub.members(room), await hub.presence.list(room)) == ([], [])
            assert await hub.to(game).close(4001, "signed out") == 40
            await until(lambda: all(client.gone for client in clients), "all are closed")
            assert {client.close_code for client in clients} == {4001}

    run(main)


def test_a_killed_process_is_missed_and_no_more(
    cluster: Cluster, room: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SIGKILL: an act counts the others, says that one process has not answered, and does not wait for it again."""
    monkeypatch.setattr(acting, "ANSWER_S", 2.0)
    victim = Process(cluster.url)

    async def main() -> None:
        await victim.started()
        async with crowd([*cluster.ports * 3, victim.port], room) as clients, Hub(cluster.url) as hub:
            assert await hub.to(room).join(f"{room}:a") == 7
            victim.kill()
            assert await hub.to(room).join(f"{room}:b") == 6
            assert caplog.text.count("1 processes have not answered") == 1
            monkeypatch.setattr(acting, "ANSWER_S", 600.0)
            assert await hub.to(room).leave() == 6
            await until(lambda: clients[-1].gone, "its client has noticed")

    try:
        run(main)
    finally:
        victim.kill()
        victim.close()


def test_a_client_that_stops_reading_harms_nobody_in_any_process(cluster: Cluster, room: str) -> None:
    """One deaf client on each process; all the others get everything, and the deaf are let go with 1013."""

    async def main() -> None:
        async with crowd(cluster.ports * 4, room) as clients:
            deaf, others = clients[:2], clients[2:]
            for client in deaf:
                client.transport.underlying_transport.pause_reading()
            n = 0
            pad = "x" * 30_000

            async def dropped() -> int:
                return int((await others[0].call("status"))["dropped"])  # in the process of deaf[0]

            start, found = await dropped(), False
            while n < 300 or not found:
                assert n < 3000, "the deaf are never found slow"
                await others[n % 2].call("say", room=room, sender=n % 2, n=n, pad=pad)
                n += 1
                if not found and await dropped() > start:
                    found = True
                    deaf[0].transport.underlying_transport.resume_reading()  # before it is cut for its silence
            await until(lambda: all(len(client.said) >= n for client in others), "the others have everything")
            tally = Tally.of(others, [(number % 2, number) for number in range(n)])
            assert tally == Tally(n, received=n * 6, lost=0, duplicated=0, misordered=0)
            deaf[1].transport.underlying_transport.resume_reading()
            await until(lambda: deaf[0].gone and deaf[0].close_code == 1013, "the deaf client is closed")
            assert len(deaf[0].said) < n
            assert Tally.of(deaf[:1], []).duplicated == 0

    run(main)


def test_a_client_recovers_on_another_process(cluster: Cluster) -> None:
    """What was said while it was away comes once and in order, then live messages, without a hole between."""
    room = f"doc:{next(_rooms)}"

    async def main() -> None:
        async with crowd(cluster.ports * 20, room) as clients:
            speakers = clients[:4]
            movers = clients[20:]
            sent = await say(speakers, room, range(5))
            await until(lambda: all(len(client.said) == 20 for client in clients), "everybody has heard")
            epoch = clients[0].told("room_position")[0]["epoch"]
            await asyncio.gather(*(client.leave() for client in movers))
            talking = asyncio.create_task(say(speakers, room, range(5, 30)))
            await until(lambda: len(speakers[0].said) > 40, "much is missed")
            back = [await connect(port) for port in reversed(cluster.ports * 10)]
            answers = await asyncio.gather(
                *(client.call("resume", rooms={room: {"seq": 20, "epoch": epoch}}) for client in back)
            )
            assert all(answer["rooms"][room]["recovered"] for answer in answers)
            sent += await talking
            everybody = [*clients[:20], *back]
            wanted = [120] * 20 + [100] * 20
            await until(lambda: [len(client.said) for client in everybody] == wanted, "everybody has everything")
            assert Tally.of(clients[:20], sent) == Tally(120, received=120 * 20, lost=0, duplicated=0, misordered=0)
            assert Tally.of(back, sent[20:]) == Tally(100, received=100 * 20, lost=0, duplicated=0, misordered=0)
            assert all(client.seqs == list(range(21, 121)) for client in back)
            for client in back:
                await client.leave()

    run(main)
