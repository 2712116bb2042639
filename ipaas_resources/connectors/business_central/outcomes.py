"""What an answer to one operation means, and what may be told of it.

The product's sentences quote the values that it refuses ("The length of the string is 57 ... Value: JACKSBORO PUMP"),
so a sentence is shown only without every value that we sent and without all that looks like one; its code, the names
of fields and the correlation id for Microsoft's support stay.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ipaas_resources.core.errors import (
    ConfigurationError,
    CredentialsError,
    IpaasError,
    RefusedRecordError,
    ReloadError,
    SystemBusyError,
    UnknownOutcomeError,
)
from ipaas_resources.core.records import Outcome, WriteResult
from ipaas_resources.net.body import MalformedBodyError
from ipaas_resources.net.odata.errors import error_of, explain, masked
from ipaas_resources.net.statuses import error_for, outcome_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ipaas_resources.net.odata.parts import PartResponse
    from ipaas_resources.net.response import Response

#: The key is taken (400 in most versions, 409 in some).
KEY_TAKEN = "Internal_EntityWithSameKeyExists"
_CHANGED = "Request_EntityChanged"
#: Not the record's fault: the system document, the route or the page is not what we rely on (BC reference 1.7).
_CONFIGURATION = {"Internal_CompanyNotFound", "BadRequest_ResourceNotFound", "BadRequest_MethodNotAllowed"}
#: Refused before anything was done.
_SURELY_NOT_DONE = {"Internal_TenantUnavailable"}
_BAD_REQUEST = 400
_CODE = re.compile(r"[A-Za-z0-9_]{1,80}")
_CORRELATION = re.compile(r"Correlation\s?Id:?\s*([0-9a-fA-F]{8}-[0-9a-fA-F-]{27})", re.IGNORECASE)
#: Where the product begins to quote a value without quotation marks; it may have cut it, so nothing behind it stays.
_QUOTING = re.compile(r"(?<=Value:).*|(?<=fields and values:).*|(?<=contains a value) \([^)]*\)", re.DOTALL)
#: Values shorter than this are common words and codes; blanking them would leave no sentence.
_SHORTEST = 2


def explain_response(response: Response) -> tuple[str, str] | None:
    """For HttpClient: the product's code alone, for here nobody knows which words are values."""
    found = explain(response)
    return None if found is None else (found[0], "")


def error_of_part(
    answer: PartResponse, what: str, *, values: Collection[str] = (), names: Collection[str] = ()
) -> IpaasError | None:
    """The error of one answer inside a batch, None for success.

    Args:
        answer: as it came.
        what: the operation in words: "bc PATCH customers".
        values: texts that were sent; they are cut out of the product's sentence.
        names: of fields and entities; they stay in it.
    """
    code, message = _error(answer)
    told = _told(message, values, names)
    reason = f"{what} was refused ({code})" if code else f"{what} was answered with {answer.status}"
    error: IpaasError | None
    if answer.status < 400:  # noqa: PLR2004 - where errors begin
        return None
    if code == _CHANGED:
        error = ReloadError(f"{reason}: the record was changed meanwhile; it is read again.", code=code)
    elif code in _CONFIGURATION:
        error = ConfigurationError(
            f"{reason}: this environment does not offer it as the flow expects; run discovery. {told}".strip(),
            code=code,
        )
    elif code is not None and code.startswith(("Authentication_", "Authorization_")):
        error = CredentialsError(
            f"{reason}: check the permission sets of the application in Business Central.", code=code
        )
    elif code in _SURELY_NOT_DONE:
        error = SystemBusyError(
            f"{reason}: the environment is not available now; it is sent again.", code=code
        )
    elif code == KEY_TAKEN or answer.status == _BAD_REQUEST:
        error = RefusedRecordError(f"{reason}: {told or 'correct the record or its mapping.'}", code=code)
    else:
        error = error_for(answer.status, write=True, what=what, code=code, explanation=told)
    if error is not None:
        error.status = answer.status
    return error


def _error(answer: PartResponse) -> tuple[str | None, str]:
    try:
        found = error_of(answer.json()) if answer.content else None
    except MalformedBodyError:
        found = None
    if found is None:
        return None, ""
    return (found[0] if _CODE.fullmatch(found[0]) else None), found[1]


def _told(message: str, values: Collection[str], names: Collection[str]) -> str:
    """The product's sentence without values."""
    correlation = _CORRELATION.search(message)
    text = message[: correlation.start()] if correlation else message
    text = _QUOTING.sub(" ..", text)
    for value in sorted({value for value in values if len(value) >= _SHORTEST}, key=len, reverse=True):
        if value not in names:
            text = text.replace(value, "..")
    text = masked(text, names)
    return f"{text} (correlation {correlation[1]})" if correlation else text


def texts_in(value: Any) -> Iterator[str]:
    """Every text inside a value, and its upper-case form: codes come back in capitals."""
    if isinstance(value, str):
        yield value
        yield value.upper()
        yield value.strip()
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)


def failed(error: IpaasError, *, identifier: str | None = None) -> WriteResult:
    """The result of an operation that ended in this error."""
    return WriteResult(outcome=outcome_of(error), id=identifier, error=error)


def lost(what: str) -> UnknownOutcomeError:
    """The error of an operation that the answer says nothing about."""
    return UnknownOutcomeError(f"{what} is missing in the answer to its batch; look before repeating it.")


def exists(error: IpaasError) -> WriteResult:
    """The result of a create whose key is taken."""
    return WriteResult(outcome=Outcome.EXISTS, error=error)
