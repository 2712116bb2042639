"""`ipaas export`: the active documents as files, byte for byte as they were stored."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store import versions
from ipaas_resources.store.database import Database
from ipaas_resources.store.versions import StoredText

_NAMED = 5


class Exported(msgspec.Struct, kw_only=True):
    """What an export wrote."""

    flows: int
    lookups: int
    written: int
    same: int  # files that said the same already


async def export_folder(database: Database, folder: Path, *, overwrite: bool = False) -> Exported:
    """Write every active flow into `folder` and every lookup table into `folder/lookups`.

    A document that came from a file gets that file's name again, so that an export into its own folder changes nothing.

    Raises:
        ConfigurationError: files there say something else and `overwrite` is off; nothing was written.
    """
    flows, lookups = await versions.active_texts(database)
    files = {folder / _flow_file(each, flows): each.text for each in flows}
    files |= {folder / "lookups" / f"{each.name}.csv": each.text for each in lookups}
    there = {path: path.read_bytes() for path in files if path.exists()}
    same = {path for path, data in there.items() if data == files[path].encode()}
    differing = sorted(str(path.relative_to(folder)) for path in there.keys() - same)
    if differing and not overwrite:
        raise ConfigurationError(
            f"Files of {folder} say something else than the registry, nothing was written: "
            f"{', '.join(differing[:_NAMED])}{' ...' if len(differing) > _NAMED else ''}. Export into another folder, or "
            "say --overwrite."
        )
    for path, text in files.items():
        if path not in same:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    return Exported(flows=len(flows), lookups=len(lookups), written=len(files) - len(same), same=len(same))


def _flow_file(flow: StoredText, flows: list[StoredText]) -> str:
    """The file's own name, unless another flow came from a file of that name."""
    name = Path(flow.file).name
    taken = [each.name for each in flows if each.file == flow.file]
    return name if name.endswith((".yaml", ".yml")) and taken == [flow.name] else f"{flow.name}.yaml"
