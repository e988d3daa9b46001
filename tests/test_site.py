"""The site of the docs: built as a reader gets it, and what its reference has to name."""

from __future__ import annotations

import functools
import html.parser
import http.server
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.browsing import browser, complaints, in_a_browser, text_with
from tests.serving import ROOT

if importlib.util.find_spec("mkdocs_autorefs") is None:
    pytest.skip("the extra `docs` is not installed", allow_module_level=True)

import griffe

FACES = ["", ".backplanes", ".contract", ".security", ".server", ".testing"]
"""The modules whose names are public."""

SPEAKERS = {
    "SyncConnection": "testing.Connection",
    "SyncHub": "Hub",
    "_Scheme": "security.SecurityScheme",
}
"""By class, the one whose members say what those of the same name are."""

FOREIGN = {"server.WebSocketProtocol"}
"""Whose members are called by asyncio and picows alone, and called as these say."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site. A warning of mkdocs is an error: a page in no navigation, a link to nowhere."""
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    environment.pop("PYTHONWARNINGS", None)  # ours; mkdocs reports its own
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    command += ["--config-file", "docs/site/mkdocs.yml"]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert not built.returncode, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def package() -> griffe.Module:
    """The package as its source tells, with the docstrings of attributes."""
    loaded = griffe.load("socketsundso", search_paths=[str(ROOT)], resolve_aliases=True)
    assert isinstance(loaded, griffe.Module)
    return loaded


def public_names() -> list[str]:
    """Of each face what it lists, or else whatever it imports for others: "Hub", "testing.connect"."""
    names = []
    for face in FACES:
        module = importlib.import_module(f"socketsundso{face}")
        values = vars(module).items()
        imported = [name for name, value in values if name[0] != "_" and not isinstance(value, ModuleType)]
        names += [f"{face}.{name}".lstrip(".") for name in getattr(module, "__all__", imported)]
    return names


def names_in_the_reference(site: Path) -> set[str]:
    """As the inventory of the site has them, by which other projects' docs link to them."""
    inventory = (site / "objects.inv").read_bytes()
    _, _, _, _, packed = inventory.split(b"\n", 4)
    return {line.split(" ")[0].removeprefix("socketsundso.") for line in zlib.decompress(packed).decode().splitlines()}


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    """Also under the name by which users import it."""
    assert set(public_names()) <= names_in_the_reference(site)


def test_what_pages_import_is_in_the_reference(site: Path) -> None:
    """So a module that becomes public by being told of comes into the reference."""
    pages = "\n".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))
    imports = re.findall(r"^from socketsundso\.?([a-z._]*) import ([\w, ]+)$", pages, re.MULTILINE)
    told = {f"{module}.{name.split()[0]}".lstrip(".") for module, names in imports for name in names.split(",")}
    assert told
    assert told <= names_in_the_reference(site)


@pytest.mark.parametrize("name", public_names())
def test_a_public_name_has_a_docstring_and_so_has_what_it_offers(package: griffe.Module, name: str) -> None:
    """An attribute may be told of in the docstring of its class, or of a base."""
    told = _target(package[name])
    assert told.docstring, f"{name} has no docstring"
    members = _offered(told) if name not in FOREIGN else []
    silent = [member for member in members if not _is_told(package, told, member)]
    assert not silent, f"{name}: {', '.join(silent)}"


def _target(found: Any) -> Any:
    return found.final_target if found.is_alias else found


def _offered(told: Any) -> list[str]:
    members = told.members.items() if told.is_class else ()
    return [name for name, member in members if name[0] != "_" and not member.is_alias and name != "model_config"]


def _is_told(package: griffe.Module, owner: Any, member: str) -> bool:
    bases = [owner, *owner.mro()]
    speakers = [_target(package[SPEAKERS[base.name]]) for base in bases if base.name in SPEAKERS]
    for each in (*bases, *speakers):
        if member in each.members and each.members[member].docstring:
            return True
        said = each.docstring.value if each.docstring else ""
        if owner.members[member].is_attribute and re.search(rf"\b{member}\b", said):
            return True
    return False


class _Loaded(html.parser.HTMLParser):
    """The addresses of what a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe"):
            self.addresses.append(given.get("src") or "")
        elif tag == "link" and given.get("rel") != "canonical":
            self.addresses.append(given.get("href") or "")


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    """No font, script or picture of another host: the site is read without a network, and tells nobody who reads it."""
    for page in site.rglob("*.html"):
        loaded = _Loaded()
        loaded.feed(page.read_text())
        assert loaded.addresses
        assert not [each for each in loaded.addresses if re.match(r"(?!data:)\w+:|//", each)], page
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"url\([\"']?(?:https?:)?//[^)]*", sheet.read_text()), sheet


@in_a_browser
def test_the_search_finds_a_page(site: Path, tmp_path: Path) -> None:
    """In the page itself, which has nothing to complain of."""
    serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            with browser(f"http://127.0.0.1:{server.server_port}/?q=permessage-deflate", tmp_path) as page:
                text_with(page, "matching documents", "The server: socketsundso.server.WebSocketProtocol")
                assert complaints(page) == []
        finally:
            server.shutdown()
