"""The processes that a command starts beside itself: their ports, their logs, their end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from ipaas_resources.core.errors import ConfigurationError, StopError

#: Seconds a process gets to end by itself before it is killed.
_GRACE = 15
_TRIES = 50

if sys.platform == "win32":
    _OWN_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP
else:
    _OWN_GROUP = 0

#: Exit code of a command that a SIGTERM ended: 128 and the signal's number, as shells count.
TERMINATED = 143


def free_port(wanted: int, what: str, say: Callable[[str], None], host: str = "127.0.0.1") -> int:
    """The wanted port, or the next free one; a taken port is named."""
    for port in range(wanted, wanted + _TRIES):
        with socket.socket() as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
        if port != wanted:
            say(f"Port {wanted} is taken; {what} uses {port}")
        return port
    raise ConfigurationError(
        f"No port between {wanted} and {wanted + _TRIES - 1} is free for {what}. Free one, or set another with IPAAS_*_PORT."
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Process:
    """One started process with its log file."""

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str], folder: Path
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = log
        with open(log, "ab", opener=_private) as output:
            # A log of an earlier version may be there, open to others.
            log.chmod(0o600)
            self.handle = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **environment},
                # A Ctrl-C in the terminal reaches us alone; we stop the others in order.
                start_new_session=os.name == "posix",
                # Windows sends CTRL_BREAK to a process group: without one of its own it would end us too.
                creationflags=_OWN_GROUP,
            )

    @property
    def ended(self) -> bool:
        """True when the process is no longer there."""
        return self.handle.poll() is not None

    def last_words(self, lines: int = 8) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        return ""

    def ask_to_end(self) -> None:
        """Ask it to end; it may take its time."""
        if self.ended:
            return
        if sys.platform == "win32":
            self.handle.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            self.handle.terminate()

    def sweep(self) -> None:
        """Make it end, and what it left behind: Dagster's code server leaves a child for some seconds."""
        if not self.ended:
            self.handle.kill()
            self.handle.wait()
        if sys.platform != "win32":
            # It would hold the database, or the port that the next one wants.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.handle.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, then make it."""
        if self.ended:
            return
        self.ask_to_end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.handle.wait(_GRACE)
        self.sweep()


class Processes:
    """All processes of one command. Leaving the block asks all of them to end, then waits for each."""

    def __init__(self, state_dir: Path, say: Callable[[str], None]) -> None:
        self._logs = state_dir / "logs"
        self._say = say
        self.all: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if _is_interruption(error):
            # The terminal may be gone with whoever ended us; what we started is stopped all the same.
            with contextlib.suppress(OSError):
                self._say("Stopping ...")
        # All at once: a worker that waits for a system that is away takes ten seconds, three in turn took thirty.
        for process in self.all:
            process.ask_to_end()
        for process in reversed(self.all):
            process.stop()

    def start(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None, folder: Path
    ) -> Process:
        """Start a process; its output goes to `<state>/logs/<name>.log`."""
        process = Process(
            name, command, log=self._logs / f"{name}.log", environment=environment or {}, folder=folder
        )
        self.all.append(process)
        return process

    def watch(self) -> None:
        """Wait until a process ends by itself. Raises StopError naming it; returns on Ctrl-C."""
        while True:
            for process in self.all:
                if process.ended:
                    raise StopError(
                        f"{process.name} ended unexpectedly; its log {process.log} ends with:\n{process.last_words()}"
                    )
            time.sleep(0.5)


def _is_interruption(error: BaseException | None) -> bool:
    """Whether Ctrl-C or a SIGTERM ends the block, and not its own end or a failure."""
    return isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemExit) and error.code == TERMINATED
    )


def python(*arguments: str) -> list[str]:
    """A command that runs our own Python."""
    return [sys.executable, *arguments]
