"""From what the live lane did to the event that Dagster shows: the metadata of a run's report, without a run."""

from __future__ import annotations

import dagster as dg

from ipaas_assets.checks import judge_entity, judge_target
from ipaas_assets.graph import EntityNode, FlowNode, Graph, TargetNode
from ipaas_assets.metadata import (
    Metadata,
    column_lineage,
    entity_columns,
    outcome_metadata,
    target_columns,
)
from ipaas_assets.resources import Platform
from ipaas_assets.verdicts import Verdict
from ipaas_resources.core.schema import EntitySchema, schema_from
from ipaas_resources.store.database import Database
from ipaas_resources.store.reports import DueReport

#: On every event of the live lane, so that it can be told from a run's.
_LIVE: Metadata = {"lane": "live"}


class TargetTelling:
    """One flow target whose records were settled."""

    def __init__(self, flow: FlowNode, target: TargetNode) -> None:
        self.flow = flow
        self.target = target
        self.key = dg.AssetKey(target.key)

    async def event(
        self, database: Database, platform: Platform, report: DueReport, shown: int | None
    ) -> tuple[dg.AssetMaterialization, int]:
        """The event, and the version whose columns Dagster shows after it; `shown` is the one that it shows now."""
        metadata: Metadata = {
            **outcome_metadata(report.counts),
            **_LIVE,
            "since": dg.MetadataValue.timestamp(report.since),
            "flow_version": report.flow_version,
            "trace_id": report.trace_id,
            "records": dg.MetadataValue.url(platform.records_url(self.flow.name, self.target.name)),
        }
        version = self.flow.stored.version
        # Columns and lineage cost half as much again as the rest: once per version is enough. Only those of the version
        # that wrote: the definitions hold one version of the flow, the newest.
        if shown != version and report.flow_version == version:
            schema = await _schema(database, self.target.entity)
            if schema is not None:
                compiled = self.flow.compiled.targets[self.target.name]
                metadata["dagster/column_schema"] = target_columns(compiled, schema[0])
                metadata["dagster/column_lineage"] = column_lineage(self.flow, compiled)
                shown = version
        event = dg.AssetMaterialization(
            asset_key=self.key,
            description=f"Settled by the live lane of the flow {self.flow.name}.",
            metadata=metadata,
        )
        return event, shown or 0

    async def verdicts(self, database: Database, graph: Graph) -> list[Verdict]:  # noqa: ARG002 - as of an entity
        """What is judged of it now."""
        return await judge_target(database, self.flow, self.target)


class EntityTelling:
    """A source entity in which changes were found."""

    def __init__(self, entity: EntityNode) -> None:
        self.entity = entity
        self.key = dg.AssetKey(entity.key)

    async def event(
        self,
        database: Database,
        platform: Platform,  # noqa: ARG002 - as of a target
        report: DueReport,
        shown: int | None,
    ) -> tuple[dg.AssetMaterialization, int]:
        """The event, and the snapshot whose columns Dagster shows after it."""
        metadata: Metadata = {
            "changed": 0,
            "deleted": 0,
            **report.counts,
            **_LIVE,
            "since": dg.MetadataValue.timestamp(report.since),
            "trace_id": report.trace_id,
        }
        schema = await _schema(database, self.entity)
        if schema is not None and schema[1] != shown:
            metadata["dagster/column_schema"] = entity_columns(schema[0])
            shown = schema[1]
        event = dg.AssetMaterialization(
            asset_key=self.key, description="Read by the live lane.", metadata=metadata
        )
        return event, shown or 0

    async def verdicts(self, database: Database, graph: Graph) -> list[Verdict]:
        """What is judged of it now."""
        return await judge_entity(database, graph, self.entity)


Telling = TargetTelling | EntityTelling


def telling_of(graph: Graph, report: DueReport) -> Telling | None:
    """The asset that a report is about; None: the graph has no such asset."""
    if not report.target:
        return next((EntityTelling(each) for each in graph.entities if each.name == report.flow), None)
    flow = next((each for each in graph.flows if each.name == report.flow), None)
    target = flow.targets.get(report.target) if flow is not None else None
    return TargetTelling(flow, target) if flow is not None and target is not None else None


def is_newer(graph: Graph, report: DueReport) -> bool:
    """Whether the report is of a version that this graph was made before."""
    flow = next((each for each in graph.registered.flows if each.flow == report.flow), None)
    return bool(report.target) and (flow is None or flow.version < report.flow_version)


def shown_version(instance: dg.DagsterInstance, telling: Telling) -> int | None:
    """The flow version whose columns the asset shows: that of its last event, whoever reported it."""
    if isinstance(telling, EntityTelling):
        return None
    event = instance.get_latest_materialization_event(telling.key)
    materialization = event.asset_materialization if event is not None else None
    version = materialization.metadata.get("flow_version") if materialization is not None else None
    return version.value if isinstance(version, dg.IntMetadataValue) else None


async def _schema(database: Database, entity: EntityNode) -> tuple[EntitySchema, int] | None:
    """The newest snapshot and its number; None: the entity was never looked at."""
    rows = await database.rows(
        "snapshots_newest", system=entity.system, entity=entity.entity, version=None, snapshots=1
    )
    return (schema_from(rows[0].schema.encode()), rows[0].version) if rows else None
