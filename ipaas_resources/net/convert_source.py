"""Writes the source of an entity's reader: straight code for the values that nearly every record has."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ipaas_resources.core.errors import ContractError
from ipaas_resources.core.values import canonical_number, escape_text
from ipaas_resources.net import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ipaas_resources.core.schema import FieldSchema
    from ipaas_resources.core.values import Document, Value

#: What straight code meets in a record that is not as usual; ContractError comes from lines and objects within it.
_UNUSUAL = "KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, ContractError"
#: Values that repeat (foreign keys, dates, enum members) are converted once; a full memory takes no more.
_MEMORY = 1024
_UNKNOWN: Any = object()
_LOWER_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff\ue000]")


class _Remembered(dict[Any, Any]):
    """A memory in front of a reader: `memory[value]` is the canonical value."""

    def __init__(self, read: Callable[[Any], Value]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, value: str | None) -> Value:
        if value.__class__ is not str and value is not None:
            # 1, True and 1.0 are one key to a dict, and three things to us.
            raise TypeError
        made = self._make(value)
        if len(self) < _MEMORY:
            self[value] = made
        return made

    def _make(self, value: str | None) -> Value:
        return self._read(value)


class _RememberedGuids(_Remembered):
    def _make(self, value: str | None) -> Value:
        # Most GUIDs come in their canonical form; the zero one may mean null.
        if value is not None and _LOWER_GUID.fullmatch(value) and value != canonical.ZERO_GUID:
            return value
        return self._read(value)


def compile_reader(
    fields: Sequence[FieldSchema],
    *,
    slow: Callable[[Any], Document],
    readers: Mapping[str, Callable[[Any], Value]],
    special: Collection[str],
    key: Collection[str],
    storable: bool,
    null_when_absent: bool,
    zeros_are_null: bool,
) -> Callable[[Any], Document]:
    """A function from a wire record to its canonical document.

    Args:
        fields: in the order of the document.
        slow: handles a record in which something unusual was met.
        readers: per field, the meaning of its conversion.
        special: fields that are always read by their reader.
        key: fields that make the record's id.
        storable: no text of the record can need escaping.
        null_when_absent: a field that the record lacks is null; else such a record takes the slow road.
        zeros_are_null: zero moments are null.
    """
    names: dict[str, Any] = {
        "slow": slow,
        "ContractError": ContractError,
        "Decimal": Decimal,
        "number": _number,
        "moment": _zero_moment if zeros_are_null else _moment,
        "is_guid": _LOWER_GUID.fullmatch,
        "unstorable": _UNSTORABLE.search,
        "escape": escape_text,
        "zero": canonical.ZERO_GUID if zeros_are_null else None,
    }
    lines = ["def read(row):", "    try:"]
    shown: list[str] = []
    for index, field in enumerate(fields):
        variable = f"v{index}"
        wire = repr(field.wire or field.name)
        lines.append(
            f"        {variable} = row.get({wire})"
            if null_when_absent
            else f"        {variable} = row[{wire}]"
        )
        names[f"read{index}"] = readers[field.name]
        if field.name in special:
            code: Sequence[str] = _OTHER
        else:
            memory = _RememberedGuids if field.type in {"guid", "reference"} else _Remembered
            names[f"known{index}"] = memory(readers[field.name])
            code = _lines_for(field, own=field.name in key, storable=storable)
        lines.extend(
            f"        {line.format(v=variable, read=f'read{index}', known=f'known{index}')}" for line in code
        )
        shown.append(f"{field.name!r}: {variable}")
    lines.append(f"        return {{{', '.join(shown)}}}")
    lines.append(f"    except ({_UNUSUAL}):")
    lines.append("        return slow(row)")
    exec(compile("\n".join(lines), "<converter>", "exec"), names)  # noqa: S102 - of schema names, all through repr
    read: Callable[[Any], Document] = names["read"]
    return read


#: Per type, the lines that turn the wire value `{v}` into its canonical form. A value that is not as usual goes to the
#: field's `{read}`, or the record to `slow`.
_LINES: Mapping[str, Sequence[str]] = {
    "text": (
        "if {v}.__class__ is str:",
        "    if unstorable({v}): {v} = escape({v})",
        "elif {v} is not None: return slow(row)",
    ),
    "storable text": ("if {v}.__class__ is not str and {v} is not None: return slow(row)",),
    "boolean": ("if {v} is not True and {v} is not False and {v} is not None: return slow(row)",),
    "integer": ("if {v}.__class__ is not int and {v} is not None: return slow(row)",),
    "decimal": (
        "if {v}.__class__ is Decimal: {v} = number({v})",
        "elif {v}.__class__ is not int and {v} is not None: return slow(row)",
    ),
    # A record's own id never repeats, so remembering it would only fill the memory.
    "own guid": (
        "if {v} == zero: {v} = None",
        "elif {v}.__class__ is not str or not is_guid({v}): {v} = {read}({v})",
    ),
    "guid": ("{v} = {known}[{v}]",),
    "datetime": ("{v} = moment({v}) or {read}({v})",),
    "enum": ("if {v}.__class__ is not int and {v} is not None: {v} = {known}[{v}]",),
    "reference": ("{v} = str({v}) if {v}.__class__ is int else {known}[{v}]",),
    "date": ("{v} = {known}[{v}]",),
}
_OTHER = ("{v} = {read}({v})",)


def _lines_for(field: FieldSchema, *, own: bool, storable: bool) -> Sequence[str]:
    variants = [f"own {field.type}"] * own + [f"storable {field.type}"] * storable + [field.type]
    return next((_LINES[variant] for variant in variants if variant in _LINES), _OTHER)


_SHORT = 100


def _number(value: Decimal) -> Decimal | int:
    """canonical_number by way of the digits, which is ten times as fast for the usual amounts."""
    digits = str(value)
    if "." not in digits or "E" in digits or len(digits) > _SHORT:
        return canonical_number(value)
    if digits[-1] != "0":
        return value
    digits = digits.rstrip("0")
    return int(digits[:-1]) if digits[-1] == "." else Decimal(digits)


_parse = dt.datetime.fromisoformat
# Length of a UTC moment -> how much of it stays, and what follows: six digits, whatever the product sends.
_FRACTIONS = {
    20: (19, ".000000Z"),
    22: (21, "00000Z"),
    23: (22, "0000Z"),
    24: (23, "000Z"),
    25: (24, "00Z"),
    26: (25, "0Z"),
    27: (26, "Z"),
    28: (26, "Z"),
}


def _moment(value: Any) -> str | None:
    """The canonical form of `2026-08-18T20:05:51.603Z` and its like; None for any other form."""
    if value is None:
        return None
    shape = _FRACTIONS.get(len(value))
    if shape and value[-1] == "Z" and value[10] == "T" and value[7] == "-" and value[19] in ".Z":
        _parse(value)  # refuses the 30th of February and letters
        return f"{value[: shape[0]]}{shape[1]}"
    return None


def _zero_moment(value: Any) -> str | None:
    return None if value is None or value[:10] == canonical.ZERO_DATE else _moment(value)
