"""
The backplane on NATS (2.10 or later): `nats://host:4222?prefix=socketsundso`.

Core NATS carries payloads. History and presence need JetStream (`nats-server -js`): a stream per room with
history, whose stored messages the server itself republishes to the subscribers together with their numbers,
and one key-value bucket for presence, whose entries expire unless they are renewed. Every subject begins
with the prefix.

A stream per room suits thousands of rooms with history; use Redis for millions. Streams that nobody has
written to for a day longer than they keep anything are deleted when a process connects, and once an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import SplitResult, unquote

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, KeyValueConfig, PubAck, RePublish, StreamConfig, StreamInfo
from nats.js.kv import KeyValue

from socketsundso.backplanes.base import (
    LOG_GRACE_S,
    MAX_MESSAGES,
    MAX_SECONDS,
    OPTIONS,
    WRITTEN_WITH_PERCENT,
    InvalidBackplane,
    Keep,
    Log,
    bounded,
    encode_topic,
    ended,
    parted,
    split_options,
)
from socketsundso.backplanes.engine import CALL_TIMEOUT_S, CLOSE_S, LEASE_SHARE, Appended, Engine, HeldKey

logger = logging.getLogger("socketsundso.backplane")

FLUSH_S = 3600
"""How long nats-py may wait for the server: for as long as the link may live without a word, and much longer."""

SWEEP_S = 3600.0
"""So often, at the latest, each process looks for streams that nobody has used for long."""

READ_AT_ONCE = 200
"""Entries of a log that are asked for in one go."""

KNOWN_STREAMS = 10_000
"""Streams whose setting-up is remembered; the one that was needed longest ago is forgotten first."""


MIN_AGE_S = 0.1
"""The shortest time that a stream may keep anything."""

DUPLICATES_S = 120.0
"""How long a stream looks for messages that come twice; NATS has it so, and never longer than their age."""

NAME_IN_USE = 10058
"""The server's number for a stream that is there already, with other settings."""

WRONG_REVISION = (10071, 10164)
EXPECTED_REVISION = "Nats-Expected-Last-Subject-Sequence"

T = TypeVar("T")


class Link(Client):
    """
    nats-py's client, which tells of every loss.

    Its own, where it closes since the link has broken, writes once more what is still pending; the broken link refuses
    that, and the exception takes the place of all that was to come: nobody is told, and its tasks are left behind.
    """

    async def _process_op_err(self, e: Exception) -> None:
        self._pending, self._pending_data_size = [], 0
        await super()._process_op_err(e)


class NatsBackplane(Engine):
    """
    One link. nats-py would reconnect by itself, without growing waits or a word about what was lost: that
    is off.
    """

    name = "NATS"
    errors = (nats.errors.Error, OSError, EOFError, RuntimeError)
    """TimeoutError is an OSError; RuntimeError is what uvloop raises where nats-py writes to a link that has broken."""

    def __init__(self, url: str) -> None:
        plain, options = split_options(url, OPTIONS)
        self._servers = _servers(plain)
        super().__init__(",".join(f"{server.scheme}://{server.place}" for server in self._servers), options)
        self._nc: Client | None = None
        self._js: JetStreamContext
        self._subscriptions: dict[str, Subscription] = {}
        self._epochs: dict[str, tuple[Keep, str]] = {}  # encoded topic -> how its stream is set up, and its epoch
        self._heard: dict[str, int] = {}  # encoded topic -> the latest number that came from its stream
        self._flushes: set[asyncio.Task[None]] = set()  # under way, also those that nobody waits for any more
        self._subscribing = asyncio.Lock()  # one topic is subscribed to or unsubscribed from at a time
        self._bucket: KeyValue | None = None
        self._making_bucket = asyncio.Lock()
        self._revisions: dict[str, int] = {}  # subject in the bucket -> the number that its entry of ours has there
        self._sweep_at = 0.0  # when streams are looked through next

    def _live(self, encoded: str) -> str:
        return f"{self.prefix}.live.{encoded}"

    def _log(self, encoded: str) -> str:
        return f"{self.prefix}.log.{encoded}"

    def _stream(self, encoded: str) -> str:
        return f"{self.prefix}_log_{encoded}"

    # ---- the link

    async def _connect(self) -> None:
        """To the first of the servers that answers, beginning with the latest that did."""
        for _ in range(len(self._servers)):
            try:
                return await self._connect_to(self._servers[0])
            except self.errors as error:
                problem = error
                self._servers.rotate(-1)
                await self._disconnect()
        raise problem

    async def _connect_to(self, server: Server) -> None:
        self._closed = asyncio.Event()
        problem: Exception | None = None

        async def closed() -> None:
            self._closed.set()

        async def failed(error: Exception) -> None:
            nonlocal problem
            problem = error
            forbidden = "permissions violation" in str(error).lower()  # the server says no more of it
            logger.log(logging.WARNING if forbidden else logging.INFO, "NATS: %s", error)

        try:
            self._nc = Link()
            await self._nc.connect(
                f"{server.scheme}://{server.place}",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=int(CALL_TIMEOUT_S / 2),
                ping_interval=5,
                closed_cb=closed,
                disconnected_cb=closed,
                error_cb=failed,
                user=server.user,
                password=server.password,
                token=server.token,
            )
        except nats.errors.NoServersError as error:
            raise OSError(str(problem or error)) from error
        self._js = self._nc.jetstream(timeout=CALL_TIMEOUT_S)

    async def _serve(self) -> None:
        while not self._closed.is_set():
            if time.monotonic() >= self._sweep_at:
                self._sweep_at = time.monotonic() + SWEEP_S * random.uniform(0.5, 1.0)
                await self._quietly(self._sweep())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), max(0.0, self._sweep_at - time.monotonic()))

    async def _disconnect(self) -> None:
        nc, self._nc = self._nc, None
        self._subscriptions.clear()
        self._epochs.clear()  # the engine may come back without its data
        self._heard.clear()
        self._forget_bucket()
        if nc is not None:
            # nats-py waits for the end of the transport, of which asyncio never tells where TLS has failed
            await bounded(nc.close(), CLOSE_S)
        await ended(*self._flushes)

    async def _say_farewell(self) -> None:
        """Over a link of its own: the end of an event loop cancels all tasks, those of the present link, too."""
        if self._held or self._outbox:
            old, self._nc = self._client(), None
            self._forget_bucket()
            linked = await self._quietly(self._connect())
            await bounded(old.close(), CLOSE_S)
            if not linked:
                return
        await super()._say_farewell()

    @property
    def max_payload_bytes(self) -> int:
        """As the server says (1 MiB unless configured); one that is larger would take its whole batch with it."""
        return min(super().max_payload_bytes, self._client().max_payload)

    def _client(self) -> Client:
        if self._nc is None:
            raise nats.errors.ConnectionClosedError
        return self._nc

    # ---- publish/subscribe

    async def _subscribe(self, encoded: list[str]) -> None:
        client = self._client()
        async with self._subscribing:
            for topic in encoded:
                if topic not in self._subscriptions:
                    self._subscriptions[topic] = await client.subscribe(self._live(topic), cb=self._on_message)
        # Twice: nats-py writes the first PING ahead of the SUBs that are still in its buffer, so only the
        # second PONG says that the server has them.
        await self._flush()
        await self._flush()

    async def _unsubscribe(self, encoded: str) -> None:
        async with self._subscribing:
            if encoded in self._topics:
                return
            self._epochs.pop(encoded, None)
            self._heard.pop(encoded, None)
            subscription = self._subscriptions.pop(encoded, None)
            if subscription is not None:
                await subscription.unsubscribe()

    async def _on_message(self, message: Msg) -> None:
        encoded = message.subject.rpartition(".")[2]
        headers = message.headers
        if headers is None or "Nats-Sequence" not in headers:
            self._arrived(encoded, message.data)
        else:
            seq = int(headers["Nats-Sequence"])
            if seq <= self._heard.get(encoded, 1):  # the numbers have begun anew, in another stream of that name
                self._epochs.pop(encoded, None)
            self._heard[encoded] = seq
            epoch = await self._epoch(encoded)
            if encoded in self._subscriptions:
                self._arrived(encoded, message.data, seq, epoch)
            else:  # left while the server was asked; Python 3.11's `wait_for` may swallow the end of this task
                self._epochs.pop(encoded, None)

    async def _write(self, batch: list[tuple[str, bytes]]) -> None:
        client = self._client()
        for encoded, payload in batch:
            await client.publish(self._live(encoded), payload)
        await self._flush()

    async def _flush(self) -> None:
        """
        Wait for the server, and give up without a word to nats-py: a PONG that comes later, for a flush that was
        cancelled or has timed out, would end its reading for good.
        """
        flushing = asyncio.create_task(self._client().flush(timeout=FLUSH_S))
        self._flushes.add(flushing)
        flushing.add_done_callback(self._flushed)
        try:
            await asyncio.wait_for(asyncio.shield(flushing), CALL_TIMEOUT_S)
        except asyncio.CancelledError:
            if flushing.cancelled() and not cast("asyncio.Task[Any]", asyncio.current_task()).cancelling():
                raise nats.errors.ConnectionClosedError from None  # the link has gone, and its flushes with it
            raise

    def _flushed(self, flushing: asyncio.Task[None]) -> None:
        self._flushes.discard(flushing)
        if not flushing.cancelled():
            flushing.exception()  # nobody may wait for it any more

    # ---- logs

    async def _epoch(self, encoded: str) -> str:
        """
        Of a stream that exists. Nothing is awaited once it is known, so that deliveries keep their order.
        """
        known = self._epochs.get(encoded)
        if known is None:
            info = await self._js.stream_info(self._stream(encoded))
            return self._note(encoded, info, _keep(info))
        return known[1]

    def _note(self, encoded: str, info: StreamInfo, keep: Keep) -> str:
        """The Keep is the one that was asked for: what the server says of it is rounded."""
        self._epochs.pop(encoded, None)
        self._epochs[encoded] = (keep, epoch := _epoch_of(info))
        if len(self._epochs) > KNOWN_STREAMS:
            del self._epochs[next(iter(self._epochs))]
        return epoch

    async def _ensure(self, encoded: str, keep: Keep) -> str:
        """The epoch of the stream, created or brought in line with `keep` where needed."""
        known = self._epochs.get(encoded)
        if known is None or known[0] != keep:
            return self._note(encoded, await self._set_up(encoded, keep), keep)
        return known[1]

    async def _set_up(self, encoded: str, keep: Keep) -> StreamInfo:
        """Raises what the server says where the stream cannot be made: its limits, or one of somebody else."""
        max_age = 0.0 if keep.forever else max(keep.seconds, MIN_AGE_S)  # 0: for ever
        config = StreamConfig(
            name=self._stream(encoded),
            subjects=[self._log(encoded)],
            max_msgs=keep.messages,
            max_age=max_age,
            duplicate_window=min(max_age or DUPLICATES_S, DUPLICATES_S),
            discard=DiscardPolicy.OLD,
            allow_direct=True,
            republish=RePublish(src=self._log(encoded), dest=self._live(encoded)),
        )
        try:
            info = await self._js.stream_info(self._stream(encoded))
        except nats.js.errors.NotFoundError:
            try:
                return await self._js.add_stream(config)
            except nats.js.errors.BadRequestError as error:
                if error.err_code != NAME_IN_USE:
                    raise
                return await self._js.update_stream(config)  # another process was first, with another Keep
        as_wanted = info.config.max_msgs == keep.messages and abs((info.config.max_age or 0.0) - max_age) < 1e-3
        return info if as_wanted else await self._js.update_stream(config)

    async def _append(self, encoded: str, payload: bytes, keep: Keep) -> tuple[int, str]:
        epoch = await self._ensure(encoded, keep)
        try:
            ack = await self._js.publish(self._log(encoded), payload)
        except nats.js.errors.NoStreamResponseError:  # deleted since: the numbers begin anew
            self._epochs.pop(encoded, None)
            epoch = await self._ensure(encoded, keep)
            ack = await self._js.publish(self._log(encoded), payload)
        return ack.seq, epoch

    async def _append_many(self, encoded: str, payloads: list[bytes], keep: Keep) -> list[Appended | Exception]:
        epoch, log = await self._ensure(encoded, keep), self._log(encoded)
        calls = (self._js.publish(log, payload) for payload in payloads)  # written in this order
        acks = await asyncio.gather(*calls, return_exceptions=True)
        if isinstance(acks[0], nats.js.errors.NoStreamResponseError):  # deleted since: the numbers begin anew
            self._epochs.pop(encoded, None)
            return [await self._append(encoded, payload, keep) for payload in payloads]
        return [ack if isinstance(ack, Exception) else (cast(PubAck, ack).seq, epoch) for ack in acks]

    async def _read(self, encoded: str, keep: Keep, after: int | None) -> Log:
        info = await self._set_up(encoded, keep)
        self._note(encoded, info, keep)
        first, last = info.state.first_seq, info.state.last_seq
        entries: list[tuple[int, bytes]] = []
        if after is not None and info.state.messages:
            wanted = range(max(after + 1, first), last + 1)
            for start in range(0, len(wanted), READ_AT_ONCE):
                some = await asyncio.gather(*(self._entry(encoded, n) for n in wanted[start : start + READ_AT_ONCE]))
                entries += [entry for entry in some if entry is not None]
        return Log(_epoch_of(info), last, entries)

    async def _entry(self, encoded: str, seq: int) -> tuple[int, bytes] | None:
        try:
            message = await self._js.get_msg(self._stream(encoded), seq=seq, direct=True)
        except nats.js.errors.NotFoundError:  # expired a moment ago
            return None
        return seq, message.data or b""

    async def _disown(self, encoded: str, epoch: str) -> None:
        with contextlib.suppress(nats.js.errors.NotFoundError):
            if _epoch_of(await self._js.stream_info(self._stream(encoded))) == epoch:
                await self._js.delete_stream(self._stream(encoded))

    async def _logged(self, encoded: str) -> Keep | None:
        known = self._epochs.get(encoded)
        if known is not None:
            return known[0]
        try:
            return _keep(await self._js.stream_info(self._stream(encoded)))
        except (
            nats.js.errors.NotFoundError,
            nats.js.errors.ServiceUnavailableError,
            nats.errors.NoRespondersError,
        ):
            return None  # no such stream, or no JetStream at all: nobody can have logged it

    async def _sweep(self) -> None:
        """Delete the streams that a day of grace has passed over, unless another process has just done so."""
        start = self._stream("")
        for info in await self._js.streams_info():
            name = info.config.name or ""
            age_s = info.config.max_age
            if not name.startswith(start) or not age_s:  # somebody else's, or for ever
                continue
            with contextlib.suppress(nats.js.errors.NotFoundError):
                if await self._idle_s(name) > age_s + LOG_GRACE_S:
                    await self._js.delete_stream(name)

    async def _idle_s(self, stream: str) -> float:
        """
        Since the last message, or the creation of a stream that never had one. nats-py leaves `last_ts`
        out.
        """
        info = await self._stream_info(stream)
        latest = max(info["created"], info["state"]["last_ts"])[:19]
        return (datetime.now(UTC) - datetime.fromisoformat(latest + "+00:00")).total_seconds()

    async def _stream_info(self, stream: str, **asked: object) -> dict[str, Any]:
        """As the server says it."""
        question = json.dumps(asked).encode() if asked else b""
        answer = await self._client().request(f"$JS.API.STREAM.INFO.{stream}", question, timeout=CALL_TIMEOUT_S)
        info: dict[str, Any] = json.loads(answer.data)
        if "error" in info:
            raise nats.js.errors.APIError.from_error(info["error"])
        return info

    # ---- held entries: keys `held.<topic>.<owner>.<key>` and `lease.<owner>` of one bucket

    @property
    def _bucket_name(self) -> str:
        return f"{self.prefix}_held"

    def _subject(self, *parts: str) -> str:
        return ".".join(("$KV", self._bucket_name, *parts))

    def _held_subject(self, topic: str, key: str) -> str:
        return self._subject("held", encode_topic(topic), self.owner, _key(key))

    async def _held_bucket(self) -> KeyValue:
        """Made where it is missing."""
        async with self._making_bucket:
            if self._bucket is None:
                self._bucket = await self._find_bucket()
            return self._bucket

    async def _find_bucket(self) -> KeyValue:
        name, ttl_s = self._bucket_name, max(self.ttl_s * LEASE_SHARE, MIN_AGE_S)
        try:
            bucket = await self._js.key_value(name)
        except nats.js.errors.NotFoundError:
            try:
                return await self._js.create_key_value(KeyValueConfig(bucket=name, ttl=ttl_s, history=1, direct=True))
            except nats.js.errors.BadRequestError as error:
                if error.err_code != NAME_IN_USE:
                    raise
            bucket = await self._js.key_value(name)  # another process was first, with another time-to-live
        await self._lengthen(f"KV_{name}", ttl_s)
        return bucket

    def _forget_bucket(self) -> None:
        self._bucket = None
        self._revisions.clear()

    async def _bucket_instead_of(self, lost: KeyValue) -> KeyValue:
        """Somebody has deleted it: what we held in it is due again. However many notice that, one is made."""
        if self._bucket is lost:
            self._forget_bucket()
            if self._leased:
                self._forgotten.set()
        return await self._held_bucket()

    async def _of_bucket(self, ask: Callable[[KeyValue], Awaitable[T]]) -> T:
        """Once more where the bucket has been deleted since it was last used."""
        bucket = await self._held_bucket()
        try:
            return await ask(bucket)
        except (nats.errors.NoRespondersError, StreamLost):
            return await ask(await self._bucket_instead_of(bucket))

    async def _lengthen(self, stream: str, ttl_s: float) -> None:
        """
        A bucket that was made for a shorter time-to-live would end entries between two beats of ours. Never shorter:
        there may be processes that beat as seldom as before.
        """
        config = (await self._js.stream_info(stream)).config
        if (config.max_age or 0) < ttl_s:
            await self._js.update_stream(config.evolve(max_age=ttl_s))

    async def _hold(self, keys: Collection[HeldKey]) -> bool:
        """All at once: the answers come one round trip after the last of them."""
        bucket, lease = await self._held_bucket(), self._subject("lease", self.owner)
        if not self._leased:  # it may have ended since, while nothing was held
            self._revisions.pop(lease, None)
        forgotten = await asyncio.gather(
            self._put(bucket, lease, b"1"), *(self._put_held(bucket, topic, key) for topic, key in keys)
        )
        return any(forgotten)

    async def _put_held(self, bucket: KeyValue, topic: str, key: str) -> bool:
        value = self._held.get((topic, key))
        if value is None:  # released meanwhile
            return False
        return await self._put(bucket, self._held_subject(topic, key), key.encode() + b"\0" + value)

    async def _put(self, bucket: KeyValue, subject: str, value: bytes) -> bool:
        """
        Returns whether what we had put there before was gone. Nobody else writes there, so the server is told which
        number it must have, and refuses where it does not; of an entry that is on its way another time nobody knows.
        """
        revision = self._revisions.pop(subject, None)
        expected = {EXPECTED_REVISION: str(revision)} if revision else None
        try:
            self._revisions[subject] = (await self._js.publish(subject, value, headers=expected)).seq
            return False
        except nats.js.errors.NoStreamResponseError:
            await self._bucket_instead_of(bucket)
        except nats.js.errors.APIError as error:
            if error.err_code not in WRONG_REVISION:
                raise
        self._revisions[subject] = (await self._js.publish(subject, value)).seq
        return True

    async def _release(self, keys: Collection[HeldKey]) -> None:
        subjects = [self._held_subject(topic, key) for topic, key in keys]
        for subject in subjects:
            self._revisions.pop(subject, None)
        bucket = await self._held_bucket()
        try:
            await asyncio.gather(*(self._js.publish(each, headers={"KV-Operation": "DEL"}) for each in subjects))
        except nats.js.errors.NoStreamResponseError:  # deleted, and our entries with it
            await self._bucket_instead_of(bucket)

    async def _held_by_all(self, encoded: str) -> dict[str, bytes]:
        """
        Asked for subject by subject, which leaves nothing behind on the server; a watcher would leave a consumer, and
        of those a server takes so many only.
        """

        async def read(bucket: KeyValue) -> dict[str, bytes]:
            values = await self._values(bucket, self._bucket_name, f"held.{encoded}.>")
            parts = (value.partition(b"\0") for value in values.values())
            return {key.decode(): content for key, _, content in parts}

        return await self._of_bucket(read)

    async def _values(self, bucket: KeyValue, called: str, wanted: str) -> dict[str, bytes]:
        """The entries of a bucket whose keys match."""
        start = f"$KV.{called}."
        names = [each.removeprefix(start) for each in await self._subjects(f"KV_{called}", start + wanted)]
        found: dict[str, bytes] = {}
        for at in range(0, len(names), READ_AT_ONCE):
            some = names[at : at + READ_AT_ONCE]
            values = await asyncio.gather(*(_value(bucket, name) for name in some))
            found |= {name: value for name, value in zip(some, values, strict=True) if value is not None}
        return found

    async def _subjects(self, stream: str, wanted: str) -> list[str]:
        """All subjects of a stream that match; the server tells so many at a time."""
        found: list[str] = []
        while True:
            try:
                info = await self._stream_info(stream, subjects_filter=wanted, offset=len(found))
            except nats.js.errors.NotFoundError:
                raise StreamLost from None
            more = info["state"].get("subjects") or {}
            found += more
            if not more or len(found) >= info.get("total", 0):
                return found

    async def _alive(self, owners: frozenset[str]) -> frozenset[str]:
        async def read(bucket: KeyValue) -> frozenset[str]:
            leases = await asyncio.gather(*(_value(bucket, f"lease.{owner}") for owner in owners))
            return frozenset(owner for owner, lease in zip(owners, leases, strict=True) if lease is not None)

        return await self._of_bucket(read)

    # ---- what is remembered: keys of a bucket without an end

    @property
    def _memory_name(self) -> str:
        return f"{self.prefix}_remembered"

    async def _memory(self) -> KeyValue:
        """Asked for each time: that is seldom, and somebody may have deleted it."""
        try:
            return await self._js.key_value(self._memory_name)
        except nats.js.errors.NotFoundError:
            return await self._js.create_key_value(KeyValueConfig(bucket=self._memory_name, history=1, direct=True))

    async def _remember(self, key: str, value: bytes) -> None:
        await (await self._memory()).put(key, value)

    async def _forget(self, key: str) -> None:
        await (await self._memory()).purge(key)

    async def _remembered(self) -> dict[str, bytes]:
        try:
            return await self._values(await self._js.key_value(self._memory_name), self._memory_name, ">")
        except (
            nats.js.errors.NotFoundError,
            nats.js.errors.ServiceUnavailableError,
            nats.errors.NoRespondersError,
        ):
            return {}  # nothing yet, or no JetStream at all


class StreamLost(nats.js.errors.NotFoundError):
    """The whole bucket is gone."""


async def _value(bucket: KeyValue, name: str) -> bytes | None:
    """None: there is none, or it was deleted."""
    try:
        return (await bucket.get(name)).value or b""
    except nats.js.errors.NotFoundError:
        return None


class Server(NamedTuple):
    """Where a NATS is, and what it wants to hear. nats-py would not decode `%40` in a password."""

    scheme: str
    place: str
    user: str | None = None
    password: str | None = None
    token: str | None = None


def _servers(plain: str) -> deque[Server]:
    """
    `nats://user:password@a:4222,b:4222`: several servers of a cluster, the first that answers is taken. Credentials
    of the first one are for those that have none. Raises InvalidBackplane.
    """
    urls = plain.split(",")
    scheme = urls[0].partition("://")[0]
    if "?" in plain:
        raise InvalidBackplane(plain, "has an option that is not known; NATS takes prefix and presence_ttl_s")
    servers: deque[Server] = deque()
    credentials: tuple[str | None, ...] = ()
    for number, url in enumerate(urls):
        parts = parted(url if "://" in url else f"{scheme}://{url}")
        if parts.scheme not in ("nats", "tls") or parts.path.strip("/") or parts.fragment or not parts.hostname:
            raise InvalidBackplane(plain, f"names hosts, as in nats://a:4222,b:4222; {WRITTEN_WITH_PERCENT}")
        if parts.username and number and not credentials:
            raise InvalidBackplane(plain, f"has credentials, but not for the first server; {WRITTEN_WITH_PERCENT}")
        credentials = _credentials(parts) or credentials
        servers.append(Server(parts.scheme, parts.netloc.rpartition("@")[2], *credentials))
    return servers


def _credentials(parts: SplitResult) -> tuple[str | None, ...]:
    """User, password and token; nothing where the URL has none."""
    if not parts.username:
        return ()
    if parts.password is None:
        return None, None, unquote(parts.username)
    return unquote(parts.username), unquote(parts.password), None


def _key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _keep(info: StreamInfo) -> Keep:
    """Whoever has made the stream: 0 and less are no limits on NATS."""
    messages, seconds = info.config.max_msgs or 0, info.config.max_age or 0.0
    return Keep(
        messages=min(messages, MAX_MESSAGES) if messages > 0 else MAX_MESSAGES,
        seconds=min(seconds, MAX_SECONDS) if seconds > 0 else math.inf,
    )


def _epoch_of(info: StreamInfo) -> str:
    return hashlib.sha256(str(info.created).encode()).hexdigest()[:8]
