"""Lookups: what is a key, what is a miss, and tables with several columns."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ipaas_resources.core.errors import ConfigurationError, MappingError
from ipaas_resources.core.schema import EntitySchema, FieldSchema
from mappings.checking.validate import validate
from mappings.compiler import compile_flow
from mappings.lookup_tables import read_table
from tests.mappings.making import Answers, load, mapped, value

TABLES = {
    "terms": {"N30": "2", "7": "seven", "true": "yes", "NONE": None, "a b": "spaced"},
    "places": {"LON": {"country": "GB", "zone": "Europe/London", "number": "44", "none": None}},
}


def entry(key, rule="{lookup: terms, of: k, missing: {default: miss}}"):
    return value(rule, {"k": key}, answers=Answers(tables=TABLES))


@pytest.mark.parametrize("key", [7, Decimal("7.0"), Decimal(7), "7"])
def test_a_number_finds_the_entry_of_its_plain_spelling(key):
    assert entry(key) == "seven"


@pytest.mark.parametrize("key", ["7.0", "07", " 7", "n30", "N30 ", "A B", "a  b"])
def test_a_text_is_compared_character_by_character(key):
    assert entry(key) == "miss"


def test_an_entry_that_is_null_is_an_entry_and_no_miss():
    assert entry("NONE") is None
    assert entry("NONE", "{lookup: terms, of: k, missing: flag}") is None


def test_null_and_an_empty_key_are_null_and_no_miss():
    assert entry(None) is None
    assert entry("") is None
    assert entry(True) == "yes"
    with pytest.raises(MappingError, match="cannot write a list as text"):
        entry([1])


# --- several columns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "key", "result"),
    [
        ("{lookup: places, of: k, part: zone, missing: flag}", "LON", "Europe/London"),
        ("{lookup: places, of: k, part: country, missing: {default: XX}}", "LON", "GB"),
        ("{lookup: places, of: k, part: country, missing: {default: XX}}", "PAR", "XX"),
        ("{lookup: places, of: k, part: country, missing: {default: XX}}", None, None),
        ('{lookup: places, of: k, part: country, missing: "null"}', "PAR", None),
        ("{lookup: places, of: k, part: number, as: number, missing: flag}", "LON", 44),
        ("{lookup: places, of: k, part: none, missing: {default: XX}}", "LON", None),
    ],
)
def test_one_column_of_a_table_with_several_is_named(rule, key, result):
    assert entry(key, rule) == result


def test_a_miss_in_a_table_with_several_columns_is_flagged():
    image = mapped(
        "x: {lookup: places, of: k, part: zone, missing: flag}", {"k": "PAR"}, answers=Answers(tables=TABLES)
    )
    assert "x" not in image.values
    assert [flag.field for flag in image.flags] == ["x"]


@pytest.mark.parametrize("table", ["places", "terms"])
def test_a_column_that_the_table_does_not_have_is_an_error_and_no_miss(table):
    key = next(iter(TABLES[table]))
    with pytest.raises(MappingError, match=f"the lookup table {table} has no column capital") as caught:
        entry(key, f"{{lookup: {table}, of: k, part: capital, missing: {{default: XX}}}}")
    assert caught.value.code == "mapping_item"


def test_a_table_with_several_columns_gives_objects():
    text = "place,country,population:integer\nLON,GB,9\nPAR,FR,2\n"
    assert read_table(text, name="p.csv") == {
        "LON": {"country": "GB", "population": 9},
        "PAR": {"country": "FR", "population": 2},
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a,b\n1,2,3\n", "p.csv:2: there are 3 cells, the header has 2; put text with commas in quotes"),
        ("a,b,c\n1,2\n", "p.csv:2: there are 2 cells, the header has 3"),
        ("a,b,b\n1,2,3\n", "p.csv:1: each of several value columns needs a name of its own"),
        ("a,b,\n1,2,3\n", "p.csv:1: each of several value columns needs a name of its own"),
        ("a,b:float,c\n1,2,3\n", "p.csv:1: 'float' is no type of a value column. Valid: text, integer"),
        ("a,b,c:integer\n1,2,x\n", "p.csv:2: the value is no integer, as the header says it is"),
        ("a\n1\n", "p.csv:1: the header needs two columns, the key and the value"),
    ],
)
def test_a_cell_that_belongs_to_no_column_is_told_and_not_dropped(text, fault):
    with pytest.raises(ConfigurationError) as caught:
        read_table(text, name="p.csv")
    assert fault in caught.value.message


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("\ufeffcode;days\r\nN30;30\r\nN60;1,5\r\n", "semicolons"),
        ('"code";"days"\n"N30";"30"\n', "semicolons"),
        ("sep=;\ncode;days\nN30;30\n", "semicolons"),
        ("code\tdays\nN30\t30\n", "tabs"),
    ],
)
def test_a_table_that_is_parted_by_something_else_than_commas_says_so_once_and_how_to_save_it(text, marks):
    with pytest.raises(ConfigurationError) as caught:
        read_table(text, name="p.csv")
    first, fault = caught.value.message.splitlines()
    assert first == "The lookup table p.csv cannot be used:"
    assert fault.startswith(f"  p.csv:1: the columns are parted by {marks}, not by commas; ")
    assert "list separator" in fault


def test_semicolons_and_tabs_inside_cells_part_nothing():
    assert read_table("key,value; or more\nA;1,one\ttwo\n", name="p.csv") == {"A;1": "one\ttwo"}


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        (
            "{lookup: places, of: number, missing: flag}",
            "has several columns; name one: country, zone, number, none",
        ),
        (
            "{lookup: places, of: number, part: capital, missing: flag}",
            "has no column 'capital'. Valid: country, zone",
        ),
        (
            "{lookup: terms, of: number, part: capital, missing: flag}",
            "has one column of values, leave part out",
        ),
        ("{unit: number, missing: flag, variants: nowhere}", "the lookup table 'nowhere' does not exist"),
        ("{lookup: places, of: number, part: zone, missing: flag}", ""),
        ("{unit: number, missing: flag, variants: terms}", ""),
    ],
)
def test_a_save_holds_the_columns_against_the_tables(rule, what):
    schema = EntitySchema(
        entity="customers", key=("number",), fields=(FieldSchema(name="number", type="text"),)
    )
    found = validate(compile_flow(load(f"x: {rule}")), schema, {}, lookups=TABLES)
    assert [what in fault.what for fault in found] == ([True] if what else [])
