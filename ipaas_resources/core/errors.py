"""Every error of the platform, as a tree by what happens next.

IpaasError
|-- RetryError              the same request may be sent again later; nothing was applied
|   |-- ThrottledError          the system asked us to wait (carries retry_after seconds)
|   |-- CircuitOpenError        the system failed again and again, so nothing was sent (carries retry_after seconds)
|   |-- UnreachableError        the request never reached the system
|   `-- SystemBusyError         the system answered that it cannot serve now (reads: any 5xx or timeout)
|-- UnknownOutcomeError     a write was sent and nobody knows whether it was applied: look before repeating
|-- ReloadError             the record changed under us: read it again and plan again
|-- AskPersonError          two or more answers are possible; a person chooses
|   |-- AmbiguousMatchError
|   `-- ReviewNeededError
|-- RecordError             this one record cannot go on: set it aside, the others continue
|   |-- RefusedRecordError      the target refused its values
|   |-- ContractError           the source record breaks its schema snapshot
|   |-- MappingError            a rule cannot make its value
|   |-- UnresolvedReferenceError a linked record is not there yet: the item is parked
|   `-- MissingRecordError      the record does not exist (404, 410)
`-- StopError               the run cannot go on until something outside the record is mended
    |-- ConfigurationError      a document, setting or command is wrong
    |-- CredentialsError        the system refused our identity or our right
    |-- SchemaError             an entity or field that we rely on is not there
    |-- CursorExpiredError      the change cursor is no longer valid: a full read follows
    |-- ProtocolError           the answer is not what the protocol promises
    |-- DatabaseUnavailableError
    `-- LeaseLostError          another worker owns this work now; nothing may be committed

The catcher needs one `except` per action, never one per cause. A message says what happened, to what, and what to do
next; it never holds a value of a record, a secret, or a body.
"""

from __future__ import annotations


class IpaasError(Exception):
    """Something went wrong in the platform."""

    #: Short stable name for tables, logs and metrics.
    code = "error"
    #: HTTP status of the answer that raised it, None where there was no answer.
    status: int | None = None

    def __init__(self, message: str | None = None, *, code: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        if code is not None:
            self.code = code
        super().__init__(self.message)


class RetryError(IpaasError):
    """The request was not applied and may be sent again later."""

    code = "retry"

    def __init__(
        self, message: str | None = None, *, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, code=code)
        #: Seconds the system asked us to wait, None when it named no time.
        self.retry_after = retry_after


class ThrottledError(RetryError):
    """The system asked us to slow down."""

    code = "throttled"


class CircuitOpenError(RetryError):
    """The system failed too often in a row and is left alone for a while; the request was not sent."""

    code = "circuit_open"


class UnreachableError(RetryError):
    """The system could not be reached; the request never left."""

    code = "unreachable"


class SystemBusyError(RetryError):
    """The system cannot serve the request now."""

    code = "system_busy"


class UnknownOutcomeError(IpaasError):
    """A write was sent and its outcome is unknown; look before repeating it."""

    code = "unknown_outcome"


class ReloadError(IpaasError):
    """The record changed since it was read; read it again and plan again."""

    code = "changed_meanwhile"


class AskPersonError(IpaasError):
    """A person has to decide."""

    code = "ask_person"


class AmbiguousMatchError(AskPersonError):
    """Two or more records carry this key; a person has to choose one."""

    code = "ambiguous_match"


class ReviewNeededError(AskPersonError):
    """The policy of this target asks for a review before anything is written."""

    code = "review_needed"


class RecordError(IpaasError):
    """This record cannot go on; it is set aside and the others continue."""

    code = "record"

    def __init__(
        self, message: str | None = None, *, code: str | None = None, field: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.field = field


class RefusedRecordError(RecordError):
    """The target refused the values of this record."""

    code = "refused"


class ContractError(RecordError):
    """The source record breaks the schema snapshot of its entity."""

    code = "contract"


class MappingError(RecordError):
    """A rule cannot make its value from this record."""

    code = "mapping"


class UnresolvedReferenceError(RecordError):
    """The record refers to one that has not reached the target yet."""

    code = "unresolved_reference"


class MissingRecordError(RecordError):
    """The record does not exist."""

    code = "missing"


class StopError(IpaasError):
    """The run cannot go on until something is mended."""

    code = "stop"


class ConfigurationError(StopError):
    """A document, a setting or a command is wrong."""

    code = "configuration"


class CredentialsError(StopError):
    """The system refused our credentials."""

    code = "credentials"


class SchemaError(StopError):
    """An entity or a field that we rely on does not exist."""

    code = "schema"


class CursorExpiredError(StopError):
    """The change cursor is no longer valid; a full read follows."""

    code = "cursor_expired"


class ProtocolError(StopError):
    """The answer of the system is not what its protocol promises."""

    code = "protocol"


class DatabaseUnavailableError(StopError):
    """The platform's PostgreSQL database cannot be used."""

    code = "database"


class LeaseLostError(StopError):
    """Another worker holds this work now; nothing of it was committed here."""

    code = "lease_lost"
