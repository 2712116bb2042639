"""Named places where a crash test kills the process: free unless armed by IPAAS_KILL_AT.

`IPAAS_KILL_AT=K08:3` kills the process with SIGKILL the third time it passes K08 after the point's work was done;
`IPAAS_KILL_AT=-K08:1` kills before it. The names are those of the fault model: K01 body read, K02 inbox
commit, K03 answer sent, K04 claim commit, K05 source fetch, K06 page cursor commit, K07 map, K08 intent commit, K09
request written, K10 response read, K11 outcome transaction commit, K12 next batch item, K13 dead-letter move.
"""

from __future__ import annotations

import os
from collections import Counter

_ARMED = os.environ.get("IPAAS_KILL_AT", "")
_point, _, _count = _ARMED.partition(":")
_passes: Counter[str] = Counter()


def _strike(name: str) -> None:
    if name != _point:
        return
    _passes[name] += 1
    if _passes[name] == int(_count or "1"):
        from ipaas_resources.core.platform import kill_this_process  # noqa: PLC0415 - only when armed

        kill_this_process()


if _ARMED:

    def before(name: str) -> None:
        """Pass the moment before the step of that name."""
        _strike("-" + name)

    def after(name: str) -> None:
        """Pass the moment after the step of that name."""
        _strike(name)

else:

    def before(name: str) -> None:
        """Pass the moment before the step of that name: nothing happens, nothing is armed."""

    def after(name: str) -> None:
        """Pass the moment after the step of that name: nothing happens, nothing is armed."""
