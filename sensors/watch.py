"""The sensor that watches: what is true without a run reaches Dagster's checks on change of state, else hourly."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import dagster as dg

from ipaas_assets.checks import judge_subscription, judge_target
from ipaas_assets.graph import Graph
from ipaas_assets.registered import READ_LIMIT, within
from ipaas_assets.registry_asset import judge_registry
from ipaas_assets.resources import RESOURCE, Platform
from ipaas_assets.verdicts import Verdict, news_among
from ipaas_resources.core.errors import DatabaseUnavailableError
from ipaas_resources.core.platform import run_async

_EVERY: Final = 30
_HOUR: Final = 3600.0
#: Seconds for judging all flow targets and subscriptions.
_LIMIT: Final = 20.0


def watch_sensor(graph: Graph, *, clock: Callable[[], float] = time.time) -> dg.SensorDefinition:
    """The sensor over this graph."""

    @dg.sensor(
        name="watch",
        minimum_interval_seconds=_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Freshness, dead letters, subscriptions and the registry, seen without a run.",
        required_resource_keys={RESOURCE},
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        platform: Platform = getattr(context.resources, RESOURCE)
        try:
            registered = platform.registered_now()
        except DatabaseUnavailableError as error:
            verdicts = judge_registry(graph, None, problem=error.message)
        else:
            verdicts = judge_registry(graph, registered)
            verdicts += within(_LIMIT + READ_LIMIT, lambda: run_async(_judge_all(platform, graph)))
        news = news_among(context.instance, verdicts, older_than=clock() - _HOUR)
        skip = None if news else f"{len(verdicts)} checks, nothing new"
        return dg.SensorResult(asset_events=[verdict.evaluation() for verdict in news], skip_reason=skip)

    return watch


async def _judge_all(platform: Platform, graph: Graph) -> list[Verdict]:
    async with platform.database() as database:
        verdicts = [
            verdict
            for flow in graph.flows
            if flow.stored.enabled
            for target in flow.targets.values()
            for verdict in await judge_target(database, flow, target)
        ]
        # A subscription is lost and healed without any run of its entity.
        for entity in graph.entities:
            verdicts += await judge_subscription(database, graph, entity)
        return verdicts
