"""One server and one process of each engine for all tests of a module."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.contract.served.described import API
from tests.contract.served.javascript import Engine, compiled, engine
from tests.serving import free_port, serving


def command(port: int, *options: str) -> tuple[str, ...]:
    app = "tests.contract.served.endpoints:app"
    return ("-m", "socketsundso", "run", "--log-level", "critical", "--port", str(port), *options, app)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of `endpoints:app`, served."""
    port = free_port()
    with serving(*command(port), port=port):
        yield f"ws://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Engine]]:
    """Those that were asked for, each started once."""
    client = compiled(API, tmp_path_factory.mktemp("client"))
    with ExitStack() as stack:
        yield functools.cache(lambda name: stack.enter_context(engine(client, name)))


@pytest.fixture(params=["ws", "undici", "bun"])
def js(request: pytest.FixtureRequest, engines: Callable[[str], Engine]) -> Engine:
    """Node with `ws` and with undici, and Bun."""
    return engines(request.param)


@pytest.fixture(params=["ws", "undici"])
def node(request: pytest.FixtureRequest, engines: Callable[[str], Engine]) -> Engine:
    """Those in which a snippet has a server of its own, and is told of a page that is none."""
    return engines(request.param)
