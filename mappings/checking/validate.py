"""A compiled flow against the schema snapshots of its systems: what cannot work is said at save, all at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from ipaas_resources.core.values import Value, encode
from mappings.checking.choices import misspelt_choices
from mappings.checking.field_checks import FieldChecks, Place
from mappings.checking.key_rules import check_key
from mappings.checking.notes import Notes
from mappings.checking.other_flows import Flows, OtherFlows
from mappings.checking.ways import input_faults
from mappings.expressions.language import Block, Expression, source_names
from mappings.faults import Fault, closest_name
from mappings.kinds import FieldTypes
from mappings.transforms.direct import Direct
from mappings.transforms.lookup import Lookup
from mappings.transforms.ref import Ref
from mappings.transforms.template import Template, unfilled

if TYPE_CHECKING:
    from ipaas_resources.core.schema import EntitySchema, FieldSchema
    from mappings.compiler import CompiledFlow
    from mappings.faults import Path
    from mappings.rollup import RollUp
    from mappings.rules import Rule
    from mappings.spec import Flow, Lines, Target

Tables = Mapping[str, Mapping[str, Value]] | Collection[str]
"""Lookup tables with their rows, or only their names."""

#: The words of rules that name a lookup table.
_TABLE_WORDS = ("lookup", "variants")
#: What YAML reads as text without quotes, inside {} too.
_PLAIN = re.compile(r"[^\W\d][\w ./-]*")


class Checked(msgspec.Struct, frozen=True):
    """What a check found; each list in the order of the text."""

    faults: list[Fault]  # the flow cannot be saved
    warnings: list[Fault]  # it can, though perhaps it does not do what was meant


def check_flow(
    compiled: CompiledFlow,
    source_schema: EntitySchema,
    target_schemas: Mapping[str, EntitySchema],
    *,
    lookups: Tables | None = None,
    flows: Flows | None = None,
) -> Checked:
    """Everything that the schemas, the lookup tables and the other flows show of a flow, with file and line.

    `target_schemas` are by target name; a target without one is not checked. `lookups` and `flows` (of the registry
    and of the folder that is being applied) are checked where they are given: tables with rows by what they hold,
    flows as `Flow` by what they link and write.
    """
    check = _Check(compiled.flow, source_schema, target_schemas, lookups, OtherFlows(compiled.flow, flows))
    return check.run()


def validate(
    compiled: CompiledFlow,
    source_schema: EntitySchema,
    target_schemas: Mapping[str, EntitySchema],
    *,
    lookups: Tables | None = None,
    flows: Flows | None = None,
) -> list[Fault]:
    """The faults of `check_flow`."""
    return check_flow(compiled, source_schema, target_schemas, lookups=lookups, flows=flows).faults


def warnings(
    compiled: CompiledFlow,
    source_schema: EntitySchema,
    target_schemas: Mapping[str, EntitySchema],
    *,
    lookups: Tables | None = None,
    flows: Flows | None = None,
) -> list[Fault]:
    """The warnings of `check_flow`."""
    return check_flow(compiled, source_schema, target_schemas, lookups=lookups, flows=flows).warnings


class _Check:
    def __init__(
        self,
        flow: Flow,
        source: EntitySchema,
        targets: Mapping[str, EntitySchema],
        tables: Tables | None,
        others: OtherFlows,
    ) -> None:
        self._flow = flow
        self._source = source
        self._targets = targets
        self._tables = tables
        self._others = others
        self._notes = Notes(flow)
        self._fields = FieldChecks(self._notes, others, tables if isinstance(tables, Mapping) else {})

    def run(self) -> Checked:
        self._condition(("when",), self._flow.when)
        self._others.check_reverse(self._notes)
        for name, target in self._flow.targets.items():
            self._target(("targets", name), target, self._targets.get(name))
        self._others.check_group(self._notes)
        self._others.check_same_fields(self._notes)
        return Checked(self._notes.faults(), self._notes.warnings())

    # --- targets ------------------------------------------------------------------------------------------------

    def _target(self, path: Path, target: Target, schema: EntitySchema | None) -> None:
        self._condition((*path, "when"), target.when)
        place = Place(
            self._source.fields,
            FieldTypes(self._source.fields),
            target,
            None if schema is None else schema.fields,
            target.entity,
            readable=schema is None or schema.readable,
        )
        if target.scope is not None:
            self._scope((*path, "scope"), target.scope, place)
        if schema is not None:
            self._rights(path, target, schema)
        for field, rule in target.rules().items():
            part = "fields" if field in target.fields else "key"
            self._field((*path, part, field), rule, place)
        for field, lines in target.lines.items():
            self._lines((*path, "lines", field), field, lines, schema, place)
        keys = {field: target.rules()[field] for field in target.key}
        check_key(
            self._notes,
            (*path, "key"),
            keys,
            place.written or (),
            place.types,
            holder=target.entity,
            many="records",
        )
        if schema is not None and schema.creatable:
            self._required(
                (*path, "fields"), schema.fields, {**target.rules(), **target.lines}, target.entity
            )

    def _scope(self, path: Path, rule: Rule, place: Place) -> None:
        self._rule(path, rule, place)
        if isinstance(rule, Ref):
            self._others.check_ref(self._notes, (*path, "ref"), rule, place.target, None, scope=True)
        wrong = sorted(rule.gives(place.types).kinds - {"text", "enum", "guid", "reference", "any"})
        if wrong:
            self._notes.fault(path, f"a scope is text, the rule gives {wrong[0]}")

    def _rights(self, path: Path, target: Target, schema: EntitySchema) -> None:
        entity = f"{target.entity} of {target.system}"
        if not (schema.creatable or schema.updatable):
            self._notes.fault((*path, "entity"), f"{entity} cannot be written")
        elif not schema.updatable:
            self._notes.warn(
                (*path, "entity"), f"{entity} can be created only: later changes are not written"
            )
        for word in ("on_delete", "on_leave"):
            if getattr(target, word) == "delete" and not schema.deletable:
                self._notes.fault(
                    (*path, word), f"records of {entity} cannot be deleted; choose review, or another policy"
                )
        if target.conflict != "source_wins" and not schema.readable:
            self._notes.fault(
                (*path, "conflict"), f"{entity} cannot be read, so nobody sees a conflict; write source_wins"
            )

    def _lines(self, path: Path, name: str, lines: Lines, schema: EntitySchema | None, around: Place) -> None:
        rows = self._source_rows((*path, "each"), lines.each)
        written = self._target_rows(path, name, schema, around.holder) if schema is not None else ()
        if lines.when is not None:
            self._names((*path, "when"), lines.when, rows)
        if lines.rollup is not None:
            self._rollup((*path, "rollup"), lines.rollup, rows)
        types = FieldTypes(rows, self._source.fields)
        place = Place(rows, types, around.target, written or None, name, around.readable)
        for inner, rule in lines.rules().items():
            at: Path = (*path, "fields" if inner in lines.fields else "key", inner)
            self._field(at, rule, place)
        for field in written:
            if field.type == "file" and field.name in lines.rules():
                self._notes.fault(
                    (*path, "fields", field.name), f"{field.name} is a file; lines take no files"
                )
        key = {lines.key_field: lines.rules()[lines.key_field]}
        check_key(self._notes, (*path, "key"), key, written, types, holder=name, many="lines of a document")
        self._required((*path, "fields"), written, lines.rules(), name)

    def _rollup(self, path: Path, rollup: RollUp, rows: Sequence[FieldSchema]) -> None:
        known = {field.name: field for field in rows}
        for word in ("by", "sum", "first"):
            for name in getattr(rollup, word) if rows else ():
                if name not in known:
                    self._notes.unknown((*path, word), "the source field", name, list(known))
                elif word == "sum" and known[name].type not in ("integer", "decimal", "any"):
                    self._notes.fault((*path, word), f"{name} is no number and cannot be added up")

    def _source_rows(self, path: Path, name: str) -> tuple[FieldSchema, ...]:
        """The fields of the source's lines, () where they are not known."""
        field = self._source.field(name)
        if field is None:
            known = [field.name for field in self._source.fields if field.type == "lines"]
            self._notes.unknown(path, "the source field", name, known)
        elif field.type in ("lines", "list", "any"):
            return field.fields
        else:
            self._notes.fault(path, f"{name} holds no lines")
        return ()

    def _target_rows(
        self, path: Path, name: str, schema: EntitySchema, entity: str
    ) -> tuple[FieldSchema, ...]:
        """The fields of the target's lines, () where they are not known."""
        field = schema.field(name)
        if field is None:
            known = [field.name for field in schema.fields if field.type == "lines"]
            self._notes.unknown(path, f"the lines field of {entity}", name, known)
        elif field.type != "lines":
            self._notes.fault(path, f"{name} of {entity} holds no lines; write its rule under fields:")
        else:
            if field.readonly:
                self._notes.fault(path, f"the lines {name} of {entity} are read-only")
            if field.fields and not field.line_key and not any(inner.name == "id" for inner in field.fields):
                what = f"the lines {name} of {entity} have no id of their own: a changed line may not be found again"
                self._notes.warn(path, what)
            return field.fields
        return ()

    def _required(
        self, path: Path, fields: Sequence[FieldSchema], made: Collection[str], holder: str
    ) -> None:
        for field in fields:
            if field.required and field.creatable and field.name not in made:
                self._notes.fault(
                    path, f"{holder} needs {field.name} for every new record, and no rule makes it"
                )

    def _field(self, path: Path, rule: Rule, place: Place) -> None:
        self._rule(path, rule, place)
        self._fields.check(path, rule, place)

    # --- what rules read ----------------------------------------------------------------------------------------

    def _condition(self, path: Path, expression: Expression | None) -> None:
        if expression is not None:
            self._names(path, expression, self._source.fields)

    def _rule(self, path: Path, rule: Rule, place: Place) -> None:
        """The names that a rule itself reads, then those of the rules inside it."""
        for name in rule.reads():
            self._name(path, name, place.source, fixed=isinstance(rule, Direct))
        for at, what in input_faults(path, rule, place.types):
            self._notes.fault(at, what)
        self._programs(path, rule, place)
        self._tables_of(path, rule)
        if isinstance(rule, Template):
            for text in unfilled(rule.template):
                self._notes.warn(
                    path,
                    f"{text} names no field, so it stays as it is; write {{field}} or {{record[Any name]}} to fill in a value",
                )
        if isinstance(rule, Ref):
            self._others.check_reference(self._notes, (*path, "ref"), rule.flow, rule.target)
            self._others.check_near(self._notes, (*path, "ref"), rule)
        for word, part in rule.parts():
            self._rule((*path, word), part, place)

    def _programs(self, path: Path, rule: Rule, place: Place) -> None:
        for program in (getattr(rule, word) for word in type(rule).model_fields):
            if isinstance(program, Expression | Block):
                self._choices(path, program, place.source)

    def _tables_of(self, path: Path, rule: Rule) -> None:
        for word in _TABLE_WORDS:
            table = getattr(rule, word, None)
            if isinstance(table, str) and self._tables is not None and table not in self._tables:
                self._notes.unknown((*path, word), "the lookup table", table, sorted(self._tables))
        if isinstance(rule, Lookup) and isinstance(self._tables, Mapping):
            what = rule.column_fault(self._tables.get(rule.lookup) or {})
            if what:
                self._notes.fault((*path, "part"), what)

    def _names(self, path: Path, expression: Expression, fields: Sequence[FieldSchema]) -> None:
        for name in source_names(expression):
            self._name(path, name, fields)
        self._choices(path, expression, fields)

    def _choices(self, path: Path, program: Expression | Block, fields: Sequence[FieldSchema]) -> None:
        own, parent = ({field.name: field for field in each} for each in (fields, self._source.fields))
        for found in misspelt_choices(program, own, parent):
            self._notes.warn(path, found.what, closest=found.closest)

    def _name(self, path: Path, name: str, fields: Sequence[FieldSchema], *, fixed: bool = False) -> None:
        """`fixed`: the name is the whole rule, so that a text may have been meant."""
        if name in ("$scope", "$id"):
            return
        if name.startswith("$parent."):
            name, fields = name.removeprefix("$parent."), self._source.fields
        if fields and name not in {field.name for field in fields}:
            known = [field.name for field in fields]
            # A name with a slip in it is a name; one with spaces, or like none, may be the text itself.
            fixed = fixed and (" " in name or not closest_name(name, known))
            way = f"for a fixed text write {{const: {_as_yaml(name)}}}" if fixed else ""
            self._notes.unknown(path, "the source field", name, known, way=way)


def _as_yaml(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else encode(text).decode()
