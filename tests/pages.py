"""What pages of the docs show: blocks of code, some of which are files: their first line has the name, `# chat.py`."""

from __future__ import annotations

import re

from tests.serving import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A language, and the text."""
NAMED = re.compile(r"(?:#|//) ([\w./-]+)\n")


def files_of(page: str) -> dict[str, str]:
    """The text behind that line, by name."""
    blocks = [text for _, text in BLOCK.findall((ROOT / "docs" / page).read_text())]
    return {named[1]: text[named.end() :] for text in blocks if (named := NAMED.match(text))}
