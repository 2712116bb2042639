"""Versions of flows and lookup tables: stored once, never changed; one of them is active."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ipaas_resources.store.database import Database, query
from ipaas_resources.store.tables import flow_versions, flows, lookup_versions, lookups

Origin = Literal["file", "console", "api"]
Remap = Literal["changed", "none", "all"]
"""Which mirrored records go through a flow again when another version of it becomes active."""

Differ = Callable[[str, str], list[dict[str, Any]]]
"""(text before, '' for the first version; text after) -> [{"op", "path", "before", "after"}, ...]"""


class NewFlow(msgspec.Struct, frozen=True, kw_only=True):
    """A validated flow that is about to be stored."""

    flow: str
    text: str
    source_system: str
    source_entity: str
    exclusive_group: str | None
    file: str = ""
    checker: int = 1  # the version of the expression checker that let it pass


class NewLookup(msgspec.Struct, frozen=True, kw_only=True):
    """A validated lookup table that is about to be stored."""

    lookup: str
    text: str
    rows: Mapping[str, Any]
    file: str = ""


class _Kind(msgspec.Struct, frozen=True):
    """Documents of one kind: their versions, and the table that says which one is active."""

    versions: sa.Table
    heads: sa.Table
    name: str  # the column of both that names the document

    def named(self, name: str) -> sa.ColumnElement[bool]:
        return self.versions.c[self.name] == name

    def joined(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        return sa.select(*columns).join_from(
            self.versions, self.heads, self.versions.c[self.name] == self.heads.c[self.name]
        )


_FLOWS = _Kind(flow_versions, flows, "flow")
_LOOKUPS = _Kind(lookup_versions, lookups, "lookup")


class About(msgspec.Struct, frozen=True, kw_only=True):
    """Who stores a version, from where, and why."""

    actor: str
    origin: Origin
    reason: str = ""


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What saving a flow did."""

    flow: str
    version: int
    changed: bool


class SavedAll(msgspec.Struct, frozen=True, kw_only=True):
    """What saving documents did."""

    flows: list[Saved]
    lookups: list[str]  # tables with a new version


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a document, as the history lists it."""

    version: int
    active: bool
    actor: str
    origin: str
    reason: str
    file: str
    created_at: dt.datetime
    diff: list[dict[str, Any]]


class StoredText(msgspec.Struct, frozen=True, kw_only=True):
    """The text of one version."""

    name: str
    version: int
    text: str
    file: str


def _no_diff(_before: str, _after: str) -> list[dict[str, Any]]:
    return []


async def save_documents(
    database: Database,
    new: Sequence[NewFlow],
    tables: Sequence[NewLookup] = (),
    *,
    about: About,
    users: Mapping[str, Collection[str]] | None = None,
    remap: Remap = "changed",
    flow_diff: Differ = _no_diff,
    lookup_diff: Differ = _no_diff,
) -> SavedAll:
    """Store new versions and make them active, all or none. An unchanged text makes no version.

    `users` names the flows of each lookup table: when its rows change they are to be raised again, and that is
    remembered in the same transaction. The flow's row is taken FOR UPDATE: an intent holds it FOR SHARE while it is
    committed, so no write of the old version begins after the switch.
    """

    async def work(connection: AsyncConnection) -> SavedAll:
        saved = [
            await _save_flow(connection, flow, about, remap, flow_diff)
            for flow in sorted(new, key=lambda each: each.flow)
        ]
        changed = []
        for table in sorted(tables, key=lambda each: each.lookup):
            if await _save_lookup(connection, table, about, lookup_diff):
                changed.append(table.lookup)
                await _rows_changed(connection, table, (users or {}).get(table.lookup, ()), remap)
        return SavedAll(flows=saved, lookups=changed)

    return await database.repeatable(work)


async def _save_flow(
    connection: AsyncConnection, new: NewFlow, about: About, remap: Remap, differ: Differ
) -> Saved:
    # See `flows_of_entity`: no page of this entity is committed while the switch is under way.
    await connection.execute(query("entity_flows_lock"), {"name": f"{new.source_system}/{new.source_entity}"})
    source = {
        "source_system": new.source_system,
        "source_entity": new.source_entity,
        "exclusive_group": new.exclusive_group,
    }
    await connection.execute(insert(flows).values(flow=new.flow, **source).on_conflict_do_nothing())
    locked = await connection.execute(
        sa.select(flows.c.active_version, flows.c.raised_version, flows.c.remap)
        .where(flows.c.flow == new.flow)
        .with_for_update()
    )
    active, raised, wanted = locked.one()
    version = await _add_version(connection, _FLOWS, new.flow, active, new, about, differ)
    if version is None:
        return Saved(flow=new.flow, version=active, changed=False)
    pending = active is not None and raised != active
    await connection.execute(
        sa.update(flows)
        .where(flows.c.flow == new.flow)
        .values(
            active_version=version,
            # What the version before still owed is owed by this one.
            remap="all"
            if pending and wanted == "all"
            else "changed"
            if pending and remap == "none"
            else remap,
            updated_at=sa.func.now(),
            **source,
        )
    )
    return Saved(flow=new.flow, version=version, changed=True)


async def _save_lookup(connection: AsyncConnection, new: NewLookup, about: About, differ: Differ) -> bool:
    await connection.execute(insert(lookups).values(lookup=new.lookup, rows={}).on_conflict_do_nothing())
    locked = await connection.execute(
        sa.select(lookups.c.active_version).where(lookups.c.lookup == new.lookup).with_for_update()
    )
    active = locked.scalar_one()
    version = await _add_version(connection, _LOOKUPS, new.lookup, active, new, about, differ)
    if version is None:
        return False
    await connection.execute(
        sa.update(lookups)
        .where(lookups.c.lookup == new.lookup)
        .values(active_version=version, updated_at=sa.func.now())
    )
    return True


async def _rows_changed(
    connection: AsyncConnection, table: NewLookup, users: Collection[str], remap: Remap
) -> None:
    """Store the rows of a table's active version; where they differ, its flows are to be raised again."""
    changed = await connection.execute(
        sa.update(lookups)
        .where(lookups.c.lookup == table.lookup, lookups.c.rows != sa.cast(table.rows, lookups.c.rows.type))
        .values(rows=table.rows)
        .returning(lookups.c.lookup)
    )
    if changed.first() is None or remap == "none":
        return
    await connection.execute(
        sa.update(flows)
        .where(flows.c.flow.in_(sorted(users)))
        .values(
            remap=sa.case(
                (sa.and_(flows.c.remap == "all", flows.c.raised_version.is_(None)), "all"), else_=remap
            ),
            raised_version=None,
        )
    )


async def _add_version(
    connection: AsyncConnection,
    kind: _Kind,
    name: str,
    active: int | None,
    new: NewFlow | NewLookup,
    about: About,
    differ: Differ,
) -> int | None:
    """Insert the next version of a document whose row is locked; None when its text is the active one's."""
    columns = kind.versions.c
    before = ""
    if active is not None:
        found = await connection.execute(
            sa.select(columns.text).where(kind.named(name), columns.version == active)
        )
        before = found.scalar_one()
        if before == new.text:
            return None
    last = await connection.execute(
        sa.select(sa.func.coalesce(sa.func.max(columns.version), 0)).where(kind.named(name))
    )
    version = int(last.scalar_one()) + 1
    await connection.execute(
        kind.versions.insert().values(
            **{kind.name: name},
            version=version,
            text=new.text,
            file=new.file,
            actor=about.actor,
            origin=about.origin,
            reason=about.reason,
            diff=differ(before, new.text),
            **({"checker": new.checker} if isinstance(new, NewFlow) else {}),
        )
    )
    return version


# --- history ----------------------------------------------------------------------------------------------------


async def flow_history(database: Database, flow: str, *, limit: int | None = None) -> list[Version]:
    """The versions of a flow, the newest first; [] when there is no such flow."""
    return await _history(database, _FLOWS, flow, limit)


async def lookup_history(database: Database, lookup: str, *, limit: int | None = None) -> list[Version]:
    """The versions of a lookup table, the newest first; [] when there is no such table."""
    return await _history(database, _LOOKUPS, lookup, limit)


async def _history(database: Database, kind: _Kind, name: str, limit: int | None) -> list[Version]:
    columns = kind.versions.c
    statement = (
        kind.joined(
            columns.version,
            sa.func.coalesce(columns.version == kind.heads.c.active_version, False).label("active"),
            columns.actor,
            columns.origin,
            columns.reason,
            columns.file,
            columns.created_at,
            columns.diff,
        )
        .where(kind.named(name))
        .order_by(columns.version.desc())
        .limit(limit)
    )
    async with database.begin() as connection:
        return [Version(**row) for row in (await connection.execute(statement)).mappings()]


async def flow_text(database: Database, flow: str, version: int | None = None) -> StoredText | None:
    """The text of one version of a flow, of the active one without `version`; None when there is none."""
    return await _text(database, _FLOWS, flow, version)


async def lookup_text(database: Database, lookup: str, version: int | None = None) -> StoredText | None:
    """The text of one version of a lookup table, of the active one without `version`; None when there is none."""
    return await _text(database, _LOOKUPS, lookup, version)


async def _text(database: Database, kind: _Kind, name: str, version: int | None) -> StoredText | None:
    wanted = kind.heads.c.active_version if version is None else sa.literal(version)
    statement = _texts(kind).where(kind.named(name), kind.versions.c.version == wanted)
    async with database.begin() as connection:
        row = (await connection.execute(statement)).mappings().first()
    return None if row is None else StoredText(**row)


async def active_texts(database: Database) -> tuple[list[StoredText], list[StoredText]]:
    """The active versions of all flows and of all lookup tables, by name, as of one moment."""
    found = []
    async with database.begin() as connection:
        for kind in (_FLOWS, _LOOKUPS):
            statement = _texts(kind).where(kind.versions.c.version == kind.heads.c.active_version)
            rows = await connection.execute(statement.order_by(kind.versions.c[kind.name]))
            found.append([StoredText(**row) for row in rows.mappings()])
    return found[0], found[1]


def _texts(kind: _Kind) -> sa.Select[Any]:
    columns = kind.versions.c
    return kind.joined(columns[kind.name].label("name"), columns.version, columns.text, columns.file)
