"""What metrics cost a message, in counted instructions; who does without pays nothing, says tests/test_hot_path.py."""

from __future__ import annotations

import pytest

from socketsundso.telemetry import meters, prometheus
from tests.test_hot_path import FRAMES, Chat, cost, serve


@pytest.mark.parametrize("kind", ["struct", "struct, own server"])
def test_a_message_of_an_event_that_comes_often(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs a few instructions more, no call, and its part of the one in 256 that is looked at."""
    for rate in ("OFTEN", "LOOKS"):
        monkeypatch.setattr(meters, rate, 1e-9)  # however slow this machine is
    before = cost(kind)
    prometheus.instrument(Chat)
    try:
        serve(FRAMES["struct"], meters.WINDOW + meters.ONE_IN)
        after = cost(kind)
    finally:
        prometheus.uninstrument()
    more = {name: after[name] - before[name] for name in before}
    assert more["instructions"] <= 20
    assert more["calls"] <= 1
    assert cost(kind) == before
