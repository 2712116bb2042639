"""The one module that knows the operating system: locks, private files, the account of the database, the event loop.

Everything that is POSIX only or Windows only is imported here and nowhere else, so the rest of the platform reads the
same on Linux, macOS and Windows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from ipaas_resources.core.errors import StopError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl
    import grp
    import pwd

    import uvloop

if TYPE_CHECKING:
    from collections.abc import Coroutine

IS_WINDOWS = sys.platform == "win32"

Result = TypeVar("Result")


class FileLock:
    """A lock on a file that the operating system gives back when its process dies, by whatever way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock, or answer False at once when another process (or another FileLock) has it."""
        return self._acquire(wait=False)

    def acquire(self) -> None:
        """Take the lock, waiting for as long as another process has it."""
        self._acquire(wait=True)

    def release(self) -> None:
        """Give the lock back; the file stays, for deleting it would let two processes lock two files of one name."""
        if self._descriptor is None:
            return
        # Closing the only descriptor of the file is what gives the lock back, on POSIX and on Windows.
        os.close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _acquire(self, *, wait: bool) -> bool:
        # Opened anew each time: the descriptor is not inherited by programs that we start.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            taken = _lock_descriptor(descriptor, wait=wait)
        except BaseException:  # a stop by signal too: what was begun is undone, then it is raised on
            os.close(descriptor)
            raise
        if not taken:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True


if sys.platform == "win32":

    def _lock_descriptor(descriptor: int, *, wait: bool) -> bool:
        while True:
            try:
                # LK_LOCK gives up by itself after ten seconds, so a longer wait asks again.
                msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError:
                if not wait:
                    return False
            else:
                return True

else:

    def _lock_descriptor(descriptor: int, *, wait: bool) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:  # a stop by signal too: what was begun is undone, then it is raised on
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


@dataclass(frozen=True)
class ServiceAccount:
    """An account of the operating system under which a program runs that refuses to run as root."""

    name: str
    uid: int
    gid: int
    groups: frozenset[int]

    def popen_options(self) -> dict[str, Any]:
        """Return what subprocess needs to run a program under this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": sorted(self.groups - {self.gid})}

    def can_enter(self, folder: Path) -> bool:
        """Whether the account may go through this folder and all folders above it."""
        folder = folder.resolve()
        return all(self._may_search(each) for each in (folder, *folder.parents))

    def _may_search(self, folder: Path) -> bool:
        state = folder.stat()
        if state.st_uid == self.uid:
            return bool(state.st_mode & stat.S_IXUSR)
        if state.st_gid in self.groups | {self.gid}:
            return bool(state.st_mode & stat.S_IXGRP)
        return bool(state.st_mode & stat.S_IXOTH)


def is_root() -> bool:
    """Whether this process runs as root (never on Windows)."""
    return not IS_WINDOWS and os.geteuid() == 0


if sys.platform == "win32":

    def service_account(name: str) -> ServiceAccount:
        """Windows needs no other account: pg_ctl drops administrator rights by itself."""
        raise NotImplementedError(name)

    def give_to(account: ServiceAccount, path: Path) -> None:
        """Windows needs no other account."""
        raise NotImplementedError(account, path)

else:

    def service_account(name: str) -> ServiceAccount:
        """Return the account of this name; root makes it when it is not there."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            _make_account(name)
            entry = pwd.getpwnam(name)
        groups = frozenset(group.gr_gid for group in grp.getgrall() if name in group.gr_mem)
        return ServiceAccount(entry.pw_name, entry.pw_uid, entry.pw_gid, groups | {entry.pw_gid})

    def give_to(account: ServiceAccount, path: Path) -> None:
        """Make the account the owner of this file or folder."""
        os.chown(path, account.uid, account.gid)

    def _make_account(name: str) -> None:
        if shutil.which("useradd"):
            command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
        elif shutil.which("adduser"):
            # BusyBox, on Alpine.
            command = ["adduser", "-S", "-D", "-H", "-s", "/sbin/nologin", name]
        else:
            command = []
        if command:
            # Two processes may make it at the same moment: what counts is that it is there afterwards.
            subprocess.run(command, check=False, capture_output=True)
        try:
            pwd.getpwnam(name)
        except KeyError:
            message = (
                f"PostgreSQL refuses to run as root and the system account {name} could not be made: "
                "run ipaas as an ordinary user, or make that account, or set IPAAS_DATABASE_URL."
            )
            raise StopError(message) from None


def run_async(main: Coroutine[Any, Any, Result], *, debug: bool | None = None) -> Result:
    """Run a coroutine on the fastest event loop that psycopg accepts on this system."""
    if sys.platform == "win32":
        # psycopg's async connections need a selector; the default loop of Windows has none.
        factory = asyncio.SelectorEventLoop
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        return runner.run(main)


def lower_priority() -> None:
    """Let this process step back behind the live ones (batch work); does nothing where that is not offered."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.nice(10)


def kill_this_process() -> NoReturn:
    """End this process the way a power cut would: no handler, no `finally`, nothing flushed."""
    if sys.platform != "win32":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(137)
