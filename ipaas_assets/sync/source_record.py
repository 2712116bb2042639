"""One source record to look at: typed by a person, from the mirror, or read from its system. Nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.rows import prepare
from ipaas_resources.core.errors import ConfigurationError, MissingRecordError
from ipaas_resources.core.records import Change, ChangeKind, record_id
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.core.values import Document, Value, canonical_number, decode, encode, escape_text
from mappings.contract import Contract
from mappings.spec import Source

Origin = Literal["given", "mirror", "source"]
_NEWEST = 2**62  # a read number above all others: nothing here is compared with what was read before


class SourceRecord(msgspec.Struct, kw_only=True):
    """A source record as the run would see it."""

    scope: str
    record: str  # its id; '' where a record that was typed does not hold it
    document: Document
    origin: Origin
    deleted: bool = False
    #: Seconds since the mirror saw it change, and since its entity was last read; None where nothing is known.
    changed_ago: float | None = None
    read_ago: float | None = None
    #: Why the run would set it aside before mapping: code and sentences without values.
    bad_code: str = ""
    bad: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def given_record(
    engine: Engine, source: Source, schema: EntitySchema, document: Mapping[str, Value], scope: str | None
) -> SourceRecord:
    """A record that a person typed.

    Raises:
        ConfigurationError: there is no such scope, or a value can be in no record.
    """
    notes = []
    scopes = await _scopes(engine, source, scope)
    if scope is None and len(scopes) > 1:
        notes.append(
            f"no scope is named, so the record is taken as one of {scopes[0]!r}; name one with --scope"
        )
    plain = {name: _canonical(name, value) for name, value in document.items()}
    parts = [plain.get(name) for name in schema.key]
    record = ""
    if parts and all(isinstance(part, str | int) and part != "" for part in parts):
        record = record_id(tuple(str(part) for part in parts))
    else:
        notes.append(f"the record holds no id ({', '.join(schema.key)}): references by $id find nothing")
    found = _prepared(schema, scopes[0], record, plain, "given")
    found.notes = tuple(notes)
    return found


async def stored_record(
    engine: Engine, source: Source, schema: EntitySchema, record: str, scope: str | None
) -> SourceRecord:
    """The record of this id, from the mirror where it is there, else from its system.

    Raises:
        MissingRecordError: neither has it. ConfigurationError: two scopes have it, or there is no such scope.
    """
    scopes = await _scopes(engine, source, scope)
    rows = await engine.database.rows(
        "mirror_record", system=source.system, entity=source.entity, scopes=scopes, record=record
    )
    if rows:
        _one_scope(record, [row.scope for row in rows])
        return await _mirrored(engine, source, record, rows[0])
    connector = engine.system(source.system).connector
    hits = []
    for each in scopes:
        (found,) = await connector.read(source.entity, each, [record])
        if found is not None:
            hits.append((each, found))
    if not hits:
        raise MissingRecordError(
            f"Neither the mirror nor {source.system}/{source.entity} has a record {record!r}"
            f"{f' in the scope {scope!r}' if scope else ''}. Give its id, not its number, or pass it with --record."
        )
    _one_scope(record, [each for each, _ in hits])
    return _prepared(schema, hits[0][0], record, hits[0][1].document, "source")


async def _scopes(engine: Engine, source: Source, scope: str | None) -> list[str]:
    scopes = await engine.scopes(source.system, source.scopes if scope is None else [scope])
    if scope is not None and source.scopes != "all" and scope not in source.scopes:
        raise ConfigurationError(
            f"The flow does not read the scope {scope!r}; it reads {', '.join(source.scopes)}."
        )
    return scopes


def _one_scope(record: str, scopes: Sequence[str]) -> None:
    if len(scopes) > 1:
        raise ConfigurationError(
            f"The scopes {', '.join(scopes)} each have a record {record!r}. Choose one with --scope."
        )


async def _mirrored(engine: Engine, source: Source, record: str, row: Any) -> SourceRecord:
    pulls = await engine.database.rows(
        "last_pull_age", system=source.system, entity=source.entity, scope=row.scope
    )
    read = pulls[0].age if pulls else None
    return SourceRecord(
        scope=row.scope,
        record=record,
        document=decode(row.document.encode()),
        origin="mirror",
        deleted=row.deleted,
        changed_ago=float(row.age),
        read_ago=None if read is None else float(read),
        bad_code=row.bad_code or "",
        bad=(row.bad_error or "",) if row.bad_code else (),
    )


def _prepared(
    schema: EntitySchema, scope: str, record: str, document: Document, origin: Origin
) -> SourceRecord:
    """The record as the pull would store it: without secrets, in canonical form, held against its contract."""
    volatile = frozenset(field.name for field in schema.fields if field.volatile)
    secret = frozenset(field.name for field in schema.fields if field.sensitivity == "secret")
    change = Change(kind=ChangeKind.UPSERT, id=record, document=document)
    (row,) = prepare([change], _NEWEST, volatile, secret)
    bad: tuple[str, ...]
    if row.bad_code is not None:
        bad_code, bad = row.bad_code, (row.bad_error or "",)
    else:
        violations = Contract(schema).check([row.doc]).get(0, [])
        bad_code = "contract" if violations else ""
        bad = tuple(f"field {each.field!r}: {each.reason}" for each in violations)
    return SourceRecord(
        scope=scope,
        record=record,
        document=decode(encode(row.doc)),
        origin=origin,
        bad_code=bad_code,
        bad=bad,
    )


def _canonical(name: str, value: Value) -> Value:
    """A value that a person typed, in the form that a connector would give it."""
    if isinstance(value, str):
        return escape_text(value)
    if isinstance(value, Decimal):
        try:
            return canonical_number(value)
        except ValueError:
            raise ConfigurationError(
                f"The number in {name!r} is too large for a record. Give one with fewer digits."
            ) from None
    if isinstance(value, list):
        return [_canonical(name, each) for each in value]
    if isinstance(value, dict):
        return {escape_text(key): _canonical(name, each) for key, each in value.items()}
    return value
