"""The safety net of webhooks: where no live worker drains the inbox, runs of the flows do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import dagster as dg
import msgspec
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ipaas_assets.graph import FlowNode, Graph
from ipaas_assets.registered import READ_LIMIT, within
from ipaas_assets.resources import RESOURCE, Platform
from ipaas_assets.sync.holding import stopped
from ipaas_assets.sync.model import Lane
from ipaas_assets.sync.splitting import split
from ipaas_resources.core.errors import DatabaseUnavailableError
from ipaas_resources.core.platform import run_async
from ipaas_resources.store.breakers import open_systems
from ipaas_resources.store.database import Database
from ipaas_resources.store.hints import HintGroup, due_hint_groups, is_unplaced
from ipaas_resources.store.polling import flows_with_work, newest_delivery
from ipaas_resources.store.workers import live_lanes
from sensors.asking import LEAST, USUAL, Asking

_REALTIME: Final = Lane.REALTIME.name.lower()
#: Groups of deliveries that one tick splits; what is left over is split in the next one, or by the run.
_SPLITS: Final = 20
#: Seconds for a tick.
_LIMIT: Final = 30.0


class Look(msgspec.Struct, kw_only=True):
    """What waits, when no live worker takes it."""

    live: bool = False
    delivered: int = 0  # split by this tick
    newest: int = 0
    hints: list[HintGroup] = []
    #: Flows with realtime items that can be claimed now.
    work: frozenset[str] = frozenset()
    #: Flows that must not write now, as sentences.
    held: Sequence[str] = ()


def inbox_sensors(
    graph: Graph,
    jobs: Mapping[str, UnresolvedAssetJobDefinition],
    *,
    clock: Callable[[], float] = time.time,
) -> list[dg.SensorDefinition]:
    """The sensor `inbox`, where a flow is started by webhooks."""
    flows = [flow for flow in graph.flows if flow.compiled.flow.trigger.webhook]
    if not flows:
        return []

    @dg.sensor(
        name="inbox",
        jobs=[jobs[flow.name] for flow in flows],
        minimum_interval_seconds=int(LEAST),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts runs for webhook deliveries where no live worker drains the inbox.",
        required_resource_keys={RESOURCE},
    )
    def inbox(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        platform: Platform = getattr(context.resources, RESOURCE)
        try:
            registered = platform.registered_now()
            blocked = {flow.name: flow.blocked(registered) for flow in flows}
            free = [flow for flow in flows if not blocked[flow.name]]
            look = within(_LIMIT + READ_LIMIT, lambda: run_async(_look(platform, free)))
        except DatabaseUnavailableError as error:
            return dg.SensorResult(skip_reason=error.message, cursor=context.cursor)
        asking = Asking(context.instance, context.cursor, clock())
        if look.live:
            asking.reasons.append("the live worker drains the inbox")
        else:
            asking.reasons += [reason for reason in blocked.values() if reason]
            asking.reasons += look.held
            _ask(asking, look, free)
        return dg.SensorResult(
            run_requests=asking.requests,
            skip_reason=None if asking.requests else "; ".join(asking.reasons or ["nothing waits"]),
            cursor=asking.cursor,
        )

    return [inbox]


async def _look(platform: Platform, flows: Sequence[FlowNode]) -> Look:
    async with platform.database() as database:
        if _REALTIME in await live_lanes(database):
            return Look(live=True)
        look = Look(newest=await newest_delivery(database))
        for _ in range(_SPLITS):
            # Here and not in the run alone: a delivery names its entity only in its body, and a run of each flow that
            # might read it would cost seconds for nothing.
            done = await split(database)
            look.delivered += done.received
            if not done.received:
                break
        await _find_work(database, look, flows)
        return look


async def _find_work(database: Database, look: Look, flows: Sequence[FlowNode]) -> None:
    left_alone = await open_systems(database)
    look.hints = [group for group in await due_hint_groups(database) if group.system not in left_alone]
    now = await stopped(database)
    held = {flow.name: now.holds(flow.compiled.flow) for flow in flows}
    look.held = sorted(
        {f"{flow}: held {each.words}" for flow, targets in held.items() for each in targets.values()}
    )
    queues = [
        (flow.name, target.name, int(Lane.REALTIME))
        for flow in flows
        for target in flow.targets.values()
        if target.entity.system not in left_alone and target.name not in held[flow.name]
    ]
    work = await flows_with_work(database, queues)
    look.work = frozenset(name for name, each in work.items() if each.due)


def _ask(asking: Asking, look: Look, flows: Sequence[FlowNode]) -> None:
    mark = f"/{look.newest}"
    for flow in flows:
        read = any(_reads(flow, group) for group in look.hints)
        if read or flow.name in look.work:
            asking.ask(flow, trigger="webhook", poll=USUAL, mark=mark)
    for group in look.hints:
        readers = [flow for flow in flows if flow.source.system == group.system]
        if not is_unplaced(group.entity, "") and not any(_reads(flow, group) for flow in readers):
            asking.reasons.append(
                f"{group.hints} records of {group.system}/{group.entity} wait: no flow with a webhook reads it now"
            )


def _reads(flow: FlowNode, group: HintGroup) -> bool:
    """Whether a run of the flow reads these hints; an entity under the product's own name may be any."""
    source = flow.source
    return source.system == group.system and (source.entity == group.entity or is_unplaced(group.entity, ""))
