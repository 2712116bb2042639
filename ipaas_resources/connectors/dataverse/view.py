"""What one read shows of a table: its query options, and the conversion of rows to canonical documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.dataverse.lookups import ANNOTATIONS, codecs
from ipaas_resources.core.errors import ContractError, RecordError, SchemaError
from ipaas_resources.core.records import Change, ChangeKind, Found
from ipaas_resources.net.convert import Converter, Dialect
from ipaas_resources.net.odata.etag import etag_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.connectors.dataverse.lookups import Lookup
    from ipaas_resources.connectors.dataverse.metadata import Table
    from ipaas_resources.core.values import Document, Value
    from ipaas_resources.net.odata.paging import ODataPage

Row = dict[str, Any]
Fault = tuple[str, RecordError]

_DIALECT = Dialect(zeros_are_null=True)


def order_of(etag: str | None) -> int | None:
    """The row version inside an etag: `W/"915244"` is 915244. None for any other form."""
    digits = etag[3:-1] if etag is not None and etag.startswith('W/"') else ""
    return int(digits) if digits.isascii() and digits.isdigit() else None


class View:
    """A table seen through some of its fields; through all of them when `fields` is None."""

    def __init__(self, table: Table, fields: Sequence[str] | None) -> None:
        """Compile. Raises SchemaError when a field does not exist."""
        self.table = table
        self.entity = table.entity
        self.primary = table.primary
        names = {field.name: field for field in table.schema.fields}
        if fields is not None:
            unknown = [name for name in fields if name not in names]
            if unknown:
                raise SchemaError(
                    f"{table.entity} has no field {', '.join(unknown)}; discover the entity again and correct the flow."
                )
            names = {name: field for name, field in names.items() if name in {*fields, table.primary}}
        companions = self._companions(table, names)
        #: `$select`; empty for all columns: naming two hundred of them would fill the address.
        self.select: tuple[str, ...] = ()
        if fields is not None:
            self.select = tuple(dict.fromkeys(_wire(name, names[name].wire, companions) for name in names))
        #: What `Prefer` must ask for.
        self.wishes: tuple[str, ...] = (ANNOTATIONS,) if companions else ()
        self._annotations = tuple(lookup.annotation for lookup in companions.values())
        self._converter = Converter(
            table.schema, _DIALECT, fields=set(names), codecs=codecs(table.lookups, companions)
        )

    def _companions(self, table: Table, names: dict[str, Any]) -> dict[str, Lookup]:
        made = {lookup.companion: lookup for lookup in table.lookups.values() if lookup.polymorphic}
        # A column of that name may exist beside it; then it is the column.
        return {
            name: made[name] for name in names if name in made and names[name].wire == made[name].annotation
        }

    def document(self, row: Row, *, storable: bool = False) -> Document:
        """The canonical document of a row. Raises ContractError."""
        for annotation in self._annotations:
            # Absent when the lookup is empty; the reader takes the quick road only for rows that are whole.
            if annotation not in row:
                row[annotation] = None
        return self._converter.reader(storable=storable)(row)

    def body(self, fields: Document, *, create: bool) -> dict[str, Any]:
        """The request body of canonical fields. Raises ContractError."""
        return self._converter.write(fields, create=create)

    def found(self, row: Row, *, storable: bool = False) -> Found:
        """A row that was looked up. Raises ContractError."""
        etag = etag_of(row)
        return Found(
            id=row[self.primary].lower(),
            document=self.document(row, storable=storable),
            etag=etag,
            order=order_of(etag),
        )

    def add_changes(
        self, page: ODataPage, rows: Sequence[Row], changes: list[Change], faults: list[Fault]
    ) -> None:
        """Convert rows of a page: deleted ones to tombstones; one that breaks the schema is a fault."""
        for row in rows:
            etag = etag_of(row)
            if etag is None and str(row.get("@odata.context", "")).endswith("/$deletedEntity"):
                changes.append(Change(kind=ChangeKind.DELETE, id=self._key(page, row, "id")))
                continue
            identifier = self._key(page, row, self.primary)
            try:
                document = self.document(row, storable=page.storable)
            except ContractError as error:
                faults.append((identifier, error))
                continue
            changes.append(
                Change(
                    kind=ChangeKind.UPSERT, id=identifier, document=document, etag=etag, order=order_of(etag)
                )
            )

    def key_values(self, page: ODataPage, row: Row, fields: Sequence[str]) -> tuple[str, tuple[Value, ...]]:
        """Id and asked values of a row of a key listing; a value that breaks the schema hides its row's values."""
        identifier = self._key(page, row, self.primary)
        if not fields:
            return identifier, ()
        try:
            document = self.document(row, storable=page.storable)
        except ContractError:
            return identifier, (None,) * len(fields)
        return identifier, tuple(document[name] for name in fields)

    @staticmethod
    def _key(page: ODataPage, row: Row, name: str) -> str:
        value = row.get(name)
        if not isinstance(value, str) or not value:
            raise page.response.broken(f"a record in it has no {name}")
        return value.lower()


def _wire(name: str, wire: str | None, companions: dict[str, Lookup]) -> str:
    if name in companions:
        return f"_{companions[name].name}_value"
    return wire or name
