"""What the language knows of one of its functions. The functions stand in modules by subject, each with its FUNCTIONS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from ipaas_resources.core.values import Value

MANY: Final = 20  # arguments, for functions that take as many as there are


class Function(msgspec.Struct, frozen=True):
    """One function or method of the language."""

    call: Callable[..., Value]
    least: int  # arguments
    most: int
    #: The kind of its value, see mappings/kinds.py; "first": that of its arguments; "item": the same, or that of an item
    #: of its one list.
    gives: str
    says: str  # usage and meaning, for the language reference and for messages
    #: The most steps that the size of its operands can make one call charge. When it is above 0, the function takes a
    #: keyword argument `steps` (default None: not counted) and gives it to guards.charge before it does large work.
    #: A rule whose calls cannot add up to MAX_STEPS is compiled without a counter.
    steps: int = 0
    #: The steps that each call costs inside a loop, whatever its operands: one for each started microsecond or so.
    weight: int = 2


class Method(Function, frozen=True):
    """One method: its first argument is what stands before the point, which is not counted in `least` and `most`."""
