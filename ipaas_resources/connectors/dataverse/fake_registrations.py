"""Service endpoints, processing steps and failed jobs of the fake organization (microsoft.md 2.8).

They are rows of the product like any others; here only what registering a webhook needs of them is served. What is told
of changes to whom is in fake_webhooks.py.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from ipaas_resources.connectors.dataverse import fake_messages
from ipaas_resources.connectors.dataverse.fake_errors import bad_payload, bad_url, no_such_row
from ipaas_resources.connectors.fakes import Reply, json_reply
from ipaas_resources.connectors.faking.sending import may_send_to

if TYPE_CHECKING:
    from ipaas_resources.connectors.dataverse.fake_call import Call
    from ipaas_resources.connectors.dataverse.fake_organization import Organization

Row = dict[str, Any]

WEBHOOK = 8  # serviceendpoint.contract
WEBHOOK_KEY, HTTP_HEADER, HTTP_QUERY = 4, 5, 6  # serviceendpoint.authtype
ASYNCHRONOUS = 1  # sdkmessageprocessingstep.mode
POST_OPERATION = 40  # sdkmessageprocessingstep.stage
FAILED = 31  # asyncoperation.statuscode

_BOUND = re.compile(r"/?(\w+)\(([0-9A-Fa-f-]{36})\)")
_PATH = re.compile(r"(serviceendpoints|sdkmessageprocessingsteps|asyncoperations)(?:\(([0-9A-Fa-f-]{36})\))?")
_EQUAL = re.compile(r"(\w+) eq (?:'([^']*)'|([0-9A-Fa-f-]{36})|(\d+))")
_STARTS = re.compile(r"startswith\((\w+),'([^']*)'\)")
_EXPANDED = re.compile(r"(sdkmessageid|sdkmessagefilterid)(?:\([^()]*\))?")
_KEYS = {
    "serviceendpoints": "serviceendpointid",
    "sdkmessageprocessingsteps": "sdkmessageprocessingstepid",
    "asyncoperations": "asyncoperationid",
}
_ENDPOINT = {"name", "url", "contract", "authtype", "authvalue", "messageformat", "description"}
_STEP = {
    *("name", "stage", "mode", "rank", "supporteddeployment", "asyncautodelete", "filteringattributes"),
    *("description", "statecode", "statuscode"),
}
_BINDS = {
    "eventhandler_serviceendpoint@odata.bind": ("_eventhandler_value", "serviceendpoints"),
    "sdkmessageid@odata.bind": ("_sdkmessageid_value", "sdkmessages"),
    "sdkmessagefilterid@odata.bind": ("_sdkmessagefilterid_value", "sdkmessagefilters"),
}
_NAMESPACE = uuid.UUID("7f6b24e2-7f0b-5b57-8a0a-1d0f5f1f0c11")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step that fires, with its endpoint."""

    id: str
    endpoint: str
    url: str
    auth: int
    secret: str
    columns: frozenset[str]  # an update that touches none of them does not fire; empty: every update does


class Registrations:
    """Who registered for which message."""

    def __init__(self, organization: Organization) -> None:
        self._organization = organization
        self._rows: dict[str, dict[str, Row]] = {name: {} for name in _KEYS}
        self._secrets: dict[str, str] = {}  # by endpoint; no read shows them
        self._what: dict[str, tuple[str, str]] = {}  # message and table by step, asked for at every change
        self._made = 0

    # The Web API -----------------------------------------------------------------------------------------------------

    def answer(self, call: Call) -> Reply | None:
        """The answer to a request for these tables, None when it is for something else."""
        match = _PATH.fullmatch(call.path)
        if match is None:
            return None
        name, identifier = match[1], (match[2] or "").lower()
        if call.method == "GET":
            self._organization.allow("Read", name.removesuffix("s"))
            return self._one(call, name, identifier) if identifier else self._many(call, name)
        if name == "asyncoperations":
            raise bad_url(f"The fake does not '{call.method}' jobs.", 405)
        if call.method == "POST" and not identifier:
            self._organization.allow("Create", name.removesuffix("s"))
            return self._create(call, name)
        if call.method == "PATCH" and identifier:
            self._organization.allow("Write", name.removesuffix("s"))
            return self._update(call, name, identifier)
        if call.method == "DELETE" and identifier:
            self._organization.allow("Delete", name.removesuffix("s"))
            self.remove(identifier, name)
            return Reply(204)
        raise bad_url(f"The requested resource does not support http method '{call.method}'.", 405)

    def _many(self, call: Call, name: str) -> Reply:
        tests = list(_tests(call.query.get("$filter", "")))
        rows = [row for row in self._rows[name].values() if all(test(row) for test in tests)]
        return json_reply({"value": [self._shown(call, row) for row in rows]})

    def _one(self, call: Call, name: str, identifier: str) -> Reply:
        return json_reply(self._shown(call, self._row(name, identifier)))

    def _shown(self, call: Call, row: Row) -> Row:
        expand = {match[1] for match in _EXPANDED.finditer(call.query.get("$expand", ""))}
        chosen = set(filter(None, call.query.get("$select", "").split(",")))
        shown = {key: value for key, value in row.items() if not chosen or key in {*chosen, "@odata.etag"}}
        if "sdkmessageid" in expand:
            shown["sdkmessageid"] = {"name": fake_messages.message_name(row["_sdkmessageid_value"])}
        if "sdkmessagefilterid" in expand:
            table = self._what[row["sdkmessageprocessingstepid"]][1]
            shown["sdkmessagefilterid"] = {"primaryobjecttypecode": table}
        return shown

    def _create(self, call: Call, name: str) -> Reply:
        given = call.json(name)
        self._made += 1
        stamp = f"{self._organization.clock.now().isoformat()}/{self._made}"
        identifier = str(uuid.uuid5(_NAMESPACE, f"{name}/{stamp}"))
        row: Row = {_KEYS[name]: identifier, "statecode": 0, "statuscode": 1}
        self._fill(name, row, given)
        self._rows[name][identifier] = row
        location = f"{call.service_root}{name}({identifier})"
        if call.preferences.get("return") == "representation":
            return json_reply(self._shown(call, row), 201, {"odata-entityid": location})
        return Reply(204, b"", {"odata-entityid": location, "odata-version": "4.0"})

    def _update(self, call: Call, name: str, identifier: str) -> Reply:
        if call.headers.get("if-match") is None and identifier not in self._rows[name]:
            raise bad_url("The fake makes no registration by PATCH: send If-Match.")
        row = self._row(name, identifier)
        changed = dict(row)
        self._fill(name, changed, call.json(name))
        row.update(changed)
        return Reply(204, b"", {"odata-version": "4.0"})

    def _row(self, name: str, identifier: str) -> Row:
        row = self._rows[name].get(identifier)
        if row is None:
            raise no_such_row(name.removesuffix("s"), identifier)
        return row

    def _fill(self, name: str, row: Row, given: Mapping[str, Any]) -> None:
        """Put the values of a body into a row, as far as the product takes them."""
        endpoint = name == "serviceendpoints"
        known = _ENDPOINT if endpoint else _STEP | set(_BINDS)
        for key, value in given.items():
            if key not in known:
                raise bad_payload(name, f"The property '{key}' does not exist or cannot be written.")
            if key in _BINDS:
                column, target = _BINDS[key]
                row[column] = self._bound(name, key, target, value)
            elif key != "authvalue":
                row[key] = value
        if not isinstance(row.get("name"), str) or not row["name"]:
            raise bad_payload(name, "A name is required.")
        if endpoint:
            _check_endpoint(row)
            if "authvalue" in given:
                self._secrets[row["serviceendpointid"]] = str(given["authvalue"])
        else:
            self._check_step(row)

    def _bound(self, name: str, key: str, target: str, value: object) -> str:
        match = _BOUND.fullmatch(value) if isinstance(value, str) else None
        if match is None or match[1] != target:
            raise bad_payload(name, f"The value of '{key}' names no row of {target}.")
        identifier = match[2].lower()
        there = (
            identifier in self._rows["serviceendpoints"]
            if target == "serviceendpoints"
            else fake_messages.known(self._organization, target, identifier)
        )
        if not there:
            raise no_such_row(target.removesuffix("s"), identifier)
        return identifier

    def _check_step(self, row: Row) -> None:
        name = "sdkmessageprocessingstep"
        for column, _ in _BINDS.values():
            if column not in row:
                raise bad_payload(name, f"A step needs {column}.")
        if row.get("stage") != POST_OPERATION or row.get("mode") != ASYNCHRONOUS:
            raise bad_payload(name, "The fake runs asynchronous steps after the operation alone.")
        message = fake_messages.message_name(row["_sdkmessageid_value"])
        table, offered = fake_messages.filter_of(self._organization, row["_sdkmessagefilterid_value"])
        if offered != message:
            raise bad_payload(name, "The filter belongs to another message.")
        self._what[row["sdkmessageprocessingstepid"]] = (message, table)

    # What the organization asks -----------------------------------------------------------------------------------------

    def steps(self, message: str, table: str) -> Iterator[Step]:
        """The steps that fire for this message of this table."""
        for row in self._rows["sdkmessageprocessingsteps"].values():
            step = self._firing(row)
            if step is not None and self._what[step.id] == (message, table):
                yield step

    def step(self, identifier: str) -> Step | None:
        """The step as it stands now, None when it is gone or switched off."""
        row = self._rows["sdkmessageprocessingsteps"].get(identifier)
        return None if row is None else self._firing(row)

    def empty(self) -> bool:
        """Whether nobody registered for anything."""
        return not self._rows["sdkmessageprocessingsteps"]

    def _firing(self, row: Row) -> Step | None:
        endpoint = self._rows["serviceendpoints"].get(row["_eventhandler_value"])
        if row["statecode"] != 0 or endpoint is None:
            return None
        columns = str(row.get("filteringattributes") or "")
        return Step(
            id=row["sdkmessageprocessingstepid"],
            endpoint=endpoint["serviceendpointid"],
            url=endpoint["url"],
            auth=endpoint["authtype"],
            secret=self._secrets.get(endpoint["serviceendpointid"], ""),
            columns=frozenset(filter(None, (each.strip() for each in columns.split(",")))),
        )

    def failed(self, step: str, status: int) -> None:
        """A delivery that nobody repeats: a failed system job is all that is left of it."""
        self._made += 1
        moment = self._organization.moment()
        identifier = str(uuid.uuid5(_NAMESPACE, f"job/{moment}/{self._made}"))
        self._rows["asyncoperations"][identifier] = {
            "asyncoperationid": identifier,
            "name": "Webhook",
            "operationtype": 1,
            "statecode": 3,
            "statuscode": FAILED,
            "_owningextensionid_value": step,
            "friendlymessage": f"The webhook call failed with the status {status}."
            if status
            else "It did not answer.",
            "createdon": moment,
        }

    # By hand ------------------------------------------------------------------------------------------------------------

    def rows(self, name: str) -> list[Row]:
        """All rows of one of these tables."""
        return list(self._rows[name].values())

    def remove(self, identifier: str, name: str = "") -> None:
        """Delete an endpoint with its steps, or a step. RefusedError (404) when it is not there."""
        for each in (name,) if name else ("serviceendpoints", "sdkmessageprocessingsteps"):
            if identifier in self._rows[each]:
                del self._rows[each][identifier]
                steps = self._rows["sdkmessageprocessingsteps"]
                for step in [s for s, row in steps.items() if row["_eventhandler_value"] == identifier]:
                    del steps[step]
                return
        raise no_such_row((name or "serviceendpoints").removesuffix("s"), identifier)


def _check_endpoint(row: Row) -> None:
    name = "serviceendpoint"
    if row.get("contract") != WEBHOOK or row.get("authtype") not in {WEBHOOK_KEY, HTTP_HEADER, HTTP_QUERY}:
        raise bad_payload(name, "The fake knows webhooks (contract 8) with a key, headers or a query.")
    url = row.get("url")
    # The product also insists on port 80 or 443; on this machine those are seldom free.
    if not isinstance(url, str) or not may_send_to(url) or urlsplit(url).query:
        raise bad_payload(
            name, "The url is no address without a query on 127.0.0.1, where alone a fake sends."
        )


def _tests(text: str) -> Iterator[Callable[[Row], bool]]:
    for term in filter(None, text.split(" and ")):
        if (equal := _EQUAL.fullmatch(term.strip("() "))) is not None:
            wanted: object = (
                int(equal[4]) if equal[4] else equal[2] if equal[2] is not None else equal[3].lower()
            )
            yield _equal(equal[1], wanted)
        elif (starts := _STARTS.fullmatch(term.strip())) is not None:
            yield _starting(starts[1], starts[2])
        else:
            raise bad_url("The fake does not understand this filter of a registration.")


def _equal(name: str, wanted: object) -> Callable[[Row], bool]:
    return lambda row: row.get(name) == wanted


def _starting(name: str, beginning: str) -> Callable[[Row], bool]:
    return lambda row: str(row.get(name) or "").startswith(beginning)
