"""The table of all bounds in docs/security.md has the defaults that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import uvicorn

from socketsundso import Endpoint, JsonRpc
from socketsundso.cli.options import SHUTDOWN_TIMEOUT_S
from socketsundso.cli.run import command
from socketsundso.connection import ahead, batches, calls, limits, requests, uploads
from socketsundso.endpoints import _FAREWELL_S
from socketsundso.messages.refs import MAX_REF_LENGTH
from socketsundso.operations import Settings, admin, reporting
from socketsundso.rooms import history, local, membership, room
from socketsundso.server import handshake, head, inbox, protocol

PAGE = (Path(__file__).parent.parent / "docs" / "security.md").read_text()
SETTINGS = Settings()
UVICORN = uvicorn.Config("app", log_config=None)


def size(number: int) -> str:
    """`64 KiB`, `4 MiB`."""
    return f"{number >> 20} MiB" if number >= 1 << 20 else f"{number >> 10} KiB"


def seconds(number: float) -> str:
    return f"{number:g} s"


def none(*defaults: object) -> str:
    assert all(default is None for default in defaults)
    return "none"


BOUNDS: dict[str, list[str]] = {
    "the upgrade request": [size(handshake.MAX_REQUEST_BYTES), seconds(head.HEAD_TIMEOUT_S)],
    "connections of a worker": [none(SETTINGS.max_connections)],
    "connections of an address to a worker": [none(SETTINGS.max_connections_per_ip)],
    "handshakes of a worker in a second": [none(SETTINGS.max_handshakes_per_s)],
    "memory of a worker": [none(SETTINGS.max_rss)],
    "handshakes on a kept connection of a worker that drains": ["none"],
    "`authenticate` and `on_connect`, until the handshake is answered": [seconds(protocol.HANDSHAKE_TIMEOUT_S)],
    "pages that may connect": ["all"] if Endpoint.allowed_origins is None else [],
    "time until it has signed in": [none(Endpoint.authenticate_within_s)],
    "time without a message": [none(Endpoint.idle_timeout_s)],
    "time without a pong": [seconds(UVICORN.ws_ping_interval or 0), seconds(UVICORN.ws_ping_timeout or 0)],
    "one message, also when decompressed": [size(UVICORN.ws_max_size)],
    "messages that wait while a handler runs": [
        f"{size(inbox.MAX_QUEUED_BYTES)} on our server",
        f"{ahead.MAX_MESSAGES} messages or {size(ahead.MAX_BYTES)} on others",
    ],
    "messages that wait for their turn, of an endpoint that converses": [
        f"{requests.MAX_HELD} messages or {size(requests.MAX_HELD_BYTES)}",
        f"{calls.TIMES} times",
    ],
    "items of an upload that its handler has not taken": [str(uploads.CREDIT), size(requests.MAX_ITEM_BYTES)],
    "messages that wait for handlers of a worker, of all connections": [none(SETTINGS.max_queued_bytes)],
    "nesting of JSON": [],  # the libraries' own
    "a `ref`": [f"{MAX_REF_LENGTH} characters"],
    "frames in a time": [none(Endpoint.rate_limit)],
    "messages of an event in a time": ["none"],
    "refusals by a rate limit in a row": [str(limits.MOST_REFUSALS)],
    "streams and uploads beside each other": [str(Endpoint.max_streams)],
    "concurrent handlers of an event": [str(Endpoint.max_concurrent)],
    "an error frame": [f"{Endpoint.max_errors} errors", size(Endpoint.max_error_bytes)],
    "what an error frame tells": ["the input"] if Endpoint.include_input and Endpoint.disclose_events else [],
    "what waits for a reader that does not read": [size(Endpoint.max_outbound_bytes)],
    "... of replies": ["64 KiB"],  # asyncio's high-water mark
    "requests in a batch of JSON-RPC; the answers to it": [str(JsonRpc().max_batch), size(batches.MAX_BYTES)],
    "rooms of a connection": [f"{Endpoint.max_rooms:,}"],
    "rooms that it may enter": ["all"],
    "rooms of one `resume`": [f"{membership.MAX_RESUMED:,}"],
    "the name of a room; a meta of presence": [f"{room.MAX_NAME} characters", size(membership.MAX_META_BYTES)],
    "messages that are replayed": [f"{history.MAX_LAST:,}"],
    "what a `resume` keeps ready at once": [size(local.RESUME_BYTES)],
    "time that a handler goes on when its peer has left": [seconds(Endpoint.disconnect_grace_s)],
    "time of a drain": [seconds(SETTINGS.drain_s)],
    "time of a shutdown": [seconds(SHUTDOWN_TIMEOUT_S)],
    "time that `on_disconnect` has then": [seconds(_FAREWELL_S)],
    "the close handshake": [seconds(protocol.CLOSE_TIMEOUT_S)],
    "a request at the [admin socket](operations.md#watch)": [
        f"{size(admin.MAX_REQUEST_BYTES)}, {seconds(admin.WITHIN_S)}; {admin.AT_ONCE} at a time",
        f"{1 / reporting.FRESH_S:g} times a second",
    ],
}
"""What stands in the second column of a row, by what stands in the first."""


def rows() -> dict[str, tuple[str, str]]:
    table = PAGE.partition("## What a stranger can cost")[2].partition("\n\nSizes and times")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    return {what: (default, option) for what, default, option, _ in cells[1:]}


ROWS = rows()


def test_the_table_and_the_code_have_the_same_bounds() -> None:
    """No row without a look at the code, and no bound of this list without a row."""
    assert ROWS.keys() == BOUNDS.keys()


@pytest.mark.parametrize("what", BOUNDS)
def test_a_default_is_the_codes(what: str) -> None:
    """The second column says what the code has."""
    default, _ = ROWS[what]
    assert all(expected in default for expected in BOUNDS[what])


def test_the_options_of_the_table_exist() -> None:
    """What stands there with `--` is an option of `run`, and anything else an attribute of a class."""
    options = {name for parameter in command.params for name in parameter.opts}
    named = {name for _, option in ROWS.values() for name in re.findall(r"`([^`]+)`", option)}
    assert {name for name in named if name.startswith("--")} <= options
    attributes = {re.split(r"\W", name)[0] for name in named if not name.startswith(("--", "@", "guards="))}
    assert all(hasattr(Endpoint, name) for name in attributes)


def test_every_bound_of_run_is_in_the_table() -> None:
    """What `run` has in addition to uvicorn, and begins with `--max`, is a row."""
    ours = {f"--{name.replace('_', '-')}" for name in Settings.__dataclass_fields__ if name.startswith("max_")}
    assert ours <= {option.strip("`") for _, option in ROWS.values()}
