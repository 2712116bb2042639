"""One polling sensor per system: it asks for a run of each flow whose source the system is, when that is due."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import dagster as dg
import msgspec
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ipaas_assets.graph import FlowNode, Graph
from ipaas_assets.resources import RESOURCE, Platform
from ipaas_assets.steps import TRIGGER_TAG
from ipaas_resources.core.errors import DatabaseUnavailableError
from mappings.spec import Poll

#: Seconds: more often than this the daemon does not look.
_LEAST: Final = 5.0
#: Runs of a flow that are looked at: enough to see that the last ones all failed.
_LOOK_BACK: Final = 8

GOING_ON: Final = frozenset(
    {
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    }
)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the sensor knows of one flow when it decides."""

    flow: str
    poll: Poll
    #: Statuses of its last runs, the newest first.
    runs: Sequence[dg.DagsterRunStatus]
    #: When a run was last asked for, POSIX time; None: never.
    asked: float | None


def due(seen: Seen, now: float) -> str:
    """Why no run of this flow is asked for now, '' when one is.

    A flow that fails again and again is asked for less and less often, down to its `poll.max`: a wrong password must
    not become thousands of runs.
    """
    if any(status in GOING_ON for status in seen.runs):
        return f"{seen.flow}: a run is still going on"
    failures = 0
    for status in seen.runs:
        if status is not dg.DagsterRunStatus.FAILURE:
            break
        failures += 1
    pause = min(interval(seen.poll) * 2**failures, max(seen.poll.max.total_seconds(), _LEAST))
    if seen.asked is not None and now < seen.asked + pause:
        left = seen.asked + pause - now
        return f"{seen.flow}: next in {left:.0f} s" + (f" after {failures} failures" if failures else "")
    return ""


def interval(poll: Poll) -> float:
    """Seconds between two polls of a busy flow."""
    return max(poll.min.total_seconds(), _LEAST)


def polling_sensors(
    graph: Graph,
    jobs: Mapping[str, UnresolvedAssetJobDefinition],
    *,
    clock: Callable[[], float] = time.time,
) -> list[dg.SensorDefinition]:
    """A sensor for every system that a flow polls."""
    polled: dict[str, list[FlowNode]] = {}
    for flow in graph.flows:
        if flow.compiled.flow.trigger.poll is not None:
            polled.setdefault(flow.source.system, []).append(flow)
    return [
        _sensor(system, flows, [jobs[flow.name] for flow in flows], clock)
        for system, flows in sorted(polled.items())
    ]


def _sensor(
    system: str,
    flows: Sequence[FlowNode],
    jobs: Sequence[UnresolvedAssetJobDefinition],
    clock: Callable[[], float],
) -> dg.SensorDefinition:
    polls = {flow.name: poll for flow in flows if (poll := flow.compiled.flow.trigger.poll) is not None}

    @dg.sensor(
        name=f"poll_{system}",
        jobs=jobs,
        minimum_interval_seconds=int(min(interval(poll) for poll in polls.values())),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks for changes in {system}: {', '.join(polls)}.",
        required_resource_keys={RESOURCE},
    )
    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        platform: Platform = getattr(context.resources, RESOURCE)
        asked: dict[str, float] = json.loads(context.cursor) if context.cursor else {}
        try:
            registered = platform.registered_now()
        except DatabaseUnavailableError as error:
            return dg.SensorResult(skip_reason=error.message, cursor=context.cursor)
        now = clock()
        requests, reasons = [], []
        for flow in flows:
            seen = Seen(
                flow=flow.name,
                poll=polls[flow.name],
                runs=_last_runs(context.instance, flow.name),
                asked=asked.get(flow.name),
            )
            reason = flow.blocked(registered) or due(seen, now)
            if reason:
                reasons.append(reason)
                continue
            # The same key for the same reason: a tick that died after it asked does not ask twice.
            key = f"{flow.name}@{asked.get(flow.name, 0.0):.3f}"
            requests.append(dg.RunRequest(run_key=key, job_name=flow.name, tags={TRIGGER_TAG: "poll"}))
            asked[flow.name] = now
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "; ".join(reasons),
            cursor=json.dumps(asked, sort_keys=True),
        )

    return evaluate


def _last_runs(instance: dg.DagsterInstance, flow: str) -> list[dg.DagsterRunStatus]:
    records = instance.get_run_records(dg.RunsFilter(job_name=flow), limit=_LOOK_BACK)
    return [record.dagster_run.status for record in records]
