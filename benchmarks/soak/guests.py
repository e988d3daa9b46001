"""Who talks to the board: guests, who come back over many connections and remember where they were."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from picows import WSError, WSMsgType, ws_connect

from benchmarks.load import masked_frame
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.lines import ANSWERED_WITHIN_S, Line, Message

Act = Callable[["Guest", Line], Awaitable[None]]


class Guest:
    """Somebody in some rooms, over all connections."""

    def __init__(self, ledger: Ledger, number: int, rooms: list[str], ports: list[int], random: Random) -> None:
        self.ledger, self.number, self.rooms, self.name = ledger, number, rooms, f"guest {number}"
        self.present: dict[str, dict[str, Message]] = {}  # in each room, by the ids of connections
        self.line: Line | None = None
        self._ports, self._random = ports, random
        self._said = itertools.count()
        self._at: dict[str, tuple[str, int]] = {}  # epoch and number in each room: what it has seen last
        self._fresh: set[str] = set()  # rooms that it enters as somebody who has never been there
        self._gaps: set[str] = set()  # rooms that have told a gap, and not yet where they are

    @property
    def positions(self) -> dict[str, tuple[str, int]]:
        """Epoch and number of what it has heard last, in each of its rooms."""
        return self._at

    def sees(self, room: str) -> list[str]:
        """The names of those who are in the room, as far as it was told."""
        return sorted(meta["name"] for meta in self.present.get(room, {}).values())

    # ---- what its connections hear

    def heard(self, room: str, seq: int, message: tuple[int, int]) -> None:
        epoch, latest = self._at[room]
        if seq != latest + 1:
            self.ledger.mistake(f"{self.name}: {room} went on from {latest} with {seq}")
        self._at[room] = epoch, seq
        self.ledger.saw(room, epoch, seq, message)

    def positioned(self, room: str, epoch: str, seq: int) -> None:
        before = self._at.get(room)
        if room in self._fresh:
            self._fresh.remove(room)
        elif room in self._gaps:
            self._gaps.remove(room)
            self._begun_anew(room, epoch)
        elif before != (epoch, seq):
            self.ledger.mistake(f"{self.name}: {room} moved from {before} to {(epoch, seq)} without a gap")
        self._at[room] = epoch, seq

    def resumed(self, room: str, told: Message) -> None:
        """Known before the next frame is read: it may be the first live message."""
        if told["recovered"]:
            self.ledger.counts["resumed"] += 1
            return
        self._begun_anew(room, told["epoch"])
        self._at[room] = told["epoch"], told["seq"]

    def missed(self, room: str, dropped: int | None) -> None:
        if dropped is not None:
            self.ledger.mistake(f"{self.name}: {room} dropped {dropped}")
        self._gaps.add(room)

    def _begun_anew(self, room: str, epoch: str) -> None:
        """That a history is lost may be told where an engine has forgotten it, and then it has another epoch."""
        self.ledger.counts["told that a history is lost"] += 1
        known = self._at[room][0]
        if epoch == known or not self.ledger.has_forgotten:
            self.ledger.mistake(f"{self.name}: {room} has lost its history: {known}, now {epoch}")

    # ---- how it comes and goes

    async def arrive(self) -> Line | None:
        """Connect, and be where it was, with all that it has missed. None where that fails: a fault is under way."""
        since = time.monotonic()
        try:
            _, line = await ws_connect(
                lambda: Line(self),
                f"ws://127.0.0.1:{self._random.choice(self._ports)}/",
                websocket_handshake_timeout=ANSWERED_WITHIN_S,
            )
            if line is None:
                raise ConnectionResetError("the connection ended before picows could tell of it")
        except (OSError, WSError, TimeoutError, EOFError) as exc:
            self.ledger.counts["handshakes that failed"] += 1
            if not self.ledger.explained(since, "kill", "restart"):
                self.ledger.mistake(f"{self.name}: no handshake: {exc!r}")
            await asyncio.sleep(0.1)
            return None
        self.line = line
        self._gaps.clear()
        self.present.clear()
        welcome = await line.ask("hello")
        if welcome is None:
            return None
        line.pid = welcome["pid"]
        return line if await self._return(line) else None

    async def _return(self, line: Line) -> bool:
        for room in self.rooms:
            await self._enter_at_last(line, room)
        return not line.gone.is_set()

    async def _enter_at_last(self, line: Line, room: str) -> None:
        """Be in the room as soon as the engine is there, or know that the connection has ended."""
        while not await self._enter(line, room) and not line.gone.is_set():  # noqa: ASYNC110 - the engine is away
            await asyncio.sleep(0.1)

    async def _enter(self, line: Line, room: str) -> bool:
        """Be in the room; where it has been there, with what it has missed."""
        if room not in line.inside:
            if room not in self._at:
                self._fresh.add(room)
            elif not await self._resume(line, room):
                return False
        line.inside.add(room)
        return await line.ask("enter", room=room, name=self.name) is not None

    async def _resume(self, line: Line, room: str) -> bool:
        epoch, seq = self._at[room]
        line.inside.add(room)
        if await line.ask("resume", rooms={room: {"seq": seq, "epoch": epoch}}) is None:
            line.inside.discard(room)
            return False
        return True

    async def leave(self) -> None:
        """Close as a client does that says so."""
        if (line := self.line) is None or line.gone.is_set():
            return
        line.own_end = True
        line.transport.send_close(1000)
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                await line.gone.wait()
        except TimeoutError:
            self.ledger.mistake(f"{self.name}: a close was not answered")
            line.transport.disconnect(graceful=False)

    async def _drop(self) -> None:
        """Be gone without a word, at times in the middle of a frame."""
        assert self.line is not None
        self.line.own_end = True
        if self._random.random() < 0.4:
            self.line.transport.underlying_transport.write(masked_frame(b'{"type":"echo"' + b" " * 200)[:100])
        self.line.transport.disconnect(graceful=False)
        await self.line.gone.wait()

    # ---- what it does

    async def roam(self, over: asyncio.Event, pause_s: float) -> None:
        """Come, do this and that, go, come back, until it is over; then it is there or not."""
        random = self._random
        while not over.is_set():
            line = await self.arrive()
            stays = random.randint(3, 25)
            while line is not None and stays and not line.gone.is_set() and not over.is_set():
                await asyncio.sleep(random.uniform(0.2, 1.8) * pause_s)
                await self._act(line, self._talks + self._moves)
                stays -= 1
            if line is not None and not over.is_set() and not line.gone.is_set():
                await (self.leave() if random.random() < 0.5 else self._drop())
            if not over.is_set():
                await asyncio.sleep(random.choice([0, 0, 0.1, 1.0]) * random.random())

    async def be_there(self) -> None:
        """Return when it is in all of its rooms."""
        while (line := self.line) is None or line.gone.is_set() or not await self._return(line):
            await self.arrive()

    async def talk_of_everything(self) -> None:
        """Each act once, so that its connection has all that it will ever have."""
        assert self.line is not None
        for act, _ in self._talks:
            await act(self, self.line)

    async def talk(self) -> None:
        """One act of somebody who stays."""
        assert self.line is not None
        await self._act(self.line, self._talks)

    async def _act(self, line: Line, acts: Sequence[tuple[Act, float]]) -> None:
        (act,) = self._random.choices([act for act, _ in acts], [weight for _, weight in acts])
        await act(self, line)

    async def _say(self, line: Line) -> None:
        message = self.number, next(self._said)
        room, pad = self._random.choice(self.rooms), "x" * self._random.choice([0, 20, 200, 3_000])
        answer = await line.ask("say", room=room, sender=message[0], n=message[1], pad=pad)
        if answer is not None and not answer["refused"]:
            self.ledger.acknowledged(message)
        elif answer is not None:
            self.ledger.counts["say: not taken, the engine is away"] += 1

    async def _echo(self, line: Line) -> None:
        text = "x" * self._random.choice([1, 100, 2_000, 60_000])
        answers = [line.begin("echo", text=f"{text}{n}") for n in range(self._random.randint(1, 8))]
        for n, (_, exchange) in enumerate(answers):
            answer = await line.end(exchange)
            if answer is not None:
                line.expect("an echo", answer["text"] == f"{text}{n}", True)

    async def _stream(self, line: Line) -> None:
        up_to = self._random.randint(0, 40)
        _, exchange = line.begin("count", up_to=up_to)
        if await line.end(exchange) is not None:
            line.expect("a stream", exchange.items, list(range(up_to)))

    async def _cancel(self, line: Line) -> None:
        ref, exchange = line.begin("count", up_to=1_000_000)
        await asyncio.wait([exchange.over], timeout=self._random.random() * 0.3)
        if not line.gone.is_set():
            line.send("cancel", ref=ref)
        if await line.end(exchange) is not None:
            line.expect("a stream that was cancelled", exchange.items, list(range(len(exchange.items))))

    async def _upload(self, line: Line) -> None:
        rows = self._random.randint(0, 12)
        ref, exchange = line.begin("add")
        for n in range(rows):
            line.transport.send(WSMsgType.TEXT, b'{"type":"item","ref":%d,"item":{"n":%d}}' % (ref, n))
        line.transport.send(WSMsgType.TEXT, b'{"type":"complete","ref":%d}' % ref)
        if (answer := await line.end(exchange)) is not None:
            line.expect("an upload", answer["total"], sum(range(rows)))

    async def _confirm(self, line: Line) -> None:
        if (answer := await line.ask("confirm", n=self.number)) is not None:
            line.expect("a call", answer["n"], self.number + 1)

    async def _move(self, line: Line) -> None:
        """Leave a room for a moment; come back as before or as somebody new."""
        room = self._random.choice(self.rooms)
        if await line.ask("quit", room=room) is None:
            return
        line.inside.discard(room)
        self.present.pop(room, None)
        if self._random.random() < 0.3:
            del self._at[room]
        await asyncio.sleep(self._random.random() * 0.3)
        await self._enter_at_last(line, room)

    async def _read_late(self, line: Line) -> None:
        """What comes meanwhile waits, and is no less."""
        line.transport.underlying_transport.pause_reading()
        await asyncio.sleep(self._random.random())
        line.transport.underlying_transport.resume_reading()

    async def _be_deaf(self, line: Line) -> None:
        """Ask for more than it reads: the server lets it go, or the network has taken all of it."""
        line.deaf = True
        _, exchange = line.begin("flood", room=f"deaf:{self.number}")
        line.transport.underlying_transport.pause_reading()
        await asyncio.sleep(0.5 + self._random.random())
        line.transport.underlying_transport.resume_reading()
        await line.end(exchange)

    _talks: list[tuple[Act, float]] = [(_say, 50), (_echo, 15), (_stream, 8), (_cancel, 5), (_upload, 5), (_confirm, 6)]
    _moves: list[tuple[Act, float]] = [(_move, 8), (_read_late, 2), (_be_deaf, 0.3)]
