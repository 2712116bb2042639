"""One company of the fake: its tables, and what inserting, changing and deleting a record means there."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any, Literal

from ipaas_resources.connectors.business_central import fake_documents as documents
from ipaas_resources.connectors.business_central.catalogue import EntitySet, catalogue
from ipaas_resources.connectors.business_central.fake_errors import (
    bad_request,
    entity_changed,
    no_such_record,
    no_token,
    not_allowed,
    refused,
)
from ipaas_resources.connectors.business_central.fake_relations import resolve
from ipaas_resources.connectors.business_central.fake_rules import ZERO_GUID, read_body, rules_of
from ipaas_resources.connectors.business_central.fake_table import Row, Sequence64, Table, wire_time

#: First numbers of the number series, as in the demo company.
_SERIES = {
    "customers": "C00010",
    "vendors": "V00010",
    "contacts": "CT000001",
    "items": "1000",
    "employees": "E0010",
    "fixedAssets": "FA000010",
    "projects": "PR00010",
    "salesQuotes": "S-QUO1001",
    "salesOrders": "S-ORD101001",
    "salesInvoices": "S-INV102001",
    "salesCreditMemos": "S-CR103001",
    "purchaseOrders": "106001",
    "purchaseInvoices": "107001",
    "purchaseCreditMemos": "109001",
}
#: Which sets the parent types of attachments name; the others are not checked.
_PARENTS = {
    "Customer": "customers",
    "Vendor": "vendors",
    "Item": "items",
    "Employee": "employees",
    "Job": "projects",
    "Sales_x0020_Quote": "salesQuotes",
    "Sales_x0020_Order": "salesOrders",
    "Sales_x0020_Invoice": "salesInvoices",
    "Sales_x0020_Credit_x0020_Memo": "salesCreditMemos",
    "Purchase_x0020_Order": "purchaseOrders",
    "Purchase_x0020_Invoice": "purchaseInvoices",
}
_FILE_NAME = re.compile(r'[^\x00-\x1f"<>|:*?/\\]{1,250}')

Report = Callable[[Literal["create", "update", "delete"], Table, Row], None]
"""Told of every accepted change: kind, table, row."""

Tell = Callable[[Literal["created", "updated", "deleted"], "Company", Table, Row], Callable[[], None] | None]


class Company:
    """The data of one company. `stamp` gives the server's time as SQL keeps it."""

    def __init__(self, identifier: str, name: str, numbers: Sequence64, stamp: Callable[[], int]) -> None:
        self.id = identifier
        self.name = name
        self.tables: dict[str, Table] = {}
        #: Sets whose number series allows no numbers given by hand.
        self.no_manual_numbers: set[str] = set()
        #: A changed line moves the version and the time of its document. What the product does is not established.
        self.lines_touch_header = True
        self.stale_status = 409
        self.undo: list[Callable[[], None]] | None = None
        #: Told of every change, whoever makes it; gives what takes the news back when the change is undone.
        self.told: Tell = _nobody
        self._numbers = numbers
        self._stamp = stamp
        self._series: dict[str, str] = {}
        self._ids = uuid.UUID(identifier)

    def table(self, set_name: str) -> Table:
        """The table of an entity set."""
        found = self.tables.get(set_name)
        if found is None:
            found = self.tables[set_name] = Table(catalogue().sets[set_name], self._numbers)
        return found

    # Writes as the API makes them ---------------------------------------------------------------------------------

    def create(
        self, table: Table, body: object, report: Report, parent: Row | None = None, *, by_hand: bool = False
    ) -> Row:
        """POST: one record, with its lines where the body nests them (deep insert)."""
        known = table.set
        if not known.insert and not by_hand:
            raise not_allowed("POST", known.name)
        values, nested = read_body(known, body)
        for name in nested:
            if name != known.lines:
                raise bad_request(
                    f"The navigation property '{name}' cannot be inserted together with its parent."
                )
        parent = self._parent(table, values, parent)
        row = self._insert(table, values, parent)
        report("create", table, row)
        if known.lines and known.lines in nested:
            lines = self.table(known.navigation[known.lines][0])
            for line in nested[known.lines]:
                line_values, _ = read_body(lines.set, line)
                self._insert(lines, line_values, row)
            self._sum(table, row, lines)
        elif parent is not None and known.header:
            self._line_changed(table, parent)
        return row

    def update(self, table: Table, row: Row, body: object, if_match: str | None, report: Report) -> None:
        """PATCH: the named fields, under the version that the caller knows."""
        if not table.set.modify:
            raise not_allowed("PATCH", table.set.name)
        self.match(row, if_match)
        values, nested = read_body(table.set, body)
        if nested:
            raise bad_request("Deep updates are not supported.", "BadRequest_MethodNotImplemented")
        if table.set.header:
            documents.refuse_fixed(table, row, values)
        resolve(table.set.name, values, self.table)
        unique = rules_of(table.set.name).unique
        if any(position in values for position in unique):
            self._keep_unique(table, {**{p: row.values[p] for p in unique}, **values}, row)
        if table.set.header and row.parent is not None:
            documents.complete_line(table, values, row.parent, new=False, tables=self.table)
        self._change(table, row, values)
        report("update", table, row)
        if table.set.header and row.parent is not None:
            self._line_changed(table, row.parent)

    def delete(self, table: Table, row: Row, if_match: str | None, report: Report) -> None:
        """DELETE: the record and what belongs to it."""
        if not table.set.delete:
            raise not_allowed("DELETE", table.set.name)
        self.match(row, if_match)
        self._remove(table, row)
        report("delete", table, row)
        if row.parent is not None and table.set.header and not row.parent.dead:
            self._line_changed(table, row.parent)

    def match(self, row: Row, if_match: str | None) -> None:
        """The concurrency token of a PATCH or DELETE. Raises BusinessCentralError."""
        if not if_match:
            raise no_token()
        if if_match not in ("*", row.etag):
            raise entity_changed(self.stale_status)

    # By hand -----------------------------------------------------------------------------------------------------

    def seed(self, table: Table, record: dict[str, Any], parent: Row | None = None) -> Row:
        """A record as it stands in the product: every known field taken as given, no rule applied, no ledger."""
        values = {table.index[name]: value for name, value in record.items() if name in table.index}
        for position, value in values.items():
            if position in table.folds and isinstance(value, str):
                values[position] = table.folds[position](value)
        row = self._place(table, values, parent)
        lines = table.set.lines
        if lines and lines in record:
            below = self.table(table.set.navigation[lines][0])
            for line in record[lines]:
                line_values = {below.index[n]: v for n, v in line.items() if n in below.index}
                documents.complete_line(below, line_values, row, new=True, tables=self.table)
                self._finish_line(below, self._place(below, line_values, row))
            self._sum(table, row, below)
        return row

    def edit(self, table: Table, row: Row, fields: dict[str, Any]) -> None:
        """A person changes a record in the client: read-only API fields included."""
        unknown = sorted(set(fields) - set(table.index))
        if unknown:
            raise KeyError(unknown[0])
        values = {table.index[name]: value for name, value in fields.items()}
        resolve(table.set.name, values, self.table)
        self._change(table, row, values)
        if row.parent is not None and table.set.header:
            self._line_changed(table, row.parent)

    def drop(self, table: Table, row: Row) -> None:
        """A person deletes a record in the client."""
        self._remove(table, row)
        if row.parent is not None and table.set.header and not row.parent.dead:
            self._line_changed(table, row.parent)

    # How -------------------------------------------------------------------------------------------------------

    def _parent(self, table: Table, values: dict[int, Any], parent: Row | None) -> Row | None:
        """The document of a new line: from the URL, else by the field that names it."""
        known = table.set
        if known.header is None or parent is not None:
            return parent
        headers = self.table(known.header)
        name = known.parent_key or ""
        value = values.get(table.index[name], ZERO_GUID) if name else ZERO_GUID
        found = (
            headers.rows.get(value)
            if name == "documentId"
            else next(iter(headers.equal(headers.index["number"], [value])), None)
        )
        if found is None:
            raise refused(f"You must specify a {name} in the request body.")
        return found

    def _insert(self, table: Table, values: dict[int, Any], parent: Row | None) -> Row:
        known = table.set
        rules = rules_of(known.name)
        for name, position in rules.required:
            if values.get(position) in (None, "", ZERO_GUID):
                raise refused(f'"{name}" must be provided.')
        related = resolve(known.name, values, self.table)
        if known.lines:
            documents.complete_header(table, values, related, self.table, today=wire_time(self._stamp())[:10])
        if known.header and parent is not None:
            documents.complete_line(table, values, parent, new=True, tables=self.table)
        if "number" in table.index and not known.header:
            self._number(table, values)
        if known.name in ("documentAttachments", "attachments"):
            self._check_parent(table, values)
            place = table.index["fileName"]
            if not _FILE_NAME.fullmatch(values.get(place, "")):
                values[place] = "filename.txt"  # silently (AL: APIV2DocumentAttachments, OnInsertRecord)
        self._keep_unique(table, values, None)
        row = self._place(table, values, parent)
        if known.header:
            self._finish_line(table, row)
        return row

    def _check_parent(self, table: Table, values: dict[int, Any]) -> None:
        """An attachment belongs to a record that is there."""
        kind = values.get(table.index["parentType"], "_x0020_")
        parent = values.get(table.index["parentId"], ZERO_GUID)
        target = _PARENTS.get(kind)
        if target is not None and parent not in self.table(target).rows:
            raise refused(f"The parent record with the ID {parent} does not exist.")

    def _finish_line(self, table: Table, row: Row) -> None:
        table.change(row, documents.amounts(table, row.values), row.stamp)

    def _place(self, table: Table, values: dict[int, Any], parent: Row | None) -> Row:
        known = table.set
        full = list(rules_of(known.name).blanks)
        for position, value in values.items():
            full[position] = value
        key = rules_of(known.name).key
        if full[key] in ("", ZERO_GUID):
            full[key] = str(uuid.uuid5(self._ids, f"{known.name}/{self._numbers.next()}"))
        if parent is not None and known.header:
            headers = self.table(known.header)
            name = known.parent_key or ""
            if name:
                source = "id" if name == "documentId" else "number"
                full[table.index[name]] = parent.values[headers.index[source]]
        row = table.insert(full, self._stamp(), parent)
        if known.lines:
            row.lines = []
        if parent is not None and known.header:
            (parent.lines if parent.lines is not None else _new_lines(parent)).append(row)
        self._undoable(lambda: self._forget(table, row))
        self._tell("created", table, row)
        return row

    def _change(self, table: Table, row: Row, values: dict[int, Any]) -> None:
        before, seq, stamp = list(row.values), row.seq, row.stamp
        table.change(row, values, self._stamp())
        if table.set.header:
            table.change(row, documents.amounts(table, row.values), row.stamp)
        self._undoable(lambda: table.undo_change(row, before, seq, stamp))
        self._tell("updated", table, row)

    def _remove(self, table: Table, row: Row) -> None:
        for line in list(row.lines or ()):
            self._remove(self.table(table.set.navigation[table.set.lines or ""][0]), line)
        files = self.tables.get("documentAttachments")
        if files is not None and table.set.key == ("id",) and table is not files:
            for attached in files.equal(files.index["parentId"], [row.values[table.index["id"]]]):
                self._remove(files, attached)
        table.remove(row)
        place = -1
        if row.parent is not None and row.parent.lines is not None and row in row.parent.lines:
            place = row.parent.lines.index(row)
            del row.parent.lines[place]
        self._undoable(lambda: self._bring_back(table, row, place))
        self._tell("deleted", table, row)

    def _forget(self, table: Table, row: Row) -> None:
        table.remove(row)
        if row.parent is not None and row.parent.lines is not None and row in row.parent.lines:
            row.parent.lines.remove(row)

    def _bring_back(self, table: Table, row: Row, place: int) -> None:
        table.undo_remove(row)
        if place >= 0 and row.parent is not None and row.parent.lines is not None:
            row.parent.lines.insert(place, row)

    def _line_changed(self, lines: Table, header: Row) -> None:
        if self.lines_touch_header:
            self._sum(self.table(lines.set.header or ""), header, lines)
        # The line's own set cannot be subscribed: its document is what changed.
        self._tell("updated", self.table(lines.set.header or ""), header)

    def _tell(self, kind: Literal["created", "updated", "deleted"], table: Table, row: Row) -> None:
        take_back = self.told(kind, self, table, row)
        if take_back is not None:
            self._undoable(take_back)

    def _sum(self, headers: Table, header: Row, lines: Table) -> None:
        before, seq, stamp = list(header.values), header.seq, header.stamp
        headers.change(header, documents.totals(headers, header, lines), self._stamp())
        self._undoable(lambda: headers.undo_change(header, before, seq, stamp))

    def _keep_unique(self, table: Table, values: dict[int, Any], own: Row | None) -> None:
        unique = rules_of(table.set.name).unique
        if not unique or any(not values.get(position) for position in unique):
            return
        wanted = [values[position] for position in unique]
        for row in table.equal(unique[-1], wanted[-1:]):
            if row is not own and all(row.values[p] == v for p, v in zip(unique, wanted, strict=True)):
                raise refused(
                    f"The {table.set.type_name} already exists. Identification fields and values: "
                    f"{table.names[unique[-1]]}='{wanted[-1]}'",
                    "Internal_EntityWithSameKeyExists",
                )

    def _number(self, table: Table, values: dict[int, Any]) -> None:
        position = table.index["number"]
        if values.get(position):
            if table.set.name in self.no_manual_numbers:
                raise refused(
                    "You may not enter numbers manually. If you want to enter numbers manually, please activate Manual "
                    f"Nos. in No. Series {table.set.type_name.upper()}."
                )
            return
        number = self._series.get(table.set.name) or _first_number(table.set)
        while table.equal(position, [number]):
            number = _next_number(number)
        values[position] = number
        self._series[table.set.name] = _next_number(number)

    def _undoable(self, step: Callable[[], None]) -> None:
        if self.undo is not None:
            self.undo.append(step)

    def row(self, table: Table, key: str) -> Row:
        """The record of that key. Raises BusinessCentralError (404)."""
        found = table.rows.get(key)
        if found is None:
            raise no_such_record(table.set.type_name, key)
        return found


def _nobody(
    _kind: Literal["created", "updated", "deleted"], _company: Company, _table: Table, _row: Row
) -> None:
    """Nobody listens."""


def _new_lines(parent: Row) -> list[Row]:
    parent.lines = []
    return parent.lines


def _first_number(known: EntitySet) -> str:
    initials = "".join(letter for letter in known.name if letter.isupper())
    return _SERIES.get(known.name) or f"{known.name[0].upper()}{initials}00001"


def _next_number(number: str) -> str:
    match = re.search(r"(\d+)$", number)
    if match is None:
        return number + "1"
    digits = str(int(match[1]) + 1).rjust(len(match[1]), "0")
    return number[: match.start()] + digits
