"""The settings of one Business Central system, checked all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ipaas_resources.core.errors import ConfigurationError

if TYPE_CHECKING:
    from ipaas_resources.connectors.base import SystemDocument

SECRET = "client_secret"  # noqa: S105 - its name
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Settings(BaseModel):
    """`settings:` of the system document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: The environment: https://api.businesscentral.dynamics.com/v2.0/{tenant}/{environment}, without /api/v2.0.
    base_url: str
    tenant_id: str = Field(min_length=1)
    client_id: str = Field(min_length=1)
    login_url: str = "https://login.microsoftonline.com"
    #: What the token is for. The same for every environment of Business Central online.
    oauth_scope: str = "https://api.businesscentral.dynamics.com/.default"
    #: Seconds that a scan reaches back behind the start of the one before: late commits, rounding of SQL, clocks.
    overlap: float = Field(default=300, ge=1, le=86_400)
    #: Seconds after which $metadata is read again.
    metadata_age: float = Field(default=3600, ge=0)
    #: Seconds of silence after which the answer to a batch counts as lost.
    batch_timeout: float = Field(default=120, ge=1, le=600)

    @field_validator("base_url")
    @classmethod
    def _an_environment(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                "must be an address such as https://api.businesscentral.dynamics.com/v2.0/TENANT/Production"
            )
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise ValueError("must use https: the token would travel in the clear")
        if parts.path.rstrip("/").endswith("/api/v2.0"):
            raise ValueError("must end with the environment; /api/v2.0 is added by the connector")
        return value.rstrip("/")

    @field_validator("login_url")
    @classmethod
    def _a_login(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError("must be an https address such as https://login.microsoftonline.com")
        return value.rstrip("/")


def read_settings(document: SystemDocument) -> Settings:
    """The checked settings.

    Raises:
        ConfigurationError: naming every fault of settings, secrets and scopes.
    """
    faults: list[str] = []
    settings = None
    try:
        settings = Settings.model_validate(document.settings)
    except ValidationError as error:
        faults += [f"settings.{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    if SECRET not in document.secrets:
        faults.append(f"secrets.{SECRET}: missing; give a reference such as env:BC_SECRET")
    if not document.scopes:
        faults.append("scopes: name at least one company, such as {main: CRONUS International Ltd.}")
    faults += [
        f"scopes.{name or '(empty)'}: both names must be given"
        for name, company in document.scopes.items()
        if not name or not company
    ]
    if faults or settings is None:
        raise ConfigurationError(
            f"System {document.system} (business_central) is set up wrongly: {'; '.join(faults)}."
        )
    return settings
