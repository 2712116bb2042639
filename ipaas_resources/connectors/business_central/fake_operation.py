"""One operation on records inside a company: the path is walked, the record or collection is served or changed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ipaas_resources.connectors.business_central import fake_query as query
from ipaas_resources.connectors.business_central.catalogue import catalogue
from ipaas_resources.connectors.business_central.fake_batch import Answer, Call
from ipaas_resources.connectors.business_central.fake_errors import bad_request, no_such_segment, not_allowed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipaas_resources.connectors.business_central.fake_company import Company
    from ipaas_resources.connectors.business_central.fake_table import Row, Table
    from ipaas_resources.connectors.fakes import Recent, Request

_SEGMENT = re.compile(r"([A-Za-z][\w.$]*)(?:\(([^()]*)\))?")
_GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


class App(Protocol):
    """What an operation needs of its environment."""

    recent: Recent


class Operation:
    """One operation inside a company."""

    def __init__(self, app: App, company: Company, call: Call, request: Request, base: str) -> None:
        self._app = app
        self._company = company
        self._call = call
        self._request = request
        self._base = f"{base}/companies({company.id})"

    def run(self, segments: list[tuple[str, str | None]]) -> Answer:
        """Walk the path: a set, a record of it, a navigation property of that."""
        table = self._table(segments[0][0])
        parent: tuple[Table, Row] | None = None
        key = segments[0][1]
        for name, next_key in segments[1:]:
            if key is None or name not in table.set.navigation:
                raise no_such_segment(name)
            parent = (table, self._company.row(table, record_key(key)))
            table, key = self._table(table.set.navigation[name][0]), next_key
        if key is not None:
            return self._record(table, self._company.row(table, record_key(key)))
        if self._call.method == "GET":
            return self._list(table, parent)
        if self._call.method == "POST":
            return self._create(table, parent)
        raise not_allowed(self._call.method, table.set.name)

    def _table(self, name: str) -> Table:
        if name not in catalogue().sets or catalogue().sets[name].root:
            raise no_such_segment(name)
        table = self._company.table(name)
        if not table.base:
            table.base = f"{self._base}/{name}"
        return table

    def _record(self, table: Table, row: Row) -> Answer:
        method, headers = self._call.method, self._call.headers
        if method == "DELETE":
            self._company.delete(table, row, headers.get("if-match"), self._report)
            return Answer(status=204)
        options = query.options_of(dict(self._call.pairs), "", table)
        if method == "PATCH":
            self._company.update(table, row, self._call.body, headers.get("if-match"), self._report)
        elif method != "GET":
            raise not_allowed(method, table.set.name)
        return Answer(status=200, body=self._json(table, row, options))

    def _create(self, table: Table, parent: tuple[Table, Row] | None) -> Answer:
        options = query.options_of(dict(self._call.pairs), "", table)
        body = self._call.body
        if parent is not None and not table.set.header and isinstance(body, dict):
            body = {**_link(table, *parent), **body}
        row = self._company.create(table, body, self._report, parent[1] if parent else None)
        return Answer(
            status=201,
            body=self._json(table, row, options),
            headers={
                "location": f"{self._base}/{table.set.name}({row.values[table.index[table.set.key[0]]]})"
            },
        )

    def _json(self, table: Table, row: Row, options: query.Options) -> bytes:
        if options.expand:
            return query.expanded(table, row, options, self._expand)
        return table.json(row, options.select)

    def _list(self, table: Table, parent: tuple[Table, Row] | None) -> Answer:
        options = query.options_of(dict(self._call.pairs), self._call.headers.get("prefer", ""), table)
        within = _within(table, *parent) if parent else None
        if table.set.header and table.set.parent_key == "documentId" and parent is None:
            _need_document(options.filter)
        hidden = frozenset(
            key[2]
            for key in self._app.recent.hidden()
            if isinstance(key, tuple) and key[:2] == (self._company.id, table.set.name)
        )
        listing = query.list_rows(table, options, hidden, within)
        context = f"{self._base.rpartition('/')[0]}/$metadata#companies({self._company.id})/{table.set.name}"
        link = query.next_link(self._call.url, self._call.pairs, listing) if listing.token else ""
        return Answer(
            status=200,
            body=query.page_json(table, options, listing, context=context, link=link, expand=self._expand),
        )

    def _expand(self, owner: Table, row: Row, name: str, inner: query.Options) -> bytes:
        target, many = owner.set.navigation[name]
        table = self._table(target)
        if name == owner.set.lines:
            rows = list(row.lines or ())
        elif many and "parentId" in table.index:
            rows = table.equal(table.index["parentId"], [_id(owner, row)])
        else:
            raise bad_request(f"The fake does not expand '{name}'.", "BadRequest_MethodNotImplemented")
        return b"[" + b",".join(table.json(each, inner.select) for each in rows) + b"]"

    def _report(self, kind: Literal["create", "update", "delete"], table: Table, row: Row) -> None:
        identifier = _id(table, row)
        fields: Any = self._call.body if kind == "update" else {}
        if kind == "create":
            self._app.recent.note((self._company.id, table.set.name, identifier))
            fields = table.document(row)
        self._request.effect(
            kind, table.set.entity, identifier, fields, scope=self._company.name, trace_id=self._call.trace_id
        )


def _id(table: Table, row: Row) -> str:
    return str(row.values[table.index[table.set.key[0]]]) if table.set.key else ""


def _within(table: Table, owner: Table, row: Row) -> Callable[[Row], bool]:
    if table.set.header == owner.set.name:
        return lambda each: each.parent is row
    link = _link(table, owner, row)
    if not link:
        raise bad_request(
            f"The fake does not serve '{table.set.name}' below '{owner.set.name}'.",
            "BadRequest_MethodNotImplemented",
        )
    places = {table.index[name]: value for name, value in link.items()}
    return lambda each: all(each.values[place] == value for place, value in places.items())


def _link(table: Table, owner: Table, row: Row) -> dict[str, Any]:
    """The field of a sub-record that names its parent."""
    for name in ("parentId", f"{owner.set.type_name}Id", "journalId"):
        if name in table.index:
            return {name: _id(owner, row)}
    return {}


def _need_document(text: str) -> None:
    """AL: IDOrDocumentIdShouldBeSpecifiedForLinesErr."""
    if not re.search(r"\b(?:id|documentId) eq ", text):
        raise bad_request(
            "You must specify an Id or a Document Id to get the lines.", "Application_DialogException"
        )


def segment(text: str) -> tuple[str, str | None]:
    """Name and key of a path segment: `customers(7ce0...)`."""
    match = _SEGMENT.fullmatch(text)
    if match is None:
        raise no_such_segment(text)
    return match[1], match[2]


def record_key(text: str) -> str:
    """A key as it stands in a path: a GUID or a quoted text."""
    if _GUID.fullmatch(text):
        return text.lower()
    if text.startswith("'") and text.endswith("'"):
        return text[1:-1].replace("''", "'")
    raise bad_request(f"'{text}' is not a valid key.", "BadRequest_NotFound")
