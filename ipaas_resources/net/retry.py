"""When a request is sent again: the schedule, and what a Retry-After header asks for."""

from __future__ import annotations

import datetime as dt
import math
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,6})?")


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and after how long."""

    #: Seconds before the second, third and fourth attempt.
    delays: tuple[float, ...] = (1.0, 4.0, 16.0)
    #: Share of a delay that chance adds, so that processes do not come back together.
    jitter: float = 0.25
    #: Longest pause that a caller sits through; a longer one is raised as an error with `retry_after`, because the
    #: caller holds leases.
    patience: float = 60.0

    def delay(self, attempt: int, chance: float, retry_after: float | None) -> float | None:
        """Seconds to wait after attempt number `attempt` (from 1); None when it was the last one worth waiting for.

        The system's own wish counts where it named one; 0 means "no wish", for it must not become a hammer.
        """
        if attempt > len(self.delays):
            return None
        base = retry_after or self.delays[attempt - 1]
        return base * (1 + self.jitter * chance) if base <= self.patience else None


def retry_after_seconds(headers: Mapping[str, str], now: dt.datetime) -> float | None:
    """Seconds that an answer asks us to wait, None when it names no time that we understand.

    A date is compared with the answer's own Date header, since the two clocks may be minutes apart.
    """
    text = headers.get("retry-after", "").strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    moment = _http_date(text)
    if moment is None:
        return None
    reference = _http_date(headers.get("date", "")) or now
    return max(0.0, math.ceil((moment - reference).total_seconds()))


def _http_date(text: str) -> dt.datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
