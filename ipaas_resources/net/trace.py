"""The trace id on outbound requests: the W3C `traceparent` header (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER = "traceparent"
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_HEADER = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_header(trace_id: str, chance: float) -> str | None:
    """The header of one request; None for an id that is not 32 hex characters, which W3C forbids to send."""
    if _TRACE_ID.fullmatch(trace_id) is None:
        return None
    # A span of zeros is forbidden too.
    return f"00-{trace_id}-{int(chance * (2**64 - 1)) or 1:016x}-01"


def trace_id_of(headers: Mapping[str, str]) -> str:
    """The trace id of a request with these lower-case headers, '' when it carries none."""
    match = _HEADER.fullmatch(headers.get(HEADER, ""))
    return match[1] if match else ""
