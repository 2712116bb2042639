"""ipaas reporter: tell Dagster what the live lane does."""

from __future__ import annotations

import os

import click

from console.cli.opening import open_database, run_async, say
from console.dagster_home import DagsterHome
from ipaas_resources.core.clock import SystemClock
from ipaas_resources.settings import load_settings


@click.command(short_help="Show in Dagster what the live workers do.")
def reporter() -> None:
    """Show in Dagster what the live workers do: one event for many records, at most five a second.

    One reporter works over all machines; a second one stands by. Ctrl-C ends it; what was not told yet is told by the
    next one.
    """
    settings = load_settings()
    urls = open_database(settings)
    home = DagsterHome(settings, dagster_url=os.environ.get("IPAAS_DAGSTER_URL") or urls.dagster)
    if not (home.path / "dagster.yaml").is_file():
        home.prepare()
    os.environ.update(home.environment())
    # Dagster takes a second to import, and reads its home from the environment.
    from ipaas_assets.resources import Platform  # noqa: PLC0415
    from sensors.reporting import Reporter, instance_of  # noqa: PLC0415

    run_async(Reporter(Platform(), lambda: instance_of(str(home.path)), clock=SystemClock(), say=say).run())


COMMANDS = [reporter]
