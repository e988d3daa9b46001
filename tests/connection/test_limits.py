"""Rate limits: how many messages pass, what is told to the others, and who is closed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.exceptions
from hypothesis import given
from hypothesis import strategies as st

from socketsundso import DefinitionError, Endpoint, EventError, RateLimit, RateLimited, event
from socketsundso.connection import limits
from tests.harness import Peer, ask, talk
from tests.server.serving import run, serving

SERVERS = ["ours", "websockets-sansio"]


class Clock:
    """Stands still until it is told to go on."""

    now = 10**15

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limits, "monotonic_ns", lambda: clock.now)
    return clock


class Holder:
    """What a meter keeps its numbers on."""

    _used: Any = None


def passes(meter: Any, holder: Any) -> bool:
    try:
        meter.charge(holder)
    except RateLimited:
        return False
    return True


@pytest.mark.parametrize(("n", "per_s", "burst"), [(1, 1, 1), (3, 1, 3), (20, 1, 40), (7, 0.001, 7), (1, 86_400, 5)])
def test_a_burst_passes_at_once_and_not_one_more(stopped: Clock, n: int, per_s: float, burst: int) -> None:
    """Exactly, however the numbers divide."""
    meter, holder = RateLimit(n, per_s=per_s, burst=burst).meter("say"), Holder()
    assert [passes(meter, holder) for _ in range(burst + 1)] == [True] * burst + [False]


def test_after_the_burst_one_passes_in_each_interval(stopped: Clock) -> None:
    """4 in 2 seconds are one every half second, and not all four when the two seconds are over."""
    meter, holder = RateLimit(4, per_s=2).meter("say"), Holder()
    assert [passes(meter, holder) for _ in range(5)] == [True] * 4 + [False]
    passed = []
    for _ in range(8):
        stopped.advance(0.25)
        passed.append(passes(meter, holder))
    assert passed == [False, True] * 4


def test_who_waits_as_long_as_it_is_told_passes(stopped: Clock) -> None:
    """And not before."""
    meter, holder = RateLimit(3, per_s=1, burst=1).meter("say"), Holder()
    meter.charge(holder)
    stopped.advance(0.1)
    with pytest.raises(RateLimited) as refused:
        meter.charge(holder)
    assert refused.value.retry_after_s == 0.234  # rounded up to milliseconds
    stopped.advance(0.233)
    assert not passes(meter, holder)
    stopped.advance(0.001)
    assert passes(meter, holder)


def test_what_is_refused_counts_for_nothing(stopped: Clock) -> None:
    """Who storms for a while is not punished for it by a longer wait."""
    meter, holder = RateLimit(1, per_s=1).meter("say"), Holder()
    meter.charge(holder)
    for _ in range(10):
        assert not passes(meter, holder)
    stopped.advance(1)
    assert passes(meter, holder)


def test_silence_saves_up_no_more_than_the_burst(stopped: Clock) -> None:
    """Not even that of a year."""
    meter, holder = RateLimit(2, per_s=1, burst=3).meter("say"), Holder()
    meter.charge(holder)
    stopped.advance(366 * 24 * 3600)
    assert [passes(meter, holder) for _ in range(4)] == [True, True, True, False]


@given(
    st.integers(1, 50),
    st.floats(0.001, 100),
    st.integers(1, 50),
    st.lists(st.floats(0, 10), min_size=1, max_size=60),
)
def test_never_more_pass_than_burst_and_rate_allow(n: int, per_s: float, burst: int, gaps: list[float]) -> None:
    """In any stretch of time, whenever the messages come."""
    clock, passed = Clock(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "monotonic_ns", lambda: clock.now)
        meter, holder = RateLimit(n, per_s=per_s, burst=burst).meter("say"), Holder()
        for gap in gaps:
            clock.advance(gap * per_s / n)
            try:
                if passes(meter, holder):
                    passed.append(clock.now)
            except Exception:  # the 20th refusal in a row
                break
    interval = int(per_s * 1e9) // n
    for first, begin in enumerate(passed):
        for last, end in enumerate(passed[first:], first):
            assert last - first + 1 <= burst + (end - begin) // interval


class Say(Endpoint):
    @event(guards=[RateLimit(2, per_s=60)])
    async def on_say(self, msg: str) -> Any:
        return {"msg": msg}

    @event(guards=[RateLimit(1, per_s=60)])
    async def on_shout(self) -> Any:
        return {}

    @event
    async def on_free(self) -> Any:
        return {}


def test_what_is_refused_is_answered_with_the_time_to_wait(stopped: Clock) -> None:
    """And with the message's `ref`, in an error frame."""
    answers = talk(Say, *({"type": "say", "msg": "x", "ref": ref} for ref in range(3))).answers
    assert answers[2] == {"type": "error", "code": "rate_limited", "ref": 2, "errors": [], "retry_after_s": 30.0}


def test_each_event_and_each_connection_has_its_own(stopped: Clock) -> None:
    """One that is used up takes nothing from another one, also where several events share the same object."""
    shared = RateLimit(1, per_s=60)

    class Shared(Endpoint):
        @event(guards=[shared])
        async def on_a(self) -> Any:
            return {}

        @event(guards=[shared])
        async def on_b(self) -> Any:
            return {}

    frames = [{"type": "a"}, {"type": "b"}, {"type": "a"}]
    for _ in range(2):
        assert [answer["type"] for answer in talk(Shared, *frames).answers] == ["a", "b", "error"]


@pytest.mark.parametrize(
    "bad",
    [
        '{"type":"say"}',
        '{"type":"say","msg":5}',
        '{"type":"say","msg":"x","more":1}',
        '{"type":"say","ref":[],"msg":"x"}',
    ],
)
def test_what_is_not_valid_is_charged_before_it_is_judged(stopped: Clock, bad: str) -> None:
    """Once: a client that sends nonsense has no more of it looked at than another one."""
    codes = [answer["code"] for answer in talk(Say, *[bad] * 4).answers]
    assert codes == ["validation_error", "validation_error", "rate_limited", "rate_limited"]


def test_validators_do_not_run_for_what_is_refused(stopped: Clock) -> None:
    """Nor does the handler."""
    from typing import Annotated

    from pydantic import AfterValidator

    judged = []

    def note(value: str) -> str:
        judged.append(value)
        return value

    class Noted(Endpoint):
        @event(guards=[RateLimit(1, per_s=60)])
        async def on_say(self, msg: Annotated[str, AfterValidator(note)]) -> None: ...

    talk(Noted, *({"type": "say", "msg": each} for each in "abc"))
    assert judged == ["a"]


class Limited(Endpoint):
    rate_limit = RateLimit(3, per_s=60)

    @event
    async def on_say(self, msg: str) -> Any:
        return {"msg": msg}


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"say","msg":"x"}',
        '{"type":"say","msg":5}',
        '{"type":"nope"}',
        "5",
        '{"a":1}',
        '{"type":7,"ref":1}',
        b"[]",
    ],
)
def test_the_limit_of_a_class_counts_every_frame(stopped: Clock, frame: Any) -> None:
    """Malformed ones and unknown events, too."""
    answers = talk(Limited, *[frame] * 5).answers
    assert [answer.get("code") == "rate_limited" for answer in answers] == [False] * 3 + [True] * 2


def test_the_refusal_of_an_unknown_event_has_its_ref(stopped: Clock) -> None:
    """As its answer would have had."""
    answers = talk(Limited, *[{"type": "nope", "ref": "r"}] * 4).answers
    assert (answers[3]["code"], answers[3]["ref"]) == ("rate_limited", "r")


def test_the_limit_of_the_class_is_charged_before_that_of_the_event(stopped: Clock) -> None:
    """Both have to let a message pass."""

    class Both(Limited):
        @event(guards=[RateLimit(1, per_s=60)])
        async def on_say(self, msg: str) -> Any:
            return {}

        @event
        async def on_free(self) -> Any:
            return {}

    frames = [{"type": "say", "msg": "x"}, {"type": "say", "msg": "x"}, {"type": "free"}, {"type": "free"}]
    assert [answer["type"] for answer in talk(Both, *frames).answers] == ["say", "error", "free", "error"]


def test_a_subclass_inherits_the_limit_or_has_its_own(stopped: Clock) -> None:
    """None takes it away."""

    class Inherits(Limited): ...

    class Stricter(Limited):
        rate_limit = RateLimit(1, per_s=60)

    class Free(Limited):
        rate_limit = None

    passed = [
        sum(answer["type"] == "say" for answer in talk(cls, *[{"type": "say", "msg": "x"}] * 5).answers)
        for cls in (Inherits, Stricter, Free)
    ]
    assert passed == [3, 1, 5]


def test_handlers_that_are_attached_later_are_limited_too(stopped: Clock) -> None:
    """Those of the class, and those of one connection."""

    class Later(Endpoint):
        rate_limit = RateLimit(1, per_s=60)

        async def on_connect(self) -> None:
            await super().on_connect()
            self.handlers["own"] = type(self).handlers["late"]

    @Later.event("late")
    async def late(self: Later) -> Any:
        return {}

    for name in ("late", "own"):
        assert [answer["type"] for answer in talk(Later, {"type": name}, {"type": name}).answers] == [name, "error"]


def test_the_twentieth_refusal_in_a_row_closes_4429(stopped: Clock) -> None:
    """Nineteen are answered, and nothing is read behind the last one."""
    connection = talk(Say, *[{"type": "shout"}] * 30)
    assert [answer["type"] for answer in connection.answers] == ["shout"] + ["error"] * 19
    assert (connection.closed, connection.sent[-1]["reason"]) == (4429, "rate limited")


def test_who_passes_once_begins_to_count_anew(stopped: Clock) -> None:
    """Nineteen refusals, one message, nineteen refusals: nobody is closed."""

    def frames() -> Iterator[Any]:
        yield from [{"type": "shout"}] * 20
        stopped.advance(60)
        yield from [{"type": "shout"}] * 20

    async def main() -> Peer:
        connection = Peer(Say, code=1000)
        source = frames()
        connection.incoming = [{"type": "websocket.connect"}]

        def feed() -> None:
            if not connection.incoming:
                frame = next(source, None)
                connection.incoming.append(
                    {"type": "websocket.disconnect", "code": 1000}
                    if frame is None
                    else {"type": "websocket.receive", "text": json.dumps(frame)}
                )

        connection.before_receive = feed
        return await connection.run()

    connection = asyncio.run(main())
    assert connection.closed is None
    assert [answer["type"] for answer in connection.answers] == (["shout"] + ["error"] * 19) * 2


def test_a_limit_can_be_asked_by_a_guard(stopped: Clock) -> None:
    """`limit(endpoint, call)` counts with the same numbers as in `guards`."""
    limit = RateLimit(1, per_s=60)

    async def only_strangers(endpoint: Any, call: Any) -> None:
        if endpoint.user is None:
            limit(endpoint, call)

    class Known(Endpoint):
        @event(guards=[only_strangers])
        async def on_say(self) -> Any:
            return {}

    class Friends(Known):
        async def authenticate(self) -> str:
            return "ada"

    say = {"type": "say"}
    assert [answer["type"] for answer in talk(Known, say, say).answers] == ["say", "error"]
    assert [answer["type"] for answer in talk(Friends, say, say).answers] == ["say", "say"]


def test_an_overridden_send_exception_is_given_the_time(stopped: Clock) -> None:
    """`RateLimited` is an EventError with `retry_after_s`."""

    class Own(Say):
        async def send_exception(self, exc: Exception) -> None:
            assert isinstance(exc, RateLimited)
            assert isinstance(exc, EventError)
            await self.respond({"type": "slow_down", "wait": exc.retry_after_s})

    shout = {"type": "shout"}
    assert talk(Own, shout, shout).answers[1] == {"type": "slow_down", "wait": 60.0}


def test_old_error_frames_have_nothing_but_errors(stopped: Clock) -> None:
    """`legacy_errors` is what 0.0.x sent."""

    class Legacy(Limited):
        legacy_errors = True
        rate_limit = RateLimit(1, per_s=1)

    assert talk(Legacy, *[{"type": "say", "msg": "x"}] * 2).answers[1] == {"errors": []}


@pytest.mark.parametrize(
    ("n", "options"),
    [
        (0, {"per_s": 1}),
        (-1, {"per_s": 1}),
        (0.5, {"per_s": 1}),
        ("20", {"per_s": 1}),
        (True, {"per_s": 1}),
        (None, {"per_s": 1}),
        (1, {"per_s": 0}),
        (1, {"per_s": -1}),
        (1, {"per_s": math.nan}),
        (1, {"per_s": math.inf}),
        (1, {"per_s": 1e300}),
        (1, {"per_s": "1"}),
        (1, {"per_s": True}),
        (1, {"per_s": 1, "burst": 0}),
        (1, {"per_s": 1, "burst": 1.5}),
        (10**10, {"per_s": 1}),
        (1, {"per_s": 1e-12}),
    ],
)
def test_what_is_no_limit_is_refused_where_it_is_written(n: Any, options: Any) -> None:
    """Also the half a message, which is told how to be written."""
    with pytest.raises(DefinitionError):
        RateLimit(n, **options)


@pytest.mark.parametrize("given", [20, "20/s", (20, 1), RateLimit, lambda: None])
def test_what_is_no_limit_of_a_class_is_refused_at_import(given: Any) -> None:
    """With how it is written."""
    with pytest.raises(DefinitionError, match="RateLimit\\(100, per_s=10\\)"):
        type("Chat", (Endpoint,), {"rate_limit": given})


def test_a_limit_that_is_set_later_is_refused() -> None:
    """It is read when the class is made."""
    with pytest.raises(DefinitionError, match="rate_limit"):
        Limited.rate_limit = RateLimit(1, per_s=1)


def test_a_limit_says_what_it_is() -> None:
    """In a traceback, for instance."""
    assert repr(RateLimit(20, per_s=1)) == "RateLimit(20, per_s=1, burst=20)"


@pytest.mark.parametrize("server", SERVERS)
def test_a_storm_over_a_real_server_is_answered_and_closed(server: str) -> None:
    """A client that sends 5,000 messages without a pause is closed with 4429; another one is well."""

    async def main() -> None:
        options = {} if server == "ours" else {"ws": server}
        async with (
            serving(Say, **options) as at,
            websockets.asyncio.client.connect(at.url) as calm,
            websockets.asyncio.client.connect(at.url) as storm,
        ):
            with contextlib.suppress(websockets.exceptions.ConnectionClosed):  # it may hear that while it still sends
                for _ in range(5_000):
                    await storm.send('{"type":"shout","ref":1}')
                async for _ in storm:
                    pass
            await storm.wait_closed()
            assert storm.close_code == 4429
            await calm.send('{"type":"shout"}')
            assert json.loads(await calm.recv()) == {"type": "shout"}

    run(main())


def test_nothing_is_kept_of_who_has_left(stopped: Clock) -> None:
    """What has passed is kept on the endpoint, and ends with it."""
    ask(Say, {"type": "shout"})
    meter = Say.handlers["shout"].guards[0].meter("shout")
    assert not hasattr(meter, "__dict__")
    assert Say._used is None
