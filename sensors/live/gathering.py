"""Near a system's budget each call is made to carry more records."""

from __future__ import annotations

from typing import Final

#: Seconds that records gather before a claim while requests to their system have to wait.
GATHER: Final = 0.05
