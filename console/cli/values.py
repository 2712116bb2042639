"""Values and times as the command line shows them to people."""

from __future__ import annotations

import sys
from typing import Any

from ipaas_resources.core.values import encode

_LONGEST = 160  # characters of one value: the rest is in --json
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def shown(value: Any, longest: int = _LONGEST) -> str:
    """A value as JSON on one line, cut where it is long; what the terminal cannot show is escaped."""
    text = encode(value).decode()
    if len(text) > longest:
        text = f"{text[: longest - 3]}..."
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def ago(seconds: float) -> str:
    """How long something is past, in whole units: 3 h ago."""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"
