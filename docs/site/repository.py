"""
Files outside of docs/ on the site: the README is its front page, and whatever pages link to is shown.

Pages are written for who reads the repository on GitHub, with links such as `../examples/chat.py` in docs/rooms.md. A
linked Markdown file becomes a page, a picture is copied, anything else is shown on a page of its own; and the links are
turned to where that is.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FRONT = ROOT / "README.md"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)[^)#\s]+")
ESCAPED_PIPES = re.compile(r"^\|.*\\\|.*$", re.MULTILINE)
CODE = re.compile(r"`[^`]+`")
LANGUAGES = {".py": "python", ".html": "html", ".sh": "bash"}
COPIED = {".md", ".png", ".svg"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the front page and the changelog, and whatever a page links to that is not in docs/."""
    todo = [FRONT, ROOT / "CHANGELOG.md"]
    for page in files.documentation_pages():
        todo += _linked(Path(str(page.abs_src_path)))
    added = set()
    while todo:
        path = todo.pop()
        if path in added or path.is_relative_to(DOCS):
            continue
        added.add(path)
        files.append(_file(path, config))
        if path.suffix == ".md":
            todo += _linked(path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the page's links to files of the repository, and write it as Python's Markdown reads it."""
    # In a table GitHub wants `a \\| b`, also in code, where Python's Markdown shows the backslash.
    markdown = ESCAPED_PIPES.sub(lambda row: CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0]), markdown)
    if page.file.abs_src_path is None:  # made here, of a file that has no links
        return markdown
    source, folder = Path(page.file.abs_src_path), posixpath.dirname(page.file.src_uri)

    def turned(link: re.Match[str]) -> str:
        target = _target(source, link[0])
        return posixpath.relpath(_place(target), folder or ".") if target else link[0]

    return LINK.sub(turned, markdown)


def _linked(source: Path) -> Iterator[Path]:
    for link in LINK.findall(source.read_text()):
        if target := _target(source, link):
            yield target


def _target(source: Path, link: str) -> Path | None:
    """The file of the repository that a link leads to; None for what mkdocs will complain of."""
    path = (source.parent / link).resolve()
    return path if path.is_file() and path.is_relative_to(ROOT) else None


def _place(path: Path) -> str:
    """Where a file of the repository is among the site's sources: `index.md`, `rooms.md`, `examples/chat.py.md`."""
    if path == FRONT:
        return "index.md"
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    place = path.relative_to(ROOT).as_posix()
    return place if path.suffix in COPIED else f"{place}.md"


def _file(path: Path, config: MkDocsConfig) -> File:
    if path.suffix in COPIED:
        return File.generated(config, _place(path), abs_src_path=str(path))
    fence, language = "`" * 8, LANGUAGES.get(path.suffix, "text")
    shown = f"# {path.relative_to(ROOT)}\n\n{fence}{language}\n{path.read_text()}{fence}\n"
    return File.generated(config, _place(path), content=shown, inclusion=InclusionLevel.NOT_IN_NAV)
