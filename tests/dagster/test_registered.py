from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipaas_assets.registered import COPY_NAME, read_registered, within
from ipaas_resources.core.errors import DatabaseUnavailableError
from ipaas_resources.store.server import DatabaseUrls
from tests.dagster.rig import BACK, CUSTOMERS, Installation, keys


def nowhere() -> str:
    """A login at a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"postgresql+psycopg://ipaas_app:hidden@127.0.0.1:{port}/ipaas"


def test_the_copy_of_a_good_day_is_used_when_the_database_is_down(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS, BACK)
    good = installation.registered()
    assert good.problem == ""

    with caplog.at_level(logging.ERROR):
        copy = read_registered(nowhere, installation.settings.state_dir)

    assert copy.flows == good.flows
    assert copy.systems == good.systems
    assert "last good copy" in copy.problem
    assert copy.problem in caplog.text
    assert "hidden" not in caplog.text


def test_definitions_load_from_the_copy_with_the_same_assets(installation: Installation) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS)
    before = keys(installation.definitions())

    class Down(Installation):
        def registered(self):
            return read_registered(nowhere, self.settings.state_dir)

    down = Down(installation.urls, installation.settings.state_dir)

    assert keys(down.definitions()) == before
    assert len(before) == 6


def test_without_a_copy_nothing_is_shown_and_the_reason_is_told(tmp_path: Path) -> None:
    found = read_registered(nowhere, tmp_path)

    assert found.flows == ()
    assert "no copy of it yet" in found.problem
    assert "ipaas doctor" in found.problem


def test_a_damaged_copy_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / COPY_NAME).write_text('{"flows": [')

    assert "no copy of it yet" in read_registered(nowhere, tmp_path).problem


def test_the_copy_holds_no_settings_and_no_secret_references(installation: Installation) -> None:
    installation.connect("bc")
    installation.registered()

    path = installation.settings.state_dir / COPY_NAME
    text = path.read_text()
    assert json.loads(text)["systems"][0]["connector"] == "bc_product"
    assert "PASSWORD" not in text
    assert "hidden.example" not in text
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0


def test_a_copy_that_cannot_be_written_does_not_stop_the_load(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    installation.settings.state_dir.write_text("a file where the folder should be")

    assert installation.registered().problem == ""
    assert "was not written" in caplog.text


def test_a_database_without_tables_says_how_to_make_them(
    empty_database: DatabaseUrls, tmp_path: Path
) -> None:
    problem = read_registered(lambda: empty_database.app, tmp_path).problem

    assert "no tables of the platform yet" in problem


@pytest.fixture
def silent() -> Iterator[str]:
    """A login at a server that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"postgresql+psycopg://ipaas_app:x@127.0.0.1:{listening.getsockname()[1]}/ipaas"


def test_a_server_that_says_nothing_holds_nobody_longer_than_the_limit(silent: str, tmp_path: Path) -> None:
    (tmp_path / COPY_NAME).write_text("{}")

    problem = read_registered(lambda: silent, tmp_path, limit=0.2).problem

    assert "last good copy" in problem
    assert "did not answer within 0.2 s" in problem


def test_without_a_copy_it_is_waited_for_longer(silent: str, tmp_path: Path) -> None:
    assert "within 1 s" in read_registered(lambda: silent, tmp_path, limit=0.1).problem


def test_within_gives_the_value_and_the_error_of_its_work() -> None:
    assert within(1, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(1, lambda: 1 // 0)
    never = threading.Event()
    with pytest.raises(DatabaseUnavailableError):
        within(0.01, never.wait)
    never.set()


def test_differences_name_flows_that_are_new_changed_switched_or_gone(installation: Installation) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS, BACK)
    before = installation.registered()
    assert before.differences(before) == []

    installation.enable("clients_to_customers", enabled=False)
    installation.apply(CUSTOMERS + "# changed\n", BACK.replace("clients_to_customers", "third"))

    now = installation.registered()
    assert before.differences(now) == ["clients_to_customers", "customers_to_clients", "third"]
