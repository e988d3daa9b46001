"""The guides of docs/migrating: what they show as before and as after are servers of one and the same client."""

from __future__ import annotations

import functools
import logging
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from socketsundso.contract import api_of
from socketsundso.errors import ContractError
from tests.server.serving import run, serving
from tests.serving import ROOT

GUIDES = {
    "channels": "channels",
    "chanx": "chanx",
    "fastapi": "fastapi",
    "json_rpc": "starlette",
    "litestar": "litestar",
    "socketio": "socketio",
}
"""The pages, and what the code of each imports that an install does not bring."""

SECTION = re.compile(r"^## (.+?)$.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def path_of(guide: str) -> Path:
    return ROOT / "docs" / "migrating" / f"{guide}.md"


def servers() -> list[tuple[str, str]]:
    """Each guide's "Before", its "After", and its "After, with ...", which is more than that."""
    sections = [(guide, heading) for guide in GUIDES for heading in SECTION.findall(path_of(guide).read_text())]
    return [(guide, heading) for guide, heading in sections if heading.startswith(("Before", "After"))]


def defined(guide: str, *headings: str) -> dict[str, Any]:
    """What the Python blocks below these headings define: one module, in the order of the page."""
    page = path_of(guide)
    text = page.read_text()
    module = types.ModuleType(f"{guide}: {headings[-1]}")
    sys.modules[module.__name__] = module  # where annotations are looked up, by msgspec with the first message
    for section in SECTION.finditer(text):
        if section[1] in headings:
            for block in BLOCK.finditer(text, section.start(), section.end()):
                lines_above = "\n" * text[: block.start(1)].count("\n")
                exec(compile(lines_above + block[1], str(page), "exec"), module.__dict__)
    return module.__dict__


def importorskip(guide: str) -> None:
    needed = GUIDES[guide]
    pytest.importorskip(needed, reason=f'{needed} is missing: pip install -e ".[peers]"')


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Litestar and Django set the logging of their process up: other tests have it as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize(("guide", "server"), servers())
def test_the_client_of_both_is_served(guide: str, server: str) -> None:
    """By the code of this section, with what stays: the page's client finds all that it asserts."""
    importorskip(guide)
    app = defined(guide, "What stays", server.partition(",")[0], server)["app"]
    both = defined(guide, "The client of both")
    client = both["client"]
    if "transports" in both:
        client = functools.partial(client, transport=both["transports"][server])

    async def main() -> None:
        options = {"ws": "websockets-sansio"} if server == "Before" else {}
        async with serving(app, lifespan="auto", **options) as at:
            await client(at.url)

    run(main())


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize(
    ("guide", "path"),
    {
        "channels": "/ws/{room}/",
        "chanx": "/ws",
        "fastapi": "/ws",
        "litestar": "/ws/{room}",
        "socketio": "/",
    }.items(),
)
def test_the_contract_of_what_comes_after_is_found(guide: str, path: str) -> None:
    """In the application, whichever framework's routers and middleware the endpoint stands in, at its path."""
    importorskip(guide)
    (channel,) = api_of(defined(guide, "What stays", "After")["app"]).channels
    assert channel.path == path


def test_the_contract_of_json_rpc_is_refused() -> None:
    """In words: a document of AsyncAPI has none for requests and results that are told apart by their `id`."""
    with pytest.raises(ContractError, match="JsonRpc"):
        api_of(defined("json_rpc", "What stays", "After")["app"])


def test_every_guide_is_run_and_listed() -> None:
    """A page of the folder is one that is tested here, and the index links to it."""
    pages = {page.stem for page in path_of("index").parent.glob("*.md")}
    assert pages == {"index", *GUIDES}
    assert set(re.findall(r"\]\((\w+)\.md\)", path_of("index").read_text())) == set(GUIDES)
