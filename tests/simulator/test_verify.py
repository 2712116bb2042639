"""The comparison finds what is wrong: every kind of damage to a right world is told."""

from __future__ import annotations

import copy

import pytest

from simulator.compare import MOST, Targets, compare
from simulator.expected import from_customers, from_items, from_work_orders
from simulator.prefill import Foreign
from simulator.world import build_world


@pytest.fixture(scope="module")
def wanted():
    """What the first companies' records must become."""
    world = build_world()
    scopes = ("w1", "de")
    customers = [(scope, one) for scope in scopes for one in world.erp.records[scope]["customers"]]
    terms = {
        scope: {one["id"]: one["code"] for one in world.erp.records[scope]["paymentTerms"]}
        for scope in scopes
    }
    orders = [o for o in world.lab.work_orders if o["ClientLegacyId"].startswith(("w1:", "de:"))]
    assert orders
    return [
        *from_customers(customers, terms),
        *from_items([("w1", one) for one in world.erp.records["w1"]["items"]]),
        *from_work_orders(
            orders,
            {(scope, one["number"]): one["id"] for scope, one in customers},
            dict.fromkeys(world.lab.certificates, "digest"),
        ),
    ]


@pytest.fixture
def right(wanted):
    """Target records that are exactly what they must be."""
    ids = {"accounts": "accountid", "contacts": "contactid", "products": "productid", "clients": "CompanyId"}
    records: dict[tuple[str, str, str], list[dict]] = {}
    attachments: dict[str, list[dict]] = {}
    accounts = {one.key[1]: f"accounts-{n}" for n, one in enumerate(wanted) if one.entity == "accounts"}
    for number, one in enumerate(wanted):
        id_field = ids.get(one.entity, "id")
        record = {id_field: f"{one.entity}-{number}", "statecode": 0, **copy.deepcopy(dict(one.fields))}
        for name, reference in one.references.items():
            record[name] = accounts[reference.value]
        if one.lines is not None:
            record["salesOrderLines"] = copy.deepcopy(one.lines)
            attachments.setdefault(one.scope, []).extend(
                {
                    "parentId": record["id"],
                    "parentType": "Sales_x0020_Order",
                    "fileName": file.name,
                    "@file": {"sha256": file.sha256},
                }
                for file in one.files
            )
        records.setdefault((one.system, one.entity, one.scope), []).append(record)
    return records, attachments


def differences(wanted, right, foreign=()):
    return compare(wanted, Targets(*right), foreign)


def one_of(right, entity):
    return next(rows[0] for where, rows in right[0].items() if where[1] == entity and rows)


def finished(right, wanted):
    """An order with a certificate, and that certificate."""
    due = next(one for one in wanted if one.files)
    order = next(
        row for row in right[0]["bc", "salesOrders", due.scope] if row["externalDocumentNumber"] == due.key[1]
    )
    return due, order, next(one for one in right[1][due.scope] if one["parentId"] == order["id"])


def test_right_targets_have_no_differences(wanted, right):
    assert differences(wanted, right) == []


def test_blanks_of_products_that_know_no_null_are_no_difference(wanted, right):
    one_of(right, "accounts")["websiteurl"] = None
    assert differences(wanted, right) == []


def test_a_field_that_no_flow_owns_is_no_difference(wanted, right):
    one_of(right, "accounts")["fax"] = "+44"
    assert differences(wanted, right) == []


@pytest.mark.parametrize(
    ("entity", "field", "value"),
    [
        ("accounts", "name", "Somebody else"),
        ("accounts", "creditonhold", 0),
        ("contacts", "_parentcustomerid_value", None),
        ("contacts", "_parentcustomerid_value", "accounts-of-another"),
        ("clients", "CompanyName", "SHOUTED"),
        ("products", "price", 0),
        ("products", "_defaultuomid_value", None),
        ("products", "statecode", 1),
        ("salesOrders", "orderDate", "2020-01-01"),
        ("salesOrders", "customerId", "another"),
    ],
)
def test_a_wrong_value_is_told(wanted, right, entity, field, value):
    one_of(right, entity)[field] = value
    (found,) = differences(wanted, right)
    assert entity in found
    assert field in found or "inactive" in found


@pytest.mark.parametrize("entity", ["accounts", "contacts", "clients", "products", "salesOrders"])
def test_a_missing_and_a_doubled_record_are_told(wanted, right, entity):
    rows = next(rows for where, rows in right[0].items() if where[1] == entity)
    gone = rows.pop(0)
    assert any("missing" in found for found in differences(wanted, right))
    rows += [gone, {**gone}]
    assert any("2 records carry this key" in found for found in differences(wanted, right))


def test_a_record_in_another_company_does_not_count(wanted, right):
    order = right[0]["bc", "salesOrders", "w1"].pop()
    right[0]["bc", "salesOrders", "de"].append(order)
    found = differences(wanted, right)
    assert any(
        f"bc/salesOrders[w1] externalDocumentNumber={order['externalDocumentNumber']}: missing" in f
        for f in found
    )


@pytest.mark.parametrize("damage", ["lost", "extra", "price", "twice"])
def test_a_wrong_line_is_told(wanted, right, damage):
    lines = one_of(right, "salesOrders")["salesOrderLines"]
    match damage:
        case "lost":
            lines.pop()
        case "extra":
            lines.append({**lines[0], "sequence": 990_000})
        case "price":
            lines[0]["unitPrice"] += 1
        case "twice":
            lines.append({**lines[0]})
    (found,) = differences(wanted, right)
    assert "line" in found


@pytest.mark.parametrize("damage", ["lost", "bytes", "name", "twice", "parent type"])
def test_a_wrong_certificate_is_told(wanted, right, damage):
    due, _, file = finished(right, wanted)
    match damage:
        case "lost":
            right[1][due.scope].remove(file)
        case "bytes":
            file["@file"] = {"sha256": "of something else"}
        case "name":
            file["fileName"] = "filename.txt"
        case "twice":
            right[1][due.scope].append({**file})
        case "parent type":
            file["parentType"] = "Sales_x0020_Invoice"
    found = differences(wanted, right)
    assert found
    assert all(due.key[1] in one for one in found)


def test_a_certificate_of_an_unfinished_order_is_told(wanted, right):
    due = next(one for one in wanted if one.lines is not None and not one.files)
    order = next(
        row for row in right[0]["bc", "salesOrders", due.scope] if row["externalDocumentNumber"] == due.key[1]
    )
    stray = {
        "parentId": order["id"],
        "parentType": "Sales_x0020_Order",
        "fileName": "x.pdf",
        "@file": {"sha256": ""},
    }
    right[1].setdefault(due.scope, []).append(stray)
    assert differences(wanted, right) == [
        f"bc/salesOrders[{due.scope}] externalDocumentNumber={due.key[1]}: x.pdf should not be attached"
    ]


def test_a_record_without_a_source_must_be_inactive(wanted, right):
    left = {"accountid": "old", "accountnumber": "w1-99999", "statecode": 0}
    right[0]["crm", "accounts", ""].append(left)
    (found,) = differences(wanted, right)
    assert "w1-99999" in found
    left["statecode"] = 1
    assert differences(wanted, right) == []


def test_a_contact_outlives_its_address_and_not_its_customer(wanted, right):
    contacts = right[0]["crm", "contacts", ""]
    kept = next(one for one in wanted if one.entity == "contacts")
    assert differences([one for one in wanted if one is not kept], right) == []
    contacts.append({"contactid": "old", "externaluseridentifier": "w1-99999", "statecode": 0})
    (found,) = differences(wanted, right)
    assert "w1-99999" in found


def test_a_record_without_a_key_is_somebody_elses(wanted, right):
    right[0]["crm", "accounts", ""].append({"accountid": "x", "accountnumber": None, "statecode": 0})
    assert differences(wanted, right) == []


def doubled(wanted, right):
    """The first account stands there twice, made by nobody's sync."""
    due = next(one for one in wanted if one.entity == "accounts")
    rows = right[0]["crm", "accounts", ""]
    rows[:] = [row for row in rows if row["accountnumber"] != due.key[1]]
    copies = [{"accountid": f"foreign-{n}", "accountnumber": due.key[1], "name": "(old)"} for n in range(2)]
    rows += copy.deepcopy(copies)
    contact = next(
        row for row in right[0]["crm", "contacts", ""] if row["externaluseridentifier"] == due.key[1]
    )
    contact["_parentcustomerid_value"] = None
    return rows, contact, Foreign(system="crm", entity="accounts", key=due.key[1], copies=copies)


def test_an_ambiguous_record_is_right_when_nobody_touched_it(wanted, right):
    _, _, foreign = doubled(wanted, right)
    assert differences(wanted, right, [foreign]) == []


def test_touching_an_ambiguous_record_is_told(wanted, right):
    rows, contact, foreign = doubled(wanted, right)
    rows[-1]["name"] = "Adatum Corporation"
    assert any("left alone" in found for found in differences(wanted, right, [foreign]))
    rows[-1]["name"] = "(old)"
    contact["_parentcustomerid_value"] = "foreign-0"
    assert any("only a person" in found for found in differences(wanted, right, [foreign]))
    contact["_parentcustomerid_value"] = None
    rows.append({**rows[-1], "accountid": "a third"})
    assert any("3 records" in found for found in differences(wanted, right, [foreign]))


def adopted(wanted, right):
    """A client that the lab had before."""
    due = next(one for one in wanted if one.entity == "clients")
    row = next(row for row in right[0]["cal", "clients", ""] if row["LegacyId"] == due.key[1])
    before = {"CompanyId": row["CompanyId"], "CompanyName": "AS THE LAB WROTE IT", "DomainName": "client4101"}
    row["DomainName"] = "client4101"
    return row, Foreign(system="cal", entity="clients", key=due.key[1], copies=[before])


def test_an_adopted_record_with_its_own_values_is_right(wanted, right):
    row, foreign = adopted(wanted, right)
    assert differences(wanted, right, [foreign]) == []
    row["DomainName"] = "renamed.by.the.lab"
    assert differences(wanted, right, [foreign]) == [], "people may go on editing it"


def test_emptying_a_field_that_no_flow_owns_is_told(wanted, right):
    row, foreign = adopted(wanted, right)
    row["DomainName"] = None
    (found,) = differences(wanted, right, [foreign])
    assert "DomainName was emptied" in found


def test_replacing_a_record_instead_of_adopting_it_is_told(wanted, right):
    row, foreign = adopted(wanted, right)
    row["CompanyId"] = "a new one"
    (found,) = differences(wanted, right, [foreign])
    assert "another record stands" in found


def test_many_differences_are_counted_not_listed(wanted):
    found = compare(wanted, Targets({}, {}))
    assert len(found) == MOST + 1
    assert found[-1] == f"... and {len(wanted) - MOST} more differences"
