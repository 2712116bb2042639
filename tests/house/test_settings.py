"""Settings: read from the environment; a wrong one is named, its value never shown."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from ipaas_resources.core.errors import ConfigurationError, DatabaseUnavailableError
from ipaas_resources.settings import Settings, load_settings
from ipaas_resources.store.server import ExternalServer, open_server


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch):
    for name in [name for name in os.environ if name.startswith("IPAAS_")]:
        monkeypatch.delenv(name)


def test_without_any_setting_the_state_is_beside_the_caller(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.database_url is None
    assert settings.state_dir == tmp_path / ".ipaas"
    assert (settings.webserver_port, settings.console_port) == (3000, 8000)


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch):
    monkeypatch.setenv("IPAAS_DATABASE_URL", "")
    monkeypatch.setenv("IPAAS_CONSOLE_PORT", "")
    assert load_settings() == Settings()


def test_the_folder_is_fixed_when_it_is_read(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = Settings(state_dir=Path("here"))
    monkeypatch.chdir("/")
    assert settings.state_dir == tmp_path / "here"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IPAAS_CONSOLE_PORT", "canary"),
        ("IPAAS_CONSOLE_PORT", "70123"),
        ("IPAAS_LOG_LEVEL", "canary"),
        ("IPAAS_DATABASE_URL", "mysql://canary:70123@db/x"),
        ("IPAAS_DATABASE_OWNER_URL", "canary"),
        ("IPAAS_DATABASE_DAGSTER_URL", "postgresql://canary:70123@db:port/x"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not_shown(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert name in str(caught.value)
    assert not re.search("canary|70123", str(caught.value))
    assert caught.value.__context__ is None


def test_all_wrong_settings_are_named_at_once(monkeypatch):
    monkeypatch.setenv("IPAAS_CONSOLE_PORT", "x")
    monkeypatch.setenv("IPAAS_LOG_LEVEL", "x")
    with pytest.raises(ConfigurationError, match=r"IPAAS_LOG_LEVEL must be .*; IPAAS_CONSOLE_PORT must be "):
        load_settings()


def test_a_password_is_not_shown_with_the_settings(monkeypatch):
    monkeypatch.setenv("IPAAS_DATABASE_URL", "postgresql://u:canary@127.0.0.1/x")
    assert "canary" not in repr(load_settings())


def test_two_of_the_three_urls_are_a_mistake_that_is_named(tmp_path):
    url = "postgresql://u:p@127.0.0.1/x"
    with pytest.raises(ConfigurationError, match="IPAAS_DATABASE_DAGSTER_URL is missing"):
        open_server(Settings(database_url=url, database_owner_url=url))
    with pytest.raises(ConfigurationError, match="IPAAS_DATABASE_URL is not"):
        open_server(Settings(database_owner_url=url))


def test_a_server_that_is_down_is_one_sentence(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"postgresql://u:canary@127.0.0.1:{probe.getsockname()[1]}/x"
        server = ExternalServer(Settings(database_url=url, state_dir=tmp_path))
        with pytest.raises(
            DatabaseUnavailableError, match=r"IPAAS_DATABASE_URL cannot be used: nothing listens"
        ) as caught:
            server.start()
    assert "canary" not in str(caught.value)
