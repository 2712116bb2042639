"""Runs the examples of a flow: what goes in, and what must come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.values import Value, encode
from mappings.compiler import CompiledTarget, compile_flow
from mappings.faults import dotted
from mappings.mapped import MISSING, LineImage, LinkHit, Mapped, Missing, RefUse

if TYPE_CHECKING:
    from mappings.spec import Example, Flow

Lookups = Mapping[str, Mapping[str, Value]]


class ExampleFailure(msgspec.Struct, frozen=True):
    """One example whose outcome is not the one it states."""

    flow: str
    example: int  # 0-based
    title: str
    target: str
    differences: tuple[str, ...]
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        """The place, then one line per difference."""
        place = f"{self.file}:{self.line}: " if self.file else ""
        name = f" ({self.title})" if self.title else ""
        listing = "\n".join(f"  {difference}" for difference in self.differences)
        return f"{place}example {self.example + 1}{name} of {self.flow}, target {self.target}:\n{listing}"


class _ExampleResolver:
    """Links and lookups as the example states them."""

    def __init__(self, example: Example, lookups: Lookups) -> None:
        self._links = example.links
        self._lookups = {**lookups, **example.lookups}

    def link(self, ref: RefUse, value: str) -> LinkHit | None:
        far = self._links.get(f"{ref.flow}.{ref.target}", {}).get(value)
        if far is None:
            return None
        return LinkHit("", far) if isinstance(far, str) else LinkHit(far.get("scope", ""), far.get("id", ""))

    def lookup(self, table: str, key: str) -> Value | Missing:
        return self._lookups.get(table, {}).get(key, MISSING)


def run_examples(flow: Flow, lookups: Lookups | None = None) -> list[ExampleFailure]:
    """Run every example; the failures, [] when all hold.

    `lookups` are the tables that the flow uses, by name; an example's own tables stand in front of them.
    Differences show values: examples are made up, they hold nobody's data.
    """
    compiled = compile_flow(flow)
    failures = []
    for number, example in enumerate(flow.examples):
        resolver = _ExampleResolver(example, lookups or {})
        for name in [*example.out, *(set(example.flagged) | set(example.unresolved)) - set(example.out)]:
            target = compiled.targets.get(name)
            if target is None:
                valid = ", ".join(compiled.targets)
                differences = [f"the flow has no target {name!r}. Valid: {valid}"]
            else:
                differences = _differences(target, example, resolver)
            if differences:
                file, line = flow.place(("examples", number))
                failures.append(
                    ExampleFailure(flow.flow, number, example.title, name, tuple(differences), file, line)
                )
    return failures


def _differences(target: CompiledTarget, example: Example, resolver: _ExampleResolver) -> list[str]:
    expected = example.out.get(target.name, {})
    try:
        passes = target.when(example.record, example.scope)
        mapped = target.map(example.record, example.scope, example.id, resolver) if passes else None
    except MappingError as error:
        return [error.message]
    if expected is None:
        return ["the record passes `when`; the example expects that it is filtered"] if mapped else []
    if mapped is None:
        return ["the record is filtered by `when`"]
    differences = []
    for field, value in expected.items():
        differences += _field_differences(target, mapped, field, value)
    flagged = {flag.field for flag in mapped.flags}
    differences += _set_differences("flagged", flagged, example.flagged.get(target.name, []))
    unresolved = {each.field for each in mapped.unresolved}
    differences += _set_differences("unresolved", unresolved, example.unresolved.get(target.name, []))
    return differences


def _field_differences(target: CompiledTarget, mapped: Mapped, field: str, expected: Value) -> list[str]:
    if field == "$scope":
        return _value_differences((field,), mapped.scope, expected)
    if field in mapped.lines:
        return _line_differences(field, mapped.lines[field], expected)
    if field in mapped.files:
        return _value_differences((field,), mapped.files[field].to_value(), expected)
    if field in mapped.values:
        return _value_differences((field,), mapped.values[field], expected)
    if field in target.fields:
        return [f"{field}: expected {_shown(expected)}, but the field is left out"]
    return [f"{field}: no rule makes this field. Valid: {', '.join((*target.fields, *target.line_fields))}"]


def _line_differences(field: str, images: list[LineImage], expected: Value) -> list[str]:
    if not isinstance(expected, list):
        return [f"{field}: a list of lines is expected here"]
    if len(expected) != len(images):
        return [f"{field}: expected {len(expected)} lines, got {len(images)}"]
    differences = []
    for number, (image, line) in enumerate(zip(images, expected, strict=True)):
        for inner, value in line.items():
            if inner in image.values:
                differences += _value_differences((field, number, inner), image.values[inner], value)
            else:
                path = dotted((field, number, inner))
                differences.append(
                    f"{path}: expected {_shown(value)}, but the field is left out or has no rule"
                )
    return differences


def _value_differences(path: tuple[str | int, ...], got: Value, expected: Value) -> list[str]:
    # As bytes: true is not 1, and "1" is not 1.
    if encode(got) == encode(expected):
        return []
    return [f"{dotted(path)}: expected {_shown(expected)}, got {_shown(got)}"]


def _set_differences(word: str, got: set[str], expected: list[str]) -> list[str]:
    unexpected, absent = sorted(got - set(expected)), sorted(set(expected) - got)
    return [
        *(f"{field}: is {word}; list it under {word}: if that is meant" for field in unexpected),
        *(f"{field}: is not {word}" for field in absent),
    ]


def _shown(value: Value) -> str:
    return encode(value).decode()
