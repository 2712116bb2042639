"""Adaptive polling: an entity that changes is asked often, an idle one rarely, a failing one more and more rarely.

The state stands in the database, so any number of workers and sensors poll together and none of them asks twice. What
went before is not needed to go on: a worker that dies leaves a claim that runs out.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.model import Lane
from ipaas_assets.sync.pull import Pulled, Puller
from ipaas_resources.core.errors import (
    CircuitOpenError,
    DatabaseUnavailableError,
    IpaasError,
    LeaseLostError,
    RetryError,
    StopError,
)
from ipaas_resources.store import polling as store
from ipaas_resources.store.polling import PollClaim, PollState, WantedPoll
from mappings.spec import Flow

log = logging.getLogger(__name__)

#: An idle entity is asked so much more rarely each time.
_LONGER: Final = 1.5
#: Seconds between tries of a poll that somebody asked for, where no flow says how often the entity may be polled.
_ASKED_MIN: Final = 15.0
_ASKED_MAX: Final = 900.0
#: Seconds until a poll that another worker makes, or that ran out of time, is looked at again.
_SOON: Final = 5.0
_PLATFORM_FAULT: Final = "platform_fault"

#: So many scopes that stand alike are named one by one.
_APART: Final = 3

Outcome = Literal["pulled", "failed", "unfinished", "elsewhere"]


class Polled(msgspec.Struct, kw_only=True):
    """What became of one poll."""

    state: PollState
    #: pulled; failed: `error` says why; unfinished: the time given was over, what was read stays; elsewhere: another
    #: worker polls or pulls it.
    outcome: Outcome
    reason: str
    full: bool = False
    trace_id: str = ""
    pulled: Pulled = msgspec.field(default_factory=Pulled)
    failures: int = 0
    error: str = ""
    #: False: trying again cannot help until something is mended.
    retryable: bool = True


def next_interval(before: float | None, changed: int, poll_min: float, poll_max: float) -> float:
    """Seconds until the next poll of an entity, after one that found so many changes.

    Changes come in bursts, so one is enough to ask as often as allowed again; silence lengthens the interval step by step.
    """
    if changed:
        return poll_min
    return min(poll_max, max(poll_min, before or poll_min) * _LONGER)


def pause_after(
    failures: int, interval: float | None, poll_min: float, poll_max: float, retry_after: float | None
) -> float:
    """Seconds until the next try after so many failures in a row; what the system asked for is the least."""
    doubled: float = max(poll_min, interval or poll_min) * 2.0 ** min(failures, 32)
    return max(min(poll_max, doubled), retry_after or 0.0)


async def polls(engine: Engine, *, system: str | None = None) -> list[PollState]:
    """Every entity that enabled flows read, one scope each, with its next poll; what is due longest first."""
    return await store.standing(engine.database, await _wanted(engine, system))


async def due_polls(engine: Engine, *, system: str | None = None) -> list[PollState]:
    """What may be polled now, what is due longest first: not of paused systems nor behind an open breaker."""
    return [state for state in await polls(engine, system=system) if state.due]


async def next_poll_in(engine: Engine) -> float | None:
    """Seconds until the next poll is due, 0 when one is; None when there is nothing to poll."""
    moments = [state.due_in for state in await polls(engine) if state.due_in is not None and not state.paused]
    return max(0.0, min(moments)) if moments else None


async def poll(
    engine: Engine, due: PollState, *, lane: Lane = Lane.POLLING, within: float | None = None
) -> Polled:
    """Pull one due entity and plan its next poll. Failures of the source are in the result, and recorded.

    Args:
        engine: opened.
        due: from `due_polls`; when another worker polled it meanwhile, nothing is asked.
        lane: of the work that changes raise. What is read in full is work for the batch lane: a first load must not
            stand in the way of what changes now.
        within: seconds after which it stops with what it has; the next pull goes on from there.

    Raises:
        DatabaseUnavailableError: nothing could be recorded; the claim runs out by itself.
    """
    database = engine.database
    claimed = await store.claim(database, due, seconds=engine.options.lease)
    if claimed is None:
        return Polled(state=due, outcome="elsewhere", reason="another worker polls it")
    polled = Polled(state=due, outcome="pulled", reason="", full=claimed.full, trace_id=engine.ids.trace_id())
    if claimed.full or due.long:
        lane = max(lane, Lane.BATCH)
    error: IpaasError | None = None
    try:
        async with asyncio.timeout(within) as bound:
            await _pull(engine, polled, lane)
    except asyncio.CancelledError:
        await store.give_back(database, due.wanted, claimed)
        raise
    except (DatabaseUnavailableError, LeaseLostError) as failure:
        if isinstance(failure, DatabaseUnavailableError):
            raise
        polled.pulled.busy = True
    except IpaasError as failure:
        error = failure
    except Exception as failure:  # noqa: BLE001 - whatever is wrong with one entity, the others are polled
        if bound.expired():
            polled.outcome = "unfinished"
        else:
            error = _fault(due.wanted, failure)
    await _record(engine, polled, claimed, error)
    return polled


async def _pull(engine: Engine, polled: Polled, lane: Lane) -> None:
    wanted = polled.state.wanted
    puller = Puller(
        engine.database,
        await engine.source(wanted.system, wanted.entity, wanted.scope),
        clock=engine.clock,
        # Whoever holds the entity's lease pulls it: there is nothing to wait for.
        options=msgspec.structs.replace(engine.options, patience=0.0),
        lane=lane,
        trace_id=polled.trace_id,
        run=None,
        refresh=lambda: engine.fresh_source(wanted.system, wanted.entity, wanted.scope),
    )
    polled.pulled = puller.pulled
    await puller.run(full=polled.full)


async def pull_that_counts(
    engine: Engine, puller: Puller, *, system: str, entity: str, scope: str, full: bool
) -> None:
    """Pull outside polling, in a run: the entity need not be polled right after it. Raises what the pull raises."""
    began = await store.now(engine.database)
    pulled = await puller.run(full=full)
    if not pulled.busy:
        await store.count_pull(
            engine.database,
            system=system,
            entity=entity,
            scope=scope,
            began=began,
            full=full or pulled.complete,
            reason="read by a run",
        )


async def _record(engine: Engine, polled: Polled, claimed: PollClaim, error: IpaasError | None) -> None:
    state, pulled = polled.state, polled.pulled
    wanted = state.wanted
    least, most = wanted.poll_min or _ASKED_MIN, wanted.poll_max or _ASKED_MAX
    interval: float | None = None
    failures = state.failures
    pause: float | None
    if error is not None:
        polled.outcome, polled.error = "failed", error.message
        polled.retryable = not isinstance(error, StopError)
        retry_after = error.retry_after if isinstance(error, RetryError) else None
        if isinstance(error, CircuitOpenError):
            # Nothing was sent, so nothing failed.
            pause = max(retry_after or 0.0, _SOON)
            polled.reason = f"the circuit breaker of {wanted.system} is open: again in {span(pause)}"
        else:
            failures += 1
            pause = pause_after(failures, state.interval, least, most, retry_after)
            polled.reason = f"failed {_times(failures)}: every {span(pause)}"
    elif polled.outcome == "unfinished":
        pause = _SOON
        polled.reason = "not read to the end in the time given: goes on"
    elif pulled.busy:
        polled.outcome, pause = "elsewhere", _SOON
        polled.reason = "another worker pulls it"
    else:
        changed = pulled.changed + pulled.deleted
        failures = 0
        found = f"{changed} change{'' if changed == 1 else 's'}" if changed else "idle"
        if wanted.poll_min is None:
            pause = None
            polled.reason = f"{found}: when somebody asks"
        else:
            interval = pause = next_interval(state.interval, changed, least, most)
            polled.reason = f"{found}: every {span(pause)}"
    polled.failures = failures
    await store.record(
        engine.database,
        wanted,
        claimed,
        interval=interval,
        failures=failures,
        pause=pause,
        reason=polled.reason,
        error=polled.error or None,
        fulfilled=polled.outcome == "pulled",
    )
    if polled.error:
        log.warning("poll of %s: %s; %s", wanted.name, polled.reason, polled.error)


def _fault(wanted: WantedPoll, failure: BaseException) -> StopError:
    """A defect of ours or of a connector. Its own text may quote a record, so only type and places are told."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    frames = "".join(traceback.format_list(traceback.extract_tb(failure.__traceback__)))
    log.error("the poll of %s met a %s:\n%s", wanted.name, type(failure).__name__, frames)
    return StopError(
        f"The poll of {wanted.name} met a {type(failure).__name__}, a fault of the platform. The log has the places; "
        "what was committed stays. Please report it.",
        code=_PLATFORM_FAULT,
    )


# --- what is wanted ---------------------------------------------------------------------------------------------


async def _wanted(engine: Engine, system: str | None) -> list[WantedPoll]:
    """One entry per entity and scope that enabled flows read. Asks no system: scopes stand in its document."""
    wanted: dict[tuple[str, str, str], WantedPoll] = {}
    for active in engine.flows.values():
        flow = active.compiled.flow
        if not active.stored.enabled or system not in {None, flow.source.system}:
            continue
        try:
            scopes = await engine.scopes(flow.source.system, flow.source.scopes)
        except IpaasError as error:
            # A run of the flow fails with the same sentence; the other flows are polled.
            log.warning("flow %s is not polled: %s", active.name, error.message)
            continue
        for each in _of_flow(flow, scopes):
            key = (each.system, each.entity, each.scope)
            wanted[key] = _both(wanted[key], each) if key in wanted else each
    return [wanted[key] for key in sorted(wanted)]


def _of_flow(flow: Flow, scopes: Iterable[str]) -> list[WantedPoll]:
    given = flow.trigger.poll
    return [
        WantedPoll(
            system=flow.source.system,
            entity=flow.source.entity,
            scope=scope,
            poll_min=given.min.total_seconds() if given else None,
            poll_max=given.max.total_seconds() if given else None,
        )
        for scope in scopes
    ]


def _both(one: WantedPoll, other: WantedPoll) -> WantedPoll:
    """Two flows read one entity: it is polled as often as the more eager of them asks."""
    return msgspec.structs.replace(
        one, poll_min=_least(one.poll_min, other.poll_min), poll_max=_least(one.poll_max, other.poll_max)
    )


def _least(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)


# --- words ------------------------------------------------------------------------------------------------------


def span(seconds: float) -> str:
    """A time as people say it: 22 s, 4 m, 2 h."""
    for unit, size in (("h", 3600.0), ("m", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _times(many: int) -> str:
    return "once" if many == 1 else f"{many} times"


def told(state: PollState) -> str:
    """One entity and its polling as a sentence."""
    if state.paused:
        return f"{state.wanted.name}: {state.wanted.system} is paused"
    if state.due_in is None:
        return f"{state.wanted.name}: polled when somebody asks"
    parts = [state.reason or ("never read" if state.long else "not polled yet")]
    if state.busy:
        parts.append("is being pulled")
    elif state.breaker is not None:
        parts.append(f"the circuit breaker of {state.wanted.system} is open for {span(state.breaker)}")
    elif state.not_before is not None:
        parts.append(f"{state.wanted.system} asked to be left alone for {span(state.not_before)}")
    else:
        parts.append("due now" if state.due_in <= 0 else f"next in {span(state.due_in)}")
    return f"{state.wanted.name}: {', '.join(parts)}"


def told_together(states: Iterable[PollState]) -> list[str]:
    """The same for many: scopes of one entity that stand alike become one sentence (22 companies were 22)."""
    alike: dict[tuple[str, ...], list[PollState]] = {}
    for state in states:
        alike.setdefault(_standing(state), []).append(state)
    lines = []
    for group in alike.values():
        if len(group) <= _APART:
            lines += [told(state) for state in group]
            continue
        wanted, first = group[0].wanted, told(group[0]).partition(": ")[2]
        due = [max(0.0, state.due_in) for state in group if state.due_in is not None]
        what, waits, _ = first.partition(", next in ")
        if waits:
            what += f"{waits}{span(min(due))}" + (
                f" to {span(max(due))}" if span(min(due)) != span(max(due)) else ""
            )
        lines.append(f"{wanted.system}/{wanted.entity}, {len(group)} scopes: {what}")
    return lines


def _standing(state: PollState) -> tuple[str, ...]:
    """What makes two scopes of an entity alike: everything that is said of them but the moment."""
    what = told(state).partition(": ")[2].partition(", next in ")[0]
    return state.wanted.system, state.wanted.entity, what
