"""What an HTTP status means for the request that got it: a table, and the errors made from it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from ipaas_resources.core.errors import (
    AskPersonError,
    CredentialsError,
    IpaasError,
    MissingRecordError,
    ProtocolError,
    RecordError,
    RefusedRecordError,
    ReloadError,
    RetryError,
    SystemBusyError,
    ThrottledError,
    UnknownOutcomeError,
)
from ipaas_resources.core.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping


class Verdict(enum.Enum):
    """What an answer says."""

    DONE = "done"
    ELSEWHERE = "elsewhere"  # a redirect, which an API client does not follow
    CREDENTIALS = "credentials"
    MISSING = "missing"
    CHANGED = "changed"
    REFUSED = "refused"
    THROTTLED = "throttled"  # surely not applied
    BUSY = "busy"  # a write may have been applied


#: The statuses whose meaning is their own; all others follow their hundred.
BY_STATUS: Mapping[int, Verdict] = {
    401: Verdict.CREDENTIALS,
    403: Verdict.CREDENTIALS,
    404: Verdict.MISSING,
    408: Verdict.BUSY,  # Business Central cancels its own session after 8 minutes: part of it may be committed
    409: Verdict.CHANGED,
    410: Verdict.MISSING,
    412: Verdict.CHANGED,
    425: Verdict.THROTTLED,  # too early: refused unseen
    429: Verdict.THROTTLED,
}

BY_HUNDRED: Mapping[int, Verdict] = {
    2: Verdict.DONE,
    3: Verdict.ELSEWHERE,
    4: Verdict.REFUSED,
    5: Verdict.BUSY,
}


def verdict_of(status: int) -> Verdict:
    """What the status says; a number outside 200 to 599 counts as a server that has lost its way."""
    return BY_STATUS.get(status) or BY_HUNDRED.get(status // 100, Verdict.BUSY)


#: Per verdict the error and what happens next, for reads and for writes.
_MEANINGS: Mapping[Verdict, tuple[type[IpaasError], str]] = {
    Verdict.ELSEWHERE: (ProtocolError, "redirects are not followed, correct the address of the system."),
    Verdict.CREDENTIALS: (
        CredentialsError,
        "check the credentials of the system and the rights they have there.",
    ),
    Verdict.MISSING: (MissingRecordError, "it does not exist there."),
    Verdict.CHANGED: (ReloadError, "the record is read again and planned again."),
    Verdict.REFUSED: (RefusedRecordError, "correct the record or its mapping."),
    Verdict.THROTTLED: (ThrottledError, "the system asks us to slow down; it is sent again later."),
    Verdict.BUSY: (SystemBusyError, "the system cannot serve now; it is sent again later."),
}
_UNKNOWN = (UnknownOutcomeError, "it may have been carried out; look before repeating it.")
#: Redirects that promise that nothing was done; the others may answer a write that was carried out.
_UNTOUCHED = frozenset({301, 307, 308})


def error_for(
    status: int,
    *,
    write: bool,
    what: str,
    code: str | None = None,
    explanation: str = "",
    retry_after: float | None = None,
) -> IpaasError | None:
    """The error that a status means, None for success. Also for the parts of a $batch.

    Args:
        status: of the answer.
        write: the request may have changed something.
        what: names the request in the message: "bc POST customers".
        code: the product's error code, where the answer holds one.
        explanation: a sentence that is safe to store and show; never the body.
        retry_after: seconds that the answer asks us to wait.
    """
    verdict = verdict_of(status)
    if verdict is Verdict.DONE:
        return None
    unclear = verdict is Verdict.BUSY or (verdict is Verdict.ELSEWHERE and status not in _UNTOUCHED)
    kind, next_step = _UNKNOWN if write and unclear else _MEANINGS[verdict]
    answered = " ".join(str(part) for part in (what, "was answered with", status, code) if part)
    error = kind(
        f"{answered}: {explanation} {next_step}" if explanation else f"{answered}: {next_step}", code=code
    )
    error.status = status
    if isinstance(error, RetryError):
        error.retry_after = retry_after
    return error


def outcome_of(error: IpaasError) -> Outcome:
    """What an operation came to that ended in this error."""
    match error:
        case UnknownOutcomeError():
            return Outcome.UNKNOWN
        case RetryError():
            return Outcome.RETRY
        case ReloadError():
            return Outcome.RELOAD
        case MissingRecordError():
            return Outcome.MISSING
        case RecordError() | AskPersonError():
            return Outcome.REFUSED
        case _:
            return Outcome.STOP
