"""ipaas apply: flows as files become the registry's active versions."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import get_args

import click

from console.cli.opening import engine, run_async, say
from console.dagster_home import reload_running
from ipaas_assets.sync.apply import Applied, apply_folder
from ipaas_resources.settings import Settings, load_settings
from ipaas_resources.store.versions import Remap


@click.command(short_help="Check the flows of a folder, store them, make them active.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--lookups", type=click.Path(path_type=Path), help="Folder of lookup tables (*.csv).")
@click.option(
    "--remap",
    type=click.Choice(get_args(Remap)),
    default="changed",
    show_default=True,
    help="Which known records go through a changed flow again.",
)
@click.option("--yes", is_flag=True, help="Also where more than 1,000 records go through their flow again.")
@click.option("--reason", default="", help="Why, for the history.")
def apply(folder: Path, lookups: Path | None, remap: Remap, reason: str, *, yes: bool) -> None:
    """Check the flows of a folder against the systems, store them, make them active: all or none."""
    settings = load_settings()

    async def work() -> Applied:
        async with engine(settings) as opened:
            return await apply_folder(
                opened,
                folder,
                actor=getpass.getuser(),
                reason=reason,
                lookups=lookups,
                remap=remap,
                yes=yes,
                say=say,
            )

    show_applied(run_async(work()), settings)


def show_applied(applied: Applied, settings: Settings) -> None:
    """What applying changed, in words; a running Dagster takes over the new versions."""
    for saved in applied.flows:
        click.echo(f"{saved.flow}: version {saved.version}{'' if saved.changed else ', unchanged'}")
    for table, version in applied.lookups.items():
        click.echo(f"lookup {table}: version {version}")
    for warning in applied.warnings:
        click.echo(f"note: {warning}")
    if applied.raised:
        click.echo(f"{applied.raised} known records go through their flow again")
    if any(saved.changed for saved in applied.flows) and reload_running(settings):
        say("Dagster shows the new versions")


COMMANDS = [apply]
