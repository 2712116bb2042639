"""One request to the fake organization: a whole HTTP request, or a part of a `$batch`."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from ipaas_resources.connectors.dataverse.fake_errors import bad_payload
from ipaas_resources.connectors.fakes import loads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipaas_resources.connectors.fakes import Effect
    from ipaas_resources.core.values import Value

_PREFERENCE = re.compile(r'\s*([A-Za-z.\-]+)(?:=(?:"([^"]*)"|([^,;]*)))?\s*(?:[,;]|$)')

ROOT = "/api/data/v9.2/"


class Call:
    """What is asked. `path` is what follows /api/data/v9.2/, unquoted; header names are lower case."""

    def __init__(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        origin: str,
        effects: list[Effect],
        trace_id: str = "",
        references: dict[str, str] | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.raw_query = query
        self.headers = headers
        self.body = body
        self.origin = origin  # scheme and host, for links
        self.effects = effects
        self.trace_id = trace_id
        #: Content-ID -> "/accounts(id)" of earlier parts of the same change set.
        self.references = references if references is not None else {}

    @cached_property
    def query(self) -> dict[str, str]:
        """Query options by name."""
        return dict(parse_qsl(self.raw_query, keep_blank_values=True))

    @cached_property
    def preferences(self) -> dict[str, str]:
        """The `Prefer` header by name; '' for one without a value."""
        found = _PREFERENCE.finditer(self.headers.get("prefer", ""))
        return {match[1].lower(): match[2] or (match[3] or "").strip() for match in found}

    def json(self, entity: str) -> dict[str, Value]:
        """The body as an object."""
        try:
            body = loads(self.body)
        except ValueError:
            raise bad_payload(entity, "The body is no JSON.") from None
        if not isinstance(body, dict):
            raise bad_payload(entity, "The body is no object.")
        return body

    @property
    def service_root(self) -> str:
        """The base of every URL in an answer."""
        return self.origin + ROOT
