"""`socketsundso schema`, as a user and a CI call it."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from socketsundso.cli import main
from socketsundso.contract import dump
from tests.contract.apis import CHAT, SHOP


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is called: with the documents of two versions of a shop, and of another API."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.json").write_bytes(dump(SHOP))
    (tmp_path / "chat.json").write_bytes(dump(CHAT))
    narrower = dump(SHOP).replace(b'"exclusiveMinimum": 0', b'"exclusiveMinimum": 2')
    (tmp_path / "narrower.json").write_bytes(narrower)
    return tmp_path


def schema(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["schema", *arguments])


def test_a_document_is_written_to_the_terminal(folder: Path) -> None:
    """Byte for byte, and nothing else."""
    ended = schema("shop.json")
    assert (ended.exit_code, ended.stdout_bytes, ended.stderr) == (0, dump(SHOP), "")


def test_a_document_is_written_to_a_file(folder: Path) -> None:
    """`-o` replaces what was there, and says nothing."""
    ended = schema("shop.json", "-o", "chat.json")
    assert (ended.exit_code, ended.output) == (0, "")
    assert (folder / "chat.json").read_bytes() == dump(SHOP)


def test_check_fails_where_a_deployed_client_breaks(folder: Path) -> None:
    """Exit status 1, a line for each change, and no document between them."""
    ended = schema("narrower.json", "--check", "shop.json")
    assert ended.exit_code == 1
    assert ended.stdout.splitlines() == [
        "breaks old clients: shop/buy/count: old clients may send numbers from 1; the server takes numbers above 2",
        "1 breaks old clients.",
    ]


def test_check_passes_where_no_deployed_client_breaks(folder: Path) -> None:
    """What only new clients must wait for is told, and no failure."""
    ended = schema("shop.json", "--check", "narrower.json")
    assert ended.exit_code == 0
    assert "breaks new clients on the old server: shop/buy/count" in ended.stdout
    assert schema("shop.json", "--check", "shop.json").output == "Nothing changed.\n"


def test_what_was_checked_is_written_too(folder: Path) -> None:
    """Compared with the file as it was, which then has the new document."""
    assert schema("narrower.json", "--check", "shop.json", "-o", "shop.json").exit_code == 1
    assert schema("narrower.json", "--check", "shop.json").exit_code == 0


@pytest.mark.parametrize(("form", "start"), [("text", "breaks old"), ("json", "[\n"), ("github", "::error ")])
def test_formats(folder: Path, form: str, start: str) -> None:
    """For people, programs and GitHub."""
    ended = schema("narrower.json", "--check", "shop.json", "--format", form)
    assert ended.exit_code == 1
    assert ended.stdout.startswith(start)


@pytest.fixture
def site(folder: Path) -> Iterator[str]:
    """The folder by HTTP."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_documents_are_fetched(site: str) -> None:
    """That of a deployed server, to check against."""
    assert schema("narrower.json", "--check", f"{site}/shop.json").exit_code == 1


def test_what_is_not_on_a_site_is_said(site: str) -> None:
    """With the server's words."""
    ended = schema(f"{site}/nowhere.json")
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "nowhere.json: HTTP Error 404" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.json"], "cannot read missing.json: No such file or directory"),
        (["shop.yaml"], "only JSON is read; convert the YAML"),
        (["broken.json"], "it is no JSON: Expecting"),
        (["nan.json"], "it is no JSON: JSON has no NaN"),
        (["latin.json"], "it is no JSON: "),
        (["deep.json"], "nested too deeply"),
        (["openapi.json"], "this is no AsyncAPI document"),
        (["shop.json", "--check", "missing.json"], "cannot read missing.json"),
        (["shop.json", "-o", "nowhere/shop.json"], "cannot write nowhere/shop.json: No such file or directory"),
        (["http://127.0.0.1:1/shop.json"], "cannot fetch http://127.0.0.1:1/shop.json"),
        (["http://[/shop.json"], "cannot fetch http://[/shop.json"),
        (["nothing"], "cannot read nothing: "),
        (["nothing_of_that_name:app"], "cannot read nothing_of_that_name:app: "),
        ([".relative:app"], "'.relative' is not the name of a module"),
        (["raising:app"], "cannot read raising:app: importing it raised ValueError"),
        (["shop.json", "--format", "xml"], "'xml' is not one of"),
        ([], "Missing argument 'TARGET'"),
    ],
)
def test_mistakes_are_told_in_a_line(folder: Path, arguments: list[str], said: str) -> None:
    """With exit status 2, so that a CI tells them from clients that break."""
    (folder / "shop.yaml").write_text("asyncapi: 3.0.0\n")
    (folder / "broken.json").write_text("asyncapi: 3.0.0\n")
    (folder / "nan.json").write_text('{"asyncapi": NaN}')
    (folder / "latin.json").write_bytes(b'{"asyncapi": "\xe4"}')
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "openapi.json").write_text('{"openapi": "3.1.0"}')
    (folder / "raising.py").write_text("raise ValueError('not today')\n")
    ended = schema(*arguments)
    assert (ended.exit_code, ended.stdout) == (2, "")
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("Error: ")]
    assert said in line


def test_a_document_with_a_byte_order_mark_is_read(folder: Path) -> None:
    """As editors of some systems write it."""
    (folder / "marked.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(json.loads(dump(CHAT))).encode())
    assert schema("marked.json").stdout_bytes == dump(CHAT)
