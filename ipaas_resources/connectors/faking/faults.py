"""Faults that a test or the demo orders: which requests they strike, how often, and what happens then."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from ipaas_resources.connectors.faking.wire import Reply, Request, json_reply


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One ordered fault. The first that matches a request strikes it.

    Which requests: `match` (in process), or `method` and `path` (a regular expression searched in path?query). The
    first `skip` matches pass unharmed, the next `times` are struck (-1: for ever), each with probability `rate`.

    What happens, one of: `status` (with headers, body or json) answers instead of the product; `refuse` refuses the
    connection; `drop` resets it; `hang` never answers; `tear` cuts the answer in half; `cut` breaks the upload after
    that many bytes; `change` (in process) edits the answer; `delay` alone only slows down. With `after`, status, drop
    and hang come after the request was handled: applied, answer lost. `late` makes a hanging request apply that many
    seconds later, when the caller has long given up.
    """

    match: Any = None  # Callable[[Request], bool] | None
    method: str = ""
    path: str = ""
    times: int = 1
    skip: int = 0
    rate: float = 1.0
    status: int = 0
    headers: dict[str, str] = {}
    body: str = ""
    json: Any = None
    after: bool = False
    refuse: bool = False
    drop: bool = False
    hang: bool = False
    late: float | None = None
    tear: bool = False
    cut: int | None = None
    delay: float = 0.0
    change: Any = None  # Callable[[Reply], Reply] | None
    struck: int = 0  # how often it has struck so far

    def strikes(self, request: Request, chance: float) -> bool:
        """True when this request is struck; counts down."""
        if self.times == 0 or not self._matches(request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if chance >= self.rate:
            return False
        if self.times > 0:
            self.times -= 1
        self.struck += 1
        return True

    def _matches(self, request: Request) -> bool:
        if self.match is not None and not self.match(request):
            return False
        if self.method and self.method != request.method:
            return False
        if not self.path:
            return True
        target = f"{request.path}?{request.raw_query.decode('ascii')}" if request.raw_query else request.path
        return _pattern(self.path).search(target) is not None

    def reply(self) -> Reply:
        """The answer of a status fault."""
        if self.json is not None:
            return json_reply(self.json, self.status, self.headers)
        return Reply(self.status, self.body.encode(), self.headers)


@lru_cache(maxsize=256)
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(path)
