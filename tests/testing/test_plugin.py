"""The fixtures, as a project finds them that has this package installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

SUITE = '''
import pytest

from socketsundso import Hub, Keep, WebSocketHandlingEndpoint, event


class Chat(WebSocketHandlingEndpoint):
    history = {"*": Keep(messages=10, seconds=60)}
    left = []

    @event
    async def on_say(self, room: str, msg: str) -> dict:
        await self.join(room)
        await self.broadcast({"type": "posted", "msg": msg}, room=room)
        return {"seq": len(await self.hub.history(room))}

    async def on_disconnect(self, code):
        self.left.append(self.user)


@pytest.mark.parametrize("n", [1, 2])
def test_say(ws_connect, ws_broadcasts, n):
    """Each test has rooms of its own."""
    ada, grace = ws_connect(Chat, user="ada"), ws_connect(Chat, user="grace")
    assert ada.ask("say", room="lobby", msg="hi")["seq"] == 1
    assert grace.ask("say", room="lobby", msg="hi")["seq"] == 2
    ada.expect("posted", seq=2)
    assert ws_broadcasts.take("posted", room="lobby") == {"type": "posted", "msg": "hi"}


def test_closed():
    assert Chat.left == ["grace", "ada"] * 2
'''


def test_the_fixtures_are_found_without_a_word(tmp_path: Path) -> None:
    """Connections end with the test, the last one first; broadcasts are seen; rooms are the test's own."""
    (tmp_path / "test_chat.py").write_text(SUITE)
    assert "3 passed" in pytest_of(tmp_path)


def test_the_suite_of_the_chat_example_passes_as_it_stands_in_the_docs(tmp_path: Path) -> None:
    """It is what a project would have in a file, of 25 lines at most without the empty ones."""
    page = (ROOT / "docs" / "testing.md").read_text()
    suite = page.partition("<!-- chat suite -->\n```python\n")[2].partition("```")[0]
    assert len([line for line in suite.splitlines() if line]) <= 25
    (tmp_path / "test_chat.py").write_text(suite)
    assert "5 passed" in pytest_of(tmp_path)


def pytest_of(folder: Path) -> str:
    """What pytest says in a project, in which this package is installed and its examples lie."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(folder)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {
        **os.environ,
        "PYTHONPATH": path.rstrip(os.pathsep),
        "PYTEST_ADDOPTS": "",
    }  # the options of this run are its own
    ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
