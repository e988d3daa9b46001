"""The suite's own promises: nothing is skipped where all of it is to run, and runs beside each other do not meet."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from tests.serving import ROOT, free_port

SKIPPED = {
    "test_marked.py": """
        import pytest

        @pytest.mark.skipif(True, reason="no browser here")
        def test_it(): ...
    """,
    "test_inside.py": """
        import pytest

        @pytest.fixture
        def engine(): pytest.skip("no engine here")

        def test_it(engine): ...
    """,
    "test_whole_file.py": """
        import pytest
        pytest.importorskip("no_such_module", reason="no module here")

        def test_it(): ...
    """,
}


def run(folder: Path, *options: str) -> tuple[int, str]:
    """Exit status and output of pytest over the tests in `folder`, with the conftest of this suite."""
    here = ["-p", "tests.conftest", "-c", os.devnull, "--rootdir", str(folder)]
    environment = {**os.environ, "PYTEST_ADDOPTS": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", *here, "-ra", *options, str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", SKIPPED)
def test_a_skip_fails_where_all_of_it_is_to_run(name: str, tmp_path: Path) -> None:
    """Under --no-skips; by default it is told with its reason. By a mark, in a fixture, of a whole file."""
    (tmp_path / name).write_text(textwrap.dedent(SKIPPED[name]))
    status, told = run(tmp_path)
    assert "1 skipped" in told
    assert " here" in told
    assert status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    status, told = run(tmp_path, "--no-skips")
    assert "1 error" in told or "1 failed" in told
    assert " here" in told
    assert "1 skipped" not in told
    assert status in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)


def test_a_warning_is_an_error_in_the_processes_that_tests_start() -> None:
    """As it is in the test's own process."""
    warn = "import warnings; warnings.warn('old', DeprecationWarning)"
    done = subprocess.run([sys.executable, "-c", warn], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "DeprecationWarning: old")
    with pytest.raises(DeprecationWarning):
        warnings.warn("old", DeprecationWarning, stacklevel=1)


def test_a_run_takes_only_the_ports_that_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those from the first to the last that the environment names."""
    port = free_port()
    monkeypatch.setenv("SOCKETSUNDSO_TEST_PORTS", f"{port}-{port}")
    assert free_port() == port
