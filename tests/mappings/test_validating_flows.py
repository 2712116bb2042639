"""A flow as a whole against its schemas and the other flows: keys, lines, rights, references, pairs, neighbours."""

from __future__ import annotations

import msgspec
import pytest

from ipaas_resources.core.schema import EntitySchema, FieldSchema
from mappings.checking.validate import check_flow
from mappings.compiler import compile_flow
from mappings.faults import FlowErrors
from mappings.load import load_flow
from mappings.spec import Flow

F = FieldSchema
ORDERS = EntitySchema(
    entity="orders",
    key=("id",),
    fields=(
        F(name="id", type="guid"),
        F(name="number", type="text"),
        F(name="buyer", type="guid"),
        F(name="open", type="boolean"),
        F(name="state", type="enum", enum=("a", "b")),
        F(name="scan", type="file"),
        F(name="company", type="integer"),
        F(
            name="rows",
            type="lines",
            fields=(
                F(name="no", type="integer"),
                F(name="text", type="text", max_length=50),
                F(name="scan", type="file"),
            ),
        ),
    ),
)
SALES = EntitySchema(
    entity="sales",
    key=("salesid",),
    fields=(
        F(name="number", type="text"),
        F(name="second", type="text"),
        F(name="buyerid", type="reference", targets=("accounts", "contacts")),
        F(name="code", type="text"),
        F(name="scan", type="file"),
        F(name="computed", type="text", creatable=False),
        F(
            name="rows",
            type="lines",
            line_key="no",
            fields=(
                F(name="no", type="integer"),
                F(name="text", type="text", max_length=20),
                F(name="later", type="integer", creatable=False),
            ),
        ),
        F(
            name="totals",
            type="lines",
            creatable=False,
            updatable=False,
            line_key="no",
            fields=(F(name="no", type="integer"),),
        ),
        F(name="loose", type="lines", fields=(F(name="no", type="integer"),)),
    ),
)


def flow(target: str, *, head: str = "", name: str = "orders_to_sales") -> Flow:
    text = f"""\
flow: {name}
source: {{system: shop, entity: orders}}
{head}targets:
  sale:
    system: crm
    entity: sales
"""
    return load_flow(text + "".join(f"    {line}\n" for line in target.splitlines()), name="f.yaml")


def checked(target: str, *, head: str = "", sales: EntitySchema = SALES, **known):
    found = check_flow(compile_flow(flow(target, head=head)), ORDERS, {"sale": sales}, **known)
    return [str(fault) for fault in found.faults], [str(warning) for warning in found.warnings]


KEY = "key: {number: number}\n"


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("{number: number}", None),
        ("{number: {const: one}}", "key: every part of the key is a constant, so all records would share it; name a source field"),
        ("{number: {if: open, then: {const: a}, else: {const: b}}}", None),
        ("{number: {const: one}, second: number}", None),
        ("{computed: number}", "key.computed: computed cannot be set when a record of sales is created"),
        ("{scan: scan}", "key.scan: a file is no key: it can be neither compared nor searched for; choose another field"),
        ("{number: {lookup: t, of: number, missing: null}}", "key.number.missing: a key cannot be empty: a record without an entry could not be found; write missing: flag"),
        ("{number: {lookup: t, of: number, missing: {default: X}}}", "key.number.missing: all records without an entry would share this key and become one; write missing: flag"),
        ("{number: {lookup: t, of: number, missing: {default: X}}, second: number}", None),
        ("{number: {lookup: t, of: number, missing: flag}}", None),
        ("{number: {if: open, then: number}}", "key.number.else: a key cannot be empty; give it a value, or filter these records with `when`"),
        ("{number: {if: open, then: number, else: {const: ''}}}", "key.number.else: a key cannot be empty"),
        ("{number: {if: open, then: number, else: id}}", None),
        ("{missing: number}", "key.missing: the field of sales 'missing' does not exist"),
    ],
)  # fmt: skip
def test_a_key_by_which_records_would_not_be_found_is_refused(key, sentence):
    faults, _ = checked(f"key: {key}")
    assert len(faults) == (0 if sentence is None else 1)
    assert sentence is None or f"f.yaml:6: targets.sale.{sentence}" in faults[0].replace(
        "f.yaml:7", "f.yaml:6"
    )


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("{number: {lookup: t, of: number, missing: flag}}", "key.number.missing: the key comes from a table: records without an entry wait for a person"),
        ("{number: state}", "key: the key number takes few values; records that share them become one"),
        ("{number: state, second: number}", None),
        ("{number: number}", None),
    ],
)  # fmt: skip
def test_a_key_that_is_weak_is_a_warning(key, sentence):
    faults, warnings = checked(f"key: {key}")
    assert faults == []
    assert len(warnings) == (0 if sentence is None else 1)
    assert sentence is None or sentence in warnings[0]


@pytest.mark.parametrize(
    ("target", "at"),
    [
        ("key: {number: {direct: number, too_long: truncate}}", "key.number.too_long"),
        ("key: {number: {direct: number, unfit_characters: drop}}", "key.number.unfit_characters"),
        ("key: {number: {direct: number, unfit_characters: replace}}", "key.number.unfit_characters"),
        (KEY + "lines: {rows: {each: rows, key: {no: {direct: no, too_long: truncate}}}}", "lines.rows.key.no.too_long"),
        (KEY + "lines: {rows: {each: rows, key: no, fields: {no: {direct: no, too_long: truncate}}}}", "lines.rows.fields.no.too_long"),
    ],
)  # fmt: skip
def test_a_key_is_never_changed_until_it_fits(target, at):
    with pytest.raises(FlowErrors) as refused:
        flow(target)
    assert [fault.path for fault in refused.value.faults] == [f"targets.sale.{at}"]
    assert "two records could come to share it; choose error or flag" in str(refused.value)


def test_a_key_may_say_error_or_flag():
    for word in ("too_long: error", "too_long: flag", "unfit_characters: error", "unfit_characters: flag"):
        assert checked(f"key: {{number: {{direct: number, {word}}}}}") == ([], [])


@pytest.mark.parametrize(
    ("target", "at"),
    [
        (KEY + "fields: {second: {if: open, then: {direct: number, too_long: flag}}}", "fields.second.then.too_long"),
        (KEY + "fields: {second: {lookup: t, of: {direct: number, unfit_characters: drop}, missing: flag}}", "fields.second.of.unfit_characters"),
        (KEY + "scope: {direct: number, too_long: flag}", "scope.too_long"),
    ],
)  # fmt: skip
def test_the_words_belong_to_the_rule_of_a_field(target, at):
    with pytest.raises(FlowErrors) as refused:
        flow(target)
    assert [fault.path for fault in refused.value.faults] == [f"targets.sale.{at}"]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("{rows: {each: rows, key: no}}", None),
        ("{rows: {each: rows, key: no, fields: {text: text}}}", "lines.rows.fields.text: the rule can give 50 characters, text takes 20"),
        ("{rows: {each: rows, key: no, fields: {text: {direct: text, too_long: truncate}}}}", None),
        ("{rows: {each: rows, key: {no: 1}}}", "lines.rows.key: every part of the key is a constant, so all lines of a document would share it"),
        ("{rows: {each: rows, key: {later: no}}}", "lines.rows.key.later: later cannot be set when a record of rows is created"),
        ("{rows: {each: rows, key: {number: no}}}", "lines.rows.key.number: the field of rows 'number' does not exist"),
        ("{totals: {each: rows, key: no}}", "lines.totals: the lines totals of sales are read-only"),
    ],
)  # fmt: skip
def test_lines_and_their_keys_are_checked(lines, sentence):
    faults, warnings = checked(KEY + f"lines: {lines}")
    assert warnings == []
    assert len(faults) == (0 if sentence is None else 1)
    assert sentence is None or sentence in faults[0]


def test_lines_without_an_id_are_a_warning():
    faults, warnings = checked(KEY + "lines: {loose: {each: rows, key: no}}")
    assert faults == []
    assert warnings == [
        (
            "f.yaml:8: targets.sale.lines.loose: the lines loose of sales have no id of their own: a changed line may not be "
            "found again"
        )
    ]


@pytest.mark.parametrize(
    ("target", "change", "sentence"),
    [
        ("on_delete: delete", {"deletable": False}, "on_delete: records of sales of crm cannot be deleted; choose review, or another policy"),
        ("on_leave: delete", {"deletable": False}, "on_leave: records of sales of crm cannot be deleted"),
        ("on_delete: review", {"deletable": False}, None),
        ("on_delete: delete", {}, None),
        ("conflict: newest_wins", {"readable": False}, "conflict: sales of crm cannot be read, so nobody sees a conflict; write source_wins"),
        ("conflict: source_wins", {"readable": False}, None),
        ("fields: {code: {direct: number, owner: shared}}", {"readable": False}, "fields.code.owner: sales cannot be read, so nobody sees what the target made of code"),
        ("fields: {code: {direct: number, owner: shared}}", {}, None),
        ("scope: {direct: company}", {}, "scope: a scope is text, the rule gives integer"),
        ("scope: {direct: number}", {}, None),
    ],
)  # fmt: skip
def test_policies_need_what_the_entity_can_do(target, change, sentence):
    faults, _ = checked(KEY + target, sales=msgspec.structs.replace(SALES, **change))
    assert len(faults) == (0 if sentence is None else 1)
    assert sentence is None or f"f.yaml:8: targets.sale.{sentence}" in faults[0]


def test_an_entity_that_cannot_be_changed_later_is_a_warning():
    assert checked(KEY, sales=msgspec.structs.replace(SALES, updatable=False)) == (
        [],
        ["f.yaml:6: targets.sale.entity: sales of crm can be created only: later changes are not written"],
    )


def other(name: str, source: str, target: str, *, head: str = "", fields: str = "{}") -> Flow:
    system, entity = source.split("/")
    into, made = target.split("/")
    text = (
        f"flow: {name}\nsource: {{system: {system}, entity: {entity}}}\n{head}targets:\n  one: {{system: {into}, "
        f"entity: {made}, key: {{number: number}}, fields: {fields}}}\n"
    )
    return load_flow(text, name=f"{name}.yaml")


REF = KEY + "fields: {buyerid: {ref: people.one, of: buyer}}"


@pytest.mark.parametrize(
    ("target", "people", "sentence"),
    [
        (REF, ("shop/customers", "crm/accounts"), None),
        (REF, ("crm/accounts", "shop/customers"), None),
        (REF, ("shop/customers", "crm/leads"), "ref: people.one leads to crm/leads, and buyerid refers to records of accounts, contacts"),
        (REF, ("shop/customers", "erp/accounts"), "ref: people.one leads to erp/accounts, and buyerid refers to records of crm"),
        (REF, ("erp/customers", "crm/accounts"), "ref: people.one links no records of shop, the source of this flow; it links crm/accounts and erp/customers"),
        (KEY + "fields: {code: {lookup: t, of: {ref: people.one, of: buyer}, missing: flag}}", ("erp/customers", "crm/accounts"), "code.of.ref: people.one links no records of shop"),
        (KEY + "fields: {code: {ref: people.one, of: buyer}}", ("shop/customers", "erp/accounts"), None),
        (KEY + "fields: {buyerid: {if: open, then: {ref: people.one, of: buyer}}}", ("shop/customers", "crm/leads"), "buyerid.then.ref: people.one leads to crm/leads"),
        (KEY + "scope: {ref: people.one, of: buyer}", ("shop/customers", "crm/accounts"), None),
        (KEY + "scope: {ref: people.one, of: buyer}", ("shop/customers", "erp/accounts"), "scope.ref: people.one leads to erp/accounts; a scope of crm is needed here"),
    ],
)  # fmt: skip
def test_a_ref_leads_from_our_source_to_what_its_field_may_point_to(target, people, sentence):
    faults, _ = checked(target, flows={"people": other("people", *people)})
    assert len(faults) == (0 if sentence is None else 1)
    assert sentence is None or sentence in faults[0]


def test_a_ref_to_a_target_of_the_same_flow_leads_to_what_that_makes():
    text = "key: {number: number}\nfields: {buyerid: {ref: orders_to_sales.sale, of: buyer}}"
    assert checked(text)[0] == [
        (
            "f.yaml:8: targets.sale.fields.buyerid.ref: orders_to_sales.sale leads to crm/sales, and buyerid refers to "
            "records of accounts, contacts"
        )
    ]


@pytest.mark.parametrize(
    ("partner", "sentence"),
    [
        (other("back", "crm/sales", "shop/orders"), None),
        (other("back", "crm/sales", "shop/drafts"), "back.one writes shop/drafts, and this flow reads shop/orders: no pair"),
        (other("back", "crm/quotes", "shop/orders"), "back reads crm/quotes, which no target of this flow writes, so the two are no pair"),
        (other("back", "crm/sales", "shop/orders", head="reverse_of: third.one\n"), "back is the other half of third.one already"),
    ],
)  # fmt: skip
def test_the_halves_of_a_two_way_pair_mirror_each_other(partner, sentence):
    faults, _ = checked(KEY, head="reverse_of: back.one\n", flows={"back": partner})
    assert faults == ([] if sentence is None else [f"f.yaml:3: reverse_of: {sentence}"])


def test_flows_that_are_known_by_name_only_are_checked_by_name_only():
    assert checked(REF, head="reverse_of: back.one\n", flows={"people": ["one"], "back": ["one"]}) == ([], [])
    faults, _ = checked(REF, head="reverse_of: back.two\n", flows={"people": ["two"], "back": ["one"]})
    assert [line.partition("; did")[0] for line in faults] == [
        "f.yaml:3: reverse_of: the target 'back.two' does not exist",
        "f.yaml:9: targets.sale.fields.buyerid.ref: the target 'people.one' does not exist",
    ]


def test_two_flows_that_write_one_field_are_a_warning():
    text = (
        KEY
        + "fields: {code: number, second: id}\nlines: {rows: {each: rows, key: no, fields: {text: {const: x}}}}"
    )
    same = other("also", "erp/orders", "crm/sales", fields="{code: number}")
    apart = other("apart", "erp/orders", "crm/sales", fields="{third: number}")
    elsewhere = other("elsewhere", "erp/orders", "crm/quotes", fields="{code: number}")
    faults, warnings = checked(text, flows={"also": same, "apart": apart, "elsewhere": elsewhere})
    assert faults == []
    assert warnings == [
        "f.yaml:4: targets.sale: also.one writes code of crm/sales too: where both meet one record, the last write wins"
    ]


def test_flows_of_one_exclusive_group_take_turns_and_are_no_warning():
    head = "exclusive_group: sales\n"
    same = other("also", "erp/orders", "crm/sales", head=head, fields="{code: number}")
    assert checked(KEY + "fields: {code: number}", head=head, flows={"also": same}) == ([], [])


def test_an_exclusive_group_of_one_flow_is_a_warning_with_the_name_that_was_meant():
    there = other("also", "erp/orders", "crm/quotes", head="exclusive_group: sales_out\n")
    assert checked(KEY, head="exclusive_group: sale_out\n", flows={"also": there}) == (
        [],
        [
            "f.yaml:3: exclusive_group: no other flow is in the exclusive group 'sale_out'; did you mean sales_out?"
        ],
    )
    assert checked(KEY, head="exclusive_group: sale_out\n", flows={}) == ([], [])


def test_two_targets_of_one_flow_that_write_one_field_are_a_warning():
    text = """\
flow: orders_to_sales
source: {system: shop, entity: orders}
targets:
  sale: {system: crm, entity: sales, key: {number: number}, fields: {code: number}}
  again: {system: crm, entity: sales, key: {number: number}, fields: {code: id, second: id}}
"""
    found = check_flow(compile_flow(load_flow(text, name="f.yaml")), ORDERS, {"sale": SALES, "again": SALES})
    assert found.faults == []
    assert [str(warning) for warning in found.warnings] == [
        (
            "f.yaml:5: targets.again: orders_to_sales.sale writes code of crm/sales too: where both meet one record, the last "
            "write wins"
        )
    ]
