"""What the language knows of one of its functions. The functions stand in modules by subject, each with its FUNCTIONS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from ipaas_resources.core.values import Value

MANY: Final = 20  # arguments, for functions that take as many as there are


class Function(msgspec.Struct, frozen=True):
    """One function of the language."""

    call: Callable[..., Value]
    least: int  # arguments
    most: int
    gives: str  # the kind of its value, see mappings/kinds.py; "first": that of its arguments
    says: str  # usage and meaning, for the language reference and for messages
