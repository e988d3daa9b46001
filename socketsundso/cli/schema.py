"""
`socketsundso schema TARGET`: the AsyncAPI document of an API, and whether a deployed client could still use it.

Its exit status is 0, 1 where a client of the document that is checked against would break, and 2 where there is nothing
to tell: no such target, no such file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from socketsundso.cli.target import load_api
from socketsundso.contract import FORMATS, ContractError, compare, dump, report


class NothingToTell(click.ClickException):
    """Told apart from clients that break by the exit status."""

    exit_code = 2


@click.command("schema")
@click.argument("target")
@click.option("-o", "--output", metavar="FILE", help="Write the document there instead of to the terminal.")
@click.option(
    "--check",
    metavar="FILE",
    help="Compare with the document that clients were made from (a file or URL); exit with 1 where one would break.",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", help="Of what --check finds.")
def command(target: str, output: str | None, check: str | None, form: str) -> None:
    """
    Write the AsyncAPI document of TARGET.

    TARGET is MODULE:ATTRIBUTE (an application, or a class of endpoints), or a file or URL of a document.
    """
    try:
        api = load_api(target)
        deployed = None if check is None else load_api(check)
        document = dump(api)
    except ContractError as exc:
        raise NothingToTell(f"cannot describe {target}: {exc}") from None
    except click.ClickException as exc:
        raise NothingToTell(exc.message) from None
    if output is not None:
        _write(output, document)
    elif deployed is None:
        click.echo(document, nl=False)
    if deployed is not None:
        changes = compare(deployed, api)
        click.echo(report(changes, form), nl=False)
        sys.exit(any(change.breaks == "old clients" for change in changes))


def _write(path: str, document: bytes) -> None:
    try:
        Path(path).write_bytes(document)
    except OSError as exc:
        raise NothingToTell(f"cannot write {path}: {exc.strerror or exc}") from None
