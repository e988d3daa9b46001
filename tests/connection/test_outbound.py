"""What waits for a slow peer: order, the bound in bytes, and what each policy keeps."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socketsundso.connection.queue import Conflate, Notice, OutboundQueue, Outgoing


def message(number: int, key: str = "a", size: int = 0, room: str = "r") -> Outgoing:
    return Outgoing(json.dumps({"type": "m", "n": number, "key": key, "pad": "x" * size}).encode(), room)


def numbers(queue: OutboundQueue, now: float = 0.0) -> list[Any]:
    """What is taken until nothing waits: the numbers of messages, and gaps as (room, dropped)."""
    taken = []
    while (place := queue.take(now)) is not None:
        content = json.loads(place.out.payload)
        taken.append((content["room"], content["dropped"]) if content["type"] == "gap" else content["n"])
    return taken


SIZE = message(0).size


def filled(on_slow: Any, count: int = 8, room_for: int = 4, **options: Any) -> OutboundQueue:
    """A queue with twice as many messages as its bound allows."""
    queue = OutboundQueue(SIZE * room_for, on_slow, **options)
    for number in range(count):
        queue.put(message(number), 0.0)
    return queue


@pytest.mark.parametrize("on_slow", ["close", "drop_oldest", "drop_newest", Conflate(lambda m: m.key)])
def test_a_burst_within_one_turn_loses_nothing(on_slow: Any) -> None:
    """Before the loop had a turn to write, no policy acts, however much waits."""
    assert numbers(filled(on_slow)) == list(range(8))


def test_close_is_asked_for_only_above_the_bound() -> None:
    """A judgement within the bound changes nothing."""
    assert filled("close", count=4).judge(0.0) is False
    assert filled("close", count=5).judge(0.0) is True


def test_drop_oldest_keeps_the_newest_that_fit() -> None:
    """Of eight messages with room for four, the last four remain, and the drops are counted."""
    queue = filled("drop_oldest")
    assert queue.judge(0.0) is False
    assert queue.counters.dropped == 4
    assert numbers(queue) == [4, 5, 6, 7]


def test_drop_newest_keeps_the_oldest_that_fit() -> None:
    """Of eight messages with room for four, the first four remain."""
    queue = filled("drop_newest")
    assert queue.judge(0.0) is False
    assert numbers(queue) == [0, 1, 2, 3]


def test_conflate_keeps_the_newest_of_each_key_in_the_order_of_sending() -> None:
    """What a newer value replaces is counted, and is no gap."""
    queue = OutboundQueue(1 << 20, Conflate(lambda m: m.key), tell_gaps=True)
    for number, key in enumerate("abacba"):
        queue.put(message(number, key), 0.0)
    queue.judge(0.0)
    assert queue.counters.dropped == 3
    assert numbers(queue) == [3, 4, 5]


def test_conflate_goes_on_until_the_peer_has_caught_up() -> None:
    """
    Once a turn has left something behind, each new value replaces its elder at once; an empty queue ends
    that.
    """
    queue = OutboundQueue(1 << 20, Conflate(lambda m: m["key"]))
    queue.put(message(0), 0.0)
    queue.judge(0.0)
    queue.put(message(1), 0.0)
    assert len(queue.waiting) == 1
    assert numbers(queue) == [1]
    queue.put(message(2), 0.0)
    queue.put(message(3), 0.0)
    assert numbers(queue) == [2, 3]


def test_conflate_keeps_messages_without_a_key_and_survives_a_key_function_that_fails() -> None:
    """A message whose key is None, or cannot be told, is not replaced."""
    queue = OutboundQueue(1 << 20, Conflate(lambda m: None if m.n < 2 else m.no_such_field))
    for number in range(4):
        queue.put(message(number), 0.0)
    queue.judge(0.0)
    assert numbers(queue) == [0, 1, 2, 3]


def test_conflate_is_still_bounded() -> None:
    """More keys than fit: the oldest go."""
    queue = OutboundQueue(SIZE * 4, Conflate(lambda m: m.n))
    for number in range(8):
        queue.put(message(number), 0.0)
    queue.judge(0.0)
    assert numbers(queue) == [4, 5, 6, 7]


def test_a_message_older_than_its_ttl_is_not_sent() -> None:
    """The queue's ttl, or the message's own, which wins."""
    queue = OutboundQueue(1 << 20, "close", ttl_s=1.0)
    queue.put(message(0), 0.0)
    queue.put(Outgoing(message(1).payload, "r", ttl_s=10.0), 0.0)
    queue.put(message(2), 1.5)
    assert numbers(queue, now=2.0) == [1, 2]
    assert queue.counters.dropped == 1


def test_one_message_above_the_bound_is_sent_when_nothing_else_waits() -> None:
    """Its size alone makes nobody slow."""
    queue = OutboundQueue(10, "close")
    queue.put(message(0, size=1000), 0.0)
    assert queue.judge(0.0) is False
    assert numbers(queue) == [0]


def test_gaps_are_told_per_room_before_what_follows_them() -> None:
    """Only where the endpoint asks for it."""
    queue = OutboundQueue(SIZE * 2, "drop_oldest", tell_gaps=True)
    for number, room in enumerate("ababa"):
        queue.put(message(number, room=room), 0.0)
    queue.judge(0.0)
    assert numbers(queue) == [("a", 2), ("b", 1), 3, 4]
    silent = filled("drop_oldest")
    silent.judge(0.0)
    assert ("r", 4) not in numbers(silent)


def test_gaps_of_drop_newest_are_told_where_the_hole_is() -> None:
    """After what was kept, before what comes later."""
    queue = filled("drop_newest", tell_gaps=True)
    queue.judge(0.0)
    queue.put(message(8), 0.0)
    assert numbers(queue) == [0, 1, 2, 3, ("r", 4), 8]


class Sent:
    """Stands for the future of a sender that waits."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def done(self) -> bool:
        return self.error is not None

    def set_exception(self, error: Exception) -> None:
        self.error = error


@pytest.mark.parametrize("on_slow", ["drop_oldest", "drop_newest", Conflate(lambda m: m.key)])
def test_what_a_sender_waits_for_is_never_dropped(on_slow: Any) -> None:
    """A handler's reply is no push: it waits, whatever the policy; and it does not expire."""
    queue = OutboundQueue(SIZE, on_slow, ttl_s=1.0)
    for number in range(6):
        queue.put(message(number), 0.0, Sent() if number in (1, 4) else None)  # type: ignore[arg-type]
    queue.judge(0.5)
    assert {1, 4} <= set(numbers(queue, now=5.0))


@pytest.mark.parametrize("on_slow", ["close", "drop_oldest", "drop_newest", Conflate(lambda m: m.key)])
def test_a_long_reply_makes_no_slow_reader(on_slow: Any) -> None:
    """The bound is for pushes: what waits beside a reply of any length is judged by itself."""
    queue = OutboundQueue(SIZE * 2, on_slow)
    queue.put(message(0, size=10_000), 0.0, Sent())  # type: ignore[arg-type]
    queue.put(message(1), 0.0)
    queue.put(message(2, key="b"), 0.0)
    assert (queue.bytes, queue.near) == (SIZE * 2, True)
    assert queue.judge(0.0) is False
    assert numbers(queue) == [0, 1, 2]
    assert queue.bytes == 0
    queue.put(message(3), 0.0, Sent())  # type: ignore[arg-type]
    queue.put(message(4, size=10_000), 0.0)
    assert queue.judge(0.0) is False
    assert numbers(queue) == [3, 4]


def test_clearing_fails_the_senders_that_wait() -> None:
    """A closed connection leaves nobody waiting for ever."""
    sent = Sent()
    queue = filled("close")
    queue.put(message(9), 0.0, sent)  # type: ignore[arg-type]
    queue.clear()
    assert isinstance(sent.error, ConnectionResetError)
    assert (queue.bytes, queue.counters.dropped) == (0, 8)


POLICIES = st.sampled_from(["close", "drop_oldest", "drop_newest", Conflate(lambda m: m.key)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abc"), st.integers(0, 60)),
        st.just(("take",)),
        st.just(("judge",)),
    ),
    max_size=60,
)


@given(on_slow=POLICIES, bound=st.integers(1, 600), steps=STEPS)
def test_any_history_keeps_order_counts_and_the_bound(on_slow: Any, bound: int, steps: list[Any]) -> None:
    """
    What is taken is in the order of putting; taken + dropped + waiting = put; bytes are right; judged, they
    fit.
    """
    queue = OutboundQueue(bound, on_slow)
    put, taken = 0, []
    for step in steps:
        if step[0] == "put":
            queue.put(message(put, step[1], step[2]), 0.0)
            put += 1
        elif step[0] == "take":
            place = queue.take(0.0)
            taken += [] if place is None else [json.loads(place.out.payload)["n"]]
        else:
            told_to_close = queue.judge(0.0)
            assert told_to_close == (on_slow == "close" and queue.bytes > bound and len(queue.waiting) > 1)
            assert told_to_close or queue.bytes <= bound or len(queue.waiting) <= 1
        assert queue.bytes == sum(place.out.size for place in queue.waiting)
        assert put == len(taken) + queue.counters.dropped + len(queue.waiting)
    taken += numbers(queue)
    assert taken == sorted(taken)


# ---- control frames


def position(seq: int, room: str = "r") -> Notice:
    return Notice("position", room, json.dumps({"type": "room_position", "room": room, "seq": seq}).encode())


def change(n: int, room: str = "r") -> Notice:
    return Notice("diff", room, json.dumps({"type": "presence_diff", "room": room, "n": n}).encode())


def state(n: Any, room: str = "r") -> Notice:
    return Notice("state", room, json.dumps({"type": "presence_state", "room": room, "n": n}).encode())


def told(queue: OutboundQueue, now: float = 0.0) -> list[Any]:
    """What is taken until nothing waits: numbers of messages, and (type, what it says) of control frames."""
    taken: list[Any] = []
    while (place := queue.take(now)) is not None:
        content = json.loads(place.out.payload)
        says = {"room_position": "seq", "gap": "dropped"}.get(content["type"], "n")
        taken.append(content["n"] if content["type"] == "m" else (content["type"], content[says]))
    return taken


ALL_POLICIES = ["close", "drop_oldest", "drop_newest", Conflate(lambda m: m.n), Conflate(lambda m: m.key)]


@pytest.mark.parametrize("on_slow", ALL_POLICIES)
def test_no_policy_drops_a_control_frame(on_slow: Any) -> None:
    """Nor does its age; and no key function is asked about it. It neither counts for the bound nor as dropped."""
    queue = OutboundQueue(SIZE, on_slow, ttl_s=1.0)
    notices = [state(1), position(5), Notice.of_gap("r", 7), change(2, "s")]
    for notice in notices:
        queue.put(notice, 0.0)
    assert queue.bytes == 0
    queue.judge(0.0)
    for number in range(4):
        queue.put(message(number, size=100), 0.0)
    queue.judge(0.0)
    assert [each for each in told(queue, now=9.0) if isinstance(each, tuple)] == [
        ("presence_state", 1),
        ("gap", 7),
        ("room_position", 5),
        ("presence_diff", 2),
    ]
    assert queue.counters.dropped == 4


def test_presence_that_waits_for_a_slow_peer_becomes_one_fresh_state() -> None:
    """However many changes: made when its turn has come, so what waits is one place and holds nothing."""
    queue, now = OutboundQueue(100, "close"), itertools.count()

    def fresh() -> Notice:
        return state(next(now))

    queue.put(message(0), 0.0)
    queue.inform(change(1), fresh)
    queue.inform(change(2), fresh)
    queue.judge(0.0)
    for n in range(3, 1000):
        queue.inform(change(n), fresh)
        queue.inform(change(n, "s"), fresh)
    assert len(queue.waiting) == 4
    assert told(queue) == [0, ("presence_diff", 1), ("presence_state", 0), ("presence_state", 1)]
    queue.inform(change(1000), fresh)
    assert told(queue) == [("presence_diff", 1000)]


def test_the_state_of_a_room_that_was_left_meanwhile_is_not_sent() -> None:
    """`renew` says that it is no news any more."""
    queue = OutboundQueue(100, "close")
    queue.put(message(0), 0.0)
    queue.judge(0.0)
    queue.inform(state(0), lambda: None)
    queue.inform(state(0, "s"), lambda: state(7, "s"))
    assert told(queue) == [0, ("presence_state", 7)]


def test_a_newer_state_of_a_room_takes_the_place_of_an_older_one_behind_everything() -> None:
    """Who leaves a room and joins it again, over and over, makes nothing grow."""
    queue = OutboundQueue(100, "close")
    for n in range(100):
        queue.put(state(n), 0.0)
        queue.put(message(n), 0.0, Sent())  # type: ignore[arg-type]
    assert told(queue) == [*range(99), ("presence_state", 99), 99]


def test_positions_and_gaps_that_wait_between_two_messages_are_one_each() -> None:
    """The gap before the position, which says where that leads to; a gap of unknown size makes the sum unknown."""
    queue = OutboundQueue(1 << 20, "close")
    for n in (1, 2):
        queue.put(position(n), 0.0)
        queue.put(Notice.of_gap("r", n), 0.0)
    queue.put(message(0), 0.0)
    for dropped in (1, None, 1):
        queue.put(Notice.of_gap("r", dropped), 0.0)
        queue.put(position(9), 0.0)
    assert told(queue) == [("gap", 3), ("room_position", 2), 0, ("gap", None), ("room_position", 9)]


def test_gaps_are_told_where_the_messages_are_missing() -> None:
    """Also of messages that expired, between others that did not, and of those that are dropped one after the other."""
    queue = OutboundQueue(1 << 20, "drop_newest", tell_gaps=True)
    for number, ttl_s in enumerate([None, 1.0, 1.0, None, 1.0]):
        queue.put(Outgoing(message(number).payload, "r", ttl_s), 0.0)
    queue.put(position(1), 0.0)
    assert told(queue, now=2.0) == [0, ("gap", 2), 3, ("gap", 1), ("room_position", 1)]
    queue = filled("drop_newest", tell_gaps=True)
    for number in range(8, 100):
        queue.judge(0.0)
        queue.put(message(number), 0.0)
    queue.judge(0.0)
    assert told(queue) == [0, 1, 2, 3, ("gap", 96)]


def test_a_gap_names_a_room_that_the_peer_is_in() -> None:
    """Of the rooms of a broadcast to several; none where what is missing was for a user."""
    queue = OutboundQueue(1, "drop_oldest", tell_gaps=True)
    queue.is_in = {"b", "c"}.__contains__
    for room in (("a", "b", "c"), ("c", "b"), ("a",), None, "b", None, "a"):
        queue.put(Outgoing(message(0).payload, room), 0.0)
    queue.judge(0.0)
    gaps = []
    while (place := queue.take(0.0)) is not None and b"gap" in place.out.payload:
        gaps.append(json.loads(place.out.payload))
    assert [(each["room"], each["dropped"]) for each in gaps] == [("b", 2), ("c", 1), (None, 3)]


QUEUE_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("message"), st.sampled_from("ab"), st.sampled_from([None, 1.0, 3.0])),
        st.tuples(st.just("position"), st.sampled_from("ab"), st.none()),
        st.tuples(st.just("presence"), st.sampled_from("ab"), st.none()),
        st.tuples(st.sampled_from(["take", "take", "judge", "later"]), st.none(), st.none()),
    ),
    max_size=80,
)


BY_KEY = Conflate(lambda m: m.key)


@pytest.mark.parametrize("on_slow", ["drop_oldest", "drop_newest", Conflate(lambda m: None), BY_KEY])
@given(bound=st.integers(1, 600), steps=QUEUE_STEPS)
def test_whatever_happens_a_client_can_count(on_slow: Any, bound: int, steps: list[Any]) -> None:
    """
    Before each message, and at the end, all earlier ones of its room have been received, or replaced by a newer value,
    or told as a gap, and that sum is what the counter says. Positions come in order with messages; presence, put
    together from what is told, is what is. What waits of control frames is bounded by what waits of messages.
    """
    queue = OutboundQueue(bound, on_slow, tell_gaps=True)
    sent: Counter[str] = Counter()
    received: Counter[str] = Counter()
    gaps: Counter[str] = Counter()
    order: dict[str, list[int]] = {"a": [], "b": []}
    truth, seen = {"a": 0, "b": 0}, {"a": 0, "b": 0}
    now, numbers = 0.0, itertools.count()

    def take() -> bool:
        if (place := queue.take(now)) is None:
            return False
        content = json.loads(place.out.payload)
        room = content.get("room")
        if content["type"] == "m":
            room = content["key"]
            before = content["before"]
            assert received[room] + gaps[room] == before or (on_slow is BY_KEY and received[room] + gaps[room] < before)
            received[room] += 1
            order[room].append(content["n"])
        elif content["type"] == "gap":
            gaps[room] += content["dropped"]
        elif content["type"] == "room_position":
            order[room].append(content["seq"])
        else:
            seen[room] = content["n"]
        return True

    for kind, room, ttl_s in steps:
        if kind == "message":
            fields = {"type": "m", "n": next(numbers), "key": room, "before": sent[room]}
            queue.put(Outgoing(json.dumps(fields).encode(), room, ttl_s), now)
            sent[room] += 1
        elif kind == "position":
            queue.put(position(next(numbers), room), now)
        elif kind == "presence":
            truth[room] += 1
            queue.inform(change(truth[room], room), lambda room=room: state(truth[room], room))
        elif kind == "later":
            now += 1.0
        elif kind == "take":
            take()
        else:
            queue.judge(now)
        pushes = sum(place.is_push for place in queue.waiting)
        assert queue.pushes == pushes
        runs = sum(getattr(place, "run", None) is not None for place in queue.waiting)
        assert runs <= 2 * (pushes + 2)
    while take():
        pass
    assert seen == truth
    assert all(places == sorted(places) for places in order.values())
    assert sent.total() == received.total() + queue.counters.dropped
    if on_slow is not BY_KEY:
        assert gaps.total() == queue.counters.dropped


class message_fields:  # stands for the fields of any message
    key = "a"
