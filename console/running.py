"""What a supervisor runs, on disk: for `ipaas status`, and to clear up after a supervisor that was killed."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import psutil

from ipaas_resources.core.platform import write_private

NAME: Final = "up.json"
_GRACE: Final = 10


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """One process, told from a later one of the same id by when it was made (POSIX time)."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Started | None:
        """The process of this id, None when it is gone."""
        try:
            return cls(pid=pid, created=round(psutil.Process(pid).create_time(), 2))
        except psutil.Error:
            return None

    def process(self) -> psutil.Process | None:
        """The process if it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 0.02  # noqa: PLR2004 - rounded to hundredths
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


class RunningProgram(msgspec.Struct, frozen=True, kw_only=True):
    """One program of a supervisor."""

    name: str
    started: Started | None = None  # None: it ended and waits for its next start
    restarts: int = 0
    url: str = ""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A supervisor and what it runs."""

    host: str
    supervisor: Started
    programs: list[RunningProgram] = []


def write_running(state_dir: Path, programs: Sequence[RunningProgram]) -> None:
    """Write down what this process runs."""
    mine = Started.of(os.getpid())
    assert mine is not None
    running = Running(host=socket.gethostname(), supervisor=mine, programs=list(programs))
    write_private(state_dir / NAME, msgspec.json.encode(running).decode())


def read_running(state_dir: Path) -> Running | None:
    """What was last written; None: no supervisor runs here, or it ended in order."""
    try:
        return msgspec.json.decode((state_dir / NAME).read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None


def forget_running(state_dir: Path) -> None:
    """The supervisor ends in order."""
    (state_dir / NAME).unlink(missing_ok=True)


def end_left_over(running: Running) -> list[str]:
    """End what a supervisor that was killed left running on this machine; the names of it."""
    if running.host != socket.gethostname():
        return []
    left = [
        (program.name, process)
        for program in running.programs
        if program.started is not None and (process := program.started.process()) is not None
    ]
    for _, process in left:
        _signal(process, kill=False)
    _, stubborn = psutil.wait_procs([process for _, process in left], timeout=_GRACE)
    for process in stubborn:
        _signal(process, kill=True)
    return [name for name, _ in left]


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        family = [process, *process.children(recursive=True)] if kill else [process]
        for each in family:
            each.kill() if kill else each.terminate()
    except psutil.NoSuchProcess:
        return
