"""
Between the parent process and a worker: who is asked what it does, and what it answers.

A pair of sockets, over which the parent sends a byte and the worker answers with one JSON object in a line. The parent
asks in an event loop of its own, in a thread: its main thread waits for signals and workers. A worker that does not
answer in time is told as one that is silent; what it says later answers whoever asks next.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from socketsundso.operations.admin import answering
from socketsundso.operations.sockets import Listening

logger = logging.getLogger("uvicorn.error")

WITHIN_S = 1.0
"""For a worker to answer."""
MAX_REPORT_BYTES = 32 << 20

Report = Callable[[], Awaitable[bytes]]


async def report_to_parent(end: socket.socket, report: Report) -> None:
    """Answer until the parent is gone; the task of a worker."""
    end.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=end)
    try:
        while await reader.read(1):
            writer.write(await report() + b"\n")
            await writer.drain()
    except OSError:
        pass
    except Exception:
        logger.exception("This worker cannot report to its parent any more")
    finally:
        writer.close()


class Line:
    """The parent's end. All but `__init__` belongs to the thread that asks."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._asking: asyncio.Task[bytes] | None = None
        self.has_answered = False

    async def ask(self) -> bytes | None:
        """Its report, or None if it takes too long. Raises OSError or EOFError if the worker is gone."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(_look)
        try:
            return await asyncio.wait_for(asyncio.shield(self._asking), WITHIN_S)
        except TimeoutError:
            return None
        except asyncio.CancelledError:
            if not self._asking.cancelled():
                raise
            raise EOFError("it has ended") from None  # and its line is closed

    async def _ask(self) -> bytes:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(sock=self._end, limit=MAX_REPORT_BYTES)
        reader, writer = self._streams
        if reader.at_eof() or writer.is_closing():
            raise EOFError("it has ended")
        writer.write(b"?")
        line = await reader.readuntil(b"\n")
        self.has_answered = True
        return line[:-1]

    def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        if self._streams is not None:
            self._streams[1].close()
        else:
            self._end.close()


def _look(asking: asyncio.Task[bytes]) -> None:
    """What it raises is no news: who asked may have given up before."""
    if not asking.cancelled():
        asking.exception()


class Known(NamedTuple):
    """A worker as its parent knows it; one that is `coming` is not asked yet."""

    pid: int | None
    line: Line
    coming: bool = False


class Switchboard:
    """Answers at the admin socket for all workers, in a thread of its own, from `start` to `stop`."""

    def __init__(self, listening: Listening, workers: Callable[[], Iterable[Known]]) -> None:
        self._listening, self._workers = listening, workers
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="admin", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when nobody is answered any more; the socket is gone then."""
        with contextlib.suppress(RuntimeError):  # it has failed, and said so
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._listening.close()

    def forget(self, line: Line) -> None:
        """Of a worker that has ended. Nothing happens after `stop`."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(line.close)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._answer())

    async def _answer(self) -> None:
        async with answering(self._listening.socket, self._read):
            await self._over.wait()

    async def _read(self) -> list[bytes]:
        reports = await asyncio.gather(*map(_report_of, tuple(self._workers())))
        return [report for report in reports if report is not None]


async def _report_of(worker: Known) -> bytes | None:
    """None for one that has just ended."""
    pid, line, coming = worker
    report = None
    if not coming:
        try:
            report = await line.ask()
        except (OSError, EOFError):
            return None
        except asyncio.LimitOverrunError:
            logger.error("Worker %s reports more than %d bytes", pid, MAX_REPORT_BYTES)
    if report is None:
        told = "silent" if line.has_answered else "starting"
        return json.dumps({"pid": pid, "state": told}).encode()
    return report
