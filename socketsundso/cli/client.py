"""
`socketsundso client LANGUAGE TARGET`: a client of an API, generated as one file. `LANGUAGES` is which ones there are.

Where something is wrong nothing is written; nor where nothing has changed, for the sake of those who watch the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from socketsundso.cli.target import load_api
from socketsundso.contract import ContractError, python, typescript


@dataclass(frozen=True)
class Language:
    """`generate` gets the API, and by their names the values of `options`; it gives the text of the file."""

    about: str
    generate: Callable[..., str]
    options: Sequence[click.Option] = ()

    def command(self, name: str) -> click.Command:
        params = [
            click.Argument(["target"]),
            click.Option(["-o", "--output"], metavar="FILE", help=OUTPUT),
            *self.options,
        ]
        return click.Command(name, params=params, callback=self.run, help=self.about)

    def run(self, target: str, output: str | None, **options: str) -> None:
        try:
            text = self.generate(load_api(target), **options)
        except ContractError as exc:
            raise click.ClickException(f"cannot generate a client of {target}: {exc}") from None
        if output is None:
            click.echo(text, nl=False)
        else:
            _write(Path(output), text.encode())


OUTPUT = "Write it there instead of to the terminal."
MODELS = "What messages are: msgspec's Structs, or models of pydantic."
LANGUAGES = {
    "python": Language(
        "A Python client of TARGET, in one file over `websockets`.",
        python,
        [click.Option(["--models"], type=click.Choice(["msgspec", "pydantic"]), default="msgspec", help=MODELS)],
    ),
    "typescript": Language("A TypeScript client of TARGET, in one file that needs no other.", typescript),
}


def _write(file: Path, text: bytes) -> None:
    try:
        if not file.is_file() or file.read_bytes() != text:
            file.write_bytes(text)
    except OSError as exc:
        raise click.ClickException(f"cannot write {file}: {exc.strerror or exc}") from None


command = click.Group(
    "client",
    commands=[language.command(name) for name, language in LANGUAGES.items()],
    help="Generate a client of TARGET: MODULE:ATTRIBUTE (an application, or a class of endpoints), or a file or URL of "
    "an AsyncAPI document.",
)
