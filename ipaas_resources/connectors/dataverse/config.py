"""What a system document of this connector holds under `settings` and `secrets`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ipaas_resources.core.errors import ConfigurationError

if TYPE_CHECKING:
    from ipaas_resources.connectors.base import SystemDocument

#: Of the app registration that is an application user of the environment.
SECRET = "client_secret"  # noqa: S105 - the name of a secret
#: What deliveries prove themselves with, and the one before while it is being changed.
WEBHOOK, WEBHOOK_OLD = "webhook", "webhook_old"
_SECRETS = (SECRET, WEBHOOK, WEBHOOK_OLD)

_LOOPBACK = re.compile(r"127(\.\d{1,3}){3}|localhost|::1")


def _address(url: str) -> str:
    parts = urlsplit(url)
    secure = parts.scheme == "https" or (parts.scheme == "http" and _LOOPBACK.fullmatch(parts.hostname or ""))
    if not secure or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError(
            "must be the address of the environment alone, such as https://contoso.crm4.dynamics.com"
        )
    return url.rstrip("/")


class DataverseSettings(BaseModel):
    """Settings of one Dataverse environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(_address)]
    tenant_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$")]
    client_id: Annotated[str, Field(min_length=1)]
    login_url: str = "https://login.microsoftonline.com"
    #: False: every write goes by $batch, which returns version and document; two-way flows with shared fields need it.
    bulk: bool = True
    #: From this many creates on, one CreateMultiple carries them; fewer go by $batch, which returns the rows.
    bulk_from: Annotated[int, Field(ge=1, le=1000)] = 10
    #: Most operations of one write: records of one CreateMultiple or UpdateMultiple.
    write_batch: Annotated[int, Field(ge=1, le=1000)] = 1000
    #: Most requests in one $batch. Microsoft advises small ones; the product takes 1,000.
    batch_requests: Annotated[int, Field(ge=1, le=1000)] = 100
    page_size: Annotated[int, Field(ge=1, le=5000)] = 5000
    #: Seconds that a read by modifiedon reaches back, for tables without change tracking.
    overlap: Annotated[float, Field(ge=0)] = 300
    #: Seconds to wait for the answer to a write.
    write_timeout: Annotated[float, Field(gt=0)] = 120


def settings_of(document: SystemDocument) -> DataverseSettings:
    """The settings of a system document.

    Raises:
        ConfigurationError: every fault at once; no value is repeated.
    """
    faults: list[str] = []
    settings: DataverseSettings | None = None
    try:
        settings = DataverseSettings.model_validate(document.settings)
    except ValidationError as error:
        faults.extend(f"settings.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    faults.extend(
        f"secrets.{name}: unknown, the secrets are {', '.join(_SECRETS)}"
        for name in document.secrets
        if name not in _SECRETS
    )
    if SECRET not in document.secrets:
        faults.append(f"secrets.{SECRET}: is missing, give a reference such as env:CRM_SECRET")
    if document.scopes:
        faults.append("scopes: Dataverse has none, take them out")
    if settings is None or faults:
        raise ConfigurationError(f"System {document.system} (dataverse) is wrong: {'; '.join(faults)}.")
    return settings
