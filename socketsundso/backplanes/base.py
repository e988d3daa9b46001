"""
The contract between rooms and the engines that carry payloads from process to process.

In: opaque payloads (bytes) for a *topic* (a string, any characters; each engine encodes it with
`encode_topic`, so that no name can be a wildcard or leave its own prefix). Out: the same payloads, to every
subscribed backplane, the publishing one included. A backplane knows topics, never connections, rooms or
messages.

Three services, of which a process pays only for those it uses:

* **publish/subscribe**: at most once, in order per publisher.
* **a log per topic** (`append`, `read`): the engine numbers the payloads 1, 2, 3..., keeps the latest of
  them and publishes each. An `epoch` names one run of the numbers: another epoch means that the log was
  lost and began anew.
* **held entries** (`hold`, `release`, `held`): small values that end with the process that holds them, at
  the latest `ttl_s` after its last sign of life.

Beside them it remembers a few small values for all, until they are forgotten (`remember`, `forget`, `remembered`).

Nothing here blocks for ever: what the engine cannot do now raises `BackplaneUnavailable`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import random
import re
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import SplitResult, unquote_plus, urlsplit

from msgspec import Struct

from socketsundso.errors import DefinitionError

State = Literal["connected", "reconnecting", "closed"]
"""How a backplane is: `reconnecting` also before it has connected for the first time."""

DEFAULT_PREFIX = "socketsundso"
PRESENCE_TTL_S = 30.0
MIN_PRESENCE_TTL_S = 0.1
LOG_GRACE_S = 86_400.0
"""How long an engine remembers a log's numbers after its last entry has expired."""

DECLARATIONS = "dhistory"
"""The topic where the living processes hold what they declare; those of rooms begin with other letters."""

PROCESSES = "dprocesses"
"""The topic where each process that has connections holds an entry, its own name."""

MAX_ENCODED_TOPIC = 120
"""Longer encodings end in a hash: a NATS stream's name becomes the name of a directory."""


MAX_MESSAGES = 1_000_000_000
MAX_SECONDS = 3_155_760_000
"""Of a `Keep`; NATS counts nanoseconds in 63 bits."""


class Keep(Struct, frozen=True):
    """
    How much of a room's past is kept: the latest `messages`, none of them older than `seconds`.

    `Keep(messages=100, seconds=300)` lets a client that was away for up to five minutes, and missed up to a
    hundred messages, recover all of them. `seconds=math.inf` keeps them however old they are. Raises DefinitionError.
    """

    messages: int = 100
    seconds: float = 300.0

    def __post_init__(self) -> None:
        messages, seconds = self.messages, self.seconds
        if type(messages) is not int or not 1 <= messages <= MAX_MESSAGES:
            raise DefinitionError(
                f"Keep(messages={_shown(messages)}): how many is a whole number from 1 to {MAX_MESSAGES:,}"
            )
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not _is_duration(seconds):
            raise DefinitionError(
                f"Keep(seconds={_shown(seconds)}): how long is a number above 0 and up to {MAX_SECONDS:,} (100 years), "
                "or math.inf: for ever"
            )

    @property
    def forever(self) -> bool:
        """Whether only the number of messages bounds what is kept."""
        return self.seconds == math.inf


def _is_duration(seconds: float) -> bool:
    return 0 < seconds <= MAX_SECONDS or seconds == math.inf  # NaN is neither


def _shown(value: object) -> str:
    """What somebody wrote, in few words."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class Delivery(NamedTuple):
    """One payload of a `topic` as it reaches a subscriber. `seq` is 0 and `epoch` empty where it was not logged."""

    topic: str
    payload: bytes
    seq: int = 0
    epoch: str = ""


class Log(NamedTuple):
    """
    What `read` found: `seq`, the last number given, its `epoch`, and in `entries` the `(seq, payload)` of what is kept
    and was asked for.
    """

    epoch: str
    seq: int
    entries: list[tuple[int, bytes]]


class Receiver(Protocol):
    """What a backplane calls, always on the event loop that opened it."""

    def on_delivery(self, delivery: Delivery) -> None:
        """A payload has come in for a subscribed topic."""

    def on_lost(self) -> None:
        """The engine is away; payloads may be missed from now on."""

    def on_restored(self) -> None:
        """
        The engine is back and every subscription is in force again; or what is held had lapsed, and is back. Not
        called where the first attempt to connect succeeded.
        """


class Backplane(Protocol):
    """One connection of one event loop to an engine. Opened once, closed once."""

    owner: str
    """Names this backplane among all that use the engine; what it holds is held under this name."""

    ttl_s: float
    """How long after its last sign of life the entries of a killed process may last."""

    @property
    def state(self) -> State:
        """Whether the engine is there now."""

    async def open(self, receiver: Receiver) -> None:
        """
        Connect; returns after the first attempt, also where that failed (`state` is then "reconnecting").
        """

    async def aclose(self) -> None:
        """Release what is held and end the connection."""

    async def subscribe(self, topic: str) -> None:
        """
        From the return on, every payload of the topic arrives; while the engine is away, from its return
        on.
        """

    def unsubscribe(self, topic: str) -> None:
        """Nothing of the topic arrives any more; the engine is told in the background."""

    def publish(self, topics: tuple[str, ...], payload: bytes) -> None:
        """
        Hand the payload over without waiting. Raises `BackplaneUnavailable` where it certainly goes
        nowhere.
        """

    async def flush(self) -> None:
        """
        Wait until the engine has what was published so far. Raises `BackplaneUnavailable` where a part was
        lost.
        """

    async def append(self, topic: str, payload: bytes, keep: Keep) -> tuple[int, str]:
        """Number, store and publish a payload; returns its `(seq, epoch)`."""

    async def append_many(self, topic: str, payloads: list[bytes], keep: Keep) -> list[tuple[int, str]]:
        """
        As `append`, for several in their order, without a round trip for each. Raises `BackplaneUnavailable`, whose
        `taken` tells how many of them, from the first on, are certainly in the log.
        """

    async def read(self, topic: str, keep: Keep, after: int | None = None) -> Log:
        """
        The log's end, and the entries numbered above `after` (none if that is None). Begins a missing log.
        """

    async def disown(self, topic: str, epoch: str) -> None:
        """
        End a log that has lost numbers it had given, unless it is of another epoch already: it would give them to
        other payloads. The next to use it begins anew.
        """

    async def logged(self, topic: str) -> Keep | None:
        """How the topic is logged, by whichever process; None if it is not."""

    async def hold(self, topic: str, key: str, value: bytes) -> None:
        """Show an entry to all until it is released, or this process has ended. Another value replaces it."""

    async def release(self, topic: str, key: str) -> None:
        """End an entry. Raises `BackplaneUnavailable` where the others may see it still: to be called again."""

    async def held(self, topic: str) -> dict[str, bytes]:
        """What living backplanes hold for the topic, all processes together."""

    async def alive(self, owners: frozenset[str]) -> frozenset[str]:
        """Those of the owners (which hold something) that have not missed their beats."""

    async def remember(self, key: str, value: bytes) -> None:
        """Keep a small value for all, whoever lives; the key is letters and digits. Another value replaces it."""

    async def forget(self, key: str) -> None:
        """Remember it no longer, whoever said it."""

    async def remembered(self) -> dict[str, bytes]:
        """All that is remembered under the prefix."""


def new_owner() -> str:
    return uuid.uuid4().hex[:16]


_UNSAFE = re.compile(rb"[^A-Za-z0-9_-]")


def encode_topic(topic: str) -> str:
    """
    The topic in letters, digits, `_`, `-` and `=`, which no engine interprets; different topics never meet.

    `room:1` becomes `room=3A1`.
    """
    encoded = _UNSAFE.sub(lambda hit: b"=%02X" % hit.group()[0], topic.encode("utf-8", "surrogatepass")).decode()
    if len(encoded) <= MAX_ENCODED_TOPIC:
        return encoded
    # `=h` cannot come from the line above, so a hashed topic never equals an unhashed one.
    return f"{encoded[:64]}=h{hashlib.sha256(encoded.encode()).hexdigest()[:40]}"


def backoff(first_s: float = 0.05, cap_s: float = 2.0) -> Iterator[float]:
    """
    Endless waits between attempts: doubling up to the cap, each drawn from its upper half so that processes
    spread.
    """
    wait_s = first_s
    while True:
        yield wait_s * random.uniform(0.5, 1.0)
        wait_s = min(cap_s, wait_s * 2)


class InvalidBackplane(ValueError):
    """A URL that names no backplane. Its text never has more of the URL than the scheme: it may have a password."""

    def __init__(self, url: str, problem: str) -> None:
        scheme = url.partition("://")[0] + "://" if "://" in url else ""
        super().__init__(f"the backplane's {scheme} URL {problem}".replace("  ", " "))


WRITTEN_WITH_PERCENT = "in a user name or password, write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, , as %2C"


def split_options(url: str, own: Mapping[str, Callable[[str], Any]]) -> tuple[str, dict[str, Any]]:
    """
    Take our own options out of a URL's query: `redis://h/0?prefix=app&ssl=1` -> `redis://h/0?ssl=1`,
    `{"prefix": "app"}`. The rest stays as it is written. Raises ValueError.
    """
    plain, _, query = url.partition("?")
    options, rest = {}, []
    for pair in filter(None, query.split("&")):
        key, equals, value = pair.partition("=")
        if not equals or not re.fullmatch(r"[a-z_]+", key):
            raise InvalidBackplane(url, f"has a query that is no list of options; {WRITTEN_WITH_PERCENT}")
        if key in own:
            options[key] = own[key](unquote_plus(value))
        else:
            rest.append(pair)
    return "?".join(filter(None, (plain, "&".join(rest)))), options


def parted(url: str) -> SplitResult:
    """Raises InvalidBackplane: a port that is no number, say, most often is a part of a password."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # looks whether it is one
    except ValueError:
        raise InvalidBackplane(url, f"has no host and port that can be told; {WRITTEN_WITH_PERCENT}") from None
    return parts


def valid_prefix(prefix: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", prefix):
        raise ValueError(f"a backplane's prefix is 1 to 64 letters, digits, `_` or `-`, not {prefix!r}")
    return prefix


def valid_ttl_s(text: str) -> float:
    """Of presence. Each process says that it lives three times as often."""
    with contextlib.suppress(ValueError):
        if MIN_PRESENCE_TTL_S <= float(text) < math.inf:
            return float(text)
    raise ValueError(
        f"a backplane's presence_ttl_s is a number of seconds, at least {MIN_PRESENCE_TTL_S:g}, not {text!r}"
    )


OPTIONS: Mapping[str, Callable[[str], Any]] = {"prefix": valid_prefix, "presence_ttl_s": valid_ttl_s}
"""What a URL's query may say to us, on every engine."""


CANCEL_AGAIN_S = 0.5
"""After so long a task that goes on in spite of its cancellation is cancelled again."""


async def ended(*tasks: asyncio.Task[Any], unless: Callable[[], bool] = lambda: False) -> None:
    """
    Cancel tasks and wait for their end, whatever it is; those that are ending already, `unless` tells, are left alone.

    Once is not enough: `asyncio.wait_for` of Python 3.11, which the libraries of the engines use too, swallows a
    cancellation that comes together with its result.
    """
    pending = set(tasks)
    while pending:
        for task in () if unless() else pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


async def bounded(call: Coroutine[Any, Any, Any], seconds: float) -> None:
    """Let it run for so long at most, whatever becomes of it."""
    task = asyncio.create_task(call)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        await ended(task)
