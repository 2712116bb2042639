"""Collections of the fake: $filter, $orderby, $select, $expand, $top, server-driven paging with an opaque token."""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from ipaas_resources.connectors.business_central.fake_errors import bad_request
from ipaas_resources.connectors.business_central.fake_filter import Condition, FilterParser
from ipaas_resources.connectors.business_central.fake_table import Row, Table

#: The largest page, and the default one (BC administration/operational-limits-online.md).
MAX_PAGE = 20_000

Expander = Callable[[Table, Row, str, "Options"], bytes]
"""JSON of a navigation property of a row of that table, under these options."""


class Options(msgspec.Struct, kw_only=True):
    """What a query asks for."""

    filter: str = ""
    orderby: str = ""
    select: frozenset[str] | None = None
    expand: dict[str, Options] = {}
    top: int | None = None
    skip: int = 0
    count: bool = False
    skiptoken: str = ""
    page: int = MAX_PAGE
    page_asked: bool = False


_PAGE = re.compile(r"odata\.maxpagesize\s*=\s*(\d+)")


def options_of(query: Mapping[str, str], prefer: str, table: Table) -> Options:
    """The options of a request. Raises BusinessCentralError for what the product refuses."""
    options = _options(query, table)
    match = _PAGE.search(prefer)
    if match:
        size = int(match[1])
        if size > MAX_PAGE:
            raise bad_request(f"The page size {size} is more than the maximum of {MAX_PAGE}.")
        options.page = max(1, size)
        options.page_asked = True
    return options


def _options(query: Mapping[str, str], table: Table) -> Options:
    unknown = [name for name in query if name.startswith("$") and name not in _KNOWN]
    if unknown:
        raise bad_request(
            f"The query option '{unknown[0]}' is not supported.", "BadRequest_InvalidRequestUrl"
        )
    options = Options(
        filter=query.get("$filter", ""),
        orderby=query.get("$orderby", ""),
        top=int(query["$top"]) if "$top" in query else None,
        skip=int(query.get("$skip", "0")),
        count=query.get("$count") == "true",
        skiptoken=query.get("$skiptoken", ""),
        expand=_expands(query.get("$expand", ""), table),
    )
    if query.get("$select"):
        options.select = frozenset(name.strip() for name in query["$select"].split(","))
        missing = sorted(options.select - set(table.set.columns) - set(options.expand))
        if missing:
            raise bad_request(
                f"Could not find a property named '{missing[0]}' on type "
                f"'Microsoft.NAV.{table.set.type_name}'."
            )
    return options


_KNOWN = {
    "$filter",
    "$orderby",
    "$select",
    "$expand",
    "$top",
    "$skip",
    "$count",
    "$skiptoken",
    "$schemaversion",
}


def _expands(text: str, table: Table) -> dict[str, Options]:
    found: dict[str, Options] = {}
    for part in _split(text, ","):
        name, _, inner = part.partition("(")
        name = name.strip()
        if name not in table.set.navigation:
            raise bad_request(
                f"Could not find a property named '{name}' on type 'Microsoft.NAV.{table.set.type_name}'."
            )
        pairs = dict(item.strip().partition("=")[::2] for item in _split(inner.removesuffix(")"), ";"))
        found[name] = Options(
            select=frozenset(pairs["$select"].split(",")) if "$select" in pairs else None,
            filter=pairs.get("$filter", ""),
        )
    return found


def _split(text: str, sign: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == sign and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()]


class Listing(msgspec.Struct, kw_only=True):
    """One page: its rows, how many there are in all (where asked), and the token of what follows."""

    rows: list[Row]
    count: int | None = None
    token: str = ""
    rest: int | None = None  # what is left of $top


def list_rows(
    table: Table, options: Options, hidden: frozenset[Any], within: Callable[[Row], bool] | None
) -> Listing:
    """One page of a collection; `hidden` holds ids that a query does not see yet, `within` narrows to a parent."""
    condition = FilterParser(table, options.filter).parse() if options.filter else None
    tests = [test for test in (condition.test if condition else None, within) if test is not None]
    if hidden:
        key = table.index[table.set.key[0]]
        tests.append(lambda row: row.values[key] not in hidden)
    mark = _read_mark(options.skiptoken)
    order = _Order(table, options.orderby)
    rows = order.rows(condition, mark)
    for test in tests:
        rows = filter(test, rows)
    count = None
    if options.count:
        everything = list(rows)
        count, rows = len(everything), iter(everything)
    rows = order.behind(rows, mark)
    if options.skip and mark is None:
        rows = itertools.islice(rows, options.skip, None)
    room = min(options.page, options.top) if options.top is not None else options.page
    page = list(itertools.islice(rows, room + 1))
    more = len(page) > room
    del page[room:]
    listing = Listing(rows=page, count=count)
    if more and page and (options.top is None or options.top > room):
        listing.token = _mark(order.mark(page[-1], mark, len(page)))
        listing.rest = options.top - room if options.top is not None else None
    return listing


class _Order:
    """Where a page starts and what follows it.

    The order of creation and that of modification go on behind the last row by its key, whatever happened between
    two pages; any other order is by position, and rows can slip over a page's edge, as in the product.
    """

    def __init__(self, table: Table, orderby: str) -> None:
        self._table = table
        self._terms = [
            (words[0], len(words) > 1 and words[1] == "desc")
            for words in (term.split() for term in orderby.split(","))
            if words
        ]
        for name, _ in self._terms:
            if name not in table.index:
                raise bad_request(
                    f"Could not find a property named '{name}' on type 'Microsoft.NAV.{table.set.type_name}'."
                )
        self._by_change = self._terms == [(table.set.cursor, False)]

    def rows(self, condition: Condition | None, mark: list[int] | None) -> Iterator[Row]:
        """The rows in order from the mark on, narrowed by an index where there is one."""
        since = condition.since or 0 if condition else 0
        if self._by_change:
            return self._table.by_change(since, (mark[0], mark[1]) if mark else None)
        if condition is not None and condition.equals is not None:
            found = iter(self._table.equal(*condition.equals))
        elif since and not self._terms:
            found = iter(sorted(self._table.by_change(since), key=lambda row: row.born))
        else:
            found = self._table.by_creation(mark[0] if mark and not self._terms else 0)
        if not self._terms:
            return (row for row in found if row.born > mark[0]) if mark else found
        rows = list(found)
        for name, descending in reversed(self._terms):
            position = self._table.index[name]
            rows.sort(key=lambda row: row.values[position], reverse=descending)
        return iter(rows)

    def behind(self, rows: Iterator[Row], mark: list[int] | None) -> Iterator[Row]:
        """Of an order without a key: leave out what earlier pages served."""
        return itertools.islice(rows, mark[0], None) if mark and self._terms and not self._by_change else rows

    def mark(self, last: Row, mark: list[int] | None, served: int) -> list[int]:
        """What the token says: where the next page starts."""
        if self._by_change:
            return [last.stamp, last.seq]
        if self._terms:
            return [(mark[0] if mark else 0) + served]
        return [last.born]


def _mark(numbers: list[int]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(numbers)).decode("ascii").rstrip("=")


def _read_mark(token: str) -> list[int] | None:
    if not token:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=list[int])
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise bad_request("The skip token is not valid.", "BadRequest_InvalidToken") from None


def page_json(
    table: Table, options: Options, listing: Listing, *, context: str, link: str, expand: Expander
) -> bytes:
    """The answer's JSON from the prepared records."""
    if options.expand:
        records = [expanded(table, row, options, expand) for row in listing.rows]
    else:
        records = [table.json(row, options.select) for row in listing.rows]
    head = f'{{"@odata.context":{_text(context)},'
    if listing.count is not None:
        head += f'"@odata.count":{listing.count},'
    tail = "]}" if not listing.token else f'],"@odata.nextLink":{_text(link)}}}'
    return b"".join((head.encode(), b'"value":[', b",".join(records), tail.encode()))


def expanded(table: Table, row: Row, options: Options, expand: Expander) -> bytes:
    """One record with its expanded navigation properties."""
    parts = [table.json(row, options.select)[:-1]]
    for name, inner in options.expand.items():
        parts.append(b',"%s":' % name.encode())
        parts.append(expand(table, row, name, inner))
    parts.append(b"}")
    return b"".join(parts)


def next_link(url: str, pairs: list[tuple[str, str]], listing: Listing) -> str:
    """The link of the next page: the same query with `aid=FIN` and the token."""
    kept = [(k, v) for k, v in pairs if k not in ("$skiptoken", "aid", "$skip", "$top")]
    if listing.rest is not None:
        kept.append(("$top", str(listing.rest)))
    kept += [("aid", "FIN"), ("$skiptoken", listing.token)]
    return url + "?" + "&".join(f"{quote(k, safe='$')}={quote(v, safe='$(),:')}" for k, v in kept)


def _text(text: str) -> str:
    return msgspec.json.encode(text).decode()
