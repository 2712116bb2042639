"""One asset per entity that flows read or write; materialising it pulls the entity into the mirror."""

from collections.abc import Mapping

import dagster as dg
import msgspec

from ipaas_assets.checks import entity_check_specs, judge_entity
from ipaas_assets.failures import no_retry_without_hope, run_step
from ipaas_assets.graph import EntityNode, Graph
from ipaas_assets.metadata import entity_columns, entity_description, pull_metadata
from ipaas_assets.resources import RESOURCE, Platform
from ipaas_assets.steps import CONFIG, lane_of, mode_of, platform_of
from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.model import Lane, Mode
from ipaas_assets.sync.pull import Pulled
from ipaas_assets.sync.run import pull_entity
from ipaas_assets.verdicts import Verdict
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.store import registry


class EntityReport(msgspec.Struct, kw_only=True):
    """What pulling an entity did."""

    pulled: Mapping[str, Pulled]
    schema: EntitySchema
    verdicts: list[Verdict]


def entity_assets(graph: Graph) -> list[dg.AssetsDefinition]:
    """The asset of every entity in the graph."""
    return [_entity_asset(graph, entity) for entity in graph.entities]


def _entity_asset(graph: Graph, entity: EntityNode) -> dg.AssetsDefinition:
    flows = graph.readers(entity)
    readers = [flow.name for flow in flows]
    writers = [f"{flow.name}.{target.name}" for flow, target in graph.writers(entity)]

    schema = graph.schema(entity)
    # Dagster shows these where the last event brings none, as those of the live lane.
    columns = {"dagster/column_schema": entity_columns(schema)} if schema else {}

    @dg.asset(
        key=dg.AssetKey(entity.key),
        description=entity_description(entity, readers, writers),
        group_name=entity.key[0],
        kinds={"python", entity.connector},
        tags={"ipaas/system": entity.system, "ipaas/entity": entity.key[1]},
        metadata={"system": entity.system, "entity": entity.entity, **columns},
        config_schema=CONFIG,
        required_resource_keys={RESOURCE},
        check_specs=entity_check_specs(entity, flows),
        hooks={no_retry_without_hope},
        pool=pool_of(entity),
        output_required=True,
    )
    def pull(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads the annotation
        mode = mode_of(context)
        platform = platform_of(context)
        lane = lane_of(context)
        report = run_step(
            _pull(platform, graph, entity, mode=mode, lane=lane), what=f"The pull of {entity.name}"
        )
        return dg.MaterializeResult(
            metadata={
                **pull_metadata(report.pulled, mode=mode),
                "dagster/column_schema": entity_columns(report.schema),
            },
            check_results=[verdict.result() for verdict in report.verdicts],
        )

    return pull


def pool_of(entity: EntityNode) -> str:
    """The pool that keeps two runs of one entity apart: its own pull, and the flows that pull it."""
    return "/".join(entity.key)


async def _pull(
    platform: Platform, graph: Graph, entity: EntityNode, *, mode: Mode, lane: Lane
) -> EntityReport:
    async with platform.engine() as engine:
        if mode == "replan":
            await _raise_all(engine, entity)
        pulled = await pull_entity(engine, entity.system, entity.entity, mode=mode, lane=lane)
        return EntityReport(
            pulled=pulled,
            schema=await engine.schema(entity.system, entity.entity),
            verdicts=await judge_entity(engine.database, graph, entity),
        )


async def _raise_all(engine: Engine, entity: EntityNode) -> None:
    """Every known record goes through every flow that reads the entity again."""
    for scope in await engine.scopes(entity.system):
        source = await engine.source(entity.system, entity.entity, scope)
        await registry.raise_all(
            engine.database,
            system=entity.system,
            entity=entity.entity,
            scopes=[scope],
            targets=source.targets,
            trace_id=engine.ids.trace_id(),
        )
