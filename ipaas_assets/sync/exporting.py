"""`ipaas export`: the active documents as files, byte for byte as they were stored."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store import versions
from ipaas_resources.store.database import Database
from ipaas_resources.store.versions import StoredText
from mappings.faults import FlowErrors
from mappings.texts import read_text, without_mark
from mappings.yaml_text import read_document

_NAMED = 5
_LONGEST_NAME = 200  # bytes
#: What Windows keeps for itself.
_NOT_IN_NAMES = frozenset('\\/:*?"<>|\x7f')
_DEVICE = re.compile(r"con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]")


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
    flow_files, table_files = _flow_files(flows, folder), _table_files(lookups)
    files = {folder / flow_files[each.name]: each.text for each in flows}
    files |= {folder / "lookups" / table_files[each.name]: each.text for each in lookups}
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


def _flow_files(flows: list[StoredText], folder: Path) -> dict[str, str]:
    """A file name for each flow, different on every system.

    The file of `folder` that holds the flow, else the name of the file that it came from, else `<flow>.yaml`.
    """
    names = _files_there(folder)
    names = {each.name: names[each.name] for each in flows if each.name in names}
    taken = {_folded(name) for name in names.values()}
    came = {each.name: re.split(r"[\\/]", each.file)[-1] for each in flows if each.name not in names}
    folded = Counter(_folded(name) for name in came.values())
    for flow, name in came.items():
        plain = name.endswith((".yaml", ".yml")) and is_plain_name(name)
        if plain and folded[_folded(name)] == 1 and _folded(name) not in taken:
            names[flow] = name
            taken.add(_folded(name))
    for flow in sorted(came.keys() - names.keys()):
        stem = flow if is_plain_name(f"{flow}.yaml") else f"{flow}_flow"
        tries = itertools.chain([f"{stem}.yaml"], (f"{stem}_{number}.yaml" for number in itertools.count(2)))
        names[flow] = next(name for name in tries if _folded(name) not in taken)
        taken.add(_folded(names[flow]))
    return names


def _files_there(folder: Path) -> dict[str, str]:
    """Flow -> the file that holds it, for a file may have got another name since."""
    homes: dict[str, str] = {}
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            data: Any = read_document(without_mark(read_text(file)), file.name).data
        except (FlowErrors, ConfigurationError):
            continue
        if isinstance(data, dict) and isinstance(data.get("flow"), str):
            homes.setdefault(data["flow"], file.name)
    return homes


def _table_files(tables: list[StoredText]) -> dict[str, str]:
    seen: dict[str, str] = {}
    for each in tables:
        other = seen.setdefault(_folded(each.name), each.name)
        if each.name.startswith(".") or not is_plain_name(f"{each.name}.csv") or other != each.name:
            as_well = f", as {other!r} is one" if other != each.name else ""
            raise ConfigurationError(
                f"The lookup table {each.name!r} cannot be a file on every system{as_well}; nothing was written. Save "
                "it under another name and change the rules that use it."
            )
    return {each.name: f"{each.name}.csv" for each in tables}


def is_plain_name(name: str) -> bool:
    """True for a text that Linux, macOS and Windows all take for the name of one file in the folder."""
    device = name.split(".", maxsplit=1)[0].strip().casefold()
    return (
        bool(name.rpartition(".")[0].strip(". "))
        and len(name.encode()) <= _LONGEST_NAME
        and not name.endswith((" ", "."))
        and not any(character in _NOT_IN_NAMES or ord(character) < ord(" ") for character in name)
        and _DEVICE.fullmatch(device) is None
    )


def _folded(name: str) -> str:
    """One text for all names that some system takes for the same file."""
    return unicodedata.normalize("NFC", name.casefold())
