"""One field of a target against the rule that makes it: its words, its types, its lengths, its lookup tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ipaas_resources.core.schema import FieldSchema
from ipaas_resources.core.values import Value
from mappings.characters import has_unfit
from mappings.checking.fits import Mends, Misfit, hints, longer_than_taken, misfit, unfit_text
from mappings.checking.notes import Notes
from mappings.checking.other_flows import OtherFlows
from mappings.checking.ways import ways
from mappings.expressions.guards import RuleError
from mappings.expressions.numbers import number
from mappings.faults import Path
from mappings.kinds import NOTHING, FieldTypes, of_constant
from mappings.rules import Rule
from mappings.spec import Target
from mappings.transforms.direct import Const, Direct
from mappings.transforms.lookup import Default, Lookup
from mappings.transforms.ref import Ref
from mappings.transforms.template import Template, template_pieces
from mappings.transforms.unit import UnitOfMeasure
from mappings.units.catalogue import unit_named


class Place(msgspec.Struct, frozen=True):
    """Where rules stand: what they read, and where they write."""

    source: Sequence[FieldSchema]  # of the record, or of its lines
    types: FieldTypes
    target: Target
    written: Sequence[FieldSchema] | None  # the target's fields, None where they are not known
    holder: str  # the entity or the lines field, for messages
    readable: bool = True  # values can be read back


class FieldChecks:
    """Holds rules against the fields that they write. `tables` are lookup tables whose rows are known."""

    def __init__(self, notes: Notes, others: OtherFlows, tables: Mapping[str, Mapping[str, Value]]) -> None:
        self._notes = notes
        self._others = others
        self._tables = tables

    def check(self, path: Path, rule: Rule, place: Place) -> None:
        """Note everything that is wrong between the rule and the field that the path ends with."""
        if place.written is None:
            return
        name = str(path[-1])
        field = next((field for field in place.written if field.name == name), None)
        if field is None:
            writable = [field.name for field in place.written if not field.readonly]
            self._notes.unknown(path, f"the field of {place.holder}", name, writable)
            return
        if field.readonly:
            self._notes.fault(path, f"{name} of {place.holder} is read-only")
            return
        self._words(path, rule, field, place)
        if rule.gives(place.types) == NOTHING and (field.required or not field.nullable):
            self._notes.fault(path, f"the rule gives null, {name} cannot be empty")
            return
        for at, way in ways(path, rule):
            self._way(at, way, rule, field, place)

    def _words(self, path: Path, rule: Rule, field: FieldSchema, place: Place) -> None:
        """The words beside a rule's own."""
        for word in ("too_long", "unfit_characters"):
            if getattr(rule, word) is not None and field.type not in ("text", "any"):
                self._notes.fault((*path, word), f"{field.name} is no text, so {word} has no meaning here")
        why = _not_comparable(field, place) if rule.owner in ("target", "shared") else ""
        if why:
            what = f"{why}, so nobody sees what the target made of {field.name}; leave owner out"
            self._notes.fault((*path, "owner"), what)

    def _way(self, path: Path, way: Rule, rule: Rule, field: FieldSchema, place: Place) -> None:
        """One of the ways in which the rule of a field makes its value."""
        gives = way.gives(place.types)
        if gives == NOTHING:
            return
        said = not isinstance(way, Const)  # a constant is corrected where it stands
        mends = Mends(rule.too_long is not None and said, rule.unfit_characters is not None and said)
        refused = self._default(path, way, field, mends)
        if isinstance(way, Lookup) and way.lookup in self._tables:
            found = self._entries(way, self._tables[way.lookup], field, mends)
        elif refused:
            return  # what the rule gives besides is known by its kind alone, and that was told
        else:
            found = misfit(gives, field, mends=mends)
        if isinstance(way, Template) and found is None and not mends.characters:
            literal = "".join(text for text, is_source in template_pieces(way.template) if not is_source)
            found = unfit_text("the template", field) if has_unfit(literal, field.characters) else None
        if isinstance(way, UnitOfMeasure):
            self._variants(path, way)
        if found is not None:
            self._notes.misfit(path, found)
            return
        longest = longer_than_taken(gives, field)
        if longest is not None and rule.too_long is None:
            self._notes.fault(path, _ask(longest, rule, field))
        for hint in hints(gives, field):
            self._notes.warn(path, hint)
        if isinstance(way, Ref):
            self._others.check_ref(self._notes, (*path, "ref"), way, place.target, field, scope=False)

    # --- lookup tables ------------------------------------------------------------------------------------------

    def _default(self, path: Path, rule: Rule, field: FieldSchema, mends: Mends) -> bool:
        """Note a default that cannot be in the field; True then."""
        missing = rule.missing if isinstance(rule, Lookup | UnitOfMeasure) else None
        if not isinstance(missing, Default):
            return False
        found = _judged(missing.value, "the default", field, mends, as_number=_makes_numbers(rule))
        if found is not None:
            self._notes.misfit((*path, "missing"), found)
        return found is not None

    def _entries(
        self, rule: Lookup, rows: Mapping[str, Value], field: FieldSchema, mends: Mends
    ) -> Misfit | None:
        """The first entry of the table that cannot be in the field, with the number of those."""
        if rule.column_fault(rows):
            return None  # told where the names that rules use are checked
        judged = (
            _judged(rule.cell(value), f"the entry of {key!r}", field, mends, as_number=_makes_numbers(rule))
            for key, value in rows.items()
        )
        wrong = [found for found in judged if found is not None]
        if not wrong:
            return None
        what = f"{wrong[0].what} (lookup table {rule.lookup}, {len(wrong)} of {len(rows)} entries do not fit)"
        return msgspec.structs.replace(wrong[0], what=what)

    def _variants(self, path: Path, rule: UnitOfMeasure) -> None:
        """The company's own spellings of units, each with its code."""
        rows = self._tables.get(rule.variants or "", {})
        wrong = [
            key for key, value in rows.items() if not isinstance(value, str) or unit_named(value) is None
        ]
        if wrong:
            self._notes.fault(
                (*path, "variants"),
                f"the entry of {wrong[0]!r} is no unit code of UN/ECE Recommendation 20 "
                f"(lookup table {rule.variants}, {len(wrong)} of {len(rows)} entries do not fit)",
            )


def _makes_numbers(rule: Rule) -> bool:
    return isinstance(rule, Lookup) and rule.as_ == "number"


def _judged(value: Value, said: str, field: FieldSchema, mends: Mends, *, as_number: bool) -> Misfit | None:
    """Why an entry or a default cannot be in the field; null is judged by the record."""
    if as_number and value is not None:
        try:
            value = number(value)
        except RuleError:
            return Misfit(f"{said} is no number")
    gives = of_constant(value)
    return None if gives == NOTHING else misfit(gives, field, said=said, mends=mends)


def _not_comparable(field: FieldSchema, place: Place) -> str:
    """Why the target's value of a field cannot be held against ours, '' where it can."""
    if not place.readable:
        return f"{place.holder} cannot be read"
    if field.type == "file":
        return "files are not compared"
    return "secrets are not kept" if field.sensitivity == "secret" else ""


def _ask(longest: int, rule: Rule, field: FieldSchema) -> str:
    """Ask what a longer text does."""
    way = (
        f"write {{direct: {rule.direct}, too_long: error}}, or truncate or flag"
        if isinstance(rule, Direct)
        else "add too_long: error, truncate or flag to the rule"
    )
    return f"the rule can give {longest} characters, {field.name} takes {field.max_length}; say what a longer text does: {way}"
