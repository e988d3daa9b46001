"""Files as pages of the docs tell them: code blocks whose first line is a comment with a name, `# chat.py`."""

from __future__ import annotations

import re

from tests.serving import ROOT

BLOCK = re.compile(r"^```\w+\n# ([\w./-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def files_of(page: str) -> dict[str, str]:
    """By name, in the order of the page."""
    return dict(BLOCK.findall((ROOT / "docs" / page).read_text()))
