"""Renamed fields are recognised by name, type and values, and two that are equally likely are left to a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core.schema import FieldSchema, FieldType
from mappings.impact.renames import THRESHOLD, name_similarity, propose, type_similarity, value_similarity

SPECS = Path(__file__).resolve().parents[3] / "shared" / "reference" / "specs"


def field(name: str, kind: FieldType = "text", **more: Any) -> FieldSchema:
    return FieldSchema(name=name, type=kind, **more)


def best(old: str, *new: str, kind: FieldType = "text") -> str:
    """The one proposal for a field that is gone, '' for none, 'a|b' where it is ambiguous."""
    found = propose([field(old, kind)], [field(name, kind) for name in new]).get(old)
    return "|".join(candidate.field for candidate in found.candidates) if found else ""


# Names of one and the same field in two places: of Business Central's tables and its API v2.0, of API v2.0 and
# Dataverse (Microsoft's default mappings, microsoft/BCApps CDSSetupDefaults), of two entities of API v2.0.
REAL = [
    ("Phone No.", "phoneNumber"),
    ("phoneNo", "phoneNumber"),
    ("E-Mail", "email"),
    ("Post Code", "postalCode"),
    ("Bill-to Post Code", "billToPostCode"),
    ("billToCity", "billto_city"),
    ("Credit Limit (LCY)", "creditLimit"),
    ("creditLimit", "creditlimit"),
    ("Estimated Closing Date", "estimatedclosedate"),
    ("Requested Delivery Date", "requestedDeliveryDate"),
    ("shippedQuantity", "quantityshipped"),
    ("Salesperson Code", "salespersonCode"),
    ("Unit Price", "unitPrice"),
    ("website", "websiteurl"),
    ("email", "emailaddress1"),
    ("quantity", "qty"),
    ("Base_Amount__c", "cr1f3_baseamount"),
]


@pytest.mark.parametrize(("old", "new"), REAL)
def test_one_field_under_two_real_names_is_recognised(old, new):
    others = ("blocked", "taxAreaId", "itemCategoryCode", "pricesIncludeTax")
    assert best(old, new, *others) == new


# Fields that stand side by side in one real entity: their names are alike, and they are never the same.
NEIGHBOURS = [
    ("billToCity", "shipToCity"),
    ("address1_line1", "address1_line2"),
    ("address1_line1", "address2_line1"),
    ("addressLine1", "addressLine2"),
    ("unitPrice", "unitCost"),
    ("totalAmountExcludingTax", "totalAmountIncludingTax"),
    ("dueDate", "orderDate"),
    ("startingDate", "endingDate"),
    ("createdon", "modifiedon"),
    ("telephone1", "telephone2"),
    ("phoneNumber", "mobilePhoneNumber"),
    ("customerId", "vendorId"),
    ("city", "country"),
    ("state", "status"),
    ("description", "description2"),
    ("currentcost", "standardcost"),
]


@pytest.mark.parametrize(("old", "new"), NEIGHBOURS)
def test_neighbours_with_names_alike_are_no_rename(old, new):
    assert best(old, new) == ""


@pytest.mark.skipif(not SPECS.is_dir(), reason="the reference data is not on this machine")
def test_most_real_renames_between_table_and_api_are_found_and_few_are_wrong():
    mappings = json.loads((SPECS / "bc_dataverse_default_mappings.json").read_text())["mappings"]
    pairs: dict[str, set[str]] = {}
    for mapping in mappings:
        for each in mapping["fields"]:
            known = each.get("bcV2") or []
            for name in [known] if isinstance(known, str) else known:
                pairs.setdefault(each["bc"], set()).add(name.partition(".")[2])
    every = sorted({name for names in pairs.values() for name in names})
    right, wrong = [], []
    for old, names in pairs.items():
        found = propose([field(old)], [field(name) for name in every]).get(old)
        if found is None or found.ambiguous:
            continue
        (right if found.candidates[0].field in names else wrong).append((old, found.candidates[0].field))
    assert len(right) >= len(pairs) * 0.6, (len(right), len(pairs))
    assert len(wrong) <= len(pairs) * 0.1, wrong


def test_two_that_are_equally_likely_are_both_shown_and_called_ambiguous():
    found = propose([field("phone")], [field("phoneNumber"), field("phoneNo")])["phone"]
    assert found.ambiguous
    assert {candidate.field for candidate in found.candidates} == {"phoneNumber", "phoneNo"}
    assert "ambiguous" in str(found)


def test_a_new_field_that_two_old_ones_may_have_become_is_ambiguous_for_both():
    found = propose([field("phoneNo"), field("phone_number")], [field("phoneNumber")])
    assert found["phoneNo"].ambiguous
    assert found["phoneNo"].rivals == ("phone_number",)
    assert found["phone_number"].rivals == ("phoneNo",)
    assert "phone_number may have become as well" in str(found["phoneNo"])


def test_a_new_field_goes_to_the_old_one_that_fits_it_clearly_better():
    found = propose([field("number"), field("accountNo")], [field("accountNumber")])
    assert not found["accountNo"].ambiguous
    assert "number" not in found


def test_the_sentence_names_the_new_field_and_its_score():
    assert str(propose([field("phoneNo")], [field("phoneNumber")])["phoneNo"]) == (
        "probably renamed to phoneNumber (1.00)"
    )


def test_another_type_speaks_against_a_rename():
    same = propose([field("amount", "decimal")], [field("amt", "decimal")])["amount"]
    kin = propose([field("amount", "decimal")], [field("amt", "integer")])["amount"]
    assert same.candidates[0].score > kin.candidates[0].score >= THRESHOLD
    assert propose([field("amount", "decimal")], [field("amt", "date")]) == {}


def test_another_length_speaks_a_little_against_it():
    assert type_similarity(field("a", max_length=10), field("b", max_length=10)) == 1.0
    assert 0.5 < type_similarity(field("a", max_length=10), field("b", max_length=20)) < 1.0


def test_enums_are_alike_as_far_as_their_members_are():
    members = ("Item", "Resource", "Account")
    same = type_similarity(field("a", "enum", enum=members), field("b", "enum", enum=members))
    other = type_similarity(field("a", "enum", enum=members), field("b", "enum", enum=("Yes", "No")))
    assert (same, other) == (1.0, 0.4)


def samples(**values: list[Any]) -> dict[str, dict[str, Any]]:
    return {name: {str(number): value for number, value in enumerate(each)} for name, each in values.items()}


def test_the_same_values_of_the_same_records_recognise_a_field_under_a_name_that_is_no_kin():
    before = samples(description=["Desk", "Chair", "Lamp", "Scale"])
    after = samples(notes=["Desk", "Chair", "Lamp", "Scale"], remark=["x", "y", "z", "w"])
    found = propose([field("description")], [field("notes"), field("remark")], before=before, after=after)
    assert [candidate.field for candidate in found["description"].candidates] == ["notes"]
    assert "values 100% the same" in found["description"].candidates[0].why()


def test_values_decide_between_names_that_are_equally_likely():
    before = samples(phone=["1", "2", "3", "4"])
    after = samples(phoneNumber=["9", "8", "7", "6"], phoneNo=["1", "2", "3", "4"])
    found = propose([field("phone")], [field("phoneNumber"), field("phoneNo")], before=before, after=after)
    assert [candidate.field for candidate in found["phone"].candidates] == ["phoneNo"]


def test_other_values_speak_against_a_name_that_is_alike():
    before = samples(account=["1", "2", "3", "4"])
    after = samples(accountNumber=["a", "b", "c", "d"])
    assert propose([field("account")], [field("accountNumber")]) != {}
    assert propose([field("account")], [field("accountNumber")], before=before, after=after) == {}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (["a", "b", "c"], ["a", "b", "c"], 1.0),
        (["a", "b", "c", "d"], ["a", "b", "c", "x"], 0.69),
        (["a", "b"], ["a", "b"], None),  # too few
        ([None, "", None, ""], [None, "", None, ""], None),  # empty says nothing
        ([7, 7, 7, 7], [7, 7, 7, 7], None),  # the same everywhere says nothing
        ([True, False, True], [1, 0, 1], 0.0),  # true is not 1
        ([False] * 9 + [True], [True] + [False] * 9, 0.0),  # no more than by chance
    ],
)
def test_values_are_compared_record_by_record(before, after, expected):
    left, right = samples(x=before)["x"], samples(x=after)["x"]
    assert value_similarity(left, right) == (
        expected if expected is None else pytest.approx(expected, abs=0.01)
    )


def test_without_common_records_the_sets_of_values_are_compared():
    before = {"1": "a", "2": "b", "3": "c"}
    after = {"7": "c", "8": "a", "9": "z"}
    assert value_similarity(before, after) == pytest.approx(2 / 3)


names = st.text(alphabet=st.sampled_from("abcABC_0129 .ÄéЖ"), min_size=1, max_size=20)


@given(names, names)
def test_any_two_names_have_a_similarity_that_is_the_same_both_ways(old, new):
    there = name_similarity(old, new)
    assert 0.0 <= there <= 1.0
    assert (there == 1.0) == (name_similarity(new, old) == 1.0)


@given(names)
def test_every_name_is_like_itself(name):
    assert name_similarity(name, name) == 1.0
