"""What differs between two versions, one entry per rule."""

from hypothesis import given
from hypothesis import strategies as st

from mappings.difference import counted, flow_changes, table_changes

FLOW = """flow: people
source: {system: erp, entity: customers}
when: balance > 0
targets:
  copy:
    system: crm
    entity: customers
    key: {number: number}
    fields:
      name: name
      city: {template: "{city}"}
    lines:
      rows: {each: lines, key: {no: no}, fields: {amount: amount}}
"""


def said(before, after):
    return [str(change) for change in flow_changes(before, after)]


def test_comments_layout_and_the_order_of_words_are_no_difference():
    assert (
        said(FLOW, "# a word\n" + FLOW.replace("{number: number}", "\n      number:    number   # same"))
        == []
    )


def test_a_changed_rule_is_one_change_however_deep_it_differs():
    changed = FLOW.replace('{template: "{city}"}', '{template: "{city}!", owner: target}')
    (change,) = flow_changes(FLOW, changed)
    assert change.is_rule
    assert change.to_json() == {
        "op": "replace",
        "path": ["targets", "copy", "fields", "city"],
        "before": {"template": "{city}"},
        "after": {"template": "{city}!", "owner": "target"},
    }


def test_rules_that_come_and_go_are_told_one_by_one():
    changed = FLOW.replace("      name: name\n", "      title: name\n      other: name\n")
    assert said(FLOW, changed) == [
        'targets.copy.fields.name: removed, was "name"',
        'targets.copy.fields.title: added "name"',
        'targets.copy.fields.other: added "name"',
    ]


def test_a_line_rule_is_a_rule_too():
    (change,) = flow_changes(FLOW, FLOW.replace("amount: amount", "amount: total"))
    assert (change.path, change.is_rule) == (("targets", "copy", "lines", "rows", "fields", "amount"), True)


def test_a_new_target_is_told_rule_by_rule():
    added = FLOW.replace(
        "targets:\n", "targets:\n  more: {system: crm, entity: x, key: {a: b}, fields: {c: d}}\n"
    )
    assert said(FLOW, added) == [
        'targets.more.system: added "crm"',
        'targets.more.entity: added "x"',
        'targets.more.key.a: added "b"',
        'targets.more.fields.c: added "d"',
    ]


def test_true_is_not_one_and_a_number_is_not_its_text():
    assert said(FLOW.replace("name: name", "name: 1"), FLOW.replace("name: name", "name: true"))
    assert said(
        FLOW.replace("name: name", "name: {const: 1}"), FLOW.replace("name: name", 'name: {const: "1"}')
    )


def test_a_text_that_cannot_be_read_is_one_change_of_the_whole():
    assert said(FLOW, "flow: [") == ["the text differs; one of the two cannot be read rule by rule"]
    assert said("flow: [", "flow: [") == []


def test_the_first_version_adds_everything():
    changes = flow_changes("", FLOW)
    assert {change.op for change in changes} == {"add"}
    assert counted(changes)["added"] == len(changes)


def test_a_table_differs_by_row():
    before, after = "key,value\na,1\nb,2\n", "key,value\nb,3\nc,4\n"
    assert [change.to_json() for change in table_changes(before, after)] == [
        {"op": "remove", "path": ["a"], "before": "1"},
        {"op": "replace", "path": ["b"], "before": "2", "after": "3"},
        {"op": "add", "path": ["c"], "after": "4"},
    ]


@given(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["x", "y"])),
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["x", "y"])),
)
def test_the_changes_lead_from_one_table_to_the_other(before, after):
    def text(rows):
        return "key,value\n" + "".join(f"{key},{value}\n" for key, value in rows.items())

    rows = dict(before)
    for change in table_changes(text(before), text(after)):
        if change.op == "remove":
            assert rows.pop(change.path[0]) == change.before
        else:
            assert rows.get(change.path[0]) == change.before
            rows[change.path[0]] = change.after
    assert rows == after
