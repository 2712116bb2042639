import datetime as dt
from decimal import Decimal
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipaas_resources.core.errors import (
    RefusedRecordError,
)
from ipaas_resources.core.values import escape_text
from ipaas_resources.net.odata import query
from ipaas_resources.net.odata.names import decode_name, encode_name


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("In Progress", "In_x0020_Progress"),
        ("Positive Adjmt.", "Positive_x0020_Adjmt_x002E_"),
        ("Price-List", "Price_x002D_List"),
        (" ", "_x0020_"),
        ("", ""),
        ("Sales Order", "Sales_x0020_Order"),
        ("Plain_name", "Plain_name"),
        ("1st", "_x0031_st"),
        ("Größe", "Größe"),
        ("\U0001f600", "_x0001F600_"),
    ],
)
def test_names_are_spelled_as_the_product_spells_them(name, wire):
    assert encode_name(name) == wire
    assert decode_name(wire) == name


@given(st.text(st.characters(), max_size=12))
@example("_x0020_")
@example("_x0020 ")
@example("_x005F_x0020_")
@example("__x0020_x0020_")
@example("_x0001F600_")
def test_every_name_survives_the_way_there_and_back(name):
    wire = encode_name(name)
    assert decode_name(wire) == name
    assert all(each.isalnum() or each == "_" or ord(each) > 127 for each in wire)


def test_an_escape_beyond_unicode_is_no_escape():
    assert decode_name("_xFFFFFFFF_") == "_xFFFFFFFF_"


# --- filters


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("' or 1 eq 1 or 'a' eq '")
@example("a&$top=1#x%27+")
def test_text_in_a_filter_never_becomes_syntax(text):
    url = query.address("customers", filter=query.compare("name", "eq", escape_text(text), "text"), top=3)
    parts = urlsplit(f"https://bc.example/{url}")
    assert parts.fragment == ""
    options = parse_qs(parts.query, keep_blank_values=True)
    assert options["$top"] == ["3"]
    (shown,) = options["$filter"]
    assert shown.startswith("name eq '")
    assert shown.endswith("'")
    inner = shown[len("name eq '") : -1]
    assert inner.replace("''", "").count("'") == 0
    assert inner.replace("''", "'") == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_in_a_key_stays_one_path_segment(text):
    path = f"/accounts{query.key(escape_text(text), 'text')}"
    assert not set("/?#&%+ ") & set(unquote_kept(path[1:]))
    assert unquote(path) == f"/accounts('{text.replace(chr(39), chr(39) * 2)}')"


def unquote_kept(path):
    """The path without its percent escapes."""
    return "".join(part[2:] if index else part for index, part in enumerate(path.split("%")))


@pytest.mark.parametrize(
    ("value", "type_", "literal"),
    [
        (None, "text", "null"),
        ("O'Neil", "text", "'O''Neil'"),
        (12, "integer", "12"),
        (-3, "decimal", "-3"),
        (Decimal("1E-7"), "decimal", "0.0000001"),
        (Decimal("12345678901234567.89"), "decimal", "12345678901234567.89"),
        (True, "boolean", "true"),
        ("2026-01-15", "date", "2026-01-15"),
        ("2026-01-15T13:58:10.123456Z", "datetime", "2026-01-15T13:58:10.123456Z"),
        ("13:58:10.000000", "time", "13:58:10.000000"),
        ("2e451703-8b1c-4a6e-9d5f-0123456789ab", "guid", "2e451703-8b1c-4a6e-9d5f-0123456789ab"),
        ("2e451703-8b1c-4a6e-9d5f-0123456789ab", "reference", "2e451703-8b1c-4a6e-9d5f-0123456789ab"),
        ("C-7", "reference", "'C-7'"),
        ("In Progress", "enum", "'In_x0020_Progress'"),
        (690970000, "enum", "690970000"),
    ],
)
def test_a_literal_follows_the_type_of_the_field(value, type_, literal):
    assert query.literal(value, type_) == literal


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (1, "text"),
        ("1 or 1 eq 1", "integer"),
        (True, "integer"),
        ("true", "boolean"),
        ("2026-02-30", "date"),
        ("20260115", "date"),
        ("2026-01-15' or 1 eq 1", "date"),
        ("2026-01-15T00:00:00", "datetime"),
        ("x'", "datetime"),
        ("13:58", "time"),
        ("2e451703) or (1 eq 1", "guid"),
        (["a"], "enum"),
    ],
)
def test_a_value_of_another_type_is_refused_instead_of_written_into_the_filter(value, type_):
    with pytest.raises(RefusedRecordError):
        query.literal(value, type_)


@given(st.datetimes(timezones=st.just(dt.UTC)))
def test_every_canonical_time_is_a_literal(moment):
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0") + "Z"
    assert query.literal(text, "datetime") == text


def test_alternatives_are_of_one_field_and_never_none():
    assert query.any_of("number", ["a"], "text") == "number eq 'a'"
    assert query.any_of("number", ["a", "b"], "text") == "(number eq 'a' or number eq 'b')"
    with pytest.raises(ValueError):
        query.any_of("number", [], "text")
    assert query.all_of("a eq 1", "", "b eq 2") == "a eq 1 and b eq 2"


def test_an_address_has_its_options_and_nothing_when_there_are_none():
    assert query.address("customers") == "customers"
    url = query.address(
        "customers",
        select=["id", "number"],
        filter="a eq 'x y'",
        orderby="lastModifiedDateTime asc",
        expand="lines($expand=item)",
        top=0,
        count=True,
        extra={"$schemaversion": "2.1"},
    )
    assert url == (
        "customers?$select=id,number&$filter=a%20eq%20'x%20y'&$orderby=lastModifiedDateTime%20asc"
        "&$expand=lines($expand=item)&$top=0&$count=true&$schemaversion=2.1"
    )
    assert query.key_of({"firstname": ("Joe", "text"), "n": (1, "integer")}) == "(firstname='Joe',n=1)"


def test_half_a_character_cannot_be_asked_for():
    value = escape_text("\ud800")
    with pytest.raises(RefusedRecordError):
        query.address("customers", filter=query.compare("name", "eq", value, "text"))
    with pytest.raises(RefusedRecordError):
        query.key(value, "text")
