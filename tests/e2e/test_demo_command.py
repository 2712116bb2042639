"""`ipaas demo --once --json` as a user types it: one object on stdout, everything else on stderr, nothing left behind."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from ipaas_resources.store.server import EmbeddedServer
from tests.e2e.world import FLOWS


class Demo:
    """One demo that was run to its end."""

    def __init__(self, folder, taken):
        self.folder = folder
        self.taken = taken
        command = Path(sys.executable).with_name("ipaas.exe" if os.name == "nt" else "ipaas")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("IPAAS_")}
        done = subprocess.run(
            [str(command), "demo", "--once", "--json"],
            env={
                **environment,
                "IPAAS_STATE_DIR": str(folder),
                "IPAAS_SIMULATOR_PORT": str(taken),
                # An installation that is there must not be touched by a demo; nothing listens here anyway.
                "IPAAS_DATABASE_URL": "postgresql://someone:hunter2@127.0.0.1:9/installation",
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=folder,
        )
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def demo():
    folder = Path(tempfile.mkdtemp(prefix="ipaas-demo-"))
    folder.chmod(0o711)  # the database's own account has to pass, when the tests run as root
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        try:
            yield Demo(folder, taken.getsockname()[1])
        finally:
            EmbeddedServer(folder / "demo").destroy()
            shutil.rmtree(folder, ignore_errors=True)


def test_stdout_is_one_json_object_and_everything_is_verified(demo):
    assert demo.code == 0, demo.err
    result = json.loads(demo.out)
    assert result["verified"] is True
    assert (result["differences"], result["error"]) == ([], "")
    assert result["records"] >= 2000
    assert result["created"] >= 2000
    assert (result["dead"], result["review"], result["pending"]) == (0, 0, 0)
    assert result["seconds"] > 0


def test_the_object_has_the_promised_keys_and_its_sums_add_up(demo):
    result = json.loads(demo.out)
    promised = {"flows", "records", "created", "adopted", "updated", "skipped", "dead", "verified", "seconds"}
    assert promised <= result.keys()
    assert {flow["flow"] for flow in result["flows"]} == set(FLOWS)
    assert sum(flow["received"] for flow in result["flows"]) == result["records"]
    outcomes = sum(sum(flow["outcomes"].values()) for flow in result["flows"])
    settled = sum(result[name] for name in ("created", "adopted", "updated", "skipped"))
    # What parks for a moment, a contact before its account, is counted once more.
    assert outcomes - sum(flow["outcomes"].get("parked", 0) for flow in result["flows"]) == settled
    for flow in result["flows"]:
        for target in flow["targets"].values():
            assert sum(count for name, count in target.items() if name != "parked") == flow["received"]


def test_stderr_tells_what_goes_on_and_where(demo):
    for system, scheme in {"bc": "http", "crm": "http", "cal": "http", "login": "https"}.items():
        assert re.search(rf"^  {system}: {scheme}://127\.0\.0\.1:\d+$", demo.err, re.MULTILINE)
    assert "Making the embedded database" in demo.err
    assert "3 systems and 3 flows applied" in demo.err
    for flow in FLOWS:
        assert re.search(rf"^  {flow}: \d+ read; .* in [\d.]+ s$", demo.err, re.MULTILINE)
    assert "Traceback" not in demo.err
    assert "hunter2" not in demo.err


def test_a_taken_port_is_named_and_the_next_free_one_is_used(demo):
    used = re.search(rf"^Port {demo.taken} is taken; the simulator uses (\d+)$", demo.err, re.MULTILINE)
    assert used is not None, demo.err
    ports = [int(port) for port in re.findall(r"https?://127\.0\.0\.1:(\d+)$", demo.err, re.MULTILINE)]
    assert min(ports) >= int(used.group(1)) > demo.taken
    assert len(set(ports)) == 4


def test_no_secret_is_shown(demo):
    written = list((demo.folder / "demo" / "simulator").glob("*-secret")) + list(
        (demo.folder / "demo" / "simulator").glob("*-token")
    )
    assert len(written) == 6  # three for signing in, three that deliveries are signed or proven with
    for path in written:
        assert path.read_text(encoding="utf-8") not in demo.out + demo.err


def test_nothing_goes_on_running(demo):
    assert EmbeddedServer(demo.folder / "demo").process_id() is None
    left = [
        process.pid
        for process in psutil.process_iter()
        if any(str(demo.folder) in word for word in _command(process))
    ]
    assert left == []


def _command(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []
