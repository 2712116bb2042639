"""A compiled flow against the schema snapshots of its systems: what cannot work is said at save, all at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from mappings.expressions.language import Expression, source_names
from mappings.faults import Fault, Path, dotted, unknown_name
from mappings.fits import misfit
from mappings.kinds import ANY, TEXT, Gives, of_field
from mappings.transforms.direct import Const
from mappings.transforms.lookup import Lookup
from mappings.transforms.ref import Ref

if TYPE_CHECKING:
    from ipaas_resources.core.schema import EntitySchema, FieldSchema
    from mappings.compiler import CompiledFlow
    from mappings.rules import Rule
    from mappings.spec import Flow, Lines, Target

Flows = Mapping[str, Collection[str]]
"""flow -> its targets."""


def validate(
    compiled: CompiledFlow,
    source_schema: EntitySchema,
    target_schemas: Mapping[str, EntitySchema],
    *,
    lookups: Collection[str] | None = None,
    flows: Flows | None = None,
) -> list[Fault]:
    """Every fault of a flow that its schemas show, with file and line.

    `target_schemas` are by target name; a target without one is not checked. `lookups` and `flows` (of the registry
    and of the folder that is being applied) are checked where they are given.
    """
    return _Validation(compiled, source_schema, target_schemas, lookups, flows).faults()


class _Types:
    """The source's fields, for the rules' own reckoning of what they give."""

    def __init__(self, fields: Sequence[FieldSchema], parent: Sequence[FieldSchema] = ()) -> None:
        self._fields = {field.name: of_field(field) for field in fields}
        self._parent = {field.name: of_field(field) for field in parent}

    def of(self, name: str) -> Gives:
        if name in ("$scope", "$id"):
            return TEXT
        if name.startswith("$parent."):
            return self._parent.get(name.removeprefix("$parent."), ANY)
        return self._fields.get(name, ANY)


class _Validation:
    def __init__(
        self,
        compiled: CompiledFlow,
        source: EntitySchema,
        targets: Mapping[str, EntitySchema],
        lookups: Collection[str] | None,
        flows: Flows | None,
    ) -> None:
        self._flow: Flow = compiled.flow
        self._source = source
        self._targets = targets
        self._lookups = lookups
        self._flows = None if flows is None else {**flows, self._flow.flow: list(self._flow.targets)}
        self._found: list[Fault] = []

    def faults(self) -> list[Fault]:
        self._condition(("when",), self._flow.when)
        if self._flow.reverse_of is not None:
            self._reference(("reverse_of",), *self._flow.reverse_of.split("."))
        for name, target in self._flow.targets.items():
            self._target(("targets", name), target, self._targets.get(name))
        return sorted(self._found, key=lambda fault: (fault.file, fault.line))

    # --- noting -------------------------------------------------------------------------------------------------

    def _add(self, path: Path, what: str) -> None:
        file, line = self._flow.place(path)
        self._found.append(Fault(path=dotted(path), what=what, file=file, line=line))

    def _unknown(self, path: Path, what: str, name: str, known: Collection[str]) -> None:
        file, line = self._flow.place(path)
        self._found.append(unknown_name(what, name, tuple(known), path=path, file=file, line=line))

    # --- targets ------------------------------------------------------------------------------------------------

    def _target(self, path: Path, target: Target, schema: EntitySchema | None) -> None:
        self._condition((*path, "when"), target.when)
        types = _Types(self._source.fields)
        if target.scope is not None:
            self._rule((*path, "scope"), target.scope, self._source.fields)
        if schema is not None and not (schema.creatable or schema.updatable):
            self._add((*path, "entity"), f"{target.entity} of {target.system} cannot be written")
        for field, rule in target.rules().items():
            part = "fields" if field in target.fields else "key"
            self._rule((*path, part, field), rule, self._source.fields)
            if schema is not None:
                self._write((*path, part, field), rule, schema.fields, types, target.entity)
        for field, lines in target.lines.items():
            self._lines((*path, "lines", field), field, lines, schema, target.entity)
        if schema is not None:
            self._key(path, target, schema)
            if schema.creatable:
                made = {*target.rules(), *target.lines}
                self._required((*path, "fields"), schema.fields, made, target.entity)

    def _key(self, path: Path, target: Target, schema: EntitySchema) -> None:
        for field in target.key:
            found = schema.field(field)
            if found is not None and not found.creatable and not found.readonly:
                self._add(
                    (*path, "key", field),
                    f"{field} cannot be set when a record of {target.entity} is created, "
                    "so a created record would never be found by it; choose another key",
                )

    def _lines(self, path: Path, name: str, lines: Lines, schema: EntitySchema | None, entity: str) -> None:
        rows = self._source_rows((*path, "each"), lines.each)
        own = self._target_rows(path, name, schema, entity) if schema is not None else ()
        if lines.when is not None:
            self._names((*path, "when"), lines.when, rows)
        types = _Types(rows, self._source.fields)
        for inner, rule in lines.rules().items():
            place: Path = (*path, "fields" if inner in lines.fields else "key", inner)
            self._rule(place, rule, rows)
            if own:
                self._write(place, rule, own, types, name)
        for field in own:
            if field.type == "file" and field.name in lines.rules():
                self._add((*path, "fields", field.name), f"{field.name} is a file; lines take no files")
        self._required((*path, "fields"), own, set(lines.rules()), name)

    def _source_rows(self, path: Path, name: str) -> tuple[FieldSchema, ...]:
        """The fields of the source's lines, () where they are not known."""
        field = self._source.field(name)
        if field is None:
            known = [field.name for field in self._source.fields if field.type == "lines"]
            self._unknown(path, "the source field", name, known)
        elif field.type in ("lines", "list", "any"):
            return field.fields
        else:
            self._add(path, f"{name} holds no lines")
        return ()

    def _target_rows(
        self, path: Path, name: str, schema: EntitySchema, entity: str
    ) -> tuple[FieldSchema, ...]:
        """The fields of the target's lines, () where they are not known."""
        field = schema.field(name)
        if field is None:
            known = [field.name for field in schema.fields if field.type == "lines"]
            self._unknown(path, f"the lines field of {entity}", name, known)
        elif field.type == "lines":
            return field.fields
        else:
            self._add(path, f"{name} of {entity} holds no lines; write its rule under fields:")
        return ()

    def _required(self, path: Path, fields: Sequence[FieldSchema], made: set[str], holder: str) -> None:
        for field in fields:
            if field.required and field.creatable and field.name not in made:
                self._add(path, f"{holder} needs {field.name} for every new record, and no rule makes it")

    def _write(
        self, path: Path, rule: Rule, fields: Sequence[FieldSchema], types: _Types, holder: str
    ) -> None:
        name = str(path[-1])
        field = next((field for field in fields if field.name == name), None)
        if field is None:
            writable = [field.name for field in fields if not field.readonly]
            self._unknown(path, f"the field of {holder}", name, writable)
            return
        if field.readonly:
            self._add(path, f"{name} of {holder} is read-only")
            return
        gives = rule.gives(types)
        nothing = isinstance(rule, Const) and rule.const is None and not field.nullable
        what = f"the rule gives null, {name} cannot be empty" if nothing else misfit(gives, field)
        if what:
            self._add(path, what)

    # --- what rules read ----------------------------------------------------------------------------------------

    def _condition(self, path: Path, expression: Expression | None) -> None:
        if expression is not None:
            self._names(path, expression, self._source.fields)

    def _rule(self, path: Path, rule: Rule, fields: Sequence[FieldSchema]) -> None:
        """The names that a rule itself reads, then those of the rules inside it."""
        for name in rule.reads():
            self._name(path, name, fields)
        if isinstance(rule, Lookup) and self._lookups is not None and rule.lookup not in self._lookups:
            self._unknown((*path, "lookup"), "the lookup table", rule.lookup, sorted(self._lookups))
        if isinstance(rule, Ref):
            self._reference((*path, "ref"), rule.flow, rule.target)
        for word, part in rule.parts():
            self._rule((*path, word), part, fields)

    def _names(self, path: Path, expression: Expression, fields: Sequence[FieldSchema]) -> None:
        for name in source_names(expression):
            self._name(path, name, fields)

    def _name(self, path: Path, name: str, fields: Sequence[FieldSchema]) -> None:
        if name in ("$scope", "$id"):
            return
        if name.startswith("$parent."):
            name, fields = name.removeprefix("$parent."), self._source.fields
        if fields and name not in {field.name for field in fields}:
            self._unknown(path, "the source field", name, [field.name for field in fields])

    def _reference(self, path: Path, flow: str, target: str) -> None:
        if self._flows is None or flow == self._flow.flow:
            return
        if flow not in self._flows:
            self._unknown(path, "the flow", flow, sorted(self._flows))
        elif target not in self._flows[flow]:
            known = [f"{flow}.{name}" for name in self._flows[flow]]
            self._unknown(path, "the target", f"{flow}.{target}", known)
