"""
Rooms with history: from the engine's log to live messages, without a hole and without a double.

A participant is `behind` while the log is read for it, then `live`. What comes numbered from the engine is handed on in
order; a number that is missing is looked up in the log, or told as a gap. Knows neither how one becomes a participant
nor who publishes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping

from socketsundso.backplanes import Backplane, Delivery, Keep, Log, backoff
from socketsundso.connection import Counters, Notice, Outgoing, take_turns
from socketsundso.errors import BackplaneUnavailable
from socketsundso.rooms import history
from socketsundso.rooms.history import Position, Resume
from socketsundso.rooms.room import Came, Near, Participant, Room, Tasks, push_all, room_topic, tell_all, unseal

logger = logging.getLogger("socketsundso.rooms")

SendBody = Callable[[bytes], Awaitable[None]]
"""Sends a payload to one peer, and waits for its turn: what is sent so is never dropped."""


class Recovery:
    """The rooms with history of one event loop on one backplane."""

    def __init__(self, backplane: Backplane, topics: Mapping[str, Room], counters: Counters, tasks: Tasks) -> None:
        self._backplane, self._topics, self._counters, self._tasks = backplane, topics, counters, tasks

    def on_delivery(self, room: Room, delivery: Delivery) -> None:
        """A numbered message from the engine: the next one, an old one, or one too far."""
        position = room.log
        if position is None:
            # Nobody has read the log yet: those who are about to are behind, and get it from there or from here.
            room.log = Position(delivery.seq - 1, delivery.epoch)
            room.near = self._hand_on(room, delivery)
        elif room.catching_up is not None:
            room.catching_up.append(delivery)
        elif delivery.epoch == position.epoch and delivery.seq <= position.seq:
            return  # was filled in already
        elif delivery.epoch == position.epoch and delivery.seq == position.seq + 1:
            room.near = self._hand_on(room, delivery)
        else:
            self.catch_up(room)
            room.catching_up = [delivery]

    def _hand_on(self, room: Room, delivery: Delivery) -> Near:
        position = room.log
        assert position is not None
        header, payload = unseal(delivery.payload)
        out = Outgoing(history.numbered(payload, room.name, delivery.seq), room.name, header.ttl_s)
        # who is left out gets the new position: its numbers must not have a hole
        instead = _position(room, delivery.seq, delivery.epoch) if header.excluded else out
        for who, came in room.behind.items():
            came.append(Came(delivery.seq, delivery.epoch, instead if who.id in header.excluded else out))
        audience: Collection[Participant] = room.live
        if room.skip:
            audience = [who for who in room.live if not _includes(room.skip.get(who), delivery)]
            room.skip = {who: had for who, had in room.skip.items() if had.seq > delivery.seq}
        if isinstance(instead, Notice):
            tell_all([who for who in audience if who.id in header.excluded], instead)
            audience = [who for who in audience if who.id not in header.excluded]
        near = push_all(audience, out, self._counters)
        position.move(delivery.seq, delivery.epoch)
        return near

    def catch_up(self, room: Room) -> None:
        """Look for what was missed, in the background."""
        if room.catching_up is None:
            room.catching_up = []
            self._tasks.spawn(self._fill_hole(room), f"catching up in {room.name!r}")

    async def _fill_hole(self, room: Room) -> None:
        """
        Hand on what was missed, or tell every participant that it cannot be had; then go on.

        Tries again as long as the engine cannot tell, unless the room has emptied.
        """
        waits = backoff()
        try:
            while self._topics.get(room.topic) is room and not await self._read_hole(room):
                room.catching_up = []  # the log has it too; it must not grow with the outage
                await asyncio.sleep(next(waits))
        finally:
            came, room.catching_up = room.catching_up or [], None
        for delivery in came:
            self.on_delivery(room, delivery)

    async def _read_hole(self, room: Room) -> bool:
        """False: the engine cannot tell yet."""
        assert room.log is not None
        assert room.keep is not None
        wanted = Resume(room.log.seq, room.log.epoch)
        try:
            log = await self._backplane.read(room.topic, room.keep, wanted.seq)
            if log.epoch == wanted.epoch and log.seq < wanted.seq:  # an engine that came back with an older copy
                await self._backplane.disown(room.topic, log.epoch)
                log = await self._backplane.read(room.topic, room.keep, 0)
            elif log.epoch != wanted.epoch:  # the numbers have begun anew: what has come since is not lost
                log = await self._backplane.read(room.topic, room.keep, 0)
        except BackplaneUnavailable as error:
            logger.info("%r cannot catch up yet: %s", room.name, error)
            return False
        if log.epoch != wanted.epoch:
            begin = log.entries[0][0] - 1 if log.entries else log.seq
            self._tell_gap(room, log._replace(seq=begin), wanted)
        elif not history.recovered(log, wanted):
            self._tell_gap(room, log, wanted)
            return True
        for seq, payload in log.entries:
            near = self._hand_on(room, Delivery(room.topic, payload, seq, log.epoch))
            if near:
                await take_turns(near)
        return True

    def _tell_gap(self, room: Room, log: Log, wanted: Resume) -> None:
        assert room.log is not None
        room.skip = {who: had for who, had in room.skip.items() if had.epoch == log.epoch}  # who is there already
        for notice in _gap_notices(room, log, wanted):
            tell_all([who for who in room.live if who not in room.skip], notice)
        room.log.move(log.seq, log.epoch)

    async def start(self, who: Participant, room: Room, wanted: Resume | None) -> tuple[bool, Log]:
        """
        Bring a participant from the log to the live messages, without a hole or a double. Pushes its
        position.
        """
        assert room.keep is not None
        log = await self._backplane.read(room.topic, room.keep, wanted.possible_seq if wanted else None)
        whole = wanted is not None and history.recovered(log, wanted)
        if wanted is None:
            who.push(_position(room, log.seq, log.epoch))
            self._go_live(who, room, Resume(log.seq, log.epoch))
        return whole, log

    async def begin_at(self, who: Participant, room: Room, begin: int, log: Log, send: SendBody) -> None:
        """
        Tell who comes first where it begins, then send what the log has after that, then live messages: each number
        is the next one. The log may come without its entries, as to `go_on`.
        """
        await send(history.position_notice(room.name, begin, log.epoch))
        await self._replay(who, room, Resume(begin, log.epoch), log, send)

    def _go_live(self, who: Participant, room: Room, at: Resume) -> None:
        """From its position on, a participant gets what comes."""
        came = room.behind.pop(who, None)
        if came is None:
            return  # has left meanwhile
        for seq, epoch, out in came:
            if seq > at.seq and epoch == at.epoch:
                who.push(out)
        room.live[who] = None
        if room.log is None:
            room.log = Position(at.seq, at.epoch)
        elif room.log.epoch != at.epoch:
            room.skip[who] = at
            self.catch_up(room)
        elif room.log.seq < at.seq:
            room.skip[who] = at

    def go_back(self, who: Participant, room: Room, at: Resume) -> None:
        """It was to read the log, and cannot: it goes on where it was, and is told of what could not be kept for it."""
        came = room.behind.pop(who, None)
        if came is None:
            return  # has left meanwhile
        for seq, epoch, out in came:
            if epoch == at.epoch and seq <= at.seq:
                continue
            if epoch != at.epoch or seq != at.seq + 1:
                self._skip_to(who, room, at, Log(epoch, seq - 1, []))
            who.push(out)
            at = Resume(seq, epoch)
        end = room.log
        if end is not None and who not in room.skip and (end.epoch != at.epoch or end.seq > at.seq):
            self._skip_to(who, room, at, Log(end.epoch, end.seq, []))
        room.live[who] = None

    @staticmethod
    def _skip_to(who: Participant, room: Room, at: Resume, end: Log) -> None:
        for notice in _gap_notices(room, end, at):
            who.push(notice)

    async def go_on(
        self,
        who: Participant,
        wanted: Mapping[str, Resume],
        found: Mapping[str, tuple[bool, Log]],
        send: SendBody,
    ) -> None:
        """
        Send what was missed, room by room and in order, then live messages.

        `send` waits for the peer: a long past makes no slow reader, however small its outbound bound is.
        """
        for name, (whole, log) in found.items():
            room = who.rooms.get(room_topic(name))
            if room is not None and room.keep is not None:
                await self._replay(who, room, wanted[name] if whole else Resume(log.seq, log.epoch), log, send)

    async def _replay(self, who: Participant, room: Room, at: Resume, log: Log, send: SendBody) -> None:
        """
        From the log, then from what came meanwhile; and from the log again where that was more than was kept.

        The log may come without its entries, to be read again.
        """
        came = room.behind.get(who)

        def has_left() -> bool:  # and is back perhaps, with another replay
            return came is None or room.behind.get(who) is not came

        while not has_left():
            for seq, sealed in log.entries:
                if has_left():
                    return
                await send(history.numbered(unseal(sealed)[1], room.name, seq))
                at = Resume(seq, log.epoch)
            while came and not has_left() and came[0].epoch == at.epoch and came[0].seq <= at.seq + 1:
                seq, _, out = came.popleft()
                if seq > at.seq:
                    at = Resume(seq, at.epoch)
                    await send(out.payload)
            if has_left():
                return
            if not came and at.seq >= log.seq:
                self._go_live(who, room, at)
                return
            next_ = came[0] if came else Came(log.seq + 1, log.epoch, Outgoing(b""))
            log = await self._read_on(room, at, next_)
            if came and came[0].epoch != log.epoch:  # of numbers that have come to an end
                came.popleft()
            if not history.recovered(log, at):
                for notice in _gap_notices(room, log, at):
                    await send(notice.payload)
                at, log = Resume(log.seq, log.epoch), log._replace(entries=[])

    async def _read_on(self, room: Room, at: Resume, came: Came) -> Log:
        assert room.keep is not None
        try:
            return await self._backplane.read(room.topic, room.keep, at.seq)
        except BackplaneUnavailable:  # nobody knows what was between
            return Log(came.epoch, came.seq - 1, [])


async def read_newest(backplane: Backplane, topic: str, keep: Keep, count: int) -> Log:
    """The log's end and its newest entries, at most `count`, with no number missing among or behind them."""
    end = await backplane.read(topic, keep)
    while count and end.seq:
        log = await backplane.read(topic, keep, max(0, end.seq - count))
        if log.epoch == end.epoch:
            return history.newest(log, count)
        end = log  # the numbers have begun anew between the two
    return end._replace(entries=[])


def _includes(had: Resume | None, delivery: Delivery) -> bool:
    """Whether a position that was read from the log is at the delivery, or after it."""
    return had is not None and had.epoch == delivery.epoch and had.seq >= delivery.seq


def _position(room: Room, seq: int, epoch: str) -> Notice:
    return Notice("position", room.name, history.position_notice(room.name, seq, epoch))


def _gap_notices(room: Room, log: Log, wanted: Resume) -> tuple[Notice, Notice]:
    """That the way from a position to the log's end cannot be had, and where the participant is now."""
    dropped = log.seq - wanted.seq if log.epoch == wanted.epoch and log.seq >= wanted.seq else None
    return Notice.of_gap(room.name, dropped), _position(room, log.seq, log.epoch)
