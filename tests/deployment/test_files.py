"""The unit, the image and the manifests of docs/deployment.md, judged by their own checkers; what the image runs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.pages import files_of
from tests.serving import free_port, serving

TOLD = files_of("deployment.md")
UNIT = TOLD["/etc/systemd/system/chat.service"]
DOCKERFILE = TOLD["Dockerfile"]
GRACE_S = 10
"""What `--timeout-graceful-shutdown` is unless told."""

HADOLINT = Path(sys.executable).with_name("hadolint")


def told_by(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def drain_s(command: list[str]) -> int:
    return int(told_by(command, "--drain-s"))


def command_of(instruction: str) -> list[str]:
    """The one of `CMD` or `HEALTHCHECK`."""
    (found,) = re.findall(rf"^{instruction}.*?(\[.*\])$", DOCKERFILE, re.MULTILINE)
    command: list[str] = json.loads(found)
    return command


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """It complains of nothing, once the command is one that is on this machine."""
    unit = tmp_path / "chat.service"
    unit.write_text(UNIT.replace("/srv/chat/.venv/bin/socketsundso", sys.executable))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=30)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_systemd_waits_for_the_drain() -> None:
    """It kills later than the last handler is cancelled."""
    (command,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(stop_s) > drain_s(shlex.split(command)) + GRACE_S


@pytest.mark.skipif(not HADOLINT.exists(), reason="the extra `docs` is not installed")
def test_nothing_is_wrong_with_the_dockerfile() -> None:
    """hadolint finds nothing."""
    found = subprocess.run([str(HADOLINT), "-"], input=DOCKERFILE, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_command_of_the_image_serves_and_is_well() -> None:
    """What the image runs answers what it asks to see whether it is well; nothing of it needs an image."""
    port = str(free_port())
    command = [port if word == "8000" else word for word in command_of("CMD")]
    assert command.pop(0) == "socketsundso"
    command[command.index("chat:app")] = "examples.chat:app"
    asks = [word.replace(":8000/", f":{port}/") for word in command_of("HEALTHCHECK")]
    assert asks.pop(0) == "python"
    with serving("-m", "socketsundso", *command, port=int(port)):
        assert subprocess.run([sys.executable, *asks], timeout=30, check=False).returncode == 0
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{told_by(command, '--health')}") as ready:
            assert ready.status == 200
    assert subprocess.run([sys.executable, *asks], timeout=30, check=False, stderr=subprocess.DEVNULL).returncode == 1


def manifests() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="the extra `docs` is not installed")
    return {each["kind"]: each for each in yaml.safe_load_all(TOLD["chat.yaml"])}


def test_kubernetes_takes_the_manifests() -> None:
    """By the schemas of its API, in which no key is unknown."""
    kubernetes = pytest.importorskip("kubernetes_validate", reason="the extra `docs` is not installed")
    for manifest in manifests().values():
        kubernetes.validate(manifest, "1.34", strict=True)


def test_kubernetes_waits_for_the_drain() -> None:
    """The grace period is longer than `preStop`, the drain and the last handlers together."""
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    before_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > before_s + drain_s(command_of("CMD")) + GRACE_S


def test_what_kubernetes_asks_is_what_the_image_answers() -> None:
    """Readiness is the path of `--health`, liveness the one that stays well during a drain."""
    (container,) = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    health = told_by(command_of("CMD"), "--health")
    asked = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert asked == {"startupProbe": health, "readinessProbe": health, "livenessProbe": f"{health}/live"}
