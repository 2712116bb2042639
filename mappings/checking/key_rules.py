"""Keys: the fields by which a record, or a line of a document, is found again. A poor key doubles records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mappings.checking.ways import ways
from mappings.transforms.direct import Const
from mappings.transforms.lookup import Default, Lookup
from mappings.transforms.unit import UnitOfMeasure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ipaas_resources.core.schema import FieldSchema
    from mappings.checking.notes import Notes
    from mappings.faults import Path
    from mappings.kinds import SourceTypes
    from mappings.rules import Rule

_FEW: frozenset[str] = frozenset({"boolean", "enum"})


def check_key(
    notes: Notes,
    path: Path,
    rules: Mapping[str, Rule],
    fields: Sequence[FieldSchema],
    types: SourceTypes,
    *,
    holder: str,
    many: str,
) -> None:
    """Note what is wrong with the key rules of one target or of its lines.

    `fields` are those of the target, () where they are not known; `many` is what the key tells apart, in the plural.
    """
    known = {field.name: field for field in fields}
    telling = [name for name, rule in rules.items() if not _is_constant(rule)]
    if not telling:
        notes.fault(
            path, f"every part of the key is a constant, so all {many} would share it; name a source field"
        )
    elif all(rules[name].gives(types).kinds <= _FEW for name in telling):
        notes.warn(
            path, f"the key {' and '.join(telling)} takes few values; {many} that share them become one"
        )
    for name, rule in rules.items():
        place: Path = (*path, name)
        field = known.get(name)
        if field is not None and not field.creatable and not field.readonly:
            notes.fault(
                place,
                f"{name} cannot be set when a record of {holder} is created, "
                "so a created record would never be found by it; choose another key",
            )
        if "file" in rule.gives(types).kinds:
            notes.fault(
                place, "a file is no key: it can be neither compared nor searched for; choose another field"
            )
        _check_ways(notes, place, rule, alone=telling == [name])


def _is_constant(rule: Rule) -> bool:
    return all(isinstance(way, Const) for _, way in ways((), rule)) and not list(rule.reads())


def _check_ways(notes: Notes, place: Path, rule: Rule, *, alone: bool) -> None:
    """The values by which no record could be found, or by which several are."""
    for at, way in ways(place, rule):
        if isinstance(way, Const) and way.const in (None, ""):
            notes.fault(at, "a key cannot be empty; give it a value, or filter these records with `when`")
        if not isinstance(way, Lookup | UnitOfMeasure):
            continue
        if way.missing == "null":
            notes.fault(
                (*at, "missing"),
                "a key cannot be empty: a record without an entry could not be found; write missing: flag",
            )
        elif isinstance(way.missing, Default) and alone:
            notes.fault(
                (*at, "missing"),
                "all records without an entry would share this key and become one; write missing: flag",
            )
        elif way.missing == "flag":
            notes.warn(
                (*at, "missing"), "the key comes from a table: records without an entry wait for a person"
            )
