"""ipaas lookups: the registry's lookup tables, their versions, and going back."""

from __future__ import annotations

import click

from console.cli.history import Versioned, add_version_commands
from console.cli.opening import engine, run_async
from ipaas_assets.sync.apply import roll_back_lookup
from ipaas_resources.core.values import encode
from ipaas_resources.store import registry, versions
from mappings.difference import table_changes


@click.group(short_help="Lookup tables and their versions: show, diff, go back.")
def lookups() -> None:
    """Lookup tables and their versions: list, show, history, diff, rollback."""


@lookups.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_command(*, as_json: bool) -> None:
    """List the lookup tables with their active version."""

    async def work() -> list[registry.StoredLookup]:
        async with engine(load=False) as opened:
            return await registry.active_lookups(opened.database)

    found = run_async(work())
    if as_json:
        click.echo(encode(found).decode())
        return
    if not found:
        click.echo("There are no lookup tables yet. Add some with `ipaas apply FOLDER`.")
    for each in found:
        click.echo(f"{each.lookup:<40} version {each.version:<5} {each.rows} rows")


add_version_commands(
    lookups,
    Versioned(kind=versions.LOOKUPS, parts="rows", changes=table_changes, roll_back=roll_back_lookup),
)

COMMANDS = [lookups]
