"""ipaas apply, ipaas flows: the active flows."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import click

from console.cli.opening import engine, run_async, say
from console.dagster_home import reload_running
from ipaas_assets.sync.apply import Applied, apply_folder
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.settings import load_settings
from ipaas_resources.store import registry


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--lookups", type=click.Path(path_type=Path), help="Folder of lookup tables (*.csv).")
@click.option("--reason", default="", help="Why, for the history.")
def apply(folder: Path, lookups: Path | None, reason: str) -> None:
    """Check the flows of a folder against the systems, store them, make them active: all or none."""
    settings = load_settings()

    async def work() -> Applied:
        async with engine(settings) as opened:
            return await apply_folder(opened, folder, actor=getpass.getuser(), reason=reason, lookups=lookups)

    applied = run_async(work())
    for saved in applied.flows:
        click.echo(f"{saved.flow}: version {saved.version}{'' if saved.changed else ', unchanged'}")
    for table in applied.lookups:
        click.echo(f"lookup {table}: changed")
    if applied.raised:
        click.echo(f"{applied.raised} known records go through their flow again")
    if any(saved.changed for saved in applied.flows) and reload_running(settings):
        say("Dagster shows the new versions")


@click.group()
def flows() -> None:
    """Active flows: list, enable, disable."""


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


def _enable(name: str, *, enabled: bool) -> None:
    async def work() -> bool:
        async with engine(load=False) as opened:
            return await registry.set_enabled(opened.database, name, enabled=enabled)

    if not run_async(work()):
        raise ConfigurationError(f"There is no flow {name!r}. `ipaas flows list` shows those there are.")
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


COMMANDS = [apply, flows]
