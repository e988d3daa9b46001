"""`socketsundso client`, as a user starts it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from socketsundso import contract
from socketsundso.cli import main
from tests.contract.apis import CHAT, SHOP


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "shop.json"
    path.write_bytes(contract.dump(SHOP))
    return path


def client(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["client", *map(str, arguments)])


def test_a_client_is_written_to_the_terminal(document: Path) -> None:
    """Of a document, the same text as of the API that it was made of."""
    ended = client("typescript", document)
    assert (ended.exit_code, ended.stdout) == (0, contract.typescript(SHOP))


def test_a_client_is_written_to_a_file_when_it_has_changed(document: Path, tmp_path: Path) -> None:
    """One that is up to date is left alone: whoever watches it builds nothing."""
    file = tmp_path / "shop.ts"
    assert client("typescript", document, "-o", file).exit_code == 0
    assert file.read_text() == contract.typescript(SHOP)
    before = file.stat().st_mtime_ns
    client("typescript", document, "-o", file)
    assert file.stat().st_mtime_ns == before
    document.write_bytes(contract.dump(CHAT))
    client("typescript", document, "-o", file)
    assert file.read_text() == contract.typescript(CHAT)


def test_what_cannot_be_generated_is_said_in_one_line(document: Path, tmp_path: Path) -> None:
    """And the file from before stays."""
    file = tmp_path / "shop.ts"
    file.write_text("before")
    shop = SHOP.channels[0]
    shouted = replace(shop.receives[0], event="BUY")
    document.write_bytes(contract.dump(replace(SHOP, channels=(replace(shop, receives=(*shop.receives, shouted)),))))
    ended = client("typescript", document, "-o", file)
    assert ended.exit_code == 1
    assert "event 'buy' and event 'BUY' would both be the method of Shop 'buy'" in ended.stderr
    assert file.read_text() == "before"


def test_a_file_that_cannot_be_written_is_said_in_one_line(document: Path, tmp_path: Path) -> None:
    """With the reason of the system."""
    ended = client("typescript", document, "-o", tmp_path / "none" / "shop.ts")
    assert ended.exit_code == 1
    assert ended.stderr.startswith("Error: cannot write ")
    assert "No such file or directory" in ended.stderr


def test_a_language_has_options_of_its_own(document: Path) -> None:
    """Of Python, what its messages are."""
    for models in ("msgspec", "pydantic"):
        ended = client("python", document, "--models", models)
        assert (ended.exit_code, ended.stdout) == (0, contract.python(SHOP, models=models))
    assert client("python", document).stdout == contract.python(SHOP)


def test_help_names_the_languages() -> None:
    """One command each."""
    assert "typescript" in client("--help").stdout
    assert "--output" in client("typescript", "--help").stdout
