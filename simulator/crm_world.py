"""The Dataverse side of the world at the start: unit groups and units, which products refer to.

The ids are the same in every environment, as they are when configuration data travels with a solution; the lookup
tables of mappings/lookups name them.
"""

from __future__ import annotations

import msgspec

from simulator.erp_world import Record
from simulator.made_ids import made_guid

#: Unit code -> the name of its unit group. The codes are those that the demo companies' items are kept in.
UNIT_GROUPS = {
    "HOUR": "Time",
    "DAY": "Time",
    "PCS": "Pieces",
    "CAN": "Packages",
    "BOX": "Packages",
    "PACK": "Packages",
    "PALLET": "Packages",
    "SET": "Pieces",
    "KG": "Weight",
}
_BASE = {"Time": "HOUR", "Pieces": "PCS", "Packages": "CAN", "Weight": "KG"}
_HOLDS = {"DAY": 8, "BOX": 12, "PACK": 6, "PALLET": 480}


class CrmWorld(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in Dataverse at the start: entity set -> rows; a lookup column holds the id of its row."""

    records: dict[str, list[Record]]


def build_crm_world() -> CrmWorld:
    """Four unit groups and their units."""
    return CrmWorld(
        records={
            "uomschedules": [
                {"uomscheduleid": unit_group_id(group), "name": group, "baseuomname": base}
                for group, base in _BASE.items()
            ],
            "uoms": [
                {
                    "uomid": unit_id(code),
                    "name": code,
                    "quantity": _HOLDS.get(code, 1),
                    "uomscheduleid": unit_group_id(group),
                    "baseuom": None if _BASE[group] == code else unit_id(_BASE[group]),
                }
                for code, group in UNIT_GROUPS.items()
            ],
        }
    )


def unit_id(code: str) -> str:
    """The id of a unit in Dataverse."""
    return made_guid("uoms", code)


def unit_group_id(group: str) -> str:
    """The id of a unit group in Dataverse."""
    return made_guid("uomschedules", group)
