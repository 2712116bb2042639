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
from ipaas_resources.core.errors import IpaasError, ReloadError, RetryError, UnknownOutcomeError


class Commands(click.Group):
    """The commands of every module in `console/cli/commands`, each loaded when it is asked for.

    All of them take a second to import; a command that stands in the module of its own name needs that one alone.
    """

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, None where there is none."""
        modules = _modules()
        for module in [cmd_name] if cmd_name in modules else modules:
            self._load(module)
        if cmd_name not in self.commands:
            self.list_commands(ctx)
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        for module in _modules():
            self._load(module)
        return super().list_commands(ctx)

    def _load(self, module: str) -> None:
        for command in importlib.import_module(f"{commands.__name__}.{module}").COMMANDS:
            self.add_command(command)


def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(commands.__path__)]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ipaas")
@click.option("--verbose", is_flag=True, help="Show log lines.")
def cli(*, verbose: bool) -> None:
    """Keep business systems in step."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def main() -> None:
    """Run the command line.

    Exit code 1: it could not be done until something is mended (one sentence says why); 2: the command is wrong;
    3: it could not be done now, trying again later may help.
    """
    # A supervisor's SIGTERM ends us like Ctrl-C: what we started is stopped, what we hold is given back.
    signal.signal(signal.SIGTERM, _end)
    try:
        code = cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
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
        sys.exit(3 if isinstance(error, RetryError | ReloadError | UnknownOutcomeError) else 1)
    except OSError as error:
        click.echo(f"ipaas: {_os_sentence(error)}", err=True)
        sys.exit(1)
    # Of a command that ends with `Exit` click returns the code, it does not raise.
    if isinstance(code, int):
        sys.exit(code)


def _end(*_: object) -> None:
    sys.exit(TERMINATED)


def _os_sentence(error: OSError) -> str:
    place = f" ({error.filename})" if error.filename else ""
    return f"The operating system refused{place}: {error.strerror or error}. Mend that and try again."


if __name__ == "__main__":
    main()
