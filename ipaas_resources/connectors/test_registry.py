"""The registry finds connectors by their folders, and says what is wrong with a manifest."""

from __future__ import annotations

import pytest

from ipaas_resources.connectors import registry
from ipaas_resources.connectors.base import EntityCapabilities, Environment, SystemDocument
from ipaas_resources.core.clock import ManualClock, SeededIds
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.core.limits import Unlimited

GOOD = """
connector: toy
title: Toy
limits: {requests: 10, window: 1, concurrency: 1}
defaults: {create: none, write_batch: 7}
entities:
  things: {create: natural_key, natural_key: [code]}
"""


@pytest.fixture
def folder(tmp_path):
    registry.manifest.cache_clear()
    yield tmp_path
    registry.manifest.cache_clear()


def put(folder, text, name="toy"):
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "manifest.yaml").write_text(text, encoding="utf-8")
    return folder


def test_the_connectors_of_this_repository_are_found_by_their_manifests():
    assert {"business_central", "calibration", "dataverse"} <= set(registry.names())
    for name in registry.names():
        assert registry.manifest(name).connector == name


def test_a_folder_without_a_manifest_is_no_connector(folder):
    (folder / "shared_parts").mkdir()
    put(folder, GOOD)
    assert registry.names(folder) == ("toy",)


def test_an_entity_takes_the_defaults_except_for_what_it_names(folder):
    manifest = registry.manifest("toy", put(folder, GOOD))
    assert manifest.capabilities("others") == EntityCapabilities(write_batch=7)
    assert manifest.capabilities("things") == EntityCapabilities(
        create="natural_key", natural_key=("code",), write_batch=7
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (GOOD.replace("title: Toy", "titel: Toy"), "titel"),
        (GOOD.replace("window: 1,", ""), "limits.window"),
        (GOOD.replace("create: none", "create: maybe"), "defaults.create"),
        (GOOD.replace("natural_key: [code]", "natural_keys: [code]"), "things"),
        (GOOD.replace("connector: toy", "connector: tin"), "tin"),
        ("limits: [", "YAML"),
        ("- a", "manifest.yaml is wrong"),
        ("a: &x 1\na: 2", "YAML"),
    ],
)
def test_a_wrong_manifest_says_where(folder, text, word):
    with pytest.raises(ConfigurationError, match=r"toy/manifest\.yaml") as error:
        registry.manifest("toy", put(folder, text))
    assert word in str(error.value)


def test_an_unknown_connector_names_the_known_ones():
    document = SystemDocument(system="x", connector="telepathy")
    environment = Environment(
        system="x", clock=ManualClock(), ids=SeededIds(1), limits=Unlimited(), secret=lambda name: name
    )
    with pytest.raises(ConfigurationError) as error:
        registry.create(document, environment)
    assert "telepathy" in str(error.value)
    assert "calibration" in str(error.value)


@pytest.mark.parametrize("name", ["..", "", "calibration/../calibration", "."])
def test_a_name_that_is_a_path_is_unknown(name):
    with pytest.raises(ConfigurationError):
        registry.manifest(name)
