"""One polling sensor per system: it polls where no live worker does, and asks for runs of flows that have work due.

Where a live worker polls it shows how often and why. A flow with `mode: run` is drained by runs in either case.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import dagster as dg
import msgspec
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ipaas_assets.checks import judge_entity
from ipaas_assets.graph import EntityNode, FlowNode, Graph
from ipaas_assets.metadata import entity_columns, pull_metadata
from ipaas_assets.registered import READ_LIMIT, within
from ipaas_assets.resources import RESOURCE, Platform
from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.holding import held_targets
from ipaas_assets.sync.model import Lane
from ipaas_assets.sync.polling import Polled, due_polls, poll, polls, told_together
from ipaas_assets.verdicts import Verdict, news_among
from ipaas_resources.core.errors import DatabaseUnavailableError
from ipaas_resources.core.platform import run_async
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.store.breakers import open_systems
from ipaas_resources.store.polling import FlowWork, PollState, flows_with_work
from ipaas_resources.store.workers import live_lanes
from sensors.asking import Asking, interval

#: Seconds of one tick that polls may take in all; what is left over is due in the next one.
_BOUND: Final = 20.0
#: With less of it left no further poll is begun.
_TOO_LITTLE: Final = 2.0
#: Seconds beside the polls: opening the engine, looking at the queue.
_REST: Final = 15.0
_POLLS_AT_ONCE: Final = 2
#: Seconds between ticks of a system that is only polled when somebody asks.
_ON_DEMAND: Final = 30.0
#: Seconds between runs of a flow whose items all wait for other records.
_WAITING: Final = 60.0


class Look(msgspec.Struct, kw_only=True):
    """What one tick found and did, before it asks for runs."""

    lanes: frozenset[str]  # that live workers serve
    states: list[PollState]
    polled: list[Polled] = []
    work: Mapping[str, FlowWork] = {}
    #: Of the entities that had changes.
    schemas: Mapping[str, EntitySchema] = {}
    verdicts: list[Verdict] = []
    #: Flows that must not write now, as sentences.
    held: Sequence[str] = ()

    @property
    def live(self) -> bool:
        """Whether a live worker polls."""
        return _POLLING in self.lanes

    @property
    def for_runs(self) -> list[PollState]:
        """Polls that are too long for a tick."""
        if self.live:
            return []
        unfinished = [each.state for each in self.polled if each.outcome == "unfinished"]
        return unfinished + [state for state in self.states if state.due and is_long(state)]


_POLLING: Final = Lane.POLLING.name.lower()


def is_long(state: PollState) -> bool:
    """Whether everything is to be read: work for a run, not for a tick."""
    return state.full or state.long


def polling_sensors(
    graph: Graph,
    jobs: Mapping[str, UnresolvedAssetJobDefinition],
    *,
    clock: Callable[[], float] = time.time,
) -> list[dg.SensorDefinition]:
    """A sensor for every system that a flow polls, or that sends notifications which may ask for a poll."""
    polled: dict[str, list[FlowNode]] = {}
    for flow in graph.flows:
        trigger = flow.compiled.flow.trigger
        if trigger.poll is not None or trigger.webhook:
            polled.setdefault(flow.source.system, []).append(flow)
    return [_sensor(graph, system, flows, jobs, clock) for system, flows in sorted(polled.items())]


def _sensor(
    graph: Graph,
    system: str,
    flows: Sequence[FlowNode],
    jobs: Mapping[str, UnresolvedAssetJobDefinition],
    clock: Callable[[], float],
) -> dg.SensorDefinition:
    given = [poll for flow in flows if (poll := flow.compiled.flow.trigger.poll) is not None]

    @dg.sensor(
        name=f"poll_{system}",
        jobs=[jobs[flow.name] for flow in flows],
        minimum_interval_seconds=int(min((interval(poll) for poll in given), default=_ON_DEMAND)),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks for changes in {system}: {', '.join(flow.name for flow in flows)}.",
        required_resource_keys={RESOURCE},
    )
    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        platform: Platform = getattr(context.resources, RESOURCE)
        try:
            registered = platform.registered_now()
            blocked = {flow.name: flow.blocked(registered) for flow in flows}
            free = [flow for flow in flows if not blocked[flow.name]]
            look = within(
                _BOUND + _REST + READ_LIMIT, lambda: run_async(_look(platform, graph, system, free))
            )
        except DatabaseUnavailableError as error:
            return dg.SensorResult(skip_reason=error.message, cursor=context.cursor)
        asking = Asking(context.instance, context.cursor, clock())
        asking.reasons += [reason for reason in blocked.values() if reason]
        asking.reasons += look.held
        _ask(asking, look, free)
        lines = [*asking.reasons, *told_together(look.states)]
        if look.live:
            lines.insert(0, "the live worker polls")
        events = _events(context.instance, graph, look)
        message = "; ".join(lines)
        if asking.requests or events:
            context.log.info(message)
        return dg.SensorResult(
            run_requests=asking.requests,
            asset_events=events,
            skip_reason=None if asking.requests or events else message,
            cursor=asking.cursor,
        )

    return evaluate


# --- the look ---------------------------------------------------------------------------------------------------


async def _look(platform: Platform, graph: Graph, system: str, flows: Sequence[FlowNode]) -> Look:
    async with platform.engine() as engine:
        look = Look(lanes=await live_lanes(engine.database), states=[])
        if not look.live:
            look.polled = await _poll_due(engine, system)
            await _judge(engine, graph, look)
        look.states = await polls(engine, system=system)
        left_alone = await open_systems(engine.database)
        held = await held_targets(engine, [flow.name for flow in flows if flow.name in engine.flows])
        look.held = sorted({f"{flow}: held {each.words}" for (flow, _), each in held.items()})
        queues = [
            (flow.name, target.name, int(lane))
            for flow in flows
            for target in flow.targets.values()
            if target.entity.system not in left_alone and (flow.name, target.name) not in held
            for lane in _lanes(flow, look.lanes)
        ]
        look.work = await flows_with_work(engine.database, queues)
        return look


async def _poll_due(engine: Engine, system: str) -> list[Polled]:
    """Poll what is due and short, a few at once, until the time of the tick is over."""
    waiting = [state for state in await due_polls(engine, system=system) if not is_long(state)]
    done: list[Polled] = []
    end = engine.clock.monotonic() + _BOUND

    async def work() -> None:
        while waiting and (left := end - engine.clock.monotonic()) > _TOO_LITTLE:
            done.append(await poll(engine, waiting.pop(0), within=left))

    results = await asyncio.gather(*(work() for _ in range(_POLLS_AT_ONCE)), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return done


def _lanes(flow: FlowNode, live: frozenset[str]) -> list[Lane]:
    """Lanes whose items of this flow only a run drains."""
    if flow.compiled.flow.mode == "run":
        return list(Lane)
    # Realtime items of a flow with webhooks are the inbox sensor's, which looks more often.
    soon = {Lane.REALTIME} if flow.compiled.flow.trigger.webhook else set()
    return [lane for lane in Lane if lane.name.lower() not in live and lane not in soon]


async def _judge(engine: Engine, graph: Graph, look: Look) -> None:
    """What the catalogue is to know of entities that had changes; no run tells it."""
    nodes = {(node.system, node.entity): node for node in graph.entities}
    schemas, verdicts = {}, []
    for name, polled in _changed(look.polled).items():
        wanted = polled[0].state.wanted
        node = nodes.get((wanted.system, wanted.entity))
        if node is not None:
            schemas[name] = await engine.schema(wanted.system, wanted.entity)
            verdicts += await judge_entity(engine.database, graph, node)
    look.schemas, look.verdicts = schemas, verdicts


def _changed(polled: Sequence[Polled]) -> dict[str, list[Polled]]:
    """The polls of entities that had changes in any scope, by system/entity."""
    by_entity: dict[str, list[Polled]] = defaultdict(list)
    for each in polled:
        by_entity[f"{each.state.wanted.system}/{each.state.wanted.entity}"].append(each)
    return {
        name: each
        for name, each in by_entity.items()
        if any(one.pulled.changed or one.pulled.deleted for one in each)
    }


# --- what follows -----------------------------------------------------------------------------------------------


def _ask(asking: Asking, look: Look, flows: Sequence[FlowNode]) -> None:
    for state in look.for_runs:
        readers = [flow for flow in flows if _reads(flow, state)]
        if any(asking.is_going_on(flow) for flow in readers):
            # It reads every scope of its flow; what it misses is due again when it has ended.
            asking.reasons.append(f"{state.wanted.name}: a run reads it")
            continue
        for flow in readers:
            if asking.ask(flow, trigger="poll", pull=True, full=state.full):
                break
    for flow in flows:
        work = look.work.get(flow.name)
        if work is not None and not asking.has_asked(flow):
            asking.ask(flow, trigger="poll", least=0.0 if work.due else _WAITING)


def _reads(flow: FlowNode, state: PollState) -> bool:
    source = flow.compiled.flow.source
    wanted = state.wanted
    return (source.system, source.entity) == (wanted.system, wanted.entity) and (
        source.scopes == "all" or wanted.scope in source.scopes
    )


def _events(
    instance: dg.DagsterInstance, graph: Graph, look: Look
) -> list[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation]:
    """What the tick's own polls did, for the catalogue."""
    nodes: dict[str, EntityNode] = {node.name: node for node in graph.entities}
    events: list[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation] = []
    for name, polled in _changed(look.polled).items():
        if name not in look.schemas:
            continue
        events.append(
            dg.AssetMaterialization(
                asset_key=dg.AssetKey(nodes[name].key),
                description="Polled by the sensor.",
                metadata={
                    **pull_metadata(
                        {each.state.wanted.scope: each.pulled for each in polled}, mode="incremental"
                    ),
                    "trace_id": ", ".join(each.trace_id for each in polled),
                    "dagster/column_schema": entity_columns(look.schemas[name]),
                },
            )
        )
    for each in look.polled:
        node = nodes.get(f"{each.state.wanted.system}/{each.state.wanted.entity}")
        # Once in a row of failures: the intervals grow, the news do not.
        if node is not None and each.outcome == "failed" and each.failures == 1:
            events.append(
                dg.AssetObservation(
                    asset_key=dg.AssetKey(node.key),
                    description=each.error,
                    metadata={"scope": each.state.wanted.scope, "trace_id": each.trace_id},
                )
            )
    events += [verdict.evaluation() for verdict in news_among(instance, look.verdicts)]
    return events
