"""From the log to live messages, whatever the engine answers meanwhile: what a participant is told, by number."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import pytest

from socketsundso import Keep
from socketsundso.backplanes import Log
from socketsundso.connection import Counters, Outgoing
from socketsundso.rooms.history import Position, Resume, numbered
from socketsundso.rooms.recovery import Recovery, read_newest
from socketsundso.rooms.room import Came, Header, Room, Tasks, seal

from .peer import Peer, message, rest
from .serving import run

KEEP = Keep(messages=100)


class Engine:
    """Answers what it is told to, one after the other, to whoever reads."""

    def __init__(self, answers: Iterable[Log]) -> None:
        self.answers = deque(answers)

    async def read(self, topic: str, keep: Keep, after: int | None = None) -> Log:
        return self.answers.popleft()


class Scene:
    """A participant that reads the log of a room; `came` are the numbers, with their epochs, that came meanwhile."""

    def __init__(self, came: Iterable[tuple[int, str]] = (), *answers: Log, at: Position | None = None) -> None:
        self.peer, self.room = Peer(), Room("rdoc", KEEP)
        self.room.log = at
        self.who = self.peer.who
        self.who.rooms[self.room.topic] = self.room
        self.room.behind[self.who] = deque(
            Came(seq, epoch, Outgoing(numbered(message(seq), "doc", seq))) for seq, epoch in came
        )
        engine: Any = Engine(answers)
        self.recovery = Recovery(engine, {self.room.topic: self.room}, Counters(), Tasks())

    async def told(self) -> list[Any]:
        """Numbers of messages; of notices what they say."""
        await rest()
        return [told(each) for each in self.peer.got]

    @property
    def is_live(self) -> bool:
        return self.who in self.room.live


def told(got: dict[str, Any]) -> Any:
    if got["type"] == "gap":
        return f"gap of {got['dropped']}"
    return f"at {got['seq']} of {got['epoch']}" if got["type"] == "room_position" else got["seq"]


def log(epoch: str, end: int, *numbers: int) -> Log:
    return Log(epoch, end, [(seq, seal(Header("message", "origin"), message(seq))) for seq in numbers])


BACK: list[tuple[list[tuple[int, str]], Position | None, list[Any]]] = [
    ([], None, []),
    ([], Position(5, "a"), []),
    ([(4, "a"), (5, "a"), (6, "a"), (7, "a")], None, [6, 7]),
    ([(8, "a")], None, ["gap of 2", "at 7 of a", 8]),
    ([(1, "b"), (2, "b")], None, ["gap of None", "at 0 of b", 1, 2]),
    ([], Position(9, "a"), ["gap of 4", "at 9 of a"]),
    ([(6, "a")], Position(6, "a"), [6]),
    ([(6, "a")], Position(2, "b"), [6, "gap of None", "at 2 of b"]),
]


@pytest.mark.parametrize(("came", "at", "expected"), BACK)
def test_who_cannot_read_the_log_goes_on_where_it_was(
    came: list[tuple[int, str]], at: Position | None, expected: list[Any]
) -> None:
    """What came meanwhile follows its position; what is missing between, or up to where the room is, is told."""

    async def main() -> None:
        scene = Scene(came, at=at)
        scene.recovery.go_back(scene.who, scene.room, Resume(5, "a"))
        assert await scene.told() == expected
        assert scene.is_live

    run(main)


def test_who_has_left_meanwhile_is_in_the_room_no_more() -> None:
    """However its reading ends, with the log or without."""

    async def main() -> None:
        scene = Scene([(6, "a")], log("a", 5))
        del scene.room.behind[scene.who]
        scene.recovery.go_back(scene.who, scene.room, Resume(5, "a"))
        assert await scene.told() == []
        await scene.recovery.start(scene.who, scene.room, None)
        assert not scene.is_live

    run(main)


def test_who_comes_without_a_position_gets_what_came_behind_its_beginning() -> None:
    """What is in the log already, or has numbers of an older one, is no news."""

    async def main() -> None:
        scene = Scene([(9, "old"), (1, "a"), (2, "a"), (3, "a")], log("a", 2))
        await scene.recovery.start(scene.who, scene.room, None)
        assert await scene.told() == ["at 2 of a", 3]
        assert scene.is_live

    run(main)


@pytest.mark.parametrize("leaves_at", [1, 2, 3, 4])
def test_who_leaves_within_a_replay_gets_no_more_of_it(leaves_at: int) -> None:
    """Neither from the log, nor of what came meanwhile."""

    async def main() -> None:
        scene = Scene([(3, "a"), (4, "a")])

        async def send(payload: bytes) -> None:
            await scene.peer.take(payload)
            if len(scene.peer.got) == leaves_at:
                scene.room.behind.clear()

        found = {"doc": (True, log("a", 2, 1, 2))}
        await scene.recovery.go_on(scene.who, {"doc": Resume(0, "a")}, found, send)
        assert await scene.told() == [1, 2, 3, 4][:leaves_at]
        assert not scene.is_live

    run(main)


def test_a_log_that_begins_anew_within_a_replay_is_a_gap() -> None:
    """What came of the old numbers can be followed no further; the participant goes on at the new ones."""

    async def main() -> None:
        scene = Scene([(5, "a")], log("b", 1, 1))
        found = {"doc": (True, log("a", 2, 2))}
        await scene.recovery.go_on(scene.who, {"doc": Resume(1, "a")}, found, scene.peer.take)
        assert await scene.told() == [2, "gap of None", "at 1 of b"]
        assert scene.is_live

    run(main)


def test_the_newest_of_a_log_that_begins_anew_are_those_of_the_new_one() -> None:
    """Also where that happens between its end and its entries; without any it is empty."""

    async def newest(count: int, *answers: Log) -> tuple[str, int, list[int]]:
        engine: Any = Engine(answers)
        epoch, end, entries = await read_newest(engine, "rdoc", KEEP, count)
        return epoch, end, [seq for seq, _ in entries]

    async def main() -> None:
        assert await newest(2, log("a", 9), log("a", 9, 8, 9)) == ("a", 9, [8, 9])
        assert await newest(2, log("a", 9), log("b", 3), log("b", 3, 2, 3)) == ("b", 3, [2, 3])
        assert await newest(2, log("a", 9), log("b", 0)) == ("b", 0, [])
        assert await newest(0, log("a", 9, 9)) == ("a", 9, [])

    run(main)
