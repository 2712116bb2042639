"""What is otherwise between two schemas of one entity, and which fields were probably renamed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Literal

import msgspec

from mappings.impact.renames import Rename, Samples, propose
from mappings.tracing.traced import described

if TYPE_CHECKING:
    from ipaas_resources.core.schema import EntitySchema, FieldSchema

ChangeKind = Literal[
    "removed", "added", "retyped", "shortened", "lengthened", "members_gone", "members_new", "less_precise", "range",
    "read_only", "not_creatable", "required", "not_nullable", "nullable", "references", "loosened", "sensitivity",
]  # fmt: skip


class FieldChange(msgspec.Struct, frozen=True, order=True):
    """One thing that is otherwise about one field; of lines: lines.field."""

    field: str
    kind: ChangeKind
    before: str = ""
    after: str = ""
    members: tuple[str | int, ...] = ()  # of an enum: those that are gone, or new

    def __str__(self) -> str:
        """One line for people."""
        if self.kind in ("removed", "added"):
            return f"{self.field}: {self.kind} ({self.before or self.after})"
        return f"{self.field}: {self.kind.replace('_', ' ')}, {self.before} -> {self.after}"


def schema_changes(before: EntitySchema, after: EntitySchema) -> list[FieldChange]:
    """What is otherwise between two schemas of an entity, field by field, fields of lines included."""
    return sorted(_field_changes("", before.fields, after.fields))


def schema_renames(
    before: EntitySchema, after: EntitySchema, *, was: Samples | None = None, now: Samples | None = None
) -> list[Rename]:
    """What fields that are gone have probably become, those of lines among their lines; see renames.propose.

    `was` and `now` are samples of values as they were and as they are: field -> record id -> value.
    """
    found = list(_renames(before.fields, after.fields, was, now).values())
    for old in before.fields:
        new = after.field(old.name)
        if new is not None and old.fields and new.fields:
            inner = _renames(old.fields, new.fields, None, None)
            found += [_in_lines(old.name, rename) for rename in inner.values()]
    return found


def _renames(
    old: Collection[FieldSchema], new: Collection[FieldSchema], was: Samples | None, now: Samples | None
) -> dict[str, Rename]:
    names = {field.name for field in old}, {field.name for field in new}
    removed = [field for field in old if field.name not in names[1]]
    added = [field for field in new if field.name not in names[0]]
    return propose(removed, added, before=was, after=now)


def _in_lines(lines: str, rename: Rename) -> Rename:
    return msgspec.structs.replace(
        rename,
        field=f"{lines}.{rename.field}",
        candidates=tuple(
            msgspec.structs.replace(each, field=f"{lines}.{each.field}") for each in rename.candidates
        ),
        rivals=tuple(f"{lines}.{each}" for each in rename.rivals),
    )


def _field_changes(
    prefix: str, before: Collection[FieldSchema], after: Collection[FieldSchema]
) -> Iterator[FieldChange]:
    old, new = ({field.name: field for field in fields} for fields in (before, after))
    for name in old.keys() - new.keys():
        yield FieldChange(prefix + name, "removed", before=described(old[name]))
    for name in new.keys() - old.keys():
        yield FieldChange(prefix + name, "added", after=described(new[name]))
        if new[name].required and new[name].creatable:
            yield FieldChange(prefix + name, "required", "not there", "required")
    for name in old.keys() & new.keys():
        yield from _changes_of(prefix + name, old[name], new[name])
        # Lines whose fields nobody told before, or tells no longer, are not all new or all gone.
        if old[name].fields and new[name].fields:
            yield from _field_changes(f"{prefix}{name}.", old[name].fields, new[name].fields)


def _changes_of(name: str, old: FieldSchema, new: FieldSchema) -> Iterator[FieldChange]:
    if old.type != new.type:
        yield FieldChange(name, "retyped", described(old), described(new))
    elif old.max_length != new.max_length:
        shorter = new.max_length is not None and (old.max_length is None or new.max_length < old.max_length)
        yield FieldChange(name, "shortened" if shorter else "lengthened", described(old), described(new))
    if old.enum != new.enum and new.enum is not None:
        gone = tuple(each for each in old.enum or () if each not in new.enum)
        fresh = tuple(each for each in new.enum if each not in old.enum) if old.enum is not None else ()
        if gone or old.enum is None:
            lost = ", ".join(map(str, gone)) or "any value"
            yield FieldChange(name, "members_gone", lost, "only those of its list", gone)
        if fresh:
            yield FieldChange(name, "members_new", "not among its values", ", ".join(map(str, fresh)), fresh)
    elif old.enum is not None and new.enum is None:
        yield FieldChange(name, "loosened", "only those of its list", "any value")
    yield from _limits(name, old, new)
    yield from _rights(name, old, new)
    if old.sensitivity != new.sensitivity:
        yield FieldChange(name, "sensitivity", old.sensitivity, new.sensitivity)


def _limits(name: str, old: FieldSchema, new: FieldSchema) -> Iterator[FieldChange]:
    if old.type == new.type and old.scale != new.scale:
        less = new.scale is not None and (old.scale is None or new.scale < old.scale)
        yield FieldChange(name, "less_precise" if less else "loosened", _digits(old), _digits(new))
    if (old.minimum, old.maximum) != (new.minimum, new.maximum):
        narrower = (new.minimum is not None and (old.minimum is None or new.minimum > old.minimum)) or (
            new.maximum is not None and (old.maximum is None or new.maximum < old.maximum)
        )
        yield FieldChange(name, "range" if narrower else "loosened", _range(old), _range(new))
    lost = [target for target in old.targets if target not in new.targets]
    if lost and new.targets:
        yield FieldChange(name, "references", ", ".join(lost), ", ".join(new.targets))


def _rights(name: str, old: FieldSchema, new: FieldSchema) -> Iterator[FieldChange]:
    if new.readonly and not old.readonly:
        yield FieldChange(name, "read_only", "writable", "read-only")
    elif old.creatable and not new.creatable:
        yield FieldChange(name, "not_creatable", "set on create", "set on update only")
    elif (new.creatable and not old.creatable) or (old.readonly and not new.readonly):
        yield FieldChange(name, "loosened", "not writable", "writable")
    if new.required and not old.required:
        yield FieldChange(name, "required", "optional", "required")
    elif old.required and not new.required:
        yield FieldChange(name, "loosened", "required", "optional")
    if old.nullable != new.nullable:
        words = ("may be empty", "never empty")
        kind: ChangeKind = "nullable" if new.nullable else "not_nullable"
        yield FieldChange(name, kind, words[not old.nullable], words[not new.nullable])


def _digits(field: FieldSchema) -> str:
    return "any digits" if field.scale is None else f"{field.scale} digits"


def _range(field: FieldSchema) -> str:
    ends = ["any" if end is None else f"{end:g}" for end in (field.minimum, field.maximum)]
    return " to ".join(ends)
