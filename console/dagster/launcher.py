"""Dagster's own run launcher, and the one thing that it lacks: to see that the process of a run is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from dagster import DagsterRun, DefaultRunLauncher
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus

from ipaas_assets.workers import WORKER_TAG, is_alive

#: Seconds in which a run that has started must have written down its process.
_PATIENCE: Final = 60.0


class WatchedRunLauncher(DefaultRunLauncher):
    """Launches runs in the code server; run monitoring ends those whose process died with it."""

    clock: Callable[[], float] = staticmethod(time.time)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """See `check_run_worker_health`."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process that works on this run is still there."""
        worker = run.tags.get(WORKER_TAG)
        if worker is not None:
            if is_alive(worker) is False:
                return CheckRunHealthResult(WorkerStatus.FAILED, f"Its process {worker} is gone.")
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        record = self._instance.get_run_record_by_id(run.run_id)
        if record is not None and record.start_time and self.clock() - record.start_time > _PATIENCE:
            return CheckRunHealthResult(WorkerStatus.FAILED, "No process has ever worked on it.")
        return CheckRunHealthResult(WorkerStatus.RUNNING)
