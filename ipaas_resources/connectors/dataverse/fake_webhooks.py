"""What the fake organization tells of changes: one RemoteExecutionContext per firing step (microsoft.md 2.8).

Only 502, 503 and 504 get one more attempt; whatever else is no success ends as a failed system job. Our own writes are
told like everybody's, with our user as the one who began them.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ipaas_resources.connectors.dataverse.fake_errors import RefusedError
from ipaas_resources.connectors.dataverse.fake_registrations import (
    ASYNCHRONOUS,
    HTTP_QUERY,
    POST_OPERATION,
    WEBHOOK_KEY,
    Registrations,
    Step,
)
from ipaas_resources.connectors.dataverse.fake_schema import CHOICES, LOOKUPS
from ipaas_resources.connectors.fakes import dumps
from ipaas_resources.connectors.faking.sending import Content, Mailroom, Parcel, shown
from ipaas_resources.net.safe_xml import parse_xml

if TYPE_CHECKING:
    from ipaas_resources.connectors.dataverse.fake_organization import Organization
    from ipaas_resources.connectors.dataverse.fake_schema import Column, Table
    from ipaas_resources.connectors.dataverse.fake_store import Row
    from ipaas_resources.connectors.fakes import Request
    from ipaas_resources.connectors.faking.control import ProductControl
    from ipaas_resources.core.values import Value

#: Seconds until the asynchronous service gets to a job [guess: it is soon, and never at once].
DELAY = 1.0
#: Seconds until the one more attempt [guess].
AGAIN = 5.0
PATIENCE = 60.0
LARGEST = 256 * 1024
_REPEATED = {502, 503, 504}
_TAKEN = range(200, 300)
_TOO_LARGE = "x-ms-dynamics-msg-size-exceeded"
_REMOVED = ("ParentContext", "InputParameters", "PreEntityImages", "PostEntityImages")
_NAMESPACE = uuid.UUID("5f4dc7a0-41f6-5d6b-8f9a-2b7d5f1f0c11")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Webhooks:
    """The outgoing webhooks of one organization."""

    def __init__(self, organization: Organization, mailroom: Mailroom) -> None:
        self.delay = DELAY
        self.registrations = Registrations(organization)
        self._organization = organization
        self._mailroom = mailroom
        self._operations = 0
        self._run = organization.clock.now().isoformat()
        organization.told = self.tell

    def tell(
        self, message: str, table: Table, row: Row, given: Mapping[str, Value]
    ) -> Callable[[], None] | None:
        """A row changed; what takes it back when the change is undone, None when no step fires."""
        if self.registrations.empty():
            return None
        steps = [
            step
            for step in self.registrations.steps(message, table.name)
            if message != "Update" or not step.columns or step.columns & given.keys()
        ]
        if not steps:
            return None
        self._operations += 1
        correlation = self._guid("correlation")
        context = self._context(message, table, row, given, correlation)
        withdrawn: list[bool] = []
        for step in steps:
            self._mailroom.post(self._parcel(step, context, withdrawn), self.delay)
        return lambda: withdrawn.append(True)

    def _guid(self, what: str) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{self._run}/{self._operations}/{what}"))

    def _parcel(self, step: Step, context: dict[str, Any], withdrawn: list[bool]) -> Parcel:
        own = {
            **context,
            "OperationId": self._guid(f"operation/{step.id}"),
            "OwningExtension": {"Id": step.id, "LogicalName": "sdkmessageprocessingstep", "Name": None},
        }

        def pack(_attempt: int) -> Content | None:
            if withdrawn:
                return None
            body, too_large = dumps(own), False
            if len(body) > LARGEST:
                too_large = True
                body = dumps({name: value for name, value in own.items() if name not in _REMOVED})
            headers = {
                "content-type": "application/json; charset=utf-8",
                "x-ms-dynamics-organization": "127.0.0.1",
                "x-ms-dynamics-entity-name": context["PrimaryEntityName"],
                "x-ms-dynamics-request-name": context["MessageName"],
                "x-ms-correlation-request-id": context["CorrelationId"],
                **({_TOO_LARGE: "true"} if too_large else {}),
                **_header_settings(step),
            }
            return headers, body

        def heard(attempt: int, status: int) -> float | None:
            if status in _TAKEN:
                return None
            if attempt == 1 and status in _REPEATED:
                return AGAIN
            self.registrations.failed(step.id, status)
            return None

        return Parcel(
            url=f"{step.url}?{_query(step)}" if _query(step) else step.url,
            about=(f"{context['MessageName']} {context['PrimaryEntityName']} {context['PrimaryEntityId']}",),
            pack=pack,
            heard=heard,
            changed=self._organization.clock.monotonic(),
            patience=PATIENCE,
        )

    def _context(
        self, message: str, table: Table, row: Row, given: Mapping[str, Value], correlation: str
    ) -> dict[str, Any]:
        us = self._organization
        reference: dict[str, Any] = {
            "Id": row.id,
            "LogicalName": table.name,
            "KeyAttributes": [],
            "Name": None,
        }
        attributes = [
            {"key": name, "value": _value(table.columns.get(name), value)} for name, value in given.items()
        ]
        target = reference if message == "Delete" else {**reference, "Attributes": attributes}
        return {
            "BusinessUnitId": us.business_unit,
            "CorrelationId": correlation,
            "Depth": 1,
            "InitiatingUserId": us.actor,
            "InputParameters": [{"key": "Target", "value": target}],
            "IsInTransaction": False,
            "IsolationMode": 1,
            "MessageName": message,
            "Mode": ASYNCHRONOUS,
            "OperationCreatedOn": _ticks(us.clock.now()),
            "OrganizationId": us.organization,
            "OrganizationName": "fake",
            "OutputParameters": [{"key": "id", "value": row.id}] if message == "Create" else [],
            "ParentContext": None,
            "PostEntityImages": [],
            "PreEntityImages": [],
            "PrimaryEntityId": row.id,
            "PrimaryEntityName": table.name,
            "RequestId": self._guid("request"),
            "SecondaryEntityName": "none",
            "SharedVariables": [],
            "Stage": POST_OPERATION,
            "UserId": us.actor,
        }

    # By hand ------------------------------------------------------------------------------------------------------------

    def controls(self) -> Mapping[tuple[str, str], ProductControl]:
        """GET subscriptions, DELETE subscriptions?id=ID (an endpoint or a step), GET or POST notifications {delay}."""
        return {
            ("GET", "subscriptions"): self._list,
            ("DELETE", "subscriptions"): self._drop,
            ("GET", "notifications"): lambda _request: {"delay": self.delay},
            ("POST", "notifications"): self._set_delay,
        }

    def _list(self, _request: Request) -> Any:
        steps = self.registrations.rows("sdkmessageprocessingsteps")
        return {
            "subscriptions": [
                {
                    "id": row["serviceendpointid"],
                    "url": shown(row["url"]),
                    "resource": row["name"],
                    "steps": [
                        step["sdkmessageprocessingstepid"]
                        for step in steps
                        if step["_eventhandler_value"] == row["serviceendpointid"]
                    ],
                }
                for row in self.registrations.rows("serviceendpoints")
            ]
        }

    def _drop(self, request: Request) -> Any:
        identifier = request.query.get("id", "")
        try:
            self.registrations.remove(identifier)
        except RefusedError:
            raise KeyError(identifier) from None
        return {}

    def _set_delay(self, request: Request) -> Any:
        self.delay = max(0.0, float(request.json()["delay"]))
        return {"delay": self.delay}


def _value(column: Column | None, value: Value) -> Any:
    """A column's value as an execution context writes it."""
    if value is None or column is None:
        return value
    if column.kind in LOOKUPS and isinstance(value, tuple):
        return {"Id": value[1], "LogicalName": value[0], "KeyAttributes": [], "Name": None}
    if column.kind in CHOICES or column.kind == "Money":
        return {"Value": value}
    if column.kind in ("DateTime", "Date") and isinstance(value, str):
        return _ticks(dt.datetime.fromisoformat(value).replace(tzinfo=dt.UTC))
    return value


def _ticks(moment: dt.datetime) -> str:
    return f"/Date({(moment - _EPOCH) // dt.timedelta(milliseconds=1)})/"


def _query(step: Step) -> str:
    if step.auth == WEBHOOK_KEY:
        return f"code={quote(step.secret, safe='')}"
    if step.auth == HTTP_QUERY:
        return "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in _settings(step).items())
    return ""


def _header_settings(step: Step) -> dict[str, str]:
    return _settings(step) if step.auth not in (WEBHOOK_KEY, HTTP_QUERY) else {}


def _settings(step: Step) -> dict[str, str]:
    """`<settings><setting name="X" value="Y"/></settings>`."""
    root = parse_xml(step.secret.encode())
    return {each.attrib["name"]: each.attrib["value"] for each in root}
