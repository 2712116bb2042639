"""ipaas impact: who is concerned by a rule, by a draft of a flow, by a changed schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from console.cli.opening import engine, run_async
from ipaas_assets.sync.impact import DraftReport, SchemaReport, draft_report, rule_impact, schema_report
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.core.values import encode
from mappings.impact.catalog import Place
from mappings.impact.rule_impact import Conflict, Impact
from mappings.load import load_flow

_MANY = 12  # places on one line of text


@click.command("impact", short_help="Show what else a rule, a draft or a changed schema touches.")
@click.argument("what", metavar="[FLOW[.TARGET[.FIELD]]]", required=False)
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A draft of FLOW: what it changes for others.",
)
@click.option(
    "--schema", "entity", metavar="SYSTEM/ENTITY", help="What a change of this entity's schema means."
)
@click.option(
    "--against",
    metavar="VERSION|live",
    help="With --schema: compare this version with the newest, or the newest with live.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(
    what: str | None, *, file: Path | None, entity: str | None, against: str | None, as_json: bool
) -> None:
    """Show who is concerned by a rule, a target, a flow, a draft of it, or a changed schema.

    Renamed fields are recognised by their names, types and values. They are proposals: nothing is changed.
    """
    if (what is None) == (entity is None):
        raise click.UsageError(
            "Name either a flow (FLOW[.TARGET[.FIELD]]), or an entity with --schema SYSTEM/ENTITY."
        )
    if against is not None and entity is None:
        raise click.UsageError("--against goes with --schema.")
    if entity is not None:
        if file is not None:
            raise click.UsageError("--file goes with a flow, not with --schema.")
        system, slash, name = entity.partition("/")
        if not (system and slash and name):
            raise click.UsageError(
                f"{entity!r} names no entity. Write it as SYSTEM/ENTITY, such as bc/customers."
            )
        _show(_schema(system, name, against), as_json=as_json)
        return
    assert what is not None
    flow, _, rest = what.partition(".")
    target, _, field = rest.partition(".")
    if file is not None:
        if rest:
            raise click.UsageError("A draft is a whole flow: name the flow alone beside --file.")
        _show(_draft(flow, file), as_json=as_json)
        return
    _show(_rule(flow, target or None, field or None), as_json=as_json)


def _rule(flow: str, target: str | None, field: str | None) -> Impact:
    async def work() -> Impact:
        async with engine() as opened:
            return rule_impact(opened, flow, target, field)

    return run_async(work())


def _draft(flow: str, file: Path) -> DraftReport:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file.name} is not UTF-8 text. Save it as UTF-8 and try again.") from None
    held = load_flow(text, name=file.name).flow
    if held != flow:
        raise ConfigurationError(
            f"{file.name} holds the flow {held!r}, not {flow!r}. Name that flow, or another file."
        )

    async def work() -> DraftReport:
        async with engine() as opened:
            return await draft_report(opened, text, file.name)

    return run_async(work())


def _schema(system: str, entity: str, against: str | None) -> SchemaReport:
    async def work() -> SchemaReport:
        async with engine() as opened:
            return await schema_report(opened, system, entity, against)

    return run_async(work())


def _show(result: Impact | DraftReport | SchemaReport, *, as_json: bool) -> None:
    if as_json:
        click.echo(encode(result).decode())
        return
    if isinstance(result, Impact):
        lines = _impact(result)
    elif isinstance(result, DraftReport):
        lines = _draft_report(result)
    else:
        lines = _schema_report(result)
    for line in lines:
        click.echo(line)


# --- as text ------------------------------------------------------------------------------------------------------


def _listed(places: Sequence[Place]) -> str:
    names = list(dict.fromkeys(map(str, places)))
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + more


def _conflict(conflict: Conflict) -> str:
    note = f" ({conflict.note})" if conflict.note else ""
    return (
        f"{conflict.system}/{conflict.entity}.{conflict.field}: {conflict.place} and {conflict.other}{note}"
    )


def _section(title: str, lines: Sequence[str], *, nothing: str = "") -> Iterator[str]:
    if lines:
        yield f"{title}:"
        yield from (f"  {line}" for line in lines)
    elif nothing:
        yield nothing


def _impact(impact: Impact) -> Iterator[str]:
    many = len(impact.rules)
    yield f"{impact.of}: {many} {'rule or condition' if many == 1 else 'rules and conditions'}"
    yield from _details(impact)


def _details(impact: Impact) -> Iterator[str]:
    yield from _section(
        "Conflicts: another rule writes the same field",
        [_conflict(each) for each in impact.conflicts],
        nothing="No other rule writes the same fields.",
    )
    yield from _section(
        "Other readers of the same source fields",
        [f"{each.system}/{each.entity}.{each.field}: {_listed(each.others)}" for each in impact.shared],
    )
    yield from _section("Rests on", [_rests_on(each) for each in impact.rests_on])
    yield from _section(
        "Others follow its links", [f"{each.links}: {_listed(each.places)}" for each in impact.dependents]
    )
    yield from _section(
        "Others read what it writes",
        [f"{each.system}/{each.entity}.{each.field}: {_listed(each.others)}" for each in impact.readers],
    )


def _rests_on(each: Any) -> str:
    kind = "the links of" if each.kind == "links" else "the lookup table"
    trouble = f"; BROKEN: {each.trouble}" if each.trouble else ""
    return f"{kind} {each.name} (in {_listed(each.places)}){trouble}"


def _draft_report(report: DraftReport) -> Iterator[str]:
    impact = report.impact
    counts = {
        kind: sum(change.kind == kind for change in impact.changes)
        for kind in ("added", "changed", "removed")
    }
    said = ", ".join(f"{many} {kind}" for kind, many in counts.items() if many) or "no rule differs"
    yield f"{impact.flow}, the draft against the active version: {said}"
    for change in impact.changes:
        text = {
            "added": change.after,
            "removed": f"was {change.before}",
            "changed": f"{change.before} -> {change.after}",
        }[change.kind]
        yield f"  {change.kind} {change.place}: {text}"
    yield from _section("A save would refuse", [str(fault) for fault in report.faults])
    yield from _section(
        "Consequences for other flows",
        [
            f"{'BREAKS' if each.breaks else 'look at'} {each.place}: {each.why}"
            for each in impact.consequences
        ],
        nothing="Nothing of another flow rests on what the draft takes away.",
    )
    yield from _section("New conflicts", [_conflict(each) for each in impact.new_conflicts])
    yield from _section("Conflicts that end", [_conflict(each) for each in impact.ended_conflicts])
    if impact.impact.rules:
        yield "Of the rules that it adds or changes:"
        yield from (f"  {line}" for line in _details(impact.impact))
    yield from _section("Not checked", report.notes)


def _schema_report(report: SchemaReport) -> Iterator[str]:
    impact = report.impact
    name = f"{impact.system}/{impact.entity}"
    if not impact.changes:
        yield f"{name}: {report.before} and {report.after} are the same."
        return
    yield f"{name}, from {report.before} to {report.after}: {len(impact.changes)} differences"
    yield from (f"  {change}" for change in impact.changes)
    yield from _section(
        "Renames, as proposals (nothing is changed)",
        [
            f"{rename.field} is {rename}: {'; '.join(f'{each.field}: {each.why()}' for each in rename.candidates)}"
            for rename in impact.renames
        ],
    )
    breaks = [each for each in impact.affected if each.severity == "breaks"]
    look = [each for each in impact.affected if each.severity == "check"]
    yield from _section("Broken", [f"{each.place}: {each.why}" for each in breaks], nothing="No rule breaks.")
    yield from _section("To look at", [f"{each.place}: {each.why}" for each in look])
    yield from _section("Not checked", report.notes)


COMMANDS = [command]
