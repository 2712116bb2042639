"""Pages of a collection: follow `@odata.nextLink` as it came, until there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.core.errors import ProtocolError
from ipaas_resources.core.values import content_hash
from ipaas_resources.net.response import Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ipaas_resources.net.client import HttpClient


class ODataPage(msgspec.Struct, kw_only=True):
    """One page as it came."""

    rows: list[dict[str, Any]]
    next_link: str | None  # absolute, opaque; None on the last page
    delta_link: str | None  # on the last page of a change-tracked read
    storable: bool  # no text of the page can need escaping
    response: Response


def prefer(*wishes: str, page_size: int | None = None) -> dict[str, str]:
    """The Prefer header: several wishes in one header, `odata.maxpagesize` last."""
    every = [*wishes, *([f"odata.maxpagesize={page_size}"] if page_size else [])]
    return {"prefer": ",".join(every)} if every else {}


async def read_pages(
    client: HttpClient,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    endpoint: str = "",
    trace_id: str = "",
) -> AsyncIterator[ODataPage]:
    """Every page from `url` on. The same headers go with each page: Dataverse wants maxpagesize repeated.

    Raises:
        ProtocolError: a link came twice (the scan would never end), or a page is no OData collection.
        everything that HttpClient.send raises for a read.
    """
    seen: set[bytes] = set()
    link: str | None = url
    while link is not None:
        # Kept as hashes: links carry cookies of a kilobyte, and a scan may have thousands.
        mark = content_hash(link.encode("utf-8", "surrogatepass"))
        if mark in seen:
            raise ProtocolError(
                f"{client.system} {endpoint} gave the same next page twice; the scan was stopped. "
                "Run it again; if it happens again, report it to the vendor."
            )
        seen.add(mark)
        response = await client.send(
            "GET", link, kind="read", headers=headers, endpoint=endpoint, trace_id=trace_id
        )
        page = parse_page(response)
        yield page
        link = page.next_link


def parse_page(response: Response) -> ODataPage:
    """Read one answer as a collection page.

    Raises:
        ProtocolError: it is no JSON object with a list of objects in `value`, or it holds an error.
    """
    body = response.json()
    if not isinstance(body, dict) or "error" in body:
        raise response.broken("it holds an error or no object where a page of records belongs")
    rows = body.get("value")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise response.broken("it holds no list of records in `value`")
    return ODataPage(
        rows=rows,
        next_link=_link(response, body, "@odata.nextLink"),
        delta_link=_link(response, body, "@odata.deltaLink"),
        storable=response.storable,
        response=response,
    )


def _link(response: Response, body: dict[str, Any], name: str) -> str | None:
    link = body.get(name)
    if link is None or (isinstance(link, str) and link):
        return link
    raise response.broken(f"its {name} is no address")
