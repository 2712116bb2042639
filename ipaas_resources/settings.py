"""The settings of one installation, read from environment variables that start with IPAAS_.

Secrets of connected systems are not here: system documents hold references to them.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ipaas_resources.core.errors import ConfigurationError

PREFIX = "IPAAS_"


class Settings(BaseSettings):
    """Every setting of the platform with its default; `load_settings` turns a wrong one into a sentence."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        # `IPAAS_STATE_DIR=` in a compose file means "not set", not "the empty path".
        env_ignore_empty=True,
        # A wrong value is never shown: it may be a password in the wrong place.
        hide_input_in_errors=True,
    )

    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL login that may make roles and databases; with the two URLs below, the run-time "
        "login. Not set: the embedded server.",
    )
    database_owner_url: SecretStr | None = Field(
        default=None, description="PostgreSQL login that owns the platform's database and migrates it."
    )
    database_dagster_url: SecretStr | None = Field(
        default=None, description="PostgreSQL login and database for Dagster's own storage."
    )
    state_dir: Path = Field(
        default=Path(".ipaas"),
        description="Folder for the embedded database, Dagster's home and the last good copies.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least urgent log line that is written."
    )

    host: str = Field(default="127.0.0.1", description="Address that the servers of the platform listen on.")
    webserver_port: int = Field(default=3000, ge=1, le=65535, description="Dagster UI.")
    code_server_port: int = Field(default=3010, ge=1, le=65535, description="Dagster code server.")
    console_port: int = Field(default=8000, ge=1, le=65535, description="Console and webhook ingress.")
    simulator_port: int = Field(default=8100, ge=1, le=65535, description="Simulated systems of the demo.")
    public_url: str | None = Field(
        default=None,
        description="Where products reach the webhook ingress from outside, /hooks/ left out: https://ipaas.example.com. "
        "Not set: the platform subscribes to nothing.",
    )

    lease_seconds: float = Field(
        default=180.0,
        ge=1,
        description="Longest time that a worker may hold records without a sign of life; longer than any request.",
    )
    patience_seconds: float = Field(
        default=30.0,
        ge=0,
        description="How long a run waits for its own retries before it ends with items pending.",
    )

    realtime_concurrency: int = Field(
        default=8, ge=1, description="Pieces of work of the realtime lane at once, over all machines."
    )
    polling_concurrency: int = Field(
        default=4, ge=1, description="Pieces of work of the polling lane at once, over all machines."
    )
    batch_concurrency: int = Field(
        default=4, ge=1, description="Pieces of work of the batch lane at once, over all machines."
    )

    kill_at: str | None = Field(
        default=None, description="Kill points that end the process, for crash tests only."
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("state_dir", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        # Fixed once: a process that changes its folder later must not find another state.
        return value.expanduser().absolute()

    @field_validator("public_url", mode="after")
    @classmethod
    def _is_public(cls, value: str | None) -> str | None:
        return None if value is None else _public_url(value)

    @field_validator("database_url", "database_owner_url", "database_dagster_url", mode="after")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            url = make_url(value.get_secret_value())
        except (ArgumentError, ValueError):
            # The cause holds the value, so it is dropped.
            message = "must be a PostgreSQL URL such as postgresql://user:password@host:5432/database"
            raise ValueError(message) from None
        if url.drivername.partition("+")[0] not in {"postgres", "postgresql"}:
            message = (
                "must start with postgresql://, for PostgreSQL is the only database that the platform runs on"
            )
            raise ValueError(message)
        return value


def _public_url(value: str) -> str:
    """The URL without a slash at its end, scheme and host in lower case: whose a subscription is, is seen by it."""
    try:
        parts = urlsplit(value.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if (
        parts.scheme not in {"http", "https"}
        or not re.fullmatch(r"[a-z0-9.:-]+", host)
        or not re.fullmatch(r"[A-Za-z0-9._~/-]*", parts.path)
        or parts.username is not None
        or "?" in value
        or "#" in value
    ):
        message = "must be a URL such as https://ipaas.example.com, without user, query or fragment"
        raise ValueError(message)
    if parts.scheme == "http" and not _is_loopback(host):
        message = (
            "must start with https://, for deliveries carry keys; http is for this machine's own addresses"
        )
        raise ValueError(message)
    named = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{named}{f':{port}' if port is not None else ''}{parts.path.rstrip('/')}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings() -> Settings:
    """Read the settings, or say for each wrong one its name, what it must be, and never what it is."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = [
            f"{PREFIX}{str(each['loc'][0]).upper() if each['loc'] else ''} {_requirement(each['msg'])}"
            for each in error.errors(include_input=False, include_url=False, include_context=False)
        ]
    message = f"Wrong settings, correct them in the environment and start again: {'; '.join(wrong)}."
    raise ConfigurationError(message)


def _requirement(message: str) -> str:
    for phrase in ("Value error, ", "Input should be ", "Input "):
        if message.startswith(phrase):
            rest = message.removeprefix(phrase)
            return rest if phrase == "Value error, " else f"must be {rest}"
    return f"is wrong: {message}"
