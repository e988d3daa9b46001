"""Between a parent and its workers: questions, answers, and workers that give none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from socketsundso.operations import lines
from socketsundso.operations.lines import Known, Line, _report_of, report_to_parent
from tests.server.serving import both_loops, run, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix sockets")


class Worker:
    """One that counts how often it is asked; it answers while `answers` is set."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def report(self) -> bytes:
        self.asked += 1
        await self.answers.wait()
        return b'{"pid":7,"asked":%d}' % self.asked


@contextlib.asynccontextmanager
async def lined() -> AsyncIterator[tuple[Line, Worker, asyncio.Task[None]]]:
    """A line, who is at its other end, and the task that answers there."""
    ours, its = socket.socketpair()
    line, worker = Line(ours), Worker()
    task = asyncio.create_task(report_to_parent(its, worker.report))
    try:
        yield line, worker, task
    finally:
        line.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        its.close()


@both_loops
def test_a_worker_is_asked_again_and_again(loop: str) -> None:
    """Who asks at the same time as others gets the same answer."""

    async def main() -> None:
        async with lined() as (line, worker, _):
            assert await line.ask() == b'{"pid":7,"asked":1}'
            assert set(await asyncio.gather(*(line.ask() for _ in range(5)))) == {b'{"pid":7,"asked":2}'}
            assert worker.asked == 2

    run(main(), loop)


def test_one_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not asked again while it owes an answer, which is the next one's, so that none is taken for another."""
    monkeypatch.setattr(lines, "WITHIN_S", 0.05)

    async def main() -> None:
        async with lined() as (line, worker, _):
            worker.answers.clear()
            known = Known(7, line)
            assert [json.loads(await _report_of(known) or b"") for _ in range(2)] == [
                {"pid": 7, "state": "starting"}
            ] * 2
            worker.answers.set()
            await until(lambda: line.has_answered)
            worker.answers.clear()
            assert json.loads(await _report_of(known) or b"")["state"] == "silent"
            assert worker.asked == 2
            worker.answers.set()
            await until(lambda: line._asking is None or line._asking.done())
            monkeypatch.setattr(lines, "WITHIN_S", 20)
            assert await line.ask() == b'{"pid":7,"asked":3}'

    run(main())


def test_one_that_is_coming_is_not_asked() -> None:
    """It may take a while until it has an event loop."""

    async def main() -> None:
        async with lined() as (line, worker, _):
            report = await _report_of(Known(7, line, coming=True))
            assert json.loads(report or b"") == {"pid": 7, "state": "starting"}
            assert not worker.asked

    run(main())


@both_loops
def test_one_that_ends(loop: str) -> None:
    """Nothing is told of it, then and from then on."""

    async def main() -> None:
        async with lined() as (line, worker, task):
            await line.ask()
            worker.answers.clear()
            asking = asyncio.create_task(_report_of(Known(7, line)))
            await until(lambda: worker.asked == 2)
            task.cancel()
            assert await asking is None
            assert await _report_of(Known(7, line)) is None

    run(main(), loop)


def test_one_that_is_buried_while_it_is_asked() -> None:
    """Who asks gets its answer, without this one: it is not taken along."""

    async def main() -> None:
        async with lined() as (line, worker, _):
            worker.answers.clear()
            asking = asyncio.create_task(_report_of(Known(7, line)))
            await until(lambda: worker.asked)
            line.close()
            assert await asking is None

    run(main())


def test_who_does_not_wait_any_more() -> None:
    """Its own end is its own."""

    async def main() -> None:
        async with lined() as (line, worker, _):
            worker.answers.clear()
            asking = asyncio.create_task(line.ask())
            await until(lambda: worker.asked)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    run(main())


def test_a_report_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """The worker logs why, and is not told of any more; it goes on with its work."""

    async def fail() -> bytes:
        raise ZeroDivisionError

    async def main() -> None:
        ours, its = socket.socketpair()
        line = Line(ours)
        task = asyncio.create_task(report_to_parent(its, fail))
        assert await _report_of(Known(7, line)) is None
        await task
        line.close()

    run(main())
    assert "cannot report to its parent" in caplog.text


def test_a_report_without_an_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The parent keeps so much and no more of it, and tells that the worker is there."""
    monkeypatch.setattr(lines, "MAX_REPORT_BYTES", 1000)

    async def endless() -> bytes:
        return b"x" * 100_000

    async def main() -> None:
        ours, its = socket.socketpair()
        line = Line(ours)
        task = asyncio.create_task(report_to_parent(its, endless))
        assert json.loads(await _report_of(Known(7, line)) or b"")["pid"] == 7
        line.close()
        await asyncio.wait({task})

    run(main())
    assert "more than 1000 bytes" in caplog.text


def test_a_line_that_nobody_has_used() -> None:
    """It is closed all the same."""
    ours, its = socket.socketpair()
    with its:
        Line(ours).close()
        assert its.recv(1) == b""
