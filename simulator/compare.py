"""The comparison itself: expected target records against those that are there. Pure; `verify.py` reads both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from simulator.erp_world import Record
from simulator.expected import Expected
from simulator.prefill import Foreign

#: Differences beyond this number are only counted.
MOST = 50

_BLANK = ("", None)

Where = tuple[str, str, str]  # system, entity, scope

#: Target entities with the field of their natural key, and the field of their id.
_TARGETS = {
    ("crm", "accounts"): ("accountnumber", "accountid"),
    ("crm", "contacts"): ("externaluseridentifier", "contactid"),
    ("crm", "products"): ("productnumber", "productid"),
    ("cal", "clients"): ("LegacyId", "CompanyId"),
    ("bc", "salesOrders"): ("externalDocumentNumber", "id"),
}
#: Entities whose records are switched off when their source is gone; of the others a person decides.
_SWITCHED_OFF = frozenset({"accounts", "contacts", "products"})


class Targets:
    """The records of the target systems, by where they are."""

    def __init__(
        self, records: Mapping[Where, list[Record]], attachments: Mapping[str, list[Record]]
    ) -> None:
        self.records = records
        #: Scope -> document attachments.
        self.attachments = attachments
        self._by_key: dict[tuple[str, str], dict[str, list[Record]]] = {}

    def of_key(self, system: str, entity: str, scope: str, value: str) -> list[Record]:
        """Records that carry this natural key; Business Central's of any company where `scope` is empty."""
        index = self._by_key.get((system, entity))
        if index is None:
            index = self._by_key[system, entity] = defaultdict(list)
            field = _TARGETS[system, entity][0]
            for (a_system, an_entity, a_scope), records in self.records.items():
                if (a_system, an_entity) == (system, entity):
                    for record in records:
                        if record.get(field):
                            index[f"{a_scope}\x1f{record[field]}"].append(record)
        return index.get(f"{scope}\x1f{value}", [])


def compare(wanted: list[Expected], targets: Targets, foreign: Iterable[Foreign] = ()) -> list[str]:
    """The differences, at most MOST of them in words; pure."""
    before = {(one.entity, one.scope, one.key): one for one in foreign}
    ambiguous = {key: one for key, one in before.items() if one.ambiguous}
    found: list[str] = []
    for one in wanted:
        found += _differences(one, targets, before, ambiguous)
    found += _unwanted(wanted, targets, ambiguous)
    if len(found) > MOST:
        return [*found[:MOST], f"... and {len(found) - MOST} more differences"]
    return found


def _differences(
    wanted: Expected,
    targets: Targets,
    before: Mapping[tuple[str, str, str], Foreign],
    ambiguous: Mapping[tuple[str, str, str], Foreign],
) -> list[str]:
    field, value = wanted.key
    place = f"{wanted.system}/{wanted.entity}{f'[{wanted.scope}]' if wanted.scope else ''} {field}={value}"
    records = targets.of_key(wanted.system, wanted.entity, wanted.scope, value)
    foreign = before.get((wanted.entity, wanted.scope, value))
    if foreign is not None and foreign.ambiguous:
        return _untouched(place, records, foreign, targets, wanted)
    if not records:
        return [f"{place}: missing"]
    if len(records) > 1:
        return [f"{place}: {len(records)} records carry this key"]
    (record,) = records
    found = [
        f"{place}: {name} is {_shown(record.get(name))}, expected {_shown(due)}"
        for name, due in wanted.fields.items()
        if not _equal(record.get(name), due)
    ]
    if foreign is not None:
        found += _adopted(place, wanted, record, foreign)
    if record.get("statecode"):
        found.append(f"{place}: is inactive although its source is there")
    found += _references(place, wanted, record, targets, ambiguous)
    if wanted.lines is not None:
        found += _lines(place, wanted.lines, record["salesOrderLines"])
        found += _files(place, wanted, record, targets)
    return found


def _adopted(place: str, wanted: Expected, record: Record, foreign: Foreign) -> list[str]:
    """A record that was there before is still the same one, and what its own people wrote into it is still there."""
    (copy,) = foreign.copies
    id_field = _TARGETS[foreign.system, foreign.entity][1]
    if record[id_field] != copy[id_field]:
        return [f"{place}: another record stands where one was before the first sync"]
    return [
        f"{place}: {name} was emptied, and no flow owns it"
        for name, held in copy.items()
        if name in record and name not in wanted.fields and held not in _BLANK and record[name] in _BLANK
    ]


def _untouched(
    place: str, records: list[Record], twice: Foreign, targets: Targets, wanted: Expected
) -> list[str]:
    """An ambiguous record stands there as often as before, as it was before."""
    id_field = _TARGETS[twice.system, twice.entity][1]
    by_id = {record[id_field]: record for record in records}
    if sorted(by_id) != sorted(copy[id_field] for copy in twice.copies):
        return [f"{place}: is ambiguous and must be left alone, but {len(records)} records carry this key"]
    found = []
    for copy in twice.copies:
        record = by_id[copy[id_field]]
        found += [
            f"{place}: is ambiguous and must be left alone, but {name} is {_shown(record.get(name))}"
            for name, before in copy.items()
            if name in record and name != "salesOrderLines" and not _equal(record[name], before)
        ]
        if len(record.get("salesOrderLines", ())) != len(copy.get("salesOrderLines", ())):
            found.append(f"{place}: is ambiguous and must be left alone, but its lines were changed")
        if any(one["parentId"] == record.get("id") for one in targets.attachments.get(wanted.scope, ())):
            found.append(f"{place}: is ambiguous and must be left alone, but something was attached")
    return found


def _references(
    place: str,
    wanted: Expected,
    record: Record,
    targets: Targets,
    ambiguous: Mapping[tuple[str, str, str], Foreign],
) -> list[str]:
    found = []
    for name, reference in wanted.references.items():
        if (reference.entity, "", reference.value) in ambiguous:
            if record.get(name) is not None:
                found.append(
                    f"{place}: {name} refers to one of two records that only a person can tell apart"
                )
            continue
        id_field = _TARGETS[wanted.system, reference.entity][1]
        ids = [one[id_field] for one in targets.of_key(wanted.system, reference.entity, "", reference.value)]
        if ids != [record.get(name)]:
            found.append(f"{place}: {name} is not the id of {reference.entity} {reference.value}")
    return found


def _lines(place: str, wanted: list[dict[str, Any]], lines: list[Record]) -> list[str]:
    found = []
    by_sequence = {line["sequence"]: line for line in lines}
    if len(by_sequence) != len(lines):
        found.append(f"{place}: two lines carry the same number")
    extra = sorted(by_sequence.keys() - {line["sequence"] for line in wanted})
    if extra:
        found.append(f"{place}: unexpected lines {extra}")
    for due in wanted:
        line = by_sequence.get(due["sequence"])
        if line is None:
            found.append(f"{place}: line {due['sequence']} is missing")
            continue
        found += [
            f"{place}: line {due['sequence']}: {name} is {_shown(line.get(name))}, expected {_shown(value)}"
            for name, value in due.items()
            if not _equal(line.get(name), value)
        ]
    return found


def _files(place: str, wanted: Expected, record: Record, targets: Targets) -> list[str]:
    attached = [one for one in targets.attachments.get(wanted.scope, ()) if one["parentId"] == record["id"]]
    names = [one["fileName"] for one in attached]
    due = {file.name: file for file in wanted.files}
    found = [
        f"{place}: {name} is attached more than once" for name in sorted(set(names)) if names.count(name) > 1
    ]
    found += [f"{place}: {name} is not attached" for name in sorted(due.keys() - set(names))]
    found += [f"{place}: {name} should not be attached" for name in sorted(set(names) - due.keys())]
    for one in attached:
        file = due.get(one["fileName"])
        if file is None:
            continue
        if one["parentType"] != "Sales_x0020_Order":
            found.append(f"{place}: {file.name} hangs on a {one['parentType']}")
        if one.get("@file", {}).get("sha256") != file.sha256:
            found.append(f"{place}: the bytes of {file.name} are not the lab's")
    return found


def _unwanted(
    wanted: list[Expected], targets: Targets, ambiguous: Mapping[tuple[str, str, str], Foreign]
) -> list[str]:
    """Records that carry a key like ours and have no source."""
    keys = {(one.system, one.entity, one.scope, one.key[1]) for one in wanted}
    flows = {(one.system, one.entity) for one in wanted}
    found = []
    for (system, entity, scope), records in targets.records.items():
        if (system, entity) not in flows:
            continue
        field = _TARGETS[system, entity][0]
        for record in records:
            value = record.get(field)
            if not value or (system, entity, scope, value) in keys or (entity, scope, value) in ambiguous:
                continue
            # A contact outlives its address, not its customer.
            kept = entity == "contacts" and ("crm", "accounts", "", value) in keys
            if entity in _SWITCHED_OFF and not kept and not record["statecode"]:
                found.append(f"{system}/{entity} {field}={value}: has no source and is still active")
    return found


def _equal(held: object, due: object) -> bool:
    """Equal values; products that know no null hold blanks, and the other way round."""
    if isinstance(held, Decimal | int) and isinstance(due, Decimal | int):
        return held == due and isinstance(held, bool) == isinstance(due, bool)
    if due in _BLANK:
        return held in _BLANK
    return held == due


def _shown(value: object) -> str:
    return "empty" if value in _BLANK else repr(value) if isinstance(value, str) else str(value)
