"""The Dagster code location: collects what the rooms offer, nothing else."""

from __future__ import annotations

import functools

import dagster as dg

from ipaas_assets.entities import entity_assets
from ipaas_assets.flows import flow_assets, flow_jobs
from ipaas_assets.graph import build_graph
from ipaas_assets.registry_asset import registry_asset
from ipaas_assets.resources import RESOURCE, Platform, platform_resource
from schedules.reconcile import reconcile_schedules
from schedules.retention import retention_job, retention_schedule
from sensors.inbox import inbox_sensors
from sensors.polling import polling_sensors
from sensors.watch import watch_sensor


def make_definitions(platform: Platform) -> dg.Definitions:
    """The definitions of the flows that are active at this moment."""
    graph = build_graph(platform.registered())
    jobs = flow_jobs(graph)
    return dg.Definitions(
        assets=[registry_asset(graph), *entity_assets(graph), *flow_assets(graph, platform)],
        jobs=[*jobs.values(), retention_job],
        schedules=[*reconcile_schedules(graph, jobs), retention_schedule],
        sensors=[*polling_sensors(graph, jobs), *inbox_sensors(graph, jobs), watch_sensor(graph)],
        resources={RESOURCE: platform_resource(platform)},
        # A process per step would read the definitions again, and fail when a flow has gone in between.
        executor=dg.in_process_executor,
    )


@functools.cache
def _definitions() -> dg.Definitions:
    # Dagster calls `defs` twice in each process; both must be made of one look at the registry.
    return make_definitions(Platform())


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads, by this name; a function, so that importing this module asks no database."""
    return _definitions()
