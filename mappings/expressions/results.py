"""What a rule of the language may give: plain values within bounds, in their canonical form, shared with nobody."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from ipaas_resources.core.values import escape_text
from mappings.expressions.comparing import MAX_NESTING, MAX_NODES
from mappings.expressions.guards import (
    MAX_ITEMS,
    MAX_TEXT,
    RuleError,
    kind_name,
    too_large,
)
from mappings.expressions.operators import number_result

if TYPE_CHECKING:
    from ipaas_resources.core.values import Value

MAX_RESULT_TEXT: Final = 4 * MAX_TEXT  # characters of all texts of one result


def any_result(value: Value) -> Value:
    """The result of a python rule in its canonical form; lists and objects are copied, so no record is aliased."""
    kind = type(value)
    if kind is str:
        # In ASCII only NUL cannot be stored, and len and isascii read one word each.
        if len(value) <= MAX_TEXT and value.isascii() and "\0" not in value:
            return value
        return _text(value)
    if value is None or kind is bool:
        return value
    if kind is int or kind is Decimal:
        return number_result(value)
    return _Copy().of(value, 1)


def _text(value: str) -> str:
    if len(value) > MAX_TEXT:
        too_large(f"the result holds a text that is longer than {MAX_TEXT} characters")
    # Fields come escaped; what is in them may be cut, never made anew.
    if escape_text(value.replace("\ue000", "")) != value.replace("\ue000", ""):
        raise RuleError("type", "the result holds a text with a character that cannot be stored")
    return value


class _Copy:
    """One result that is a list or an object."""

    def __init__(self) -> None:
        self._nodes = MAX_NODES
        self._text = MAX_RESULT_TEXT

    def of(self, value: Value, depth: int) -> Value:
        kind = type(value)
        if kind is list or kind is dict:
            return self._container(value, depth)
        if kind is str:
            return self._counted(value)
        if value is None or kind is bool:
            return value
        if kind is int or kind is Decimal:
            return number_result(value)
        raise RuleError("type", f"the result holds {kind_name(value)}")

    def _counted(self, text: str) -> str:
        self._text -= len(text)
        if self._text < 0:
            too_large(f"the result holds more than {MAX_RESULT_TEXT} characters of text")
        return _text(text)

    def _container(self, value: list[Value] | dict[str, Value], depth: int) -> Value:
        if depth > MAX_NESTING:
            too_large(f"the result nests deeper than {MAX_NESTING} levels")
        if len(value) > MAX_ITEMS:
            too_large(f"the result holds a list or an object with more than {MAX_ITEMS} items")
        self._nodes -= len(value)
        if self._nodes < 0:
            too_large(f"the result holds more than {MAX_NODES} values")
        if isinstance(value, list):
            return [self.of(item, depth + 1) for item in value]
        return {self._name(name): self.of(item, depth + 1) for name, item in value.items()}

    def _name(self, name: object) -> str:
        if type(name) is not str:
            raise RuleError("type", "the result holds an object with a name that is no text")
        return self._counted(name)
