"""ipaas up: the platform with its Dagster UI."""

from __future__ import annotations

import click

from console.cli.opening import say
from console.processes import Processes
from console.up import start_dagster
from ipaas_resources.settings import load_settings


@click.command(short_help="Start the platform with the Dagster UI.")
def up() -> None:
    """Start the database and Dagster; schedules and sensors then keep the systems in step."""
    settings = load_settings()
    with Processes(settings.state_dir, say) as processes:
        start_dagster(processes, settings, say).announce()
        say("Ctrl-C stops the platform")
        processes.watch()


COMMANDS = [up]
