"""What these tests have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from socketsundso.server import protocol


@pytest.fixture(scope="session", autouse=True)
def _patient() -> Iterator[None]:
    """The answers to what came before a close frame are in time also where the machine is busy with something else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "HOLD_S", 2.0)
        yield
