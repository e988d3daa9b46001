"""
Hundreds of real clients in one process (picows: a frame costs a callback, no coroutine), and the server
processes that they talk to.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from ..backplanes import listener
from ..serving import ROOT, free_port

DEADLINE_S = 60.0  # for a machine that is busy with something else
until = functools.partial(listener.until, deadline_s=DEADLINE_S)
_refs = itertools.count(1)
_decode = msgspec.json.Decoder().decode


class Client(WSListener):  # type: ignore[misc]  # picows' classes are compiled, without types
    """Keeps what was `said`, and everything else by itself."""

    def __init__(self) -> None:
        self.said: list[tuple[int, int]] = []  # (sender, n), as they came
        self.seqs: list[int] = []  # of those that had one
        self.others: list[dict[str, Any]] = []
        self.gone = False
        self.pid = 0  # of the process it talks to
        self.close_code = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self.close_code = frame.get_close_code()
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            self._take(_decode(frame.get_payload_as_bytes()))

    def _take(self, message: dict[str, Any]) -> None:
        answer = self._answers.pop(message.get("ref", 0), None)
        if answer is not None:
            answer.set_result(message)
        elif message["type"] == "said":
            self.said.append((message["sender"], message["n"]))
            if "seq" in message:
                self.seqs.append(message["seq"])
        else:
            self.others.append(message)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.gone = True
        for answer in self._answers.values():
            answer.cancel()

    def send(self, type_: str, **fields: Any) -> None:
        self.transport.send(WSMsgType.TEXT, msgspec.json.encode({"type": type_, **fields}))

    async def call(self, type_: str, **fields: Any) -> dict[str, Any]:
        """Send an event; returns the answer to it."""
        ref = next(_refs)
        answer = self._answers[ref] = asyncio.get_running_loop().create_future()
        self.send(type_, ref=ref, **fields)
        async with asyncio.timeout(DEADLINE_S):
            return await answer

    def told(self, type_: str) -> list[dict[str, Any]]:
        return [message for message in self.others if message["type"] == type_]

    async def leave(self) -> None:
        self.transport.send_close(1000)
        self.transport.disconnect()
        await self.transport.wait_disconnected()


async def connect(port: int) -> Client:
    _, client = await ws_connect(Client, f"ws://127.0.0.1:{port}/", websocket_handshake_timeout=DEADLINE_S)
    return client  # type: ignore[no-any-return]  # what the factory made


class Process:
    """`socketsundso run` (or plain uvicorn) as a deployment has it; its output goes to a file."""

    def __init__(self, backplane: str, *options: str, plain_uvicorn: bool = False) -> None:
        self.port = free_port()
        self.output = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        common = ["--port", str(self.port), *options]
        command = ["socketsundso", "run", "--backplane", backplane, "tests.rooms.wall:Wall"]
        if plain_uvicorn:
            command = ["uvicorn", "tests.rooms.wall:Wall"]
        self.popen = subprocess.Popen(
            [sys.executable, "-m", *command, *common],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SOCKETSUNDSO_BACKPLANE": backplane},
            stdout=self.output,
            stderr=self.output,
            start_new_session=True,
        )

    async def started(self) -> None:
        await until(self._answers, f"a server on port {self.port}: {self.text()}")

    def _answers(self) -> bool:
        assert self.popen.poll() is None, self.text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    async def has_said(self, text: str, times: int) -> None:
        await until(lambda: self.text().count(text) >= times, f"{times} x {text!r}")

    def text(self) -> str:
        self.output.seek(0)
        return self.output.read().decode(errors="replace")

    def kill(self) -> None:
        """SIGKILL to it and its workers: nobody says farewell."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def close(self) -> None:
        self.popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(10)
        self.kill()
        self.output.close()


@asynccontextmanager
async def crowd(ports: Iterable[int], room: str) -> AsyncIterator[list[Client]]:
    """One client per entry of `ports`, all of them in the room."""
    clients: list[Client] = []
    try:
        remaining = list(ports)
        while remaining:  # several at a time, so that the kernel has more than one worker accept them
            batch, remaining = remaining[:25], remaining[25:]
            clients += await asyncio.gather(*map(connect, batch))
        entered = await asyncio.gather(*(client.call("enter", room=room) for client in clients))
        for client, answer in zip(clients, entered, strict=True):
            client.pid = answer["pid"]
        yield clients
    finally:
        for client in clients:
            if not client.gone:
                client.transport.disconnect()


class Tally(msgspec.Struct):
    """What became of the messages, over all clients."""

    sent: int
    received: int
    lost: int
    duplicated: int
    misordered: int

    @classmethod
    def of(cls, clients: Iterable[Client], sent: Iterable[tuple[int, int]]) -> Tally:
        wanted = list(sent)
        tally = cls(len(wanted), 0, 0, 0, 0)
        for client in clients:
            counts = Counter(client.said)
            tally.received += len(client.said)
            tally.lost += sum(message not in counts for message in wanted)
            tally.duplicated += sum(count - 1 for count in counts.values())
            latest: dict[int, int] = {}
            for sender, n in client.said:
                tally.misordered += latest.get(sender, -1) > n
                latest[sender] = n
        return tally


async def say(clients: Iterable[Client], room: str, numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Each client says each number in turn, all clients at the same time. Returns `(sender, n)` of all."""
    speakers, sent = list(enumerate(clients)), list(numbers)

    async def talk(sender: int, client: Client) -> None:
        for n in sent:
            answer = await client.call("say", room=room, sender=sender, n=n)
            assert answer["refused"] is False, answer

    await asyncio.gather(*(talk(sender, client) for sender, client in speakers))
    return [(sender, n) for sender, _ in speakers for n in sent]
