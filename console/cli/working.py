"""A line on the terminal that says what long work is doing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextlib.contextmanager
def working(title: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show a spinner with a text that the block changes; nothing when `quiet` or when nobody looks."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=quiet or not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task(title)
        yield lambda text: progress.update(task, description=text)
