"""The transactions of `store/limits.py`: what one process asks of a budget, and what it is granted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ipaas_resources.core.limits import BudgetKey, BudgetLane, LimitPolicy
from ipaas_resources.store.limits_tables import concurrency_permits, rate_budgets
from ipaas_resources.store.live_tables import workers
from ipaas_resources.store.workers import FRESH

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """How a policy becomes tokens."""

    capacity: float  # tokens that may gather
    rate: float  # tokens per second
    lease: float  # seconds for which a granted token may be used


#: Seconds for which a block of tokens may be used, and by which a request may arrive later than it was sent; a short
#: window gets shares of itself instead.
_LEASE, _SLACK = 2.0, 2.0
_LEASE_SHARE, _SLACK_SHARE = 1 / 10, 1 / 30
#: Share of a window's requests that may gather while nothing is sent: 200 of Business Central's 6,000.
_CAPACITY_SHARE = 1 / 30


def bucket_of(policy: LimitPolicy) -> Bucket:
    """The bucket that never lets more than `policy.requests` arrive in any window (see store/limits.py)."""
    lease = min(_LEASE, policy.window * _LEASE_SHARE)
    slack = min(_SLACK, policy.window * _SLACK_SHARE)
    capacity = max(1.0, policy.requests * _CAPACITY_SHARE)
    # Whole requests are counted: less than one over the limit is not over it.
    rate = (policy.requests + 0.99 - capacity) / (policy.window + lease + slack)
    return Bucket(capacity=capacity, rate=rate, lease=lease)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What lanes other than realtime leave untouched."""

    tokens: float = 0.0
    permits: int = 0


#: Share of a bucket's tokens and of the permits that is kept for realtime; of permits never more than so many.
_KEPT_SHARE, _KEPT_PERMITS = 1 / 5, 4
#: Seconds without a token after which another lane may take one of those that are kept: realtime goes first, but where
#: it wants all there is the others still move.
_STARVED = 5.0


def kept_of(policy: LimitPolicy) -> Kept:
    """What is kept while a worker of the realtime lane lives; nothing where the whole is one.

    >>> kept_of(LimitPolicy(requests=6000, window=300.0, concurrency=5))
    Kept(tokens=40.0, permits=1)
    """
    capacity = bucket_of(policy).capacity
    return Kept(
        tokens=max(1.0, capacity * _KEPT_SHARE) if capacity >= 2 else 0.0,  # noqa: PLR2004 - one to keep, one to use
        permits=min(_KEPT_PERMITS, math.ceil(policy.concurrency * _KEPT_SHARE))
        if policy.concurrency > 1
        else 0,
    )


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What one process tells and wants."""

    key: BudgetKey
    policy: LimitPolicy
    holder: str
    lane: BudgetLane
    busy: int  # requests under way
    waiting: int  # requests that wait
    tokens: int  # unused tokens, given back now
    served: bool  # a request was sent since the last time
    lease: float  # seconds for which permits are good without another word
    steady: int = 0  # permits that it used a moment ago and expects to use again at once


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What the process may do now."""

    pause: float  # seconds in which nobody may send
    tokens: int  # requests that may be sent within the bucket's lease
    token_in: float  # seconds until another token, when none was granted
    permits: int  # requests that may be under way, at least `busy`
    share: int  # permits that are fair; less than `busy`: give back as requests end


def shares(wants: Sequence[tuple[str, int]], total: int) -> dict[str, int]:
    """Permits per holder, one round after the other in this order, until all are given or nobody wants more.

    >>> shares([("a", 4), ("b", 1), ("c", 9)], 5)
    {'a': 2, 'b': 1, 'c': 2}
    """
    given = dict.fromkeys((holder for holder, _ in wants), 0)
    open_ = [(holder, want) for holder, want in wants if want > 0]
    while total > 0 and open_:
        for holder, _ in open_[:total]:
            given[holder] += 1
        total -= min(total, len(open_))
        open_ = [(holder, want) for holder, want in open_ if given[holder] < want]
    return given


def shares_with_kept(
    wants: Sequence[tuple[str, int]], total: int, urgent: Collection[str], kept: int
) -> dict[str, int]:
    """The same, where `kept` of the permits go to the urgent holders alone; they stay free when those want none.

    >>> shares_with_kept([("a", 9), ("b", 9), ("live", 2)], 5, {"live"}, 1)
    {'a': 2, 'b': 1, 'live': 2}
    """
    first = shares([(holder, want) for holder, want in wants if holder in urgent], kept)
    rest = shares([(holder, want - first.get(holder, 0)) for holder, want in wants], total - kept)
    return {holder: given + first.get(holder, 0) for holder, given in rest.items()}


#: Tokens are fetched ahead for this many seconds of the process's share of the rate, or this share of what has gathered.
_AHEAD_SECONDS, _AHEAD_SHARE = 0.25, 0.25
_URGENT = "realtime"


async def settle(engine: AsyncEngine, ask: Ask) -> Grant:
    """Give back, take, and renew, in one transaction that holds the budget's row."""
    bucket = bucket_of(ask.policy)
    async with engine.begin() as connection:
        counted = await _counted(connection, ask.key, bucket)
        kept = kept_of(ask.policy) if counted.realtime_lives else Kept()
        holders = await _holders(connection, ask)
        others = [each for each in holders if each.holder != ask.holder]
        mine = next((each for each in holders if each.holder == ask.holder), None)
        wanted = min(max(ask.busy + ask.waiting, ask.steady), ask.policy.concurrency)
        wants = [(each.holder, each.wanted) for each in others]
        place = len(wants) if ask.served or mine is None else holders.index(mine)
        wants.insert(place, (ask.holder, wanted))
        urgent = {each.holder for each in others if each.lane == _URGENT}
        urgent |= {ask.holder} if ask.lane == _URGENT else set()

        share = shares_with_kept(wants, ask.policy.concurrency, urgent, kept.permits)[ask.holder]
        free = ask.policy.concurrency - sum(each.permits for each in others)
        if ask.lane != _URGENT:
            usual = sum(each.permits for each in others if each.lane != _URGENT)
            free = min(free, ask.policy.concurrency - kept.permits - usual)
        permits = max(ask.busy, min(share, free))

        available = min(bucket.capacity, counted.tokens + ask.tokens)
        pause_left = max(0.0, float(counted.pause or 0.0))
        wanting = [holder for holder, want in wants if want]
        waited = 0.0 if ask.served or mine is None else mine.waited
        tokens = 0
        if (ask.waiting or ask.steady) and not pause_left:
            tokens = _tokens(ask, bucket, kept, available, wanting, urgent, starved=waited >= _STARVED)
        await connection.execute(
            sa.update(rate_budgets).where(*_is(rate_budgets, ask.key)).values(tokens=available - tokens)
        )
        await _keep(connection, ask, permits, wanted, served=ask.served or mine is None)
    token_in = max(0.0, 1 - available) / bucket.rate
    if ask.lane != _URGENT and kept.tokens:
        usual_in = max(0.0, 1 + kept.tokens - available) / bucket.rate
        token_in = min(usual_in, max(token_in, _STARVED - waited))
    return Grant(pause=pause_left, tokens=tokens, token_in=token_in, permits=permits, share=share)


def _tokens(
    ask: Ask,
    bucket: Bucket,
    kept: Kept,
    available: float,
    wanting: Collection[str],
    urgent: Collection[str],
    *,
    starved: bool,
) -> int:
    """How many tokens a process that wants some gets now: its part of what is there, and no more than it can soon use."""
    usual = max(0.0, available - kept.tokens)
    many = max(1, len(wanting))
    part = usual / many
    if ask.lane == _URGENT:
        part += (available - usual) / max(1, sum(holder in urgent for holder in wanting))
    if (available if ask.lane == _URGENT else usual) < 1:
        return int(starved and available >= 1)
    ahead = int(max(bucket.rate * _AHEAD_SECONDS / many, part * _AHEAD_SHARE))
    return min(ask.waiting + ahead, max(1, int(part)))


async def pause(engine: AsyncEngine, key: BudgetKey, policy: LimitPolicy | None, seconds: float) -> None:
    """Nobody sends to this budget for that long; a longer pause that is known already stays."""
    capacity = bucket_of(policy).capacity if policy is not None else 0.0
    until = sa.func.clock_timestamp() + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    statement = insert(rate_budgets).values(
        **_columns(key), tokens=capacity, counted_at=sa.func.clock_timestamp(), not_before=until
    )
    statement = statement.on_conflict_do_update(
        index_elements=rate_budgets.primary_key.columns,
        # greatest() ignores null.
        set_={"not_before": sa.func.greatest(rate_budgets.c.not_before, statement.excluded.not_before)},
    )
    async with engine.begin() as connection:
        await connection.execute(statement)


async def forget(engine: AsyncEngine, key: BudgetKey, holder: str, tokens: int) -> None:
    """Give everything back at once; tokens above the capacity are cut at the next count."""
    async with engine.begin() as connection:
        await connection.execute(
            sa.update(rate_budgets)
            .where(*_is(rate_budgets, key))
            .values(tokens=rate_budgets.c.tokens + tokens)
        )
        await connection.execute(
            sa.delete(concurrency_permits).where(
                *_is(concurrency_permits, key), concurrency_permits.c.holder == holder
            )
        )


async def _counted(connection: AsyncConnection, key: BudgetKey, bucket: Bucket) -> sa.Row[Any]:
    """The budget's row, locked, its tokens counted up to now. It is made when it is not there."""
    now = sa.func.clock_timestamp()
    lives = sa.exists().where(
        workers.c.role == "worker",
        workers.c.lane == _URGENT,
        workers.c.beat_at > now - sa.func.make_interval(0, 0, 0, 0, 0, 0, FRESH),
    )
    passed = sa.func.greatest(0.0, sa.extract("epoch", now - rate_budgets.c.counted_at))
    count = (
        sa.update(rate_budgets)
        .where(*_is(rate_budgets, key))
        .values(
            tokens=sa.func.least(bucket.capacity, rate_budgets.c.tokens + bucket.rate * passed),
            counted_at=now,
        )
        .returning(
            rate_budgets.c.tokens,
            sa.cast(sa.extract("epoch", rate_budgets.c.not_before - now), sa.Double).label("pause"),
            lives.label("realtime_lives"),
        )
    )
    row = (await connection.execute(count)).one_or_none()
    if row is None:
        await connection.execute(
            insert(rate_budgets)
            .values(**_columns(key), tokens=bucket.capacity, counted_at=now)
            .on_conflict_do_nothing()
        )
        row = (await connection.execute(count)).one()
    return row


class _Holder(msgspec.Struct, frozen=True):
    holder: str
    permits: int
    wanted: int
    lane: str
    waited: float  # seconds since it was last served


async def _holders(connection: AsyncConnection, ask: Ask) -> list[_Holder]:
    """The living holders, who waited longest first; those whose lease is over are removed."""
    table = concurrency_permits
    now = sa.func.clock_timestamp()
    gone = sa.delete(table).where(*_is(table, ask.key), table.c.expires_at < now).returning(table.c.holder)
    dead = gone.cte("dead")
    statement = (
        sa.select(
            table.c.holder,
            table.c.permits,
            table.c.wanted,
            table.c.lane,
            sa.cast(sa.extract("epoch", now - table.c.served_at), sa.Double),
        )
        .where(*_is(table, ask.key), table.c.holder.not_in(sa.select(dead.c.holder)))
        .order_by(table.c.served_at, table.c.holder)
        .add_cte(dead)
    )
    return [_Holder(*row) for row in await connection.execute(statement)]


async def _keep(connection: AsyncConnection, ask: Ask, permits: int, wanted: int, *, served: bool) -> None:
    """Write this process's row; one that holds and wants nothing has none."""
    table = concurrency_permits
    if not permits and not wanted:
        await connection.execute(sa.delete(table).where(*_is(table, ask.key), table.c.holder == ask.holder))
        return
    now = sa.func.clock_timestamp()
    statement = insert(table).values(
        **_columns(ask.key),
        holder=ask.holder,
        permits=permits,
        wanted=wanted,
        lane=ask.lane,
        served_at=now,
        expires_at=now + sa.func.make_interval(0, 0, 0, 0, 0, 0, ask.lease),
    )
    new = statement.excluded
    changed = {"permits": new.permits, "wanted": new.wanted, "expires_at": new.expires_at}
    if served:
        changed["served_at"] = new.served_at
    await connection.execute(
        statement.on_conflict_do_update(index_elements=table.primary_key.columns, set_=changed)
    )


def _columns(key: BudgetKey) -> dict[str, Any]:
    return {"system": key.system, "credential": key.credential, "scope": key.scope}


def _is(table: sa.Table, key: BudgetKey) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        table.c.system == key.system,
        table.c.credential == key.credential,
        table.c.scope == key.scope,
    )
