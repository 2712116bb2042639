"""Schema drift: what a change of a system's schema means for the rules that use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ipaas_resources.core.schema import EntitySchema
from mappings.compiler import CompiledTarget
from mappings.impact.schema_changes import schema_changes, schema_renames


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """The difference between two snapshots of one entity."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()  # "name: text(100) -> text(50)"
    #: What removed fields have probably become, in words; a proposal for people.
    renames: Mapping[str, str] = {}

    @property
    def breaking(self) -> bool:
        """True when something that was there is gone or different."""
        return bool(self.removed or self.changed)

    def hint(self, name: str) -> str:
        """What a field has probably become, to follow its name; '' where nobody can tell."""
        return f", {self.renames[name]}" if name in self.renames else ""


#: Changes of a field that a rule which uses it can meet.
_DIFFERENT: Final = frozenset(
    {"retyped", "shortened", "lengthened", "members_gone", "members_new", "read_only", "not_creatable"}
)


def drift(before: EntitySchema, after: EntitySchema) -> Drift:
    """What changed between two snapshots, by field name; fields of lines are not looked at."""
    changes = [change for change in schema_changes(before, after) if "." not in change.field]
    return Drift(
        added=tuple(change.field for change in changes if change.kind == "added"),
        removed=tuple(change.field for change in changes if change.kind == "removed"),
        changed=tuple(
            f"{change.field}: {change.before} -> {change.after}"
            for change in changes
            if change.kind in _DIFFERENT
        ),
        renames={rename.field: str(rename) for rename in schema_renames(before, after)},
    )


def broken_reason(target: CompiledTarget, source: EntitySchema, into: EntitySchema) -> str | None:
    """Why nothing may be written by this target's rules now, None when every field they use is there."""
    there = set(source.names())
    for field, sources in target.lineage.items():
        for name in sources:
            if name.split(".")[0] not in there and not name.startswith("$"):
                return (
                    f"Rule {field!r} reads the field {name!r}, which {source.entity} no longer has. "
                    "Change the rule and apply the flow, then replay."
                )
    known = set(into.names())
    for field in target.fields:
        if field.split(".")[0] not in known:
            return (
                f"Rule {field!r} writes a field that {into.entity} no longer has. "
                "Change the rule and apply the flow, then replay."
            )
    return None
