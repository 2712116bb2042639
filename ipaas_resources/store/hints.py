"""Hints: records (or whole entities) that a product told us to read, one row each, claimed under a lease like work items.

A name that only the product knows (its table, the id of its company) is kept as it is, behind UNPLACED, until a reader has
the connector open that can tell what we call it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from ipaas_resources.core import killpoints
from ipaas_resources.core.values import encode
from ipaas_resources.store.database import Database, query

#: Begins an entity or scope that is still the product's own name.
UNPLACED: Final = "~"
#: In place of a record: changes of the whole entity, or all of it. No product has such an id.
PULL: Final = ""
PULL_ALL: Final = "*"
#: In place of a record: the dead row that stands for all hints of a place nobody knows.
NOWHERE: Final = "?"
#: Seconds for which a place that nobody knew is not asked for again.
_NOWHERE_FOR: Final = 3600.0
#: Bytes of delivery bodies of one transaction.
GROUP_BYTES: Final = 4 << 20
_COUNTED: Final = 1000
#: Trace ids that a hint keeps, the newest.
MOST_TRACES: Final = 15

Place = tuple[str, str, str]
"""(system, entity, scope)"""


class Delivered(msgspec.Struct, kw_only=True):
    """A delivery to split."""

    delivery: int
    body: bytes
    headers: dict[str, str]
    trace_id: str
    system: str | None  # None: the subscription has gone
    entity: str  # of the subscription; '': every entity
    scope: str  # of the subscription; '': every scope
    connector: str | None  # None: the system has gone


class Finished(msgspec.Struct, kw_only=True):
    """What became of a delivery."""

    delivery: int
    state: str  # done | ignored | dead
    error_code: str | None = None
    error: str | None = None


class Hint(msgspec.Struct, kw_only=True):
    """A record to read, with the events that tell so (oldest first)."""

    system: str
    entity: str
    scope: str
    record: str
    trace_ids: list[str]


class Poll(msgspec.Struct, kw_only=True, frozen=True):
    """An entity to pull soon."""

    system: str
    scope: str
    entity: str
    whole: bool
    reason: str


class HintGroup(msgspec.Struct, kw_only=True, frozen=True):
    """Hints that can be read together now."""

    system: str
    entity: str  # may begin with UNPLACED
    scope: str  # may begin with UNPLACED
    hints: int  # counted up to 1,000
    age: float  # seconds since the oldest of these was told


class Claimed(msgspec.Struct, kw_only=True):
    """A hint that this reader holds."""

    record: str
    generation: int
    attempts: int  # this one included
    trace_ids: list[str]


class HintBatch(msgspec.Struct, kw_only=True):
    """Hints claimed together: one lease, one token."""

    system: str
    entity: str
    scope: str
    token: int
    hints: list[Claimed]


class PutBack(msgspec.Struct, kw_only=True):
    """A hint that was not read, and why."""

    record: str
    generation: int
    due_in: float  # seconds
    charge: bool  # the attempt counts
    dead: bool
    error_code: str
    error: str


# --- deliveries ---------------------------------------------------------------------------------------------------


async def take_deliveries(connection: AsyncConnection, *, most: int) -> list[Delivered]:
    """The oldest deliveries that nobody splits now, locked until the transaction ends."""
    rows = await connection.execute(query("inbox_take"), {"most": most, "bytes": GROUP_BYTES})
    return [
        Delivered(
            delivery=row.delivery,
            body=bytes(row.body),
            headers=msgspec.json.decode(row.headers, type=dict[str, str]),
            trace_id=row.trace_id,
            system=row.system,
            entity=row.entity or "",
            scope=row.scope or "",
            connector=row.connector,
        )
        for row in rows
    ]


async def finish_deliveries(connection: AsyncConnection, finished: Sequence[Finished]) -> None:
    """Mark what became of the deliveries."""
    await connection.execute(query("inbox_finish"), {"rows": _json(finished)})


async def entities_read(connection: AsyncConnection) -> set[tuple[str, str]]:
    """(system, entity) of what active flows read."""
    return {(row.system, row.entity) for row in await connection.execute(query("entities_read"))}


async def places_unknown(connection: AsyncConnection, places: Iterable[Place]) -> set[Place]:
    """Of places under the product's own names, those that nobody knew a short time ago."""
    rows = [
        {"system": system, "entity": entity, "scope": scope}
        for system, entity, scope in sorted(set(places))
        if is_unplaced(entity, scope)
    ]
    if not rows:
        return set()
    values = {"rows": _json(rows), "mark": NOWHERE, "seconds": _NOWHERE_FOR}
    found = await connection.execute(query("places_unknown"), values)
    return {(row.system, row.entity, row.scope) for row in found}


def is_unplaced(entity: str, scope: str) -> bool:
    """Whether one of them is the product's own name."""
    return entity.startswith(UNPLACED) or scope.startswith(UNPLACED)


async def raise_hints(connection: AsyncConnection, hints: Sequence[Hint]) -> None:
    """Store hints, no record twice among them."""
    if hints:
        await connection.execute(query("hints_raise"), {"rows": _json(hints)})


async def ask_polls(connection: AsyncConnection, polls: Sequence[Poll]) -> None:
    """Have entities pulled soon, none twice among them."""
    if polls:
        await connection.execute(query("polls_ask"), {"rows": _json(polls)})


# --- reading ------------------------------------------------------------------------------------------------------


async def due_hint_groups(
    database: Database, *, system: str | None = None, entity: str | None = None
) -> list[HintGroup]:
    """What can be read now, what waits longest first; nothing of a system that is paused or disabled.

    With an entity: its hints, and those whose entity is not known yet.
    """
    rows = await database.rows(
        "hint_groups", system=system, entity=entity, unplaced=UNPLACED, counted=_COUNTED
    )
    return [
        HintGroup(system=row.system, entity=row.entity, scope=row.scope, hints=row.hints, age=float(row.age))
        for row in rows
    ]


async def hints_due_in(database: Database) -> float | None:
    """Seconds until a hint can be read, 0 when one can; None when none waits."""
    (row,) = await database.rows("hints_due_in")
    return None if row.seconds is None else max(0.0, float(row.seconds))


async def claim_hints(
    database: Database, system: str, entity: str, scope: str, *, batch: int, lease: float
) -> HintBatch | None:
    """Claim up to `batch` due hints of one place for `lease` seconds; None when none is due."""
    killpoints.before("K04")
    rows = await database.rows(
        "hints_claim", system=system, entity=entity, scope=scope, batch=batch, seconds=lease
    )
    killpoints.after("K04")
    if not rows:
        return None
    return HintBatch(
        system=system,
        entity=entity,
        scope=scope,
        token=rows[0].lease_token,
        hints=[
            Claimed(
                record=row.record,
                generation=row.generation,
                attempts=row.attempts,
                trace_ids=list(row.trace_ids),
            )
            for row in sorted(rows, key=lambda row: row.record)
        ],
    )


async def settle_hints(
    connection: AsyncConnection, batch: HintBatch, done: Sequence[Claimed]
) -> tuple[int, int]:
    """These are read. Returns how many are gone, and how many were told again and are due at once."""
    rows = [{"record": hint.record, "generation": hint.generation} for hint in done]
    result = await connection.execute(query("hints_settle"), {**_key(batch), "rows": _json(rows)})
    row = result.one()
    return int(row.done), int(row.again)


async def put_back_hints(
    connection: AsyncConnection, batch: HintBatch, rows: Sequence[PutBack]
) -> tuple[int, int]:
    """These were not read. Returns how many gave up, and how many are due again later."""
    result = await connection.execute(query("hints_put_back"), {**_key(batch), "rows": _json(rows)})
    row = result.one()
    return int(row.dead), int(row.due)


async def bury_place(database: Database, batch: HintBatch, *, error_code: str, error: str) -> int:
    """Nobody knows the place of this batch: one dead row stands for all its hints. How many there were."""
    (row,) = await database.rows(
        "hints_unplaced", **_key(batch), mark=NOWHERE, error_code=error_code, error=error
    )
    return int(row.many)


async def flows_reading(database: Database, system: str, entity: str) -> set[str]:
    """Active flows that read this entity."""
    return {row.flow for row in await database.rows("flows_reading", system=system, entity=entity)}


def _key(batch: HintBatch) -> dict[str, Any]:
    return {
        "system": batch.system,
        "entity": batch.entity,
        "scope": batch.scope,
        "token": batch.token,
    }


def _json(value: object) -> str:
    return encode(value).decode()
