"""
The admin socket: what the processes of a server do at the moment, as JSON over HTTP, for whoever may open a file.

    curl --unix-socket /run/chat.sock http://localhost/stats

    {"server": "socketsundso", "workers": [{"pid": 4711, "state": "serving", ...}, ...]}

Its file is its owner's alone. Who connects asks once, within a time; a few are answered at a time, and the others wait
where the kernel keeps them, so that nothing that comes can cost a worker more than that. What the answer says is
somebody else's to know: `Read` gives one JSON object for each worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from http import HTTPStatus

logger = logging.getLogger("uvicorn.error")

PATH = "/stats"
AT_ONCE = 16
"""Who is answered at the same time."""
MAX_REQUEST_BYTES = 8 << 10
WITHIN_S = 5.0
"""For a request to come, and for its answer to be taken."""

Read = Callable[[], Awaitable[Sequence[bytes]]]


@contextlib.asynccontextmanager
async def answering(listening: socket.socket, read: Read) -> AsyncIterator[None]:
    """Answer who connects, until the block ends. The socket stays open."""
    task = asyncio.create_task(_answer_all(listening, read))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _answer_all(listening: socket.socket, read: Read) -> None:
    places = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as askers:
        while True:
            await places.acquire()
            try:
                asker = await _accepted(listening)
            except OSError as error:  # no descriptor is left, say
                places.release()
                logger.warning("The admin socket cannot accept: %s", error.strerror or error)
                await asyncio.sleep(1)
                continue
            answered = askers.create_task(_answer(asker, read))
            answered.add_done_callback(functools.partial(_end, asker, places))


async def _accepted(listening: socket.socket) -> socket.socket:
    """Not by `sock_accept`, which loses one that comes at the moment when it is cancelled."""
    while True:
        try:
            asker, _ = listening.accept()
        except BlockingIOError:
            await _readable(listening)
        else:
            asker.setblocking(False)
            return asker


async def _readable(sock: socket.socket) -> None:
    loop, is_readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, is_readable.set)
    try:
        await is_readable.wait()
    finally:
        loop.remove_reader(sock)


def _end(asker: socket.socket, places: asyncio.Semaphore, answered: asyncio.Task[None]) -> None:
    places.release()
    if answered.cancelled():  # perhaps before it had begun
        asker.close()


async def _answer(asker: socket.socket, read: Read) -> None:
    try:
        reader, writer = await asyncio.open_unix_connection(sock=asker, limit=MAX_REQUEST_BYTES)
    except OSError:
        asker.close()
        return
    writer.transport.set_write_buffer_limits(0)  # `drain` waits until the kernel has all of it
    try:
        async with asyncio.timeout(WITHIN_S):
            status, body = await _response(reader, read)
            kind = "application/json" if status is HTTPStatus.OK else "text/plain; charset=utf-8"
            writer.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                "Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode()
            )
            writer.write(body)
            await writer.drain()
    except (OSError, EOFError, TimeoutError):  # it has gone, or takes its time
        writer.transport.abort()
    except Exception:
        logger.exception("The admin socket could not answer")
        writer.transport.abort()
    finally:
        writer.close()


async def _response(reader: asyncio.StreamReader, read: Read) -> tuple[HTTPStatus, bytes]:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"the request is too large\n"
    request = head.split(b"\r\n", 1)[0].split(b" ")
    if len(request) != 3 or not request[2].startswith(b"HTTP/1."):
        return HTTPStatus.BAD_REQUEST, b"HTTP/1.1 is spoken here\n"
    method, target, _ = request
    if target.partition(b"?")[0] != PATH.encode():
        return HTTPStatus.NOT_FOUND, f"there is {PATH}, and nothing else\n".encode()
    if method != b"GET":
        return HTTPStatus.METHOD_NOT_ALLOWED, b"this is for GET\n"
    return HTTPStatus.OK, b'{"server":"socketsundso","workers":[%b]}' % b",".join(await read())
