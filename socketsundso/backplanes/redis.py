"""
The backplane on Redis (6.2 or later; Valkey and KeyDB speak the same):
`redis://host:6379/0?prefix=socketsundso`.

PUBLISH/SUBSCRIBE carries payloads, a Stream per room keeps history, a hash per room and one lease per
process keep presence. Every key and channel begins with the prefix. Scripts make "number, store and
publish" one step, so that subscribers see a room's payloads in the order of their numbers.

A published payload begins with `-`, a logged one with `+<seq> <epoch> `.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import operator
import re
import uuid
from collections import defaultdict, deque
from collections.abc import Collection
from typing import Any, TypeVar, cast

import redis.asyncio as redis
from redis.asyncio.connection import AbstractConnection, BlockingConnectionPool, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from socketsundso.backplanes.base import (
    LOG_GRACE_S,
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

TURN_S = 2.5
"""The link is looked at once a turn: after a whole turn without a word the engine is asked for one."""

SILENT_TURNS = 4
"""After so many turns without a word the link counts as lost."""

TURNS_PER_ROLE = 4
"""
Every so many turns the engine is asked whether it is the master still: a replica takes PUBLISH, and only its own
subscribers hear it.
"""

LINKS = {"max_connections": 20, "timeout": CALL_TIMEOUT_S}
"""Questions that are asked at the same time, each on a link of its own; the others wait for one."""

UNSUITABLE = {
    (b"mode", b"cluster"): "it is a Redis Cluster, which is not supported: name a Redis of its own",
    (b"mode", b"sentinel"): "it is a Redis Sentinel, which is not supported: name the master",
    (b"role", b"replica"): "it is a replica, which takes no writes: name the master",
}
"""What HELLO says of servers that speak Redis and cannot carry rooms."""

P = TypeVar("P", bound=ConnectionPool)

LOGGED = re.compile(rb"\+(\d{1,18}) (\w+) ")

# KEYS: log, meta. ARGV: channel, payload, messages, milliseconds (0: for ever), epoch if new, milliseconds of grace
APPEND = """
local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not epoch then epoch = ARGV[5]; redis.call('DEL', KEYS[1]) end
local seq = redis.call('HINCRBY', KEYS[2], 'seq', 1)
redis.call('HSET', KEYS[2], 'epoch', epoch, 'messages', ARGV[3], 'ms', ARGV[4])
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[3], seq .. '-0', 'p', ARGV[2], 't', ms)
if ARGV[4] == '0' then
  redis.call('PERSIST', KEYS[1])
  redis.call('PERSIST', KEYS[2])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('PEXPIRE', KEYS[2], string.format('%d', ARGV[4] + ARGV[6]))
end
redis.call('PUBLISH', ARGV[1], '+' .. seq .. ' ' .. epoch .. ' ' .. ARGV[2])
return {seq, epoch}
"""

# KEYS: log, meta. ARGV: after or '', messages, milliseconds (0: for ever), epoch if new, milliseconds of grace
READ = """
local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not epoch then
  epoch = ARGV[4]
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'seq', 0, 'messages', ARGV[2], 'ms', ARGV[3])
end
if ARGV[3] == '0' then
  redis.call('PERSIST', KEYS[1])
  redis.call('PERSIST', KEYS[2])
else
  redis.call('PEXPIRE', KEYS[2], string.format('%d', ARGV[3] + ARGV[5]))
end
local seq = tonumber(redis.call('HGET', KEYS[2], 'seq'))
local found = {}
if ARGV[1] ~= '' then
  local now = redis.call('TIME')
  local oldest = now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[3]
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+')) do
    if ARGV[3] == '0' or tonumber(entry[2][4]) >= oldest then
      found[#found + 1] = string.match(entry[1], '%d+')
      found[#found + 1] = entry[2][2]
    end
  end
end
return {epoch, seq, found}
"""


# KEYS: log, meta. ARGV: epoch
DISOWN = "if redis.call('HGET', KEYS[2], 'epoch') == ARGV[1] then redis.call('DEL', KEYS[1], KEYS[2]) end"


class Unsuitable(ConnectionError):
    """A server that speaks Redis, and on which rooms would not work."""


class RedisBackplane(Engine):
    """Two links: one that listens, and a small pool for everything that is asked or published."""

    name = "Redis"
    errors = (RedisError, OSError, EOFError)  # TimeoutError is an OSError

    def __init__(self, url: str) -> None:
        plain, options = split_options(url, {**OPTIONS, "protocol": str, "decode_responses": str})
        super().__init__(_where(plain), options)
        settings: dict[str, Any] = {
            "socket_connect_timeout": CALL_TIMEOUT_S / 2,
            "retry": Retry(NoBackoff(), 0),  # trying again is the supervisor's job
            "protocol": 2,  # which is what we read, whatever the URL says
        }
        self._listening = _pool(plain, ConnectionPool, **settings)
        # `_serve` judges silence, whatever the URL says: redis-py 8 gives up a link that is quiet for 5 s.
        self._listening.connection_kwargs["socket_timeout"] = None
        asking = _pool(plain, BlockingConnectionPool, **LINKS, socket_timeout=CALL_TIMEOUT_S, **settings)
        self._client = redis.Redis(connection_pool=asking)
        self._append_script = self._client.register_script(APPEND)
        self._read_script = self._client.register_script(READ)
        self._disown_script = self._client.register_script(DISOWN)
        self._link: AbstractConnection | None = None
        # channel -> one future per SUBSCRIBE under way, in their order: each waits for its own confirmation
        self._confirmations: defaultdict[bytes, deque[asyncio.Future[None]]] = defaultdict(deque)
        self._heard = 0  # replies and messages that came over the listening link
        self._sending = asyncio.Lock()  # one command at a time on the listening link

    def _key(self, kind: str, encoded: str) -> str:
        return f"{self.prefix}:{kind}:{encoded}"

    def _log_keys(self, encoded: str) -> list[str]:
        return [self._key("log", encoded), self._key("logmeta", encoded)]

    # ---- the link

    async def _connect(self) -> None:
        self._link = self._listening.make_connection()  # type: ignore[no-untyped-call]  # untyped in redis-py
        await self._link.connect()
        await self._require_master()
        self._reader = asyncio.create_task(self._listen(self._link))
        self._reader.add_done_callback(self._confirm_nothing)

    async def _require_master(self) -> None:
        """Raises what says why this is no engine for rooms, though it answers as Redis does."""
        try:
            answer = await self._client.execute_command("HELLO")  # type: ignore[no-untyped-call]  # untyped in redis-py
        except ResponseError as error:
            if isinstance(error, (AuthenticationError, NoPermissionError)) or "NOAUTH" in str(error):
                raise
            await self._client.ping()  # a proxy, or a Redis before 6: it does not tell
            return
        told = dict(zip(answer[::2], answer[1::2], strict=False))
        for fact, why in UNSUITABLE.items():
            if fact in told.items():
                raise Unsuitable(why)

    async def _serve(self) -> None:
        """
        Turns are counted, not seconds: an answer that waits behind a blocked event loop is read in the next
        turn, and no link is given up that was not asked first.
        """
        silent = turns = 0
        heard = self._heard
        while silent < SILENT_TURNS:
            await asyncio.wait({self._reader}, timeout=TURN_S)
            if self._reader.done():
                return self._reader.result()
            silent = silent + 1 if self._heard == heard else 0
            heard = self._heard  # before anything is asked: the answer may come while it is still being sent
            if silent == 1:
                await asyncio.wait_for(self._send("PING"), CALL_TIMEOUT_S)
            turns += 1
            if turns >= TURNS_PER_ROLE and not silent:
                turns = 0
                await self._look_at_role()
        raise TimeoutError(f"silent for {SILENT_TURNS * TURN_S:g} s")

    async def _look_at_role(self) -> None:
        try:
            await asyncio.wait_for(self._require_master(), TURN_S)
        except Unsuitable:
            raise
        except self.errors as error:  # whether the link is lost is not for this question to say
            logger.debug("Redis: %s", error)

    async def _listen(self, link: AbstractConnection) -> None:
        channel_start = len(self._key("live", ""))
        while True:
            answer = await link.read_response(disconnect_on_error=False)
            self._heard += 1
            match answer:  # anything else answers UNSUBSCRIBE, or PING: a list, or text while nothing is subscribed
                case [b"message", channel, payload]:
                    self._take(channel[channel_start:].decode(), payload)
                case [b"subscribe", channel, _]:
                    self._confirm(channel)

    def _confirm(self, channel: bytes) -> None:
        waiting = self._confirmations[channel]
        if waiting and not (confirmed := waiting.popleft()).done():
            confirmed.set_result(None)
        if not waiting:
            del self._confirmations[channel]

    def _confirm_nothing(self, reader: asyncio.Task[None]) -> None:
        """The link has ended: nobody waits for it any longer."""
        for confirmed in itertools.chain.from_iterable(self._confirmations.values()):
            confirmed.cancel()
        self._confirmations.clear()

    def _take(self, encoded: str, payload: bytes) -> None:
        if payload[:1] == b"-":
            self._arrived(encoded, payload[1:])
        elif (logged := LOGGED.match(payload)) is not None:
            self._arrived(encoded, payload[logged.end() :], int(logged[1]), logged[2].decode())
        else:  # the link is everybody's, and goes on
            logger.warning("Redis: somebody else published %d bytes on %r", len(payload), self._key("live", encoded))

    async def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            reader = getattr(self, "_reader", None)
            try:
                if reader is not None:
                    await ended(reader)
            finally:  # also where the end of the backplane interrupts the loss of its link
                await link.disconnect(nowait=True)
        # redis-py waits for the end of each transport, which may not come where TLS has failed
        await bounded(self._client.connection_pool.disconnect(inuse_connections=True), CLOSE_S)

    async def _send(self, *command: str) -> None:
        async with self._sending:
            await self._require_listening().send_command(*command, check_health=False)

    def _require_listening(self) -> AbstractConnection:
        # redis-py would connect one that was closed, by an error while it wrote: a new link without subscriptions.
        # And where nobody reads any more, no subscription would be confirmed.
        if self._link is None or not self._link.is_connected or self._reader.done():
            raise ConnectionError("no link")
        return self._link

    # ---- publish/subscribe

    async def _subscribe(self, encoded: list[str]) -> None:
        channels = [self._key("live", topic) for topic in encoded]
        loop = asyncio.get_running_loop()
        async with self._sending:
            link = self._require_listening()
            confirmed = [loop.create_future() for _ in channels]
            for channel, future in zip(channels, confirmed, strict=True):
                self._confirmations[channel.encode()].append(future)
            await link.send_command("SUBSCRIBE", *channels, check_health=False)
        await asyncio.wait(confirmed)
        if any(each.cancelled() for each in confirmed):
            if self._reader.done() and not self._reader.cancelled():
                self._reader.result()  # why: the user may not subscribe, say
            raise ConnectionError("link lost before the subscription was confirmed")

    async def _unsubscribe(self, encoded: str) -> None:
        async with self._sending:
            if encoded not in self._topics:
                link = self._require_listening()
                await link.send_command("UNSUBSCRIBE", self._key("live", encoded), check_health=False)

    async def _write(self, batch: list[tuple[str, bytes]]) -> None:
        async with self._client.pipeline(transaction=False) as pipeline:
            for encoded, payload in batch:
                pipeline.publish(self._key("live", encoded), b"-" + payload)
            await pipeline.execute()

    # ---- logs

    def _append_args(self, encoded: str, payload: bytes, keep: Keep) -> list[Any]:
        return [
            self._key("live", encoded), payload, keep.messages, _kept_ms(keep), uuid.uuid4().hex[:8], _ms(LOG_GRACE_S),
        ]  # fmt: skip

    async def _append(self, encoded: str, payload: bytes, keep: Keep) -> Appended:
        args = self._append_args(encoded, payload, keep)
        seq, epoch = await self._append_script(keys=self._log_keys(encoded), args=args)
        return seq, epoch.decode()

    async def _append_many(self, encoded: str, payloads: list[bytes], keep: Keep) -> list[Appended | Exception]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for payload in payloads:
                args = self._append_args(encoded, payload, keep)
                await self._append_script(keys=self._log_keys(encoded), args=args, client=pipeline)
            answers = await pipeline.execute(raise_on_error=False)
        return [each if isinstance(each, Exception) else (each[0], each[1].decode()) for each in answers]

    async def _read(self, encoded: str, keep: Keep, after: int | None) -> Log:
        epoch, seq, found = await self._read_script(
            keys=self._log_keys(encoded),
            args=[
                "" if after is None else after, keep.messages, _kept_ms(keep), uuid.uuid4().hex[:8],
                _ms(LOG_GRACE_S),
            ],
        )  # fmt: skip
        pairs = zip(found[::2], found[1::2], strict=True)
        return Log(epoch.decode(), seq, [(int(number), payload) for number, payload in pairs])

    async def _disown(self, encoded: str, epoch: str) -> None:
        await self._disown_script(keys=self._log_keys(encoded), args=[epoch])

    async def _logged(self, encoded: str) -> Keep | None:
        messages, ms = await self._client.hmget(self._key("logmeta", encoded), "messages", "ms")
        return None if messages is None or ms is None else Keep(int(messages), int(ms) / 1000 or math.inf)

    # ---- held entries

    async def _hold(self, keys: Collection[HeldKey]) -> bool:
        entries = [(key, self._held[key]) for key in keys if key in self._held]  # the others were released meanwhile
        stored = [key not in self._unstored for key, _ in entries]
        lease = self._key("lease", self.owner)
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.exists(lease)
            pipeline.set(lease, b"1", px=_ms(self.ttl_s * LEASE_SHARE))
            for (topic, key), value in entries:
                name = self._key("held", encode_topic(topic))
                pipeline.hset(name, f"{self.owner}:{key}", value)
                # A hash whose processes have all died is listed by nobody; it ends by itself.
                pipeline.pexpire(name, _ms(10 * self.ttl_s))
            answers = await pipeline.execute()
        had_lease, added = bool(answers[0]), answers[2::2]
        return (self._leased and not had_lease) or any(map(operator.and_, map(bool, added), stored))

    async def _release(self, keys: Collection[HeldKey]) -> None:
        async with self._client.pipeline(transaction=False) as pipeline:
            for topic, key in keys:
                pipeline.hdel(self._key("held", encode_topic(topic)), f"{self.owner}:{key}")
            await pipeline.execute()

    async def _held_by_all(self, encoded: str) -> dict[str, bytes]:
        fields = cast("dict[bytes, bytes]", await self._client.hgetall(self._key("held", encoded)))
        held = {tuple(field.decode().split(":", 1)): (field, value) for field, value in fields.items()}
        alive = await self._alive(frozenset(owner for owner, _ in held))
        dead = [field for (owner, _), (field, _) in held.items() if owner not in alive]
        if dead:
            await self._client.hdel(self._key("held", encoded), *dead)
        return {key: value for (owner, key), (_, value) in held.items() if owner in alive}

    async def _alive(self, owners: frozenset[str]) -> frozenset[str]:
        if not owners:
            return frozenset()
        names = sorted(owners)
        leases = await self._client.mget([self._key("lease", owner) for owner in names])
        return frozenset(owner for owner, lease in zip(names, leases, strict=True) if lease is not None)

    # ---- what is remembered: one hash

    async def _remember(self, key: str, value: bytes) -> None:
        await self._client.hset(f"{self.prefix}:remembered", key, value)

    async def _forget(self, key: str) -> None:
        await self._client.hdel(f"{self.prefix}:remembered", key)

    async def _remembered(self) -> dict[str, bytes]:
        fields = cast("dict[bytes, bytes]", await self._client.hgetall(f"{self.prefix}:remembered"))
        return {key.decode(): value for key, value in fields.items()}


def _where(plain: str) -> str:
    """The URL without user and password. Raises InvalidBackplane where it names no Redis."""
    place = plain.partition("?")[0]
    if re.search(r"\d,[^@]*$", place):
        raise InvalidBackplane(plain, "names several servers; Redis Sentinel and Cluster are not supported")
    parts = parted(place)
    server = parts.netloc.rpartition("@")[2]
    if parts.fragment or (parts.scheme != "unix" and not re.fullmatch(r"/?\d*", parts.path)):
        raise InvalidBackplane(plain, f"ends with the number of a database; {WRITTEN_WITH_PERCENT}")
    return f"{parts.scheme}://{server}{parts.path}"


def _pool(plain: str, kind: type[P], **settings: Any) -> P:
    try:
        pool = kind.from_url(plain, **settings)
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError) as error:  # of redis-py
        named = re.search(r"'(\w{1,40})'", str(error))
        which = f" `{named[1]}`" if named else ""
        raise InvalidBackplane(plain, f"has an option{which} that redis-py does not take") from None
    return pool


def _kept_ms(keep: Keep) -> int:
    """0: for ever."""
    return 0 if keep.forever else _ms(keep.seconds)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
