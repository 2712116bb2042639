"""`ipaas up` as a user runs it: real processes, real kills, on the embedded database; `ipaas status` tells the truth."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from console.processes import TERMINATED
from ipaas_resources.store.server import EmbeddedServer

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
#: Dagster's own processes are the matter of tests/dagster/test_processes.py.
WITHOUT = [word for name in ("code-server", "webserver", "daemon") for word in ("--without", name)]
NAMES = {"ingress", "worker-realtime", "worker-polling", "worker-batch", "reporter"}
_LIMIT = 90


def until(what: str, look: Callable[[], Any]) -> Any:
    end = time.monotonic() + _LIMIT
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {_LIMIT} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Up:
    """One `ipaas up` on a state folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self._log = folder / "up.log"
        hidden = ("IPAAS_", "DAGSTER_")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(hidden)},
            "IPAAS_STATE_DIR": str(self.state),
            **{f"IPAAS_{name}_PORT": str(free_port()) for name in ("CONSOLE", "WEBSERVER", "CODE_SERVER")},
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "console.cli.main", "up", *WITHOUT],
                env=self._environment,
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
            )

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def status(self) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "console.cli.main", "status", "--json"],
            env=self._environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def healthy(self) -> dict[str, Any] | None:
        assert self.process.poll() is None, self.said()
        if not (self.state / "up.json").exists():
            return None
        code, found = self.status()
        assert (code == 0) is found["healthy"]
        return found if found["healthy"] else None

    def one(self, name: str) -> dict[str, Any]:
        (found,) = [each for each in self.status()[1]["processes"] if each["name"] == name]
        return found

    def left(self) -> list[str]:
        """Command lines of processes that belong to this installation."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mine = process.environ().get("IPAAS_STATE_DIR") == str(self.state)
                if mine or any(str(self.state) in word for word in process.cmdline()):
                    found.append(" ".join(process.cmdline()))
        return found


@pytest.fixture
def up() -> Iterator[Up]:
    folder = Path(tempfile.mkdtemp(prefix="ipaas-up-"))
    folder.chmod(0o711)  # the database's own account has to pass, when the tests run as root
    started = Up(folder)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.terminate()
            started.process.wait(120)
        EmbeddedServer(started.state).destroy()
        shutil.rmtree(folder, ignore_errors=True)


def test_what_is_killed_comes_back_and_what_is_stopped_leaves_nothing(up: Up) -> None:
    found = until(f"healthy\n{up.said()}", up.healthy)
    assert {each["name"] for each in found["processes"]} == NAMES
    assert all(each["beat"] is not None and each["health"] == "ok" for each in found["processes"])
    assert found["supervisor"] == up.process.pid

    # A worker is killed: another one takes its place, the others stay.
    before = {each["name"]: each["pid"] for each in found["processes"]}
    os.kill(before["worker-realtime"], signal.SIGKILL)
    after = until(
        "the worker",
        lambda: (now := up.healthy()) and up.one("worker-realtime")["restarts"] == 1 and now,
    )
    pids = {each["name"]: each["pid"] for each in after["processes"]}
    assert pids.pop("worker-realtime") != before.pop("worker-realtime")
    assert pids == before

    # The database is killed: it comes back through a fresh process, and everything works on.
    server = EmbeddedServer(up.state)
    killed = server.process_id()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    until("the database", lambda: "The embedded database runs again" in up.said())
    assert server.process_id() not in {None, killed}
    until("health after the kill of the database", up.healthy)

    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(120) == TERMINATED
    assert up.left() == []
    assert not (up.state / "up.json").exists()
    lines = up.said().splitlines()
    assert any(line.startswith("worker-realtime") for line in lines)
    assert any(line.startswith("ipaas") and "Webhook ingress: http://127.0.0.1:" in line for line in lines)

    # Nothing runs any more: that is said, and looking leaves no database running.
    code, stopped = up.status()
    assert code == 1
    assert stopped["problems"] == ["Nothing runs on this database: start the platform with `ipaas up`"]
    assert server.process_id() is None


def test_a_supervisor_that_was_killed_is_told_of_and_the_next_one_takes_over(up: Up) -> None:
    until(f"healthy\n{up.said()}", up.healthy)
    up.process.kill()
    up.process.wait()

    code, found = up.status()
    assert code == 1
    assert found["supervisor"] is None
    assert "was killed" in found["problems"][0]
    left = {each["pid"] for each in found["processes"]}
    assert all(psutil.pid_exists(pid) for pid in left)

    second = Up(up.state.parent)
    try:
        until(f"healthy again\n{second.said()}", second.healthy)
        assert "Ended what a supervisor that was killed had left" in second.said()
        assert not any(psutil.pid_exists(pid) for pid in left)
    finally:
        second.process.terminate()
        second.process.wait(120)
    assert second.left() == []
