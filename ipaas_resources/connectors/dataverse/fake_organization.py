"""The state of the fake: one organization with its tables, rows, one version counter, and who we are in it."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, NamedTuple

from ipaas_resources.connectors.dataverse.fake_errors import RefusedError, bad_payload, bad_url
from ipaas_resources.connectors.dataverse.fake_render import Shapes
from ipaas_resources.connectors.dataverse.fake_schema import LOOKUPS, Column, Table, load_tables, make_column
from ipaas_resources.connectors.dataverse.fake_store import Reference, Row, Rows, Undo
from ipaas_resources.connectors.dataverse.fake_values import Checker, checker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ipaas_resources.connectors.fakes import Recent
    from ipaas_resources.core.clock import Clock, Ids
    from ipaas_resources.core.values import Value

FIRST_VERSION = 915_244  # of the example in microsoft.md 2.4
#: A user of the organization who is not us.
A_PERSON = "70000000-0000-4000-8000-000000000001"
TRACKING_DAYS = 7  # organization.expirechangetrackingindays


class Prepared(NamedTuple):
    """What writes to one table need, made once per edition of the table."""

    create: dict[str, Checker]
    update: dict[str, Checker]
    navigation: dict[str, tuple[Column, tuple[str, ...]]]
    template: dict[str, Value]  # values of a new row that nobody gave
    twins: dict[str, str]  # money column -> its _base twin
    required: frozenset[str]
    named: bool  # fullname is made of firstname and lastname
    states: dict[int, int]  # statecode -> the statuscode it brings, where the choice lists agree


class Organization:
    """One Dataverse environment."""

    def __init__(self, clock: Clock, ids: Ids, recent: Recent) -> None:
        self.clock = clock
        self.recent = recent
        self.tables = load_tables()
        self.rows = {name: Rows(table) for name, table in self.tables.items()}
        self.sets = {table.entity_set: name for name, table in self.tables.items()}
        self.version = FIRST_VERSION
        self.metadata_version = 1_000_000
        self.tracking_days = TRACKING_DAYS
        self.shapes = Shapes(self._name_of)
        #: Rights that our application user lacks ("prvCreateaccount"), and rows that are not ours to change.
        self.denied: set[str] = set()
        self.locked_rows: set[str] = set()
        #: Collects what takes writes back, while a change set runs.
        self.journal: list[Undo] | None = None
        #: Told of every change: message, table, row, the values given; gives what takes the news back (fake_webhooks).
        self.told: Callable[[str, Table, Row, Mapping[str, Value]], Undo | None] = _nobody
        self._ids = ids
        self._prepared: dict[str, tuple[int, Prepared]] = {}
        self.user = self._seed("systemuser", fullname="# ipaas")
        #: Who makes the changes at the moment: our application user, or a person.
        self.actor = self.user
        self.business_unit = self._seed("businessunit", name="fake")
        self.organization = self._seed("organization", name="fake")
        self.currency = self._seed(
            "transactioncurrency", isocurrencycode="EUR", currencyname="Euro", currencysymbol="€", statecode=0
        )

    # Finding things

    def rows_of(self, entity_set: str) -> Rows:
        """The rows behind an entity set."""
        name = self.sets.get(entity_set)
        if name is None:
            raise bad_url(f"Resource not found for the segment '{entity_set}'.", 404)
        return self.rows[name]

    def allow(self, kind: str, table: str, identifier: str = "") -> None:
        """Raises RefusedError (403) when our user may not "Create", "Read", "Write" or "Delete" there."""
        privilege = f"prv{kind}{table}"
        if privilege in self.denied or identifier in self.locked_rows:
            raise RefusedError(
                403,
                "0x80040220",
                f"Principal user (Id={self.user}) is missing {privilege} privilege on the record.",
            )

    def exists(self, reference: Reference) -> bool:
        """True when the row is there."""
        return reference[1] in self.rows[reference[0]].by_id

    def _name_of(self, reference: Reference) -> Value:
        rows = self.rows[reference[0]]
        row = rows.by_id.get(reference[1])
        return row.values.get(rows.table.primary_name) if row is not None else None

    # Changing things

    def next_version(self) -> int:
        """The next row version of the whole organization."""
        self.version += 1
        return self.version

    def moment(self) -> str:
        """Now, as rows hold it."""
        return self.clock.now().isoformat(timespec="seconds")[:19] + "Z"

    def new_id(self) -> str:
        """An id for a row that came without one."""
        return str(uuid.UUID(hex=self._ids.trace_id()))

    @contextlib.contextmanager
    def by_a_person(self) -> Iterator[None]:
        """What is changed meanwhile is changed by somebody who is not us."""
        before, self.actor = self.actor, A_PERSON
        try:
            yield
        finally:
            self.actor = before

    def tell(self, message: str, table: Table, row: Row, given: Mapping[str, Value]) -> None:
        """A row was changed."""
        take_back = self.told(message, table, row, given)
        if take_back is not None:
            self.done(take_back)

    def done(self, undo: Undo) -> None:
        """A change was made; a change set can take it back."""
        if self.journal is not None:
            self.journal.append(undo)

    # Metadata

    def prepared(self, table: Table) -> Prepared:
        """What writes to this table need."""
        known = self._prepared.get(table.name)
        if known is None or known[0] != table.edition:
            known = self._prepared[table.name] = (table.edition, self._prepare(table))
        return known[1]

    def add_column(self, table: str, name: str, kind: str, *, max_length: int | None = None) -> Column:
        """Schema drift: a new column."""
        column = self.tables[table].columns[name] = make_column(table, name, kind, "rw", max_length)
        self.edited(table)
        return column

    def drop_column(self, table: str, name: str) -> None:
        """Schema drift: a column goes."""
        del self.tables[table].columns[name]
        self.edited(table)

    def edited(self, table: str) -> None:
        """A column was edited: whatever was prepared from it is made anew."""
        self.tables[table].edition += 1
        self.metadata_version += 1

    def _prepare(self, table: Table) -> Prepared:
        columns = table.columns
        writable = [c for c in columns.values() if c.kind not in LOOKUPS and c.name != table.primary]
        return Prepared(
            create={c.name: checker(table, c) for c in writable if c.creatable},
            update={c.name: checker(table, c) for c in writable if c.updatable},
            navigation=table.navigation(),
            template=self._template(table),
            twins={name: f"{name}_base" for name in columns if f"{name}_base" in columns},
            required=frozenset(name for name, column in columns.items() if column.required),
            named="fullname" in columns and "lastname" in columns,
            states=_states(columns),
        )

    def _template(self, table: Table) -> dict[str, Value]:
        offered: dict[str, Value] = {
            "createdby": ("systemuser", self.user),
            "modifiedby": ("systemuser", self.user),
            "ownerid": ("systemuser", self.user),
            "owninguser": ("systemuser", self.user),
            "owningbusinessunit": ("businessunit", self.business_unit),
            "transactioncurrencyid": ("transactioncurrency", self.currency),
            "exchangerate": 1,
        }
        template = {name: value for name, value in offered.items() if name in table.columns}
        for name in ("statecode", "statuscode"):
            column = table.columns.get(name)
            if column is not None and column.options:
                template[name] = next(iter(column.options))
        return template

    def _seed(self, table: str, **values: Value) -> str:
        row = Row(self.new_id(), {}, self.next_version())
        moment = self.moment()
        row.values = {
            **values,
            self.tables[table].primary: row.id,
            "createdon": moment,
            "modifiedon": moment,
            "versionnumber": row.version,
        }
        self.rows[table].add(row)
        return row.id


def _states(columns: dict[str, Column]) -> dict[int, int]:
    state, status = columns.get("statecode"), columns.get("statuscode")
    if state is None or status is None or not state.options or not status.options:
        return {}
    if len(state.options) != len(status.options):
        return {}
    return dict(zip(state.options, status.options, strict=True))


def _nobody(_message: str, _table: Table, _row: Row, _given: Mapping[str, Value]) -> None:
    """Nobody listens."""


def find_table(organization: Organization, entity: str) -> Rows:
    """Rows by logical name or entity set. Raises KeyError."""
    name = organization.sets.get(entity, entity)
    return organization.rows[name]


def reference_of(
    organization: Organization, table: str, nav: str, targets: tuple[str, ...], text: str
) -> Reference:
    """The row that a `nav@odata.bind` value names; that it exists is the caller's question."""
    tail = text.rsplit("/", 1)[-1]
    entity_set, mark, identifier = tail.partition("(")
    name = organization.sets.get(entity_set)
    if not mark or name is None or not identifier.endswith(")"):
        raise bad_payload(table, f"Resource not found for the segment of '{nav}'.")
    if name not in targets:
        raise bad_payload(table, f"The entity '{name}' is not a target of '{nav}'.")
    return name, identifier[:-1].lower()
