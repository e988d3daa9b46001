"""Options of the benchmarks, the core they run on, and what a run leaves behind: JSON, report, verdict."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from benchmarks import baseline, report
from benchmarks.load import allow_files
from benchmarks.progress import Show
from benchmarks.servers import cores

SOAK = "test_soak.py"  # asked for by an option of its own, and no part of the report
FIGURES: dict[str, Any] = {}
ASKED = pytest.StashKey[set[Path]]()
"""The files of a run, those whose questions are on request included."""
PACKAGES = [
    "socketsundso", "msgspec", "pydantic", "orjson", "picows", "uvicorn", "uvloop", "starlette", "fastapi", "litestar",
    "chanx", "dishka", "python-socketio", "channels", "aiohttp", "websockets", "socketify",
]  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="longer runs, every competitor everywhere")
    parser.addoption("--only", default="", help="only the questions whose name holds this, e.g. roundtrip")
    parser.addoption("--json", default="", help="write all figures of the servers to this file")
    parser.addoption("--baseline", default="", help="compare the ratios with those of this earlier --json file")
    parser.addoption("--fail-on-worse", action="store_true", help="fail when --baseline shows a row of ours worse")
    parser.addoption("--soak", type=float, default=0.0, help="only the soak, each of its shapes for so many minutes")
    parser.addoption("--soak-seed", type=int, default=18, help="what guests do, and which faults come")
    parser.addoption("--report", default="", help="write the report to this folder, even of a part of the suite")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning")  # a competitor's, no error of ours


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The soak or all others; it needs none of the competitors that they import."""
    is_soak = collection_path.name == SOAK
    return True if collection_path.is_file() and is_soak != bool(config.getoption("--soak")) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    only = str(config.getoption("--only"))
    items[:] = [item for item in items if only in item.nodeid]
    config.stash[ASKED] = {item.path for item in items}
    if not only and not config.getoption("--full"):
        items[:] = [item for item in items if item.get_closest_marker("on_request") is None]
    items.sort(key=lambda item: item.path.name == "test_bounds.py")  # last: it judges what others have measured
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(0))  # a full run takes what it takes


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


@pytest.fixture
def pinned() -> Iterator[int]:
    """The core for the servers; the load, which is this process, stays on another one, with room for connections."""
    allow_files(6_000)
    available = os.sched_getaffinity(0)
    server_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    yield server_core
    os.sched_setaffinity(0, available)


@pytest.fixture
def show(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Show:
    return Show(capsys, request.node.name.removeprefix("test_"))


@pytest.fixture
def figures() -> dict[str, Any]:
    """What a benchmark puts here, `{title: {competitor: row}}`, ends in the JSON, the report and the verdict."""
    return FIGURES


def whole_run(full: bool) -> dict[str, Any]:
    """The figures with what somebody else needs to judge them."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit.stdout.strip() or "unknown",
        "full": full,
        "figures": FIGURES,
    }


def questions() -> set[Path]:
    """The files that are the suite."""
    return {path for path in Path(__file__).parent.glob("test_*.py") if path.name != SOAK}


def unfit(session: pytest.Session) -> str:
    """Why the figures of this run are no report of the suite; empty when they are."""
    option = session.config.option
    some = option.only or option.keyword or option.markexpr or option.deselect or "::" in "".join(session.config.args)
    if some or session.config.stash[ASKED] != questions():
        return "a part of the suite ran (--report FOLDER writes one)"
    return "" if session.exitstatus == 0 else "the run failed"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if not FIGURES:
        return
    run = whole_run(bool(config.getoption("--full")))
    if path := config.getoption("--json"):
        Path(path).write_text(json.dumps(run, indent=1))
    if config.getoption("--soak"):
        return  # counts, no ratios
    folder = config.getoption("--report") or ("" if unfit(session) else str(report.FOLDER))
    print(f"\nreport: {report.write(run, Path(folder)) if folder else f'not written, {unfit(session)}'}")
    if path := config.getoption("--baseline"):
        text, worse = baseline.verdict(json.loads(Path(path).read_text())["figures"], FIGURES)
        print(f"\n{text}")
        if worse and config.getoption("--fail-on-worse"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
