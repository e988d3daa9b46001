"""What of npm the tests of the contract use; `.ci/setup-e2e` installs it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
PACKAGES = Path(os.environ.get("SOCKETSUNDSO_E2E_DIR") or CACHE / "socketsundso-e2e")


def binary(name: str, folder: Path = PACKAGES) -> str:
    """Of a package, else of the PATH; a skip where there is none."""
    found = shutil.which(name, path=folder / "node_modules/.bin") or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: .ci/setup-e2e installs it")
    return found
