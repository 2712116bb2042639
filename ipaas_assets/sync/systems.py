"""System documents: read from YAML, checked by their connectors, stored all or none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from ipaas_assets.sync.engine import Engine
from ipaas_resources.connectors import registry as connectors
from ipaas_resources.connectors.base import SystemDocument
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store import registry
from ipaas_resources.store.registry import StoredSystem

#: What a reference to a secret looks like; see ipaas_resources/secrets.py.
_REFERENCE = re.compile(r"(env|file):.+")
_ID = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_SAID = {
    "missing": "is missing",
    "extra_forbidden": "has no meaning here",
    "model_type": "is no mapping of words and values",
}


def load_systems(path: Path) -> list[StoredSystem]:
    """The system documents of one YAML file (several documents allowed) or of all of a folder.

    Raises:
        ConfigurationError: a file cannot be read, is no YAML, or is no system document; every fault is named.
    """
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files:
        raise ConfigurationError(f"There is no system document (*.yaml) in {path}.")
    faults: list[str] = []
    stored: list[StoredSystem] = []
    for file in files:
        stored += _load_system_file(file, faults)
    names = [system.system for system in stored]
    faults += [
        f"system {name!r} stands in two documents" for name in sorted(set(names)) if names.count(name) > 1
    ]
    if faults:
        raise ConfigurationError("; ".join(faults) + ". Nothing was stored.")
    return stored


def _load_system_file(file: Path, faults: list[str]) -> list[StoredSystem]:
    try:
        text = file.read_text(encoding="utf-8")
        documents = list(YAML(typ="safe", pure=True).load_all(text))
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{file.name} cannot be read ({error.__class__.__name__})")
        return []
    except YAMLError as error:
        faults.append(f"{file.name}{_yaml_fault(error)}")
        return []
    stored = []
    for content in documents:
        try:
            document = SystemDocument.model_validate(content)
        except ValidationError as error:
            faults += [f"{file.name}: {said}" for said in map(_said, error.errors())]
            continue
        faults += [f"{file.name}: {said}" for said in _wrong_words(document)]
        stored.append(
            StoredSystem(
                system=document.system,
                connector=document.connector,
                document=document.model_dump(mode="json", exclude_unset=True),
                text=text,
                paused=False,
            )
        )
    return stored


def _yaml_fault(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f":{mark.line + 1}" if mark is not None else ""
    problem = str(getattr(error, "problem", None) or "the text is malformed").splitlines()[0]
    if isinstance(error, DuplicateKeyError):
        # The library's own sentence quotes both values, which may be secrets.
        key = problem.partition('"')[2].partition('"')[0]
        return f"{place}: {key!r} stands there a second time"
    return f"{place}: this is not YAML: {problem}"


def _said(error: ErrorDetails) -> str:
    """One fault of a document in words; never what stands there, for it may be a secret in the wrong place."""
    place = ".".join(str(part) for part in error["loc"]) or "the document"
    return f"{place} {_SAID.get(error['type']) or 'is wrong: ' + error['msg'][:1].lower() + error['msg'][1:]}"


def _wrong_words(document: SystemDocument) -> Iterable[str]:
    if not _ID.fullmatch(document.system):
        yield "the id of a system is lower snake case: small letters, digits and single underscores"
    for name, reference in document.secrets.items():
        if not _REFERENCE.fullmatch(reference):
            yield (
                f"secrets.{name} must be a reference such as env:NAME or file:PATH, for secrets themselves do not "
                "belong in documents"
            )


async def apply_systems(engine: Engine, path: Path) -> list[str]:
    """Check and store system documents; the names. Connectors check their own settings; nothing is sent."""
    stored = load_systems(path)
    for system in stored:
        connectors.manifest(system.connector)
        engine.connect(SystemDocument.model_validate(system.document))
    await registry.save_systems(engine.database, stored)
    return [system.system for system in stored]
