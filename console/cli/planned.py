"""What was planned, in words: for `ipaas run --dry-run`, `ipaas plan` and `ipaas flows diff`."""

from __future__ import annotations

import click

from console.cli.values import shown
from ipaas_assets.sync.dry_run import DryRunResult
from mappings.difference import Change

_CHANGES_SHOWN = 50


def show_records(result: DryRunResult) -> None:
    """Counts by target, then the sampled records with their differences."""
    click.echo(f"  {result.read} records looked at, {result.reads} reading calls; a run would then:")
    for target, counts in result.counts.items():
        click.echo(f"  {target}: " + (", ".join(f"{w} {n}" for w, n in sorted(counts.items())) or "nothing"))
    for planned in result.samples:
        scope = f"{planned.scope}/" if planned.scope else ""
        click.echo(f"  {planned.target} {scope}{planned.record}: would {planned.would}")
        if planned.reason:
            click.echo(f"      {planned.reason}")
        for field, (before, after) in planned.changes.items():
            click.echo(f"      {field}: {shown(before)} -> {shown(after)}")


def show_changes(changes: list[Change]) -> None:
    """One line each: what was added, changed or removed."""
    marks = {"add": "+", "remove": "-", "replace": "~"}
    for change in changes[:_CHANGES_SHOWN]:
        click.echo(f"  {marks[change.op]} {change}")
    if len(changes) > _CHANGES_SHOWN:
        click.echo(f"  ... and {len(changes) - _CHANGES_SHOWN} more; --json lists all")
