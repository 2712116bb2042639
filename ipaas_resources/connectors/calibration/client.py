"""The product's HTTP API as the connector uses it: lists, single rows, writes, and the product's own time."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from ipaas_resources.connectors.calibration.config import API_TOKEN, settings_of
from ipaas_resources.connectors.calibration.entities import ENTITIES
from ipaas_resources.core.errors import ConfigurationError, MissingRecordError
from ipaas_resources.core.limits import BudgetKey
from ipaas_resources.net.auth import StaticHeader
from ipaas_resources.net.body import encode_json
from ipaas_resources.net.client import HttpClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from ipaas_resources.connectors.base import Environment, Manifest, SystemDocument
    from ipaas_resources.core.values import Value
    from ipaas_resources.net.response import Response

T = TypeVar("T")
R = TypeVar("R")

_GONE = (404, 410)
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_NAMES = {field.name for schema in ENTITIES.values() for field in schema.fields} | {"ServiceOrderStatus"}


class Rows:
    """A list answer: the rows, whether their texts are storable as they are, and when the product made it."""

    __slots__ = ("moment", "rows", "storable")

    def __init__(self, rows: list[dict[str, Any]], *, storable: bool, moment: dt.datetime) -> None:
        self.rows = rows
        self.storable = storable
        self.moment = moment


class CalibrationClient:
    """Speaks to one tenant, in the product's own names and values."""

    def __init__(self, document: SystemDocument, manifest: Manifest, environment: Environment) -> None:
        self.settings = settings_of(document)
        try:
            self.zone: dt.tzinfo = dt.UTC if document.timezone == "UTC" else ZoneInfo(document.timezone)
        except (KeyError, ValueError, OSError) as error:
            raise ConfigurationError(
                f"System {document.system} is wrong: timezone: there is no zone of this name; use one like Europe/Berlin."
            ) from error
        policy = environment.policy or manifest.limits.policy()
        self.clock = environment.clock
        self.width = policy.concurrency
        self._http = HttpClient(
            system=environment.system,
            base_url=str(self.settings.url),
            clock=environment.clock,
            ids=environment.ids,
            limits=environment.limits,
            budget=BudgetKey(system=environment.system, credential=API_TOKEN),
            policy=policy,
            breaker=environment.breaker,
            auth=StaticHeader("authorization", lambda: environment.secret(API_TOKEN), prefix="Api-Token "),
            transport=environment.transport,
            ca_file=environment.ca_file,
            explain=explain,
            count_call=environment.count_call,
        )

    async def rows(self, path: str, query: Mapping[str, object] | None = None, *, endpoint: str) -> Rows:
        """A list.

        Raises:
            ProtocolError: the answer is no list of objects. MissingRecordError: 404. And the errors of a read.
        """
        asked = self.clock.now()
        response = await self._http.send("GET", _url(path, query), kind="read", endpoint=endpoint)
        rows = response.json()
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise response.broken("it is no list of records")
        return Rows(rows, storable=response.storable, moment=_earlier(asked, response))

    async def row(self, path: str, *, endpoint: str) -> Rows | None:
        """A single record, as a list of one; None where there is none."""
        asked = self.clock.now()
        response = await self._http.send("GET", path, kind="read", endpoint=endpoint, accept=_GONE)
        if response.status in _GONE:
            return None
        row = response.json()
        if not isinstance(row, dict):
            raise response.broken("it is no record")
        return Rows([row], storable=response.storable, moment=_earlier(asked, response))

    async def write(self, method: str, path: str, body: Value, *, endpoint: str, trace_id: str) -> Response:
        """A write. PUT sets values and may be sent again; POST creates and may not."""
        return await self._http.send(
            method,
            path,
            kind="write",
            content=encode_json(body),
            repeatable=method == "PUT",
            endpoint=endpoint,
            trace_id=trace_id,
        )

    def download(self, guid: str) -> AsyncIterator[bytes]:
        """The bytes of a document (GET /api/wd/{guid}).

        Raises:
            MissingRecordError: the name is no guid, so nothing can be there.
        """
        if _GUID.fullmatch(guid) is None:
            raise MissingRecordError(
                "A document of this product is named by a guid; this file reference holds none."
            )
        return self._http.stream(f"api/wd/{guid}", endpoint="wd/{guid}")

    async def close(self) -> None:
        """Give connections back."""
        await self._http.close()


def _earlier(asked: dt.datetime, response: Response) -> dt.datetime:
    """The earlier of our time and the product's, whose clock may be minutes behind: watermarks are made of it."""
    try:
        theirs = parsedate_to_datetime(response.headers.get("date", ""))
    except ValueError:
        return asked
    return min(asked, theirs if theirs.tzinfo else theirs.replace(tzinfo=dt.UTC))


def _url(path: str, query: Mapping[str, object] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def explain(response: Response) -> tuple[str, str] | None:
    """The fields that a refusal names (ASP.NET ModelState), and nothing else of its body: it may quote values."""
    if response.status != 400:  # noqa: PLR2004 - the one refusal with a ModelState
        return None
    try:
        body = response.json()
    except Exception:  # noqa: BLE001 - an error page explains nothing
        return None
    state = body.get("ModelState") if isinstance(body, dict) else None
    if not isinstance(state, dict):
        return None
    named = sorted({part for key in state if (part := str(key).rpartition(".")[2]) in _NAMES})
    return ("invalid_fields", f"The product names: {', '.join(named)}.") if named else None


async def concurrently(items: Sequence[T], work: Callable[[T], Awaitable[R]], width: int) -> list[R]:
    """The results of `work` in the order of the items, at most `width` at once; the first error ends all."""
    results: list[R | None] = [None] * len(items)
    waiting = iter(range(len(items)))

    async def worker() -> None:
        for index in waiting:
            results[index] = await work(items[index])

    tasks = [asyncio.create_task(worker()) for _ in range(min(width, len(items)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return cast("list[R]", results)
