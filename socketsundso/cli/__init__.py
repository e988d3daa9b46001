"""
The command line, one module per command.

    run           `socketsundso run MODULE:APP`
"""

from __future__ import annotations

import click

import socketsundso
from socketsundso.cli import run
from socketsundso.cli.run import load_app as load_app


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(socketsundso.__version__, prog_name="socketsundso")
def main() -> None:
    """Typed WebSocket APIs."""


main.add_command(run.command)
