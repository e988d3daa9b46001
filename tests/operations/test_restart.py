"""A rolling restart of real workers."""

from __future__ import annotations

import asyncio

from tests.operations.restart import restarted


def test_a_rolling_restart_under_a_crowd() -> None:
    """All are told 1012, and none is reset; rooms are whole, and no message is lost or missing."""
    outcome = asyncio.run(restarted(connections=120, workers=2, drain_s=1.5, rooms=8))
    # who reached an old worker at the last moment is told once more
    assert (outcome.told - outcome.twice, outcome.reset) == (120, 0)
    assert (outcome.lost, outcome.holes, outcome.missing) == (0, 0, 0)
    assert outcome.said
