"""What is told of an error that nobody expected: its own text may quote a record or a driver's statement."""

from __future__ import annotations

import traceback


def told(error: BaseException) -> str:
    """Its type and the places it came by, nothing else."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
    return f"{type(error).__name__}\n{''.join(frames)}"
