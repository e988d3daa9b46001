"""
The URLs that deployments have: each of them works, or is refused in one line, and none shows a password anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from socketsundso.backplanes import Keep, open_url
from socketsundso.backplanes import engine as engine_module
from socketsundso.backplanes import redis as redis_module
from socketsundso.errors import BackplaneUnavailable

from .engines import EngineServer, free_port, running
from .listener import opened, until

KEEP = Keep(messages=5)
PASSWORD = "s3c/r@t:?#,%"
QUOTED = "s3c%2Fr%40t%3A%3F%23%2C%25"
CERTIFICATE = Path(__file__).parents[1] / "server" / "localhost.pem"
_numbers = itertools.count(1)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3cret@host", "names no engine"),
        ("redis+sentinel://:s3cret@host:26379/main", r"redis\+sentinel:// URL names no engine"),
        ("valkey://:s3cret@host", "names no engine"),
        ("redis://:s3cret@a:26379,b:26379", "Sentinel and Cluster are not supported"),
        ("redis://:s3cret/x@host", "write @ as %40"),
        ("redis://s3cret/x@host", "write @ as %40"),
        ("redis://:s3cret?x@host", "write @ as %40"),
        ("redis://:12?s3cret@host", "write @ as %40"),
        ("redis://:12?s3cret=x@host", "no list of options"),
        ("redis://:s3cret#x@host", "write @ as %40"),
        ("redis://:s3cret[x@host", "write @ as %40"),
        ("redis://:s3cret\u2100x@host", "write @ as %40"),
        ("redis://:s3cret@host:port", "write @ as %40"),
        ("redis://:s3cret@host/name", "number of a database"),
        ("redis://:s3cret@host?persence_ttl_s=3", "`persence_ttl_s` that redis-py does not take"),
        ("redis://:s3cret@host?db=x", "`db` that redis-py does not take"),
        ("unix:///tmp/x?password=s3cret&presence_ttl_s=-1", "presence_ttl_s is a number"),
        ("redis://host?presence_ttl_s=nan&password=s3cret", "presence_ttl_s is a number"),
        ("redis://host?presence_ttl_s=&password=s3cret", "presence_ttl_s is a number"),
        ("redis://:s3cret@host?prefix=my%20app", "1 to 64 letters, digits, `_` or `-`, not 'my app'"),
        ("nats://:s3cret@host?prefix=", "1 to 64 letters"),
        ("nats://s3cret/x@host", "write @ as %40"),
        ("nats://ada:s3cret/x@host", "write @ as %40"),
        ("nats://ada:s3cret,x@host", "write @ as %40"),
        ("nats://host,ada:s3cret@other", "not for the first server"),
        ("nats://ada:s3cret@host,redis://other", "names hosts"),
        ("nats://ada:s3cret@", "names hosts"),
        ("nats://ada:s3cret@host?tls=1", "NATS takes prefix and presence_ttl_s"),
    ],
)
def test_a_url_that_cannot_work_is_refused_and_shows_no_password(url: str, said: str) -> None:
    """Before anything is connected, in one line, with the scheme as all there is of the URL."""
    with pytest.raises(ValueError, match=said) as refused:
        open_url(url)
    assert "s3cret" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://ada:{QUOTED}@127.0.0.1:1/2?prefix=x", "redis://127.0.0.1:1/2"),
        (f"redis://127.0.0.1:1?password={QUOTED}", "redis://127.0.0.1:1"),
        (f"rediss://:{QUOTED}@127.0.0.1:1", "rediss://127.0.0.1:1"),
        (f"unix://:{QUOTED}@/no/where.sock?db=1", "unix:///no/where.sock"),
        (f"nats://{QUOTED}@127.0.0.1:1,127.0.0.1:2", "nats://127.0.0.1:1,nats://127.0.0.1:2"),
        (f"tls://ada:{QUOTED}@127.0.0.1:1", "tls://127.0.0.1:1"),
    ],
)
def test_an_engine_that_is_away_is_named_without_its_password(
    url: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log and in what is raised; and the log says why."""

    async def main() -> None:
        async with opened(url) as (ours, _):
            with pytest.raises(BackplaneUnavailable, match="is away") as raised:
                await ours.append("r", b"x", KEEP)
            assert f" at {shown} is away" in str(raised.value)

    asyncio.run(main())
    assert f" at {shown} is away: " in caplog.text
    assert "Errno" in caplog.text or "Error 2" in caplog.text or "Error 111" in caplog.text
    assert "s3c" not in caplog.text


async def works(url: str) -> None:
    """Everything that a backplane does, once."""
    async with opened(f"{url}{'&' if '?' in url else '?'}prefix=u{next(_numbers)}", "a") as (ours, ears):
        assert ours.state == "connected"
        ours.publish(("a",), b"1")
        await ours.flush()
        await ours.append("a", b"2", KEEP)
        await ears.receives(b"1", b"2")
        await ours.hold("a", "me", b"3")
        assert await ours.held("a") == {"me": b"3"}


def test_redis_with_a_password_by_all_its_ways(tmp_path: Path) -> None:
    """In front of the host and in the query, over TCP and a unix socket, for users of their own, in any database."""
    path = tmp_path / "redis.sock"
    with running("redis", "--requirepass", PASSWORD, "--unixsocket", str(path)) as server:

        async def main() -> None:
            async with redis.Redis(port=server.port, password=PASSWORD) as admin:
                await admin.acl_setuser(
                    "a@da", enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], channels=["*"], categories=["+@all"]
                )
            host = f"127.0.0.1:{server.port}"
            for url in (
                f"redis://:{QUOTED}@{host}",
                f"redis://:{QUOTED}@{host}/3?socket_keepalive=true&protocol=3&decode_responses=yes",
                f"redis://{host}?password={QUOTED}&db=2",
                f"redis://a%40da:{QUOTED}@{host}",
                f"unix://:{QUOTED}@{path}",
                f"unix://a%40da:{QUOTED}@{path}?db=4",
                f"unix://{path}?password={QUOTED}",
            ):
                await works(url)

        asyncio.run(main())


@contextlib.asynccontextmanager
async def behind_tls(port: int) -> AsyncIterator[int]:
    """A port where TLS ends, as a proxy before Redis has it: the wheel's Redis is built without."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onwards = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, onwards[1]), pass_on(onwards[0], writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


def test_redis_over_tls(redis_engine: EngineServer, caplog: pytest.LogCaptureFixture) -> None:
    """`rediss://` with redis-py's own options; a certificate that nobody vouches for is refused, and said to be."""

    async def main() -> None:
        async with behind_tls(redis_engine.port) as port:
            await works(f"rediss://localhost:{port}?ssl_ca_certs={CERTIFICATE}")
            async with opened(f"rediss://localhost:{port}") as (ours, _):
                assert ours.state == "reconnecting"

    asyncio.run(main())
    assert "certificate verify failed" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cluster-enabled", "yes"], "it is a Redis Cluster, which is not supported"),
        (["--sentinel"], "it is a Redis Sentinel, which is not supported: name the master"),
        (["--replicaof", "127.0.0.1", "1"], "it is a replica, which takes no writes"),
        (["--requirepass", PASSWORD], "Authentication required"),
    ],
)
def test_a_redis_on_which_rooms_would_not_work(options: list[str], said: str, caplog: pytest.LogCaptureFixture) -> None:
    """It counts as away, and why is logged once. Cluster and Sentinel answer PING, and a replica takes PUBLISH."""
    with running("redis", *options) as server:

        async def main() -> None:
            async with opened(server.url, "a") as (ours, _):
                assert ours.state == "reconnecting"

        asyncio.run(main())
    assert caplog.text.count(said) == 1


def test_a_master_that_becomes_a_replica_counts_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    As after a failover, when the links of the old master live on (StackExchange.Redis 2264): it takes PUBLISH, and only
    its own subscribers hear it. Back as a master it has everybody back.
    """
    monkeypatch.setattr(redis_module, "TURN_S", 0.05)
    monkeypatch.setattr(redis_module, "SILENT_TURNS", 100)

    async def main(server: EngineServer) -> None:
        async with opened(server.url, "a") as (ours, ears), redis.Redis(port=server.port) as admin:
            await admin.replicaof("127.0.0.1", free_port())
            await until(lambda: ears.lost == 1, "it is noticed")
            await admin.replicaof("NO", "ONE")
            await until(lambda: ours.state == "connected", "it is back")
            ours.publish(("a",), b"1")
            await ears.receives(b"1")

    with running("redis") as server:
        asyncio.run(main(server))


def test_a_redis_user_who_may_not_do_everything_is_told_so(
    redis_engine: EngineServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which command or channel it is stands in the log, at once; and nothing waits for an answer that never comes."""
    for module in (engine_module, redis_module):  # a machine that stalls for some seconds is no engine that is away
        monkeypatch.setattr(module, "CALL_TIMEOUT_S", 60.0)

    async def main() -> None:
        async with redis.Redis(port=redis_engine.port) as admin:
            for user, channels, commands in (("deaf", [], ["+@all"]), ("mute", ["*"], ["+@all", "-publish"])):
                await admin.acl_setuser(
                    user, enabled=True, reset=True, passwords=["+s3cret"], keys=["*"], reset_channels=True,
                    channels=channels, categories=commands[:1], commands=commands[1:],
                )  # fmt: skip
        async with opened(redis_engine.url.replace("//", "//deaf:s3cret@")) as (ours, ears):
            async with asyncio.timeout(40):
                await ours.subscribe("a")
            await until(lambda: ears.lost, "there is no link without the subscription")
        async with opened(redis_engine.url.replace("//", "//mute:s3cret@")) as (ours, ears):
            ours.publish(("a",), b"1")
            with pytest.raises(BackplaneUnavailable, match="during a publish"):
                await ours.flush()

    asyncio.run(main())
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [("channel" in each, "publish" in each) for each in said] == [(True, False), (False, True)]
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("options", "credentials"),
    [
        (["--auth", PASSWORD], QUOTED),
        (["--user", "a@da", "--pass", PASSWORD], f"a%40da:{QUOTED}"),
    ],
)
def test_nats_with_a_token_or_a_password(
    options: list[str], credentials: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Any characters, written with percent signs; and one that is wrong is named as such."""

    async def main(server: EngineServer) -> None:
        await works(f"nats://{credentials}@127.0.0.1:{server.port}")
        assert not caplog.records
        async with opened(f"nats://{credentials}x@127.0.0.1:{server.port}") as (ours, _):
            assert ours.state == "reconnecting"

    with running("nats", *options) as server:
        asyncio.run(main(server))
    assert "Authorization Violation" in caplog.text
    assert "s3c" not in caplog.text


def test_nats_of_several_servers() -> None:
    """The first that answers is taken; when it goes, the next one is, with the same credentials."""
    cluster = ["--cluster_name", "c", "--user", "ada", "--pass", PASSWORD]

    def servers(*routes: str) -> Callable[..., Any]:
        return lambda port, *more: running(
            "nats", *cluster, "--cluster", f"nats://127.0.0.1:{port}", "--routes", ",".join(routes), *more,
            jetstream=False,
        )  # fmt: skip

    first, second = free_port(), free_port()
    joined = servers(f"nats://127.0.0.1:{first}", f"nats://127.0.0.1:{second}")
    with joined(first) as one, joined(second) as two:
        dead = free_port()
        url = f"nats://ada:{QUOTED}@127.0.0.1:{dead},127.0.0.1:{one.port},nats://127.0.0.1:{two.port}"

        async def main() -> None:
            async with opened(url, "a") as (ours, ears):
                assert (ours.state, ours._servers[0].place) == ("connected", f"127.0.0.1:{one.port}")  # type: ignore[attr-defined]
                one.kill()
                await until(lambda: ears.restored == 1, "the next one is taken")
                assert ours._servers[0].place == f"127.0.0.1:{two.port}"  # type: ignore[attr-defined]
                ours.publish(("a",), b"1")
                await ears.receives(b"1")

        asyncio.run(main())


def test_nats_over_tls(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """`tls://`, with the certificates that the environment trusts; another one is refused, and said to be."""
    with running("nats", "--tls", "--tlscert", str(CERTIFICATE), "--tlskey", str(CERTIFICATE)) as server:
        url = f"tls://localhost:{server.port}"

        async def distrusted() -> None:
            async with opened(url) as (ours, _):
                assert ours.state == "reconnecting"

        asyncio.run(distrusted())
        assert "certificate verify failed" in caplog.text
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        asyncio.run(works(url))


def test_a_nats_user_who_may_not_subscribe_is_told_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The server says so once, after the fact: it must not be lost among what is of no interest."""
    configuration = tmp_path / "nats.conf"
    configuration.write_text(
        'authorization: {users: [{user: ada, password: s3cret, permissions: {subscribe: ["_INBOX.>"]}}]}'
    )
    with running("nats", "-c", str(configuration)) as server:

        async def main() -> None:
            async with opened(server.url.replace("//", "//ada:s3cret@"), "a") as (ours, _):
                assert ours.state == "connected"
                await until(lambda: "ermissions" in caplog.text, "it is said")

        asyncio.run(main())
    (said,) = caplog.records
    assert said.levelname == "WARNING"
    assert "socketsundso.live.a" in said.getMessage()


def test_a_url_is_looked_at_without_an_event_loop() -> None:
    """As the command line does."""
    for url in ("memory://", "redis://h", "rediss://h", "unix:///x", "nats://a,b", "tls://h"):
        assert open_url(url).state == "closed"
