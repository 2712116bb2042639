"""The outcome of a check: computed once, reported in a run or without one, and only when it is news."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import msgspec
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

from ipaas_assets.graph import Key


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one check of one asset."""

    key: Key
    check: str
    passed: bool
    description: str
    serious: bool = True  # ERROR, else WARN
    metadata: Mapping[str, Any] = {}

    @property
    def severity(self) -> dg.AssetCheckSeverity:
        """How Dagster shows it."""
        return dg.AssetCheckSeverity.ERROR if self.serious else dg.AssetCheckSeverity.WARN

    def result(self) -> dg.AssetCheckResult:
        """For a step that runs the check."""
        return dg.AssetCheckResult(
            asset_key=dg.AssetKey(self.key),
            check_name=self.check,
            passed=self.passed,
            severity=self.severity,
            description=self.description,
            metadata=self.metadata,
        )

    def evaluation(self) -> dg.AssetCheckEvaluation:
        """For a report without a run."""
        return dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(self.key),
            check_name=self.check,
            passed=self.passed,
            severity=self.severity,
            description=self.description,
            metadata=self.metadata,
        )


def news_among(
    instance: dg.DagsterInstance, verdicts: Sequence[Verdict], *, older_than: float | None = None
) -> list[Verdict]:
    """Verdicts whose state Dagster does not show yet: a report costs far more than a look.

    What counts is the state, not the figures in the sentence; with `older_than` (a POSIX time), also what was last
    reported before that.
    """
    by_key = {dg.AssetCheckKey(dg.AssetKey(each.key), each.check): each for each in verdicts}
    shown = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(by_key))
    return [verdict for key, verdict in by_key.items() if _is_news(shown.get(key), verdict, older_than)]


def _is_news(record: AssetCheckExecutionRecord | None, verdict: Verdict, older_than: float | None) -> bool:
    if record is None or record.event is None or record.event.dagster_event is None:
        return True
    event = record.event.dagster_event
    if event.event_type is not dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        # Planned by a run that goes on, or that died before it came to this.
        return True
    if older_than is not None and record.create_timestamp < older_than:
        return True
    evaluation = event.asset_check_evaluation_data
    if evaluation.passed or verdict.passed:
        return evaluation.passed != verdict.passed
    return evaluation.severity != verdict.severity
