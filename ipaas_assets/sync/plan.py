"""The plan: pure. From documents, link and rules to one decision per item.

The dry run, the sandbox and the real run call the same function. It sends nothing, reads nothing, and knows no time.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from ipaas_assets.sync.model import Decision, OutcomeName, TargetWork
from ipaas_assets.sync.plan_lines import ABSENT, line_writes
from ipaas_resources.core.errors import (
    AmbiguousMatchError,
    MappingError,
    RecordError,
    ReviewNeededError,
    UnresolvedReferenceError,
)
from ipaas_resources.core.ids import derived_guid
from ipaas_resources.core.records import FileRef, Found, LineWrites, Operation, OperationKind
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.core.values import Document, encode_canonical
from ipaas_resources.store.queue import Claimed, Link
from mappings.mapped import Mapped, Unresolved

MASK = "***"


class Seen(msgspec.Struct, kw_only=True):
    """What was looked up in the target before planning; None where nothing was looked up."""

    #: Records that carry the item's key (first contact).
    hits: list[Found] | None = None
    #: The linked record was read: `record` None means it is gone.
    read: bool = False
    record: Found | None = None


def key_text(key: Document) -> str:
    """One text per natural key, as two writers would call it the same: letters compared without case."""
    return encode_canonical(list(key.values())).decode().casefold()


def needs_first_contact(link: Link | None) -> bool:
    """True when the target must be searched by key before this record may be created.

    A reserved link of a `client_key` entity is looked up by its derived id as well, see `lookup.py`.
    """
    return link is None or link.state in {"deleted", "reserved"}


def decide(work: TargetWork, item: Claimed, mapped: Mapped | RecordError | None, seen: Seen) -> Decision:
    """What to do with one item.

    `mapped` is None when the record is deleted or does not meet `when`: then the delete or leave policy speaks.
    """
    link = item.link
    linked = link is not None and link.state in {"linked", "deactivated"}
    if work.broken is not None:
        return _review(ReviewNeededError(work.broken, code="schema_drift"))
    if isinstance(mapped, RecordError):
        return Decision(outcome=OutcomeName.DEAD, error=mapped)
    if mapped is None:
        return _gone(work, item, link, seen)
    flagged = _flagged(work, mapped)
    if flagged is not None and any(_needed(work, mapped, flag.field) for flag in mapped.flags):
        return _review(flagged)
    blocked = _blocking_reference(work, mapped)
    if blocked is not None:
        return blocked
    decision = _write(work, item, mapped, seen, linked=linked)
    if flagged is None or decision.outcome in {OutcomeName.REVIEW, OutcomeName.DEAD}:
        return decision
    if decision.outcome is OutcomeName.NO_CHANGE:
        return _review(flagged)  # nothing to write, and still something to ask
    decision.ask = flagged
    return decision


def _write(work: TargetWork, item: Claimed, mapped: Mapped, seen: Seen, *, linked: bool) -> Decision:
    link = item.link
    scope = mapped.scope if mapped.scope is not None else (link.target_scope if link is not None else "")
    if linked:
        assert link is not None
        if link.target_scope != scope:
            return _review(
                ReviewNeededError(
                    f"The record now belongs to scope {scope!r} of {work.system.name}, but its target record is in "
                    f"{link.target_scope!r}. Move or unlink it, then replay.",
                    code="scope_changed",
                )
            )
        if seen.read and seen.record is None:
            return _review(
                ReviewNeededError(
                    f"The target record is no longer in {work.system.name}. Decide whether to unlink it, then replay.",
                    code="target_gone",
                )
            )
        return _update(work, item, mapped, link, scope, seen.record)
    return _first_write(work, item, mapped, link, scope, seen)


def _flagged(work: TargetWork, mapped: Mapped) -> ReviewNeededError | None:
    """What a person is asked about fields that were left out."""
    if not mapped.flags:
        return None
    said = "; ".join(f"field {flag.field!r}: {flag.reason}" for flag in mapped.flags)
    return ReviewNeededError(f"{work.name} was left without a value, {said}.", code="flagged")


def _review(error: ReviewNeededError | AmbiguousMatchError) -> Decision:
    return Decision(outcome=OutcomeName.REVIEW, error=error)


def _waits(unresolved: Unresolved) -> str:
    return f"{unresolved.ref.flow}.{unresolved.ref.target}"


def _blocking_reference(work: TargetWork, mapped: Mapped) -> Decision | None:
    """A missing reference parks the item only where the write cannot do without it."""
    for missing in mapped.unresolved:
        if _needed(work, mapped, missing.field):
            error = UnresolvedReferenceError(
                f"Field {missing.field!r} of {work.name} refers to a record that {_waits(missing)} has not linked yet; "
                "it is tried again when the link appears.",
                field=missing.field,
            )
            return Decision(outcome=OutcomeName.PARKED, error=error, keep_parked=missing)
    return None


def _needed(work: TargetWork, mapped: Mapped, name: str) -> bool:
    """True when the record cannot be written without this field; lines are written whole or not at all."""
    field = work.schema.field(name)
    return name == "$scope" or name in mapped.key or "." in name or (field is not None and field.required)


# --- first write ------------------------------------------------------------------------------------------------


def _first_write(
    work: TargetWork, item: Claimed, mapped: Mapped, link: Link | None, scope: str, seen: Seen
) -> Decision:
    empty = [name for name, value in mapped.key.items() if value is None or value == ""]
    if empty:
        error = MappingError(
            f"Key field {empty[0]!r} of {work.name} is empty: without it the record cannot be told from others.",
            code="empty_key",
            field=empty[0],
        )
        return Decision(outcome=OutcomeName.DEAD, error=error)
    if link is not None and link.state == "reserved" and seen.record is not None:
        return _adopt(work, item, mapped, scope, seen.record)  # the create of ours that we never heard of
    undecided = link is not None and link.state == "reserved" and item.intent is not None
    old_key = link.target_key if link is not None and undecided else None
    if work.capabilities.create != "client_key" and old_key not in {None, key_text(mapped.key)}:
        return _review(
            ReviewNeededError(
                "An earlier create got no answer, and the key of the record has changed since: look in "
                f"{work.system.name} for the record under its old key, link or delete it, then replay.",
                code="unknown_outcome",
            )
        )
    hits = seen.hits if seen.hits is not None else []
    if len(hits) > 1:
        return _review(
            AmbiguousMatchError(
                f"{len(hits)} records of {work.system.name}/{work.queue.target_entity} carry the key of this record. "
                "Merge them or link one by hand, then replay."
            )
        )
    if hits:
        return _adopt(work, item, mapped, scope, hits[0])
    if undecided and work.capabilities.create == "none":
        return _review(
            ReviewNeededError(
                "An earlier create got no answer and this product offers no way to look: check by hand whether the "
                "record exists.",
                code="unknown_outcome",
            )
        )
    return _create(work, item, mapped, link, scope)


def _create(work: TargetWork, item: Claimed, mapped: Mapped, link: Link | None, scope: str) -> Decision:
    values = _sendable(work, mapped.values, create=True)
    target_id = None
    if work.capabilities.create == "client_key":
        target_id = derived_guid(work.queue.flow, work.queue.target, item.scope, item.record)
    operation = Operation(
        kind=OperationKind.CREATE,
        id=target_id,
        key={name: value for name, value in mapped.key.items() if value is not None},
        fields=values,
        lines={
            name: LineWrites(create=[line.values for line in lines]) for name, lines in mapped.lines.items()
        },
        files=mapped.files,
        progress=link.progress if link is not None and link.state == "reserved" else {},
        repeated=link is not None and link.state == "reserved",
        trace_id=item.trace_id,
    )
    return Decision(
        outcome=OutcomeName.CREATED,
        operation=operation,
        target_scope=scope,
        sent=_sent(work, values, mapped.files),
        lines={
            name: {str(line.key): [None, line.values] for line in lines}
            for name, lines in mapped.lines.items()
        },
        reserve=True,
        key=key_text(mapped.key),
        link_state="linked",
        keep_parked=mapped.unresolved[0] if mapped.unresolved else None,
    )


def _adopt(work: TargetWork, item: Claimed, mapped: Mapped, scope: str, hit: Found) -> Decision:
    """A record with our key is there: link it, then treat it by the conflict policy."""
    base = Link(
        state="linked",
        target_scope=scope,
        target_id=hit.id,
        target_key=None,
        sent={},
        read_back={},
        lines={},
        progress={},
        etag=hit.etag,
    )
    decision = _update(work, item, mapped, base, scope, hit)
    if decision.outcome in {OutcomeName.UPDATED, OutcomeName.NO_CHANGE}:
        decision.outcome = OutcomeName.ADOPTED
    decision.reserve = True
    decision.key = key_text(mapped.key)
    decision.forget_key = False
    decision.link_state = "linked"
    if decision.operation is None:
        # Nothing to send: the operation only carries which record is linked.
        decision.sent = _sent(work, mapped.values, mapped.files)
        decision.operation = Operation(kind=OperationKind.UPDATE, id=hit.id, etag=hit.etag)
    return decision


# --- update -----------------------------------------------------------------------------------------------------


def _update(
    work: TargetWork, item: Claimed, mapped: Mapped, link: Link, scope: str, target: Found | None
) -> Decision:
    values = _sendable(work, mapped.values, create=False)
    before = _current(work, link, target)
    changed = {
        name: value
        for name, value in values.items()
        if not _same(work, name, before.get(name, ABSENT), value) and work.target.owners.get(name) != "target"
    }
    files = {name: file for name, file in mapped.files.items() if not _same_file(link.sent.get(name), file)}
    if link.state == "deactivated":
        changed.update(work.capabilities.reactivate)
    lines, images, review = line_writes(work, mapped.lines, link, target)
    if review is not None:
        return _review(review)
    sent = {**_owned(work, link.sent), **_sent(work, values, mapped.files)}
    parked = mapped.unresolved[0] if mapped.unresolved else None
    if not changed and not files and not lines:
        outcome = OutcomeName.PARKED if parked else OutcomeName.NO_CHANGE
        return Decision(
            outcome=outcome,
            target_scope=scope,
            sent=sent,
            lines=images or None,
            keep_parked=parked,
            link_state=None,
        )
    operation = Operation(
        kind=OperationKind.UPDATE,
        id=link.target_id,
        etag=target.etag if target is not None else link.etag,
        key={name: value for name, value in mapped.key.items() if value is not None},
        fields=changed,
        lines=lines,
        files=files,
        progress=link.progress,
        trace_id=item.trace_id,
    )
    return Decision(
        outcome=OutcomeName.UPDATED,
        operation=operation,
        target_scope=scope,
        sent=sent,
        changes=_diff(work, before, changed, lines),
        lines=images or None,
        forget_key=any(name in changed for name in mapped.key),
        link_state="linked",
        keep_parked=parked,
    )


def _owned(work: TargetWork, sent: Document) -> Document:
    """What the link remembers of fields that a rule makes; a rule that was removed leaves its value to others."""
    if sent.keys() <= frozenset(work.target.fields):
        return sent
    return {name: value for name, value in sent.items() if name in work.target.fields}


def _current(work: TargetWork, link: Link, target: Found | None) -> Document:
    """The target's values as far as we know them, in our own terms.

    Where the target stored another form of what we sent (rounded, trimmed), that form counts as what we sent.
    """
    if target is None:
        return link.sent
    current: Document = {}
    for name in work.target.fields:
        stored = target.document.get(name)
        sent = link.sent.get(name, ABSENT)
        known = link.read_back.get(name, sent)
        if sent is not ABSENT and (stored == known or name not in target.document):
            current[name] = sent
        elif name in target.document:
            current[name] = stored
    return current


def _same(work: TargetWork, name: str, before: object, after: object) -> bool:
    if name in _fields(work.schema).secret:
        return before == _secret_mark(after)
    if before is ABSENT:
        # A field that neither we nor the target ever had a value for: null is what is there already.
        return False
    if type(before) is bool or type(after) is bool:
        return before is after  # True == 1 in Python, not in a field
    return before == after


def _same_file(before: object, after: FileRef) -> bool:
    """A revised certificate keeps its id and gets a new revision: that is a new file."""
    if not isinstance(before, dict):
        return False
    known = before.get("$file", {})
    return (known.get("system", ""), known.get("id"), known.get("revision", "")) == (
        after.system,
        after.id,
        after.revision,
    )


def _sendable(work: TargetWork, values: Document, *, create: bool) -> Document:
    """The values that this kind of write may carry."""
    fields = _fields(work.schema)
    allowed = fields.creatable if create else fields.updatable
    if allowed.issuperset(values):
        return values
    return {name: value for name, value in values.items() if name in allowed}


class _Fields(msgspec.Struct, frozen=True):
    """What a schema allows, as sets: asked for every record."""

    schema: EntitySchema
    creatable: frozenset[str]
    updatable: frozenset[str]
    secret: frozenset[str]


def _fields(schema: EntitySchema) -> _Fields:
    known = _FIELDS.get(id(schema))
    if known is None or known.schema is not schema:
        known = _FIELDS[id(schema)] = _Fields(
            schema,
            frozenset(field.name for field in schema.fields if field.creatable),
            frozenset(field.name for field in schema.fields if field.updatable),
            frozenset(field.name for field in schema.fields if field.sensitivity == "secret"),
        )
    return known


_FIELDS: dict[int, _Fields] = {}


def _sent(work: TargetWork, values: Document, files: dict[str, FileRef]) -> Document:
    secret = _fields(work.schema).secret
    if not files and secret.isdisjoint(values):
        return values
    sent = dict(values)
    for name in secret & sent.keys():
        sent[name] = _secret_mark(sent[name])
    for name, file in files.items():
        sent[name] = file.to_value()
    return sent


def _secret_mark(value: object) -> dict[str, str]:
    """Stands for a secret in the store: equality can be told, the value cannot."""
    return {"$secret": hashlib.blake2b(encode_canonical(value), digest_size=16).hexdigest()}


def _diff(
    work: TargetWork, before: Document, changed: Document, lines: dict[str, LineWrites]
) -> dict[str, list[Any]]:
    diff: dict[str, list[Any]] = {}
    for name, after in changed.items():
        if name in work.masked:
            diff[name] = [MASK, MASK]
        else:
            diff[name] = [before.get(name), after]
    for name, writes in lines.items():
        diff[name] = [
            None,
            {"created": len(writes.create), "updated": len(writes.update), "deleted": len(writes.delete)},
        ]
    return diff


# --- the record is gone or left ------------------------------------------------------------------------------------


def _gone(work: TargetWork, item: Claimed, link: Link | None, seen: Seen) -> Decision:
    """The source record was deleted or left `when`: what that means for what is in the target."""
    deleted = item.deleted or item.document is None
    word = "was deleted in the source" if deleted else "no longer meets `when`"
    if link is None or link.state == "deleted":
        return Decision(outcome=OutcomeName.FILTERED, reason=f"The record {word} and was never written.")
    if link.state == "reserved" and not seen.read and item.intent is not None:
        return _review(
            ReviewNeededError(
                f"The record {word} while a create of it had got no answer: look in {work.system.name} whether the "
                "record exists, then replay.",
                code="unknown_outcome",
            )
        )
    if link.state == "reserved" and seen.record is None:
        reason = f"The record {word} before it was written."
        return Decision(outcome=OutcomeName.FILTERED, link_state="deleted", reason=reason)
    if seen.read and seen.record is None:
        reason = "The target record is gone already."
        return Decision(outcome=OutcomeName.DELETED, link_state="deleted", reason=reason)
    policy = work.target.on_delete if deleted else work.target.on_leave
    return _by_policy(work, item, link, seen.record, policy, word)


def _by_policy(
    work: TargetWork, item: Claimed, link: Link, record: Found | None, policy: str, word: str
) -> Decision:
    target_id, etag = (record.id, record.etag) if record is not None else (link.target_id, link.etag)
    if policy in {"ignore", "keep"}:
        kept = Decision(
            outcome=OutcomeName.FILTERED, reason=f"The record {word}; the policy keeps its target."
        )
        if record is not None and link.state != "reserved":
            # What was looked up is remembered: a later change is compared with what the target really holds.
            kept.sent, kept.link_state = {**link.sent, **_current(work, link, record)}, link.state
        return kept
    if policy == "review":
        return _review(
            ReviewNeededError(
                f"The record {word}; the policy of {work.name} asks a person.", code="source_gone"
            )
        )
    if policy == "delete":
        return Decision(
            outcome=OutcomeName.DELETED,
            operation=Operation(kind=OperationKind.DELETE, id=target_id, etag=etag, trace_id=item.trace_id),
            target_scope=link.target_scope,
            link_state="deleted",
        )
    if link.state == "deactivated":
        return Decision(outcome=OutcomeName.NO_CHANGE)
    values = dict(work.capabilities.deactivate)
    return Decision(
        outcome=OutcomeName.DEACTIVATED,
        operation=Operation(
            kind=OperationKind.UPDATE, id=target_id, etag=etag, fields=values, trace_id=item.trace_id
        ),
        target_scope=link.target_scope,
        changes=_diff(work, link.sent, values, {}),
        sent={**link.sent, **{name: value for name, value in values.items() if name in link.sent}},
        link_state="deactivated",
    )
