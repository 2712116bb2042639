"""Mapping a batch: rules run without waiting, so the links they ask for are read in between, all at once."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence

import msgspec

from ipaas_assets.sync.lookup import References
from ipaas_assets.sync.model import TargetWork
from ipaas_resources.core.errors import ContractError, MappingError, RecordError
from ipaas_resources.core.records import FileRef
from ipaas_resources.store.database import Database
from ipaas_resources.store.queue import Claimed
from mappings.mapped import Mapped

log = logging.getLogger(__name__)

#: A reference may hang on another one (its `of` is a rule with a ref); no deeper than this.
_ROUNDS = 3


async def map_batch(
    database: Database,
    work: TargetWork,
    items: Sequence[Claimed],
    references: References,
    sides: dict[str, tuple[str, str]],
) -> list[Mapped | RecordError | None]:
    """Per item: its image in the target, the record error of its rules, or None when it is gone or filtered."""
    if work.target.references:
        for _ in range(_ROUNDS):
            for item in items:
                _want(work, item, references)
            if not await references.fetch(database, work, sides):
                break
    return [_map(work, item, references) for item in items]


def _want(work: TargetWork, item: Claimed, references: References) -> None:
    if item.deleted or item.document is None or item.bad is not None:
        return
    try:
        near = references.at(item.scope)
        for ref, value in work.target.wants(item.document, item.scope, item.record, near):
            near.link(ref, value)
    except Exception:  # noqa: BLE001 - mapping meets the same fault and sets the record aside with its reason
        return


def _map(work: TargetWork, item: Claimed, references: References) -> Mapped | RecordError | None:
    document = item.document
    if item.deleted or document is None:
        return None
    if item.bad is not None:
        return ContractError(item.bad[1], code=item.bad[0])
    try:
        if not work.target.when(document, item.scope):
            return None
        image = work.target.map(document, item.scope, item.record, references.at(item.scope))
        work.fitting.fit(image)
        if image.files:
            image.files = {name: _owned_by(work, name, file) for name, file in image.files.items()}
    except RecordError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a defect of ours that one record meets must not stop the others
        # Without the message: it may quote a value.
        place = "".join(traceback.format_tb(error.__traceback__))
        log.error("Mapping a record of %s met %s:\n%s", work.name, type(error).__name__, place)  # noqa: TRY400
        return MappingError(
            f"The rules of {work.name} met a fault of the platform ({type(error).__name__}). Report it with the log; "
            "the record is set aside and can be replayed.",
            code="platform_fault",
        )
    return image


def _owned_by(work: TargetWork, field: str, file: FileRef) -> FileRef:
    """The file as one of the source: a document must not make us fetch something from another system."""
    source = work.queue.source_system
    if file.system not in {"", source}:
        raise MappingError(
            f"Field {field!r} of {work.name} names a file of another system than {source}; only files of the source "
            "are sent. Check the source record.",
            code="foreign_file",
            field=field,
        )
    return msgspec.structs.replace(file, system=source)
