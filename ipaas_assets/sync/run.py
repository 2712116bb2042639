"""One run of a flow: pull its source, drain its targets, both at the same time, until nothing is left to do."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from ipaas_assets.sync.drain import Drain
from ipaas_assets.sync.engine import ActiveFlow, Engine
from ipaas_assets.sync.hints import HintsRead, read_hints, split
from ipaas_assets.sync.holding import Held, stopped
from ipaas_assets.sync.model import Counts, Lane, Mode, TargetWork
from ipaas_assets.sync.polling import pull_that_counts
from ipaas_assets.sync.pull import Pulled, Puller
from ipaas_assets.sync.remap import drop_orphans, raise_all, raise_pending
from ipaas_resources.core.errors import ConfigurationError, IpaasError, LeaseLostError, RetryError, StopError
from ipaas_resources.core.values import encode

log = logging.getLogger(__name__)

Progress = Callable[[Counts], None]

#: Scopes of one system that are pulled at the same time; the product's own limits hold below this anyway.
_PULLS_AT_ONCE = 2
#: Seconds between looks at the queue while others work on it.
_IDLE = 0.2


#: Groups of deliveries that a run splits, and records that webhooks told of which it reads; the next run goes on.
_SPLITS = 40
_HINTS = 5000

#: Reasons for records that are left, at the end of a run.
_REASONS_SHOWN = 5
_LEFT = {"due": "to be tried again", "parked": "waiting", "dead": "dead", "review": "for review"}


class RunResult(msgspec.Struct, kw_only=True):
    """What a run did and what it left."""

    flow: str
    mode: str
    run: int
    trace_id: str
    counts: Counts
    pulled: dict[str, Pulled]  # by scope
    pending: int = 0
    dead: int = 0
    review: int = 0
    #: Of the pending ones: why they were not written, where an attempt failed; a later run tries them again.
    retrying: str = ""
    warnings: list[str] = []
    error: str = ""
    #: False: trying again cannot help until something is mended.
    retryable: bool = True


class FlowRun:
    """Runs one flow. Any number of them, here or on other machines, share the work without a duplicate."""

    def __init__(
        self,
        engine: Engine,
        flow: str,
        *,
        mode: Mode = "incremental",
        lane: Lane = Lane.BATCH,
        pull: bool = True,
        targets: list[str] | None = None,
        ignore_window: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """`ignore_window`: write also while the flow's window is closed."""
        self._engine = engine
        self._ignore_window = ignore_window
        self._held: dict[str, Held] = {}  # targets that this run does not write (any more)
        self._flow: ActiveFlow = engine.flow(flow)
        self._mode = mode
        self._lane = lane
        self._pull = pull
        self._targets = targets
        self._progress = progress
        self._pulled: dict[str, Pulled] = {}
        self._hints = HintsRead()
        self._pulling = asyncio.Event()  # set: the pull has ended
        self._wake = asyncio.Event()
        self._done: Counter[str] = Counter()  # items worked off, by target
        self._open: dict[str, str] = {}  # systems that are left alone now, and why

    async def run(self) -> RunResult:
        """Do the work. A failure that ends the run is in the result as a sentence, beside what was done before it."""
        engine = self._engine
        if not self._flow.stored.enabled:
            raise ConfigurationError(
                f"Flow {self._flow.name!r} is disabled. Enable it with `ipaas flows enable {self._flow.name}`."
            )
        started = engine.clock.monotonic()
        trace_id = engine.ids.trace_id()
        rows = await engine.database.rows(
            "run_start", flow=self._flow.name, mode=self._mode, trace_id=trace_id
        )
        run = int(rows[0].run)
        calls = dict(engine.calls)
        drain = Drain(
            engine.database,
            clock=engine.clock,
            ids=engine.ids,
            options=engine.options,
            sides=engine.sides(),
            run=run,
            trace_id=trace_id,
        )
        result = RunResult(
            flow=self._flow.name,
            mode=self._mode,
            run=run,
            trace_id=trace_id,
            counts=drain.counts,
            pulled=self._pulled,
        )
        try:
            await self._work(drain, trace_id, run, result)
        finally:
            await drain.first_contact.close()
            counts = drain.counts
            counts.reads = engine.calls["read"] - calls.get("read", 0)
            counts.writes = engine.calls["write"] - calls.get("write", 0)
            counts.seconds = engine.clock.monotonic() - started
            counts.received = self._hints.read + sum(pulled.received for pulled in self._pulled.values())
            counts.changed = self._hints.changed + sum(pulled.changed for pulled in self._pulled.values())
            result.warnings += [pulled.warning for pulled in self._pulled.values() if pulled.warning]
            if self._hints.retried:
                result.warnings.append(
                    f"{self._hints.retried} records that webhooks told of are read later: {self._hints.error}"
                )
            waiting: Counter[str] = Counter()
            for row in await self._left():
                if row.state in {"due", "parked"}:
                    result.pending += row.items
                    waiting[row.target] += row.items
                elif row.state == "dead":
                    result.dead += row.items
                else:
                    result.review += row.items
            result.warnings += [
                f"{target} is held {held.words}: {waiting[target]} records wait"
                for target, held in self._held.items()
            ]
            await self._explain(result)
            await engine.database.rows(
                "run_end", run=run, counts=encode(counts).decode(), error=result.error or None
            )
        return result

    async def _left(self) -> list[Any]:
        """What is left in the queue, by target and state."""
        database, name = self._engine.database, self._flow.name
        rows = await database.rows("queue_state", flow=name, horizon=0)
        if any(row.target not in self._flow.compiled.targets for row in rows):
            # A worker of the version before held them when their target was removed.
            await drop_orphans(self._engine, self._flow)
            rows = await database.rows("queue_state", flow=name, horizon=0)
        return rows

    async def _explain(self, result: RunResult) -> None:
        """Say why records are left, most frequent reasons first."""
        for row in await self._engine.database.rows(
            "queue_reasons", flow=self._flow.name, most=_REASONS_SHOWN
        ):
            result.warnings.append(f"{row.items} {_LEFT[row.state]}: {row.error}")
            if row.state == "due":
                result.retrying = result.retrying or row.error
        if result.pending:
            result.warnings += self._open.values()
            result.retrying = result.retrying or next(iter(self._open.values()), "")
        (held,) = await self._engine.database.rows("queue_held", flow=self._flow.name)
        if held.items:
            result.warnings.append(
                f"{held.items} held by another run, or by one that died; free again in at most {held.seconds:.0f} s"
            )

    async def _work(self, drain: Drain, trace_id: str, run: int, result: RunResult) -> None:
        works = [
            work
            for work in await self._engine.works(self._flow)
            if self._targets is None or work.queue.target in self._targets
        ]
        await self._refuse_paused(works)
        await raise_pending(self._engine, self._flow.name)
        if self._mode == "replan":
            await self._replan(trace_id)
        errors: list[IpaasError] = []

        async def guarded(step: Coroutine[Any, Any, None]) -> None:
            try:
                await step
            except IpaasError as error:
                errors.append(error)

        async def pulls() -> None:
            try:
                await guarded(self._take_deliveries(trace_id, run))
                if self._pull:
                    await self._pull_all(trace_id, run, errors, drain.counts)
            finally:
                self._pulling.set()
                self._wake.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(guarded(pulls()))
            for work in works:
                for _ in range(self._engine.options.writers):
                    group.create_task(guarded(self._drain_target(drain, work)))
        for work in works:
            await self._engine.database.rows(
                "intents_resolve", flow=work.queue.flow, target=work.queue.target
            )
        if errors:
            first = next((error for error in errors if isinstance(error, StopError)), errors[0])
            result.error = first.message
            result.retryable = not isinstance(first, StopError)

    async def _refuse_paused(self, works: list[TargetWork]) -> None:
        """A run that could not read, or has no target to write, says so at once; others leave out what is paused."""
        paused = (await stopped(self._engine.database)).paused
        source = self._flow.compiled.flow.source.system
        aimed = [work.system.name for work in works]
        if source in paused:
            stop = source
        elif aimed and paused.issuperset(aimed):
            stop = aimed[0]
        else:
            return
        raise ConfigurationError(
            f"System {stop!r} is paused, so flow {self._flow.name!r} does not run. "
            f"Resume it with `ipaas systems resume {stop}`."
        )

    async def _is_held(self, work: TargetWork) -> bool:
        """Asked before each batch: a window may close, and a person may pause a system, while the run goes on."""
        now = await stopped(self._engine.database)
        held = now.holds(self._flow.compiled.flow, [work.queue.target]).get(work.queue.target)
        if held is None or (held.reason == "window" and self._ignore_window):
            return False
        if held.reason == "disabled":  # the drain finds that out itself, under the flow's lock
            return False
        self._held[work.queue.target] = held
        return True

    async def _replan(self, trace_id: str) -> None:
        await raise_all(self._engine, self._flow, trace_id, self._targets)

    # --- pull ------------------------------------------------------------------------------------------------------

    async def _take_deliveries(self, trace_id: str, run: int) -> None:
        """What webhooks told of the source is read, so that runs alone deliver it where no live worker is there."""
        flow = self._flow.compiled.flow
        if not flow.trigger.webhook:
            return
        for _ in range(_SPLITS):
            if not (await split(self._engine.database)).received:
                break
        self._hints = await read_hints(
            self._engine,
            system=flow.source.system,
            entity=flow.source.entity,
            most=_HINTS,
            trace_id=trace_id,
            run=run,
        )

    async def _pull_all(self, trace_id: str, run: int, errors: list[IpaasError], counts: Counts) -> None:
        source = self._flow.compiled.flow.source
        scopes = await self._engine.scopes(source.system, source.scopes)
        gate = asyncio.Semaphore(_PULLS_AT_ONCE)

        async def one(scope: str) -> None:
            async with gate:
                try:
                    await self._pull_scope(scope, trace_id, run, counts)
                except IpaasError as error:
                    # One scope that fails never stops the others.
                    errors.append(error)

        await asyncio.gather(*(one(scope) for scope in scopes))

    async def _pull_scope(self, scope: str, trace_id: str, run: int, counts: Counts) -> None:
        source = self._flow.compiled.flow.source
        puller = Puller(
            self._engine.database,
            await self._engine.source(source.system, source.entity, scope),
            clock=self._engine.clock,
            options=self._engine.options,
            lane=self._lane,
            trace_id=trace_id,
            run=run,
            on_page=self._on_page,
            counts=counts,
            refresh=lambda: self._engine.fresh_source(source.system, source.entity, scope),
        )
        self._pulled[scope] = puller.pulled
        await pull_that_counts(
            self._engine,
            puller,
            system=source.system,
            entity=source.entity,
            scope=scope,
            full=self._mode == "full",
        )

    async def _on_page(self, _pulled: Pulled) -> None:
        self._wake.set()

    # --- drain -----------------------------------------------------------------------------------------------------

    async def _drain_target(self, drain: Drain, work: TargetWork) -> None:
        waited = 0.0
        while True:
            ended = self._pulling.is_set()
            if not ended and not self._enough(work):
                self._wake.clear()
                await self._wake.wait()
                continue
            left_alone = await self._left_alone(work)
            done = 0 if left_alone else await self._one_batch(drain, work)
            if done is None:
                return
            if done:
                waited = 0.0
                self._done[work.queue.target] += done
                if self._progress is not None:
                    self._progress(drain.counts)
                continue
            if not ended:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), timeout=_IDLE)
                continue
            pause = await self._next_due(work)
            if pause is not None:
                pause = max(pause, left_alone)
            if pause is None or waited + pause > self._engine.options.patience:
                return
            pause = max(pause, 0.02)
            waited += pause
            await self._engine.clock.sleep(pause)

    async def _one_batch(self, drain: Drain, work: TargetWork) -> int | None:
        """How many items a batch held; None: this run has nothing more to do with the target."""
        if await self._is_held(work):
            return None
        try:
            return await drain.one_batch(work)
        except LeaseLostError as error:
            if error.code == "flow_switched":
                return None
            log.warning(error.message)
            return 0

    async def _left_alone(self, work: TargetWork) -> float:
        """Seconds for which the target's circuit breaker lets nothing through: then nothing is claimed either."""
        state = await self._engine.breakers.look(work.system.name)
        if state is None or not state.left:
            self._open.pop(work.system.name, None)
            return 0.0
        self._open[work.system.name] = state.sentence()
        return state.left

    def _enough(self, work: TargetWork) -> bool:
        """While the pull goes on, only full batches are worked on: small ones would waste the system's budget of calls.

        What another run left behind is found at the end at the latest.
        """
        raised = sum(pulled.changed for pulled in self._pulled.values())
        return raised - self._done[work.queue.target] >= self._engine.options.batch

    async def _next_due(self, work: TargetWork) -> float | None:
        """Seconds until this target has something to do, None when it has not."""
        rows = await self._engine.database.rows(
            "due_in", flow=work.queue.flow, target=work.queue.target, parents=list(work.queue.parents)
        )
        seconds = rows[0][0]
        return None if seconds is None else max(0.0, float(seconds))


async def run_flow(
    engine: Engine,
    flow: str,
    *,
    mode: Mode = "incremental",
    lane: Lane = Lane.BATCH,
    pull: bool = True,
    targets: list[str] | None = None,
    ignore_window: bool = False,
    progress: Progress | None = None,
) -> RunResult:
    """Run one flow to the end. Raises ConfigurationError for an unknown, disabled or paused one."""
    return await FlowRun(
        engine,
        flow,
        mode=mode,
        lane=lane,
        pull=pull,
        targets=targets,
        ignore_window=ignore_window,
        progress=progress,
    ).run()


async def pull_entity(
    engine: Engine, system: str, entity: str, *, mode: Mode = "incremental", lane: Lane = Lane.BATCH
) -> dict[str, Pulled]:
    """Pull one entity of every scope into the mirror, raising work for its flows. Raises the first error after all."""
    if engine.system(system).paused:
        raise ConfigurationError(
            f"System {system!r} is paused. Resume it with `ipaas systems resume {system}`."
        )
    trace_id = engine.ids.trace_id()
    pulled: dict[str, Pulled] = {}
    failed: list[RetryError | StopError] = []
    for scope in await engine.scopes(system):
        puller = Puller(
            engine.database,
            await engine.source(system, entity, scope),
            clock=engine.clock,
            options=engine.options,
            lane=lane,
            trace_id=trace_id,
            run=None,
            refresh=functools.partial(engine.fresh_source, system, entity, scope),
        )
        pulled[scope] = puller.pulled
        try:
            await pull_that_counts(
                engine, puller, system=system, entity=entity, scope=scope, full=mode == "full"
            )
        except (RetryError, StopError) as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return pulled
