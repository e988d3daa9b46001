"""The twin for threads, against real servers."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from ..clients import load
from .office import OFFICE, Office, log
from .servers import InThread, Served, serving_in_thread, wait_until

FAST = {"backoff": lambda attempt: 0.001}
_numbers = itertools.count()


@pytest.fixture(scope="module")
def client() -> ModuleType:
    return load(OFFICE)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """One for all tests that leave it alone."""
    with serving_in_thread(Office) as (served, _):
        yield served


@pytest.fixture
def office(client: ModuleType, server: Served) -> Iterator[Any]:
    with client.OfficeSync(server.url, **FAST) as office:
        yield office


@pytest.fixture
def doc() -> str:
    """The name of a room with history that no other test has been in."""
    return f"doc:sync-{next(_numbers)}"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No thread outlives its client."""
    log.clear()
    before = set(threading.enumerate())
    yield
    gc.collect()
    wait_until(lambda: set(threading.enumerate()) <= before)


def lose(office: Any) -> None:
    """Its connection, as a network would."""
    states: list[str] = []
    office.on_state(states.append)
    office._connection.socket.shutdown(2)
    wait_until(lambda: states)


def test_requests_of_many_threads_have_their_own_replies(office: Any) -> None:
    """All through one connection."""
    texts = [str(n) for n in range(50)]
    with ThreadPoolExecutor(8) as pool:
        assert [answer.text for answer in pool.map(lambda text: office.echo(text=text), texts)] == texts


def test_errors_have_their_classes(office: Any, client: ModuleType) -> None:
    """As with asyncio."""
    with pytest.raises(client.SoldOut) as caught:
        office.buy(count=5)
    assert caught.value.left == 3
    with pytest.raises(TimeoutError, match=r"slow: no answer within 0\.05 s"):
        office.slow(wait_s=30, timeout_s=0.05)
    wait_until(lambda: "slow cancelled" in log)


def test_a_stream_is_iterated_or_left(office: Any) -> None:
    """To its end; by a break, which cancels it; by `with`."""
    assert [item.n for item in office.count(to=3)] == [0, 1, 2]
    for _ in office.count(to=10**9, wait_s=0.001):
        break
    wait_until(lambda: log.count("count closed") == 2)
    with office.count(to=10**9, wait_s=0.001) as stream:
        assert next(stream).n == 0
    wait_until(lambda: log.count("count closed") == 3)
    assert list(stream) == []
    with pytest.raises(TimeoutError, match=r"count: no item within 0\.05 s"):
        list(office.count(to=2, wait_s=30, timeout_s=0.05))


def test_items_are_uploaded(office: Any, client: ModuleType) -> None:
    """By the credit that the server gives; what the items raise is raised, and its refusal is the answer."""

    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    assert office.add(items=range(100)).total == 4950
    with pytest.raises(LookupError, match="no more"):
        office.add(items=broken())
    with pytest.raises(client.OfficeError):
        office.add(items=["many"])


def test_what_is_not_taken_is_counted(client: ModuleType, server: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Who reads is told, callbacks cannot be: the log is; a stream is cancelled."""
    in_callback = threading.Event()

    def wait(push: Any) -> None:
        in_callback.wait(10)

    with client.OfficeSync(server.url, max_pushes=2, max_items=2) as office:
        office.on(client.Posted, wait)
        posted = office.pushes(client.Posted)
        office.enter(room="doc:overrun", name="x")
        for n in range(6):
            office.say(room="doc:overrun", msg=str(n))
        with pytest.raises(client.Overrun, match="4 came faster"):
            next(posted)
        assert [next(posted).msg for _ in range(2)] == ["4", "5"]
        in_callback.set()
        wait_until(lambda: caplog.messages)
        stream = office.count(to=10**9)
        next(stream)
        wait_until(lambda: "count closed" in log)
        with pytest.raises(client.Overrun):
            list(stream)
    assert "came faster than they were taken" in caplog.messages[0]


def test_a_room_that_cannot_be_resumed_is_a_gap(client: ModuleType, server: Served, doc: str) -> None:
    """As with asyncio; one that is forgotten is not."""
    with client.OfficeSync(server.url, **FAST) as office:
        for name in (doc, f"{doc} too"):
            office.enter(room=name, name="ada")
        office._session.rooms[doc].epoch = "of another life"
        office.room(f"{doc} too").forget()
        gaps = office.room(doc).pushes(client.Gap)
        lose(office)
        assert gaps.next(10) == client.Gap(doc, None)


def test_the_server_is_answered(office: Any, client: ModuleType) -> None:
    """In a thread, so that the answer may ask something itself."""

    def answer(question: Any) -> bool:
        return bool(office.echo(text=question.question).text == "sure?")

    def refuse(question: Any) -> bool:
        raise client.CallRefused("declined")

    def fail(question: Any) -> bool:
        raise LookupError

    assert office.pay().why == "unsupported"
    office.handle(client.Ask, answer)
    assert office.pay().paid
    office.handle(client.Ask, refuse)
    assert office.pay().why == "declined"
    office.handle(client.Ask, fail)
    assert office.pay().why == "internal_error"


def test_pushes_are_iterated_and_called_back(office: Any, client: ModuleType, doc: str) -> None:
    """In order; of one type, of a room, or all; a callback may ask something."""
    seen: list[str] = []
    off = office.on(client.Posted, lambda push: seen.append(office.echo(text=push.msg).text))
    office.on(client.PresenceDiff, lambda push: 1 / 0)
    posted, of_room = office.pushes(client.Posted), iter(office.room(doc))
    office.room(doc).on(client.Posted, lambda push: seen.append("in the room"))
    office.enter(room=doc, name="ada")
    for n in range(3):
        office.say(room=doc, msg=str(n))
    assert [next(posted).msg for _ in range(3)] == ["0", "1", "2"]
    assert isinstance(next(of_room), client.PresenceState)
    assert [type(next(iter(office))).__name__ for _ in range(3)] == ["PresenceState", "PresenceDiff", "Posted"]
    wait_until(lambda: len(seen) == 6)
    assert seen == ["0", "in the room", "1", "in the room", "2", "in the room"]
    off()
    assert office.room(doc).position.seq == 3
    assert list(office.room(doc).members.values()) == [{"name": "ada"}]
    with pytest.raises(TimeoutError):
        posted.next(timeout_s=0.01)
    posted.close()
    with pytest.raises(StopIteration):
        next(posted)


def test_a_client_comes_back_and_gets_what_it_missed(client: ModuleType, server: Served, doc: str) -> None:
    """In order, before what is said later; the application signs in before what waited is sent."""
    with client.OfficeSync(server.url) as eve:
        ada = client.OfficeSync(server.url, **FAST)
        opened: list[Any] = []

        def sign_in(told: Any) -> None:
            ada.echo(text="sign in")
            opened.append((told.reconnected, dict(told.resumed)))

        ada.on_open(sign_in)
        with ada:
            for who in (ada, eve):
                who.enter(room=doc, name="x")
            posted = ada.pushes(client.Posted)
            lose(ada)
            for n in range(3):
                eve.say(room=doc, msg=str(n))
            ada.echo(text="waited")
            assert [posted.next(5).msg for _ in range(3)] == ["0", "1", "2"]
            assert opened == [(False, {}), (True, {doc: True})]
        assert [entry for entry in log if entry.startswith("echo")] == ["echo sign in", "echo sign in", "echo waited"]


def test_what_is_in_flight_fails_at_once(client: ModuleType) -> None:
    """What has `retry` is sent again, what is asked meanwhile waits; one more than may is refused."""
    with (
        serving_in_thread(Office) as (served, in_thread),
        client.OfficeSync(served.url, max_offline=2, **FAST) as office,
        ThreadPoolExecutor(3) as pool,
    ):
        lost = pool.submit(office.slow, wait_s=30)
        again = pool.submit(office.slow, wait_s=0.05, retry=True)
        wait_until(lambda: log.count("slow") == 2)
        in_thread.run(served.stop())
        with pytest.raises(client.Disconnected):
            lost.result()
        later = pool.submit(office.echo, text="later")
        wait_until(lambda: len(office._session._offline) == 2)
        with pytest.raises(client.Disconnected, match="2 messages wait"):
            office.echo(text="too many")
        in_thread.run(served.start())
        assert again.result().text == "late"
        assert later.result().text == "later"


@pytest.mark.parametrize(("code", "comes_back"), [(1000, False), (4403, False), (1012, True), (4429, True)])
def test_the_close_code_says_whether_to_come_back(office: Any, client: ModuleType, code: int, comes_back: bool) -> None:
    """As with asyncio."""
    with pytest.raises(client.Disconnected) as caught:
        office.leave_with(code=code)
    assert (caught.value.code, caught.value.reason) == (code, "as you wish")
    if comes_back:
        assert office.echo(text="back").text == "back"
        return
    wait_until(lambda: office.state == "closed")
    with pytest.raises(client.Disconnected):
        office.echo(text="too late")
    if code == 1000:
        assert list(office) == []
    else:
        with pytest.raises(client.Disconnected, match="closed with 4403"):
            list(office)


def test_a_failed_connection_is_raised(client: ModuleType) -> None:
    """Refused, or nobody there; unless the client waits for the server."""

    class Closed(Office):
        async def authenticate(self) -> None:
            raise HTTPException(403)

    with serving_in_thread(Closed) as (served, _), pytest.raises(client.Disconnected, match="HTTP 403"):
        client.OfficeSync(served.url).open()
    served = Served(Office)
    with pytest.raises(client.Disconnected, match="no connection"):
        client.OfficeSync(served.url).open()
    with InThread() as in_thread:
        office = client.OfficeSync(served.url, wait_for_server=True, **FAST)
        opening = threading.Thread(target=office.open)
        opening.start()
        wait_until(lambda: office.state == "waiting")
        in_thread.run(served.start())
        opening.join()
        assert office.echo(text="at last").text == "at last"
        office.close()
        in_thread.run(served.stop())


def test_the_handshake_has_what_was_given(client: ModuleType) -> None:
    """Functions are asked for every attempt."""
    tokens = iter(("one", "two"))

    class Asking(Office):
        seen: list[tuple[str, str]] = []

        async def authenticate(self) -> None:
            self.seen.append((self.websocket.headers["authorization"], self.websocket.query_params["v"]))

    given = {"token": lambda: next(tokens), "query": {"v": 2}}
    with serving_in_thread(Asking) as (served, _), client.OfficeSync(served.url, **given, **FAST) as office:
        lose(office)
        wait_until(lambda: office.state == "open")
        assert Asking.seen == [("Bearer one", "2"), ("Bearer two", "2")]


def test_close_ends_all_that_waits(
    client: ModuleType, server: Served, doc: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, in whatever thread it is called; callbacks of its own may call it."""
    ended: list[str] = []

    def wait(work: Any) -> None:
        try:
            work()
            ended.append("quietly")
        except client.Disconnected as exc:
            ended.append(str(exc))

    with caplog.at_level(logging.WARNING):
        office = client.OfficeSync(server.url)
        with office:
            office.on(client.Posted, lambda push: office.close())
            stream = office.count(to=10**9, wait_s=0.01)
            next(stream)
            waiting = [
                threading.Thread(target=wait, args=(work,))
                for work in (lambda: list(office), lambda: office.slow(wait_s=30), lambda: list(stream))
            ]
            for thread in waiting:
                thread.start()
            wait_until(lambda: "slow" in log)
            office.enter(room=doc, name="x")
            with contextlib.suppress(client.Disconnected):  # its answer comes behind the push, if at all
                office.say(room=doc, msg="close!")
            for thread in waiting:
                thread.join()
        assert sorted(ended) == ["quietly", "the client was closed", "the client was closed"]
    assert not caplog.records


def test_a_client_may_be_opened_once(client: ModuleType, server: Served) -> None:
    """And has to be, before anything is asked."""
    office = client.OfficeSync(server.url)
    with pytest.raises(RuntimeError, match="the client is not open"):
        office.echo(text="x")
    with office:
        pass
    with pytest.raises(RuntimeError, match="opened once"):
        office.open()
