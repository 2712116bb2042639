"""How the live lane stands, read from the store alone: it answers whether the platform runs here, elsewhere or not."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from ipaas_resources.store import workers
from ipaas_resources.store.breakers import BreakerState, breaker_states
from ipaas_resources.store.database import Database
from ipaas_resources.store.workers import Worker

LANES = ("realtime", "polling", "batch")


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """What waits at one place, and for how long the oldest that could be worked on now (seconds; None: nothing)."""

    due: int
    dead: int = 0
    lag: float | None = None


class LaneDepth(msgspec.Struct, kw_only=True):
    """The queue of one lane. What is held waits for a window, a person or a breaker: it is counted, it is not late."""

    lane: str
    due: int = 0
    parked: int = 0
    held: int = 0
    review: int = 0
    dead: int = 0
    lag: float | None = None


class Poll(msgspec.Struct, frozen=True, kw_only=True):
    """The polls of one entity over all its scopes; times in seconds, `next` negative when overdue."""

    system: str
    entity: str
    scopes: int
    shortest: float | None
    longest: float | None
    next: float
    reason: str | None


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription that could not be made, renewed or looked at."""

    subscription: str
    system: str
    entity: str
    scope: str
    error: str


class Standing(msgspec.Struct, kw_only=True):
    """Everything at one moment."""

    processes: list[Worker]
    inbox: Depth
    hints: Depth
    lanes: list[LaneDepth]
    reports: Depth
    breakers: list[BreakerState]
    polls: list[Poll]
    subscriptions: list[Trouble]


async def standing(database: Database, *, held: Collection[tuple[str, str]] = ()) -> Standing:
    """How it stands now; `held` are the (flow, target) that a window or a person holds.

    Raises:
        DatabaseUnavailableError: nobody knows.
    """
    (inbox,) = await database.rows("status_inbox")
    (hints,) = await database.rows("status_hints")
    (reports,) = await database.rows("status_reports")
    breakers = [each for each in await breaker_states(database) if each.state != "closed"]
    return Standing(
        processes=await workers.alive(database),
        inbox=Depth(due=inbox.due, dead=inbox.dead, lag=_seconds(inbox.lag)),
        hints=Depth(due=hints.due, dead=hints.dead, lag=_seconds(hints.lag)),
        lanes=await _lanes(database, held, {each.system for each in breakers}),
        reports=Depth(due=reports.due, lag=_seconds(reports.lag)),
        breakers=breakers,
        polls=[
            Poll(
                system=row.system,
                entity=row.entity,
                scopes=row.scopes,
                shortest=_seconds(row.shortest),
                longest=_seconds(row.longest),
                next=float(row.next),
                reason=row.reason,
            )
            for row in await database.rows("status_polls")
        ],
        subscriptions=[
            Trouble(
                subscription=row.subscription,
                system=row.system,
                entity=row.entity,
                scope=row.scope,
                error=row.error,
            )
            for row in await database.rows("status_subscriptions")
        ],
    )


async def _lanes(
    database: Database, held: Collection[tuple[str, str]], left_alone: Collection[str]
) -> list[LaneDepth]:
    depths = [LaneDepth(lane=lane) for lane in LANES]
    for row in await database.rows("status_queue"):
        depth = depths[row.lane]
        depth.review += row.review
        depth.dead += row.dead
        if (row.flow, row.target) in held or row.target_system in left_alone:
            depth.held += row.due + row.parked
            continue
        depth.due += row.due
        depth.parked += row.parked
        lag = _seconds(row.lag)
        if lag is not None:
            depth.lag = max(lag, depth.lag or 0.0)
    return depths


def _seconds(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]  # numeric or double of PostgreSQL
