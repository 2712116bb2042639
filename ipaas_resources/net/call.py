"""One request over all its attempts: what is sent, and what is known of its fate so far."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import httpx
import msgspec

from ipaas_resources.core.errors import (
    IpaasError,
    RetryError,
    StopError,
    SystemBusyError,
    UnknownOutcomeError,
    UnreachableError,
)
from ipaas_resources.net.breaker import Guard
from ipaas_resources.net.content import Body
from ipaas_resources.net.response import Kind
from ipaas_resources.net.transport import LostError, Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator


class Call(msgspec.Struct, kw_only=True):
    """One request."""

    method: str
    url: httpx.URL
    kind: Kind
    headers: dict[str, str]
    body: Body
    timeouts: Timeouts
    endpoint: str
    what: str  # in words, for messages: "bc POST customers"
    trace_id: str
    repeatable: bool
    guard: Guard  # between it and the circuit breaker of the system
    attempt: int = 0
    started: float = 0.0  # of this attempt, once it may be sent
    status: int | None = None  # that this attempt was answered with
    identity: dict[str, str] = {}  # the headers that it carried to identify us
    renewed: bool = False  # our identity was refreshed once already
    maybe_applied: bool = False  # an attempt was sent and its fate is unknown

    @property
    def write(self) -> bool:
        """Whether it may change something."""
        return self.kind == "write"

    def lost(self, lost: LostError) -> IpaasError:
        """The error of an attempt without a whole answer."""
        if not lost.sent:
            return UnreachableError(
                f"{self.what} could not reach the system ({lost.reason}); check its address and the network."
            )
        if self.write:
            return UnknownOutcomeError(
                f"{self.what} was sent and its answer lost ({lost.reason}); look before repeating it."
            )
        return SystemBusyError(
            f"{self.what} brought no whole answer ({lost.reason}); it is sent again later."
        )

    def again(self, error: IpaasError) -> bool:
        """Whether another attempt may follow this error."""
        if isinstance(error, UnknownOutcomeError):
            self.maybe_applied = True
            return self.repeatable
        return isinstance(error, RetryError)

    @contextlib.contextmanager
    def honest(self) -> Iterator[None]:
        """No error that leaves says "nothing was applied" once the answer to an attempt was lost."""
        try:
            yield
        except (RetryError, StopError) as error:
            if not self.maybe_applied:
                raise
            unknown = UnknownOutcomeError(
                f"{self.what}: an earlier attempt may have been carried out, and then: {error.message}",
                code=error.code,
            )
            unknown.status = error.status
            raise unknown from error
