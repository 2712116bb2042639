"""DAGSTER_HOME of one installation, the three Dagster processes on it, and how they are told of new flows.

Dagster itself is not imported here: the commands are started by the supervisor, and the webserver is spoken to over HTTP.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ipaas_resources.core.errors import ConfigurationError, StopError
from ipaas_resources.core.platform import write_private
from ipaas_resources.settings import Settings

REPOSITORY: Final = Path(__file__).resolve().parent.parent
#: The code location's name, here and in workspace.yaml.
LOCATION: Final = "ipaas"

_RUNNING: Final = "running.json"
#: Seconds for loading the definitions anew; a code server on a busy machine takes ten.
_RELOAD_LIMIT: Final = 180
_RELOAD: Final = """
mutation Reload($location: String!) {
  reloadRepositoryLocation(repositoryLocationName: $location) {
    __typename
    ... on WorkspaceLocationEntry {
      locationOrLoadError { __typename ... on PythonError { message causes { message } } }
    }
    ... on ReloadNotSupported { message }
    ... on RepositoryLocationNotFound { message }
    ... on UnauthorizedError { message }
    ... on PythonError { message }
  }
}
"""


@dataclass(frozen=True)
class Service:
    """One Dagster process: how it is started and how one sees that it is up."""

    name: str
    title: str
    command: list[str]
    environment: Mapping[str, str]
    #: Answers as soon as the process works.
    address: tuple[str, int] | None = None
    url: str | None = None

    def answers(self) -> bool:
        """True when something listens at its address; a process without one cannot be asked."""
        if self.address is None:
            return True
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(self.address) == 0


class DagsterHome:
    """The folder that Dagster works in, and the processes on it."""

    def __init__(
        self,
        settings: Settings,
        *,
        dagster_url: str,
        webserver_port: int | None = None,
        code_server_port: int | None = None,
    ) -> None:
        """Ports are those of the settings where none are given (the supervisor takes others when they are taken)."""
        self.path = home_of(settings)
        self._settings = settings
        self._dagster_url = dagster_url
        self._webserver_port = webserver_port or settings.webserver_port
        self._code_server_port = code_server_port or settings.code_server_port
        # The code server speaks gRPC without a login, so it stays on this machine whatever `host` says.
        self._code_server_host = "127.0.0.1"

    @property
    def webserver_url(self) -> str:
        """Where the Dagster UI answers."""
        host = self._settings.host
        return f"http://{'127.0.0.1' if host in {'0.0.0.0', '::'} else host}:{self._webserver_port}"  # noqa: S104

    def prepare(self) -> None:
        """Make the folder: dagster.yaml of the repository, a workspace that points at our code server, our addresses.

        Raises:
            ConfigurationError: the folder cannot be written, or the repository's dagster.yaml is not there.
        """
        source = REPOSITORY / "dagster.yaml"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_private(self.path / "dagster.yaml", source.read_text(encoding="utf-8"))
            write_private(self.path / "workspace.yaml", self._workspace())
            write_private(self.path / _RUNNING, json.dumps({"webserver": self.webserver_url}))
        except OSError as error:
            raise ConfigurationError(
                f"DAGSTER_HOME could not be prepared ({error.strerror}: {error.filename or self.path}). Make that place "
                "readable and writable for this user, or set IPAAS_STATE_DIR."
            ) from error

    def environment(self) -> dict[str, str]:
        """What every Dagster process gets on top of our own environment."""
        return {
            "DAGSTER_HOME": str(self.path),
            "IPAAS_STATE_DIR": str(self._settings.state_dir),
            "IPAAS_DAGSTER_URL": self._dagster_url,
            # Of these settings, whatever our own environment says: the demo has a database of its own. Empty: not set.
            **{
                f"IPAAS_{name.upper()}": value.get_secret_value() if value is not None else ""
                for name in ("database_url", "database_owner_url", "database_dagster_url")
                for value in (getattr(self._settings, name),)
            },
            # A code server that was killed leaves its child; it goes when nobody has asked for it this long.
            "DAGSTER_GRPC_PROXY_HEARTBEAT_TTL_SECONDS": "20",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")])),
        }

    def services(self) -> list[Service]:
        """The three processes, in the order in which they are started."""
        environment = self.environment()
        code_server, webserver = str(self._code_server_port), str(self._webserver_port)
        level = self._settings.log_level.lower()
        workspace = ["--workspace", str(self.path / "workspace.yaml")]
        return [
            Service(
                name="code-server",
                title="Dagster code server",
                command=[
                    *_python("dagster", "code-server", "start"),
                    *("--host", self._code_server_host, "--port", code_server),
                    *("--module-name", "definitions", "--attribute", "defs"),
                    *("--working-directory", str(REPOSITORY), "--location-name", LOCATION),
                    *("--log-level", level),
                ],
                environment=environment,
                address=(self._code_server_host, self._code_server_port),
            ),
            Service(
                name="webserver",
                title="Dagster UI",
                command=[
                    *_python("dagster_webserver"),
                    *("--host", self._settings.host, "--port", webserver, *workspace),
                    *("--log-level", "warning", "--dagster-log-level", level),
                ],
                environment=environment,
                address=("127.0.0.1", self._webserver_port)
                if self._settings.host in {"0.0.0.0", "::"}  # noqa: S104
                else (self._settings.host, self._webserver_port),
                url=self.webserver_url,
            ),
            Service(
                name="daemon",
                title="Dagster daemon",
                command=[*_python("dagster._daemon", "run"), *workspace, "--log-level", level],
                environment=environment,
            ),
        ]

    def _workspace(self) -> str:
        return (
            "# Written at each start: the code server that the supervisor runs.\n"
            "load_from:\n"
            "  - grpc_server:\n"
            f"      host: {self._code_server_host}\n"
            f"      port: {self._code_server_port}\n"
            f"      location_name: {LOCATION}\n"
        )


def home_of(settings: Settings) -> Path:
    """The folder of an installation that is DAGSTER_HOME."""
    return settings.state_dir / "dagster"


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


# --- reload -----------------------------------------------------------------------------------------------------


def reload_running(settings: Settings) -> bool:
    """Let a running Dagster of this installation show the flows that are active now. False: none runs.

    Raises:
        StopError: it runs, but the definitions do not load.
    """
    try:
        url = json.loads((home_of(settings) / _RUNNING).read_text(encoding="utf-8"))["webserver"]
    except (OSError, ValueError, KeyError):
        return False
    return request_reload(url)


def request_reload(webserver_url: str) -> bool:
    """Ask a webserver to have the code location loaded anew, and wait for it. False: nobody answers there.

    The webserver tells the code server, which starts a new process for the new definitions and lets the old one finish
    its runs; the daemon notices by itself.

    Raises:
        StopError: it answers, but the definitions do not load.
    """
    body = json.dumps({"query": _RELOAD, "variables": {"location": LOCATION}}).encode()
    request = urllib.request.Request(  # noqa: S310 - the address of our own webserver
        f"{webserver_url}/graphql", data=body, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_RELOAD_LIMIT) as answer:  # noqa: S310 - the same
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        raise StopError(f"The Dagster webserver refused to reload the flows (HTTP {error.code}).") from error
    except OSError:
        return False
    problem = _problem(found)
    if problem:
        raise StopError(f"The flows are stored, but Dagster could not load them: {problem}")
    return True


def _problem(found: Mapping[str, Any]) -> str:
    """Why the answer to the mutation is no success, '' when it is one."""
    if found.get("errors"):
        return str(found["errors"][0].get("message", "unknown"))
    entry = (found.get("data") or {}).get("reloadRepositoryLocation") or {}
    loaded = entry.get("locationOrLoadError") or {}
    if (
        entry.get("__typename") == "WorkspaceLocationEntry"
        and loaded.get("__typename") == "RepositoryLocation"
    ):
        return ""
    # The last cause is what happened; the errors around it say that loading went wrong.
    causes = [cause["message"] for cause in loaded.get("causes") or []]
    message = (causes or [loaded.get("message")])[-1] or entry.get("message") or "the answer says nothing"
    return str(message).strip().splitlines()[-1]
