"""The supervisor: programs are started, named as they answer, started again when they die, and stopped in order."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, Self

import msgspec

from console.log_stream import LogStream
from console.processes import Process
from console.running import (
    RunningProgram,
    Started,
    end_left_over,
    forget_running,
    read_running,
    write_running,
)
from ipaas_resources.core.errors import StopError
from ipaas_resources.core.platform import FileLock

Say = Callable[[str], None]

#: Seconds between two looks at the processes.
_LOOK: Final = 0.2
_LONGEST_PAUSE: Final = 60.0
#: Seconds that a process must live for its next death to count as the first.
_HEALTHY: Final = 60.0
#: Seconds after which a program that does not answer is named; loading Dagster's definitions takes a while.
_SLOW: Final = 180.0
#: Seconds that a first start waits for another program: one that cannot come up must not hide the others.
_AFTER: Final = 60.0


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What is to run: one process, started again whenever it ends."""

    name: str
    title: str
    command: Sequence[str]
    #: Asked at every start, for the database may have moved to another port.
    environment: Callable[[], Mapping[str, str]]
    folder: Path
    #: Whether the process of this id works; asked until it does.
    answers: Callable[[int], bool]
    url: str = ""
    #: Programs of one wave start and stop together; the last wave stops first.
    wave: int = 0
    #: The program that must answer before this one is first started.
    after: str = ""
    #: Seconds to end by itself; workers settle what they have sent.
    grace: float = 30.0


class Guard(Protocol):
    """Something beside the programs that is looked after, such as the database."""

    def look(self) -> None:
        """Look after it, without waiting."""
        ...

    def stop(self) -> None:
        """The supervisor ends."""
        ...


class Backoff:
    """Seconds until the next start of something that ended: 1, 2, 4 .. 60, and 1 again after a healthy minute.

    >>> backoff = Backoff()
    >>> [backoff.pause(lived=0) for _ in range(8)], backoff.pause(lived=61)
    ([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0], 1.0)
    """

    def __init__(self) -> None:
        self._deaths = 0

    def pause(self, *, lived: float) -> float:
        """How long to wait now, after something that lived for so many seconds."""
        if lived >= _HEALTHY:
            self._deaths = 0
        self._deaths += 1
        return float(min(2.0 ** (self._deaths - 1), _LONGEST_PAUSE))


class _Entry:
    """One program with the process that runs it now."""

    def __init__(self, program: Program, wanted: float) -> None:
        self.program = program
        self.wanted = wanted  # since when it is to run
        self.process: Process | None = None
        self.started: Started | None = None
        self.since = 0.0
        self.due = 0.0  # of the next start, while there is no process
        self.answered = False
        self.slow = False
        self.restarts = -1
        self.last_words = ""
        self.backoff = Backoff()


class Supervisor:
    """All programs of one installation. Leaving the block stops them; a second interruption meanwhile kills them."""

    def __init__(
        self,
        state_dir: Path,
        say: Say,
        *,
        stream: LogStream | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state_dir = state_dir
        self._say = say
        self._stream = stream
        self._clock = clock
        self._entries: list[_Entry] = []
        self._guards: list[Guard] = []
        self._lock = FileLock(state_dir / "up.lock")

    def __enter__(self) -> Self:
        """Be the only supervisor of this state folder, and end what one that was killed left running.

        Raises:
            StopError: another one runs.
        """
        self._state_dir.mkdir(parents=True, exist_ok=True)
        before = read_running(self._state_dir)
        if not self._lock.try_acquire():
            who = f" (process {before.supervisor.pid})" if before else ""
            raise StopError(
                f"The platform runs already on {self._state_dir}{who}. Stop that one first, or set IPAAS_STATE_DIR; "
                "`ipaas status` shows what it does."
            )
        if before is not None and (ended := end_left_over(before)):
            self._say(f"Ended what a supervisor that was killed had left: {', '.join(ended)}")
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            # The terminal may be gone with whoever ended us; what we started is stopped all the same.
            with contextlib.suppress(OSError):
                self._say("Stopping ... (once more to end everything at once)")
        try:
            self._stop()
        except (KeyboardInterrupt, SystemExit):
            for entry in self._entries:
                if entry.process is not None:
                    entry.process.sweep()
        finally:
            forget_running(self._state_dir)
            self._lock.release()

    def guard(self, guard: Guard) -> None:
        """Look after this as well."""
        self._guards.append(guard)

    def start(self, *programs: Program) -> None:
        """Start programs; `watch` names each as it answers."""
        entries = [_Entry(program, self._clock()) for program in programs]
        self._entries += entries
        for entry in entries:
            if self._may_start(entry):
                self._launch(entry)
        self._write_down()

    def restart(self, *names: str) -> None:
        """End these programs, to be started again by the next look: what they were started with has changed."""
        for entry in self._entries:
            if entry.program.name in names and entry.process is not None:
                entry.process.stop()

    def watch(self, until: Callable[[], bool] = lambda: False) -> None:
        """Look after everything until the condition holds, Ctrl-C or SIGTERM."""
        while not until():
            self.look()
            time.sleep(_LOOK)

    def all_answered(self) -> bool:
        """Whether every program has answered since it was last started."""
        return all(entry.answered for entry in self._entries)

    def look(self) -> None:
        """One look: who ended, who is due, who answers."""
        for guard in self._guards:
            guard.look()
        changed = False
        for entry in self._entries:
            if entry.process is None:
                if self._clock() >= entry.due and self._may_start(entry):
                    self._launch(entry)
                    changed = True
            elif entry.process.ended:
                self._died(entry, entry.process)
                changed = True
            elif not entry.answered:
                self._ask(entry, entry.process)
        if changed:
            self._write_down()

    def running(self) -> list[RunningProgram]:
        """What runs now."""
        return [
            RunningProgram(
                name=entry.program.name,
                started=entry.started,
                restarts=max(entry.restarts, 0),
                url=entry.program.url,
            )
            for entry in self._entries
        ]

    # --- one program ------------------------------------------------------------------------------------------------

    def _may_start(self, entry: _Entry) -> bool:
        awaited = next((each for each in self._entries if each.program.name == entry.program.after), None)
        return (
            awaited is None
            or awaited.answered
            or entry.restarts >= 0
            or self._clock() - entry.wanted > _AFTER
        )

    def _launch(self, entry: _Entry) -> None:
        program = entry.program
        log = self._state_dir / "logs" / f"{program.name}.log"
        if self._stream is not None:
            self._stream.follow(program.name, log)
        entry.since = self._clock()
        try:
            entry.process = Process(
                program.name,
                program.command,
                log=log,
                environment=program.environment(),
                folder=program.folder,
            )
        except OSError as error:
            # No process can be made now (memory, descriptors, disk): the others work on, this one is tried again.
            pause = entry.backoff.pause(lived=0)
            entry.due = self._clock() + pause
            self._say(f"{program.title} could not be started ({error.strerror}); again in {pause:.0f} s")
            return
        entry.started = Started.of(entry.process.handle.pid)
        entry.answered = entry.slow = False
        entry.restarts += 1

    def _died(self, entry: _Entry, process: Process) -> None:
        lived = self._clock() - entry.since
        pause = entry.backoff.pause(lived=lived)
        process.sweep()
        words = ""
        last = process.last_words(1)
        if self._stream is None and last != entry.last_words:
            # A program that dies of one thing again and again says so once.
            entry.last_words = last
            words = f"; its log {process.log} ends with:\n{process.last_words()}"
        self._say(
            f"{entry.program.title} ended ({_how(process.handle.returncode)}); started again in {pause:.0f} s{words}"
        )
        entry.process = entry.started = None
        entry.due = self._clock() + pause

    def _ask(self, entry: _Entry, process: Process) -> None:
        program = entry.program
        if program.answers(process.handle.pid):
            entry.answered = True
            self._say(f"{program.title}: {program.url or 'running'}")
        elif not entry.slow and self._clock() - entry.since > _SLOW:
            entry.slow = True
            self._say(
                f"{program.title} has not answered for {_SLOW:.0f} s; its log {process.log} ends with:\n"
                f"{process.last_words()}"
            )

    def _write_down(self) -> None:
        write_running(self._state_dir, self.running())

    # --- the end ----------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        for guard in self._guards:
            guard.stop()
        for wave in sorted({entry.program.wave for entry in self._entries}, reverse=True):
            entries = [
                (entry.process, entry.program.grace)
                for entry in reversed(self._entries)
                if entry.program.wave == wave and entry.process is not None
            ]
            for process, _ in entries:
                process.ask_to_end()
            asked = time.monotonic()
            for process, grace in entries:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.handle.wait(max(asked + grace - time.monotonic(), 0.01))
            for process, _ in entries:
                process.sweep()


def _how(code: int | None) -> str:
    """How a process ended, in words."""
    return f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
