"""ipaas ingress: take webhook deliveries."""

from __future__ import annotations

import os

import click

from console.cli.opening import open_database, run_async, say
from console.web.ingress.serving import LOOPBACK, listen, serve
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.settings import load_settings


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Instead of IPAAS_CONSOLE_PORT; 0 takes any free one."
)
def ingress(port: int | None) -> None:
    """Take webhook deliveries at POST /hooks/SUBSCRIPTION, for this machine alone.

    A proxy with TLS in front passes on what comes from outside. Ctrl-C ends it once every accepted delivery is stored.
    """
    settings = load_settings()
    wanted = settings.console_port if port is None else port
    try:
        listening = listen(wanted)
    except OSError as error:
        raise ConfigurationError(
            f"Port {wanted} of {LOOPBACK} cannot be listened on ({_reason(error)}). Free it, or choose another with "
            "--port or IPAAS_CONSOLE_PORT."
        ) from error
    with listening:
        taken = listening.getsockname()[1]
        urls = open_database(settings)
        run_async(
            serve(urls.app, listening, lambda: say(f"Taking deliveries at http://{LOOPBACK}:{taken}/hooks/"))
        )


def _reason(error: OSError) -> str:
    # Python adds the address to the text of a bind that failed; the sentence names it already.
    return os.strerror(error.errno) if error.errno else str(error)


COMMANDS = [ingress]
