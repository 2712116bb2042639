"""What changed between two versions of a flow or a lookup table: one entry per rule, word or table row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.core.values import Value, encode
from mappings.faults import FlowErrors, Path, dotted
from mappings.lookup_tables import read_table
from mappings.texts import without_mark
from mappings.yaml_text import Yaml, plain, read_document

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["added", "changed", "removed"]

_OPERATIONS: Final[dict[str, Kind]] = {"add": "added", "replace": "changed", "remove": "removed"}
_LONGEST: Final = 200  # characters of a value in a sentence


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that differs. `path` is the place in the document, for a table the key of the row."""

    op: Literal["add", "replace", "remove"]
    path: tuple[str | int, ...]
    before: Value = None
    after: Value = None

    @property
    def is_rule(self) -> bool:
        """True for the rule of a target field or line field."""
        return _is_rule(self.path)

    def __str__(self) -> str:
        """One line: what became of what."""
        place = dotted(self.path)
        if not place:
            return "the text differs; one of the two cannot be read rule by rule"
        if self.op == "add":
            return f"{place}: added {_shown(self.after)}"
        if self.op == "remove":
            return f"{place}: removed, was {_shown(self.before)}"
        return f"{place}: {_shown(self.before)} -> {_shown(self.after)}"

    def to_json(self) -> dict[str, Any]:
        """The stored form."""
        found: dict[str, Any] = {"op": self.op, "path": list(self.path)}
        if self.op != "add":
            found["before"] = self.before
        if self.op != "remove":
            found["after"] = self.after
        return found


def flow_changes(before: str, after: str) -> list[Change]:
    """What differs between two texts of a flow, '' for none. Comments and layout are no difference.

    A text that this version of the platform cannot read is one change of the whole.
    """
    try:
        old, new = _flow_values(before), _flow_values(after)
    except FlowErrors:
        return [] if before == after else [Change(op="replace", path=())]
    return list(_changes((), old, new))


def table_changes(before: str, after: str) -> list[Change]:
    """What differs between two texts of a lookup table, '' for none; by row."""
    try:
        old = read_table(before, name="before") if before else {}
        new = read_table(after, name="after") if after else {}
    except (ConfigurationError, FlowErrors):
        return [] if before == after else [Change(op="replace", path=())]
    return list(_row_changes(old, new))


def counted(changes: list[Change]) -> dict[Kind, int]:
    """How many rules (or rows) were added, changed and removed."""
    counts: dict[Kind, int] = {"added": 0, "changed": 0, "removed": 0}
    for change in changes:
        counts[_OPERATIONS[change.op]] += 1
    return counts


def _flow_values(text: str) -> Yaml:
    if not text:
        return {}
    document = read_document(without_mark(text), "the flow")
    return plain(document.data)


def _changes(path: Path, old: Yaml, new: Yaml) -> Iterator[Change]:
    if _same(old, new):
        return
    if isinstance(old, dict) and isinstance(new, dict) and not _is_rule(path):
        for name in [*old, *(name for name in new if name not in old)]:
            inner = (*path, name)
            if name not in new:
                yield from _whole("remove", inner, old[name])
            elif name not in old:
                yield from _whole("add", inner, new[name])
            else:
                yield from _changes(inner, old[name], new[name])
        return
    yield Change(op="replace", path=path, before=old, after=new)


def _whole(op: Literal["add", "remove"], path: Path, value: Yaml) -> Iterator[Change]:
    """A part that only one side has: told rule by rule, so that every rule can be counted."""
    if isinstance(value, dict) and value and not _is_rule(path) and path[0] == "targets":
        for name, inner in value.items():
            yield from _whole(op, (*path, name), inner)
    elif op == "add":
        yield Change(op="add", path=path, after=value)
    else:
        yield Change(op="remove", path=path, before=value)


def _is_rule(path: Path) -> bool:
    """targets.T.fields.F, targets.T.key.F, targets.T.scope, targets.T.lines.L.fields.F, targets.T.lines.L.key[.F]."""
    match path:
        case ("targets", _, "fields" | "key", _) | ("targets", _, "scope"):
            return True
        case ("targets", _, "lines", _, "fields" | "key", _):
            return True
        case _:
            return False


def _row_changes(old: dict[str, Value], new: dict[str, Value]) -> Iterator[Change]:
    for key in [*old, *(key for key in new if key not in old)]:
        if key not in new:
            yield Change(op="remove", path=(key,), before=old[key])
        elif key not in old:
            yield Change(op="add", path=(key,), after=new[key])
        elif not _same(old[key], new[key]):
            yield Change(op="replace", path=(key,), before=old[key], after=new[key])


def _same(old: Yaml, new: Yaml) -> bool:
    # As bytes: true is not 1, and "1" is not 1.
    return old is new or encode(old) == encode(new)


def _shown(value: Value) -> str:
    text = encode(value).decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
