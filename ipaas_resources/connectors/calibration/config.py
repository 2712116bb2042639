"""Settings of a calibration system, and the names of its secrets."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError

from ipaas_resources.core.errors import ConfigurationError

if TYPE_CHECKING:
    from ipaas_resources.connectors.base import SystemDocument

#: Names under `secrets` of the system document.
API_TOKEN = "api_token"  # noqa: S105 - the name of a secret
WEBHOOK = "webhook"
WEBHOOK_OLD = "webhook_old"  # live beside the other while a secret is being changed
_SECRETS = {API_TOKEN, WEBHOOK, WEBHOOK_OLD}


class Settings(BaseModel):
    """`settings` of a system document with `connector: calibration`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: https://{tenant}.qualer.com
    url: HttpUrl
    #: Seconds that a watermark lies before the start of its scan: late commits and times cut to seconds.
    overlap: Annotated[int, Field(ge=1, le=86_400)] = 300
    #: Nothing in this tenant is older.
    history_from: dt.date = dt.date(2010, 1, 1)
    #: Rows asked for in one list of clients or vendors; a list that reaches it is asked for again with more.
    list_cap: Annotated[int, Field(ge=10, le=1_000_000)] = 20_000
    #: Days that the product's asset filters Modified and Added surely reach back (not documented by the vendor).
    asset_changes_reach: Annotated[float, Field(gt=0, le=365)] = 1.0


def settings_of(document: SystemDocument) -> Settings:
    """The settings of a system document.

    Raises:
        ConfigurationError: something is missing or wrong; every fault is named.
    """
    faults: list[str] = []
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(document.settings)
    except ValidationError as error:
        faults += [f"settings.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    if API_TOKEN not in document.secrets:
        faults.append(f"secrets.{API_TOKEN}: missing; name where it is kept, as in env:CALIBRATION_TOKEN")
    faults += [
        f"secrets.{name}: unknown; known are {', '.join(sorted(_SECRETS))}"
        for name in sorted(set(document.secrets) - _SECRETS)
    ]
    if document.scopes:
        faults.append("scopes: this product keeps no companies apart; remove them")
    if faults or settings is None:
        raise ConfigurationError(f"System {document.system} is wrong: {'; '.join(faults)}.")
    return settings
