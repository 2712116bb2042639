"""A real PostgreSQL 15 from the machine's own packages, beside the embedded server.

    python -m tests.house.postgres15 [pytest arguments]

runs pytest against it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ipaas_resources.core.platform import give_to, is_root, service_account

PROGRAMS = Path(os.sep, "usr", "lib", "postgresql", "15", "bin")
MISSING = "PostgreSQL 15 is not installed here (Debian: apt install postgresql-15; .ci/run does it)"


def is_installed() -> bool:
    return (PROGRAMS / "postgres").exists()


@dataclass(frozen=True)
class Server:
    port: int
    password: str
    data_dir: Path

    def url(self, user: str = "postgres", password: str | None = None, database: str = "postgres") -> str:
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"


@contextlib.contextmanager
def postgres_15() -> Iterator[Server]:
    """A server of its own, with a password, that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ipaas-postgres15-"))
    folder.chmod(0o711)
    account = service_account("ipaas-db") if is_root() else None
    options = account.popen_options() if account else {}
    data, password_file, password = folder / "data", folder / "password", secrets.token_urlsafe(16)
    data.mkdir(mode=0o700)
    password_file.touch(mode=0o600)
    password_file.write_text(password, encoding="utf-8")
    if account:
        give_to(account, data)
        give_to(account, password_file)

    def run(program: str, *arguments: str) -> None:
        with tempfile.TemporaryFile("w+") as output:
            result = subprocess.run(
                [PROGRAMS / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder.anchor,
                env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
                **options,
            )
            output.seek(0)
            assert result.returncode == 0, output.read()

    try:
        run(
            "initdb", "-D", str(data), "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={password_file}",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = (
            f"-p {port} -h 127.0.0.1 -k '' -F -c max_connections=200 -c jit=off -c authentication_timeout=5s"
        )
        run("pg_ctl", "start", "--wait", "-D", str(data), "-l", str(data / "log"), "-o", settings)
        try:
            yield Server(port, password, data)
        finally:
            run("pg_ctl", "stop", "--wait", "-m", "immediate", "-D", str(data))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    if not is_installed():
        sys.stderr.write(f"Skipped: {MISSING}.\n")
        return 0
    with postgres_15() as server:
        environment = {**os.environ, "IPAAS_TEST_DATABASE_URL": server.url()}
        return subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
