"""ipaas run: one run of one flow, or what it would do."""

from __future__ import annotations

import sys
from typing import Any

import click

from console.cli.opening import engine, run_async
from console.cli.planned import show_records
from console.cli.working import working
from ipaas_assets.sync.dry_run import DryRun, DryRunResult
from ipaas_assets.sync.model import Counts, Mode
from ipaas_assets.sync.run import RunResult, run_flow
from ipaas_resources.core.values import encode


@click.command()
@click.argument("flow")
@click.option("--dry-run", is_flag=True, help="Plan only: show what would be written, write nothing.")
@click.option("--full", is_flag=True, help="Read all source records, not only changes.")
@click.option("--replan", is_flag=True, help="Map all known records again, without waiting for a change.")
@click.option("--ignore-window", is_flag=True, help="Write also while the flow's window is closed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option(
    "--samples",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Records that a dry run shows in full.",
)
def run(
    flow: str, *, dry_run: bool, full: bool, replan: bool, ignore_window: bool, as_json: bool, samples: int
) -> None:
    """Run FLOW now: read its source, map, write its targets."""
    if full and replan:
        raise click.UsageError(
            "--full and --replan do not go together: --full reads the source, --replan does not."
        )
    mode: Mode = "full" if full else "replan" if replan else "incremental"
    if dry_run:
        _show_dry_run(run_async(_dry_run(flow, mode, samples, quiet=as_json)), as_json=as_json)
        return
    result = run_async(_run(flow, mode, ignore_window=ignore_window, quiet=as_json))
    _show_run(result, as_json=as_json)
    if result.error:
        click.echo(f"ipaas: {result.error}", err=True)
        sys.exit(1)
    if result.retrying:
        click.echo(
            f"ipaas: Not all records of {flow} could be written; the next run tries them again. {result.retrying}",
            err=True,
        )
        sys.exit(3)


async def _run(flow: str, mode: Mode, *, ignore_window: bool, quiet: bool) -> RunResult:
    async with engine() as opened:
        with working(f"{flow}: reading", quiet=quiet) as tell:

            def show(counts: Counts) -> None:
                tell(f"{flow}: {_outcomes(counts.outcomes)}")

            return await run_flow(
                opened,
                flow,
                mode=mode,
                pull=mode != "replan",
                ignore_window=ignore_window,
                progress=show,
            )


async def _dry_run(flow: str, mode: Mode, samples: int, *, quiet: bool) -> DryRunResult:
    async with engine() as opened:
        with working(f"{flow}: reading", quiet=quiet) as tell:

            def show(read: int) -> None:
                tell(f"{flow}: {read} records read")

            return await DryRun(opened, flow, mode=mode, samples=samples, progress=show).run()


def _outcomes(outcomes: Any) -> str:
    return (
        ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(outcomes.items()) if count)
        or "nothing to do"
    )


def _waiting(counts: Counts) -> str:
    """The records worked on that this run did not read as changed: left by others, or raised by a new version."""
    # What parks comes back and is counted again in the same run.
    worked = max(
        (sum(outcomes.values()) - outcomes["parked"] for outcomes in counts.per_target.values()), default=0
    )
    return f", {worked - counts.changed} waiting records worked on" if worked > counts.changed else ""


def _show_run(result: RunResult, *, as_json: bool) -> None:
    if as_json:
        click.echo(encode(result).decode())
        return
    counts = result.counts
    click.echo(
        f"{result.flow}: {counts.received} read, {counts.changed} changed{_waiting(counts)} in {counts.seconds:.1f} s "
        f"({counts.reads} reading and {counts.writes} writing calls)"
    )
    for target, outcomes in sorted(counts.per_target.items()):
        click.echo(f"  {target}: {_outcomes(outcomes)}")
    left = {"pending": result.pending, "dead": result.dead, "for review": result.review}
    if any(left.values()):
        click.echo("  left: " + ", ".join(f"{count} {name}" for name, count in left.items() if count))
    for warning in result.warnings:
        click.echo(f"  warning: {warning}")


def _show_dry_run(result: DryRunResult, *, as_json: bool) -> None:
    if as_json:
        click.echo(encode(result).decode())
        return
    click.echo(f"{result.flow}: nothing was written")
    show_records(result)


COMMANDS = [run]
