"""The check of whole pages with pandera: same meaning as the row check of contract.py, written apart.

pandera judges each column with one check. The check looks at the column as a whole first (kinds of value, longest text,
members), which costs next to nothing, and at its cells only when something is wrong. The frame holds object columns
only, so no value is ever converted; what comes back are positions and reasons.
"""

from __future__ import annotations

from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING, Final

from mappings.contract_rules import (
    MISSING_FIELD,
    NOT_A_MEMBER,
    NOT_AN_OBJECT,
    NULL,
    PATTERNS,
    TYPES,
    Violation,
    has_members,
    is_file,
    is_too_long,
    may_miss,
    too_long,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    import pandera.pandas as pa

    from ipaas_resources.core.schema import EntitySchema, FieldSchema
    from ipaas_resources.core.values import Document, Value


class _Absent:
    """Stands in a cell for a field that the document does not have."""


_ABSENT: Final = _Absent()

_PYTHON_TYPES: Final[dict[str, frozenset[type]]] = {
    "text": frozenset({str}),
    "integer": frozenset({int}),
    "decimal": frozenset({int, Decimal}),
    "boolean": frozenset({bool}),
    "date": frozenset({str}),
    "datetime": frozenset({str}),
    "time": frozenset({str}),
    "guid": frozenset({str}),
    "enum": frozenset({str, int}),
    "reference": frozenset({str, int}),
    "file": frozenset({dict}),
    "lines": frozenset({list}),
    "object": frozenset({dict}),
    "list": frozenset({list}),
    "any": frozenset({str, int, bool, Decimal, list, dict}),
}


class _Column:
    """What pandera is told about one field."""

    def __init__(self, field: FieldSchema) -> None:
        self.field = field
        self.fits, wrong_type = TYPES[field.type]
        self._kinds = _PYTHON_TYPES[field.type]
        if field.nullable:
            self._kinds |= {NoneType}
        if may_miss(field):
            self._kinds |= {_Absent}
        self._members = frozenset(field.enum or ()) if has_members(field) else None
        self._cells: list[tuple[str, Callable[[Value], bool]]] = [
            (MISSING_FIELD, lambda cell: cell is not _ABSENT or may_miss(field)),
            (NULL, lambda cell: cell is not None or field.nullable),
            (wrong_type, lambda cell: cell is None or cell is _ABSENT or self.fits(cell)),
            (NOT_A_MEMBER, self._is_member),
            (too_long(field.max_length or 0), self._is_short_enough),
        ]

    def _is_member(self, cell: Value) -> bool:
        return self._members is None or cell is None or not self.fits(cell) or cell in self._members

    def _is_short_enough(self, cell: Value) -> bool:
        limit = self.field.max_length
        return limit is None or type(cell) is not str or not self.fits(cell) or not is_too_long(cell, limit)

    def reasons(self, cell: Value) -> list[str]:
        """Why this cell fails, in the order of the row check."""
        return [reason for reason, test in self._cells if not test(cell)]

    def check(self, cells: pd.Series[Value]) -> pd.Series[bool] | bool:
        """True when the whole column is fine, else a verdict per cell; pandera takes both."""
        import pandas as pd  # noqa: PLC0415 - costs half a second; only pages need it

        values = cells.to_numpy().tolist()
        if self._is_fine(values):
            return True
        return pd.Series([not self.reasons(value) for value in values], index=cells.index, dtype=bool)

    def _is_fine(self, values: list[Value]) -> bool:
        kinds = set(map(type, values))
        if not kinds <= self._kinds:
            return False
        if NoneType in kinds or _Absent in kinds:
            values = [value for value in values if value is not None and value is not _ABSENT]
        pattern = PATTERNS.get(self.field.type)
        if pattern is not None and not all(map(pattern.fullmatch, values)):
            return False
        if Decimal in kinds and not all(value.is_finite() for value in values if type(value) is Decimal):
            return False
        if self.field.type == "file" and not all(map(is_file, values)):
            return False
        if self._members is not None and not self._members.issuperset(values):
            return False
        texts = values if kinds <= _ONLY_TEXT else [value for value in values if type(value) is str]
        return self.field.max_length is None or max(map(len, texts), default=0) <= self.field.max_length


_ONLY_TEXT: Final = frozenset({str, NoneType, _Absent})


class PageCheck:
    """pandera's schema of some fields, and those of their lines."""

    def __init__(self, fields: Sequence[FieldSchema]) -> None:
        import pandera.pandas as pa  # noqa: PLC0415 - costs two seconds; only pages need it

        self._columns = {field.name: _Column(field) for field in fields}
        self.schema = pa.DataFrameSchema(
            {
                name: pa.Column(
                    dtype=None,  # the check looks at each value's own type; a dtype is what pandas made of it
                    checks=pa.Check(column.check, ignore_na=False, name="contract"),
                    nullable=True,
                    coerce=False,
                )
                for name, column in self._columns.items()
            },
            strict=False,
            coerce=False,
        )
        self._lines = {
            field.name: PageCheck(field.fields) for field in fields if field.type == "lines" and field.fields
        }

    def check(self, documents: Sequence[Document]) -> dict[int, list[Violation]]:
        """Position -> violations in the order of the fields; positions without any are left out."""
        if not documents or not self._columns:
            return {}
        failed = self._failed(documents)
        for name, page in self._lines.items():
            self._check_lines(name, page, documents, failed)
        order = {name: number for number, name in enumerate(self._columns)}
        return {
            position: [
                violation
                for _, found in sorted(cells.items(), key=lambda cell: order[cell[0]])
                for violation in found
            ]
            for position, cells in sorted(failed.items())
        }

    def _failed(self, documents: Sequence[Document]) -> dict[int, dict[str, list[Violation]]]:
        import pandas as pd  # noqa: PLC0415 - see above
        from pandera.errors import SchemaErrors  # noqa: PLC0415 - see above

        frame = pd.DataFrame(
            {name: [document.get(name, _ABSENT) for document in documents] for name in self._columns},
            dtype=object,
        )
        failed: dict[int, dict[str, list[Violation]]] = {}
        try:
            self.schema.validate(frame, lazy=True)
        except SchemaErrors as errors:
            for error in errors.schema_errors:
                # A failure that is not about cells (a check that raised) must not pass for a verdict.
                if not isinstance(error.check_output, pd.Series):
                    raise
                name = str(error.schema.name)
                for position in error.check_output.index[~error.check_output.astype(bool)]:
                    reasons = self._columns[name].reasons(documents[position].get(name, _ABSENT))
                    failed.setdefault(int(position), {})[name] = [
                        Violation(name, reason) for reason in reasons
                    ]
        return failed

    def _check_lines(
        self,
        name: str,
        page: PageCheck,
        documents: Sequence[Document],
        failed: dict[int, dict[str, list[Violation]]],
    ) -> None:
        """The lines of all documents are one page of their own."""
        rows: list[Document] = []
        homes: list[tuple[int, int]] = []
        found: dict[tuple[int, int], list[Violation]] = {}
        for position, document in enumerate(documents):
            lines = document.get(name)
            for number, row in enumerate(lines if type(lines) is list else ()):
                if type(row) is dict:
                    rows.append(row)
                    homes.append((position, number))
                else:
                    found[position, number] = [Violation(f"{name}[{number}]", NOT_AN_OBJECT)]
        for place, violations in page.check(rows).items():
            prefix = f"{name}[{homes[place][1]}]"
            found[homes[place]] = [Violation(f"{prefix}.{inner.field}", inner.reason) for inner in violations]
        for (position, _), violations in sorted(found.items()):
            failed.setdefault(position, {}).setdefault(name, []).extend(violations)


def pandera_schema(schema: EntitySchema) -> pa.DataFrameSchema:
    """The pandera schema of an entity's own fields; lines are pages of their own, see check_page."""
    return PageCheck(schema.fields).schema


def check_page(schema: EntitySchema, documents: Sequence[Document]) -> dict[int, list[Violation]]:
    """Check a page with pandera: position in the page -> its violations; positions without any are left out."""
    return PageCheck(schema.fields).check(documents)
