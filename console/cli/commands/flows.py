"""ipaas flows: the registry's flows, their versions, and going back."""

from __future__ import annotations

import json

import click

from console.cli.history import Versioned, add_version_commands
from console.cli.opening import engine, run_async
from ipaas_assets.sync.apply import roll_back
from ipaas_assets.sync.holding import Stopped, stopped
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store import registry, versions
from mappings.difference import flow_changes
from mappings.load import load_flow


@click.group(short_help="Flows and their versions: show, diff, go back, switch off.")
def flows() -> None:
    """Flows and their versions: list, show, history, diff, rollback, enable, disable."""


@flows.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_command(*, as_json: bool) -> None:
    """List the flows with their active version."""

    async def work() -> tuple[list[registry.StoredFlow], Stopped]:
        async with engine(load=False) as opened:
            return await registry.active_flows(opened.database), await stopped(opened.database)

    found, now = run_async(work())
    held = {each.flow: _held(each, now) for each in found}
    if as_json:
        click.echo(
            json.dumps(
                [
                    {
                        "flow": each.flow,
                        "version": each.version,
                        "enabled": each.enabled,
                        "held": held[each.flow],
                    }
                    for each in found
                ]
            )
        )
        return
    if not found:
        click.echo("There are no flows yet. Add some with `ipaas apply FOLDER`.")
    for each in found:
        state = "disabled" if not each.enabled else f"held {held[each.flow]}" if held[each.flow] else "on"
        click.echo(f"{each.flow:<40} version {each.version:<5} {state}")


def _held(stored: registry.StoredFlow, now: Stopped) -> str | None:
    """Until when nothing of the flow is written; None: it may be written now, or it cannot be read at all."""
    try:
        flow = load_flow(stored.text, name=stored.flow)
    except ConfigurationError:
        return None
    held = now.whole_flow(flow)
    return None if held is None else held.words


def _enable(name: str, *, enabled: bool) -> None:
    async def work() -> bool:
        async with engine(load=False) as opened:
            return await registry.set_enabled(opened.database, name, enabled=enabled)

    if not run_async(work()):
        raise versions.FLOWS.missing(name)
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


add_version_commands(
    flows,
    Versioned(kind=versions.FLOWS, parts="rules and words", changes=flow_changes, roll_back=roll_back),
)

COMMANDS = [flows]
