"""Every code block of the README and the docs runs, top to bottom, one namespace a page."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import pytest

from tests.pages import BLOCK
from tests.serving import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


# The blocks of the tutorial are files, and commands: tests/test_tutorial.py.
@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "tutorial"], ids=lambda page: page.name)
def test_code_blocks_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python blocks run without an error, JSON blocks parse."""
    # Histories that a page declares are no other's: tests behind it have rooms of the same names.
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", f"memory://docs-{page.stem}")
    module = types.ModuleType(f"docs_{page.stem}")
    # Types look their module up, also when a later page compiles all endpoints anew.
    sys.modules[module.__name__] = module
    text = page.read_text()
    for match in BLOCK.finditer(text):
        language, source = match.groups()
        if language == "json":
            json.loads(source)
        elif language == "python":
            line = text[: match.start()].count("\n") + 1
            exec(compile("\n" * line + source, str(page), "exec"), module.__dict__)


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs").glob("*/*.md"))], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that exists."""
    for target in re.findall(r"(?<!`)\]\((?!https?:|#)([\w./-]+)", page.read_text()):
        assert (page.parent / target).exists(), target
