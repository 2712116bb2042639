"""What was planned, in words: for `ipaas run --dry-run`, `ipaas plan` and `ipaas flows diff`."""

from __future__ import annotations

from typing import Any

import click

from console.cli.values import shown
from ipaas_assets.sync.dry_run import DryRunResult
from mappings.difference import Change

_CHANGES_SHOWN = 50
_LINE_COUNTS = {"created", "updated", "deleted"}  # what a plan says of the lines of a document


def show_records(result: DryRunResult) -> None:
    """Counts by target, then the sampled records with their differences."""
    known = f", {result.known} known ones compared" if result.known else ""
    click.echo(f"  {result.read} records read{known}, {result.reads} reading calls; a run would then:")
    for target, counts in result.counts.items():
        told = ", ".join(f"{_in_words(would)} {count}" for would, count in sorted(counts.items()))
        click.echo(f"  {target}: {told or 'nothing'}")
    for planned in result.samples:
        scope = f"{planned.scope}/" if planned.scope else ""
        click.echo(f"  {planned.target} {scope}{planned.record}: would {_in_words(planned.would)}")
        if planned.reason:
            click.echo(f"      {planned.reason}")
        for field, (before, after) in planned.changes.items():
            click.echo(f"      {shown_change(field, before, after)}")


def shown_change(field: str, before: Any, after: Any) -> str:
    """What becomes of one field; of the lines of a document how many are written."""
    if before is None and isinstance(after, dict) and after.keys() == _LINE_COUNTS:
        counts = ", ".join(f"{count} {word}" for word, count in after.items() if count)
        return f"{field}: lines {counts or 'unchanged'}"
    return f"{field}: {shown(before)} -> {shown(after)}"


def _in_words(name: str) -> str:
    return name.replace("_", " ")


def show_changes(changes: list[Change]) -> None:
    """One line each: what was added, changed or removed."""
    marks = {"add": "+", "remove": "-", "replace": "~"}
    for change in changes[:_CHANGES_SHOWN]:
        click.echo(f"  {marks[change.op]} {change}")
    if len(changes) > _CHANGES_SHOWN:
        click.echo(f"  ... and {len(changes) - _CHANGES_SHOWN} more; --json lists all")
