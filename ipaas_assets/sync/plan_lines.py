"""The plan of a document's lines: pure, like the plan of its header."""

from __future__ import annotations

from typing import Any

from ipaas_assets.sync.model import TargetWork
from ipaas_resources.core.errors import ReviewNeededError
from ipaas_resources.core.records import Found, LineWrites
from ipaas_resources.core.values import Document
from ipaas_resources.store.queue import Link
from mappings.mapped import LineImage

ABSENT = object()
"""Stands for a field that nobody has set, which is not the same as one set to null."""


def line_writes(
    work: TargetWork, wanted: dict[str, list[LineImage]], link: Link, target: Found | None
) -> tuple[dict[str, LineWrites], dict[str, Any], ReviewNeededError | None]:
    """Per lines field: what to create, update and delete, and the images the link keeps."""
    writes: dict[str, LineWrites] = {}
    images: dict[str, Any] = {}
    for name, lines in wanted.items():
        known = _known_lines(work, name, link, target)
        keep: dict[str, Any] = {}
        todo = LineWrites(create=[], update=[], delete=[])
        for line in lines:
            key = str(line.key)
            line_id, before = known.pop(key, (None, {}))
            if line_id is None:
                todo.create.append(line.values)
                keep[key] = [None, line.values]
                continue
            changed = {
                field: value for field, value in line.values.items() if before.get(field, ABSENT) != value
            }
            if changed:
                todo.update.append((line_id, None, changed))
            keep[key] = [line_id, line.values]
        policy = work.target.line_policies.get(name, "delete")
        for key, (line_id, before) in known.items():
            if policy == "review" and key in link.lines.get(name, {}):
                error = ReviewNeededError(
                    f"A line of {name!r} is no longer in the source. Delete it in the target or keep it, then replay.",
                    code="line_missing",
                )
                return {}, {}, error
            if key not in link.lines.get(name, {}):
                continue  # somebody added it in the target: not ours to judge
            if policy == "delete" and line_id is not None:
                todo.delete.append((line_id, None))
            else:
                keep[key] = [line_id, before]
        images[name] = keep
        if todo.create or todo.update or todo.delete:
            writes[name] = todo
    return writes, images, None


def _known_lines(
    work: TargetWork, name: str, link: Link, target: Found | None
) -> dict[str, tuple[str | None, Document]]:
    if target is None or name not in target.document:
        return {key: (line_id, values) for key, (line_id, values) in link.lines.get(name, {}).items()}
    owned = work.target.line_fields[name]
    return {
        # What the target holds counts; fields that no rule makes are not looked at.
        key: (line["$id"], {field: line.get(field) for field in owned})
        for key, line in lines_by_key(work, name, target.document).items()
    }


def lines_by_key(work: TargetWork, name: str, document: Document) -> dict[str, Document]:
    """The lines of a target document by our line key, each with its line id under `$id`."""
    key_field = work.target.line_keys[name]
    schema = work.schema.field(name)
    id_field = "id"
    if schema is not None and not any(field.name == "id" for field in schema.fields) and schema.line_key:
        id_field = schema.line_key
    result: dict[str, Document] = {}
    for line in document.get(name) or []:
        if line.get(key_field) is not None:
            result[str(line[key_field])] = {**line, "$id": str(line.get(id_field))}
    return result
