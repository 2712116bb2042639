"""Small flows for tests: one rule, one expression, one resolver."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

from mappings.compiler import CompiledTarget, compile_flow
from mappings.load import load_flow
from mappings.mapped import MISSING, LinkHit, Mapped, RefUse
from mappings.spec import Flow

HEAD = """\
flow: customers_to_accounts
source: {system: bc, entity: customers}
targets:
  account:
    system: crm
    entity: accounts
    key: {accountnumber: number}
"""


class Answers:
    """A resolver that knows what a test tells it, and remembers what it was asked."""

    def __init__(
        self,
        links: Mapping[tuple[str, str], str | LinkHit] | None = None,
        tables: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.links = dict(links or {})
        self.tables = tables or {}
        self.asked: list[tuple[RefUse, str]] = []

    def link(self, ref: RefUse, value: str) -> LinkHit | None:
        self.asked.append((ref, value))
        hit = self.links.get((f"{ref.flow}.{ref.target}", value))
        return LinkHit("", hit) if isinstance(hit, str) else hit

    def lookup(self, table: str, key: str) -> Any:
        return self.tables.get(table, {}).get(key, MISSING)


def load(fields: str = "", *, more: str = "", name: str = "flow.yaml") -> Flow:
    """A flow whose one target has these fields (indented YAML lines without the first six spaces)."""
    text = HEAD
    if fields:
        text += "    fields:\n" + "".join(f"      {line}\n" for line in fields.splitlines())
    return load_flow(text + more, name=name)


@functools.lru_cache(maxsize=64)
def target(fields: str = "", *, more: str = "") -> CompiledTarget:
    # Kept, for property tests ask for one target hundreds of times; a compiled target holds no state.
    return compile_flow(load(fields, more=more)).targets["account"]


def mapped(
    fields: str,
    record: dict[str, Any],
    *,
    answers: Answers | None = None,
    more: str = "",
    scope: str = "",
    record_id: str = "1",
) -> Mapped:
    return target(fields, more=more).map(record, scope, record_id, answers or Answers())


def value(rule: str, record: dict[str, Any] | None = None, **context: Any) -> Any:
    """What one rule, written as YAML on one line, makes of a record."""
    return mapped(f"x: {rule}", record or {}, **context).values["x"]


def outcome(kind: type[Exception], call: Callable[[], Any]) -> tuple[Any, Any]:
    """(result, None), or (None, the error) for an error of this kind; any other error is the test's failure."""
    try:
        return call(), None
    except kind as error:
        return None, error


def quoted(text: str) -> str:
    """A YAML scalar in double quotes."""
    return json.dumps(text)


def evaluate(expression: str, record: dict[str, Any] | None = None, **context: Any) -> Any:
    """The value of an expression of the language."""
    return value(f"{{python: {quoted(expression)}}}", record, **context)
