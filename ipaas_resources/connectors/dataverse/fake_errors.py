"""How the fake says no: Dataverse's status, code and message.

Codes from the reference (microsoft.md 2.1, 2.5, 2.7) where it has them; the others are those of the platform's public
error table as seen in public code: 0x80048d19 payload, 0x80060888 URL, 0x80040217 absent row, 0x80040237 duplicate key,
0x80060882 version mismatch, 0x8004431a choice, 0x8004432f and 0x80044330 range, 0x80044352 expired version stamp.
"""

from __future__ import annotations

import math

from ipaas_resources.connectors.fakes import Fault, Reply, json_reply


class RefusedError(Exception):
    """The organization refuses a request."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def reply(self) -> Reply:
        """The answer that carries it."""
        return json_reply(error_body(self.code, self.message), self.status)


def error_body(code: str, message: str) -> dict[str, dict[str, str]]:
    """The error document of the Web API."""
    return {"error": {"code": code, "message": message}}


def bad_payload(entity: str, reason: str) -> RefusedError:
    """A body that does not fit the table."""
    return RefusedError(
        400,
        "0x80048d19",
        f"Error identified in Payload provided by the user for Entity :'{entity}', For more information on this error "
        f"please follow the help link. ----> InnerException : Microsoft.OData.ODataException: {reason}",
    )


def bad_url(reason: str, status: int = 400) -> RefusedError:
    """A URL or query option that cannot be."""
    return RefusedError(status, "0x80060888", reason)


def unknown_property(table: str, name: str) -> RefusedError:
    """A property in a query that the table does not have."""
    return bad_url(f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table}'.")


def no_such_row(table: str, identifier: str) -> RefusedError:
    """A row that is not there."""
    return RefusedError(404, "0x80040217", f"Entity '{table}' With Id = {identifier} Does Not Exist")


def version_mismatch() -> RefusedError:
    """An If-Match with an old version (microsoft.md 2.5)."""
    return RefusedError(
        412,
        "0x80060882",
        "The version of the existing record doesn't match the RowVersion property provided.",
    )


def key_taken(*, bulk: bool = False) -> RefusedError:
    """A create whose key a row already has (microsoft.md 2.5)."""
    if bulk:
        return RefusedError(412, "0x80040237", "Cannot insert duplicate key.")
    return RefusedError(412, "0x80040237", "A record with matching key values already exists.")


# microsoft.md 2.7
_PROTECTION = {
    "requests": (
        "0x80072322",
        "Number of requests exceeded the limit of 6000 over time window of 300 seconds.",
    ),
    "time": (
        "0x80072321",
        "Combined execution time of incoming requests exceeded limit of 1200000 milliseconds over time window of 300 seconds.",
    ),
    "concurrency": ("0x80072326", "Number of concurrent requests exceeded the limit of 52."),
}


def protection_reply(reason: str, retry_after: float) -> Reply:
    """The 429 of a service protection limit: "requests", "time" or "concurrency"."""
    code, message = _PROTECTION[reason]
    return json_reply(error_body(code, message), 429, {"retry-after": str(math.ceil(retry_after))})


def protection_fault(reason: str, retry_after: int, *, times: int = 1, path: str = "") -> Fault:
    """A fault that answers as that limit does."""
    code, message = _PROTECTION[reason]
    return Fault(
        status=429,
        headers={"retry-after": str(retry_after)},
        json=error_body(code, message),
        times=times,
        path=path,
    )
