"""The queue: work items are claimed in batches under a lease, and settled with a fencing token."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from ipaas_resources.core import killpoints
from ipaas_resources.core.values import Document, decode, encode
from ipaas_resources.store.database import RESTART, Database, query


class QueueOf(msgspec.Struct, frozen=True, kw_only=True):
    """Which items: those of one flow target."""

    flow: str
    target: str
    source_system: str
    source_entity: str
    target_system: str
    target_entity: str
    #: Other targets of the same flow that this one refers to: they go first, record by record.
    parents: tuple[str, ...] = ()


class Link(msgspec.Struct, kw_only=True):
    """What is known of the target record that belongs to a source record."""

    state: str  # reserved | linked | deactivated | deleted
    target_scope: str
    target_id: str | None
    target_key: str | None
    sent: Document
    read_back: Document
    lines: dict[str, dict[str, list[Any]]]
    progress: Document
    etag: str | None


class Claimed(msgspec.Struct, kw_only=True):
    """One work item that this worker holds, with the newest document of its record."""

    scope: str
    record: str
    generation: int
    attempts: int
    verify_target: bool
    intent: int | None
    trace_id: str  # the newest of the item's
    document: Document | None  # None: the mirror has no such record
    deleted: bool
    link: Link | None
    bad: tuple[str, str] | None = None  # code and sentence: the document may not be used


class Batch(msgspec.Struct, kw_only=True):
    """Items claimed together: one lease, one token."""

    token: int
    lease_until: dt.datetime  # by the clock of the database
    items: list[Claimed]
    alone: bool = False  # its one item was being worked on when two workers before died
    sent: bool = False  # something of it may have reached the target


class Reservation(msgspec.Struct, kw_only=True):
    """The link row that a first write needs."""

    scope: str
    record: str
    target_scope: str
    target_id: str | None
    target_key: str | None


class Settlement(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What becomes of one item. Left-out fields are null."""

    scope: str
    record: str
    generation: int
    done: bool
    # the item, when it stays
    state: str | None = None  # due | parked | review | dead
    due_in: float | None = None  # seconds
    verify: bool | None = None
    intent: int | None = None
    waits_for: str | None = None  # flow.target of a link that is missing
    waits_key: str | None = None  # which of its links
    wait_began: bool | None = None  # it did not wait for that link before
    charge: bool | None = None  # the attempt counts
    # the link, when it changes
    link: str | None = None
    target_scope: str | None = None
    target_id: str | None = None
    forget_key: bool | None = None
    sent: Document | None = None
    read_back: Document | None = None
    lines: dict[str, Any] | None = None
    progress: Document | None = None
    etag: str | None = None
    # the sync event
    outcome: str | None = None
    changes: dict[str, Any] | None = None
    error_code: str | None = None
    error: str | None = None


def _json(value: object) -> str:
    return encode(value).decode()


def _document(text: str | None) -> Document:
    return decode(text.encode()) if text else {}


async def claim(
    database: Database,
    queue: QueueOf,
    *,
    batch: int,
    lease: float,
    wait: float,
    trace_id: str,
    lane: int | None = None,
) -> Batch | None:
    """Claim up to `batch` due items for `lease` seconds, of one lane or of all; None when none is due.

    Intents of workers that died become unknown first: their records are looked at in the target, those whose write could
    still arrive `wait` seconds after it was sent.
    """

    async def take() -> list[Any]:
        return await database.rows(
            "claim",
            flow=queue.flow,
            target=queue.target,
            parents=list(queue.parents),
            lane=lane,
            batch=batch,
            seconds=lease,
        )

    killpoints.before("K04")
    # Looked for only where nothing was claimed: a claim takes nothing while there are any.
    rows = await take() or (await _recover(database, queue, wait=wait, trace_id=trace_id) and await take())
    killpoints.after("K04")
    if not rows:
        return None

    async def documents() -> list[Any]:
        return await database.rows(
            "claimed_documents",
            flow=queue.flow,
            target=queue.target,
            system=queue.source_system,
            entity=queue.source_entity,
            items=_json([{"n": n, "scope": row.scope, "record": row.record} for n, row in enumerate(rows)]),
        )

    # Nobody else may work on what we hold now, so an outage here would cost the lease.
    found = await database.surely(documents, within=min(RESTART, lease / 2))
    return Batch(
        token=rows[0].lease_token,
        alone=bool(rows[0].alone),
        lease_until=rows[0].lease_until,
        items=[
            Claimed(
                scope=row.scope,
                record=row.record,
                generation=row.generation,
                attempts=row.attempts,
                verify_target=row.verify_target,
                intent=row.intent,
                trace_id=row.trace_id,
                document=decode(known.document.encode()) if known.document else None,
                deleted=bool(known.deleted),
                link=link_of(known),
                bad=(known.bad_code, known.bad_error or "") if known.bad_code else None,
            )
            for row, known in zip(rows, found, strict=True)
        ],
    )


async def _recover(database: Database, queue: QueueOf, *, wait: float, trace_id: str) -> bool:
    """Raise what workers that died may have sent; whether there was any."""
    found = await database.rows(
        "intents_recover",
        flow=queue.flow,
        target=queue.target,
        target_system=queue.target_system,
        target_entity=queue.target_entity,
        wait=wait,
        trace_id=trace_id,
    )
    return bool(found)


def link_of(row: Any) -> Link | None:
    """The link part of a `claimed_documents` row."""
    if row.state is None:
        return None
    return Link(
        state=row.state,
        target_scope=row.target_scope,
        target_id=row.target_id,
        target_key=row.target_key,
        sent=_document(row.sent),
        read_back=_document(row.read_back),
        lines=_document(row.lines),
        progress=_document(row.progress),
        etag=row.etag,
    )


async def known_links(
    database: Database, queue: QueueOf, records: Sequence[tuple[str, str]]
) -> list[Link | None]:
    """The links of these (scope, record) pairs, in their order."""
    rows = await database.rows(
        "claimed_documents",
        flow=queue.flow,
        target=queue.target,
        system=queue.source_system,
        entity=queue.source_entity,
        items=_json(
            [{"n": n, "scope": scope, "record": record} for n, (scope, record) in enumerate(records)]
        ),
    )
    return [link_of(row) for row in rows]


class Opened(msgspec.Struct, kw_only=True):
    """The outcome of opening an intent."""

    #: None: the flow was switched, disabled or paused meanwhile; nothing may be sent.
    intent: int | None
    #: With no intent: writes of the version before are under way; this version's wait for them.
    switching: bool = False
    #: (scope, record) pairs whose link row another record holds: a person decides.
    taken: set[tuple[str, str]]


async def open_intent(
    database: Database,
    queue: QueueOf,
    *,
    version: int,
    batch: Batch,
    reservations: list[Reservation],
    writes: list[list[Any]],
) -> Opened:
    """Reserve link rows and commit the intent, before anything is sent.

    `writes` holds [scope, record, kind, target id, body hash, may arrive late] per operation; those of taken rows are left out of the
    intent. With no write left there is no intent, and `intent` is 0.
    """

    async def work(connection: AsyncConnection) -> Opened:
        locked = await connection.execute(query("flow_lock_shared"), {"flow": queue.flow, "version": version})
        row = locked.first()
        if row is None or not row.enabled or row.active_version != version:
            return Opened(intent=None, taken=set())
        if row.switching:
            return Opened(intent=None, taken=set(), switching=True)
        taken: set[tuple[str, str]] = set()
        if reservations:
            base = {"flow": queue.flow, "target": queue.target, "version": version}
            result = await connection.execute(
                query("links_reserve"), {**base, "rows": _json(msgspec.to_builtins(reservations))}
            )
            got = {(row.scope, row.record) for row in result}
            left = [each for each in reservations if (each.scope, each.record) not in got]
            if left:
                again = await connection.execute(
                    query("links_rereserve"),
                    {"flow": queue.flow, "target": queue.target, "rows": _json(msgspec.to_builtins(left))},
                )
                got |= {(row.scope, row.record) for row in again}
            taken = {
                (each.scope, each.record) for each in reservations if (each.scope, each.record) not in got
            }
        kept = [write for write in writes if (write[0], write[1]) not in taken]
        if not kept:
            return Opened(intent=0, taken=taken)
        result = await connection.execute(
            query("intent_open"),
            {
                "flow": queue.flow,
                "target": queue.target,
                "version": version,
                "token": batch.token,
                "lease_until": batch.lease_until,
                "writes": _json(kept),
            },
        )
        return Opened(intent=result.scalar_one(), taken=taken)

    killpoints.before("K08")
    opened = await database.repeatable(work)
    killpoints.after("K08")
    return opened


class ParkedItem(msgspec.Struct, frozen=True, kw_only=True):
    """Since when an item waits, and for which link: flow.target and the key among its links, None for whichever."""

    link: str | None
    key: str | None
    since: dt.datetime
    moment: dt.datetime  # now, by the clock of the database


async def parked_items(
    database: Database, queue: QueueOf, records: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], ParkedItem]:
    """Of these (scope, record) pairs, those that waited for a link before this attempt."""
    rows = await database.rows(
        "parked_items",
        flow=queue.flow,
        target=queue.target,
        items=_json([{"scope": scope, "record": record} for scope, record in records]),
    )
    return {
        (row.scope, row.record): ParkedItem(
            link=row.waits_for, key=row.waits_key, since=row.parked_since, moment=row.moment
        )
        for row in rows
    }


async def wake_waiting(database: Database, link: str, keys: Collection[str]) -> int:
    """Make due what waits for these links of a flow target; how many items."""
    (row,) = await database.rows("wake_waiting", link=link, keys=_json(sorted(keys)))
    return int(row.items)


async def extend_lease(database: Database, queue: QueueOf, batch: Batch, *, lease: float) -> bool:
    """Ask for more time. False when any item is no longer ours: then nothing of the batch may be sent."""
    rows = await database.rows(
        "lease_extend",
        flow=queue.flow,
        target=queue.target,
        token=batch.token,
        seconds=lease,
        items=_json([{"scope": item.scope, "record": item.record} for item in batch.items]),
    )
    return int(rows[0].items) == len(batch.items)


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What settling a batch found."""

    due: int  # items that are due again now: their records changed meanwhile
    #: (scope, record) pairs of items that another worker had taken over.
    fenced: set[tuple[str, str]] = set()


async def settle(
    database: Database,
    queue: QueueOf,
    *,
    token: int,
    version: int,
    intent: int | None,
    intent_state: str,
    run: int | None,
    trace_id: str,
    settlements: list[Settlement],
) -> Settled:
    """Settle a batch in one transaction."""
    killpoints.before("K11")
    (row,) = await database.rows(
        "settle",
        flow=queue.flow,
        target=queue.target,
        target_system=queue.target_system,
        target_entity=queue.target_entity,
        token=token,
        version=version,
        intent=intent or None,
        intent_state=intent_state,
        run=run,
        trace_id=trace_id,
        rows=_json(settlements),
    )
    killpoints.after("K11")
    if not row.fenced:
        return Settled(due=row.due)
    owned = {tuple(each.split("\x1f", 1)) for each in row.owned}
    return Settled(due=row.due, fenced={(each.scope, each.record) for each in settlements} - owned)
