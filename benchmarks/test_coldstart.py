"""Cold start: the import, and endpoints with 100 and 1,000 events compiled, each in a fresh interpreter."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.progress import Show
from benchmarks.servers import ROOT

TIMED = "import time\n{before}\nstart = time.perf_counter()\n{code}\nprint(time.perf_counter() - start)"

ENDPOINT = """
class Many(WebSocketHandlingEndpoint):
    pass
for number in range({events}):
    async def function(self, room: str, msg: str, sender: int | None = None) -> None: ...
    Many.event(f"event_{{number}}")(function)
Many._definition.decoder.decode(b'{{"type":"event_0","room":"a","msg":"b"}}')  # the first message builds the union
"""

UNION = """
models = [
    create_model(f"M{{number}}", type=(Literal[f"event_{{number}}"], ...), room=(str, ...), msg=(str, ...),
                 sender=(int | None, None))
    for number in range({events})
]
TypeAdapter(Annotated[Union[tuple(models)], Field(discriminator="type")])
"""

OURS = "from socketsundso import WebSocketHandlingEndpoint"
PYDANTIC = "from typing import *\nfrom pydantic import *"

QUESTIONS = {
    "import socketsundso": ("", "import socketsundso"),
    "import fastapi": ("", "import fastapi"),
    "import litestar": ("", "import litestar"),
    "socketsundso, 100 events": (OURS, ENDPOINT.format(events=100)),
    "pydantic union, 100 models": (PYDANTIC, UNION.format(events=100)),
    "socketsundso, 1000 events": (OURS, ENDPOINT.format(events=1000)),
    "pydantic union, 1000 models": (PYDANTIC, UNION.format(events=1000)),
}


def once(before: str, code: str) -> float:
    """Seconds that `code` takes in a fresh interpreter, after `before`. Raises RuntimeError with its last line."""
    done = subprocess.run(
        [sys.executable, "-c", TIMED.format(before=before, code=code)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return float(done.stdout)


@pytest.mark.timeout(0)
def test_coldstart(full: bool, figures: dict[str, Any], show: Show) -> None:
    """What a process pays before its first connection."""
    rounds = 9 if full else 2
    show.steps = rounds * len(QUESTIONS)
    taken: dict[str, list[float]] = {name: [] for name in QUESTIONS}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name, (before, code) in QUESTIONS.items():
            show.step(name)
            try:
                taken[name].append(once(before, code))
            except RuntimeError as exc:
                failed[name] = str(exc)[:90]
    lines = ["Cold start, ms (median, lowest-highest)"]
    rows = {}
    for name, seconds in taken.items():
        if name in failed:
            rows[name] = {"failed": failed[name]}
            lines.append(f"  {name:35}  {failed[name]}")
            continue
        rows[name] = {"ms": statistics.median(seconds) * 1e3}
        lines.append(f"  {name:35}{rows[name]['ms']:8.0f}  ({min(seconds) * 1e3:.0f}-{max(seconds) * 1e3:.0f})")
    figures["cold start"] = rows
    show("\n".join(lines))
    assert not [name for name in failed if "socketsundso" in name]
