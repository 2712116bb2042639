"""ipaas plan: what applying a folder would change."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from console.cli.opening import engine, run_async
from console.cli.planned import show_changes, show_records
from console.cli.working import working
from ipaas_assets.sync.planning import FlowPlan, Plan, TablePlan, plan_folder
from ipaas_resources.core.values import encode
from mappings.difference import counted

#: Exit code of a plan that has changes, so that a pipeline can wait for a person.
CHANGES = 2


@click.command(short_help="Show what `ipaas apply` would change; changes nothing.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--lookups", type=click.Path(path_type=Path), help="Folder of lookup tables (*.csv).")
@click.option(
    "--samples",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="Records of each flow that are shown in full.",
)
@click.option("--registry-only", is_flag=True, help="Only the registry: plan no records.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def plan(folder: Path, lookups: Path | None, samples: int, *, registry_only: bool, as_json: bool) -> None:
    """Show what `ipaas apply FOLDER` would change, in the registry and in the targets; nothing is stored or written.

    Exit code 0: nothing would change; 2: something would.
    """

    async def work() -> Plan:
        async with engine() as opened:
            with working("reading", quiet=as_json) as tell:
                return await plan_folder(
                    opened,
                    folder,
                    lookups=lookups,
                    records=not registry_only,
                    samples=samples,
                    progress=lambda flow, read: tell(f"{flow}: {read} records looked at"),
                )

    planned = run_async(work())
    if as_json:
        click.echo(encode(_plan_json(planned)).decode())
    else:
        _show_plan(planned)
    sys.exit(CHANGES if planned.changes else 0)


def _plan_json(planned: Plan) -> dict[str, Any]:
    return {
        "changes": planned.changes,
        "flows": [
            {
                "flow": each.flow,
                "version": each.version,
                "text_differs": each.text_differs,
                "changes": [change.to_json() for change in each.changes],
                "records": each.records,
            }
            for each in planned.flows
        ],
        "lookups": [
            {
                "lookup": each.lookup,
                "version": each.version,
                "changes": [change.to_json() for change in each.changes],
            }
            for each in planned.lookups
        ],
        "unchanged": planned.unchanged,
        "elsewhere": planned.elsewhere,
        "warnings": planned.warnings,
        "reads": planned.reads,
    }


def _show_plan(planned: Plan) -> None:
    for table in planned.lookups:
        click.echo(_headline(f"lookup {table.lookup}", table, "rows"))
        show_changes(table.changes)
    for flow in planned.flows:
        click.echo(_headline(flow.flow, flow, "rules and words"))
        show_changes(flow.changes)
        if flow.records is not None:
            show_records(flow.records)
    if any(
        change.op == "remove" and "fields" in change.path for flow in planned.flows for change in flow.changes
    ):
        click.echo("note: the values that a removed rule has written stay in the target")
    for warning in planned.warnings:
        click.echo(f"note: {warning}")
    if planned.unchanged:
        click.echo(f"unchanged: {', '.join(planned.unchanged)}")
    if planned.elsewhere:
        click.echo(f"in the registry only, left alone: {', '.join(planned.elsewhere)}")
    calls = f" ({planned.reads} reading calls, nothing stored or written)" if planned.reads else ""
    click.echo(f"{'Changes to apply' if planned.changes else 'Nothing to change'}{calls}")


def _headline(name: str, planned: FlowPlan | TablePlan, things: str) -> str:
    if planned.version is None:
        return f"{name}: new, {len(planned.changes)} {things}"
    if isinstance(planned, FlowPlan) and not planned.text_differs:
        return f"{name}: version {planned.version} stays, a lookup table of it changes"
    counts = ", ".join(f"{count} {word}" for word, count in counted(planned.changes).items() if count)
    return f"{name}: version {planned.version} -> next, {counts or 'comments and layout only'}"


COMMANDS = [plan]
