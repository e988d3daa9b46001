"""
Acting on others, in all processes: closing connections, taking them into rooms and out of them, telling who is there.

Who acts asks every process that has connections, its own included, and waits until each has said what it did: an act
that has returned is done, and counted. A question goes to the topic of `everyone`, with whom it is about; the answers
come to the asker's own topic. Which processes there are to wait for is held on the backplane, by each while it has
that topic. A call of clients goes the same way, and its answers come as the clients give them (`calling`). Knows no
endpoint: a connection is a `Reachable`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec
from msgspec import Struct

from socketsundso.backplanes import PROCESSES, Backplane
from socketsundso.connection import Counters
from socketsundso.errors import BackplaneUnavailable
from socketsundso.rooms.calling import Ask, Poll, Said, Told, inquire
from socketsundso.rooms.presence import Member
from socketsundso.rooms.room import (
    EVERYONE,
    Header,
    InvalidRoomName,
    Participant,
    Reachable,
    Room,
    Tasks,
    answers_topic,
    room_topic,
    seal,
    some_at_once,
    valid_name,
)

logger = logging.getLogger("socketsundso.rooms")

ANSWER_S = 5.0
"""The longest that one act waits for the other processes."""

BLIND_S = 0.25
"""The same where the engine cannot say which processes there are (a NATS without JetStream)."""

PART_BYTES = 256 << 10
"""About how much of a list of members goes into one payload."""


class Close(Struct, tag="close"):
    code: int
    reason: str


class Leave(Struct, tag="leave"):
    rooms: list[str]


class Join(Struct, tag="join"):
    rooms: list[str]


class Look(Struct, tag="look"):
    """Who is in the room?"""

    room: str


Act = Close | Leave | Join | Look

Seen = tuple[str, bytes | None]
"""A connection in a room, and what it is tracked with, as JSON."""


class Answer(Struct, array_like=True):
    """What one process did; a long list of members comes in several, and so does what clients say."""

    count: int = 0
    seen: list[Seen] = []
    last: bool = True
    asked: list[str] = []
    said: list[Said] = []


class Whom(NamedTuple):
    """Whom an act is for: everybody in any of the topics but these connections."""

    topics: tuple[str, ...]
    excluded: frozenset[str] = frozenset()


class Question:
    """What is being asked, and who has not answered yet; None: nobody knows who there is."""

    def __init__(self, missing: set[str] | None) -> None:
        self.answers: list[Answer] = []
        self.missing = missing
        self._answered = asyncio.Event()
        self._look()

    def hear(self, owner: str, answer: Answer) -> None:
        self.answers.append(answer)
        if answer.last and self.missing is not None:
            self.missing.discard(owner)
        self._look()

    def _look(self) -> None:
        if self.missing is not None and not self.missing:
            self._answered.set()

    def give_up(self) -> None:
        self._answered.set()

    async def answered(self) -> None:
        """Or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S if self.missing is not None else BLIND_S):
                await self._answered.wait()


class Acting:
    """What is asked and answered by one event loop on one backplane."""

    def __init__(self, backplane: Backplane, topics: Mapping[str, Room], counters: Counters, tasks: Tasks) -> None:
        self._backplane, self._topics, self._counters, self._tasks = backplane, topics, counters, tasks
        self.connections: dict[Reachable, None] = {}  # all that are acted on, in rooms or not
        self._questions: dict[int, Question | Poll] = {}  # under way
        self._inquiries: dict[tuple[str, int], asyncio.Task[None]] = {}  # what others ask of clients, by their question
        self._numbers = itertools.count(1)
        self._silent: set[str] = set()  # processes that left a question unanswered, and nothing since
        self._registering: asyncio.Task[None] | None = None  # or registered, when it is done
        self._listening: asyncio.Future[None] | None = None  # the same for our answers
        self._puzzled = False  # something that cannot be read has come, and was logged

    @property
    def _owner(self) -> str:
        return self._backplane.owner

    # ---- who there is

    @property
    def everyone(self) -> list[Participant]:
        """What is sent to all of them makes participants of those that are in no room."""
        return [who for each in self.connections if (who := each.participant_now()) is not None]

    def attend(self, connection: Reachable, opened: Callable[[], Awaitable[None]]) -> None:
        """From now on it is acted on. The first one registers this process, when the backplane is open."""
        self.connections[connection] = None
        if self._registering is None or self._registering.cancelled():
            self._registering = self._tasks.spawn(self._register(opened), "registration of this process")

    def depart(self, connection: Reachable) -> None:
        self.connections.pop(connection, None)

    async def _register(self, opened: Callable[[], Awaitable[None]]) -> None:
        await opened()
        await self._backplane.subscribe(EVERYONE)  # first: who is held to answer must have heard
        await self._backplane.hold(PROCESSES, self._owner, b"1")

    async def registered(self) -> None:
        """Wait until this process, where it has connections, hears what is asked."""
        if self._registering is not None and not self._registering.done():
            await asyncio.wait({self._registering})

    def withdraw(self) -> bool:
        """The backplane will be closed. Whether this process is registered there, which `unregister` ends."""
        registered, self._registering = self._registering, None
        listened, self._listening = self._listening, None
        if listened is not None:
            self._backplane.unsubscribe(answers_topic(self._owner))
        if registered is not None:
            self._backplane.unsubscribe(EVERYONE)
        return registered is not None

    async def unregister(self) -> None:
        with contextlib.suppress(BackplaneUnavailable):  # it ends with our silence
            await self._backplane.release(PROCESSES, self._owner)

    # ---- who acts

    async def act(self, act: Act, whom: Whom, must_publish: bool) -> int:
        """
        How many connections that was. Raises `BackplaneUnavailable`, when it is done in this process, where the others
        could not be asked, if they must be.
        """
        answers, problem = await self._ask(act, whom)
        if problem is not None:
            self._counters.refused += 1
            if must_publish:
                raise problem
        return sum(answer.count for answer in answers)

    async def members(self, room: str) -> list[Member]:
        """Everybody in the room, tracked or not. Raises `BackplaneUnavailable`."""
        answers, problem = await self._ask(Look(room), Whom(()))
        if problem is not None:
            raise problem
        return [
            Member(connection, None if meta is None else msgspec.json.decode(meta))
            for answer in answers
            for connection, meta in answer.seen
        ]

    async def _ask(self, act: Act, whom: Whom) -> tuple[list[Answer], BackplaneUnavailable | None]:
        """All answers, our own first, and what kept the others from being asked."""
        number, question = next(self._numbers), Question(await self._others())
        self._questions[number] = question
        try:
            problem = await self._publish(number, act, whom)
            own = await self._do(act, whom)
            if problem is None:
                await question.answered()
        finally:
            del self._questions[number]
        return [own, *question.answers], problem or self._silence_of(question)

    async def call(self, ask: Ask, whom: Whom, first: bool, must_publish: bool) -> Poll:
        """
        What the connections say, when all have, or the time is over; of the `first` one that answers, at once.

        Raises `BackplaneUnavailable`, and nobody is asked, where the others could not be, if they must be.
        """
        poll = None
        try:
            async with asyncio.timeout(ask.timeout_s):
                poll = Poll(self._owner, await self._others(), first)
                await self._call(poll, ask, whom, must_publish)
        except TimeoutError:
            poll = poll or Poll(self._owner, None, first)
            poll.timed_out = True
        return poll

    async def _call(self, poll: Poll, ask: Ask, whom: Whom, must_publish: bool) -> None:
        number = next(self._numbers)
        self._questions[number] = poll
        own = timer = None
        try:
            if (problem := await self._publish(number, ask, whom)) is not None:
                self._counters.refused += 1
                if must_publish:
                    raise problem
                poll.give_up()
            own = self._tasks.spawn(inquire(ask, self._reached(whom), functools.partial(self._told, poll)), "a call")
            wait_s = BLIND_S if poll.unheard is None else ANSWER_S
            timer = asyncio.get_running_loop().call_later(wait_s, self._no_longer_wait, poll)
            await poll.over()
        finally:
            del self._questions[number]
            if own is not None:
                own.cancel()
            if timer is not None:
                timer.cancel()
            if poll.waits_elsewhere:
                self._publish_quietly((EVERYONE,), Header("withdraw", self._owner, serial=number), b"")

    def _told(self, poll: Poll, told: Told) -> bool:
        poll.hear(self._owner, told)
        return True

    def _no_longer_wait(self, poll: Poll) -> None:
        if silent := poll.be_content():
            self._leave_out(silent)

    async def _others(self) -> set[str] | None:
        """The processes to wait for; None: nobody knows them."""
        try:
            owners = set(await self._backplane.held(PROCESSES))
        except BackplaneUnavailable as error:
            logger.debug("who answers is not known: %s", error)
            return None
        self._silent &= owners
        return owners - self._silent - {self._owner}

    async def _publish(self, number: int, act: Act | Ask, whom: Whom) -> BackplaneUnavailable | None:
        """Why it could not be, if so."""
        if self._listening is None:
            self._listening = asyncio.ensure_future(self._backplane.subscribe(answers_topic(self._owner)))
        await asyncio.shield(self._listening)
        header = Header("ask", self._owner, tuple(whom.excluded), whom.topics, serial=number)
        try:
            self._backplane.publish((EVERYONE,), seal(header, msgspec.msgpack.encode(act)))
            await self._backplane.flush()
        except BackplaneUnavailable as error:
            return error
        return None

    def _silence_of(self, question: Question) -> BackplaneUnavailable | None:
        """Who has not answered is not waited for again before it does; without an engine nobody can."""
        missing = question.missing
        if missing and self._backplane.state != "connected":
            return BackplaneUnavailable("the engine went away before all processes had answered")
        if missing:
            self._leave_out(missing)
        return None

    def _leave_out(self, silent: set[str]) -> None:
        logger.warning("%d processes have not answered within %g s, and are not counted", len(silent), ANSWER_S)
        self._silent |= silent

    def on_lost(self) -> None:
        """No answer comes any more."""
        for question in self._questions.values():
            question.give_up()

    # ---- who is asked

    def on_payload(self, header: Header, payload: bytes) -> None:
        """A question to everyone, or an answer to us."""
        if header.kind == "ask":
            key = header.origin, header.serial
            self._inquiries[key] = task = self._tasks.spawn(
                self._answer(header, payload), "an answer to another process"
            )
            task.add_done_callback(lambda _: self._inquiries.pop(key, None))
        elif header.kind == "withdraw":
            if (inquiry := self._inquiries.get((header.origin, header.serial))) is not None:
                inquiry.cancel()
        elif header.kind == "answer":
            self._hear(header, payload)
        else:
            self.puzzle_over(f"a payload of kind {header.kind!r}")

    def _hear(self, header: Header, payload: bytes) -> None:
        self._silent.discard(header.origin)
        if (question := self._questions.get(header.serial)) is not None:  # else it comes too late
            question.hear(header.origin, msgspec.msgpack.decode(payload, type=Answer))

    async def _answer(self, header: Header, payload: bytes) -> None:
        """Whatever becomes of it, so that nobody waits for us."""
        answer, whom = Answer(), Whom(header.topics, frozenset(header.excluded))
        try:
            act = msgspec.msgpack.decode(payload, type=Act | Ask)
            if isinstance(act, Ask):
                await inquire(act, self._reached(whom), functools.partial(self._tell_said, header))
            else:
                answer = await self._do(act, whom)
        except (msgspec.MsgspecError, InvalidRoomName) as error:
            self.puzzle_over(error)
        finally:
            self._tell(header, answer)

    def _tell(self, asked: Header, answer: Answer) -> None:
        for part in _parts(answer):
            self._tell_part(asked, part)

    def _tell_said(self, asked: Header, told: Told) -> bool:
        return told.last or self._tell_part(asked, Answer(last=False, asked=told.asked, said=told.said))

    def _tell_part(self, asked: Header, part: Answer) -> bool:
        header = Header("answer", self._owner, serial=asked.serial)
        return self._publish_quietly((answers_topic(asked.origin),), header, msgspec.msgpack.encode(part))

    def _publish_quietly(self, topics: tuple[str, ...], header: Header, payload: bytes) -> bool:
        """False: it is lost."""
        try:
            self._backplane.publish(topics, seal(header, payload))
        except BackplaneUnavailable as error:
            logger.debug("what is told to another process is lost: %s", error)
            return False
        return True

    def puzzle_over(self, problem: object) -> None:
        """What somebody else has published on our topics, or a later release, which is told once."""
        if not self._puzzled:
            self._puzzled = True
            logger.warning("what came from the backplane cannot be read, and is ignored (told once): %s", problem)

    # ---- what is done

    async def _do(self, act: Act, whom: Whom) -> Answer:
        match act:
            case Look(room):
                return Answer(seen=self._seen_in(valid_name(room)))
            case Close(code, reason):
                return Answer(sum(each.close_soon(code, reason) for each in self._reached(whom)))
            case Leave(rooms):
                topics = [room_topic(valid_name(room)) for room in rooms]
                return Answer(sum(each.leave_now(topics) for each in self._reached(whom)))
            case Join(rooms):
                return Answer(await _enter_all(self._reached(whom), [room_topic(valid_name(room)) for room in rooms]))

    def _reached(self, whom: Whom) -> list[Reachable]:
        if EVERYONE in whom.topics:
            reached = dict(self.connections)
        else:
            rooms = [room for topic in whom.topics if (room := self._topics.get(topic)) is not None]
            found = (who.reachable for room in rooms for who in room.participants)
            reached = dict.fromkeys(each for each in found if each is not None)
        return [each for each in reached if each.id not in whom.excluded]

    def _seen_in(self, name: str) -> list[Seen]:
        room = self._topics.get(room_topic(name))
        if room is None:
            return []
        entries = room.view.entries if room.view is not None else {}
        return [(who.id, bytes(entries[who.id].meta) if who.id in entries else None) for who in room.participants]


async def _enter_all(reached: list[Reachable], topics: list[str]) -> int:
    """How many are in all of them."""
    entered: list[Reachable] = []

    async def enter(each: Reachable) -> None:
        if await each.enter(topics):
            entered.append(each)

    await some_at_once(enter, reached)
    return len(entered)


def _parts(answer: Answer) -> Iterator[Answer]:
    """As many as it takes so that each fits into a payload."""
    part: list[Seen] = []
    size = 0
    for each in answer.seen:
        part.append(each)
        size += len(each[0]) + len(each[1] or b"")
        if size > PART_BYTES:
            yield Answer(seen=part, last=False)
            part, size = [], 0
    yield Answer(answer.count, part)
