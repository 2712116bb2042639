"""Budgets that all processes share: rate tokens, concurrency permits, and "not before", kept in PostgreSQL.

A process leases tokens in blocks that lapse after two seconds and permits that it renews while it uses them, so that a
budget costs a few transactions a second and not one per request, and a killed process gives everything back by silence.

Why no window ever holds too many requests: a bucket of `capacity` tokens is refilled with `rate`. Tokens used within a
window of W seconds were granted within W + lease, and what is sent within a window arrives within W + slack; so at most
capacity + rate x (W + lease + slack) requests arrive in any window, and `bucket_of` keeps that under the limit.

While a worker of the realtime lane lives, processes of other lanes leave a share of the tokens and of the permits
untouched (see limits_sql.py), so that a webhook's read or write never queues behind a first load.

Shared times are the database's clock; a process only counts seconds since it asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from ipaas_resources.core.clock import SystemIds
from ipaas_resources.core.errors import DatabaseUnavailableError, ThrottledError
from ipaas_resources.core.limits import BudgetLane, LimitPolicy
from ipaas_resources.store.database import database_error
from ipaas_resources.store.limits_sql import Ask, bucket_of, forget, pause, settle

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy.ext.asyncio import AsyncEngine

    from ipaas_resources.core.clock import Ids
    from ipaas_resources.core.limits import BudgetKey

#: Seconds for which permits are good without another word: longer than a request may be silent (read timeout 30 s),
#: so that a process that dies while the system still works for it keeps its place for that long.
PERMIT_LEASE = 40.0
#: Seconds after which what a process published about itself is brought up to date, and idle permits are given back.
_REFRESH = 0.25
#: Seconds between questions for a permit that is ours by right but still in use elsewhere.
_POLL = 0.05
#: Seconds for which a process of the realtime lane keeps permits and tokens like those it used last: the next delivery
#: waits for no transaction. It goes on asking meanwhile, so that others get their share of what lies idle.
_STEADY = 1.0
#: Seconds for which a wait makes a budget scarce.
_LATELY = 5.0


_NOTHING = LimitPolicy(requests=1, window=1.0, concurrency=1)


class PostgresLimits:
    """The keeper of budgets for one process and event loop. See core.limits.Limits."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        lane: BudgetLane = "batch",
        ids: Ids | None = None,
        patience: float = 60.0,
        permit_lease: float = PERMIT_LEASE,
    ) -> None:
        """Keep budgets in the database of this engine.

        Args:
            engine: async, postgresql+psycopg; one connection is used at a time per budget.
            lane: what this process works for; all but realtime leave a share to it.
            ids: makes the name under which this process holds permits.
            patience: seconds that a request waits at most; a longer wait is refused, because the caller holds leases.
            permit_lease: seconds until the permits of a dead process come back.
        """
        self._engine = engine
        self._lane = lane
        self._holder = (ids or SystemIds()).trace_id()
        self._patience = patience
        self._permit_lease = permit_lease
        self._budgets: dict[BudgetKey, _Budget] = {}

    def request(self, key: BudgetKey, policy: LimitPolicy) -> _Permission:
        """Wait for a rate token and a concurrency permit; hold the permit while the request is under way.

        Raises:
            ThrottledError: the wait would be longer than the patience; nothing was sent.
            DatabaseUnavailableError: the budget cannot be read.
        """
        return _Permission(self._budget(key, policy))

    async def not_before(self, key: BudgetKey, seconds: float) -> None:
        """No process sends to this budget for that long; others learn of it within the life of their tokens.

        Raises:
            DatabaseUnavailableError: the pause could not be told to the others; this process keeps it all the same.
        """
        budget = self._budgets.get(key)
        if budget is not None:
            budget.pause_for(seconds)
        try:
            await pause(self._engine, key, budget.policy if budget is not None else None, seconds)
        except (SQLAlchemyError, OSError) as error:
            raise _unavailable(error) from error

    def scarce(self, system: str) -> bool:
        """Whether a request of this process to that system had to wait within the last second. Asks no database."""
        return any(budget.scarce for key, budget in self._budgets.items() if key.system == system)

    async def close(self) -> None:
        """Give everything back."""
        for budget in self._budgets.values():
            await budget.close()
        self._budgets.clear()

    def _budget(self, key: BudgetKey, policy: LimitPolicy) -> _Budget:
        budget = self._budgets.get(key)
        if budget is None:
            budget = self._budgets[key] = _Budget(
                self._engine,
                key,
                self._holder,
                self._lane,
                patience=self._patience,
                permit_lease=self._permit_lease,
            )
        budget.policy = policy
        return budget


class _Permission:
    """`async with` one request."""

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget

    async def __aenter__(self) -> None:
        await self._budget.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.release()


class _Waiter:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Budget:
    """One budget as this process sees it.

    Requests come and go without waiting for the database as long as tokens and permits are at hand. A timer tells when the
    database is to be told or asked next (`_due`), and one task at a time does so (`_settle`).
    """

    def __init__(
        self,
        engine: AsyncEngine,
        key: BudgetKey,
        holder: str,
        lane: BudgetLane,
        *,
        patience: float,
        permit_lease: float,
    ) -> None:
        self.policy = _NOTHING
        self._engine = engine
        self._key = key
        self._holder = holder
        self._lane = lane
        self._patience = patience
        self._permit_lease = permit_lease
        self._waiters: deque[_Waiter] = deque()
        self._busy = 0
        self._tokens = 0
        self._tokens_until = 0.0
        self._permits = 0
        self._permits_until = 0.0
        self._surplus = 0  # permits in use that are others' by right: given back as requests end
        self._paused_until = 0.0
        self._served = False  # a request was let go since the database was last told
        self._published = (0, 0)  # permits and wants that the database knows of
        self._told_at = 0.0
        self._share = 0  # permits that were fair when last asked
        self._tokens_at = 0.0  # when the database may have tokens for us
        self._ask_at = 0.0  # not before: the database failed
        self._used = 0  # permits that were used at once lately
        self._used_at = -math.inf
        self._scarce_at = -math.inf  # when a request was last left waiting by what the database granted
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def scarce(self) -> bool:
        """Whether a request had to wait lately for more than one answer of the database."""
        return time.monotonic() - self._scarce_at < _LATELY

    async def acquire(self) -> None:
        """Wait for the permission to send one request."""
        now = time.monotonic()
        if not self._waiters and self._take(now):
            return
        waiter = _Waiter(now + self._patience)
        self._waiters.append(waiter)
        self._plan()
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled() and not waiter.granted.exception():
                self.release()  # granted in the very moment of the cancellation
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)
            raise

    def release(self) -> None:
        """One request less under way."""
        self._busy -= 1
        if self._surplus:
            self._surplus -= 1
            self._permits -= 1
        self._let_go()
        self._plan()

    def pause_for(self, seconds: float) -> None:
        """Send nothing for that long."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)
        self._plan()

    async def close(self) -> None:
        """Stop keeping up and give everything back."""
        self._closed = True
        self._fail(ThrottledError("The process is ending; the request was not sent."))
        self._set_timer(None)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(SQLAlchemyError, OSError):
            # What cannot be given back lapses by itself.
            await forget(self._engine, self._key, self._holder, self._good_tokens(time.monotonic()))

    def _good_tokens(self, now: float) -> int:
        return self._tokens if now < self._tokens_until else 0

    def _take(self, now: float) -> bool:
        """Let one request go if everything is at hand."""
        if (
            now < self._paused_until
            or now >= self._permits_until
            or self._busy >= self._permits - self._surplus
            or not self._good_tokens(now)
        ):
            return False
        self._tokens -= 1
        self._busy += 1
        self._served = True
        self._steady(now)
        return True

    def _let_go(self) -> None:
        """Let those who wait go, first come first served."""
        now = time.monotonic()
        while self._waiters:
            waiter = self._waiters[0]
            if waiter.granted.done():
                self._waiters.popleft()
            elif self._take(now):
                self._waiters.popleft()
                waiter.granted.set_result(None)
            else:
                break

    def _plan(self) -> None:
        """Settle now, or at the right time."""
        if self._task is not None or self._closed:
            return  # the task plans again at its end
        now = time.monotonic()
        self._give_up_on(now)
        due = self._due(now)
        if due is not None and due <= now:
            self._set_timer(None)
            self._task = asyncio.create_task(self._settle(), name=f"budget of {self._key.system}")
        else:
            self._set_timer(due)

    def _set_timer(self, due: float | None) -> None:
        if self._timer is not None:
            if due is not None and self._timer_at <= due:
                return  # it comes early enough, and plans again
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_at = due
            delay = max(0.0, due - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._plan()

    def _due(self, now: float) -> float | None:
        """When the database is to be asked or told next; None when there is nothing to keep up."""
        wants = max(min(self._busy + len(self._waiters), self.policy.concurrency), self._steady(now))
        moments: list[float] = []
        if self._permits:
            moments.append(self._told_at + self._permit_lease / 3)
        if self._steady(now) > self._busy:
            moments.append(self._told_at + _REFRESH)
        if self._waiters:
            moments.append(max(self._next_question(now, wants), self._paused_until))
            moments.append(self._waiters[0].deadline)
        if self._permits < self._published[0]:
            moments.append(now)  # others wait for what was given back
        elif self._published != (self._permits, wants):
            moments.append(self._told_at + _REFRESH)
        return min(moments, default=None)

    def _steady(self, now: float) -> int:
        """Permits to keep because as many were used a moment ago; 0 outside the realtime lane."""
        if self._lane != "realtime":
            return 0
        wants = min(self._busy + len(self._waiters), self.policy.concurrency)
        if wants >= self._used or now - self._used_at > _STEADY:
            self._used, self._used_at = wants, now
        return self._used

    def _next_question(self, now: float, wants: int) -> float:
        """When asking may bring what the waiting requests lack."""
        if wants > self._published[1]:
            return self._ask_at  # the database does not know yet how much we want
        moment = self._ask_at
        if self._busy >= self._permits - self._surplus:
            moment = self._told_at + (_POLL if self._permits < self._share else _REFRESH)
        if not self._good_tokens(now):
            moment = max(moment, self._tokens_at)
        return moment

    async def _settle(self) -> None:
        try:
            await self._ask()
        except Exception as error:  # noqa: BLE001 - whoever waits for a permission gets it
            known = isinstance(error, SQLAlchemyError | OSError)
            self._fail(_unavailable(error) if known else error)
            self._told_at = time.monotonic()
            self._ask_at = self._told_at + 1.0
        finally:
            self._task = None
        self._let_go()
        if self._waiters:
            self._scarce_at = time.monotonic()
        self._plan()

    async def _ask(self) -> None:
        asked_at = time.monotonic()
        tokens = self._good_tokens(asked_at)
        # Nothing is let go while the answer is under way: tokens are given back and taken anew.
        self._tokens = 0
        served, self._served = self._served, False
        busy, waiting, steady = self._busy, len(self._waiters), self._steady(asked_at)
        grant = await settle(
            self._engine,
            Ask(
                key=self._key,
                policy=self.policy,
                holder=self._holder,
                lane=self._lane,
                busy=busy,
                waiting=waiting,
                tokens=tokens,
                served=served,
                lease=self._permit_lease,
                steady=steady,
            ),
        )
        # Requests may have ended meanwhile: what is above our share and not in use any more goes back at once.
        self._permits = min(grant.permits, max(self._busy, grant.share))
        self._surplus = max(0, self._permits - grant.share)
        self._permits_until = asked_at + self._permit_lease
        self._tokens = grant.tokens
        self._tokens_until = asked_at + bucket_of(self.policy).lease
        self._published = (grant.permits, max(min(busy + waiting, self.policy.concurrency), steady))
        self._told_at = time.monotonic()
        if grant.pause:
            self._paused_until = max(self._paused_until, asked_at + grant.pause)
        self._share = grant.share
        self._tokens_at = self._told_at + (max(_POLL, grant.token_in) if grant.tokens < waiting else 0.0)

    def _give_up_on(self, now: float) -> None:
        """Refuse the requests that would wait longer than the patience."""
        left = self._paused_until - now
        while self._waiters and (self._waiters[0].deadline <= now or left > self._patience):
            waiter = self._waiters.popleft()
            if not waiter.granted.done():
                waiter.granted.set_exception(self._too_long(max(left, 1.0)))

    def _too_long(self, seconds: float) -> ThrottledError:
        return ThrottledError(
            f"The budget of system {self._key.system} allows no request now; it is sent again later.",
            retry_after=seconds,
        )

    def _fail(self, error: Exception) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.granted.done():
                waiter.granted.set_exception(error)


def _unavailable(error: BaseException) -> DatabaseUnavailableError:
    return database_error(error) or DatabaseUnavailableError(
        "The request budgets cannot be read from the platform's database, so nothing is sent; check the database."
    )
