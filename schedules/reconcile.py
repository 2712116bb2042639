"""The cron schedule of a flow: a full comparison of its source, which also finds what was deleted there."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ipaas_assets.failures import RETRIED
from ipaas_assets.graph import FlowNode, Graph
from ipaas_assets.resources import RESOURCE, Platform
from ipaas_assets.steps import TRIGGER_TAG
from ipaas_resources.core.errors import DatabaseUnavailableError


def reconcile_schedules(
    graph: Graph, jobs: Mapping[str, UnresolvedAssetJobDefinition]
) -> list[dg.ScheduleDefinition]:
    """A schedule for every flow that has one."""
    return [
        _schedule(flow, flow.compiled.flow.trigger.schedule, jobs[flow.name])
        for flow in graph.flows
        if flow.compiled.flow.trigger.schedule is not None
    ]


def _schedule(flow: FlowNode, cron: str, job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"reconcile_{flow.name}",
        cron_schedule=cron,
        job=job,
        execution_timezone=flow.compiled.flow.trigger.tz,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Compares every record of {flow.source.name} with the targets of {flow.name}.",
        required_resource_keys={RESOURCE},
    )
    def reconcile(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        platform: Platform = getattr(context.resources, RESOURCE)
        try:
            reason = flow.blocked(platform.registered_now())
        except DatabaseUnavailableError:
            # The next comparison may be a week away, so it does not depend on this second: the run asks again.
            reason = ""
        if reason:
            return dg.SkipReason(reason)
        return dg.RunRequest(
            # A run whose failure may pass is started again: the next one of this kind may be a week away.
            tags={TRIGGER_TAG: "schedule", **RETRIED},
            run_config={"ops": {flow.op: {"config": {"mode": "full"}}}},
        )

    return reconcile
