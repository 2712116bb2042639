"""Reads of the fake: lists with paging cookies, change tracking with delta links, single rows.

microsoft.md 2.3 and 2.4. Pages are joined from prepared bytes, see fake_render.
"""

from __future__ import annotations

import datetime as dt
import re
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode

from ipaas_resources.connectors.dataverse import fake_filter
from ipaas_resources.connectors.dataverse.fake_errors import (
    RefusedError,
    bad_url,
    no_such_row,
    unknown_property,
)
from ipaas_resources.connectors.dataverse.fake_render import Shape, etag
from ipaas_resources.connectors.dataverse.fake_store import fold
from ipaas_resources.connectors.fakes import Reply, dumps, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipaas_resources.connectors.dataverse.fake_call import Call
    from ipaas_resources.connectors.dataverse.fake_organization import Organization
    from ipaas_resources.connectors.dataverse.fake_store import Row, Rows
    from ipaas_resources.core.values import Value

PAGE = 5000
_COUNTED = 5000
_KNOWN_OPTIONS = {"$select", "$filter", "$orderby", "$top", "$count", "$skiptoken", "$deltatoken"}
_NOT_TRACKED = ("$filter", "$orderby", "$expand", "$top")
_COOKIE = re.compile(
    r'<cookie pagenumber="(\d+)" pagingcookie="([^"]*)" istracking="(True|False)" from="([^"]*)" to="([^"]*)" />'
)
_TOKEN = re.compile(r"(\d+)!(\d\d/\d\d/\d{4} \d\d:\d\d:\d\d)")
_STAMP = "%m/%d/%Y %H:%M:%S"


class _Position(NamedTuple):
    """Where a page begins: behind `after`, an id in lists, a version in deltas. `since`, `until`: versions."""

    page: int
    after: str
    tracking: bool
    since: str
    until: str

    def token(self) -> str:
        """The `$skiptoken`, quoted as Dataverse quotes it."""
        cookie = (
            f'<cookie pagenumber="{self.page}" pagingcookie="{self.after}" istracking="{self.tracking}" '
            f'from="{self.since}" to="{self.until}" />'
        )
        return quote(cookie, safe="=/")


_START = _Position(1, "", tracking=False, since="", until="")


def one(organization: Organization, call: Call, rows: Rows, identifier: str) -> Reply:
    """`GET accounts(id)`."""
    row = rows.by_id.get(identifier)
    if row is None:
        raise no_such_row(rows.table.name, identifier)
    if call.headers.get("if-none-match") == etag(row.version):
        return Reply(304)
    body = _shape(organization, call, rows).body(row)
    context = f'{{"@odata.context":"{call.service_root}$metadata#{rows.table.entity_set}/$entity",'
    return _json(context.encode() + body[1:], etag(row.version))


def _json(body: bytes, tag: str) -> Reply:
    reply = json_reply(body)
    reply.headers["etag"] = tag
    return reply


def count(rows: Rows) -> Reply:
    """`GET accounts/$count`, capped."""
    return Reply(200, str(min(len(rows.by_id), _COUNTED)).encode(), content_type="text/plain")


def many(organization: Organization, call: Call, rows: Rows) -> Reply:
    """`GET accounts`: a list, an initial load with change tracking, or a delta."""
    unknown = sorted(name for name in call.query if name.startswith("$") and name not in _KNOWN_OPTIONS)
    if unknown:
        raise bad_url(f"The query parameter '{unknown[0]}' is not supported.")
    if "$deltatoken" in call.query:
        return _Page(organization, call, rows).delta()
    if "odata.track-changes" in call.preferences or _position(call).tracking:
        return _Page(organization, call, rows).initial()
    return _Page(organization, call, rows).listing()


class _Page:
    """One page of an answer."""

    def __init__(self, organization: Organization, call: Call, rows: Rows) -> None:
        self._organization = organization
        self._call = call
        self._rows = rows
        self._position = _position(call)
        self._shape = _shape(organization, call, rows)
        self._size = min(_whole(call.preferences.get("odata.maxpagesize", "")) or PAGE, PAGE)

    def listing(self) -> Reply:
        """A plain query."""
        query, rows = self._call.query, self._rows
        condition = fake_filter.parse(query["$filter"], rows.table) if query.get("$filter") else None
        ids: Iterable[str]
        if "$orderby" in query or condition is not None:
            chosen = rows.ids() if condition is None else fake_filter.select(condition, rows)
            if "$orderby" in query:
                chosen = _sorted(rows, chosen, query["$orderby"])
            ids = _behind(chosen, self._position.after)
            total = len(chosen)
        else:
            ids, total = rows.after(self._position.after), len(rows.by_id)
        hidden = self._organization.recent.hidden()
        if hidden:
            ids = (identifier for identifier in ids if (rows.table.name, identifier) not in hidden)
        top = _whole(query.get("$top", ""))
        if top is not None:
            return self._reply([rows.by_id[i] for i in list(ids)[:top]], None, {})
        counted = {"@odata.count": min(total, _COUNTED)} if query.get("$count") == "true" else {}
        page, last = self._take(rows.by_id[i] for i in ids)
        following = None
        if last is not None:
            following = self._position._replace(page=self._position.page + 1, after=last.id)
        return self._reply(page, following, counted)

    def initial(self) -> Reply:
        """The whole table, then a delta link whose token is the state at its beginning."""
        self._tracked()
        since = self._position.since or self._token()
        page, last = self._take(self._rows.by_id[i] for i in self._rows.after(self._position.after))
        if last is None:
            return self._reply(page, None, {"@odata.deltaLink": self._delta_link(since)})
        following = _Position(self._position.page + 1, last.id, tracking=True, since=since, until="")
        return self._reply(page, following, {})

    def delta(self) -> Reply:
        """What changed since a token: rows in order of change, then deletions."""
        self._tracked()
        since = self._version(self._call.query["$deltatoken"])
        until = self._position.until or self._token()
        bound = int(until.partition("!")[0])
        after = int(self._position.after or since)
        changes = self._changes(since, after, bound)
        page = list(islice(changes, self._size))
        parts = [part for _position, part in page]
        if len(page) == self._size and next(changes, None) is not None:
            following = _Position(
                self._position.page + 1, str(page[-1][0]), tracking=True, since="", until=until
            )
            return self._assemble(parts, {"@odata.nextLink": self._next_link(following)}, delta=True)
        return self._assemble(parts, {"@odata.deltaLink": self._delta_link(until)}, delta=True)

    def _changes(self, since: int, after: int, until: int) -> Iterator[tuple[int, bytes]]:
        """(position, JSON) behind a position. Versions are never used twice, so deletions lie behind all rows."""
        for version, row in self._rows.changed(max(since, after), until):
            yield version, self._shape.body(row)
        offset = until - since  # deletions count on from there
        for version, identifier in self._rows.deleted(since, until):
            if version + offset > after:
                yield version + offset, self._tombstone(identifier)

    def _tombstone(self, identifier: str) -> bytes:
        context = f"{self._call.service_root}$metadata#{self._rows.table.entity_set}/$deletedEntity"
        return f'{{"@odata.context":"{context}","id":"{identifier}","reason":"deleted"}}'.encode()

    def _tracked(self) -> None:
        if not self._rows.table.tracked:
            raise RefusedError(
                400,
                "0x80041101",
                f"Change tracking is not enabled for the entity '{self._rows.table.name}'.",
            )
        refused = [name for name in _NOT_TRACKED if name in self._call.query]
        if refused:
            raise bad_url(
                f"The query option '{refused[0]}' is not supported when change tracking is enabled."
            )

    def _take(self, rows: Iterator[Row]) -> tuple[list[Row], Row | None]:
        """A page of rows, and its last one when more follow."""
        page = list(islice(rows, self._size))
        more = len(page) == self._size and next(rows, None) is not None
        return page, page[-1] if more else None

    def _reply(self, page: list[Row], following: _Position | None, extra: dict[str, Value]) -> Reply:
        body = self._shape.body
        if following is not None:
            extra = {**extra, "@odata.nextLink": self._next_link(following)}
        return self._assemble([body(row) for row in page], extra, delta=False)

    def _assemble(self, parts: list[bytes], extra: dict[str, Value], *, delta: bool) -> Reply:
        table = self._rows.table
        shown = self._call.query.get("$select", "")
        context = f"{self._call.service_root}$metadata#{table.entity_set}{f'({shown})' if shown else ''}"
        head: dict[str, Value] = {"@odata.context": context + ("/$delta" if delta else "")}
        if self._call.preferences.get("odata.include-annotations") == "*":
            head["@Microsoft.Dynamics.CRM.globalmetadataversion"] = str(self._organization.metadata_version)
        encoded = dumps({**head, **extra})
        body = b'%b,"value":[%b]}' % (encoded[:-1], b",".join(parts))
        reply = json_reply(body)
        applied = [
            name for name in ("odata.track-changes", "odata.maxpagesize") if name in self._call.preferences
        ]
        if applied:
            reply.headers["preference-applied"] = ",".join(applied)
        return reply

    def _next_link(self, position: _Position) -> str:
        kept = {k: v for k, v in self._call.query.items() if k != "$skiptoken"}
        return self._link(kept, f"$skiptoken={position.token()}")

    def _delta_link(self, token: str) -> str:
        kept = {k: v for k, v in self._call.query.items() if k not in ("$skiptoken", "$deltatoken")}
        # Dataverse writes the token with lower-case escapes (microsoft.md 2.4): nobody may rebuild it.
        escaped = re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), quote(token, safe=""))
        return self._link(kept, f"$deltatoken={escaped}")

    def _link(self, kept: dict[str, str], token: str) -> str:
        options = urlencode(kept, safe="$,()'", quote_via=quote)
        return (
            f"{self._call.service_root}{self._rows.table.entity_set}?{options}{'&' if options else ''}{token}"
        )

    def _token(self) -> str:
        return f"{self._organization.version}!{self._organization.clock.now():{_STAMP}}"

    def _version(self, token: str) -> int:
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise bad_url("The delta token is not valid.")
        made = dt.datetime.strptime(match[2], _STAMP).replace(tzinfo=dt.UTC)
        age = self._organization.clock.now() - made
        if age > dt.timedelta(days=self._organization.tracking_days):
            raise RefusedError(
                400,
                "0x80044352",
                "Version stamp associated with the client has expired. Please perform a full sync.",
            )
        return int(match[1])


def _shape(organization: Organization, call: Call, rows: Rows) -> Shape:
    listed = call.query.get("$select")
    selected = tuple(name.strip() for name in listed.split(",")) if listed else None
    annotations = call.preferences.get("odata.include-annotations", "")
    return organization.shapes.get(rows.table, selected, annotations)


def _position(call: Call) -> _Position:
    token = call.query.get("$skiptoken")
    if token is None:
        return _START
    match = _COOKIE.fullmatch(token)
    if match is None:
        raise bad_url("The paging cookie is malformed.")
    return _Position(int(match[1]), match[2], tracking=match[3] == "True", since=match[4], until=match[5])


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _behind(ids: list[str], after: str) -> list[str]:
    """The ids behind one that may be gone by now: a cookie survives the deletion of its row only in key order."""
    if not after:
        return ids
    if after in ids:
        return ids[ids.index(after) + 1 :]
    return [identifier for identifier in ids if identifier > after]


def _sorted(rows: Rows, ids: list[str], orderby: str) -> list[str]:
    columns = rows.table.by_wire()
    for term in reversed(orderby.split(",")):
        wire, _, direction = term.strip().partition(" ")
        column = columns.get(wire)
        if column is None:
            raise unknown_property(rows.table.name, wire)
        ids = sorted(ids, key=_order_of(rows, column.name), reverse=direction == "desc")
    return ids


def _order_of(rows: Rows, name: str) -> Callable[[str], tuple[bool, Value]]:
    def key(identifier: str) -> tuple[bool, Value]:
        held = rows.by_id[identifier].values.get(name)
        if isinstance(held, str):
            held = fold(held)
        return (held is not None, 0 if held is None else held)

    return key
