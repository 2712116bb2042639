"""`EntityDefinitions` of the fake: tables, columns with their casts, relationships, and who offers which message.

microsoft.md 2.2 and 2.9. Everything comes in one answer, never in pages; type details only by cast.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ipaas_resources.connectors.dataverse import fake_messages
from ipaas_resources.connectors.dataverse.fake_errors import bad_url
from ipaas_resources.connectors.dataverse.fake_schema import CHOICES, HIDDEN, LOOKUPS, Column, Table
from ipaas_resources.connectors.fakes import Reply, json_reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipaas_resources.connectors.dataverse.fake_call import Call
    from ipaas_resources.connectors.dataverse.fake_organization import Organization
    from ipaas_resources.core.values import Value

Document = dict[str, "Value"]

_ONE = re.compile(
    r"EntityDefinitions\(LogicalName='([a-z0-9_]+)'\)(?:/(\w+))?(?:/Microsoft\.Dynamics\.CRM\.(\w+))?"
)
_TERM = re.compile(r"([\w/]+) eq (?:'([^']*)'|(true|false))")
_TYPES: Mapping[str, str] = {
    "Lookup": "Lookup",
    "Customer": "Lookup",
    "Owner": "Lookup",
    "Date": "DateTime",
    "Uniqueidentifier": "UniqueIdentifier",
}


def answer(organization: Organization, call: Call) -> Reply | None:
    """The answer to a metadata request, None when it is none."""
    if call.method != "GET":
        return None
    if call.path == "EntityDefinitions":
        return _list(call, [_definition(table, call) for table in organization.tables.values()])
    if call.path == "sdkmessagefilters":
        organization.allow("Read", "sdkmessagefilter")
        return _list(call, fake_messages.filters(organization))
    if call.path == "sdkmessages":
        organization.allow("Read", "sdkmessage")
        return _list(call, fake_messages.messages())
    match = _ONE.fullmatch(call.path)
    return _one(organization, call, match) if match else None


def _one(organization: Organization, call: Call, match: re.Match[str]) -> Reply:
    table = organization.tables.get(match[1])
    if table is None:
        raise bad_url(f"Could not find an entity with name {match[1]}.", 404)
    match match[2], match[3]:
        case None, None:
            return json_reply(_selected(call, _definition(table, call)))
        case "Attributes", cast:
            return _list(call, _attributes(call, table, cast))
        case "ManyToOneRelationships", None:
            return _list(call, _relationships(table))
    raise bad_url(f"Resource not found for the segment '{match[2]}'.", 404)


def _list(call: Call, documents: list[Document]) -> Reply:
    terms = call.query.get("$filter")
    if terms:
        documents = [document for document in documents if _passes(document, terms)]
    return json_reply({"value": [_selected(call, document) for document in documents]})


def _passes(document: Document, terms: str) -> bool:
    parts = terms.split(" and ")
    for part in parts:
        match = _TERM.fullmatch(part.strip("() "))
        if match is None or match[1] not in document:
            raise bad_url("The filter of a metadata query is not supported.")
        if document[match[1]] != (match[2] if match[3] is None else match[3] == "true"):
            return False
    return True


def _selected(call: Call, document: Document) -> Document:
    names = call.query.get("$select", "").split(",")
    expanded = [name.partition("(")[0] for name in call.query.get("$expand", "").split(",")]
    if names == [""]:
        return {name: value for name, value in document.items() if name not in _EXPANDED or name in expanded}
    for name in names:
        if name not in document:
            raise bad_url(f"Could not find a property named '{name}' on this metadata type.")
    kept = {"@odata.type", "MetadataId", *names, *(name for name in expanded if name)}
    return {name: value for name, value in document.items() if name in kept}


_EXPANDED = ("OptionSet", "GlobalOptionSet", "Attributes")
_ATTRIBUTES = re.compile(r"Attributes\(\$select=LogicalName;\$filter=LogicalName eq '(\w+)'\)")


def _label(text: str) -> Document:
    return {"UserLocalizedLabel": {"Label": text, "LanguageCode": 1033}}


def _definition(table: Table, call: Call) -> Document:
    """A table; with `$expand=Attributes($select=LogicalName;$filter=LogicalName eq 'x')` and that column, if any."""
    wanted = _ATTRIBUTES.fullmatch(call.query.get("$expand", ""))
    names = [wanted[1]] if wanted and wanted[1] in table.columns else []
    kinds = ("Create", "Read", "Write", "Delete") if table.creatable else ("Read", "Write")
    return {
        "MetadataId": f"table-{table.name}",
        "LogicalName": table.name,
        "EntitySetName": table.entity_set,
        "PrimaryIdAttribute": table.primary,
        "PrimaryNameAttribute": table.primary_name or None,
        "ChangeTrackingEnabled": table.tracked,
        "IsIntersect": False,
        "IsPrivate": False,
        "DisplayName": _label(table.name),
        "Attributes": [{"MetadataId": f"column-{table.name}-{name}", "LogicalName": name} for name in names],
        "Privileges": [{"Name": f"prv{kind}{table.name}", "PrivilegeType": kind} for kind in kinds],
    }


def _attributes(call: Call, table: Table, cast: str | None) -> list[Document]:
    found = []
    for column in table.columns.values():
        kind = f"{_TYPES.get(column.kind, column.kind)}AttributeMetadata"
        if cast is None:
            found.append({"@odata.type": f"#Microsoft.Dynamics.CRM.{kind}", **_attribute(table, column)})
        elif cast == kind:
            found.append({**_attribute(table, column), **_details(column)})
    if cast is None and "$expand" in call.query:
        raise bad_url(
            "Could not find a property named 'OptionSet' on type 'Microsoft.Dynamics.CRM.AttributeMetadata'."
        )
    return found


def _attribute(table: Table, column: Column) -> Document:
    key = column.name == table.primary
    return {
        "MetadataId": f"column-{table.name}-{column.name}",
        "LogicalName": column.name,
        "AttributeType": "DateTime" if column.kind == "Date" else column.kind,
        "AttributeOf": column.name.removesuffix("_base") if _is_twin(table, column) else None,
        "RequiredLevel": {
            "Value": "SystemRequired" if column.required or key else "None",
            "CanBeChanged": False,
        },
        "IsValidForCreate": column.creatable,
        "IsValidForUpdate": column.updatable,
        "IsValidForRead": True,
        "IsValidODataAttribute": column.kind not in HIDDEN,
        "IsPrimaryId": key,
        "DisplayName": _label(column.name),
    }


def _is_twin(table: Table, column: Column) -> bool:
    return column.name.endswith("_base") and column.name.removesuffix("_base") in table.columns


def _details(column: Column) -> Document:
    kind = column.kind
    if kind in LOOKUPS:
        return {"Targets": list(column.targets)}
    if kind in ("String", "Memo"):
        return {"MaxLength": column.max_length, "FormatName": {"Value": "Text"}}
    if kind in CHOICES:
        options = [
            {"Value": value, "Label": _label(label)} for value, label in (column.options or {}).items()
        ]
        return {"OptionSet": {"IsGlobal": False, "Options": options}, "GlobalOptionSet": None}
    if kind in ("DateTime", "Date"):
        behaviour = {"DateTime": "UserLocal", "Date": "DateOnly"}[kind]
        return {
            "DateTimeBehavior": {"Value": behaviour},
            "Format": f"{'DateOnly' if kind == 'Date' else 'DateAndTime'}",
        }
    return _RANGES.get(kind, {}) | ({} if column.precision is None else {"Precision": column.precision})


_RANGES: Mapping[str, Document] = {
    "Integer": {"MinValue": -(2**31), "MaxValue": 2**31 - 1},
    "Money": {"MinValue": -922337203685477, "MaxValue": 922337203685477},
    "Decimal": {"MinValue": -100_000_000_000, "MaxValue": 100_000_000_000},
    "Double": {"MinValue": -100_000_000_000, "MaxValue": 100_000_000_000},
}


def _relationships(table: Table) -> list[Document]:
    # An owner column points to one table, `owner`, which stands for users and teams alike.
    return [
        {
            "MetadataId": f"relationship-{table.name}-{navigation}-{target}",
            "SchemaName": f"{target}_{table.name}_{column.name}",
            "ReferencingAttribute": column.name,
            "ReferencingEntity": table.name,
            "ReferencedEntity": target,
            "ReferencingEntityNavigationPropertyName": navigation,
        }
        for navigation, (column, targets) in table.navigation().items()
        for target in (("owner",) if column.kind == "Owner" else targets)
    ]
