"""`ipaas`: the command line. Every module of `console/cli/commands` offers its commands; there is no list to edit."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import signal
import sys

import click

from console.cli import commands
from console.processes import TERMINATED
from ipaas_resources.core.errors import IpaasError, StopError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ipaas")
@click.option("--verbose", is_flag=True, help="Show log lines.")
def cli(*, verbose: bool) -> None:
    """Keep business systems in step."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


for _module in pkgutil.iter_modules(commands.__path__):
    for _command in importlib.import_module(f"{commands.__name__}.{_module.name}").COMMANDS:
        cli.add_command(_command)


def main() -> None:
    """Run the command line.

    Exit code 1: it could not be done until something is mended (one sentence says why); 2: the command is wrong;
    3: it could not be done now, trying again later may help.
    """
    # A supervisor's SIGTERM ends us like Ctrl-C: what we started is stopped, what we hold is given back.
    signal.signal(signal.SIGTERM, _end)
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except SystemExit as end:
        if end.code == TERMINATED:
            click.echo("Stopped.", err=True)
        raise
    except IpaasError as error:
        click.echo(f"ipaas: {error.message}", err=True)
        sys.exit(1 if isinstance(error, StopError) else 3)
    except OSError as error:
        click.echo(f"ipaas: {_os_sentence(error)}", err=True)
        sys.exit(1)


def _end(*_: object) -> None:
    sys.exit(TERMINATED)


def _os_sentence(error: OSError) -> str:
    place = f" ({error.filename})" if error.filename else ""
    return f"The operating system refused{place}: {error.strerror or error}. Mend that and try again."


if __name__ == "__main__":
    main()
