"""ipaas flows: the registry's flows, their versions, and going back."""

from __future__ import annotations

import datetime as dt
import difflib
import getpass
import json
from typing import Any, get_args

import click

from console.cli.commands.apply import show_applied
from console.cli.opening import engine, run_async, say
from console.cli.planned import show_changes
from ipaas_assets.sync.apply import Applied, roll_back
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.core.values import encode
from ipaas_resources.settings import load_settings
from ipaas_resources.store import registry, versions
from ipaas_resources.store.versions import About, Remap, StoredText, Version
from mappings.difference import counted, flow_changes


@click.group()
def flows() -> None:
    """Flows and their versions: list, show, history, diff, rollback, enable, disable."""


@flows.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_command(*, as_json: bool) -> None:
    """List the flows with their active version."""

    async def work() -> list[registry.StoredFlow]:
        async with engine(load=False) as opened:
            return await registry.active_flows(opened.database)

    found = run_async(work())
    if as_json:
        click.echo(
            json.dumps(
                [{"flow": each.flow, "version": each.version, "enabled": each.enabled} for each in found]
            )
        )
        return
    if not found:
        click.echo("There are no flows yet. Add some with `ipaas apply DIR`.")
    for each in found:
        click.echo(f"{each.flow:<40} version {each.version:<5} {'on' if each.enabled else 'disabled'}")


@flows.command("show")
@click.argument("name")
@click.option("--version", type=int, help="An older version; without it the active one.")
def show_command(name: str, version: int | None) -> None:
    """Print a flow as it was stored."""
    click.echo(_stored(name, version).text, nl=False)


@flows.command("history")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Newest versions shown.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, with every change.")
def history_command(name: str, limit: int, *, as_json: bool) -> None:
    """List who changed a flow, when, why and what."""

    async def work() -> list[Version]:
        async with engine(load=False) as opened:
            return await versions.flow_history(opened.database, name, limit=limit)

    found = run_async(work())
    if not found:
        raise _no_flow(name)
    if as_json:
        click.echo(encode(found).decode())
        return
    for each in found:
        mark = "*" if each.active else " "
        reason = f"  {each.reason}" if each.reason else ""
        click.echo(
            f"{mark} {each.version:<5} {_when(each.created_at)}  {each.actor} ({each.origin})  "
            f"{_what(each.diff)}{reason}"
        )


@flows.command("diff")
@click.argument("name")
@click.argument("old", type=int, required=False)
@click.argument("new", type=int, required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON array of changes.")
def diff_command(name: str, old: int | None, new: int | None, *, as_json: bool) -> None:
    """Show what differs between two versions of a flow: OLD and NEW, else the active one and the one before it."""

    async def work() -> tuple[StoredText, StoredText]:
        async with engine(load=False) as opened:
            after = await versions.flow_text(opened.database, name, new)
            if after is None:
                raise _no_version(name, new)
            number = after.version - 1 if old is None else old
            before = await versions.flow_text(opened.database, name, number)
            if before is None and (old is not None or number):
                raise _no_version(name, number)
            return before or StoredText(name=name, version=0, text="", file=""), after

    before, after = run_async(work())
    changes = flow_changes(before.text, after.text)
    if as_json:
        click.echo(encode([change.to_json() for change in changes]).decode())
        return
    counts = ", ".join(f"{count} {word}" for word, count in counted(changes).items() if count)
    click.echo(f"{name}: version {before.version} -> {after.version}: {counts or 'nothing but layout'}")
    show_changes(changes)
    click.echo()
    for line in difflib.unified_diff(
        before.text.splitlines(),
        after.text.splitlines(),
        f"version {before.version}",
        f"version {after.version}",
        lineterm="",
    ):
        click.echo(line)


@flows.command("rollback")
@click.argument("name")
@click.option("--to", type=int, help="The version to go back to; without it the one before the active one.")
@click.option("--remap", type=click.Choice(get_args(Remap)), default="changed", show_default=True)
@click.option("--yes", is_flag=True, help="Also where more than 1,000 records go through their flow again.")
@click.option("--reason", default="", help="Why, for the history.")
def rollback_command(name: str, to: int | None, remap: Remap, reason: str, *, yes: bool) -> None:
    """Make an older version of a flow the newest one; it is checked like any other."""
    settings = load_settings()
    about = About(actor=getpass.getuser(), origin="console", reason=reason)

    async def work() -> Applied:
        async with engine(settings) as opened:
            return await roll_back(opened, name, to=to, about=about, remap=remap, yes=yes, say=say)

    show_applied(run_async(work()), settings)


def _enable(name: str, *, enabled: bool) -> None:
    async def work() -> bool:
        async with engine(load=False) as opened:
            return await registry.set_enabled(opened.database, name, enabled=enabled)

    if not run_async(work()):
        raise _no_flow(name)
    click.echo(f"{name}: {'on' if enabled else 'disabled; its work waits'}")


@flows.command("enable")
@click.argument("name")
def enable_command(name: str) -> None:
    """Let a flow work again."""
    _enable(name, enabled=True)


@flows.command("disable")
@click.argument("name")
def disable_command(name: str) -> None:
    """Stop a flow; its work waits."""
    _enable(name, enabled=False)


def _stored(name: str, version: int | None) -> StoredText:
    async def work() -> StoredText | None:
        async with engine(load=False) as opened:
            return await versions.flow_text(opened.database, name, version)

    found = run_async(work())
    if found is None:
        raise _no_version(name, version)
    return found


def _no_flow(name: str) -> ConfigurationError:
    return ConfigurationError(f"There is no flow {name!r}. `ipaas flows list` shows those there are.")


def _no_version(name: str, version: int | None) -> ConfigurationError:
    if version is None:
        return _no_flow(name)
    return ConfigurationError(
        f"There is no version {version} of a flow {name!r}. `ipaas flows history {name}` shows those there are."
    )


def _when(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _what(diff: list[dict[str, Any]]) -> str:
    """How many rules and words were added, changed and removed."""
    counts = {op: sum(change["op"] == op for change in diff) for op in ("add", "replace", "remove")}
    return f"+{counts['add']} ~{counts['replace']} -{counts['remove']}"


COMMANDS = [flows]
