"""When each source entity is to be polled: the standing of adaptive polling, by the clock of the database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

import msgspec

from ipaas_resources.core.values import encode
from ipaas_resources.store.database import Database

#: Seconds until an entity that somebody pulls now is looked at again.
_LOOK_AGAIN: Final = 5.0


class WantedPoll(msgspec.Struct, frozen=True, kw_only=True):
    """An entity of one scope that flows read, with the shortest and the longest interval that they ask for (seconds)."""

    system: str
    entity: str
    scope: str
    #: None: no flow polls it; it is polled only when somebody asks.
    poll_min: float | None = None
    poll_max: float | None = None

    @property
    def name(self) -> str:
        """system/entity, with the scope where there is one."""
        return f"{self.system}/{self.entity}" + (f" of {self.scope}" if self.scope else "")


class PollState(msgspec.Struct, frozen=True, kw_only=True):
    """One entity of one scope and its next poll."""

    wanted: WantedPoll
    #: Seconds until it is due, negative when it is late; None: nobody wants it polled.
    due_in: float | None
    #: Why it is polled that often, a sentence; None before the first poll.
    reason: str | None
    interval: float | None  # seconds
    failures: int  # in a row
    #: Everything is to be read, not only what changed.
    full: bool
    #: It reads everything for another reason: the first time, or a full read is under way.
    long: bool
    busy: bool  # somebody pulls it now
    paused: bool  # its system is
    breaker: float | None  # seconds for which the system's breaker lets nothing through
    not_before: float | None  # seconds for which the system asked to be left alone
    error: str | None
    #: For the claim: whether the row exists, and the moment that stood in it.
    known: bool
    seen: dt.datetime | None

    @property
    def due(self) -> bool:
        """Whether it may be polled now."""
        return not self.paused and self.due_in is not None and self.due_in <= 0


class PollClaim(msgspec.Struct, frozen=True, kw_only=True):
    """The right to poll: whoever holds another one lost it."""

    moment: dt.datetime
    full: bool


async def standing(database: Database, wanted: Sequence[WantedPoll]) -> list[PollState]:
    """Each of these with its next poll, what is due longest first."""
    if not wanted:
        return []
    given = [{"n": n, **msgspec.to_builtins(each)} for n, each in enumerate(wanted)]
    rows = await database.rows("polls_standing", wanted=encode(given).decode(), look_again=_LOOK_AGAIN)
    return [
        PollState(
            wanted=wanted[row.n],
            due_in=row.due_in,
            reason=row.poll_reason,
            interval=row.poll_interval,
            failures=row.failures,
            full=row.asked_full,
            long=row.long,
            busy=row.busy,
            paused=row.paused,
            breaker=_ahead(row.breaker),
            not_before=_ahead(row.not_before),
            error=row.last_error,
            known=row.known,
            seen=row.poll_due_at,
        )
        for row in rows
    ]


def _ahead(seconds: float | None) -> float | None:
    return seconds if seconds is not None and seconds > 0 else None


async def claim(database: Database, state: PollState, *, seconds: float) -> PollClaim | None:
    """Take the poll for so long; None when another worker was faster, or somebody pulls the entity."""
    if not state.known:
        await database.rows("entity_state_ensure", **_key(state.wanted))
    rows = await database.rows(
        "poll_claim", **_key(state.wanted), seen=state.seen, seconds=seconds, poll_max=state.wanted.poll_max
    )
    return PollClaim(moment=rows[0].claimed, full=rows[0].asked_full) if rows else None


async def record(
    database: Database,
    wanted: WantedPoll,
    claimed: PollClaim,
    *,
    interval: float | None,
    failures: int,
    pause: float | None,
    reason: str,
    error: str | None,
    fulfilled: bool,
) -> None:
    """What became of a poll, and the next one in `pause` seconds (None: when somebody asks).

    Args:
        database: of the platform.
        wanted: what was polled.
        claimed: the claim it was polled under; what somebody asked for since then stays asked for.
        interval: seconds between polls from now on; None leaves it.
        failures: that many polls failed in a row.
        pause: seconds until the next poll.
        reason: a sentence for people.
        error: the sentence of the failure; None leaves what the pull itself wrote.
        fulfilled: a full read that was asked for has been made.
    """
    await database.rows(
        "poll_record",
        **_key(wanted),
        claimed=claimed.moment,
        interval=interval,
        failures=failures,
        pause=pause,
        reason=reason,
        error=error,
        fulfilled=fulfilled,
    )


async def give_back(database: Database, wanted: WantedPoll, claimed: PollClaim) -> None:
    """The poll was not made: it is due for whoever looks next."""
    await database.rows("poll_give_back", **_key(wanted), claimed=claimed.moment)


async def now(database: Database) -> dt.datetime:
    """The clock that polls are planned by."""
    rows = await database.rows("poll_clock")
    moment: dt.datetime = rows[0].now
    return moment


async def count_pull(
    database: Database, *, system: str, entity: str, scope: str, began: dt.datetime, full: bool, reason: str
) -> None:
    """A pull outside polling ended well: it counts as a poll that began then."""
    await database.rows(
        "poll_counts", system=system, entity=entity, scope=scope, began=began, full=full, reason=reason
    )


class FlowWork(msgspec.Struct, frozen=True, kw_only=True):
    """A flow with items that can be claimed now."""

    flow: str
    lane: int  # of the most urgent one
    #: False: only items that wait for another record, which are tried now and then.
    due: bool


async def flows_with_work(database: Database, queues: Sequence[tuple[str, str, int]]) -> dict[str, FlowWork]:
    """The flows among these (flow, target, lane) that have something to do, by name."""
    if not queues:
        return {}
    given = [{"flow": flow, "target": target, "lane": lane} for flow, target, lane in queues]
    rows = await database.rows("flows_with_work", queues=encode(given).decode())
    return {row.flow: FlowWork(flow=row.flow, lane=row.lane, due=row.due) for row in rows}


async def newest_delivery(database: Database) -> int:
    """The number of the newest webhook delivery, 0 when there is none."""
    rows = await database.rows("inbox_newest")
    return int(rows[0].delivery)


def _key(wanted: WantedPoll) -> dict[str, str]:
    return {"system": wanted.system, "scope": wanted.scope, "entity": wanted.entity}
