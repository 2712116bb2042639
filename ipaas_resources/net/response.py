"""A whole answer in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ipaas_resources.core.errors import IpaasError, ProtocolError, UnknownOutcomeError
from ipaas_resources.net.body import MalformedBodyError, decode_json, holds_only_storable_text

Kind = Literal["read", "write"]


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. Header names are in lower case; `content` is decoded from its transfer and content encodings."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    kind: Kind = "read"
    what: str = ""  # the request in words, for messages: "bc POST customers"
    #: An earlier attempt of this request may have been applied: "it exists already" may speak of our own work.
    repeated: bool = False

    def json(self) -> Any:
        """The body as JSON, numbers as int or Decimal.

        Raises:
            ProtocolError: the answer to a read is no JSON.
            UnknownOutcomeError: the answer to a write is no JSON; the write may have been applied.
        """
        try:
            return decode_json(self.content)
        except MalformedBodyError as error:
            raise self.broken(str(error)) from None

    @property
    def storable(self) -> bool:
        """Whether no text of the body can need escaping (see body.holds_only_storable_text)."""
        return holds_only_storable_text(self.content)

    def broken(self, why: str) -> IpaasError:
        """The error for an answer that is not what its protocol promises. `why` holds no value of the body."""
        return broken_answer(self.kind, self.what, self.status, why)


def broken_answer(kind: Kind, what: str, status: int, why: str) -> IpaasError:
    """The error for an unreadable answer: to a write it leaves open whether the write was applied."""
    error: IpaasError
    if kind == "write":
        error = UnknownOutcomeError(
            f"{what} was answered with {status}, but: {why}; look before repeating it."
        )
    else:
        error = ProtocolError(
            f"{what} was answered with {status}, but: {why}; check the address of the system and its state."
        )
    error.status = status
    return error
