"""A flow with a rule of every kind, a record of it, and its trace in the form of a mapped record."""

from __future__ import annotations

import functools
from typing import Any

from ipaas_resources.core.records import file_ref
from mappings.compiler import CompiledFlow, compile_flow
from mappings.load import load_flow
from mappings.mapped import LinkHit
from mappings.spec import Flow
from mappings.tracing.trace import trace_target
from mappings.tracing.traced import FieldTrace, TargetTrace
from tests.mappings.making import Answers

RICH = """
flow: orders_to_sales
source: {system: cal, entity: orders}
when: state != "draft"
targets:
  order:
    system: bc
    entity: sales
    scope: {ref: clients.client, of: client}
    when: not hidden
    key: {number: {template: "{$scope}-{number}"}}
    fields:
      name: name
      share: {math: "total / parts"}
      unit: {lookup: units, of: {python: "upper(strip(unit))"}, missing: flag}
      level: {lookup: levels, of: unit, missing: null}
      limit: {lookup: levels, of: unit, missing: {default: 7}}
      large: {if: "total > 100", then: {template: "large {name}"}, else: {if: "total > 10", then: name}}
      day: {date: day, to: "%d.%m.%Y", tz: Europe/Berlin}
      client: {ref: clients.client, of: client}
      group: {ref: clients.client, of: group, as: number}
      scan: scan
      nothing: {const: null}
    lines:
      rows:
        each: items
        key: {position: {math: "position * 10"}}
        when: amount > 0
        on_missing: delete
        fields:
          amount: amount
          price: {math: "price / amount"}
          unit: {lookup: units, of: unit, missing: flag}
          order: $parent.number
          item: {ref: items_to_items.item, of: item}
"""
ANSWERS = {
    "links": {
        ("clients.client", "1"): LinkHit("de", "c1"),
        ("clients.client", "2"): LinkHit("fr", "22"),
        ("items_to_items.item", "1"): "i1",
    },
    "tables": {"units": {"PCS": "each", "H": "hour"}, "levels": {"pcs": 1, "H": 2}},
}


@functools.cache
def rich() -> Flow:
    return load_flow(RICH, name="rich.yaml")


RECORD: dict[str, Any] = {
    "number": "7",
    "name": "Lab",
    "state": "open",
    "hidden": False,
    "total": 50,
    "parts": 4,
    "unit": " pcs ",
    "day": "2026-06-30",
    "client": 1,
    "group": 2,
    "scan": {"$file": {"id": "f1", "name": "a.pdf"}},
    "items": [
        {"position": 1, "amount": 2, "price": 5, "unit": "PCS", "item": 1},
        {"position": 2, "amount": 0, "price": 5, "unit": "??", "item": 1},
    ],
}


def traced(document: dict[str, Any], flow: Flow | None = None, **options: Any) -> TargetTrace:
    flow = flow or rich()
    (name,) = flow.targets
    settings = {"scope": "de", "record": "r1", "resolver": Answers(**ANSWERS), **options}
    return trace_target(flow, name, document, **settings)


def fields(trace: TargetTrace) -> dict[str, FieldTrace]:
    return {field.field: field for field in trace.fields}


def problems(field: FieldTrace) -> list[tuple[str, str]]:
    return [(problem.kind, problem.message) for problem in field.problems]


def image(trace: TargetTrace) -> dict[str, Any]:
    """The trace in the form of a mapped record."""
    written = {field.field: field.value for field in trace.fields if field.has_value}
    return {
        "values": {name: value for name, value in written.items() if file_ref(value) is None},
        "files": {name: value for name, value in written.items() if file_ref(value) is not None},
        "scope": trace.scope.value if trace.scope and trace.scope.has_value else None,
        "lines": {
            lines.field: [
                {field.field.partition(".")[2]: field.value for field in line.fields if field.has_value}
                for line in lines.lines
                if line.is_made
            ]
            for lines in trace.lines
        },
        "unresolved": sorted(field.field for field in trace.every_field() if "unresolved" in kinds(field)),
        "flags": sorted(field.field for field in trace.every_field() if "flag" in kinds(field)),
    }


def kinds(field: FieldTrace) -> set[str]:
    return {problem.kind for problem in field.problems}


@functools.cache
def compiled_rich() -> CompiledFlow:
    return compile_flow(rich())


def run_image(document: dict[str, Any], scope: str, record: str) -> dict[str, Any]:
    """What the compiled target makes, in the same form."""
    (target,) = compiled_rich().targets.values()
    mapped = target.map(document, scope, record, Answers(**ANSWERS))
    return {
        "values": mapped.values,
        "files": {name: file.to_value() for name, file in mapped.files.items()},
        "scope": mapped.scope,
        "lines": {name: [line.values for line in lines] for name, lines in mapped.lines.items()},
        "unresolved": sorted(each.field for each in mapped.unresolved),
        "flags": sorted(flag.field for flag in mapped.flags),
    }
