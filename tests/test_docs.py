"""Every code block of the README and the docs runs, top to bottom, one namespace a page."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python blocks run without an error, JSON blocks parse."""
    module = types.ModuleType(f"docs_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
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
