"""A whole target: keys, scope, when, lines, files, references, lineage, and errors that name their field."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.records import FileRef
from mappings.compiler import compile_flow
from mappings.faults import FlowErrors
from mappings.mapped import LineImage, LinkHit, RefUse
from tests.mappings.making import HEAD, Answers, load, mapped, target

LINES = """\
    lines:
      salesOrderLines:
        each: workItems
        key: sequence
        on_missing: delete
        when: quantity > 0
        fields:
          quantity: quantity
          unitPrice: {math: "round(price * 1.1, 2)"}
          description: {template: "{name} for {parent[customer name]} ({$scope})"}
          currency: $parent.currencyCode
          discounted: {if: 'parent["discount"] > 0', then: true, else: false}
          unit: {lookup: units, of: uom, missing: flag}
          itemId: {ref: items_to_products.product, of: item}
"""
ORDER = {
    "number": "SO-1",
    "customer name": "Lab",
    "currencyCode": "EUR",
    "discount": Decimal("0.5"),
    "workItems": [
        {
            "sequence": 10,
            "quantity": 2,
            "price": Decimal("9.99"),
            "name": "Scale",
            "uom": "PCS",
            "item": "i1",
        },
        {"sequence": 20, "quantity": 0, "price": None, "name": None, "uom": "PCS", "item": "i1"},
        {"sequence": "30", "quantity": 1, "price": None, "name": None, "uom": "?", "item": "i2"},
    ],
}
ANSWERS = {("items_to_products.product", "i1"): "guid-1"}


def test_key_fields_are_written_like_others_and_stand_in_the_key_too():
    image = mapped("name: displayName", {"number": "C-7", "displayName": "Lab"})
    assert image.values == {"accountnumber": "C-7", "name": "Lab"}
    assert image.key == {"accountnumber": "C-7"}
    compiled = target("name: displayName")
    assert compiled.key_fields == ("accountnumber",)
    assert compiled.fields == ("accountnumber", "name")


def test_a_key_whose_reference_is_missing_is_null_in_the_key_and_not_in_the_values():
    text = HEAD.replace("{accountnumber: number}", "{parent: {ref: a_b.c, of: number}, name: name}")
    from mappings.load import load_flow

    flow = load_flow(text, name="f.yaml")
    image = compile_flow(flow).targets["account"].map({"number": "1", "name": "x"}, "", "1", Answers())
    assert image.key == {"parent": None, "name": "x"}
    assert image.values == {"name": "x"}
    assert [each.field for each in image.unresolved] == ["parent"]


def test_when_of_the_flow_and_of_the_target_both_count():
    compiled = target(more='    when: balance >= 0\nwhen: blocked == "" and record["$scope"] != "old"\n')
    assert compiled.when({"blocked": "", "balance": 0}, "new") is True
    assert compiled.when({"blocked": "", "balance": 0}, "old") is False
    assert compiled.when({"blocked": "All", "balance": 0}, "new") is False
    assert compiled.when({"blocked": "", "balance": None}, "new") is False
    assert target().when({}, "") is True


def test_a_when_that_cannot_be_decided_is_an_error_that_names_it():
    with pytest.raises(
        MappingError, match=r"The rule of when in customers_to_accounts\.account fails"
    ) as caught:
        target(more="when: balance > 0\n").when({"balance": "x"}, "")
    assert caught.value.field == "when"


def test_the_scope_is_a_constant_a_rule_or_nothing():
    assert mapped("", {}).scope is None
    assert mapped("", {}, more="    scope: main\n").scope == "main"
    assert mapped("", {}, more="    scope: $scope\n", scope="no").scope == "no"
    assert mapped("", {"c": "de"}, more="    scope: {direct: c}\n").scope == "de"
    with pytest.raises(MappingError, match=r"The rule of \$scope .* a scope is text, there is a number"):
        mapped("", {"c": 5}, more="    scope: {direct: c}\n")


def test_a_scope_by_reference_is_the_scope_of_the_linked_record_or_unresolved():
    more = "    scope: {ref: customers_to_accounts2.client, of: company}\n"
    links = {("customers_to_accounts2.client", "4101"): LinkHit("de", "guid")}
    assert mapped("", {"company": 4101}, more=more, answers=Answers(links)).scope == "de"
    image = mapped("", {"company": 4101}, more=more)
    assert image.scope is None
    assert [(each.field, each.ref.part) for each in image.unresolved] == [("$scope", "scope")]


def test_lines_are_mapped_one_by_one_with_the_document_around_them():
    image = mapped("", ORDER, more=LINES, answers=Answers(ANSWERS, {"units": {"PCS": "each"}}), scope="no")
    first, second = image.lines["salesOrderLines"]
    assert first == LineImage(
        10,
        {
            "sequence": 10,
            "quantity": 2,
            "unitPrice": Decimal("10.99"),
            "description": "Scale for Lab (no)",
            "currency": "EUR",
            "discounted": True,
            "unit": "each",
            "itemId": "guid-1",
        },
    )
    assert second.key == "30"
    assert second.values["unitPrice"] is None
    assert "unit" not in second.values
    assert [flag.field for flag in image.flags] == ["salesOrderLines.unit"]
    assert [(each.field, each.value) for each in image.unresolved] == [("salesOrderLines.itemId", "i2")]


def test_lines_tell_the_engine_what_they_own():
    compiled = target(more=LINES)
    assert compiled.line_fields == {
        "salesOrderLines": (
            "sequence",
            "quantity",
            "unitPrice",
            "description",
            "currency",
            "discounted",
            "unit",
            "itemId",
        )
    }
    assert compiled.line_keys == {"salesOrderLines": "sequence"}
    assert compiled.line_policies == {"salesOrderLines": "delete"}


@pytest.mark.parametrize("rows", [None, []])
def test_a_document_without_lines_has_none(rows):
    assert mapped("", {"workItems": rows}, more=LINES).lines == {"salesOrderLines": []}


@pytest.mark.parametrize(
    ("rows", "what", "field"),
    [
        ("text", "the source field holds no lines", "salesOrderLines"),
        ([1], "the source field holds no lines", "salesOrderLines"),
        ([{"quantity": 1}], "a line has no key", "salesOrderLines.sequence"),
        ([{"quantity": 1, "sequence": ""}], "a line has no key", "salesOrderLines.sequence"),
        (
            [{"quantity": 1, "sequence": 1}, {"quantity": 1, "sequence": "1"}],
            "two lines carry the same key",
            "salesOrderLines.sequence",
        ),
        ([{"quantity": "1", "sequence": 1}], "cannot compare text and a number", "salesOrderLines.when"),
        (
            [{"quantity": 1, "sequence": 1, "price": "x"}],
            "cannot multiply text and a number",
            "salesOrderLines.unitPrice",
        ),
    ],
)
def test_lines_that_cannot_be_told_apart_or_made_are_an_error_of_their_field(rows, what, field):
    with pytest.raises(MappingError, match=what) as caught:
        mapped("", {"workItems": rows}, more=LINES)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("key", "fields", "made"),
    [
        ("sequence", "{}", 1),
        ("sequence", "{sequence: {math: sequence * 10000}}", 10000),
        ("{sequence: {math: sequence * 10000}}", "{}", 10000),
        ("{lineNo: sequence}", "{}", 1),
    ],
)
def test_the_key_of_a_line_is_copied_by_its_name_or_made_by_its_rule(key, fields, made):
    more = f"    lines: {{rows: {{each: rows, key: {key}, fields: {fields}}}}}\n"
    (line,) = mapped("", {"rows": [{"sequence": 1}]}, more=more).lines["rows"]
    assert line.key == made
    assert list(line.values.values()) == [made]


def test_a_line_whose_key_is_an_unresolved_reference_is_left_out_and_named():
    more = "    lines: {rows: {each: rows, key: {itemId: {ref: a_b.c, of: item}}}}\n"
    image = mapped(
        "", {"rows": [{"item": "1"}, {"item": "2"}]}, more=more, answers=Answers({("a_b.c", "2"): "g"})
    )
    assert image.lines["rows"] == [LineImage("g", {"itemId": "g"})]
    assert [each.field for each in image.unresolved] == ["rows.itemId"]


def test_file_references_leave_the_values_and_are_never_text():
    file = {"$file": {"id": "f1", "name": "certificate.pdf", "size": 10}}
    image = mapped(
        "content: Certificate\nother: {if: yes, then: Certificate}", {"Certificate": file, "yes": True}
    )
    expected = FileRef(id="f1", name="certificate.pdf", size=10)
    assert image.files == {"content": expected, "other": expected}
    assert image.values == {"accountnumber": None}
    assert mapped("content: Certificate", {"Certificate": None}).values["content"] is None
    with pytest.raises(MappingError, match="cannot write an object as text"):
        mapped('content: {template: "{Certificate}"}', {"Certificate": file})


def test_a_file_that_is_not_described_as_one_is_an_error():
    with pytest.raises(MappingError, match="the file in content is not described as a file"):
        mapped("content: Certificate", {"Certificate": {"$file": {"name": 5}}})


def test_one_source_makes_several_targets_and_one_field_several_fields():
    more = "  contact: {system: crm, entity: contacts, key: {n: number}, fields: {a: city, b: city}}\n"
    flow = compile_flow(load("name: city", more=more))
    record = {"number": "1", "city": "Oslo"}
    assert flow.targets["account"].map(record, "", "1", Answers()).values == {
        "accountnumber": "1",
        "name": "Oslo",
    }
    assert flow.targets["contact"].map(record, "", "1", Answers()).values == {
        "n": "1",
        "a": "Oslo",
        "b": "Oslo",
    }
    assert flow.source_fields == {"number", "city"}


def test_lineage_and_source_fields_name_everything_that_is_read():
    compiled = target(
        'a: {template: "{x} {record[y z]}"}\nb: {if: p > q, then: r, else: {lookup: t, of: s, missing: flag}}\nc: $scope',
        more="    when: u == 1\n" + LINES + "when: v == 1\n",
    )
    assert compiled.lineage["a"] == ("x", "y z")
    assert compiled.lineage["b"] == ("p", "q", "r", "s")
    assert compiled.lineage["c"] == ()
    assert compiled.lineage["salesOrderLines.description"] == ("workItems.name", "customer name")
    assert compiled.source_fields == {
        "number", "x", "y z", "p", "q", "r", "s", "u", "v", "workItems", "customer name", "currencyCode", "discount",
    }  # fmt: skip
    assert compiled.lookups == ("t", "units")


def test_wants_names_every_link_that_mapping_may_ask_for():
    compiled = target(
        'a: {ref: a_b.c, of: x}\nb: {if: y, then: {ref: a_b.d, of: {python: "upper(y)"}, by: code}}\n'
        'e: {ref: a_b.c, of: {python: "number(z)"}}',
        more="    scope: {ref: a_b.e, of: $id}\n" + LINES,
    )
    answers = Answers()
    record = {**ORDER, "x": 5, "y": "no", "z": "not a number"}
    wanted = compiled.wants(record, "", "77", answers)
    assert [(ref.flow, ref.target, ref.by, ref.field, value) for ref, value in wanted] == [
        ("a_b", "c", "id", "a", "5"),
        ("a_b", "d", "code", "b", "NO"),
        ("a_b", "e", "id", "$scope", "77"),
        ("items_to_products", "product", "id", "salesOrderLines.itemId", "i1"),
        ("items_to_products", "product", "id", "salesOrderLines.itemId", "i1"),
        ("items_to_products", "product", "id", "salesOrderLines.itemId", "i2"),
    ]
    assert answers.asked == []
    assert {ref for ref, _ in wanted} | {ref for ref in compiled.references if ref.field == "e"} == set(
        compiled.references
    )
    assert compiled.wants({"workItems": "no lines", "x": None}, "", "77", answers) == [
        (RefUse(flow="a_b", target="e", of="the id of the record", field="$scope", part="scope"), "77")
    ]


def test_a_reference_may_hang_on_another():
    rule = "x: {ref: a_b.c, of: {ref: d_e.f, of: y}}"
    links = {("d_e.f", "1"): "2", ("a_b.c", "2"): "3"}
    assert mapped(rule, {"y": "1"}, answers=Answers(links)).values["x"] == "3"
    assert target(rule).wants({"y": "1"}, "", "1", Answers(links)) == [
        (target(rule).references[0], "2"),
        (target(rule).references[1], "1"),
    ]
    image = mapped(rule, {"y": "1"})
    assert [each.ref.flow for each in image.unresolved] == ["d_e"]


def test_the_error_of_a_rule_names_its_field_wherever_it_stands():
    compiled = target('a: {math: "x + 1"}\nb: {date: y}\nc: {math: "z / w"}')
    for record, field in (
        ({"x": "?"}, "a"),
        ({"y": "?"}, "b"),
        ({"z": 1, "w": 0}, "c"),
    ):
        with pytest.raises(MappingError) as caught:
            compiled.map(record, "", "1", Answers())
        assert caught.value.field == field
        assert f"The rule of {field} in customers_to_accounts.account fails" in caught.value.message


def test_owners_follow_the_conflict_policy_unless_a_rule_says_otherwise():
    compiled = target("a: x\nb: {direct: y, owner: target}", more=LINES)
    assert (compiled.owners["a"], compiled.owners["b"]) == ("source", "target")
    assert compiled.owners["salesOrderLines.quantity"] == "source"
    compiled = target("a: x\nb: {direct: y, owner: source}", more="    conflict: newest_wins\n")
    assert (compiled.owners["a"], compiled.owners["b"]) == ("shared", "source")


def test_policies_stand_on_the_compiled_target():
    compiled = target(more="    on_delete: deactivate\n    on_leave: review\n    conflict: manual\n")
    assert (compiled.on_delete, compiled.on_leave, compiled.conflict) == ("deactivate", "review", "manual")
    assert (compiled.flow, compiled.name, compiled.system, compiled.entity) == (
        "customers_to_accounts",
        "account",
        "crm",
        "accounts",
    )


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("    when: record['$id'] == 'x'\n", r"\$id cannot be used in a condition on the record"),
        ("when: parent['x'] == 1\n", r"\$parent.x works in the rules of lines only; write x"),
        ("reverse_of: customers_to_accounts.account\n", "a flow cannot be the reverse of itself"),
        (
            "    lines: {accountnumber: {each: rows, key: k}}\n",
            "accountnumber has a rule among the fields as well",
        ),
        (
            "    lines: {rows: {each: rows, key: {k: a}, fields: {k: b}}}\n",
            "k has another rule among the fields of the line",
        ),
        (
            "    lines: {rows: {each: rows, key: {k: a, l: b}}}\n",
            "2 entries stand here, at most 1 is needed",
        ),
    ],
)
def test_rules_that_contradict_their_place_are_refused(more, sentence):
    with pytest.raises(FlowErrors, match=sentence):
        load(more=more)
