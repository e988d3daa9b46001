"""
Connections on picows. Each holds every frame against what may come: an answer that belongs to a request, the next
number of a room, presence, a close code that something explains. What does not fit goes to the ledger as a mistake.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any, Protocol

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from benchmarks.soak.ledger import Ledger

ANSWERED_WITHIN_S = 90.0
"""A request that has no answer by then has none; the machine may be busy with something else."""
_refs = itertools.count(1)
_decode = msgspec.json.Decoder().decode

Message = dict[str, Any]


class Listens(Protocol):
    """Whose connection it is, and who remembers what came over others before."""

    ledger: Ledger
    name: str
    present: dict[str, dict[str, Message]]
    """In each room, by the ids of connections."""

    def heard(self, room: str, seq: int, message: tuple[int, int]) -> None: ...

    def positioned(self, room: str, epoch: str, seq: int) -> None: ...

    def resumed(self, room: str, told: Message) -> None: ...

    def missed(self, room: str, dropped: int | None) -> None: ...


class Exchange:
    """A request, and what has come of its answer."""

    def __init__(self, kind: str) -> None:
        self.kind, self.since = kind, time.monotonic()
        self.items: list[int] = []
        self.over: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def take(self, message: Message) -> bool:
        """Whether that was the last of it."""
        if message["type"] == self.kind:  # an item of the stream
            self.items.append(message["n"])
            return False
        if message["type"] == "more":  # items of an upload may come
            return False
        self.over.set_result(message)
        return True


class Line(WSListener):  # type: ignore[misc]  # picows' classes are compiled, without types
    """One connection of a guest."""

    def __init__(self, guest: Listens) -> None:
        self.guest, self.ledger = guest, guest.ledger
        self.since = time.monotonic()
        self.pid = 0  # of the worker, once it has said so
        self.gone = asyncio.Event()
        self.own_end = False  # the guest closes it, in whichever way
        self.deaf = False  # the guest does not read, and has asked for more than it can take
        self.inside: set[str] = set()  # rooms that it is in, as far as the server has said
        self.close_code = 0
        self._exchanges: dict[int, Exchange] = {}

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.ledger.counts["connections"] += 1

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self.close_code = frame.get_close_code()
            if not transport.is_close_frame_sent:
                transport.send_close(self.close_code)
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            self.ledger.counts["messages received"] += 1
            try:
                self._take(_decode(frame.get_payload_as_memoryview()))
            except (KeyError, TypeError, ValueError, asyncio.InvalidStateError) as exc:
                self.ledger.mistake(f"{self.guest.name}: {frame.get_payload_as_ascii_text()[:200]}: {exc!r}")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        for exchange in self._exchanges.values():
            self.ledger.counts[f"{exchange.kind}: lost"] += 1
            exchange.over.cancel()
        self._exchanges.clear()
        self.ledger.counts[f"ended: {self._why_it_ended()}"] += 1
        self.gone.set()

    def _why_it_ended(self) -> str:
        code, pid, ledger = self.close_code, self.pid, self.ledger
        if code == 1012 and ledger.was_restarted(pid, self.since):
            return "told 1012 by a restart"
        if code == 1013 and self.deaf:
            return "told 1013, since it did not read"
        if code == 1000 and self.own_end:
            return "closed by the client"
        if not code and ledger.was_killed(pid, self.since):
            return "cut off by a kill"
        if not code and self.own_end:
            return "dropped by the client"
        ledger.mistake(f"{self.guest.name}: the connection to {pid} ended with {code or 'no close frame'}")
        return "unexpectedly"

    # ---- what comes

    def _take(self, message: Message) -> None:
        ref = message.get("ref")
        if ref is None:
            self._pushed[message["type"]](self, message)
        elif isinstance(ref, str):
            self._asked(message)
        elif self._exchanges[ref].take(message):
            del self._exchanges[ref]
            for room, told in message.get("rooms", {}).items():
                self.guest.resumed(room, told)

    def _asked(self, message: Message) -> None:
        if message["type"] == "ask":
            self.send("reply", ref=message["ref"], answer=message["n"] + 1)
            self.ledger.counts["calls answered"] += 1
        elif message["type"] != "cancel":
            raise ValueError("a call")

    def _said(self, message: Message) -> None:
        room = message["room"]
        if room not in self.inside:
            raise ValueError("not in that room")
        self.guest.heard(room, message["seq"], (message["sender"], message["n"]))

    def _positioned(self, message: Message) -> None:
        self.inside.add(message["room"])
        self.guest.positioned(message["room"], message["epoch"], message["seq"])

    def _gap(self, message: Message) -> None:
        self.guest.missed(message["room"], message["dropped"])

    def _present(self, message: Message) -> None:
        self.guest.present[message["room"]] = dict(message["members"])

    def _presence_changed(self, message: Message) -> None:
        present = self.guest.present[message["room"]]
        present.update(message["joins"])
        for each in message["leaves"]:
            del present[each]

    def _flooded(self, message: Message) -> None:
        self.ledger.counts["messages of floods"] += 1

    _pushed = {
        "said": _said,
        "room_position": _positioned,
        "gap": _gap,
        "presence_state": _present,
        "presence_diff": _presence_changed,
        "flood": _flooded,
    }

    # ---- what goes

    def send(self, type_: str, **fields: Any) -> None:
        self.transport.send(WSMsgType.TEXT, msgspec.json.encode({"type": type_, **fields}))

    def begin(self, kind: str, **fields: Any) -> tuple[int, Exchange]:
        ref, exchange = next(_refs), Exchange(kind)
        self.ledger.counts[f"{kind}: sent"] += 1
        if self.gone.is_set():
            self.ledger.counts[f"{kind}: lost"] += 1
            exchange.over.cancel()
        else:
            self._exchanges[ref] = exchange
            self.send(kind, ref=ref, **fields)
        return ref, exchange

    async def end(self, exchange: Exchange) -> Message | None:
        """The answer. None where the connection has ended before, or the server has said that the engine is away."""
        done, _ = await asyncio.wait([exchange.over], timeout=ANSWERED_WITHIN_S)
        if not done:
            self.ledger.mistake(f"{self.guest.name}: no answer to {exchange.kind}")
            return None
        if exchange.over.cancelled():
            return None
        answer = exchange.over.result()
        if answer["type"] != "error":
            self.ledger.counts[f"{exchange.kind}: answered"] += 1
            return answer
        self.ledger.counts[f"{exchange.kind}: refused"] += 1
        if answer["code"] != "internal_error" or not self.ledger.explained(exchange.since, "engine"):
            self.ledger.mistake(f"{self.guest.name}: {exchange.kind} was answered {answer}")
        return None

    async def ask(self, kind: str, **fields: Any) -> Message | None:
        """Send a request and give its answer, or None: see `end`."""
        return await self.end(self.begin(kind, **fields)[1])

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.ledger.mistake(f"{self.guest.name}: {what}: {found} instead of {wanted}")
