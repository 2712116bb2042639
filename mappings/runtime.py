"""What compiled functions call while a record is mapped, beside the operators of the expression language."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.records import FileRef, file_ref
from mappings.expressions.guards import RuleError, as_text, kind_name
from mappings.expressions.numbers import number
from mappings.mapped import MISSING, Flag, LineImage, Missing, RefUse, Resolver, Unresolved

if TYPE_CHECKING:
    from ipaas_resources.core.values import Document, Value


class AbsentError(Exception):
    """The field is left out of the values; the reason is noted already."""


def lookup_or_null(resolve: Resolver, table: str, key: Value) -> Value:
    """The entry of a lookup table, null for a miss."""
    found = _lookup(resolve, table, key)
    return None if isinstance(found, Missing) else found


def lookup_or_default(resolve: Resolver, table: str, key: Value, default: Value) -> Value:
    """The entry of a lookup table, a constant for a miss."""
    found = _lookup(resolve, table, key)
    return default if isinstance(found, Missing) else found


def lookup_or_flag(resolve: Resolver, table: str, key: Value, flags: list[Flag], field: str) -> Value:
    """The entry of a lookup table; a miss leaves the field out and asks for a person."""
    found = _lookup(resolve, table, key)
    if isinstance(found, Missing):
        flags.append(Flag(field, f"the source value has no entry in the lookup table {table}"))
        raise AbsentError
    return found


def _lookup(resolve: Resolver, table: str, key: Value) -> Value | Missing:
    if key is None:
        return None
    text = key if type(key) is str else as_text(key)
    found = resolve.lookup(table, text)
    # Many systems send "" for "none": that is no unknown value, unless the table has an entry for it.
    return None if found is MISSING and not text else found


def entry_number(entry: Value) -> Value:
    """The number that the entry of a table, or the id of a record, spells."""
    return number(entry)


def follow(resolve: Resolver, ref: RefUse, value: Value, unresolved: list[Unresolved]) -> str | None:
    """The id (or scope) at the other side of a link; null and "" refer to nothing."""
    if value is None or value == "":
        return None
    text = value if type(value) is str else as_text(value)
    hit = resolve.link(ref, text)
    if hit is None:
        unresolved.append(Unresolved(ref.field, ref, text))
        raise AbsentError
    return hit.id if ref.part == "id" else hit.scope


def want(wanted: list[tuple[RefUse, str]], ref: RefUse, value: Value) -> None:
    """Note a link that mapping will ask for."""
    if value is not None and value != "":
        wanted.append((ref, value if type(value) is str else as_text(value)))


def take_files(values: Document) -> dict[str, FileRef]:
    """Move file references out of the values.

    Raises:
        RuleError: a value says that it is a file and does not say which.
    """
    files: dict[str, FileRef] = {}
    for field, value in list(values.items()):
        try:
            found = file_ref(value) if type(value) is dict else None
        except msgspec.ValidationError:
            raise RuleError("type", f"the file in {field} is not described as a file") from None
        if found is not None:
            files[field] = found
            del values[field]
    return files


def rows_of(value: Value) -> list[Document]:
    """The lines of a document; null is none."""
    if value is None:
        return []
    if type(value) is not list or any(type(row) is not dict for row in value):
        raise RuleError("lines", "the source field holds no lines")
    return value


def no_lines_twice(images: list[LineImage]) -> list[LineImage]:
    """The images themselves, each with a key of its own.

    Raises:
        RuleError: two lines share a key, or a line has none: nobody could tell which line of the target is meant.
    """
    seen: set[str] = set()
    for image in images:
        text = as_text(image.key)  # 10 and "10" name one line: systems differ in how they send it
        if not text:
            raise RuleError("lines", "a line has no key")
        if text in seen:
            raise RuleError("lines", "two lines carry the same key")
        seen.add(text)
    return images


def as_scope(value: Value) -> str | None:
    """The scope that a rule names."""
    if value is None or type(value) is str:
        return value
    raise RuleError("type", f"a scope is text, there is {kind_name(value)}")


_NEXT = {
    "type": "Check the rule and the values of its source fields.",
    "zero": "Change the rule so that it tests the divisor.",
    "limit": "Shorten the value or change the rule.",
    "number": "Correct the source value or change the rule.",
    "date": "Correct the source value or change the rule.",
    "item": "Test with `in`, or read with .get(...), which gives null where there is none.",
    "lines": "Check the lines of the source record and the key of the rule.",
    "unit": "Correct the source value, or name the unit in the lookup table of the rule.",
    "currency": "Correct the source value or change the rule.",
}


def broken_rule(flow: str, target: str, field: str, error: RuleError) -> MappingError:
    """The error of a rule that cannot make its value; it holds no value of the record."""
    return MappingError(
        f"The rule of {field} in {flow}.{target} fails: {error.what}. {_NEXT[error.code]}",
        code=f"mapping_{error.code}",
        field=field,
    )
