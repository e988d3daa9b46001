"""Names, docstrings and literals of generated Python: whatever a contract holds, it stays what it is."""

from __future__ import annotations

import json
from typing import Any

from socketsundso.contract.identifiers import as_it_is, pascal, snake


def class_name(text: str) -> str:
    """As it is, where it looks like one."""
    return as_it_is(text) if text[:1].isupper() else pascal(text)


def field_name(text: str) -> str:
    """As it is on the wire, where that is an identifier."""
    return text if text.isascii() and text.isidentifier() and not text.startswith("_") else snake(text) or "field"


def docstring(text: str, indent: str) -> list[str]:
    """Lines of a docstring that says exactly this, whatever it holds."""
    shown = "".join(char if char == "\n" or char.isprintable() else _escaped(char) for char in _doubled(text.strip()))
    shown = shown.replace('"""', '\\"\\"\\"')
    if shown.endswith('"'):
        shown = shown[:-1] + '\\"'
    lines = [(indent + line).rstrip() for line in shown.split("\n")]
    if len(lines) == 1:
        return [f'{indent}"""{shown}"""']
    return [f'{indent}"""', *lines, f'{indent}"""']


def _doubled(text: str) -> str:
    return text.replace("\\", "\\\\")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode()


def literal(value: Any) -> str:
    """As Python writes it, with double quotes."""
    if not isinstance(value, str):
        return repr(value)
    shown = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escaped(char) for char in shown)
