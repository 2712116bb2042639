"""What the registry says, read once when the definitions load; from the last good copy while the database is down."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import msgspec
from sqlalchemy.exc import DBAPIError

from ipaas_resources.core.errors import DatabaseUnavailableError, IpaasError
from ipaas_resources.core.platform import run_async, write_private
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.store import registry
from ipaas_resources.store.database import Database
from ipaas_resources.store.registry import StoredFlow

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds that loading the definitions waits for the database.
READ_LIMIT = 2.0
#: So many times longer where there is no copy yet: late is better than empty.
_WITHOUT_COPY = 10
COPY_NAME = "registry.json"
_NO_SUCH_TABLE = "42P01"


class KnownSystem(msgspec.Struct, frozen=True, kw_only=True):
    """What the graph needs of a system: no settings, no secret references."""

    system: str
    connector: str
    title: str = ""
    paused: bool = False


class KnownSchema(msgspec.Struct, frozen=True, kw_only=True):
    """The newest snapshot of an entity's schema."""

    system: str
    entity: str
    schema: EntitySchema


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """The systems and the active version of every flow, disabled ones included."""

    systems: tuple[KnownSystem, ...] = ()
    flows: tuple[StoredFlow, ...] = ()
    #: For the definitions alone: what Dagster shows of an asset whose last event brings no columns.
    schemas: tuple[KnownSchema, ...] = ()
    #: Why this is the last good copy; empty when it was read from the database.
    problem: str = ""

    def differences(self, now: Registered) -> list[str]:
        """Flows whose version or switch is another one now, by name."""
        mine, theirs = ({flow.flow: flow for flow in each.flows} for each in (self, now))
        return sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))


def read_registered(app_url: Callable[[], str], state_dir: Path, *, limit: float = READ_LIMIT) -> Registered:
    """Read the registry within the limit (seconds, longer without a copy); never raises for a database that is down.

    `app_url` gives the URL of the run-time login; looking for the server counts towards the limit.
    """
    copy = state_dir / COPY_NAME
    if not copy.is_file():
        limit *= _WITHOUT_COPY
    try:
        found = within(limit, lambda: run_async(fetch_registered(app_url(), schemas=True)))
    except IpaasError as error:
        return _last_good_copy(copy, error.message)
    _keep_copy(copy, found)
    return found


async def fetch_registered(app_url: str, *, schemas: bool = False) -> Registered:
    """The registry as it is now, with the newest schemas where they are wanted. Raises DatabaseUnavailableError."""
    database = Database(app_url, pool_size=2)
    try:
        systems = await registry.list_systems(database)
        flows = await registry.active_flows(database)
        known = await registry.newest_schemas(database) if schemas else {}
    except DBAPIError as error:
        raise _unreadable(error) from None
    finally:
        await database.close()
    return Registered(
        systems=tuple(
            KnownSystem(
                system=each.system,
                connector=each.connector,
                title=str(each.document.get("title", "")),
                paused=each.paused or not each.document.get("enabled", True),
            )
            for each in systems
        ),
        flows=tuple(flows),
        schemas=tuple(
            KnownSchema(system=system, entity=entity, schema=schema)
            for (system, entity), schema in known.items()
        ),
    )


def _unreadable(error: DBAPIError) -> DatabaseUnavailableError:
    state = getattr(error.orig, "sqlstate", None) or "unknown"
    if state == _NO_SUCH_TABLE:
        return DatabaseUnavailableError(
            "The database has no tables of the platform yet. Start it with `ipaas up`, which makes them.",
            code="not_migrated",
        )
    return DatabaseUnavailableError(
        f"The database refuses to read the registry (SQLSTATE {state}). Check with `ipaas doctor`."
    )


def within(seconds: float, work: Callable[[], T]) -> T:
    """Do the work in a thread of its own and wait for it this long.

    A thread, because a host name that does not resolve or a port that swallows packets blocks in C, where no timeout
    of ours reaches; and because the caller may stand in an event loop.

    Raises:
        DatabaseUnavailableError: it took longer; the thread is left behind and ends with the process.
    """
    answer: Future[T] = Future()

    def do() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again where the answer is awaited
            answer.set_exception(error)

    threading.Thread(target=do, name="registry", daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError:
        raise DatabaseUnavailableError(
            f"The PostgreSQL server did not answer within {seconds:g} s. Check with `ipaas doctor` that it runs."
        ) from None


def _keep_copy(path: Path, found: Registered) -> None:
    text = msgspec.json.encode(found).decode()
    try:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, text)
    except OSError as error:
        # The copy is for a bad day; today the registry was read.
        log.warning("The copy of the registry in %s was not written: %s", path, error.strerror)


def _last_good_copy(path: Path, reason: str) -> Registered:
    try:
        copy = msgspec.json.decode(path.read_bytes(), type=Registered)
    except (OSError, msgspec.DecodeError):
        problem = (
            f"The registry could not be read and there is no copy of it yet: no flows are shown. {reason}"
        )
        log.error(problem)  # noqa: TRY400 - the reason is the sentence, a traceback adds nothing
        return Registered(problem=problem)
    problem = f"The registry could not be read; the flows are those of its last good copy. {reason}"
    log.error(problem)
    return msgspec.structs.replace(copy, problem=problem)
