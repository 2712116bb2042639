"""ipaas up: the whole platform, looked after."""

from __future__ import annotations

import click

from console.log_stream import LogStream
from console.supervising import Supervisor
from console.up import GROUPS, NAMES, Installation, log_folder, supervise
from ipaas_resources.settings import load_settings


@click.command(short_help="Start the platform: ingress, live workers, Dagster.")
@click.option(
    "--without",
    multiple=True,
    type=click.Choice([*NAMES, *GROUPS]),
    help="Leave this out; may be given several times.",
)
def up(without: tuple[str, ...]) -> None:
    """Start the database, the webhook ingress, Dagster, the live workers and the reporter, and look after them.

    What dies is started again. Ctrl-C or SIGTERM stops everything in order; a second one at once. `ipaas status` in
    another terminal shows how it goes.
    """
    settings = load_settings()
    with LogStream() as stream, Supervisor(settings.state_dir, stream.say, stream=stream) as supervisor:
        installation = Installation(settings, stream.say)
        supervise(supervisor, installation, stream.say)
        supervisor.start(*installation.programs(without=without))
        stream.say(f"Logs are kept in {log_folder(settings)}; Ctrl-C stops the platform")
        supervisor.watch()


COMMANDS = [up]
