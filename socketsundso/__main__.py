"""`python -m socketsundso`: the command line."""

from socketsundso.cli import main

main(prog_name="python -m socketsundso")
