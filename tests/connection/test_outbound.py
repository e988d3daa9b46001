"""What waits for a slow peer: order, the bound in bytes, and what each policy keeps."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socketsundso.connection.outbound import Conflate, OutboundQueue, Outgoing


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
