"""What each rule makes of a record: the seven transforms and ref."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core.errors import MappingError
from mappings.mapped import LinkHit, RefUse
from mappings.rules import rule_words
from tests.mappings.making import Answers, load, mapped, quoted, target, value

# --- direct and const


def test_direct_takes_the_value_as_it_is_null_and_missing_alike():
    record = {"a": Decimal("1.50"), "b": "", "c": None, "d": [1, {"e": True}]}
    values = mapped("a: a\nb: b\nc: c\nd: d\ne: e", record).values
    assert values == {
        "accountnumber": None,
        "a": Decimal("1.50"),
        "b": "",
        "c": None,
        "d": [1, {"e": True}],
        "e": None,
    }


def test_direct_reaches_any_field_name_the_scope_and_the_record_id():
    values = mapped(
        'a: Any name\nb: {direct: "@odata.x"}\nc: $scope\nd: $id\ne: Größe',
        {"Any name": 1, "@odata.x": 2, "Größe": 3},
        scope="cronus",
        record_id="77",
    ).values
    assert (values["a"], values["b"], values["c"], values["d"], values["e"]) == (1, 2, "cronus", "77", 3)


def test_constants_are_numbers_truth_values_and_what_const_holds():
    values = mapped(
        "a: 3\nb: false\nc: -1.5\nd: {const: text}\ne: {const: null}\nf: {const: [1, {g: h}]}", {}
    ).values
    assert (values["a"], values["b"], values["c"], values["d"], values["e"]) == (
        3,
        False,
        Decimal("-1.5"),
        "text",
        None,
    )
    assert values["f"] == [1, {"g": "h"}]


def test_a_constant_list_is_a_new_one_for_each_record():
    compiled = target("f: {const: [1, {g: h}]}")
    first = compiled.map({}, "", "1", Answers()).values["f"]
    first[1]["g"] = "changed"
    assert compiled.map({}, "", "2", Answers()).values["f"] == [1, {"g": "h"}]


# --- template


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("{city} {postalCode}", "Oslo 0150"),
        ("{record[Any name]}/{$scope}/{$id}", "any/no/1"),
        ("{{city}} {city}", "{Oslo} Oslo"),
        ("{ city } {city.x} {} {", "{ city } {city.x} {} {"),
        ('{record["Any name"]}', "any"),
        ("a } b }} c", "a } b }} c"),
        ("{nothing}|{yes}|{number}|{small}|{big}", "|true|12|0.0000001|12345678901234567.89"),
        ("", ""),
        ("{city}", "Oslo"),
    ],
)
def test_a_template_fills_its_fields_in_once(template, result):
    record = {
        "city": "Oslo",
        "postalCode": "0150",
        "Any name": "any",
        "yes": True,
        "number": 12,
        "small": Decimal("1E-7"),
        "big": Decimal("12345678901234567.89"),
    }
    assert value(f"{{template: {quoted(template)}}}", record, scope="no") == result


def test_what_a_value_holds_is_never_filled_in_again():
    assert value('{template: "{a}{b}"}', {"a": "{b}", "b": "{{a}} {record[a]}"}) == "{b}{{a}} {record[a]}"


@pytest.mark.parametrize("template", ["{record[$scope]}", "{parent[a]}"])
def test_a_place_that_a_template_cannot_reach_is_refused(template):
    with pytest.raises(Exception, match=r"does not exist|works in the rules of lines only"):
        load(f"x: {{template: {quoted(template)}}}")


def test_a_template_refuses_what_is_no_text_and_what_grows_too_long():
    with pytest.raises(
        MappingError, match=r"The rule of x in customers_to_accounts\.account fails: cannot write a list"
    ):
        value('{template: "{a}"}', {"a": [1]})
    with pytest.raises(MappingError, match="grew beyond 65536 characters"):
        value('{template: "{a}{a}"}', {"a": "x" * 40_000})


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_template_around_any_values_is_their_concatenation(a, b):
    assert value('{template: "<{a}|{b}>"}', {"a": a, "b": b}) == f"<{a}|{b}>"


# --- lookup

TABLES = {"terms": {"N30": "2", "": "1", "7": "seven", "true": "yes"}, "units": {"PCS": "each"}}


@pytest.mark.parametrize(
    ("rule", "key", "result"),
    [
        ("{lookup: terms, of: a, missing: flag}", "N30", "2"),
        ("{lookup: terms, of: a, missing: null}", "N99", None),
        ('{lookup: terms, of: a, missing: "null"}', "N99", None),
        ("{lookup: terms, of: a, missing: {default: 0}}", "N99", 0),
        ("{lookup: terms, of: a, missing: {default: null}}", "N99", None),
        ("{lookup: terms, of: a, missing: flag}", None, None),
        ("{lookup: terms, of: a, missing: flag}", "", "1"),
        ("{lookup: units, of: a, missing: flag}", "", None),
        ("{lookup: units, of: a, missing: {default: x}}", "", None),
        ("{lookup: terms, of: a, missing: flag}", 7, "seven"),
        ("{lookup: terms, of: a, missing: flag}", True, "yes"),
        ("{lookup: terms, of: a, missing: flag, as: number}", "N30", 2),
        ('{lookup: terms, of: {python: "upper(strip(a))"}, missing: flag}', " n30 ", "2"),
    ],
)
def test_a_lookup_finds_its_entry_or_does_what_the_rule_says(rule, key, result):
    found = value(rule, {"a": key}, answers=Answers(tables=TABLES))
    assert (found, type(found)) == (result, type(result))


def test_a_flagged_lookup_leaves_the_field_out_and_says_why_without_the_value():
    image = mapped(
        "x: {lookup: terms, of: a, missing: flag}\ny: a", {"a": "N99"}, answers=Answers(tables=TABLES)
    )
    assert "x" not in image.values
    assert image.values["y"] == "N99"
    assert [(flag.field, flag.reason) for flag in image.flags] == [
        ("x", "the source value has no entry in the lookup table terms")
    ]


def test_an_entry_that_is_no_number_cannot_be_one():
    with pytest.raises(MappingError, match="a text is no number"):
        value("{lookup: terms, of: a, missing: flag, as: number}", {"a": "7"}, answers=Answers(tables=TABLES))


# --- if


@pytest.mark.parametrize(
    ("balance", "result"), [(Decimal("10.01"), True), (10, False), (None, False), (Decimal(0), False)]
)
def test_if_takes_one_rule_or_the_other(balance, result):
    assert (
        value('{if: "balance > limit", then: true, else: false}', {"balance": balance, "limit": 10}) is result
    )


def test_if_holds_any_rules_and_is_null_without_else():
    rule = (
        "{if: \"type == 'Service'\", then: {const: S}, "
        'else: {if: "type == \'Inventory\'", then: {template: "I-{number}"}}}'
    )
    record = {"number": "7"}
    assert value(rule, record | {"type": "Service"}) == "S"
    assert value(rule, record | {"type": "Inventory"}) == "I-7"
    assert value(rule, record | {"type": None}) is None


def test_a_branch_that_is_not_taken_flags_nothing():
    rule = '{if: "empty(a)", then: {const: none}, else: {lookup: terms, of: a, missing: flag}}'
    assert mapped(f"x: {rule}", {"a": ""}, answers=Answers(tables=TABLES)).flags == []
    assert mapped(f"x: {rule}", {"a": "N99"}, answers=Answers(tables=TABLES)).flags != []


# --- math and python


def test_math_is_decimal_and_gives_canonical_numbers():
    record = {"a": Decimal("100.55"), "b": 3}
    assert value('{math: "round(a * 1.1, 2)"}', record) == Decimal("110.61")
    assert value('{math: "0.1 + 0.2"}') == Decimal("0.3")
    whole = value('{math: "a * 0 + 2.50 * 4"}', record)
    assert (whole, type(whole)) == (10, int)
    trimmed = value('{math: "b / 4 * 2.00"}', record)
    assert str(trimmed) == "1.5"
    assert value('{math: "12345678901234567.89 + 0"}') == Decimal("12345678901234567.89")


@pytest.mark.parametrize("record", [{"a": "5"}, {"a": True}, {"a": [1]}])
def test_math_gives_a_number_or_an_error_that_names_the_field(record):
    with pytest.raises(MappingError) as caught:
        value('{math: "a"}', record)
    assert caught.value.field == "x"
    assert caught.value.code == "mapping_type"
    assert "the result must be a number" in caught.value.message


def test_python_gives_any_plain_value():
    assert (
        value("{python: \"city + ' / ' + country if city else null\"}", {"city": "Oslo", "country": "NO"})
        == "Oslo / NO"
    )
    assert value('{python: "a > 1"}', {"a": 2}) is True
    assert value('{python: "1.50"}') == Decimal("1.5")
    assert value('{python: "a"}', {"a": [1]}) == [1]


# --- date

MOMENT = "2026-06-30T23:30:00.000000Z"


@pytest.mark.parametrize(
    ("rule", "given_value", "result"),
    [
        ("{date: a}", MOMENT, "2026-06-30"),
        ("{date: a, to: date, tz: Europe/London}", MOMENT, "2026-07-01"),
        ('{date: a, to: "%Y-%m-%d", tz: Europe/London}', MOMENT, "2026-07-01"),
        ('{date: a, to: "%d.%m.%y %H:%M", tz: Europe/London}', MOMENT, "01.07.26 00:30"),
        ('{date: a, to: "%A %d %B %Y, %I %p %%"}', MOMENT, "Tuesday 30 June 2026, 11 PM %"),
        ('{date: a, to: "%G-W%V-%u, day %j, %a %b"}', "2027-01-01", "2026-W53-5, day 001, Fri Jan"),
        ('{date: a, to: "%S.%f %z", tz: Asia/Kolkata}', "2026-01-15T10:00:01.000002Z", "01.000002 +0530"),
        ("{date: a, to: time, tz: Asia/Kolkata}", "2026-01-15T10:00:01.000002Z", "15:30:01.000002"),
        ("{date: a, to: datetime}", MOMENT, MOMENT),
        ("{date: a, to: datetime, tz: Europe/London}", "2026-06-30", "2026-06-29T23:00:00.000000Z"),
        ("{date: a, to: datetime, tz: Europe/London}", "2026-01-30", "2026-01-30T00:00:00.000000Z"),
        ("{date: a, to: date}", "2026-06-30", "2026-06-30"),
        ("{date: a, to: date, tz: America/New_York}", "2026-06-30T01:00:00+02:00", "2026-06-29"),
        (
            "{date: a, to: datetime, tz: America/New_York}",
            "2026-06-30T01:00:00",
            "2026-06-30T05:00:00.000000Z",
        ),
        ("{date: a}", None, None),
        ("{date: a}", "", None),
        ('{date: a, to: "%Y"}', "0987-01-01", "0987"),
    ],
)
def test_a_date_takes_its_form_in_its_zone(rule, given_value, result):
    assert value(rule, {"a": given_value}) == result


@pytest.mark.parametrize(
    "moment",
    [
        "2026-03-29T00:59:59.000000Z",
        "2026-03-29T01:00:00.000000Z",
        "2026-10-25T00:30:00.000000Z",
        "2026-10-25T01:30:00.000000Z",
    ],
)
def test_both_sides_of_a_clock_change_keep_their_own_wall_time(moment):
    hour = {"00:59": "00", "01:00": "02", "00:30": "01", "01:30": "01"}[moment[11:16]]
    assert value('{date: a, to: "%H", tz: Europe/London}', {"a": moment}) == hour


@pytest.mark.parametrize(
    "bad", ["30.06.2026", "2026-02-30", "2026-13-01T00:00:00Z", "tomorrow", 5, True, "x" * 27, "9999-99-99"]
)
def test_what_is_no_date_is_an_error_without_its_value(bad):
    with pytest.raises(MappingError) as caught:
        value("{date: a}", {"a": bad})
    assert str(bad) not in caught.value.message


def test_a_date_at_the_end_of_time_is_an_error_not_a_crash():
    for moment, zone in (("9999-12-31T23:30:00.000000Z", "Asia/Tokyo"), ("0001-01-01", "Asia/Tokyo")):
        with pytest.raises(MappingError):
            value(f"{{date: a, to: datetime, tz: {zone}}}", {"a": moment})


# --- ref

LINKS = {
    ("customers_to_contacts.contact", "9"): LinkHit("main", "guid-9"),
    ("customers_to_contacts.contact", "guid-9"): "12",
}


def test_a_ref_gives_the_id_at_the_other_side_and_tells_the_engine_what_it_asks():
    answers = Answers(LINKS)
    assert (
        value("{ref: customers_to_contacts.contact, of: a, by: number}", {"a": "9"}, answers=answers)
        == "guid-9"
    )
    use = RefUse(flow="customers_to_contacts", target="contact", of="a", by="number", field="x", part="id")
    assert answers.asked == [(use, "9")]
    assert target("x: {ref: customers_to_contacts.contact, of: a, by: number}").references == (use,)


def test_a_ref_can_give_the_scope_and_a_number():
    assert (
        value("{ref: customers_to_contacts.contact, of: a, part: scope}", {"a": 9}, answers=Answers(LINKS))
        == "main"
    )
    found = value(
        "{ref: customers_to_contacts.contact, of: a, as: number}", {"a": "guid-9"}, answers=Answers(LINKS)
    )
    assert (found, type(found)) == (12, int)


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_ref_of_nothing_is_null_and_asks_nobody(nothing):
    answers = Answers(LINKS)
    assert value("{ref: customers_to_contacts.contact, of: a}", {"a": nothing}, answers=answers) is None
    assert answers.asked == []


def test_an_unresolved_ref_leaves_the_field_out_and_names_itself():
    image = mapped(
        "x: {ref: customers_to_contacts.contact, of: a}", {"a": "8", "number": "C-1"}, answers=Answers()
    )
    assert image.values == {"accountnumber": "C-1"}
    assert [(each.field, each.ref.flow, each.value) for each in image.unresolved] == [
        ("x", "customers_to_contacts", "8")
    ]


def test_a_ref_to_the_other_target_of_the_same_flow_takes_the_own_record_id():
    answers = Answers({("customers_to_accounts.other", "77"): "guid"})
    more = "  other: {system: crm, entity: contacts, key: {n: number}}\n"
    rule = "x: {ref: customers_to_accounts.other, of: $id}"
    assert mapped(rule, {}, more=more, answers=answers, record_id="77").values["x"] == "guid"


# --- all of them


def test_every_transform_explains_itself_and_says_what_it_gives():
    compiled = target(
        'a: city\nb: {const: x}\nc: {template: "{city}!"}\nd: {lookup: units, of: unit, missing: flag}\n'
        'e: {if: "n > 1", then: 1, else: city}\nf: {math: "n * 2"}\ng: {date: day, tz: Europe/London}\n'
        'h: {python: "upper(city)"}\ni: {ref: a_b.c, of: city, by: code}\nj: {lookup: units, of: unit, missing: {default: 0}}'
    )
    assert [compiled.explain(field) for field in compiled.fields] == [
        "accountnumber is number.",
        "a is city.",
        'b is "x".',
        "c is the text '{city}!' with the values filled in.",
        "d is the entry of the lookup table units for unit; a missing entry is left out and flagged for a person.",
        "e is 1 if n > 1, else city.",
        "f is the number n * 2.",
        "g is day as a date, in the time of Europe/London.",
        "h is the result of upper(city).",
        "i is the id of the record linked by a_b.c to the one whose code is city.",
        "j is the entry of the lookup table units for unit; a missing entry becomes 0.",
    ]


def test_transforms_are_found_by_being_there():
    assert set(rule_words()) == {
        "direct",
        "const",
        "template",
        "lookup",
        "if",
        "math",
        "date",
        "python",
        "ref",
        "unit",
    }
