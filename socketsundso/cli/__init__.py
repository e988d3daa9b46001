"""
The command line, one module per command.

    run           `socketsundso run MODULE:APP`; its `options`, `checks` of what is wrong with them, what is `served`
    schema        `socketsundso schema TARGET`: the AsyncAPI document, and what breaks clients of an older one
    client        `socketsundso client LANGUAGE TARGET`: a client of an API, generated
    top           `socketsundso top SOCKET`: what a server does, live
    target        what a command is about: `app:app`, a file, a URL
    mistakes      what is wrong, in a line; logs: how `run` writes its log
"""

from __future__ import annotations

import click

import socketsundso
from socketsundso.cli import client, run, schema, top
from socketsundso.cli.served import load_app as load_app


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(socketsundso.__version__, prog_name="socketsundso")
def main() -> None:
    """Typed WebSocket APIs."""


main.add_command(run.command)
main.add_command(schema.command)
main.add_command(client.command)
main.add_command(top.command)
