"""Lengths of time in words."""

from __future__ import annotations


def span(seconds: float) -> str:
    """3 d, 2.5 h, 15 min, 40 s."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
