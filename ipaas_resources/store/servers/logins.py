"""The three logins in which every server ends, and what any server can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

from sqlalchemy.engine import make_url

OWNER_ROLE = "ipaas_owner"
APP_ROLE = "ipaas_app"
DAGSTER_ROLE = "ipaas_dagster"
DATABASE = "ipaas"
DAGSTER_DATABASE = "dagster"

#: Is told what a long step does.
Report = Callable[[str], None]


@dataclass(frozen=True, repr=False)
class DatabaseUrls:
    """The three logins, each as an SQLAlchemy URL with its password."""

    owner: str
    app: str
    dagster: str

    def __repr__(self) -> str:
        """Show who logs in where, without the passwords."""
        shown = (f"{name}={make_url(url).render_as_string()}" for name, url in asdict(self).items())
        return f"DatabaseUrls({', '.join(shown)})"


class DatabaseServer(Protocol):
    """A server that holds the platform's database and Dagster's."""

    def start(self) -> DatabaseUrls:
        """Make sure that the server answers and has roles and databases; return the logins."""

    def stop(self) -> None:
        """Stop the server if it is ours."""

    def stop_if_unused(self) -> bool:
        """Stop the server if it is ours and no other process has started it too; say whether it was stopped."""

    def admin_url(self) -> str:
        """Return the login that may make roles and databases, as an SQLAlchemy URL (valid after `start`)."""

    def describe(self) -> dict[str, str]:
        """Say what runs where, without secrets, for `ipaas doctor`."""
