"""Which kinds of value fit a target field; what a misfit is called, and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mappings.kinds import NUMBERS, Gives

if TYPE_CHECKING:
    from ipaas_resources.core.schema import FieldSchema

_TEXTS: Final = frozenset({"text", "guid", "enum", "reference", "date", "datetime", "time"})

#: target type -> kinds that can fit it. What only may fit (a text into a reference) is let through: the row decides.
_FITS: Final[dict[str, frozenset[str]]] = {
    "text": _TEXTS,
    "integer": NUMBERS,
    "decimal": NUMBERS,
    "boolean": frozenset({"boolean"}),
    "date": frozenset({"date"}),
    "datetime": frozenset({"datetime"}),
    "time": frozenset({"time"}),
    "guid": frozenset({"guid", "reference", "text"}),
    "enum": frozenset({"enum", "text", "integer", "number"}),
    "reference": frozenset({"reference", "guid", "text", "integer", "number"}),
    "file": frozenset({"file"}),
    "lines": frozenset(),
    "object": frozenset({"object"}),
    "list": frozenset({"list"}),
}

_WAY_OUT: Final[dict[tuple[str, str], str]] = {
    ("date", "datetime"): "; write {date: FIELD, to: date}",
    ("datetime", "date"): "; write {date: FIELD, to: datetime}",
    ("date", "text"): "; write {date: FIELD, to: date}",
    ("datetime", "text"): "; write {date: FIELD, to: datetime}",
    ("integer", "text"): '; write {math: "number(FIELD)"}',
    ("decimal", "text"): '; write {math: "number(FIELD)"}',
    ("integer", "reference"): "; add as: number",
    ("text", "integer"): '; write {template: "{FIELD}"}',
    ("text", "decimal"): '; write {template: "{FIELD}"}',
    ("text", "number"): '; write {python: "text(...)"}',
    ("text", "boolean"): '; write {template: "{FIELD}"} or an if rule',
    ("boolean", "text"): "; write an if rule",
}


def misfit(gives: Gives, target: FieldSchema) -> str:
    """Why a rule's value cannot be in this target field, '' when it can."""
    if target.type == "any":
        return ""
    if target.type == "lines":
        return f"{target.name} holds lines; write its rules under lines:"
    wrong = sorted(gives.kinds - _FITS[target.type] - {"any"})
    # A constant text may spell a date.
    if wrong and not (
        gives.values and gives.kinds == {"text"} and target.type in ("date", "datetime", "time")
    ):
        return (
            f"the rule gives {_article(wrong[0])}, {target.name} takes {_article(target.type)}"
            f"{_WAY_OUT.get((target.type, wrong[0]), '')}"
        )
    return _misfit_values(gives, target)


def _misfit_values(gives: Gives, target: FieldSchema) -> str:
    if not gives.kinds and not target.nullable:
        return f"the rule gives null, {target.name} cannot be empty"
    values = gives.values or ()
    if (
        target.enum
        and not values
        and gives.kinds == {"text"}
        and not any(type(each) is str for each in target.enum)
    ):
        return f"the rule gives text, {target.name} takes one of the numbers {', '.join(map(str, target.enum))}; a lookup gives numbers with as: number"
    if target.enum is not None and values:
        listed = ", ".join(map(str, target.enum))
        if "enum" in gives.kinds:
            if not set(values) & set(target.enum):
                return (
                    f"none of the source's values is a value of {target.name}; use a lookup. Valid: {listed}"
                )
        elif wrong := [value for value in values if value not in target.enum]:
            return f"{wrong[0]!r} is not a value of {target.name}. Valid: {listed}"
    if target.max_length is not None and "enum" not in gives.kinds:
        too_long = [value for value in values if isinstance(value, str) and len(value) > target.max_length]
        if too_long:
            return f"the constant has {len(too_long[0])} characters, {target.name} takes {target.max_length}"
    return ""


def _article(name: str) -> str:
    if name in ("text", "lines"):
        return name
    return f"an {name}" if name[0] in "aeio" else f"a {name}"
