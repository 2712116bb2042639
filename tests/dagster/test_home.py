from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

import dagster as dg
import psutil
import pytest
import yaml
from dagster import EventLogEntry
from dagster._core.launcher.base import WorkerStatus

from console.dagster import storage
from console.dagster.launcher import WatchedRunLauncher
from console.dagster_home import REPOSITORY, DagsterHome, home_of, reload_running, request_reload
from ipaas_assets.workers import WORKER_TAG, is_alive, this_worker
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.settings import Settings

URL = "postgresql+psycopg2://ipaas_dagster:hidden@127.0.0.1:5432/dagster"


@pytest.fixture
def home(tmp_path: Path) -> DagsterHome:
    made = DagsterHome(Settings(state_dir=tmp_path / "state"), dagster_url=URL)
    made.prepare()
    return made


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_home_holds_the_repositorys_instance_and_a_workspace_on_our_code_server(
    home: DagsterHome,
) -> None:
    copied = (home.path / "dagster.yaml").read_text()
    location = yaml.safe_load((home.path / "workspace.yaml").read_text())["load_from"][0]["grpc_server"]

    assert copied == (REPOSITORY / "dagster.yaml").read_text()
    assert (location["host"], location["port"], location["location_name"]) == ("127.0.0.1", 3010, "ipaas")


def test_both_workspaces_call_the_location_the_same(home: DagsterHome) -> None:
    plain = yaml.safe_load((REPOSITORY / "workspace.yaml").read_text())["load_from"][0]["python_module"]
    assert plain["location_name"] == "ipaas"
    assert (plain["module_name"], plain["attribute"]) == ("definitions", "defs")


def test_the_instance_keeps_its_state_in_the_platforms_server(
    stored: dg.DagsterInstance, dagster_url: str
) -> None:
    assert isinstance(stored.run_launcher, WatchedRunLauncher)
    assert stored.run_launcher.supports_check_run_worker_health
    assert stored.run_retries_enabled
    assert not stored.run_retries_retry_on_asset_or_op_failure
    assert not stored.telemetry_enabled
    assert stored.run_monitoring_enabled
    stored.add_dynamic_partitions("kept", ["here"])
    other = storage.PlatformStorage(dagster_url)
    assert list(other.event_log_storage.get_dynamic_partitions("kept")) == ["here"]


def test_the_reference_that_dagster_passes_on_command_lines_holds_no_password(
    stored: dg.DagsterInstance, dagster_url: str
) -> None:
    from dagster_shared.serdes import serialize_value

    password = dagster_url.split("@", maxsplit=1)[0].rpartition(":")[2]
    assert password
    assert password not in serialize_value(stored.get_ref())


def test_no_command_line_holds_a_secret_and_every_process_gets_the_home(home: DagsterHome) -> None:
    services = home.services()

    assert [service.name for service in services] == ["code-server", "webserver", "daemon"]
    for service in services:
        assert "postgresql" not in " ".join(service.command)
        assert service.environment["DAGSTER_HOME"] == str(home.path)
        assert service.environment["IPAAS_DAGSTER_URL"].startswith("postgresql+psycopg2://")


def test_the_code_server_stays_on_this_machine_whatever_the_webserver_listens_on(tmp_path: Path) -> None:
    home = DagsterHome(
        Settings(state_dir=tmp_path, host="0.0.0.0"),
        dagster_url="postgresql+psycopg2://x/y",
        webserver_port=3333,
    )
    code_server, webserver, _ = home.services()

    assert code_server.address == ("127.0.0.1", 3010)
    assert "0.0.0.0" not in code_server.command
    assert webserver.url == "http://127.0.0.1:3333"


def test_a_state_folder_that_cannot_be_written_is_told_with_its_place(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file")

    with pytest.raises(ConfigurationError, match="IPAAS_STATE_DIR"):
        DagsterHome(Settings(state_dir=blocked), dagster_url="").prepare()


def test_the_url_is_the_one_handed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPAAS_DAGSTER_URL", "postgresql+psycopg2://somewhere/dagster")

    assert storage.dagster_url() == "postgresql+psycopg2://somewhere/dagster"


def test_nothing_is_reloaded_where_nothing_runs(home: DagsterHome, tmp_path: Path, unused_port: int) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    assert request_reload(f"http://127.0.0.1:{unused_port}") is False
    (home_of(settings) / "running.json").write_text(
        json.dumps({"webserver": f"http://127.0.0.1:{unused_port}"})
    )
    assert reload_running(settings) is False
    assert reload_running(Settings(state_dir=tmp_path / "never")) is False


def idle_process() -> psutil.Popen:
    return psutil.Popen([sys.executable, "-c", "import signal; signal.sigwait([signal.SIGTERM])"])


# --- workers --------------------------------------------------------------------------------------------------------


def test_this_process_is_alive_and_others_are_not_taken_for_it() -> None:
    host, pid, created = this_worker().rsplit("/", 2)

    assert is_alive(this_worker()) is True
    assert is_alive(f"{host}/{pid}/{float(created) - 100:.2f}") is False  # the id was used again
    assert is_alive(f"{host}/999999999/{created}") is False
    assert is_alive(f"elsewhere/{pid}/{created}") is None


def test_a_run_whose_process_is_gone_is_seen(stored: dg.DagsterInstance) -> None:
    @dg.job
    def nothing() -> None:
        pass

    process = idle_process()
    worker = f"{this_worker().rsplit('/', 2)[0]}/{process.pid}/{process.create_time():.2f}"
    run = stored.create_run_for_job(
        job_def=nothing, status=dg.DagsterRunStatus.STARTED, tags={WORKER_TAG: worker}
    )
    assert stored.run_launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING

    process.kill()
    process.wait()

    found = stored.run_launcher.check_run_worker_health(run)
    assert found.status is WorkerStatus.FAILED
    assert str(process.pid) in found.msg


def test_a_run_that_started_and_never_came_to_a_step_is_given_up_after_a_while(
    stored: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.job
    def nothing() -> None:
        pass

    run = stored.create_run_for_job(job_def=nothing, status=dg.DagsterRunStatus.STARTING)
    stored.handle_new_event(_started(run))
    run = stored.get_run_by_id(run.run_id)
    assert stored.run_launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING

    started = stored.get_run_record_by_id(run.run_id).start_time
    monkeypatch.setattr(WatchedRunLauncher, "clock", staticmethod(lambda: started + 61))

    assert stored.run_launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def _started(run: dg.DagsterRun) -> EventLogEntry:
    return EventLogEntry(
        error_info=None,
        level=20,
        user_message="",
        run_id=run.run_id,
        timestamp=time.time(),
        job_name=run.job_name,
        dagster_event=dg.DagsterEvent(event_type_value="PIPELINE_START", job_name=run.job_name),
    )


def test_a_hard_kill_leaves_no_zombie_taken_for_a_worker() -> None:
    if os.name != "posix":
        pytest.skip("zombies are POSIX")
    process = idle_process()
    worker = f"{this_worker().rsplit('/', 2)[0]}/{process.pid}/{process.create_time():.2f}"
    process.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        os.sched_yield()
    assert is_alive(worker) is False
    process.wait()
