"""A Business Central environment that speaks API v2.0 over ASGI: what the product does, and what it refuses.

Served below `/v2.0/{tenant}/{environment}/api/v2.0` (any prefix before `/api/v2.0`). One object is one environment with
its companies, and tells subscribers of changes (fake_subscriptions.py). Not served: bound actions, the automation and
custom routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import email.utils
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.connectors.business_central.catalogue import catalogue
from ipaas_resources.connectors.business_central.fake_batch import Answer, Call, batch_json, calls_of
from ipaas_resources.connectors.business_central.fake_company import Company
from ipaas_resources.connectors.business_central.fake_errors import (
    BusinessCentralError,
    bad_request,
    no_such_segment,
    not_allowed,
)
from ipaas_resources.connectors.business_central.fake_files import StoredFile, give_out, take_in
from ipaas_resources.connectors.business_central.fake_metadata import (
    entity_definitions,
    metadata,
    service_document,
)
from ipaas_resources.connectors.business_central.fake_operation import Operation, segment
from ipaas_resources.connectors.business_central.fake_subscriptions import Subscriptions
from ipaas_resources.connectors.business_central.fake_table import Row, Sequence64, Table, sql_stamp
from ipaas_resources.connectors.fakes import FakeApp, Recent, Reply, Request, Tokens, dumps, json_reply
from ipaas_resources.core.limits import LimitPolicy

if TYPE_CHECKING:
    from ipaas_resources.connectors.faking.control import ProductControl
    from ipaas_resources.core.clock import Clock, Ids

ROUTE = "/api/v2.0"
#: The audience of tokens (BC administration/automation-apis-using-s2s-authentication.md).
AUDIENCE = "https://api.businesscentral.dynamics.com"
PROCESSED_AT_ONCE = 5
_NAMESPACE = uuid.UUID("0b0f3f4e-2c38-5d0e-8f6b-5a2f5f1f0c11")


class PartFault(msgspec.Struct, kw_only=True):
    """Answers matching operations, alone or inside a batch, with an error instead of doing them."""

    match: Callable[[Call], bool]
    status: int
    code: str = "Internal_ServerError"
    message: str = "The operation could not be completed."
    times: int = 1


class FakeBusinessCentral(FakeApp):
    """One environment. Without `tokens` everyone is let in; `search_lag`, limits and faults as in FakeApp."""

    limits = LimitPolicy(requests=6000, window=300, concurrency=100)

    def __init__(
        self, *, clock: Clock | None = None, ids: Ids | None = None, tokens: Tokens | None = None
    ) -> None:
        super().__init__(clock=clock, ids=ids)
        self.tokens = tokens
        #: Seconds that the server's clock is ahead of ours.
        self.skew = 0.0
        #: The address that links are made with; empty: of the request.
        self.public_url = ""
        self.part_faults: list[PartFault] = []
        self.companies: dict[str, Company] = {}
        self._numbers = Sequence64()
        self.recent = Recent(self)
        self._catalogue = catalogue()
        self._metadata: bytes | None = None
        self._slots: dict[str, asyncio.Semaphore] = {}
        self.subscriptions = Subscriptions(self.clock, self.mailroom, self.companies)

    # Arranging ---------------------------------------------------------------------------------------------------

    def add_company(self, name: str, identifier: str = "") -> Company:
        """A new, empty company; its id follows from its name unless given."""
        identifier = identifier or str(uuid.uuid5(_NAMESPACE, name))
        company = self.companies[identifier] = Company(identifier, name, self._numbers, self.stamp)
        company.told = self.subscriptions.note
        return company

    def company(self, scope: str) -> Company:
        """The company of that name or id. KeyError when there is none."""
        for company in self.companies.values():
            if scope in (company.id, company.name):
                return company
        raise KeyError(scope)

    def table(self, entity: str, scope: str) -> Table:
        """The rows of an entity, by platform id or entity set name. KeyError when there is none."""
        known = self._catalogue.entities.get(entity) or self._catalogue.sets[entity]
        return self.company(scope).table(known.name)

    def seed(self, entity: str, scope: str, record: dict[str, Any]) -> str:
        """A record as it stands in the product (wire values, lines nested); rules and ledger are passed by."""
        table = self.table(entity, scope)
        row = self.company(scope).seed(table, record)
        return str(row.values[table.index[table.set.key[0]]])

    def prepare(self) -> None:
        """Make the JSON of every record now, so that the first listing costs what each later one costs."""
        for company in self.companies.values():
            for table in company.tables.values():
                for row in table.by_creation():
                    table.json(row)

    def put_file(
        self,
        entity: str,
        scope: str,
        identifier: str,
        *,
        data: bytes | None = None,
        seed: str = "",
        size: int = 0,
    ) -> None:
        """Give a record's stream property a content: these bytes, or a made-up file of that seed and size."""
        table = self.table(entity, scope)
        row = table.rows[identifier]
        file = StoredFile(size=len(data) if data is not None else size, data=data, seed=seed)
        self._attach(table, row, file)

    def set_metadata(self, change: Callable[[bytes], bytes]) -> None:
        """Let $metadata say something else from now on: an update of the product changed the schema."""
        self._metadata = change(self._metadata or metadata(self._catalogue))

    def sim_records(self, entity: str, scope: str) -> Iterable[Mapping[str, Any]]:
        """All records of an entity, as on the wire; documents carry their lines."""
        table = self.table(entity, scope)
        return [self._with_lines(table, row, scope) for row in table.by_creation()]

    def sim_add(self, entity: str, scope: str, fields: dict[str, Any]) -> str:
        """Add a record as a person in the client does: rules hold, no ledger entry."""
        table = self.table(entity, scope)
        with _told_plainly():
            row = self.company(scope).create(table, fields, _silent, by_hand=True)
        return str(row.values[table.index[table.set.key[0]]])

    def sim_change(self, entity: str, scope: str, identifier: str, fields: dict[str, Any]) -> None:
        """Change a record as a person in the client does."""
        table = self.table(entity, scope)
        with _told_plainly():
            self.company(scope).edit(table, table.rows[identifier], fields)

    def sim_remove(self, entity: str, scope: str, identifier: str) -> None:
        """Delete a record as a person in the client does."""
        table = self.table(entity, scope)
        self.company(scope).drop(table, table.rows[identifier])

    def sim_controls(self) -> Mapping[tuple[str, str], ProductControl]:
        """Who is told of changes, and how soon."""
        return self.subscriptions.controls()

    def stamp(self) -> int:
        """The server's time as its database keeps it."""
        return sql_stamp(self.clock.now() + dt.timedelta(seconds=self.skew))

    def _with_lines(self, table: Table, row: Row, scope: str) -> dict[str, Any]:
        record = table.document(row)
        if table.set.lines:
            lines = self.company(scope).table(table.set.navigation[table.set.lines][0])
            record[table.set.lines] = [lines.document(line) for line in row.lines or ()]
        if isinstance(row.file, StoredFile):
            record["@file"] = {"size": row.file.size, "sha256": row.file.sha256}
        return record

    # Hooks of FakeApp ----------------------------------------------------------------------------------------------

    def principal(self, request: Request) -> str:
        """The application that the token was issued to: limits are per user, and it is one."""
        token = request.headers.get("authorization", "").partition(" ")[2]
        return token.rpartition("-")[0].partition("@")[0] or token

    def authorize(self, request: Request) -> Reply | None:
        """401 without a valid token for this service."""
        if self.tokens is None:
            return None
        header = request.headers.get("authorization", "")
        audience = header.partition("@")[2].rpartition("-")[0]
        if self.tokens.valid(header) and audience in ("", AUDIENCE):
            return None
        error = BusinessCentralError(
            401, "Authentication_InvalidCredentials", "The server has rejected the client credentials."
        )
        return self._error(error, request)

    def throttled(self, request: Request, reason: str, retry_after: float) -> Reply:
        """429. Whether Retry-After comes with it is not established; the fake sends none."""
        del retry_after
        actual = 101 if reason == "concurrency" else 6001
        error = BusinessCentralError(
            429,
            "Application_TooManyRequests",
            f"Too many requests reached. Actual ({actual}). Maximum ({actual - 1}).",
        )
        return self._error(error, request)

    def streams(self, request: Request) -> bool:
        """Uploads to stream properties are not held."""
        return request.method in ("PATCH", "PUT") and request.path.endswith(_STREAM_ENDINGS)

    async def handle(self, request: Request) -> Reply:
        """One request; five at a time per user while limits are on, the others wait."""
        if not self.limits_on:
            return await self._handle(request)
        slot = self._slots.setdefault(request.principal, asyncio.Semaphore(PROCESSED_AT_ONCE))
        async with slot:
            return await self._handle(request)

    # Requests ------------------------------------------------------------------------------------------------------

    async def _handle(self, request: Request) -> Reply:
        prefix, route, path = request.path.partition(ROUTE)
        base = self.public_url or self._origin(request)
        base = f"{base}{prefix}{ROUTE}"
        try:
            supported = self.subscriptions.supported(request.path, request.query)
            if supported is not None:
                return json_reply(supported.body)
            if not route or (path and not path.startswith("/")):
                raise no_such_segment(request.path.rpartition("/")[2])
            reply = await self._serve(request, path.strip("/"), base)
        except BusinessCentralError as error:
            reply = self._error(error, request)
        if request.disconnected is None:  # in process; over HTTP the server writes the date
            moment = self.clock.now() + dt.timedelta(seconds=self.skew)
            reply.headers["date"] = email.utils.format_datetime(moment, usegmt=True)
        return reply

    async def _serve(self, request: Request, path: str, base: str) -> Reply:
        document = self._document(path, base)
        if document is not None:
            return document
        subscribed = await self.subscriptions.answer(request, path, base)
        if subscribed is not None:
            return _reply(subscribed)
        if path == "$batch":
            return self._batch(request, base)
        call = Call(
            method=request.method,
            path=path,
            pairs=request.pairs,
            headers=request.headers,
            url=f"{base}/{path}",
            trace_id=request.trace_id,
        )
        if request.method in ("PATCH", "PUT", "GET") and path.endswith(_STREAM_ENDINGS):
            return await self._stream(request, call)
        if request.method in ("POST", "PATCH"):
            call.body = _body(request)
        return _reply(self._operate(call, request, base))

    def _document(self, path: str, base: str) -> Reply | None:
        """What describes the route itself."""
        if path == "$metadata":
            self._metadata = self._metadata or metadata(self._catalogue)
            return Reply(200, self._metadata, content_type="application/xml")
        if path == "":
            return json_reply(service_document(self._catalogue, base))
        if path == "entityDefinitions":
            return json_reply(entity_definitions(self._catalogue, base))
        return None

    def _batch(self, request: Request, base: str) -> Reply:
        if request.method != "POST":
            raise not_allowed(request.method, "$batch")
        calls = calls_of(_body(request), base)
        if request.headers.get("isolation", "").lower() == "snapshot":
            return json_reply(self._all_or_nothing(calls, request, base))
        return json_reply(batch_json(calls, lambda call: self._part(call, request, base)))

    def _all_or_nothing(self, calls: list[tuple[Any, Call]], request: Request, base: str) -> bytes:
        failed = False
        mark = len(request.effects)
        undo: list[Callable[[], None]] = []

        def answer(call: Call) -> Answer:
            nonlocal failed
            answered = self._part(call, request, base)
            failed = failed or answered.status >= 400  # noqa: PLR2004 - where errors begin
            return answered

        for company in self.companies.values():
            company.undo = undo
        try:
            text = batch_json(calls, answer)
        finally:
            for company in self.companies.values():
                company.undo = None
        if failed:
            for step in reversed(undo):
                step()
            del request.effects[mark:]
        return text

    def _part(self, call: Call, request: Request, base: str) -> Answer:
        try:
            return self._operate(call, request, base)
        except BusinessCentralError as error:
            return Answer(status=error.status, body=error.body(self._correlation(request)))

    def _operate(self, call: Call, request: Request, base: str) -> Answer:
        """One operation on a resource below the route."""
        for fault in self.part_faults:
            if fault.times and fault.match(call):
                fault.times -= 1
                raise BusinessCentralError(fault.status, fault.code, fault.message)
        segments = [segment(text) for text in call.path.split("/")]
        if segments[0][0] == "companies":
            if len(segments) == 1 or segments[0][1] is None:
                return self._companies(call, base)
            company = self._company(segments[0][1])
            segments = segments[1:]
            if not segments:
                return Answer(status=200, body=dumps(_company_json(company)))
        elif (known := self._catalogue.sets.get(segments[0][0])) is not None and known.root:
            # Subscribing waits for the receiver's handshake, so it is no part of a batch here.
            if call.method != "GET" or len(segments) > 1:
                raise not_allowed(call.method, known.name)
            return Answer(
                status=200,
                body=dumps(
                    {"@odata.context": f"{base}/$metadata#{known.name}", "value": self.subscriptions.rows()}
                ),
            )
        else:
            company = self._company(
                dict(call.pairs).get("company") or call.headers.get("company", ""), named=True
            )
        return Operation(self, company, call, request, base).run(segments)

    def _company(self, name: str | None, *, named: bool = False) -> Company:
        try:
            return self.company(name or "")
        except KeyError:
            raise BusinessCentralError(
                400 if named else 404,
                "Internal_CompanyNotFound",
                "Cannot process the request because the default company cannot be found.",
            ) from None

    def _companies(self, call: Call, base: str) -> Answer:
        if call.method != "GET":
            raise not_allowed(call.method, "companies")
        value = [_company_json(company) for company in self.companies.values()]
        return Answer(
            status=200, body=dumps({"@odata.context": f"{base}/$metadata#companies", "value": value})
        )

    async def _stream(self, request: Request, call: Call) -> Reply:
        segments = [segment(text) for text in call.path.split("/")]
        if segments[0][0] != "companies" or len(segments) < 3:  # noqa: PLR2004 - company, record, property
            raise no_such_segment(segments[-1][0])
        company = self._company(segments[0][1])
        (set_name, key), (name, _) = segments[-2:]
        if set_name not in self._catalogue.sets or not key:
            raise no_such_segment(set_name)
        table = company.table(set_name)
        row = company.row(table, key.lower())
        if name not in table.streams:
            raise no_such_segment(name)
        if request.method == "GET":
            return give_out(row.file)
        if table.set.columns[name].readonly or not table.set.modify:
            raise not_allowed(request.method, set_name)
        company.match(row, request.headers.get("if-match"))
        file = await take_in(request)
        self._attach(table, row, file)
        request.effect(
            "file",
            table.set.entity,
            row.values[table.index["id"]],
            {"size": file.size, "sha256": file.sha256},
            scope=company.name,
        )
        return Reply(204)

    def _attach(self, table: Table, row: Row, file: StoredFile) -> None:
        row.file = file
        changes = {table.index["byteSize"]: file.size} if "byteSize" in table.index else {}
        table.change(row, changes, self.stamp())

    def _origin(self, request: Request) -> str:
        scheme = "https" if request.disconnected is None else "http"
        return f"{scheme}://{request.headers.get('host', 'localhost')}"

    def _correlation(self, request: Request) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{request.id}"))

    def _error(self, error: BusinessCentralError, request: Request) -> Reply:
        return json_reply(error.body(self._correlation(request)), error.status)


def _reply(answer: Answer) -> Reply:
    headers = {"odata-version": "4.0", **answer.headers}
    if answer.body is None:
        return Reply(answer.status, b"", headers)
    return Reply(answer.status, answer.body, headers, content_type="application/json; odata.metadata=minimal")


def _company_json(company: Company) -> dict[str, Any]:
    return {
        "id": company.id,
        "systemVersion": "29.0",
        "timestamp": 1,
        "name": company.name,
        "displayName": company.name,
        "businessProfileId": "",
        "systemCreatedAt": "0001-01-01T00:00:00Z",
        "systemCreatedBy": "00000000-0000-0000-0000-000000000000",
        "systemModifiedAt": "0001-01-01T00:00:00Z",
        "systemModifiedBy": "00000000-0000-0000-0000-000000000000",
    }


def _body(request: Request) -> Any:
    try:
        return request.json()
    except ValueError:
        raise bad_request("Invalid Request Body") from None


@contextlib.contextmanager
def _told_plainly() -> Iterator[None]:
    """A refusal of the product as the ValueError that the control endpoints show."""
    try:
        yield
    except BusinessCentralError as error:
        raise ValueError(error.text) from None


def _silent(_kind: str, _table: Table, _row: Row) -> None:
    """Changes by hand are in no ledger."""


_STREAM_ENDINGS = tuple(
    f")/{column.name}"
    for known in catalogue().sets.values()
    for column in known.columns.values()
    if column.type == "stream"
)
