"""gunicorn's uvicorn worker with our protocol."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import websockets.exceptions
import websockets.sync.client

from tests.cli.test_run import APP, answer_to_a_wrong_version, told
from tests.serving import ROOT, free_port

pytest.importorskip("gunicorn", reason="gunicorn is not installed")
pytest.importorskip("uvicorn_worker", reason="uvicorn-worker is not installed")

WORKER = """
from uvicorn_worker import UvicornWorker


class Worker(UvicornWorker):
    CONFIG_KWARGS = {"ws": "socketsundso.server:WebSocketProtocol", "lifespan": "off"}
"""


def test_gunicorn(tmp_path: Path) -> None:
    """Two workers serve, our protocol answers, and SIGTERM closes connections with 1012."""
    (tmp_path / "served.py").write_text(APP)
    (tmp_path / "worker.py").write_text(WORKER)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "served:app", "-k", "worker.Worker", "-w", "2"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "-b", f"127.0.0.1:{port}"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 60
        pids: set[str] = set()
        while len(pids) < 2:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            with contextlib.suppress(OSError):
                pids.add(told(f"ws://127.0.0.1:{port}/x")[2])
                continue
            time.sleep(0.05)
        assert answer_to_a_wrong_version(port).startswith(b"HTTP/1.1 426 ")
        with websockets.sync.client.connect(f"ws://127.0.0.1:{port}") as client:
            client.recv(30)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
                client.recv(30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    finally:
        process.terminate()
        process.wait(60)
    assert "Traceback" not in (tmp_path / "log").read_text()
