"""Whether a source record keeps to the schema snapshot of its entity.

Two checks of one meaning: a compiled row check (a few microseconds a record) for few rows, and pandera for pages of
`PAGE` rows or more. They are written apart and a property test shows that they agree. Neither changes a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from ipaas_resources.core.values import Document
from mappings.contract_pages import PageCheck, check_page, pandera_schema
from mappings.contract_rules import (
    MISSING_FIELD,
    NOT_A_MEMBER,
    NOT_AN_OBJECT,
    NULL,
    PATTERNS,
    TYPES,
    Violation,
    has_members,
    is_anything,
    is_file,
    is_too_long,
    may_miss,
    too_long,
)

if TYPE_CHECKING:
    from ipaas_resources.core.schema import EntitySchema, FieldSchema

__all__ = ["PAGE", "Contract", "RowCheck", "Violation", "check_page", "compile_check", "pandera_schema"]

PAGE: Final = 100
"""Rows from which on pandera is asked: below, its fixed cost of some milliseconds a call outweighs the check."""

RowCheck = Callable[[Document], list[Violation]]

#: The test of a type, as Python source about `value`.
_TESTS: Final[Mapping[str, str]] = {
    "text": "value.__class__ is text_type",
    "integer": "value.__class__ is int_type",
    "decimal": "(value.__class__ is int_type or (value.__class__ is decimal_type and value.is_finite()))",
    "boolean": "value.__class__ is bool_type",
    "date": "(value.__class__ is text_type and date_form(value))",
    "datetime": "(value.__class__ is text_type and datetime_form(value))",
    "time": "(value.__class__ is text_type and time_form(value))",
    "guid": "(value.__class__ is text_type and guid_form(value))",
    "enum": "(value.__class__ is text_type or value.__class__ is int_type)",
    "reference": "(value.__class__ is text_type or value.__class__ is int_type)",
    "file": "is_file(value)",
    "lines": "value.__class__ is list_type",
    "object": "value.__class__ is dict_type",
    "list": "value.__class__ is list_type",
    "any": "is_anything(value)",
}


def compile_check(schema: EntitySchema) -> RowCheck:
    """The row check of an entity: document -> its violations in the order of the fields, [] when it keeps to the schema.

    Fields that the schema does not know are no violations.
    """
    return _compile_fields(schema.fields)


def _compile_fields(fields: Sequence[FieldSchema]) -> RowCheck:
    namespace: dict[str, Any] = {
        "__builtins__": {},
        "ABSENT": _ABSENT,
        "Violation": Violation,
        "bool_type": bool,
        "decimal_type": Decimal,
        "dict_type": dict,
        "int_type": int,
        "list_type": list,
        "text_type": str,
        "length": len,
        "is_anything": is_anything,
        "is_file": is_file,
        "is_too_long": is_too_long,
        "check_lines": _check_lines,
        **{f"{name}_form": pattern.fullmatch for name, pattern in PATTERNS.items()},
    }
    lines = ["def check(document):", "    found = []", "    get = document.get"]
    for number, field in enumerate(fields):
        lines += _field_source(number, field, namespace)
    lines.append("    return found")
    exec(compile("\n".join(lines), "<row check>", "exec"), namespace)  # noqa: S102 - our text, names by repr
    check: RowCheck = namespace["check"]
    return check


def _field_source(number: int, field: FieldSchema, namespace: dict[str, Any]) -> list[str]:
    def violation(reason: str) -> str:
        return f"found.append(Violation({field.name!r}, {reason!r}))"

    absent_matters = not may_miss(field)
    lines = [f"    value = get({field.name!r}{', ABSENT' if absent_matters else ''})"]
    null = violation(NULL) if not field.nullable else "pass"
    if absent_matters:
        lines += ["    if value is ABSENT:", f"        {violation(MISSING_FIELD)}", "    elif value is None:"]
    elif not field.nullable:
        null = f"if {field.name!r} in document: {null}"
        lines.append("    if value is None:")
    else:
        lines.append("    if value is None:")
    lines.append(f"        {null}")
    lines += [f"    elif not {_TESTS[field.type]}:", f"        {violation(TYPES[field.type][1])}"]
    further = _further_source(number, field, violation, namespace)
    return [*lines, *(["    else:", *further] if further else [])]


def _further_source(
    number: int, field: FieldSchema, violation: Callable[[str], str], namespace: dict[str, Any]
) -> list[str]:
    lines = []
    if has_members(field):
        namespace[f"members{number}"] = frozenset(field.enum or ())
        lines += [f"        if value not in members{number}:", f"            {violation(NOT_A_MEMBER)}"]
    if field.max_length is not None:
        test = f"length(value) > {field.max_length:d} and is_too_long(value, {field.max_length:d})"
        if field.type not in _ALWAYS_TEXT:
            test = f"value.__class__ is text_type and {test}"
        lines += [f"        if {test}:", f"            {violation(too_long(field.max_length))}"]
    if field.type == "lines" and field.fields:
        namespace[f"lines{number}"] = _compile_fields(field.fields)
        lines.append(f"        check_lines({field.name!r}, value, lines{number}, found)")
    return lines


_ABSENT: Final = object()
_ALWAYS_TEXT: Final = frozenset({"text", "date", "datetime", "time", "guid"})


def _check_lines(field: str, rows: list[Any], check: RowCheck, found: list[Violation]) -> None:
    for number, row in enumerate(rows):
        if type(row) is not dict:
            found.append(Violation(f"{field}[{number}]", NOT_AN_OBJECT))
            continue
        found += [Violation(f"{field}[{number}].{inner.field}", inner.reason) for inner in check(row)]


class Contract:
    """Both checks of one entity, made once."""

    def __init__(self, schema: EntitySchema) -> None:
        self.schema = schema
        self._row = compile_check(schema)
        self._page: PageCheck | None = None

    def check(self, documents: Sequence[Document]) -> dict[int, list[Violation]]:
        """Position -> violations; positions without any are left out. Pages of `PAGE` rows or more go to pandera."""
        if len(documents) < PAGE:
            return {
                position: found
                for position, document in enumerate(documents)
                if (found := self._row(document))
            }
        if self._page is None:
            self._page = PageCheck(self.schema.fields)
        return self._page.check(documents)
