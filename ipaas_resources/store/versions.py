"""Versions of flows and lookup tables: stored once, never changed; one of them is active."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store.database import Database, query
from ipaas_resources.store.tables import flow_versions, flows, lookup_versions, lookups

Origin = Literal["file", "console", "api"]
Remap = Literal["changed", "none", "all"]
"""Which mirrored records go through a flow again when another version of it becomes active."""

_LEAST_FIRST: Sequence[Remap] = ("none", "changed", "all")

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


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Documents of one kind: their versions, the table that says which one is active, and what people call them."""

    versions: sa.Table
    heads: sa.Table
    name: str  # the column of both that names the document
    word: str  # in sentences
    commands: str  # `ipaas <commands> ...`

    def named(self, name: str) -> sa.ColumnElement[bool]:
        return self.versions.c[self.name] == name

    def joined(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        return sa.select(*columns).join_from(
            self.versions, self.heads, self.versions.c[self.name] == self.heads.c[self.name]
        )

    def missing(self, name: str) -> ConfigurationError:
        """There is no document of this name."""
        return ConfigurationError(
            f"There is no {self.word} {name!r}. `ipaas {self.commands} list` shows those there are."
        )

    def no_version(self, name: str, version: int) -> ConfigurationError:
        """The document has no version of this number."""
        return ConfigurationError(
            f"{self.word.capitalize()} {name!r} has no version {version}. `ipaas {self.commands} history {name}` shows "
            "those there are."
        )

    def check_still(self, name: str, active: int | None, expected: int | None) -> None:
        """Raise ConfigurationError when another version than the `expected` one is active by now; None: any may be."""
        if expected is not None and active != expected:
            raise ConfigurationError(
                f"Somebody made version {active} of {self.word} {name!r} active while you worked with version "
                f"{expected}; nothing was stored. Look at it with `ipaas {self.commands} diff {name}`, then decide "
                "again.",
                code="changed_meanwhile",
            )


FLOWS = Kind(versions=flow_versions, heads=flows, name="flow", word="flow", commands="flows")
LOOKUPS = Kind(
    versions=lookup_versions, heads=lookups, name="lookup", word="lookup table", commands="lookups"
)


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
    lookups: dict[str, int]  # tables with a new version


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
    expected: Mapping[str, int] | None = None,
    expected_tables: Mapping[str, int] | None = None,
    flow_diff: Differ = _no_diff,
    lookup_diff: Differ = _no_diff,
) -> SavedAll:
    """Store new versions and make them active, all or none. An unchanged text makes no version.

    `users` names the flows of each lookup table: when its rows change they are to be raised again, and that is
    remembered in the same transaction. The flow's row is taken FOR UPDATE: an intent holds it FOR SHARE while it is
    committed, so no write of the old version begins after the switch.

    Raises:
        ConfigurationError: another version than the `expected` one of a flow (of `expected_tables` for a table) is
            active by now; nothing was stored.
    """

    async def work(connection: AsyncConnection) -> SavedAll:
        saved = [
            await _save_flow(connection, flow, about, remap, (expected or {}).get(flow.flow), flow_diff)
            for flow in sorted(new, key=lambda each: each.flow)
        ]
        changed = {}
        for table in sorted(tables, key=lambda each: each.lookup):
            still = (expected_tables or {}).get(table.lookup)
            version = await _save_lookup(connection, table, about, still, lookup_diff)
            if version is not None:
                changed[table.lookup] = version
                await _rows_changed(connection, table, (users or {}).get(table.lookup, ()), remap)
        return SavedAll(flows=saved, lookups=changed)

    return await database.repeatable(work)


async def _save_flow(
    connection: AsyncConnection,
    new: NewFlow,
    about: About,
    remap: Remap,
    expected: int | None,
    differ: Differ,
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
    FLOWS.check_still(new.flow, active, expected)
    version = await _add_version(connection, FLOWS, new.flow, active, new, about, differ)
    if version is None:
        return Saved(flow=new.flow, version=active, changed=False)
    # What the version before still owed is owed by this one.
    pending = active is not None and raised != active
    await connection.execute(
        sa.update(flows)
        .where(flows.c.flow == new.flow)
        .values(
            active_version=version,
            remap=max(remap, wanted, key=_LEAST_FIRST.index) if pending else remap,
            updated_at=sa.func.clock_timestamp(),
            **source,
        )
    )
    return Saved(flow=new.flow, version=version, changed=True)


async def _save_lookup(
    connection: AsyncConnection, new: NewLookup, about: About, expected: int | None, differ: Differ
) -> int | None:
    """The number of the new version, None where the text is the active one's."""
    await connection.execute(insert(lookups).values(lookup=new.lookup, rows={}).on_conflict_do_nothing())
    locked = await connection.execute(
        sa.select(lookups.c.active_version).where(lookups.c.lookup == new.lookup).with_for_update()
    )
    active = locked.scalar_one()
    LOOKUPS.check_still(new.lookup, active, expected)
    version = await _add_version(connection, LOOKUPS, new.lookup, active, new, about, differ)
    if version is None:
        return None
    await connection.execute(
        sa.update(lookups)
        .where(lookups.c.lookup == new.lookup)
        .values(active_version=version, updated_at=sa.func.now())
    )
    return version


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
    pending = flows.c.raised_version.is_distinct_from(flows.c.active_version)
    await connection.execute(
        sa.update(flows)
        .where(flows.c.flow.in_(sorted(users)))
        .values(
            remap=sa.case((sa.and_(flows.c.remap == "all", pending), "all"), else_=remap),
            raised_version=None,
            # Who raises the flow at this moment by the rows before does not mark it as raised, see mark_raised.
            updated_at=sa.func.clock_timestamp(),
        )
    )


async def _add_version(
    connection: AsyncConnection,
    kind: Kind,
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
    return await history(database, FLOWS, flow, limit=limit)


async def lookup_history(database: Database, lookup: str, *, limit: int | None = None) -> list[Version]:
    """The versions of a lookup table, the newest first; [] when there is no such table."""
    return await history(database, LOOKUPS, lookup, limit=limit)


async def history(database: Database, kind: Kind, name: str, *, limit: int | None = None) -> list[Version]:
    """The versions of a document, the newest first; [] when there is none of that name."""
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
    return await text_of(database, FLOWS, flow, version)


async def lookup_text(database: Database, lookup: str, version: int | None = None) -> StoredText | None:
    """The text of one version of a lookup table, of the active one without `version`; None when there is none."""
    return await text_of(database, LOOKUPS, lookup, version)


async def text_of(database: Database, kind: Kind, name: str, version: int | None = None) -> StoredText | None:
    """The text of one version of a document, of the active one without `version`; None when there is none."""
    wanted = kind.heads.c.active_version if version is None else sa.literal(version)
    statement = _texts(kind).where(kind.named(name), kind.versions.c.version == wanted)
    async with database.begin() as connection:
        row = (await connection.execute(statement)).mappings().first()
    return None if row is None else StoredText(**row)


async def active_texts(database: Database) -> tuple[list[StoredText], list[StoredText]]:
    """The active versions of all flows and of all lookup tables, by name, as of one moment."""
    found = []
    async with database.begin() as connection:
        for kind in (FLOWS, LOOKUPS):
            statement = _texts(kind).where(kind.versions.c.version == kind.heads.c.active_version)
            rows = await connection.execute(statement.order_by(kind.versions.c[kind.name]))
            found.append([StoredText(**row) for row in rows.mappings()])
    return found[0], found[1]


def _texts(kind: Kind) -> sa.Select[Any]:
    columns = kind.versions.c
    return kind.joined(columns[kind.name].label("name"), columns.version, columns.text, columns.file)
