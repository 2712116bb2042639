"""Finds the connectors: every folder beside this module that holds a `manifest.yaml`. There is no list to edit."""

from __future__ import annotations

import importlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ipaas_resources.connectors.base import ConnectorFactory, Manifest
from ipaas_resources.core.errors import ConfigurationError

if TYPE_CHECKING:
    from ipaas_resources.connectors.base import Connector, Environment, SystemDocument

_HERE = Path(__file__).parent
_MANIFEST = "manifest.yaml"


def names(folder: Path = _HERE) -> tuple[str, ...]:
    """The connectors that exist, in alphabetical order."""
    return tuple(sorted(path.parent.name for path in folder.glob(f"*/{_MANIFEST}")))


@lru_cache(maxsize=64)
def manifest(connector: str, folder: Path = _HERE) -> Manifest:
    """The manifest of one connector.

    Raises:
        ConfigurationError: there is no such connector, or its manifest is wrong (every fault is named).
    """
    known = names(folder)
    if connector not in known:
        raise ConfigurationError(
            f"There is no connector `{connector}`. Known connectors: {', '.join(known) or 'none'}."
        )
    path = folder / connector / _MANIFEST
    try:
        loaded = Manifest.model_validate(YAML(typ="safe").load(path))
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{connector}/{_MANIFEST} cannot be read as YAML: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(f"{connector}/{_MANIFEST} is wrong: {_faults(error)}") from error
    if loaded.connector != connector:
        raise ConfigurationError(
            f"{connector}/{_MANIFEST} names the connector `{loaded.connector}`; it must carry the folder's name."
        )
    for entity in loaded.entities:
        try:
            loaded.capabilities(entity)
        except ValidationError as error:
            raise ConfigurationError(
                f"{connector}/{_MANIFEST} is wrong for entity {entity}: {_faults(error)}"
            ) from error
    return loaded


def create(document: SystemDocument, environment: Environment) -> Connector:
    """The connector of one system. Sends nothing yet.

    Raises:
        ConfigurationError: the connector is unknown, or the settings are wrong (every fault is named).
    """
    declared = manifest(document.connector)
    module = importlib.import_module(f"ipaas_resources.connectors.{document.connector}.connector")
    factory = cast("ConnectorFactory", module.create)
    return factory(document, declared, environment)


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'the document'}: {fault['msg']}" for fault in error.errors()
    )
