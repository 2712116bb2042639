"""ipaas export: the registry's documents as files."""

from __future__ import annotations

from pathlib import Path

import click

from console.cli.opening import engine, run_async
from ipaas_assets.sync.exporting import Exported, export_folder


@click.command(short_help="Write the active flows and lookup tables into a folder.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace files that say something else.")
def export(folder: Path, *, overwrite: bool) -> None:
    """Write the active flows and lookup tables into FOLDER, byte for byte as they were stored."""

    async def work() -> Exported:
        async with engine(load=False) as opened:
            return await export_folder(opened.database, folder, overwrite=overwrite)

    exported = run_async(work())
    click.echo(
        f"{exported.flows} flows and {exported.lookups} lookup tables in {folder}"
        f" ({exported.written} files written, {exported.same} were the same)"
    )


COMMANDS = [export]
