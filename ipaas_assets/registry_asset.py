"""The registry as an asset, so that a flow that could not be built, or a database that is down, is seen in the graph."""

from typing import Final

import dagster as dg

from ipaas_assets.failures import no_retry_without_hope, run_step
from ipaas_assets.graph import Graph
from ipaas_assets.registered import Registered, fetch_registered
from ipaas_assets.resources import RESOURCE
from ipaas_assets.steps import platform_of
from ipaas_assets.verdicts import Verdict

#: One part, so that no entity (two parts) or flow target (three) can have it.
KEY: Final = ("registry",)
FLOWS_BUILT: Final = "flows_built"
READ_FROM_DATABASE: Final = "read_from_database"
UP_TO_DATE: Final = "up_to_date"


def registry_asset(graph: Graph) -> dg.AssetsDefinition:
    """Materialising it compares what is shown with what the registry says now."""
    key = dg.AssetKey(KEY)

    @dg.asset(
        key=key,
        description="Which systems and flows there are. Its checks say whether all of them are shown here.",
        group_name="platform",
        kinds={"python", "postgres"},
        required_resource_keys={RESOURCE},
        hooks={no_retry_without_hope},
        check_specs=[
            dg.AssetCheckSpec(FLOWS_BUILT, asset=key, description="Every active flow is in the graph."),
            dg.AssetCheckSpec(
                READ_FROM_DATABASE, asset=key, description="The graph is no last good copy of another time."
            ),
            dg.AssetCheckSpec(
                UP_TO_DATE, asset=key, description="The graph shows the versions that are active now."
            ),
        ],
    )
    def registry(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads the annotation
        url = platform_of(context).urls.app
        now = run_step(fetch_registered(url), what="Reading the registry")
        return dg.MaterializeResult(
            metadata={
                "systems": len(now.systems),
                "flows": len(now.flows),
                "disabled": sum(not flow.enabled for flow in now.flows),
                "left_out": len(graph.left_out),
            },
            check_results=[verdict.result() for verdict in judge_registry(graph, now)],
        )

    return registry


def judge_registry(graph: Graph, now: Registered | None, *, problem: str = "") -> list[Verdict]:
    """The verdicts on the graph that is shown; `now` is None, with the problem, when the registry cannot be read."""
    left_out = "\n".join(f"{flow}: {reason}" for flow, reason in sorted(graph.left_out.items()))
    verdicts = [
        Verdict(
            key=KEY,
            check=FLOWS_BUILT,
            passed=not left_out,
            description=f"Left out, correct and apply them:\n{left_out}"
            if left_out
            else "Every active flow is in the graph.",
            metadata={"left_out": sorted(graph.left_out)},
        )
    ]
    trouble = problem or graph.registered.problem
    verdicts.append(
        Verdict(
            key=KEY,
            check=READ_FROM_DATABASE,
            passed=not trouble,
            description=f"{trouble} Reload the code location when the database answers again."
            if trouble and not problem
            else trouble or "The registry was read from the database.",
        )
    )
    if now is not None:
        different = graph.registered.differences(now)
        verdicts.append(
            Verdict(
                key=KEY,
                check=UP_TO_DATE,
                passed=not different,
                serious=False,
                description=f"Reload the code location, it shows other versions of {', '.join(different)}."
                if different
                else "The versions shown are the active ones.",
                metadata={"different": different},
            )
        )
    return verdicts
