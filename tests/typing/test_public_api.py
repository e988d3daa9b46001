"""mypy agrees with every `assert_type`, and finds every mistake marked with an ignore."""

import subprocess
import sys
from pathlib import Path


def test_mypy_sees_the_public_api() -> None:
    """In strict mode, where an ignore that is not needed is an error too."""
    target = Path(__file__).with_name("public_api.py")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(target)]
    done = subprocess.run(command, cwd=target.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
