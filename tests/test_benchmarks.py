"""The benchmark suite itself: what it counts, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import baseline, deflate, report, rounds
from benchmarks import test_broadcast as broadcast
from benchmarks import test_connections as connections
from benchmarks import test_conversations as conversations
from benchmarks import test_idle as idle
from benchmarks import test_latency as latency
from benchmarks import test_scaling as scaling
from benchmarks import test_wire as wire
from benchmarks.broadcast_load import BrowserMembers
from benchmarks.conftest import pytest_collection_modifyitems, questions, unfit
from benchmarks.deflate import Answer
from benchmarks.installed import compiled
from benchmarks.load import Dialect, Load, Passage, Shape, cpu_seconds, masked_frame, message, payload_of
from benchmarks.prompt import Exchange, PromptLoad
from benchmarks.rounds import Cell, attempt, fleet, measure, table, take_turns, with_absent
from benchmarks.servers import (
    BROADCASTERS,
    BROWSER_MEMBERS,
    COMPETITORS,
    CONVERSING,
    ENVELOPED,
    Competitor,
    NotAvailable,
    pick,
    running,
)
from benchmarks.turns import turns_of

ROOT = Path(__file__).parent.parent
(NAIVE,) = pick("naive")
CORE = min(os.sched_getaffinity(0))
SUITE = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
# those of this run, e.g. coverage, are not for the suite, and a competitor's warnings are no errors of ours
OWN_OPTIONS = {**os.environ, "PYTEST_ADDOPTS": "", "PYTHONWARNINGS": ""}
SILENT: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def silent(what: str) -> None:
    """No progress is shown."""


def test_every_competitor_says_what_it_validates() -> None:
    """No row leaves open what its code checks."""
    assert not [
        each.name for each in COMPETITORS + BROADCASTERS + CONVERSING + ENVELOPED["nested"] if each.validates == "?"
    ]


@pytest.mark.parametrize("registry", [COMPETITORS, BROADCASTERS, CONVERSING], ids=["once", "to many", "conversing"])
def test_keys_are_unique(registry: list[Competitor]) -> None:
    """A figure in the JSON belongs to one competitor."""
    assert len({each.key for each in registry}) == len(registry)


@pytest.mark.parametrize("size", [80, 1024, 65536])
def test_the_message_has_the_size_that_the_table_says(size: int) -> None:
    """Within a fifth: 1 KB is about 1,024 bytes."""
    assert abs(len(Dialect().encode(message(size))) - size) <= size / 5


@pytest.mark.parametrize("size", [0, 5, 125, 126, 65535, 65536])
def test_a_frame_unmasks_to_its_payload(size: int) -> None:
    """The frames that are built once are right for every length of the header."""
    payload = os.urandom(size)
    body = payload_of(masked_frame(payload))
    mask, masked = body[:4], body[4:]
    assert bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked)) == payload


@pytest.mark.parametrize("competitor", COMPETITORS, ids=lambda each: each.key)
def test_a_dialect_reads_what_it_writes(competitor: Competitor) -> None:
    """What a competitor echoes is the message again, whatever its framing."""
    assert competitor.dialect.decode(competitor.dialect.encode(message())) == message()


def test_a_cell_is_measured_and_shown() -> None:
    """A sample of the naive loop has CPU, rate and the load's own CPU; its row is the 1.00 of the table."""
    with fleet([NAIVE], CORE, silent) as (servers, _):
        rows = measure(Cell(Shape(2, 2)), servers, 2, 0.02, silent)
    assert min(rows["naive"][name] for name in ("cpu_us", "messages_per_s", "p50_us", "load_cpu_us")) > 0
    assert rows["naive"]["p50_us"] <= rows["naive"]["p99_us"]
    assert "1.00x (1.00-1.00)" in table("cell", rows, [NAIVE])


def test_every_answer_of_a_run_has_its_wait() -> None:
    """Also where answers come in other batches than the messages left in."""
    with running(NAIVE, CORE) as (port, _), contextlib.closing(Load(port, Shape(3, 5), message())) as load:
        taken = load.run(500)
    assert sum(count for _, count in taken.waits) == 500
    assert 0 < taken.wait_s(0) <= taken.wait_s(0.5) <= taken.wait_s(1) < taken.wall_s


def test_a_wait_is_told_by_its_share_of_the_answers() -> None:
    taken = Passage(1.0, 1.0, [(0.3, 1), (0.1, 8), (0.2, 1)])
    assert [taken.wait_s(share) for share in (0.5, 0.8, 0.9, 0.99)] == [0.1, 0.1, 0.2, 0.3]


def test_invalid_messages_are_answered_with_errors() -> None:
    """A group with an invalid message is answered whole, and the load goes on."""
    with running(NAIVE, CORE) as (port, pid):
        load = Load(port, Shape(2, 1), message(), group=10, invalid=1)
        with contextlib.closing(load):
            before = cpu_seconds(pid)
            load.run(100)
            assert cpu_seconds(pid) > before


@pytest.mark.parametrize(("files", "opened"), [(10_000, 1), (50, 3)])
def test_connections_stay_open_where_files_allow_it(files: int, opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they are opened anew for each sample."""
    monkeypatch.setattr(rounds, "allow_files", lambda wanted: min(wanted, files))
    entered = []

    @contextlib.contextmanager
    def connected(competitor: Competitor, port: int, pid: int) -> Iterator[Any]:
        entered.append(competitor.key)
        yield lambda: {"cell": {"cpu_us": 1.0}}

    take_turns(["cell"], {"naive": (NAIVE, 0, 0)}, connected, 3, silent, connections=100)
    assert len(entered) == opened


@pytest.mark.parametrize(("noise", "asked"), [(0.0, 5), (0.01, 5), (0.5, 12)])
def test_whose_ratio_is_known_is_asked_no_more(noise: float, asked: int) -> None:
    """After five rounds at the earliest; who varies is asked in every round, and the base as long as anybody."""
    count = {"naive": 0, "chanx": 0, "tuned": 0}

    @contextlib.contextmanager
    def opened(competitor: Competitor, port: int, pid: int) -> Iterator[Any]:
        def sample() -> dict[str, Any]:
            count[competitor.key] += 1
            vary = noise * (count["chanx"] % 2) if competitor.key == "chanx" else 0.0
            return {"cell": {"cpu_us": 2.0 + vary}, "other": {"cpu_us": 3.0}}

        yield sample

    servers = {each.key: (each, 0, 0) for each in pick("naive", "tuned", "chanx")}
    rows = take_turns(["other", "cell"], servers, opened, 12, silent, connections=1)
    assert count == {"naive": asked, "tuned": 5, "chanx": asked}
    assert rows["other"]["chanx"]["ratio"] == rows["cell"]["tuned"]["ratio"] == 1.0


def test_at_a_fixed_rate_every_message_counts() -> None:
    """As many latencies as messages were due, none below zero."""
    with running(NAIVE, CORE) as (port, _), contextlib.closing(Load(port, Shape(4, 1), message())) as load:
        waited, _ = load.at_rate(500, 0.2)
    assert len(waited) == 100
    assert waited[0] > 0


def test_a_busy_port_is_one_clear_line() -> None:
    """Somebody else on the port: that, not a traceback of the server."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(NotAvailable, match=rf"^port {port} is busy$"), running(NAIVE, CORE, port=port):
            pass


def test_a_competitor_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of its traceback is what the row shows."""
    missing(monkeypatch, "naive")
    with pytest.raises(NotAvailable, match="No module named 'not_installed_at_all'"), running(NAIVE, CORE):
        pass


def missing(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """From now on the competitor with this key lacks its package."""
    command = Competitor.command

    def without(self: Competitor, port: int, workers: int = 1) -> list[str]:
        return (
            [sys.executable, "-c", "import not_installed_at_all"] if self.key == key else command(self, port, workers)
        )

    monkeypatch.setattr(Competitor, "command", without)


REASON = "No module named 'not_installed_at_all'"


def test_a_broadcaster_that_is_not_installed_has_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every column of the table, beside the others' figures."""
    missing(monkeypatch, "litestar")
    some = pick("naive", "litestar", among=BROADCASTERS)
    monkeypatch.setattr(broadcast, "BROADCASTERS", some)
    titles = [broadcast.title(3, depth) for depth in broadcast.IN_FLIGHT]
    with fleet(some, CORE, silent) as (servers, absent):
        taken = take_turns(titles, servers, partial(broadcast.open_members, 3, 10), 2, silent, connections=3)
    rows = {
        depth: with_absent(taken[title], absent, some) for depth, title in zip(broadcast.IN_FLIGHT, titles, strict=True)
    }
    assert all(REASON in each["litestar"]["failed"] and each["naive"]["ratio"] == 1.0 for each in rows.values())
    assert re.search(rf"Litestar channels .*{REASON}", broadcast.table(3, rows))


@pytest.mark.parametrize(
    ("question", "arguments"),
    [
        (idle.idle, (CORE, 1)),
        (latency.latency, (CORE, 0.1)),
        (scaling.scaling, (1, 0.1)),
        (connections.held, (CORE, 1, 1)),
    ],
    ids=["idle", "latency", "scaling", "connections"],
)
def test_every_question_has_a_row_for_what_is_not_installed(
    question: Callable[..., Any], arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on; the row says why it has no figures."""
    missing(monkeypatch, "naive")
    assert REASON in attempt(question, NAIVE, *arguments)["failed"]


def test_the_tables_show_a_row_that_failed() -> None:
    """The reason stands where the figures would."""
    rows = {"naive": {"failed": REASON}}
    shown = [
        table("cell", rows, [NAIVE]),
        idle.table(10, rows, [NAIVE]),
        latency.table(0.5, rows, [NAIVE]),
        scaling.table({1: {"naive": {"messages_per_s": 1.0, "cpu_us": 1.0}}, 2: rows}, [NAIVE]),
        connections.table("held", rows, [NAIVE]),
    ]
    assert not [each for each in shown if not re.search(rf"naive FastAPI loop .*{REASON}", each)]


def test_a_crash_under_the_load_ends_one_row() -> None:
    """The competitor that crashes is asked no more; the other one is measured in all rounds."""
    asked: list[str] = []

    @contextlib.contextmanager
    def opened(competitor: Competitor, port: int, pid: int) -> Iterator[Any]:
        def sample() -> dict[str, Any]:
            asked.append(competitor.key)
            if competitor.key == "chanx":
                raise ConnectionError("the server closed the connection under load")
            return {"cell": {"cpu_us": 2.0}}

        yield sample

    servers = {each.key: (each, 0, 0) for each in pick("naive", "chanx")}
    rows = take_turns(["cell"], servers, opened, 3, silent, connections=1)["cell"]
    assert rows["chanx"] == {"failed": "ConnectionError: the server closed the connection under load"}
    assert rows["naive"]["ratio"] == 1.0
    assert asked == ["naive", "chanx", "naive", "naive"]


def test_without_node_the_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Node is a yardstick, no requirement."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotAvailable, match="node not found"), running(*pick("node"), CORE):
        pass


def descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):  # has ended meanwhile
        for child in children(pid):
            found += [child, *descendants(child)]
    return found


@pytest.mark.parametrize(
    ("part", "processes", "stop"),
    [  # so many are there in the middle of it: the reaper and ...
        ("test_bounds.py", 3, signal.SIGINT),  # two of four servers
        ("test_bounds.py", 3, signal.SIGTERM),
        ("test_bounds.py", 3, signal.SIGKILL),
        ("test_scaling.py", 5, signal.SIGKILL),  # a server, its resource tracker and both workers
        ("test_rooms.py::test_across_processes[redis]", 4, signal.SIGKILL),  # an engine and two servers
    ],
    ids=["interrupt", "terminate", "kill", "workers", "engine"],
)
def test_a_run_that_is_ended_leaves_no_process(part: str, processes: int, stop: signal.Signals) -> None:
    """Whatever ends it, in the middle: its servers, their workers and the engines end too."""
    with subprocess.Popen([*SUITE, f"benchmarks/{part}"], cwd=ROOT, env=OWN_OPTIONS, **SILENT) as run:
        try:
            until(lambda: len(descendants(run.pid)) >= processes)
            started = descendants(run.pid)
            run.send_signal(stop)
            run.wait(60)
        finally:
            run.kill()
    until(lambda: not any(map(alive, started)))


def ratio(middle: float, spread: float = 0.0) -> dict[str, float]:
    return {"ratio": middle, "ratio_low": middle - spread, "ratio_high": middle + spread}


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (ratio(0.4), ratio(0.41), "same"),
        (ratio(0.4), ratio(0.5), "worse"),
        (ratio(0.4), ratio(0.3), "better"),
        (ratio(0.4, 0.06), ratio(0.5, 0.06), "same"),
    ],
)
def test_the_verdict_on_a_ratio(old: dict[str, float], new: dict[str, float], word: str) -> None:
    """Beyond five per cent, and with rounds that do not overlap, a ratio is better or worse; else the same."""
    (found,) = baseline.compare({"cell": {"ours": old}}, {"cell": {"ours": new}})
    assert found.word == word


def test_only_our_own_rows_fail_a_comparison() -> None:
    """A competitor's new version is no regression of ours."""
    theirs = baseline.verdict({"cell": {"chanx": ratio(1.0)}}, {"cell": {"chanx": ratio(2.0)}})
    ours = baseline.verdict({"cell": {"ours": ratio(0.3)}}, {"cell": {"ours": ratio(0.6)}})
    assert (theirs[1], ours[1]) == (False, True)


def test_two_files_are_compared_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m benchmarks.baseline OLD NEW --fail-on-worse` prints the verdict and fails."""
    for name, value in (("old", 0.3), ("new", 0.6)):
        (tmp_path / name).write_text(json.dumps({"figures": {"cell": {"ours": ratio(value)}}}))
    paths = [str(tmp_path / "old"), str(tmp_path / "new")]
    assert baseline.main(paths) == 0
    assert baseline.main([*paths, "--fail-on-worse"]) == 1
    assert "1 worse" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "exit_code"), [((0.3, 0.34), 0), ((0.34, 0.3), 0), ((0.3, 0.36), 1), ((0.36, 0.3), 1)]
)
def test_two_runs_of_the_same_code_agree(
    values: tuple[float, float], exit_code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--same`: within 15 % whichever ran first, in every row, a competitor's too; else the row is named."""
    for name, value in zip("ab", values, strict=True):
        run = {"figures": {"cell": {"ours": ratio(0.5), "chanx": ratio(value)}}}
        (tmp_path / name).write_text(json.dumps(run))
    assert baseline.main([str(tmp_path / "a"), str(tmp_path / "b"), "--same"]) == exit_code
    out = capsys.readouterr().out
    assert f"{2 - exit_code} of 2 ratios agree within 15%" in out
    assert ("chanx" in out) == bool(exit_code)


FIGURES = json.loads((report.FOLDER / "figures.json").read_text())


def test_what_is_committed_is_written_from_the_committed_figures() -> None:
    """The report and the README show the run whose figures lie beside them; nobody edited a number."""
    readme = report.README.read_text()
    assert (report.FOLDER / "report.md").read_text() == report.markdown(FIGURES)
    assert readme == report.with_measured(readme, FIGURES)
    assert report.measured(FIGURES) in readme


def test_every_round_trip_and_broadcast_that_we_lose_is_explained() -> None:
    """A competitor that validates and beats any row of ours is named where the docs say why."""
    told = (ROOT / "docs/benchmarks.md").read_text().partition("## Where we lose")[2].partition("\n## ")[0]
    rivals = {rival for lost in report.losses(FIGURES).values() for rival in lost}
    assert not [rival for rival in rivals if rival not in told]


def test_a_loss_is_found_and_told() -> None:
    """Rows that validate and are cheaper than ours; not the ceilings, not our other rows, not those that failed."""
    rows = {
        "naive": {"ratio": 1.0},
        "tuned": {"ratio": 0.4},
        "chanx": {"failed": "gone"},
        "ours": {"ratio": 0.5},
        "ours-struct": {"ratio": 0.3},
        "raw-ours": {"ratio": 0.1},
    }
    run = {"figures": {"roundtrip 32x1, 64 KB": rows, "idle 10": {"ours": {"kb_per_connection": 2.0}}}}
    ours, struct = (each.name for each in pick("ours", "ours-struct"))
    assert report.losses(run) == {ours: {"tuned FastAPI loop": ["32x1 64 KB"]}, struct: {}}
    assert f"* {ours}: tuned FastAPI loop (32x1 64 KB).\n* {struct}: none." in report.lost(run)


@pytest.mark.parametrize(
    ("options", "files", "exit_code", "why"),
    [
        ({}, None, 0, ""),
        ({}, None, 1, "failed"),
        ({}, None, 2, "failed"),
        ({"only": "idle"}, None, 0, "part"),
        ({"keyword": "idle"}, None, 0, "part"),
        ({"deselect": ["x"]}, None, 0, "part"),
        ({}, ["test_idle.py"], 0, "part"),
    ],
)
def test_only_the_whole_suite_writes_the_report(
    options: dict[str, Any], files: list[str] | None, exit_code: int, why: str
) -> None:
    """A part of it, or a run that failed or was interrupted, leaves the committed report alone."""
    chosen = questions() if files is None else [ROOT / "benchmarks" / name for name in files]
    option = SimpleNamespace(**{"only": "", "keyword": "", "markexpr": "", "deselect": None, **options})
    said = {"--only": option.only, "--full": False}
    config: Any = SimpleNamespace(option=option, args=["benchmarks/"], stash={}, getoption=said.get)
    items: Any = [
        SimpleNamespace(
            path=path,
            nodeid=f"{path.name}::{option.only}",
            get_closest_marker={"on_request": path.name == "test_wire.py" or None}.get,
            add_marker=lambda _: None,
        )
        for path in chosen
    ]
    pytest_collection_modifyitems(config, items)
    session: Any = SimpleNamespace(config=config, items=items, exitstatus=exit_code)
    assert (why in unfit(session)) if why else not unfit(session)


def test_a_part_of_the_suite_says_that_it_writes_no_report() -> None:
    """One line tells why; nothing that is committed changes."""
    committed = [*report.FOLDER.iterdir(), report.README]
    before = [path.read_bytes() for path in committed]
    command = [*SUITE, "benchmarks/test_rooms.py", "-k", "join"]
    run = subprocess.run(command, cwd=ROOT, env=OWN_OPTIONS, capture_output=True, text=True, check=True)
    assert "report: not written, a part of the suite ran" in run.stdout
    assert [path.read_bytes() for path in committed] == before


def test_the_report_has_a_row_for_what_failed(tmp_path: Path) -> None:
    """A crash under the load is a fact that the report keeps; a broadcast's rows are those of its own competitors."""
    run = {
        "date": "2026-01-01", "machine": "m", "cores": 2, "python": "3", "versions": {}, "commit": "c", "full": False,
        "figures": {
            "x": {"chanx": {"failed": "TimeoutError: no answer"}},
            "broadcast to 10 members, 1 in flight": {"picows": {"cpu_us_per_delivery": 4.2}},
        },
    }  # fmt: skip
    text = report.write(run, tmp_path).read_text()
    assert "| chanx on Starlette | TimeoutError: no answer" in text
    assert "| bare picows loop | 4.20 |" in text


KEEPS = "permessage-deflate; client_max_window_bits=12; server_max_window_bits=12"
ALONE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=12"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Answer()),
        (KEEPS, Answer(True, True, True, 12, 12)),
        (ALONE, Answer(True, False, False, 12, 15)),
        ("permessage-deflate", Answer(True, True, True, 15, 15)),
    ],
)
def test_the_load_takes_an_answer_as_chromium_does(header: str, expected: Answer) -> None:
    """What is not said is a context that is kept, and a window of 32 KB."""
    assert Answer.of(header) == expected


@pytest.mark.parametrize("header", ["permessage-bzip2", "permessage-deflate; server_keeps"])
def test_an_answer_that_chromium_refuses_ends_the_row(header: str) -> None:
    """Nothing that a browser would not connect to has a figure."""
    with pytest.raises(ConnectionError):
        Answer.of(header)


@pytest.mark.parametrize("size", [106, 1024, 16 * 1024])
@pytest.mark.parametrize("header", [KEEPS, ALONE, "permessage-deflate"], ids=["window 12", "alone", "window 15"])
def test_frames_that_are_built_once_stay_right(header: str, size: int) -> None:
    """Also with a context: a server that inflates them over and over reads the messages again, of the said size."""
    answer = Answer.of(header)
    bodies = deflate.cycle(size, answer)
    payloads = [Dialect().encode(body) for body in bodies]
    first, again = deflate.opening_frames(payloads, answer), deflate.repeated_frames(payloads, answer)
    server, read = zlib.decompressobj(wbits=-answer.client_window), []
    for frame in first + 3 * again:
        masked = payload_of(frame)
        packed = bytes(byte ^ masked[at % 4] for at, byte in enumerate(masked[4:]))
        if not answer.client_keeps:
            server = zlib.decompressobj(wbits=-answer.client_window)
        read.append(server.decompress(packed + deflate.TAIL))
    assert read == 4 * payloads
    assert {len(payload) for payload in payloads} == {size}
    assert all(frame[0] == 0xC1 for frame in first + again)


def test_no_message_of_a_browser_is_a_copy_of_one_in_the_window() -> None:
    """A context gains what it gains with real messages: not 10 bytes for each."""
    answer = Answer.of(KEEPS)
    frames = deflate.repeated_frames([Dialect().encode(body) for body in deflate.cycle(106, answer)], answer)
    assert 40 < sum(map(len, frames)) / len(frames) < 106


@pytest.mark.parametrize("client", ["none", "plain", "browser"])
def test_the_prompt_load_checks_every_reply(client: str) -> None:
    """Each connection is answered at once; its bytes are counted; a second run goes on where the first one ended."""
    naive = replace(NAIVE, client=client)
    with running(naive, CORE) as (port, pid), contextlib.closing(PromptLoad(port, Shape(3, 2), client=client)) as load:
        for _ in range(2):
            taken = load.run(50)
        assert (load.answer.deflate, len(taken.waits)) == (client != "none", 50)
        assert min(load.sent_bytes, load.received_bytes) > 0
        assert turns_of(pid)


def test_the_prompt_load_refuses_a_reply_that_is_not_right() -> None:
    """A server that answers something else has no figure."""
    with running(NAIVE, CORE) as (port, _), contextlib.closing(PromptLoad(port, Shape(2, 1))) as load:
        load._answers[0]["sender"] = 43
        with pytest.raises(AssertionError, match="the server answered"):
            load.run(2)


@pytest.mark.parametrize("key", ["naive", "websockets", "node", "bun", "ours"])
def test_members_that_are_browsers_get_every_broadcast(key: str) -> None:
    """Compressed or not, with contexts or without: what each member got is what was said."""
    if key in ("node", "bun") and shutil.which("npm") is None:
        return  # a yardstick, no requirement
    (competitor,) = pick(key, among=BROWSER_MEMBERS)
    with running(competitor, CORE) as (port, pid):
        members = BrowserMembers(port, pid, 3, competitor.dialect, "browser")
        with contextlib.closing(members):
            for in_flight, size in ((1, 1024), (3, 106), (1, 1024)):
                members.say(in_flight, size)
            assert members.answer.deflate
            assert members.received_bytes > 0


def test_an_idle_browser_says_one_message() -> None:
    """With or without a context the first message of every connection is right."""
    row = idle.browsers(replace(NAIVE, client="browser"), CORE, 5)
    assert "failed" not in row
    assert {"kb_per_connection", "silent_kb"} <= row.keys()


def test_without_a_compiler_a_row_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The load in C is not there then; turns are not counted, and servers run all the same."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled.cache_clear()
    try:
        with pytest.raises(NotAvailable, match="no C compiler found"):
            compiled("prompt.c")
        with running(NAIVE, CORE) as (_, pid):
            assert turns_of(pid) is None
    finally:
        compiled.cache_clear()


def test_without_npm_the_row_of_bun_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bun is a yardstick, no requirement."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotAvailable, match="bun not found"), running(*pick("bun"), CORE):
        pass


@pytest.mark.parametrize("key", ["naive", "litestar", "rpckit", "ours-uvicorn", "ours"])
def test_every_item_of_a_stream_is_checked(key: str) -> None:
    """And its end; messages are counted, whose answers are many."""
    (competitor,) = pick(key, among=CONVERSING)
    with contextlib.ExitStack() as stack:
        try:
            port, _ = stack.enter_context(running(competitor, CORE))
        except NotAvailable as exc:
            assert "not found" in str(exc) or "No module named" in str(exc)  # noqa: PT017 - a yardstick, no requirement
            return
        for paused in (False, True):
            said = conversations.stream(paused)
            load = PromptLoad(port, Shape(3, 1), dialect=competitor.dialect, exchange=said)
            stack.enter_context(contextlib.closing(load))
            assert [len(load.run(7).waits) for _ in range(2)] == [7, 7]
        load._answers[-1]["ref"] = 2
        load._right.clear()
        with pytest.raises(AssertionError, match="the server answered"):
            load.run(3)


@pytest.mark.parametrize("name", ENVELOPED)
def test_every_envelope_is_spoken(name: str) -> None:
    """By our server and by the naive loop alike, with the `ref` of each message."""
    for competitor in ENVELOPED[name]:
        with running(competitor, CORE) as (port, _), contextlib.ExitStack() as stack:
            load = PromptLoad(port, Shape(3, 1), dialect=competitor.dialect, exchange=Exchange(wire.SAID, [wire.SAID]))
            stack.enter_context(contextlib.closing(load))
            assert len(load.run(7).waits) == 7


def test_what_is_promised_of_envelopes_is_told() -> None:
    """Beside what was found, or that nothing was."""
    rows: dict[str, Any] = {"ours-flat": {"ratio": 0.2}, "ours": {"ratio": 0.21}}
    said = "  x: 1.05x of flat messages (promised: 1.08x), 0.21x of the naive loop (promised: 0.2x)"
    assert wire.told("x", rows, 1.08, 0.2) == said
    assert wire.told("x", rows | {"ours": {"failed": "broken"}}, 1.08, 0.2) == "  x: no ratio"


def test_what_is_promised_of_conversations_is_told() -> None:
    """Beside what was found, or why there is nothing."""
    figures: dict[str, Any] = {cell.title: {key: ratio(0.2) for key in keys} for cell, keys in conversations.QUESTIONS}
    figures["stream that waits, per item, 16x1"]["rpckit"] = {"failed": "not found: Python 3.12 or newer"}
    lines = conversations.promised(figures)
    assert "  answer at once, 32x1: ours to ours-plain 1.00x (promised: 1.08x)" in lines
    assert lines[-1].endswith("ours to rpckit not found: Python 3.12 or newer (promised: 0.15x)")


def test_a_client_that_is_asked_answers() -> None:
    """Every call and every request of a round has its answer, and its cost."""
    assert min(conversations.calls_and_requests(CORE, 1, 64)) > 0


def test_without_a_newer_python_the_row_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """fastapi-rpckit wants 3.12, and is a yardstick, no requirement."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 11))
    (rpckit,) = pick("rpckit", among=CONVERSING)
    with pytest.raises(NotAvailable, match=r"not found: Python 3\.12 or newer"), running(rpckit, CORE):
        pass


def test_two_loads_find_the_same_of_a_server() -> None:
    """One in C, one in Python, that both answer each reply at once: the load does not decide which messages arrive."""
    cells = [Cell(Shape(2, 2), load=load) for load in ("prompt", "prompt, in Python")]
    with fleet([NAIVE], CORE, silent) as (servers, _):
        figures = {f"roundtrip {cell.title}": measure(cell, servers, 2, 0.02, silent) for cell in cells}
    assert all(rows["naive"]["per_turn"] >= 1 for rows in figures.values())


@pytest.mark.parametrize(("batching", "prompt"), [(0.3, 0.4), (0.4, 0.3)])
def test_the_readme_shows_the_load_that_favours_us_less(batching: float, prompt: float) -> None:
    """At 32x1; the other one stands in the report."""
    run = {"figures": {report.BATCHING: {"ours": ratio(batching)}, report.PROMPT: {"ours": ratio(prompt)}}}
    assert next(iter(report.main_titles(run))) == (report.PROMPT if prompt > batching else report.BATCHING)


def test_the_report_tells_what_a_browser_costs_us() -> None:
    """Against ourselves without an offer; two loads beside each other; no column for what was not measured."""
    title = "roundtrip 32x1, 106 B, as a browser"
    both = {"naive": ratio(1.0), "ours": ratio(0.3)}
    rows = {"naive": ratio(1.0), "ours": ratio(0.36), "ours-plain": ratio(0.33), "ours-none": ratio(0.3)}
    run = {
        "figures": {report.BATCHING: both, report.PROMPT: both, f"{report.PROMPT}, in Python": both, title: rows},
        "machine": "m", "cores": 2, "python": "3", "date": "2026-01-01", "versions": {},
    }  # fmt: skip
    text = report.measured(run)
    assert "roundtrip 32x1, 106 B: 1.20x, 1.10x" in text
    assert "1 of 1 ratios agree within 15%" in text
    assert "| server | 32x1 | 32x1, browser | validates |" in text
    assert "| **socketsundso, own protocol** | 0.30 | 0.36 |" in text


def test_the_report_tells_what_streams_cost() -> None:
    """In the README's words, and among what is lost."""
    ratios = {"naive": 1.0, "litestar": 0.3, "rpckit": 3.0, "ours": 0.25, "ours-uvicorn": 0.4}
    items = {key: ratio(value) for key, value in ratios.items()}
    run = {
        "figures": {
            "answer at once, 32x1": {"naive": ratio(1.0), "ours": ratio(0.42), "ours-plain": ratio(0.4)},
            "stream, per item, 16x1": items,
        },
        "machine": "m", "cores": 2, "python": "3", "date": "2026-01-01", "versions": {},
    }  # fmt: skip
    text = report.measured(run)
    assert "An item of a stream costs 0.25 of" in text
    assert "also streams 1.05 of one" in text
    assert "* conversing, uvicorn's protocol: Litestar's send_websocket_stream (1 row)." in text
    assert "* conversing, uvicorn's protocol: Litestar's send_websocket_stream (stream per item 16x1)." in report.lost(
        run
    )


def test_ourselves_under_another_load_is_no_loss() -> None:
    """Rows that stand beside us to be compared with are not among those that lose."""
    rows = {"naive": ratio(1.0), "bun": ratio(0.2), "ours": ratio(0.36), "ours-none": ratio(0.3)}
    lost = report.losses({"figures": {"roundtrip 32x1, 106 B, as a browser": rows}})
    assert lost == {"socketsundso, own protocol": {"Bun + zod": ["32x1 106 B browser"]}}
