"""A full disk under the database: one clear sentence, nothing half applied, and with space again the work goes on.

The disk is a small one in memory, which only root can make.
"""

import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from ipaas_resources.core.platform import is_root
from ipaas_resources.store.server import EmbeddedServer
from simulator.verify import verify
from tests.e2e.running import REPOSITORY, Platform, simulator
from tests.e2e.world import ITEMS

pytestmark = pytest.mark.skipif(not is_root(), reason="only root can mount a small disk")

FULL = (
    "The disk of the PostgreSQL server is full: nothing of this step was stored. Free space and start again."
)
#: Bytes that are left: less than the records of the flow need.
LEFT = 2_500_000


class SmallDisk:
    """A mounted disk with the state folder of an installation, and what fills it."""

    def __init__(self, place):
        self.place = place
        self.state = place / "state"
        self._ballast = place / "ballast"

    def fill(self, left):
        free = shutil.disk_usage(self.place).free
        subprocess.run(["fallocate", "-l", str(free - left), str(self._ballast)], check=True)

    def free(self):
        self._ballast.unlink()

    def ask(self, *statements):
        """The rows of the last of these statements of the superuser."""
        url = make_url(EmbeddedServer(self.state).admin_url()).set(drivername="postgresql", database="ipaas")
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
            for statement in statements:
                rows = connection.execute(statement)
            return rows.fetchall() if rows.description else []

    def registry(self):
        tables = ("flows", "flow_versions", "lookups")
        return [self.ask(f"SELECT t::text FROM {table} t ORDER BY 1") for table in tables]


@pytest.fixture
def disk():
    folder = Path(tempfile.mkdtemp(prefix="ipaas-disk-"))
    folder.chmod(0o711)
    place = folder / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200m,mode=0755", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        shutil.rmtree(folder)
        pytest.skip("no right to mount a small disk here")
    made = SmallDisk(place)
    # In use by this process too, so that it is not started and stopped by every command.
    server = EmbeddedServer(made.state)
    try:
        server.start()
        yield made
    finally:
        server.destroy()
        subprocess.run(["umount", str(place)], check=True)
        shutil.rmtree(folder)


def sentence(done):
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("ipaas: ")]
    return said.removeprefix("ipaas: ")


def test_a_full_disk_is_one_sentence_and_with_space_again_the_work_is_done(disk, tmp_path):
    with simulator(tmp_path / "simulator") as client:
        # The run that the disk stops holds its records no longer than this.
        platform = Platform(None, disk.state, IPAAS_LEASE_SECONDS="2")
        platform.must("systems", "apply", client.ready.systems)
        platform.must("apply", str(REPOSITORY / "mappings" / "patterns"))
        # A fresh segment of the log: it is the tables that have no room.
        disk.ask("SELECT pg_switch_wal()", "CHECKPOINT")
        disk.fill(LEFT)
        assert sentence(platform.call("run", ITEMS)) == FULL
        assert len(client.records("crm", "products")) < client.ready.records["items"]

        before = disk.registry()
        # A changed lookup table, and a flow that has no room: neither may be stored without the other.
        shutil.copytree(REPOSITORY / "mappings" / "lookups", tmp_path / "flows" / "lookups")
        with (tmp_path / "flows" / "lookups" / "service_items.csv").open("a", encoding="utf-8") as table:
            table.write("Inspection,SER101,for the test\n")
        flow = (REPOSITORY / "mappings" / "patterns" / f"{ITEMS}.yaml").read_text(encoding="utf-8")
        remarks = "".join(f"# {secrets.token_hex(48)}\n" for _ in range(4000))
        (tmp_path / "flows" / "flow.yaml").write_text(flow + remarks, encoding="utf-8")
        assert sentence(platform.call("apply", str(tmp_path / "flows"), "--yes")) == FULL
        assert disk.registry() == before

        disk.free()
        result = platform.run(ITEMS)
        assert (result["error"], result["pending"], result["dead"], result["review"]) == ("", 0, 0, 0)
        assert verify(client, flows=[ITEMS]) == []
        assert len(client.records("crm", "products")) == client.ready.records["items"]
        assert platform.run(ITEMS, "--full")["counts"]["writes"] == 0
        assert "lookup service_items: version" in platform.must("apply", str(tmp_path / "flows"), "--yes")
