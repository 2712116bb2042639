"""One asset per flow target, all targets of a flow in one step: they drain at the same time, from one pull."""

import re
import time
from collections.abc import Callable, Iterator, Mapping

import dagster as dg
import msgspec
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ipaas_assets.checks import judge_entity, judge_target, target_check_specs
from ipaas_assets.entities import pool_of
from ipaas_assets.failures import failure, no_retry_without_hope, run_step
from ipaas_assets.graph import FlowNode, Graph, Key, TargetNode
from ipaas_assets.metadata import (
    Metadata,
    column_lineage,
    entity_columns,
    outcome_metadata,
    pull_metadata,
    run_metadata,
    target_columns,
    target_description,
)
from ipaas_assets.resources import RESOURCE, Platform
from ipaas_assets.steps import (
    CONFIG,
    FLOW_TAG,
    SYSTEM_TAG,
    is_to_pull,
    lane_of,
    mode_of,
    platform_of,
    tag_trace,
    trigger_of,
)
from ipaas_assets.sync.model import Counts, Lane, Mode
from ipaas_assets.sync.run import Progress, RunResult, run_flow
from ipaas_assets.verdicts import Verdict, news_among
from ipaas_resources.core.schema import EntitySchema

#: Seconds between two lines of progress in the run's log.
_PROGRESS_EVERY = 10.0
_TEAM = re.compile(r"[^A-Za-z0-9_.-]+")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


#: What the step yields.
Reported = dg.MaterializeResult[None] | dg.AssetCheckResult


class FlowReport(msgspec.Struct, kw_only=True):
    """What one run of a flow did."""

    result: RunResult
    version: int
    source: EntitySchema
    targets: Mapping[str, EntitySchema]
    target_verdicts: list[Verdict]
    entity_verdicts: list[Verdict]


def flow_assets(graph: Graph, platform: Platform) -> list[dg.AssetsDefinition]:
    """The assets of every flow in the graph."""
    return [_flow_assets(graph, flow, platform) for flow in graph.flows]


def flow_jobs(graph: Graph) -> dict[str, UnresolvedAssetJobDefinition]:
    """One job per flow, of its name. The step pulls the source itself, while it writes: faster than one after the other."""
    return {flow.name: _flow_job(flow) for flow in graph.flows}


def _flow_job(flow: FlowNode) -> UnresolvedAssetJobDefinition:
    keys = [dg.AssetKey(target.key) for target in flow.targets.values()]
    return dg.define_asset_job(
        flow.name,
        selection=dg.AssetSelection.assets(*keys),
        description=flow.compiled.flow.title or f"All targets of the flow {flow.name}.",
        run_tags={FLOW_TAG: flow.name, SYSTEM_TAG: flow.source.system},
        executor_def=dg.in_process_executor,
    )


def _flow_assets(graph: Graph, flow: FlowNode, platform: Platform) -> dg.AssetsDefinition:
    specs = [_target_spec(graph, flow, target, platform) for target in flow.targets.values()]

    @dg.multi_asset(
        name=flow.op,
        specs=specs,
        check_specs=[spec for target in flow.targets.values() for spec in target_check_specs(flow, target)],
        can_subset=True,
        config_schema=CONFIG,
        required_resource_keys={RESOURCE},
        hooks={no_retry_without_hope},
        pool=pool_of(flow.source),
        description=flow.compiled.flow.title or None,
    )
    def sync(context: dg.AssetExecutionContext) -> Iterator[Reported]:
        yield from _run(context, graph, flow)

    return sync


def _target_spec(graph: Graph, flow: FlowNode, target: TargetNode, platform: Platform) -> dg.AssetSpec:
    spec = flow.compiled.flow
    schema = graph.schema(target.entity)
    # Dagster shows these where the last event brings none: those of the live lane come every minute and are kept small.
    columns = (
        {"dagster/column_schema": target_columns(flow.compiled.targets[target.name], schema)}
        if schema
        else {}
    )
    return dg.AssetSpec(
        dg.AssetKey(target.key),
        deps=[dg.AssetKey(flow.source.key)],
        description=target_description(flow, target.name),
        group_name=spec.group or flow.name,
        kinds={"python", target.entity.connector},
        owners=sorted({_owner(name) for name in spec.owners}),
        tags={
            "ipaas/flow": flow.name,
            "ipaas/system": target.entity.system,
            "ipaas/lane": spec.lane,
            **({} if flow.stored.enabled else {"ipaas/disabled": ""}),
        },
        metadata={
            "flow_version": flow.stored.version,
            "records": dg.MetadataValue.url(platform.records_url(flow.name, target.name)),
            **columns,
        },
        code_version=str(flow.stored.version),
        # An idle poll materialises nothing.
        skippable=True,
    )


def _owner(name: str) -> str:
    """An owner as Dagster takes it: an address, or a team."""
    return name if _EMAIL.fullmatch(name) else f"team:{_TEAM.sub('-', name).strip('-') or 'unnamed'}"


# --- the step ---------------------------------------------------------------------------------------------------


def _run(context: dg.AssetExecutionContext, graph: Graph, flow: FlowNode) -> Iterator[Reported]:
    platform, mode, lane = platform_of(context), mode_of(context), lane_of(context)
    chosen = [
        target for target in flow.targets.values() if dg.AssetKey(target.key) in context.selected_asset_keys
    ]
    pull = is_to_pull(context, flow.source.key, mode)
    progress = _log_progress(context.log.info, flow.name)
    report = run_step(
        _sync(platform, graph, flow, chosen, mode=mode, lane=lane, pull=pull, progress=progress),
        what=f"Flow {flow.name}",
    )
    result = report.result
    tag_trace(context, result.trace_id)
    for warning in result.warnings:
        context.log.warning(warning)
    if pull or result.counts.changed:
        _report_source(context, flow, report, mode)
    if result.error:
        yield from _failed(context, flow, chosen, report, platform)
    # What a sensor asks for finds news or nothing; whoever starts a run by hand sees that it ran, and no asset stays
    # empty.
    asked = trigger_of(context) in {"webhook", "poll"}
    idle = asked and not result.counts.changed and not result.counts.outcomes
    wanted = context.selected_asset_check_keys
    for target in chosen:
        checks = [
            verdict.result()
            for verdict in report.target_verdicts
            if verdict.key == target.key
            and dg.AssetCheckKey(dg.AssetKey(target.key), verdict.check) in wanted
        ]
        if idle and _is_materialized(context, target.key):
            yield from checks
        else:
            metadata = _target_metadata(flow, target, report, platform)
            yield dg.MaterializeResult(
                asset_key=dg.AssetKey(target.key), metadata=metadata, check_results=checks
            )


async def _sync(
    platform: Platform,
    graph: Graph,
    flow: FlowNode,
    chosen: list[TargetNode],
    *,
    mode: Mode,
    lane: Lane,
    pull: bool,
    progress: Progress,
) -> FlowReport:
    async with platform.engine() as engine:
        result = await run_flow(
            engine,
            flow.name,
            mode=mode,
            lane=lane,
            pull=pull,
            targets=[target.name for target in chosen],
            progress=progress,
        )
        verdicts = [
            verdict for target in chosen for verdict in await judge_target(engine.database, flow, target)
        ]
        touched = {flow.source.key: flow.source} | {target.entity.key: target.entity for target in chosen}
        return FlowReport(
            result=result,
            version=engine.flow(flow.name).stored.version,
            source=await engine.schema(flow.source.system, flow.source.entity),
            targets={
                target.name: await engine.schema(target.entity.system, target.entity.entity)
                for target in chosen
            },
            target_verdicts=verdicts,
            entity_verdicts=[
                verdict
                for entity in touched.values()
                for verdict in await judge_entity(engine.database, graph, entity)
            ],
        )


def _log_progress(say: Callable[[str], None], flow: str) -> Progress:
    """A line every now and then, so that a long run can be followed."""
    last = time.monotonic()

    def progress(counts: Counts) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_EVERY:
            last = time.monotonic()
            shown = ", ".join(f"{many} {outcome}" for outcome, many in sorted(counts.outcomes.items()))
            say(f"{flow}: {shown}")

    return progress


def _is_materialized(context: dg.AssetExecutionContext, key: Key) -> bool:
    return context.instance.get_latest_materialization_event(dg.AssetKey(key)) is not None


# --- reports ----------------------------------------------------------------------------------------------------


def _target_metadata(flow: FlowNode, target: TargetNode, report: FlowReport, platform: Platform) -> Metadata:
    compiled = flow.compiled.targets[target.name]
    counts = report.result.counts
    return {
        **outcome_metadata(counts.per_target.get(target.name, {})),
        **run_metadata(counts),
        "flow_pending": report.result.pending,
        "flow_version": report.version,
        "trace_id": report.result.trace_id,
        "records": dg.MetadataValue.url(platform.records_url(flow.name, target.name)),
        "dagster/column_schema": target_columns(compiled, report.targets[target.name]),
        "dagster/column_lineage": column_lineage(flow, compiled),
    }


def _report_source(context: dg.AssetExecutionContext, flow: FlowNode, report: FlowReport, mode: Mode) -> None:
    """The step read the source entity as well: its asset shows that, and what is judged of it."""
    pulled, counts = report.result.pulled, report.result.counts
    # Also records that webhooks told of, which no pull has seen.
    news = counts.changed or any(each.deleted for each in pulled.values())
    first = not _is_materialized(context, flow.source.key)
    if not report.result.error and (news or first or mode == "full"):
        context.log_event(
            dg.AssetMaterialization(
                asset_key=dg.AssetKey(flow.source.key),
                description=f"Read by the flow {flow.name}.",
                metadata={
                    **pull_metadata(pulled, mode=mode),
                    "received": counts.received,
                    "changed": counts.changed,
                    "trace_id": report.result.trace_id,
                    "dagster/column_schema": entity_columns(report.source),
                },
            )
        )
    for verdict in news_among(context.instance, report.entity_verdicts):
        context.instance.report_runless_asset_event(verdict.evaluation())


def _failed(
    context: dg.AssetExecutionContext,
    flow: FlowNode,
    chosen: list[TargetNode],
    report: FlowReport,
    platform: Platform,
) -> Iterator[dg.AssetCheckResult]:
    """What was done before the failure is reported as an observation: the asset is not up to date, but it changed."""
    for target in chosen:
        counts = report.result.counts
        context.log_event(
            dg.AssetObservation(
                asset_key=dg.AssetKey(target.key),
                description=report.result.error,
                metadata={
                    **outcome_metadata(counts.per_target.get(target.name, {})),
                    **run_metadata(counts),
                    "flow_version": report.version,
                    "trace_id": report.result.trace_id,
                    "records": dg.MetadataValue.url(platform.records_url(flow.name, target.name)),
                },
            )
        )
    asked = context.selected_asset_check_keys
    for verdict in report.target_verdicts:
        if dg.AssetCheckKey(dg.AssetKey(verdict.key), verdict.check) in asked:
            yield verdict.result()
    raise failure(
        report.result.error,
        retryable=report.result.retryable,
        metadata={"trace_id": report.result.trace_id, "pending": report.result.pending},
    )
