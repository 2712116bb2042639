"""Documents and their lines: numbering, what a line takes from its item, totals, and the header's version."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.business_central.fake_errors import refused
from ipaas_resources.connectors.business_central.fake_rules import ZERO_GUID
from ipaas_resources.connectors.business_central.fake_table import Row, Table

if TYPE_CHECKING:
    from ipaas_resources.connectors.business_central.catalogue import EntitySet

Tables = Callable[[str], Table]

#: Line numbers stand this far apart, so that lines can be put between them.
LINE_STEP = 10_000
_PARTNERS = {"sales": ("customer", "customers"), "purchase": ("vendor", "vendors")}
_ADDRESS = ("AddressLine1", "AddressLine2", "City", "Country", "State", "PostCode")
_ADDRESS_PREFIXES = {"customers": ("sellTo", "billTo", "shipTo"), "vendors": ("buyFrom", "payTo")}
_DATES = ("orderDate", "documentDate", "invoiceDate", "creditMemoDate", "postingDate")
_SECOND_PARTNER = {"customers": "billTo", "vendors": "payTo"}


def partner_of(known: EntitySet) -> tuple[str, str] | None:
    """(stem, entity set) of the customer or vendor that a document must name."""
    for prefix, found in _PARTNERS.items():
        if known.name.startswith(prefix) and f"{found[0]}Id" in known.columns and known.lines:
            return found
    return None


def complete_header(
    table: Table, values: dict[int, Any], related: dict[str, Row], tables: Tables, *, today: str
) -> None:
    """Fill what a new document takes from its customer or vendor, and its dates from the work date.

    Raises:
        BusinessCentralError: it names none.
    """
    partner = partner_of(table.set)
    if partner is None:
        return
    for name in _DATES:
        if name in table.index:
            values.setdefault(table.index[name], today)
    stem, source = partner
    row = related.get(stem)
    if row is None:
        raise refused(f"A {stem}Number or a {stem}ID must be provided.")
    theirs = tables(source)
    same = ("phoneNumber", "email", "currencyId", "currencyCode", "paymentTermsId", "shipmentMethodId")
    defaults = {name: name for name in same}
    for prefix in _ADDRESS_PREFIXES[source]:
        for part in _ADDRESS:
            defaults[prefix + part] = "postalCode" if part == "PostCode" else part[0].lower() + part[1:]
        defaults[f"{prefix}Name"] = "displayName"
    second = _SECOND_PARTNER[source] + stem.capitalize()
    defaults |= {f"{second}Id": "id", f"{second}Number": "number"}
    for name, theirs_name in defaults.items():
        position = table.index.get(name)
        if position is not None and theirs_name in theirs.index:
            values.setdefault(position, row.values[theirs.index[theirs_name]])


def complete_line(table: Table, values: dict[int, Any], header: Row, *, new: bool, tables: Tables) -> None:
    """Fill what a line takes from its item or account, and give it a number.

    Raises:
        BusinessCentralError: both item and account, an unknown one, a number that is taken.
    """
    index = table.index
    if "sequence" in index and new:
        _give_number(values, index["sequence"], header)
    if "lineObjectNumber" not in index:
        return
    item, account, number, kind = (
        index.get("itemId"),
        index.get("accountId"),
        index["lineObjectNumber"],
        index["lineType"],
    )
    has_item = _given(values, item)
    has_account = _given(values, account)
    if has_item and has_account:
        raise refused('Both "itemId" and "accountId" are specified. Specify only one of them.')
    if new and kind not in values and (has_item or has_account or values.get(number)):
        values[kind] = "Account" if has_account else "Item"
    source = "accounts" if has_account or values.get(kind) == "Account" else "items"
    theirs = tables(source)
    row = None
    own = account if source == "accounts" else item
    if own is not None and _given(values, own):
        row = theirs.rows.get(values[own])
        values[number] = row.values[theirs.index["number"]] if row else values.get(number, "")
    elif values.get(number) and values.get(kind, "Item") in ("Item", "Account") and theirs.rows:
        row = next(iter(theirs.equal(theirs.index["number"], [values[number]])), None)
        if row is None:
            raise refused(
                f"The field No. of table {table.set.type_name} contains a value ({values[number]}) that cannot be "
                f"found in the related table ({source}).",
                "Internal_InvalidTableRelation",
            )
        if own is not None:
            values[own] = row.values[theirs.index["id"]]
    if row is not None:
        _take(table, values, theirs, row, new=new)


def _take(table: Table, values: dict[int, Any], theirs: Table, row: Row, *, new: bool) -> None:
    price = "unitPrice" if "unitPrice" in table.index else "unitCost"
    for name, source in (
        ("description", "displayName"),
        (price, price),
        ("unitOfMeasureCode", "baseUnitOfMeasureCode"),
        ("unitOfMeasureId", "baseUnitOfMeasureId"),
    ):
        position = table.index.get(name)
        if position is None or source not in theirs.index:
            continue
        # A changed item brings its own description and price; what the caller sets wins either way.
        if new or position not in values:
            values.setdefault(position, row.values[theirs.index[source]])


def _given(values: dict[int, Any], position: int | None) -> bool:
    return position is not None and values.get(position, ZERO_GUID) != ZERO_GUID


def _give_number(values: dict[int, Any], sequence: int, header: Row) -> None:
    taken = [line.values[sequence] for line in header.lines or ()]
    if not values.get(sequence):
        values[sequence] = max(taken, default=0) + LINE_STEP
    elif values[sequence] in taken:
        raise refused(
            f"The Sales Line already exists. Identification fields and values: Line No.='{values[sequence]}'",
            "Internal_EntityWithSameKeyExists",
        )


def refuse_fixed(table: Table, row: Row, values: dict[int, Any]) -> None:
    """A line cannot move to another document or number (AL: CannotChangeLineNoErr, CannotChangeDocumentIdNoErr)."""
    for name, hint in (
        ("sequence", " Delete and insert the line again."),
        ("documentId", ""),
        ("documentNumber", ""),
    ):
        position = table.index.get(name)
        if position is not None and position in values and values[position] != row.values[position]:
            raise refused(f"The value for {name} cannot be modified.{hint}")


def amounts(table: Table, line: list[Any]) -> dict[int, Any]:
    """The amounts of a line, by position: quantity times price less discount, without tax."""
    index = table.index
    price = index.get("unitPrice", index.get("unitCost"))
    if price is None or "quantity" not in index:
        return {}
    discount = line[index["discountAmount"]] if "discountAmount" in index else 0
    amount = _plain(line[index["quantity"]] * line[price] - discount)
    names = ("amountExcludingTax", "amountIncludingTax", "netAmount", "netAmountIncludingTax")
    return {index[name]: amount for name in names if name in index}


def totals(header: Table, row: Row, lines: Table) -> dict[int, Any]:
    """The totals of a document from its lines, by position in the header."""
    position = lines.index.get("netAmount")
    if position is None or "totalAmountExcludingTax" not in header.index:
        return {}
    total = _plain(sum((line.values[position] for line in row.lines or ()), Decimal(0)))
    return {
        header.index[name]: total
        for name in ("totalAmountExcludingTax", "totalAmountIncludingTax")
        if name in header.index
    }


def _plain(number: Decimal | int) -> Decimal | int:
    """The number as Business Central writes it: no trailing zeros."""
    number = Decimal(number)
    return int(number) if number == number.to_integral_value() else number.normalize()
