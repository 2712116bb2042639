"""Which values of a trace may be shown: personal ones only when asked for, secret ones never."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from ipaas_assets.sync.plan import MASK
from ipaas_resources.core.schema import EntitySchema, FieldSchema, Sensitivity
from ipaas_resources.core.values import Value
from mappings.tracing.traced import (
    ConditionTrace,
    FieldTrace,
    LinesTrace,
    LineTrace,
    Step,
    TargetTrace,
    UsedEntry,
)

_ORDER: Final[Mapping[Sensitivity, int]] = {"none": 0, "personal": 1, "secret": 2}


class Masking:
    """Masks the values of one target, by the schemas of both sides."""

    def __init__(self, source: EntitySchema, target: EntitySchema, *, show_personal: bool) -> None:
        self._source = _levels(source)
        self._target = _levels(target)
        self._hidden = _ORDER["secret"] if show_personal else _ORDER["personal"]
        #: True once a value was masked.
        self.applied = False

    def fields(self, lineage: Mapping[str, Iterable[str]]) -> frozenset[str]:
        """The target fields whose values are hidden, by what they are made of and by what they are."""
        return frozenset(
            field for field, sources in lineage.items() if self._level(field, sources) >= self._hidden
        )

    def document(self, document: Mapping[str, Value]) -> dict[str, Value]:
        """A source document with what is hidden in its place; lines that hold something hidden are hidden whole."""
        return {
            name: self._mask(value) if self._source.get(name, 0) >= self._hidden else value
            for name, value in document.items()
        }

    def trace(self, trace: TargetTrace) -> TargetTrace:
        """The same trace with the hidden values in their place."""
        hidden = self._only_in_hidden_fields(trace)
        return msgspec.structs.replace(
            trace,
            conditions=[self._condition(condition, "", hidden) for condition in trace.conditions],
            scope=None if trace.scope is None else self._field(trace.scope, ""),
            fields=[self._field(field, "") for field in trace.fields],
            lines=[self._lines(lines, hidden) for lines in trace.lines],
        )

    def _lines(self, lines: LinesTrace, hidden: AbstractSet[str]) -> LinesTrace:
        return msgspec.structs.replace(
            lines, lines=[self._line(line, lines.each, hidden) for line in lines.lines]
        )

    def _line(self, line: LineTrace, each: str, hidden: AbstractSet[str]) -> LineTrace:
        return msgspec.structs.replace(
            line,
            when=None if line.when is None else self._condition(line.when, each, hidden),
            fields=[self._field(field, each) for field in line.fields],
        )

    def _condition(self, condition: ConditionTrace, each: str, hidden: AbstractSet[str]) -> ConditionTrace:
        return msgspec.structs.replace(condition, inputs=self._inputs(condition.inputs, each, hidden))

    def _only_in_hidden_fields(self, trace: TargetTrace) -> frozenset[str]:
        """Source fields that a field whose value is hidden is made of, and no field whose value is shown.

        A condition would tell what the field does not.
        """
        read: dict[bool, set[str]] = {True: set(), False: set()}
        placed = [("", [*([trace.scope] if trace.scope is not None else []), *trace.fields])]
        placed += [(lines.each, line.fields) for lines in trace.lines for line in lines.lines]
        for each, fields in placed:
            for field in fields:
                hidden = self._level_of(field, each) >= self._hidden
                read[hidden].update(_placed(name, each) for name in field.inputs)
        return frozenset(read[True] - read[False])

    def _field(self, field: FieldTrace, each: str) -> FieldTrace:
        level = self._level_of(field, each)
        if level < self._hidden:
            return field
        # What it is made of would tell what it is, personal by its own schema or not.
        masked = msgspec.structs.replace(
            field, inputs={name: self._mask(value) for name, value in field.inputs.items()}
        )
        masked.value = self._mask(field.value)
        masked.steps = [Step(step.word, self._mask(step.value)) for step in field.steps]
        masked.links = [
            msgspec.structs.replace(link, value=MASK, id=self._mask(link.id)) for link in field.links
        ]
        masked.entries = [
            UsedEntry(table=each.table, key=MASK, found=each.found, entry=self._mask(each.entry))
            for each in field.entries
        ]
        if level == _ORDER["secret"]:
            masked.says = MASK  # a constant may stand in the rule
        return masked

    def _inputs(self, inputs: Mapping[str, Value], each: str, hidden: AbstractSet[str]) -> dict[str, Value]:
        return {
            name: self._mask(value)
            if self._source.get(_placed(name, each), 0) >= self._hidden or _placed(name, each) in hidden
            else value
            for name, value in inputs.items()
        }

    def _mask(self, value: Value) -> Value:
        """Null says that there is nothing, and stays."""
        if value is None:
            return None
        self.applied = True
        return MASK

    def _level_of(self, field: FieldTrace, each: str) -> int:
        return self._level(field.field, (_placed(name, each) for name in field.inputs))

    def _level(self, field: str, sources: Iterable[str]) -> int:
        return max((self._target.get(field, 0), *(self._source.get(name, 0) for name in sources)))


def _placed(name: str, each: str) -> str:
    """The name of an input as the schema knows it: a line's field with the lines it stands in."""
    if name.startswith("$parent."):
        return name.removeprefix("$parent.")
    return f"{each}.{name}" if each and not name.startswith("$") else name


def _levels(schema: EntitySchema) -> dict[str, int]:
    """Field -> how sensitive it is, fields of lines by lines.field; lines are as sensitive as what they hold."""
    levels: dict[str, int] = {}
    for field in schema.fields:
        levels[field.name] = _deepest(field)
        for inner in field.fields:
            levels[f"{field.name}.{inner.name}"] = max(_ORDER[field.sensitivity], _deepest(inner))
    return levels


def _deepest(field: FieldSchema) -> int:
    return max((_ORDER[field.sensitivity], *map(_deepest, field.fields)))


__all__ = ["MASK", "Masking"]
