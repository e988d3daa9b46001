"""
`socketsundso top`: what a server does at the moment, in a terminal. It knows a server by its admin socket alone.

    snapshot    what the server says, and asking for it
    figures     what happened between two snapshots: rates, percentiles
    words       numbers and names, as they are shown
    view        all of it on so many columns and rows, by `rich`
    screen      the terminal: keys, its size, and leaving it as it was
"""

from socketsundso.top.snapshot import NoAnswer as NoAnswer


def show(path: str, interval_s: float, live: bool) -> None:
    """
    Show what the server at this path does: until somebody leaves, or, unless it is to be live, once.

    Raises `NoAnswer`, and ImportError where there is no `rich`, or no terminal of POSIX.
    """
    from socketsundso.top import screen  # only here: the command line is there without `rich`, too

    (screen.watch if live else screen.print_once)(path, interval_s)
