"""Schema drift: what a change of a system's schema means for the rules that use it."""

from __future__ import annotations

import msgspec

from ipaas_resources.core.schema import EntitySchema
from mappings.compiler import CompiledTarget


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """The difference between two snapshots of one entity."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()  # "name: text(100) -> text(50)"

    @property
    def breaking(self) -> bool:
        """True when something that was there is gone or different."""
        return bool(self.removed or self.changed)


def drift(before: EntitySchema, after: EntitySchema) -> Drift:
    """What changed between two snapshots, by field name."""
    old = {field.name: field for field in before.fields}
    new = {field.name: field for field in after.fields}
    changed = []
    for name in sorted(old.keys() & new.keys()):
        was, now = old[name], new[name]
        if (was.type, was.max_length, was.enum) != (now.type, now.max_length, now.enum):
            changed.append(f"{name}: {_describe(was)} -> {_describe(now)}")
    return Drift(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(changed),
    )


def _describe(field: object) -> str:
    kind = getattr(field, "type", "")
    length = getattr(field, "max_length", None)
    return f"{kind}({length})" if length else str(kind)


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
