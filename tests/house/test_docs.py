"""What the pages tell a reader is so: their system documents are accepted, their links lead somewhere."""

import importlib
import re
from pathlib import Path

import pytest

from ipaas_assets.sync.systems import load_systems
from ipaas_resources.connectors import registry
from ipaas_resources.connectors.base import SystemDocument

REPOSITORY = Path(__file__).resolve().parents[2]
CONNECTING = REPOSITORY / "docs" / "connecting_a_system.md"
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]

#: What checks `settings`, `secrets` and `scopes` of each connector, and the model of its settings.
CHECKS = {
    "business_central": ("read_settings", "Settings"),
    "calibration": ("settings_of", "Settings"),
    "dataverse": ("settings_of", "DataverseSettings"),
}

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def _config(connector):
    return importlib.import_module(f"ipaas_resources.connectors.{connector}.config")


def _documents(folder):
    """The documents of the page, read the way `ipaas systems apply` reads a folder."""
    blocks = re.findall(
        r"^```yaml system\n(.*?)^```$", CONNECTING.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    for number, block in enumerate(blocks):
        (folder / f"{number}.yaml").write_text(block, encoding="utf-8")
    return [SystemDocument.model_validate(stored.document) for stored in load_systems(folder)]


def test_the_page_shows_one_document_for_each_connector(tmp_path):
    assert sorted(document.connector for document in _documents(tmp_path)) == sorted(CHECKS)


@pytest.mark.parametrize("connector", sorted(CHECKS))
def test_the_document_of_the_page_is_accepted_by_its_connector(connector, tmp_path):
    (document,) = [each for each in _documents(tmp_path) if each.connector == connector]
    assert registry.manifest(connector).connector == connector
    check, _ = CHECKS[connector]
    settings = getattr(_config(connector), check)(document)
    assert settings.model_fields_set == set(document.settings)


@pytest.mark.parametrize("connector", sorted(CHECKS))
def test_the_page_names_every_setting_of_a_connector(connector):
    page = CONNECTING.read_text(encoding="utf-8")
    (section,) = [each for each in page.split("\n## ") if f"connector: {connector}\n" in each]
    _, model = CHECKS[connector]
    said = set(re.findall(r"\w+", section))
    assert set(getattr(_config(connector), model).model_fields) - said == set()


def test_the_page_names_every_word_of_a_document():
    said = set(re.findall(r"`(\w+)`", CONNECTING.read_text(encoding="utf-8")))
    assert set(SystemDocument.model_fields) - said == set()


def _links(page):
    text = _CODE.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))
    return [link for link in _LINK.findall(text) if "://" not in link and not link.startswith("mailto:")]


def _anchors(page):
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_image_of_a_page_leads_somewhere(page):
    dead = []
    for link in _links(page):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            dead.append(link)
    assert dead == []


def test_links_are_found_at_all():
    assert "docs/architecture.md" in _links(REPOSITORY / "README.md")
    assert "docs/lineage.png" in _links(REPOSITORY / "README.md")
