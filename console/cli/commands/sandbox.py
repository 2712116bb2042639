"""ipaas sandbox: what a flow makes of one record, field by field. Nothing is written anywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from console.cli.opening import engine, run_async
from console.cli.planned import shown_change
from console.cli.strict_json import JsonError, read_json_bytes
from console.cli.values import ago, shown
from ipaas_assets.sync.sandbox import Ask, SandboxResult, TargetResult, Would, sandbox
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.core.values import encode
from mappings.tracing.traced import ConditionTrace, FieldTrace, LinesTrace, Problem

_MANY = 8  # inputs on one line of text


@click.command("sandbox")
@click.argument("flow")
@click.option(
    "--record", "given", metavar="JSON|@FILE|-", help="The source record, as its fields; - reads stdin."
)
@click.option(
    "--id",
    "record",
    help="The id of a source record (where a plan shows at/2bd5: --scope at --id 2bd5): from the mirror, else "
    "from its system.",
)
@click.option("--scope", help="The scope of the record.")
@click.option("--target", help="This target only.")
@click.option("--rule", "field", metavar="FIELD", help="This rule only: NAME, LINES.NAME or $scope.")
@click.option(
    "--draft", metavar="YAML", help="Try this rule in place of the one of --rule; it need not exist yet."
)
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), help="Try the flow of this file.")
@click.option("--version", type=click.IntRange(min=1), help="Try this version of the flow.")
@click.option(
    "--plan", is_flag=True, help="Say also whether it would be written; this reads the target systems."
)
@click.option("--show-personal", is_flag=True, help="Show personal values; secrets are never shown.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(
    flow: str,
    *,
    given: str | None,
    record: str | None,
    scope: str | None,
    target: str | None,
    field: str | None,
    draft: str | None,
    file: Path | None,
    version: int | None,
    plan: bool,
    show_personal: bool,
    as_json: bool,
) -> None:
    """Show what FLOW makes of one record, rule by rule. Nothing is written anywhere.

    The values of the record are shown, for you asked for it; fields that their schema calls personal are masked, with
    what they are made of, unless you ask for them, secret ones always.
    """
    if (given is None) == (record is None):
        raise click.UsageError("Give either a record with --record, or the id of one with --id.")
    if file is not None and version is not None:
        raise click.UsageError(
            "--file and --version do not go together: each names another text of the flow."
        )
    if draft is not None and field is None:
        raise click.UsageError("--draft needs --rule: the field whose rule it is.")
    ask = Ask(
        flow=flow,
        document=None if given is None else _document(given),
        record=record,
        scope=scope,
        target=target,
        field=field,
        draft=draft,
        text=None if file is None else _text(file),
        file=file.name if file is not None else "",
        version=version,
        plan=plan,
        show_personal=show_personal,
    )

    async def work() -> SandboxResult:
        async with engine() as opened:
            return await sandbox(opened, ask)

    result = run_async(work())
    if as_json:
        click.echo(encode(result).decode())
        return
    for line in _lines(result):
        click.echo(line)


def _document(given: str) -> dict[str, Any]:
    try:
        if given == "-":
            data = sys.stdin.buffer.read()
        elif given.startswith("@"):
            data = Path(given[1:]).read_bytes()
        else:
            data = given.encode("utf-8", "surrogateescape")
        document = read_json_bytes(data)
    except JsonError as error:
        raise click.UsageError(f"The record cannot be read: {error}.") from None
    if not isinstance(document, dict):
        raise click.UsageError('The record is no JSON object. Write its fields: {"number": "C-7", ...}.')
    return document


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file.name} is not UTF-8 text. Save it as UTF-8 and try again.") from None


# --- as text ------------------------------------------------------------------------------------------------------


def _lines(result: SandboxResult) -> Iterator[str]:
    version = "draft" if result.version is None else f"version {result.version}"
    name = f"record {result.record}" if result.record else "a record without an id"
    scope = f" in the scope {result.scope}" if result.scope else ""
    yield f"{result.flow} ({version}): {name} of {result.system}/{result.entity}{scope}, {_origin(result)}"
    for reason in result.bad:
        yield f"  A run would set the record aside before mapping: {reason}"
    for note in result.notes:
        yield f"  Note: {note}"
    for target in result.targets:
        yield ""
        yield from _target(target)
    yield ""
    yield "Nothing was written." + (" Values shown as *** are personal or secret." if result.masked else "")


def _origin(result: SandboxResult) -> str:
    if result.origin == "given":
        return "as given"
    if result.origin == "source":
        return "read from its system now"
    changed = f", where it changed {ago(result.changed_ago)}" if result.changed_ago is not None else ""
    read = f"; the source was last read {ago(result.read_ago)}" if result.read_ago is not None else ""
    return f"from the mirror{changed}{read}"


def _target(result: TargetResult) -> Iterator[str]:
    trace = result.trace
    yield f"{trace.target} -> {trace.system}/{trace.entity}"
    for fault in result.faults:
        yield f"  A save would refuse: {fault}"
    for condition in trace.conditions:
        yield from _condition(condition, "  ")
    if trace.passes is False:
        yield "  The record does not belong into this target; its rules make of it:"
    if trace.scope is not None:
        yield from _field(trace.scope, "  ")
    for field in trace.fields:
        yield from _field(field, "  ")
    for lines in trace.lines:
        yield from _document_lines(lines)
    if result.would is not None:
        yield from _would(result.would)


def _condition(condition: ConditionTrace, indent: str) -> Iterator[str]:
    said = {True: "holds", False: "does not hold", None: "cannot be told"}[condition.holds]
    yield f"{indent}when {condition.expression}: {said}"
    yield from _inputs(condition.inputs, indent + "    ")
    yield from _problems(condition.problems, indent + "    ")


def _field(field: FieldTrace, indent: str) -> Iterator[str]:
    name = f"{field.field} (key)" if field.is_key else field.field
    takes = f" -> {field.takes}" if field.takes else ""
    made = f"= {shown(field.value)}  [{field.type}{takes}]" if field.has_value else f"is left out{takes}"
    yield f"{indent}{name} {made}"
    indent += "    "
    yield f"{indent}{field.word}: {field.says}"
    yield from _inputs(field.inputs, indent)
    for step in field.steps:
        yield f"{indent}{step.word} gives {shown(step.value)}"
    for entry in field.entries:
        found = shown(entry.entry) if entry.found else "no entry"
        yield f"{indent}lookup table {entry.table}: {shown(entry.key)} -> {found}"
    for link in field.links:
        far = "not linked" if link.id is None else f"{link.scope}/{link.id}" if link.scope else link.id
        yield f"{indent}link {link.link}: {link.by} {shown(link.value)} -> {far}"
    yield from _problems(field.problems, indent)


def _inputs(inputs: dict[str, Any], indent: str) -> Iterator[str]:
    pairs = [f"{name} = {shown(value)}" for name, value in inputs.items()]
    for start in range(0, len(pairs), _MANY):
        yield f"{indent}from {', '.join(pairs[start : start + _MANY])}"


def _problems(problems: list[Problem], indent: str) -> Iterator[str]:
    for problem in problems:
        yield f"{indent}! {problem.kind}: {problem.message}"


def _document_lines(lines: LinesTrace) -> Iterator[str]:
    yield f"  {lines.field}, one for each of {lines.each}:"
    yield from _problems(lines.problems, "    ")
    for line in lines.lines:
        name = "rolled-up line" if line.is_rolled_up else "line"
        yield f"    {name} {line.number}{'' if line.is_made else ' makes nothing'}"
        if line.when is not None:
            yield from _condition(line.when, "      ")
        for field in line.fields:
            yield from _field(field, "      ")


def _would(would: Would) -> Iterator[str]:
    yield f"  A run now: {would.outcome.replace('_', ' ')}{f'. {would.reason}' if would.reason else ''}"
    for field, (before, after) in would.changes.items():
        yield f"    {shown_change(field, before, after)}"


COMMANDS = [command]
