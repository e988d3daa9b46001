"""Random joins, leaves, broadcasts, acts of hubs and disconnects, against a model that is a few dictionaries."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Collection, Coroutine
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from socketsundso.backplanes import Keep
from socketsundso.backplanes.memory import bus_of
from socketsundso.connection.outbound import Connection, OutboundQueue
from socketsundso.connection.peer import new_id
from socketsundso.rooms.acting import Join, Leave, Whom
from socketsundso.rooms.local import Rooms
from socketsundso.rooms.room import EVERYONE, Participant, answers_topic, room_topic, user_topic

TOPICS = [room_topic("a"), room_topic("b"), room_topic("doc:1"), room_topic("doc:2"), user_topic("ada")]
NAMES = ["a", "b", "doc:1", "doc:2"]
WHOM = st.just([EVERYONE]) | st.lists(st.sampled_from(TOPICS), min_size=1, max_size=3, unique=True)
_urls = itertools.count(1)


def keeps_history(topic: str) -> bool:
    return topic.startswith("rdoc:")


class Member:
    """A connection, and what the model says of it."""

    def __init__(self, process: int, rooms: Rooms) -> None:
        self.process, self.rooms = process, rooms
        self.topics: set[str] = set()
        self.expected: list[dict[str, Any]] = []
        self.got: list[dict[str, Any]] = []
        queue = OutboundQueue(1 << 20, "close")
        self.participant = Participant(new_id(), Connection(self._send, queue, lambda: None), False, reachable=self)
        self.id = self.participant.id

    def participant_now(self) -> Participant:
        return self.participant

    def close_soon(self, code: int, reason: str) -> bool:
        return True

    def leave_now(self, topics: Collection[str]) -> bool:
        joined = [topic for topic in topics if topic in self.participant.rooms]
        for topic in joined:
            self.rooms.leave(self.participant, topic)
        return bool(joined)

    async def enter(self, topics: list[str]) -> bool:
        await self.rooms.join_all(self.participant, topics, None, self.send)
        return True

    async def _send(self, event: Any) -> None:
        self.got.append(json.loads(event["text"]))

    async def send(self, body: bytes) -> None:
        self.got.append(json.loads(body))


def as_counts(messages: list[dict[str, Any]]) -> Counter[str]:
    """Rooms of one broadcast have no order among each other."""
    return Counter(json.dumps(message, sort_keys=True) for message in messages)


class Membership(RuleBasedStateMachine):
    """Two processes (as far as rooms can tell) on one backplane; after every step the loop comes to rest."""

    members = Bundle("members")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.url = f"memory://model{next(_urls)}"
        self.processes = [Rooms(self.url), Rooms(self.url)]
        for rooms in self.processes:
            rooms.declare({"doc:*": Keep(messages=5, seconds=300)})
            self.complete(rooms.open())  # as a hub does before it acts
        self.alive: list[Member] = []
        self.seqs = dict.fromkeys(TOPICS, 0)
        self.numbers = itertools.count(1)

    def complete(self, call: Coroutine[Any, Any, Any]) -> Any:
        async def until_at_rest() -> Any:
            result = await call
            for _ in range(8):  # from bus to loop, to queue, to writer
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(until_at_rest())

    @rule(target=members, process=st.integers(0, 1))
    def connect(self, process: int) -> Member:
        async def make() -> None:
            rooms = self.processes[process]
            self.alive.append(Member(process, rooms))
            rooms.attend(self.alive[-1])
            await rooms.attended()

        self.complete(make())
        return self.alive[-1]

    @rule(member=members, topic=st.sampled_from(TOPICS))
    def join(self, member: Member, topic: str) -> None:
        self.complete(self.processes[member.process].join(member.participant, topic))
        if keeps_history(topic) and topic not in member.topics:
            member.expected.append(self.position(topic))
        member.topics.add(topic)

    @rule(member=members, topics=st.lists(st.sampled_from(TOPICS), max_size=4, unique=True))
    def join_several(self, member: Member, topics: list[str]) -> None:
        self.complete(self.processes[member.process].join_all(member.participant, topics, None, member.send))
        new = [topic for topic in topics if topic not in member.topics]
        member.expected += [self.position(topic) for topic in new if keeps_history(topic)]
        member.topics.update(topics)

    def position(self, topic: str) -> dict[str, Any]:
        epoch = bus_of(self.url).logs[topic].epoch
        return {"type": "room_position", "room": topic[1:], "seq": self.seqs[topic], "epoch": epoch}

    @rule(member=members, topic=st.sampled_from(TOPICS))
    def leave(self, member: Member, topic: str) -> None:
        async def leave() -> None:
            self.processes[member.process].leave(member.participant, topic)

        self.complete(leave())
        member.topics.discard(topic)

    @rule(member=consumes(members))
    def disconnect(self, member: Member) -> None:
        async def leave_all() -> None:
            self.processes[member.process].leave_all(member.participant)
            self.processes[member.process].acting.depart(member)
            member.participant.connection.close()

        self.complete(leave_all())
        self.alive.remove(member)
        assert member.participant.rooms == {}

    @rule(target=members, member=consumes(members))
    def rejoin_everything(self, member: Member) -> Any:
        """Leave and join within one turn of the loop."""

        async def cycle() -> None:
            rooms = self.processes[member.process]
            for topic in member.topics:
                rooms.leave(member.participant, topic)
                await rooms.join(member.participant, topic)

        self.complete(cycle())
        member.expected += [self.position(topic) for topic in member.topics if keeps_history(topic)]
        return multiple(member)

    @rule(
        process=st.integers(0, 1),
        topics=st.lists(st.sampled_from(TOPICS), min_size=1, max_size=4, unique=True),
        excluded=st.lists(members, max_size=2),
    )
    def broadcast(self, process: int, topics: list[str], excluded: list[Member]) -> None:
        n = next(self.numbers)
        payload = json.dumps({"type": "m", "n": n}).encode()
        ids = frozenset(member.participant.id for member in excluded)
        self.complete(self.processes[process].broadcast(topics, payload, ids))
        logged = [topic for topic in topics if keeps_history(topic)]
        for topic in logged:
            self.seqs[topic] += 1
        for member in self.alive:
            left_out = member in excluded
            for topic in member.topics.intersection(logged):
                copy = {"type": "m", "n": n, "room": topic[1:], "seq": self.seqs[topic]}
                member.expected.append(self.position(topic) if left_out else copy)
            if not left_out and not member.topics.intersection(logged) and member.topics.intersection(topics):
                member.expected.append({"type": "m", "n": n})

    def meant(self, whom: list[str], excluded: list[Member]) -> list[Member]:
        everyone = EVERYONE in whom
        return [m for m in self.alive if (everyone or m.topics.intersection(whom)) and m not in excluded]

    @rule(process=st.integers(0, 1), excluded=st.lists(members, max_size=2))
    def tell_everyone(self, process: int, excluded: list[Member]) -> None:
        n = next(self.numbers)
        ids = frozenset(member.id for member in excluded)
        self.complete(self.processes[process].broadcast([EVERYONE], json.dumps({"type": "m", "n": n}).encode(), ids))
        for member in self.meant([EVERYONE], excluded):
            member.expected.append({"type": "m", "n": n})

    @rule(
        process=st.integers(0, 1),
        whom=WHOM,
        excluded=st.lists(members, max_size=2),
        names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
        joins=st.booleans(),
    )
    def act(self, process: int, whom: list[str], excluded: list[Member], names: list[str], joins: bool) -> None:
        meant, topics = self.meant(whom, excluded), {room_topic(name) for name in names}
        asked = Whom(tuple(whom), frozenset(member.id for member in excluded))
        act = Join(names) if joins else Leave(names)
        count = self.complete(self.processes[process].acting.act(act, asked, must_publish=True))
        assert count == len([m for m in meant if joins or m.topics & topics])
        for member in meant:
            if joins:
                new = topics - member.topics
                member.expected += [self.position(topic) for topic in new if keeps_history(topic)]
                member.topics |= topics
            else:
                member.topics -= topics

    @rule(process=st.integers(0, 1), name=st.sampled_from(NAMES))
    def look(self, process: int, name: str) -> None:
        found = self.complete(self.processes[process].acting.members(name))
        here = [member.id for member in self.alive if room_topic(name) in member.topics]
        assert sorted(each.id for each in found) == sorted(here)

    @invariant()
    def everybody_has_what_the_model_says(self) -> None:
        for member in self.alive:
            assert as_counts(member.got) == as_counts(member.expected)
            assert member.participant.rooms.keys() == member.topics
            seqs = [(message["room"], message["seq"]) for message in member.got if "n" in message and "seq" in message]
            for room in ("doc:1", "doc:2"):
                of_room = [seq for name, seq in seqs if name == room]
                assert of_room == sorted(set(of_room))

    @invariant()
    def nothing_is_left_of_an_emptied_room(self) -> None:
        bus = bus_of(self.url)
        for process, rooms in enumerate(self.processes):
            in_use = {topic for member in self.alive if member.process == process for topic in member.topics}
            assert rooms.topics.keys() == in_use
            subscribed = {topic for topic, who in bus.subscribers.items() if rooms.backplane in who}
            assert subscribed - {EVERYONE, answers_topic(rooms.origin)} == in_use
            for topic, room in rooms.topics.items():
                assert not room.behind
                assert not room.skip
                here = {m.participant for m in self.alive if m.process == process and topic in m.topics}
                assert set(room.live) == here

    def teardown(self) -> None:
        for member in list(self.alive):
            self.disconnect(member)
        self.nothing_is_left_of_an_emptied_room()
        assert not asyncio.all_tasks(self.loop)
        for rooms in self.processes:
            self.complete(rooms.aclose())
        assert (bus_of(self.url).subscribers, bus_of(self.url).entries) == ({}, {})
        self.loop.close()


TestMembership = Membership.TestCase
TestMembership.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
