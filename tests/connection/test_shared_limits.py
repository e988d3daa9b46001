"""Limits that connections and processes share, counted by `limits`."""

from __future__ import annotations

import asyncio
import builtins
import sys
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from socketsundso import DefinitionError, Endpoint, SharedRateLimit, event
from tests.backplanes.engines import running
from tests.harness import Peer, talk

limits = pytest.importorskip("limits")


def chat(limit: Any) -> type[Endpoint]:
    class Chat(Endpoint):
        async def authenticate(self) -> Any:
            return self.websocket.query_params["user"]

        @event(guards=[limit])
        async def on_say(self) -> Any:
            return {}

        @event(guards=[limit])
        async def on_shout(self) -> Any:
            return {}

    return Chat


def said(app: Any, *users: str) -> list[list[str]]:
    """What connections of these users are answered, all at once."""

    async def main() -> list[Peer]:
        peers = [Peer(app, [{"type": "say"}] * 3, query_string=f"user={user}".encode()) for user in users]
        done = await asyncio.gather(*(each.run() for each in peers))
        await app.handlers["say"].guards[0].close()
        return list(done)

    return [[answer.get("code", answer["type"]) for answer in each.answers] for each in asyncio.run(main())]


@pytest.mark.parametrize("strategy", ["fixed-window", "moving-window", "sliding-window-counter"])
def test_connections_of_one_user_share_it(strategy: Any) -> None:
    """Whichever of them is first; another user has another one."""
    app = chat(SharedRateLimit("4/hour", by=lambda endpoint: endpoint.user, strategy=strategy))
    ada, also_ada, bob = said(app, "ada", "ada", "bob")
    assert sorted(ada + also_ada) == ["rate_limited"] * 2 + ["say"] * 4
    assert bob == ["say"] * 3


def test_each_event_has_its_own() -> None:
    """As with a connection's own limits."""

    class Both(chat(SharedRateLimit("1/hour", by=lambda endpoint: endpoint.user))):  # type: ignore[misc]
        pass

    frames = [{"type": name} for name in ("say", "shout", "say", "shout")]
    answers = talk(Both, *frames, query_string=b"user=ada").answers
    assert [answer["type"] for answer in answers] == ["say", "shout", "error", "error"]


def test_what_is_refused_is_told_when_the_next_one_passes() -> None:
    """With the same frame as by a connection's own limit."""
    app = chat(SharedRateLimit("1/hour", by=lambda endpoint: endpoint.user, strategy="moving-window"))
    answer = talk(app, *[{"type": "say", "ref": 7}] * 2, query_string=b"user=ada").answers[1]
    assert 3590 < answer.pop("retry_after_s") <= 3601
    assert answer == {"type": "error", "code": "rate_limited", "ref": 7, "errors": []}


def test_the_twentieth_refusal_in_a_row_of_a_connection_closes_4429() -> None:
    """One that passes between begins to count anew; another connection of the user is not closed for it."""
    app = chat(SharedRateLimit("1/hour", by=lambda endpoint: endpoint.user))

    async def main() -> tuple[Peer, Peer]:
        storm = await Peer(app, [{"type": "say"}] * 30, query_string=b"user=ada").run()
        return storm, await Peer(app, [{"type": "say"}] * 5, query_string=b"user=ada").run()

    storm, other = asyncio.run(main())
    assert (storm.closed, len(storm.answers)) == (4429, 20)
    assert (other.closed, len(other.answers)) == (None, 5)


def test_processes_share_it_over_redis(caplog: pytest.LogCaptureFixture) -> None:
    """Each with a limit of its own there, and an event loop; when it has gone, nothing passes, and it is told."""
    with running("redis") as redis:
        apps = [chat(SharedRateLimit("4/hour", by=lambda endpoint: endpoint.user, storage=redis.url)) for _ in range(2)]
        assert [said(app, "ada") for app in apps] == [[["say"] * 3], [["say", "rate_limited", "rate_limited"]]]
        redis.kill()
        assert said(apps[0], "ada") == [["internal_error"] * 3]
    assert "the storage of a SharedRateLimit" in caplog.text


def test_handshakes_can_be_counted_with_it() -> None:
    """`count` is for what is no message."""
    handshakes = SharedRateLimit("2/hour", by=lambda endpoint: endpoint.websocket.client.host)

    class Chat(Endpoint):
        async def authenticate(self) -> Any:
            if wait_s := await handshakes.count(self.websocket.client.host):
                raise HTTPException(429, headers={"Retry-After": f"{wait_s:.0f}"})

    async def main() -> list[Any]:
        peers = [await Peer(Chat, client=(host, 1)).run() for host in ("a", "a", "a", "b")]
        return [peer.sent[0].get("status", 101) for peer in peers]

    assert asyncio.run(main()) == [101, 101, 429, 101]


def test_a_storage_that_is_away_lets_nothing_pass(caplog: pytest.LogCaptureFixture) -> None:
    """It is no fault of the application, and every client may ask meanwhile: one line, no traceback."""
    app = chat(SharedRateLimit("1/hour", by=lambda endpoint: endpoint.user, storage="redis://127.0.0.1:1"))
    assert said(app, "ada") == [["internal_error"] * 3]
    assert all(record.exc_info is None for record in caplog.records)
    assert "SharedRateLimit" in caplog.text


def test_whom_nobody_can_name_does_not_pass() -> None:
    """What `by` raises is a bug."""

    class Nobody(Endpoint):
        @event(guards=[SharedRateLimit("1/hour", by=lambda endpoint: endpoint.user.id)])
        async def on_say(self) -> Any:
            return {}

    assert [answer["code"] for answer in talk(Nobody, {"type": "say"}).answers] == ["internal_error"]


@pytest.mark.parametrize(
    ("rate", "options"),
    [
        ("often", {}),
        ("", {}),
        (5, {}),
        ("1/second; 5/minute", {}),
        ("1/second", {"storage": "nowhere://"}),
        ("1/second", {"strategy": "guess"}),
        ("1/second", {"by": "user"}),
    ],
)
def test_what_cannot_be_counted_is_refused_where_it_is_written(rate: Any, options: Any) -> None:
    """With what was given."""
    with pytest.raises(DefinitionError, match="SharedRateLimit"):
        SharedRateLimit(rate, **{"by": lambda endpoint: endpoint.user, **options})


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where nobody makes one, nothing of it is imported."""
    for name in [each for each in sys.modules if each.partition(".")[0] == "limits"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "limits":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setattr("importlib.import_module", lambda name: missing(name))
    with pytest.raises(ImportError, match=r"socketsundso\[limits\]"):
        SharedRateLimit("1/second", by=lambda endpoint: endpoint.user)
