"""The registry: which systems there are, which version of which flow is active, which lookup tables."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ipaas_resources.core.schema import EntitySchema, schema_bytes, schema_from
from ipaas_resources.core.values import decode
from ipaas_resources.store.database import Database, query
from ipaas_resources.store.tables import flow_versions, flows, lookups, schema_snapshots, systems
from ipaas_resources.store.versions import Remap


class StoredSystem(msgspec.Struct, frozen=True, kw_only=True):
    """A system document as stored."""

    system: str
    connector: str
    document: dict[str, Any]
    text: str
    paused: bool


class StoredFlow(msgspec.Struct, frozen=True, kw_only=True):
    """The active version of a flow."""

    flow: str
    version: int
    text: str
    enabled: bool


class StoredLookup(msgspec.Struct, frozen=True, kw_only=True):
    """The active version of a lookup table."""

    lookup: str
    version: int
    rows: int


async def list_systems(database: Database) -> list[StoredSystem]:
    """All systems by name."""
    async with database.begin() as connection:
        rows = await connection.execute(sa.select(systems).order_by(systems.c.system))
        return [
            StoredSystem(
                system=row.system,
                connector=row.connector,
                document=row.document,
                text=row.text,
                paused=row.paused,
            )
            for row in rows
        ]


async def save_systems(database: Database, documents: list[StoredSystem]) -> None:
    """Store system documents, all or none."""
    async with database.begin() as connection:
        for document in documents:
            values = {"connector": document.connector, "document": document.document, "text": document.text}
            statement = insert(systems).values(system=document.system, **values)
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["system"], set_={**values, "updated_at": sa.func.now()}
                )
            )


async def pause_system(database: Database, system: str, *, paused: bool) -> bool:
    """Pause or resume a system. False when there is none of that name."""
    async with database.begin() as connection:
        result = await connection.execute(
            sa.update(systems).where(systems.c.system == system).values(paused=paused)
        )
        return result.rowcount == 1


async def active_flows(database: Database) -> list[StoredFlow]:
    """The active version of every flow, disabled ones included, by name."""
    statement = (
        sa.select(flows.c.flow, flows.c.active_version, flows.c.enabled, flow_versions.c.text)
        .join_from(
            flows,
            flow_versions,
            (flow_versions.c.flow == flows.c.flow) & (flow_versions.c.version == flows.c.active_version),
        )
        .order_by(flows.c.flow)
    )
    async with database.begin() as connection:
        rows = await connection.execute(statement)
        return [
            StoredFlow(flow=row.flow, version=row.active_version, text=row.text, enabled=row.enabled)
            for row in rows
        ]


async def set_enabled(database: Database, flow: str, *, enabled: bool) -> bool:
    """Enable or disable a flow. False when there is none of that name."""
    async with database.begin() as connection:
        result = await connection.execute(
            sa.update(flows).where(flows.c.flow == flow).values(enabled=enabled, updated_at=sa.func.now())
        )
        return result.rowcount == 1


async def raise_all(
    database: Database,
    *,
    system: str,
    entity: str,
    scopes: list[str] | None,
    targets: list[dict[str, Any]],
    trace_id: str,
    chunk: int = 5000,
) -> int:
    """Raise batch work for every mirrored record of an entity, in chunks. Returns how many records it was."""
    if not targets:
        return 0
    total = 0
    after = ["", ""]
    while True:
        (row,) = await database.rows(
            "raise_all",
            system=system,
            entity=entity,
            scopes=scopes,
            targets=msgspec.json.encode(targets).decode(),
            trace_id=trace_id,
            after_scope=after[0],
            after_record=after[1],
            chunk=chunk,
        )
        total += int(row.records)
        if row.records < chunk:
            return total
        after = row.last


class ToRaise(msgspec.Struct, frozen=True, kw_only=True):
    """A flow whose active version still has to be raised."""

    version: int
    remap: Remap
    asked: dt.datetime  # when it was asked for, by the clock of the database


async def to_be_raised(database: Database) -> dict[str, ToRaise]:
    """Flows whose active version still has to be raised for mirrored records, by name."""
    async with database.begin() as connection:
        rows = await connection.execute(
            sa.select(flows.c.flow, flows.c.active_version, flows.c.remap, flows.c.updated_at).where(
                flows.c.active_version.is_not(None),
                flows.c.raised_version.is_distinct_from(flows.c.active_version),
            )
        )
        return {
            row.flow: ToRaise(version=row.active_version, remap=row.remap, asked=row.updated_at)
            for row in rows
        }


async def mark_raised(database: Database, flow: str, raised: ToRaise) -> None:
    """What had to be raised is raised; what was asked for since (a lookup table that changed) still has to be."""
    async with database.begin() as connection:
        await connection.execute(
            sa.update(flows)
            .where(
                flows.c.flow == flow,
                flows.c.active_version == raised.version,
                flows.c.updated_at == raised.asked,
            )
            .values(raised_version=raised.version)
        )


async def active_lookups(database: Database) -> list[StoredLookup]:
    """The active version of every lookup table, by name."""
    keys = sa.func.jsonb_object_keys(lookups.c.rows).table_valued("key")
    rows = sa.select(sa.func.count()).select_from(keys).scalar_subquery()
    statement = (
        sa.select(lookups.c.lookup, lookups.c.active_version, rows.label("rows"))
        .where(lookups.c.active_version.is_not(None))
        .order_by(lookups.c.lookup)
    )
    async with database.begin() as connection:
        return [
            StoredLookup(lookup=row.lookup, version=row.active_version, rows=row.rows)
            for row in await connection.execute(statement)
        ]


async def load_lookups(database: Database, names: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
    """Lookup tables, all or those of these names: name -> key -> value."""
    if names is not None and not names:
        return {}
    statement = sa.select(lookups.c.lookup, sa.cast(lookups.c.rows, sa.Text).label("rows"))
    if names is not None:
        statement = statement.where(lookups.c.lookup.in_(names))
    async with database.begin() as connection:
        rows = await connection.execute(statement)
        return {row.lookup: decode(row.rows.encode()) for row in rows}


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A stored schema snapshot."""

    version: int
    schema: EntitySchema


async def latest_snapshot(database: Database, system: str, entity: str) -> Snapshot | None:
    """The newest snapshot of an entity's schema."""
    statement = (
        sa.select(schema_snapshots.c.version, sa.cast(schema_snapshots.c.schema, sa.Text).label("schema"))
        .where(schema_snapshots.c.system == system, schema_snapshots.c.entity == entity)
        .order_by(schema_snapshots.c.version.desc())
        .limit(1)
    )
    async with database.begin() as connection:
        row = (await connection.execute(statement)).first()
    return None if row is None else Snapshot(version=row.version, schema=schema_from(row.schema.encode()))


async def newest_schemas(database: Database) -> dict[tuple[str, str], EntitySchema]:
    """The newest schema of every (system, entity) that was ever looked at."""
    rows = await database.rows("schemas_newest")
    return {(row.system, row.entity): schema_from(row.schema.encode()) for row in rows}


async def first_snapshot(database: Database, system: str, entity: str) -> Snapshot | None:
    """The oldest snapshot that is kept of an entity's schema."""
    statement = (
        sa.select(schema_snapshots.c.version, sa.cast(schema_snapshots.c.schema, sa.Text).label("schema"))
        .where(schema_snapshots.c.system == system, schema_snapshots.c.entity == entity)
        .order_by(schema_snapshots.c.version)
        .limit(1)
    )
    async with database.begin() as connection:
        row = (await connection.execute(statement)).first()
    return None if row is None else Snapshot(version=row.version, schema=schema_from(row.schema.encode()))


async def save_snapshot(database: Database, system: str, schema: EntitySchema) -> Snapshot:
    """Store a schema as the newest snapshot; an equal one only gets a new `seen_at`."""
    data = schema_bytes(schema)
    fingerprint = hashlib.blake2b(data, digest_size=16).hexdigest()
    async with database.begin() as connection:
        await connection.execute(query("snapshot_lock"), {"name": f"{system}/{schema.entity}"})
        latest = (
            await connection.execute(
                sa.select(schema_snapshots.c.version, schema_snapshots.c.fingerprint)
                .where(schema_snapshots.c.system == system, schema_snapshots.c.entity == schema.entity)
                .order_by(schema_snapshots.c.version.desc())
                .limit(1)
            )
        ).first()
        if latest is not None and str(latest.fingerprint).replace("-", "") == fingerprint:
            await connection.execute(
                sa.update(schema_snapshots)
                .where(
                    schema_snapshots.c.system == system,
                    schema_snapshots.c.entity == schema.entity,
                    schema_snapshots.c.version == latest.version,
                )
                .values(seen_at=sa.func.now())
            )
            return Snapshot(version=latest.version, schema=schema)
        version = 1 if latest is None else latest.version + 1
        await connection.execute(
            schema_snapshots.insert().values(
                system=system,
                entity=schema.entity,
                version=version,
                schema=msgspec.json.decode(data),
                fingerprint=fingerprint,
            )
        )
    return Snapshot(version=version, schema=schema)
