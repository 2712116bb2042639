"""One stream of what several processes log, each line under the name of its process.

The processes write to files of their own, which this reads: should the supervisor die, nobody else notices.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from pathlib import Path
from typing import IO, Final, Self

import click

_LOOK: Final = 0.1
_MOST: Final = 1 << 18  # bytes of one file in one look
_COLOURS: Final = (
    "cyan",
    "green",
    "yellow",
    "magenta",
    "blue",
    "bright_cyan",
    "bright_green",
    "bright_yellow",
)


class _Followed:
    """One file, from where it ended when it was first seen."""

    def __init__(self, path: Path, colour: str) -> None:
        self.path = path
        self.colour = colour
        self.offset = path.stat().st_size if path.exists() else 0
        self.rest = b""

    def lines(self) -> list[str]:
        """Whole lines that were added since the last look."""
        try:
            with self.path.open("rb") as file:
                if self.path.stat().st_size < self.offset:  # somebody emptied it
                    self.offset, self.rest = 0, b""
                file.seek(self.offset)
                added = file.read(_MOST)
        except OSError:
            return []
        self.offset += len(added)
        *whole, self.rest = (self.rest + added).split(b"\n")
        if len(self.rest) > _MOST:  # no line at all: shown as it is, never gathered without end
            whole, self.rest = [*whole, self.rest], b""
        return [line.decode("utf-8", "replace").rstrip("\r") for line in whole]


class LogStream:
    """Follows files while its block lasts, and writes their lines to one stream."""

    def __init__(self, *, width: int = 16, to: IO[str] | None = None) -> None:
        self._width = width
        self._to = to
        self._followed: dict[str, _Followed] = {}
        self._colours = itertools.cycle(_COLOURS)
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log stream", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._look()  # the last words

    def follow(self, name: str, path: Path) -> None:
        """Show what is added to this file from now on. Before its process starts, so that no line is missed."""
        with self._lock:
            if name not in self._followed:
                self._followed[name] = _Followed(path, next(self._colours))

    def say(self, line: str) -> None:
        """A line of the supervisor itself."""
        with self._lock:
            self._write("ipaas", line, "white")

    def _run(self) -> None:
        while not self._end.wait(_LOOK):
            self._look()

    def _look(self) -> None:
        with self._lock:
            for name, followed in list(self._followed.items()):
                for line in followed.lines():
                    self._write(name, line, followed.colour)

    def _write(self, name: str, line: str, colour: str) -> None:
        to = self._to or sys.stderr
        # The terminal may be gone with whoever started us; the files hold everything.
        with contextlib.suppress(OSError, ValueError):
            click.echo(f"{click.style(f'{name:<{self._width}}|', fg=colour)} {line}", file=to)
