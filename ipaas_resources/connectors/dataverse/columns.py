"""One column of a table -> one field of a schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.core.schema import FieldSchema, FieldType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipaas_resources.connectors.dataverse.lookups import Lookup

Row = dict[str, Any]

_TYPES: Mapping[str, FieldType] = {
    "String": "text",
    "Memo": "text",
    "Integer": "integer",
    "BigInt": "integer",
    "Decimal": "decimal",
    "Double": "decimal",
    "Money": "decimal",
    "Boolean": "boolean",
    "DateTime": "datetime",
    "Picklist": "enum",
    "State": "enum",
    "Status": "enum",
    "Lookup": "reference",
    "Customer": "reference",
    "Owner": "reference",
    "Uniqueidentifier": "guid",
}
# AttributeType says Virtual of these; a choice column of several values travels as text, "1,2".
_MULTIPLE = f"#{'Microsoft.Dynamics.CRM'}.MultiSelectPicklistAttributeMetadata"

#: Change with every write, whoever made it.
VOLATILE = frozenset({"versionnumber", "modifiedon"})

# The platform fills these itself when a create leaves them out, although it calls them required.
_FILLED = frozenset({"Owner", "State", "Status", "Boolean", "Picklist", "Uniqueidentifier"})
_FILLED_NAMES = frozenset({"transactioncurrencyid"})
# Begin the names of columns that speak of a person: everywhere, and in tables whose rows are persons.
_PERSONAL = ("emailaddress", "telephone", "mobilephone", "birthdate", "governmentid")
_PERSONAL_OF_PERSONS = (
    *("firstname", "lastname", "middlename", "fullname", "nickname", "yomi", "salutation", "suffix"),
    *("address", "home", "fax", "pager", "internalemailaddress", "personalemailaddress", "mobilealert"),
    *("spousesname", "childrensnames", "anniversary", "familystatuscode", "gendercode", "haschildren"),
    *("assistant", "manager", "callback"),
)
_PERSONS = frozenset({"contact", "lead", "systemuser"})


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What the cast of a column adds."""

    cast: str
    row: Row


def skipped(row: Row) -> bool:
    """Whether rows do not carry this column: it cannot be read, or has no property of its own."""
    if not row.get("IsValidForRead", True) or not row.get("IsValidODataAttribute", True):
        return True
    return row.get("AttributeType") not in _TYPES and row.get("@odata.type") != _MULTIPLE


def field_of(
    row: Row, details: Details | None, lookup: Lookup | None, *, table: str, primary: str
) -> FieldSchema:
    """The field of a column of this table (logical name)."""
    name: str = row["LogicalName"]
    kind: str = row["AttributeType"]
    more = details.row if details is not None else {}
    type_ = _TYPES.get(kind, "text")
    if kind == "DateTime" and (more.get("DateTimeBehavior") or {}).get("Value") == "DateOnly":
        type_ = "date"
    # The key of a new record is the id of its operation, never a mapped value.
    creatable = bool(row.get("IsValidForCreate")) and name != primary
    updatable = bool(row.get("IsValidForUpdate")) and name != primary
    if type_ == "reference" and (lookup is None or not lookup.targets):
        # No table that we could name in a bind.
        creatable = updatable = False
    options = _options(more) if type_ == "enum" else {}
    return FieldSchema(
        name=name,
        type=type_,
        required=creatable and _insists(row, kind, name),
        nullable=name != primary,
        creatable=creatable,
        updatable=updatable,
        max_length=more.get("MaxLength") if type_ == "text" else None,
        scale=more.get("Precision") if type_ == "decimal" else None,
        minimum=_number(more.get("MinValue")),
        maximum=_number(more.get("MaxValue")),
        enum=tuple(options) or None,
        targets=tuple(lookup.targets) if lookup is not None else (),
        volatile=name in VOLATILE,
        sensitivity="personal" if _personal(table, name) else "none",
        wire=f"_{name}_value" if type_ == "reference" else None,
        description=", ".join(f"{value} {label}" for value, label in options.items()),
    )


def _personal(table: str, name: str) -> bool:
    return name.startswith(_PERSONAL) or (table in _PERSONS and name.startswith(_PERSONAL_OF_PERSONS))


def _insists(row: Row, kind: str, name: str) -> bool:
    # ApplicationRequired binds forms only; the API refuses a create for SystemRequired alone.
    level = (row.get("RequiredLevel") or {}).get("Value")
    return level == "SystemRequired" and kind not in _FILLED and name not in _FILLED_NAMES


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _options(row: Row) -> dict[int, str]:
    """Choice values with their labels; a global choice has its options elsewhere."""
    own = row.get("OptionSet") or row.get("GlobalOptionSet") or {}
    return {
        option["Value"]: ((option.get("Label") or {}).get("UserLocalizedLabel") or {}).get("Label") or ""
        for option in own.get("Options") or ()
        if option.get("Value") is not None
    }
