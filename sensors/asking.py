"""When a sensor asks for a run of a flow: not while one is going on, and more and more rarely while runs fail."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import dagster as dg
import msgspec

from ipaas_assets.graph import FlowNode
from ipaas_assets.steps import NO_PULL, TRIGGER_TAG
from mappings.spec import Poll

#: Seconds: more often than this the daemon does not look.
LEAST: Final = 5.0
#: Runs of a flow that are looked at: enough to see that the last ones all failed.
_LOOK_BACK: Final = 8
#: For flows that say nothing about polling.
USUAL: Final = Poll(min=dt.timedelta(seconds=LEAST), max=dt.timedelta(minutes=15))

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
    #: Seconds that at least lie between two runs, whatever the flow says.
    least: float = LEAST


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
    least = max(interval(seen.poll), seen.least)
    pause = min(least * 2**failures, max(seen.poll.max.total_seconds(), least))
    if seen.asked is not None and now < seen.asked + pause:
        left = seen.asked + pause - now
        return f"{seen.flow}: next in {left:.0f} s" + (f" after {failures} failures" if failures else "")
    return ""


def interval(poll: Poll) -> float:
    """Seconds between two runs of a busy flow."""
    return max(poll.min.total_seconds(), LEAST)


class Asking:
    """One tick that asks for runs. Its cursor holds when each flow was last asked for."""

    def __init__(self, instance: dg.DagsterInstance, cursor: str | None, now: float) -> None:
        self._instance = instance
        self._now = now
        self._asked: dict[str, float] = json.loads(cursor) if cursor else {}
        self._runs: dict[str, list[dg.DagsterRunStatus]] = {}
        self.requests: list[dg.RunRequest] = []
        self.reasons: list[str] = []

    @property
    def cursor(self) -> str:
        """For the next tick."""
        return json.dumps(self._asked, sort_keys=True)

    def ask(
        self,
        flow: FlowNode,
        *,
        trigger: str,
        pull: bool = False,
        full: bool = False,
        poll: Poll | None = None,
        least: float = LEAST,
        mark: str = "",
    ) -> bool:
        """Ask for a run of this flow, unless `due` says why not.

        Args:
            flow: whose run.
            trigger: poll | webhook; decides the lane of what the run raises.
            pull: the run reads the source.
            full: it reads everything there.
            poll: instead of the flow's own; None: that.
            least: seconds between two runs at least.
            mark: what there is to do; for something else a run may be asked for although a tick died after it had
                asked.
        """
        seen = Seen(
            flow=flow.name,
            poll=poll or flow.compiled.flow.trigger.poll or USUAL,
            runs=self._last_runs(flow.name),
            asked=self._asked.get(flow.name),
            least=least,
        )
        reason = due(seen, self._now)
        if reason:
            self.reasons.append(reason)
            return False
        # The same key for the same reason: a tick that died after it asked does not ask twice.
        key = f"{flow.name}@{self._asked.get(flow.name, 0.0):.3f}{mark}"
        config: Mapping[str, Any] = {"ops": {flow.op: {"config": {"mode": "full"}}}} if full else {}
        tags = {TRIGGER_TAG: trigger, **({} if pull else NO_PULL)}
        self.requests.append(
            dg.RunRequest(run_key=key, job_name=flow.name, tags=tags, run_config=dict(config))
        )
        self._asked[flow.name] = self._now
        return True

    def is_going_on(self, flow: FlowNode) -> bool:
        """Whether a run of the flow waits or works now, or was asked for by this tick."""
        return self.has_asked(flow) or any(status in GOING_ON for status in self._last_runs(flow.name))

    def has_asked(self, flow: FlowNode) -> bool:
        """Whether this tick asks for a run of the flow."""
        return any(request.job_name == flow.name for request in self.requests)

    def _last_runs(self, flow: str) -> list[dg.DagsterRunStatus]:
        if flow not in self._runs:
            records = self._instance.get_run_records(dg.RunsFilter(job_name=flow), limit=_LOOK_BACK)
            self._runs[flow] = [record.dagster_run.status for record in records]
        return self._runs[flow]
