"""The tables of the fake organization: columns, navigation properties, what a table offers. Editable, for drift.

Source of the columns: `fixtures/catalogue.json`, made from the reference by `fixtures/build_catalogue.py`.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgspec

LOOKUPS = frozenset({"Lookup", "Customer", "Owner"})
CHOICES = frozenset({"Picklist", "State", "Status"})
DECIMALS = frozenset({"Money", "Decimal", "Double"})

#: Kinds that the Web API does not give as a property of a row.
HIDDEN = frozenset({"EntityName", "Image"})

# Activity tables put their name behind navigation names (`regardingobjectid_account_task`, `ownerid_task`), offer no
# *Multiple messages (microsoft.md 2.6 names task), and their key is called activityid.
ACTIVITIES = frozenset({"task", "incidentresolution"})
# Which other tables lack the *Multiple messages or change tracking is not in the reference [guess].
_NO_BULK = ACTIVITIES | {"businessunit", "organization", "role", "systemuser", "team", "transactioncurrency"}
_UNTRACKED = frozenset({"customeraddress", "discount", "discounttype", "role", "uom", "uomschedule"})
_NOT_CREATABLE = frozenset({"organization", "role"})
# Custom columns keep the capitals of their schema name in the navigation name [guess for this one].
_CASED = {"bcbi_companyid": "bcbi_CompanyId"}
# Columns the platform itself insists on [guess]; everything else that a form calls required may be left out.
_REQUIRED = frozenset({("product", "name"), ("product", "productnumber")})
_PRECISION = {"Money": 2, "Decimal": 10, "Double": 5}


class Column(msgspec.Struct, kw_only=True):
    """One column. `max_length` and `options` follow the catalogue; a test may edit them."""

    name: str
    kind: str
    creatable: bool = True
    updatable: bool = True
    max_length: int | None = None
    targets: tuple[str, ...] = ()
    options: dict[int, str] | None = None
    precision: int | None = None
    required: bool = False

    @property
    def wire(self) -> str:
        """The property that holds it in a read."""
        return f"_{self.name}_value" if self.kind in LOOKUPS else self.name


class Table(msgspec.Struct, kw_only=True):
    """One table."""

    name: str
    entity_set: str
    primary: str
    primary_name: str
    columns: dict[str, Column]
    tracked: bool = True
    bulk: bool = True
    creatable: bool = True
    #: Grows with every edit of the columns, so that whatever was prepared from them is prepared anew.
    edition: int = 0

    def by_wire(self) -> dict[str, Column]:
        """Readable columns by the name they carry in a read."""
        return {column.wire: column for column in self.columns.values() if column.kind not in HIDDEN}

    def navigation(self) -> dict[str, tuple[Column, tuple[str, ...]]]:
        """Navigation property -> its column and the tables that it may lead to."""
        names: dict[str, tuple[Column, tuple[str, ...]]] = {}
        for column in self.columns.values():
            if column.kind in LOOKUPS:
                names.update({name: (column, targets) for name, targets in _navigation(self, column)})
        return names


def _navigation(table: Table, column: Column) -> list[tuple[str, tuple[str, ...]]]:
    tail = f"_{table.name}" if table.name in ACTIVITIES else ""
    if column.kind == "Owner" or len(column.targets) == 1:
        return [(_CASED.get(column.name, column.name) + tail, column.targets)]
    return [(f"{column.name}_{target}{tail}", (target,)) for target in column.targets]


@lru_cache(maxsize=1)
def _catalogue() -> dict[str, Any]:
    content = files(__package__).joinpath("fixtures", "catalogue.json").read_bytes()
    tables: dict[str, Any] = msgspec.json.decode(content)["tables"]
    return tables


def load_tables() -> dict[str, Table]:
    """Fresh tables by logical name."""
    return {name: _table(name, *parts) for name, parts in _catalogue().items()}


def _table(name: str, entity_set: str, primary: str, primary_name: str, columns: list[list[Any]]) -> Table:
    made = [make_column(name, *column) for column in columns]
    return Table(
        name=name,
        entity_set=entity_set,
        primary=primary,
        primary_name=primary_name,
        columns={column.name: column for column in made},
        tracked=name not in _UNTRACKED,
        bulk=name not in _NO_BULK,
        creatable=name not in _NOT_CREATABLE,
    )


def make_column(
    table: str,
    name: str,
    kind: str,
    access: str = "rw",
    max_length: int | None = None,
    targets: list[str] | None = None,
    options: list[list[Any]] | None = None,
) -> Column:
    """A column from its line in the catalogue."""
    return Column(
        name=name,
        kind=kind,
        creatable=access in ("rw", "c"),
        updatable=access in ("rw", "u"),
        max_length=max_length,
        targets=tuple(targets or ()),
        options=dict(map(tuple, options)) if options else None,
        precision=_PRECISION.get(kind),
        required=(table, name) in _REQUIRED,
    )
