"""One log line per attempt: enough to find a request again at the vendor, nothing that a body or a query said."""

from __future__ import annotations

import logging
import re

logger = logging.getLogger("ipaas.net")

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,80}")


def safe_code(code: str | None) -> str | None:
    """A product's error code, None when the text does not look like one (it may hold anything)."""
    return code if code is not None and _CODE.fullmatch(code) else None


def log_attempt(
    *,
    system: str,
    endpoint: str,
    method: str,
    status: int | None,
    code: str | None,
    milliseconds: float,
    attempt: int,
    trace_id: str,
    failure: str | None = None,
) -> None:
    """Write the line; `status` is None and `failure` names the cause where no answer came."""
    fields = {
        "system": system,
        "endpoint": endpoint,
        "method": method,
        "status": status,
        "code": code,
        "duration_ms": round(milliseconds, 1),
        "attempt": attempt,
        "trace_id": trace_id,
        "failure": failure,
    }
    level = logging.INFO if status is not None and status < 400 else logging.WARNING  # noqa: PLR2004 - errors
    if logger.isEnabledFor(level):
        words = " ".join(f"{name}={value}" for name, value in fields.items() if value not in {None, ""})
        logger.log(level, "request %s", words, extra={"request": fields})
