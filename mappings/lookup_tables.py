"""Lookup tables: CSV files with a header row, key first."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final

import msgspec

from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.core.values import Value, escape_text
from mappings.texts import read_text, without_mark

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path as FilePath


class LoadedTable(msgspec.Struct, frozen=True):
    """A lookup table and the text it was read from."""

    name: str
    file: str
    text: str  # exactly as it stands in the file
    rows: dict[str, Value]


def load_lookup(path: FilePath) -> dict[str, Value]:
    """A lookup table from a CSV file with a header row: the first column is the key, the second the value.

    With more columns a value is an object, column -> cell, and the rule names the column (`part`). Cells are text
    unless the header of their column says otherwise after a colon: `paymenttermscode:integer`, and `unit:remark` for
    a column that is there for people only.

    Raises:
        ConfigurationError: with all faults of the file, one a line.
    """
    return read_table(read_text(path), name=path.name)


def read_table(text: str, *, name: str) -> dict[str, Value]:
    """The rows of a lookup table, see load_lookup; `name` is what faults call the text."""
    text = without_mark(text)
    other = _other_mark(text)
    if other:
        raise _unusable(name, [f"1: the columns are parted by {other}, not by commas; {_WITH_COMMAS}"])
    faults: list[str] = []
    table: dict[str, Value] = {}
    first_lines: dict[str, int] = {}
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = _columns(next(reader, []), faults)
        values = [name for name, kind in columns if kind != _REMARK]
        for row in reader:
            line = reader.line_num
            if not row:
                continue
            if len(row) != len(columns) + 1:
                short = "there is no value beside the key"
                faults.append(f"{line}: {short if len(row) == 1 else _count_fault(row, columns)}")
                continue
            key = escape_text(row[0])
            if key in table:
                faults.append(f"{line}: the key stands in line {first_lines[key]} already")
                continue
            first_lines[key] = line
            cells = _cells(columns, row[1:], line, faults)
            table[key] = cells if len(values) > 1 else next(iter(cells.values()), None)
    except csv.Error as error:
        faults.append(f"{reader.line_num}: this is not CSV: {error}")
    if faults:
        raise _unusable(name, faults)
    return table


def _unusable(name: str, faults: list[str]) -> ConfigurationError:
    listing = "\n".join(f"  {name}:{fault}" for fault in faults)
    return ConfigurationError(f"The lookup table {name} cannot be used:\n{listing}", code="lookup")


def _other_mark(text: str) -> str:
    """What parts the columns of the header where no comma does, '' for nothing that is known.

    Told before the table is read: cells may stand in quotes, which no such file would get past, and every row would
    be a fault of its own.
    """
    header = io.StringIO(text, newline=None).readline()
    return "" if "," in header else next((name for mark, name in _OTHER_MARKS.items() if mark in header), "")


def _columns(header: list[str], faults: list[str]) -> list[tuple[str, str]]:
    """(name, kind of its cells) of every column but the key."""
    if len(header) <= 1:
        faults.append("1: the header needs two columns, the key and the value")
        return [("", "")]
    columns = []
    for cell in header[1:]:
        name, _, kind = (part.strip() for part in cell.partition(":"))
        if kind not in _VALUES and kind != _REMARK:
            valid = ", ".join([*filter(None, _VALUES), _REMARK])
            faults.append(f"1: {kind!r} is no type of a value column. Valid: {valid}")
            kind = ""
        columns.append((name, kind))
    names = [name for name, kind in columns if kind != _REMARK]
    if not names:
        faults.append("1: the header needs a column that is no remark")
    elif len(names) > 1 and (not all(names) or len(set(names)) < len(names)):
        faults.append("1: each of several value columns needs a name of its own; mark remarks as name:remark")
    return columns


def _count_fault(row: list[str], columns: list[tuple[str, str]]) -> str:
    return f"there are {len(row)} cells, the header has {len(columns) + 1}; put text with commas in quotes"


def _cells(columns: list[tuple[str, str]], row: list[str], line: int, faults: list[str]) -> dict[str, Value]:
    cells: dict[str, Value] = {}
    for (name, kind), cell in zip(columns, row, strict=True):
        if kind == _REMARK:
            continue
        try:
            cells[name] = _VALUES[kind](escape_text(cell))
        except ValueError:
            faults.append(f"{line}: the value is no {kind}, as the header says it is")
    return cells


def load_tables(path: FilePath) -> list[LoadedTable]:
    """Every *.csv of a folder, in the order of their names; none where there is no folder."""
    tables = []
    for file in sorted(path.glob("*.csv")):
        text = read_text(file)
        tables.append(LoadedTable(file.stem, file.name, text, read_table(text, name=file.name)))
    return tables


def load_lookups(path: FilePath) -> dict[str, dict[str, Value]]:
    """The rows of every *.csv of a folder, by its name without the ending; no tables where there is no folder.

    Raises:
        ConfigurationError: see load_lookup.
    """
    return {table.name: table.rows for table in load_tables(path)}


_REMARK = "remark"
_OTHER_MARKS: Final[Mapping[str, str]] = {";": "semicolons", "\t": "tabs"}
#: Excel writes "comma delimited" files with the list separator of Windows, which is a semicolon in much of Europe.
_WITH_COMMAS: Final = (
    "set the list separator of Windows to a comma (Region, Additional settings) and save it in Excel as CSV UTF-8 again, "
    "or save it in LibreOffice as Text CSV and choose the comma as field delimiter"
)
#: What the header may say of a value column, and how its cells are read.
_VALUES: Mapping[str, Callable[[str], Value]] = {"": str, "text": str, "integer": int}
