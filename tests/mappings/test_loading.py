"""Reading flow files: what YAML may hold, and that all faults come at once, each with its place and a way out."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.core.values import encode
from mappings.faults import FlowErrors
from mappings.load import load_flow, load_folder
from mappings.lookup_tables import load_lookup, load_lookups
from tests.mappings.making import HEAD, load, outcome

GOOD = HEAD + "    fields: {name: displayName}\n"


def faults(text: str) -> list[str]:
    with pytest.raises(FlowErrors) as caught:
        load_flow(text, name="f.yaml")
    return [str(fault) for fault in caught.value.faults]


def field_faults(fields: str) -> list[str]:
    with pytest.raises(FlowErrors) as caught:
        load(fields, name="f.yaml")
    return [str(fault) for fault in caught.value.faults]


def test_a_flow_keeps_what_was_written():
    flow = load_flow(
        GOOD
        + "trigger: {webhook: true, poll: {min: 15s, max: 15m}, schedule: '0 2 * * 0'}\n"
        + "sla: {max_age: 4h}\nowners: [sales]\n",
        name="f.yaml",
    )
    assert flow.trigger.poll is not None
    assert flow.trigger.poll.min == dt.timedelta(seconds=15)
    assert flow.trigger.poll.max == dt.timedelta(minutes=15)
    assert flow.sla is not None
    assert flow.sla.max_age == dt.timedelta(hours=4)
    assert flow.source.scopes == "all"
    assert flow.targets["account"].on_delete == "ignore"
    assert flow.targets["account"].on_leave == "keep"
    assert flow.targets["account"].conflict == "source_wins"


def test_yaml_is_1_2_so_no_is_text_and_octal_needs_its_letter():
    flow = load(
        "country: {const: NO}\nyes: {const: yes}\nshare: {const: 1.10}\nday: {const: 2026-01-15}\n"
        "eight: {const: 0o10}\nclock: {const: 12:30}\nnothing: {const: null}\ntruth: {const: true}"
    )
    constants = {name: rule.const for name, rule in flow.targets["account"].fields.items()}
    assert constants == {
        "country": "NO",
        "yes": "yes",
        "share": Decimal("1.1"),
        "day": "2026-01-15",
        "eight": 8,
        "clock": "12:30",
        "nothing": None,
        "truth": True,
    }
    assert type(constants["share"]) is Decimal


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "f.yaml: the document is empty"),
        ("- 1", "f.yaml:1: the document is not a mapping of words and values"),
        ("a: 1\n---\nb: 2", "f.yaml:2: a second document begins here; one file holds one flow"),
        ("a: [1\nb: 2", "f.yaml:2: this is not YAML: expected ',' or ']', but got ':'"),
        (
            "a: &x 1\nb: *x",
            "f.yaml:1: anchors and aliases (& and *) are not part of a flow; write the value out",
        ),
        (
            "a: !!python/object:os.system x",
            "f.yaml:1: tags (!name) are not part of a flow; put text in quotes instead",
        ),
        ("%YAML 1.1\n---\na: 1", "f.yaml:1: the text asks for another YAML than 1.2; remove the %YAML line"),
        ("a: 1\nb: \x00", "f.yaml:2: this is not YAML: it holds a control character"),
        ("? {a: b}\n: c", "f.yaml:1: a key must be plain text"),
        ("a: " + "[" * 60 + "]" * 60, "f.yaml:1: the text nests deeper than 40 levels"),
        ("a: " + "x" * 600_000, "f.yaml: the text is longer than 524288 characters"),
    ],
)
def test_what_is_no_flow_document_is_refused_in_one_sentence(text, sentence):
    assert faults(text) == [sentence]


def test_brackets_without_end_are_refused_not_followed():
    assert faults("a: " + "[" * 100_000) == ["f.yaml:1: the text nests deeper than 40 levels"]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("007", "a number begins with 0; put it in quotes to make it text"),
        (".inf", "infinity and 'not a number' are no values of a record"),
        (".nan", "infinity and 'not a number' are no values of a record"),
        ("1" * 401, "a number has more than 400 digits"),
        ("1e999", "a number has more than 400 digits"),
    ],
)
def test_a_number_that_would_surprise_is_refused(value, sentence):
    assert field_faults(f"x: {{const: {value}}}") == [f"f.yaml:9: targets.account.fields.x.const: {sentence}"]


def test_a_duplicate_key_is_refused_with_both_lines_and_the_rest_is_checked_too():
    assert field_faults("name: displayName\nname: searchName\nother: {maths: 1}") == [
        "f.yaml:10: targets.account.fields.name: 'name' stands here a second time; it was set in line 9",
        (
            "f.yaml:11: targets.account.fields.other: 'maths' is no rule; did you mean math? "
            "Valid: const, date, direct, if, lookup, math, python, ref, template, unit"
        ),
    ]


def test_every_fault_of_a_flow_comes_at_once_in_the_order_of_its_lines():
    text = """\
flow: Customers
titel: x
source: {system: bc, entity: customers, scopes: some}
trigger: {webhook: yes, poll: {min: 15x, max: 15m}, schedule: "0 25 * * 0"}
lane: realtme
window: {days: mon-fry, from: "7:00", tz: Europe/Lundon}
when: blocked.name == ""
sla: {max_age: 0h}
reverse_of: nobody
targets:
  account:
    system: crm
    key: {}
    on_delete: deactive
    fields:
      name: $scop
"""
    assert faults(text) == [
        "f.yaml:1: flow: an id is lower snake case: small letters, digits and single underscores",
        (
            "f.yaml:2: titel: 'titel' is not a word of this place; did you mean title? Valid: flow, title, description, "
            "group, owners, source, trigger, lane, mode, window, when, sla, park, exclusive_group, reverse_of, targets, examples"
        ),
        "f.yaml:3: source.scopes: all, or a list of scope names is needed",
        "f.yaml:4: trigger.webhook: true or false is needed",
        "f.yaml:4: trigger.poll.min: this is no duration; write a number and s, m, h or d, such as 15s or 4h",
        "f.yaml:4: trigger.schedule: '25' is no hour of a schedule; use *, a number from 0 to 23, 1-5, or */15",
        "f.yaml:5: lane: 'realtme' has no meaning here; did you mean realtime? Valid: realtime, polling, batch",
        "f.yaml:6: window.days: days are written mon-fri, mon,wed or all. Valid: mon, tue, wed, thu, fri, sat, sun",
        'f.yaml:6: window.from: a time of day is text such as "07:00"',
        "f.yaml:6: window.tz: 'Europe/Lundon' is no time zone; use a name like Europe/London or UTC",
        (
            'f.yaml:7: when: an expression cannot use attribute access with a point; write blocked["name"], of a list '
            '[x["name"] for x in blocked]; a method is called with brackets, such as x.upper()'
        ),
        "f.yaml:8: sla.max_age: this is no duration; write a number and s, m, h or d, such as 15s or 4h",
        "f.yaml:9: reverse_of: a flow and its target are named flow.target, in lower snake case",
        "f.yaml:11: targets.account.entity: is missing: name what the system calls these records, such as customers",
        "f.yaml:13: targets.account.key: 0 entries stand here, at least 1 is needed",
        (
            "f.yaml:14: targets.account.on_delete: 'deactive' has no meaning here; did you mean deactivate? "
            "Valid: ignore, deactivate, delete, review"
        ),
        (
            "f.yaml:16: targets.account.fields.name: $scop does not exist. "
            "Valid: $scope, $id, and $parent.FIELD in the rules of lines"
        ),
    ]


@pytest.mark.parametrize(
    ("rule", "path", "sentence"),
    [
        ("", "", "there is no rule; name a source field, or write {const: null} to send an empty value"),
        ("[a, b]", "", "a list is no rule; write {const: [...]} for a constant list"),
        (
            "{}",
            "",
            "an empty mapping is no rule. Valid: const, date, direct, if, lookup, math, python, ref, template, unit",
        ),
        (
            "{lookup: t, template: x, of: a}",
            "",
            "two rules at once: lookup and template; a field has one rule",
        ),
        (
            "{lookup: t, missing: flag}",
            ".of",
            "is missing: name the source field, or the rule, that gives the value",
        ),
        (
            "{lookup: t, of: a}",
            ".missing",
            "is missing: say what a missing entry does: flag, null or {default: VALUE}",
        ),
        ("{if: a}", ".then", "is missing: give the rule for when the condition holds"),
        (
            "{lookup: t, of: a, missing: guess}",
            ".missing",
            "this says what a missing entry does. Valid: null, flag, {default: VALUE}",
        ),
        (
            "{lookup: t, off: a, of: b, missing: flag}",
            ".off",
            "'off' is not a word of this place; did you mean of? Valid: owner, too_long, unfit_characters, lookup, of, missing, as",
        ),
        (
            "{date: a, to: '%Q'}",
            ".to",
            (
                "%Q is not a code of a date pattern. Valid: %Y, %y, %m, %d, %H, %I, %p, %M, %S, %f, %j, %a, %A, %b, %B, "
                "%u, %V, %G, %z, %%"
            ),
        ),
        (
            "{date: a, to: day}",
            ".to",
            "'day' is no form of a date. Valid: date, datetime, time, or a pattern like %d.%m.%Y",
        ),
        ("{math: 5}", ".math", "an expression is text; put it in quotes"),
        ("{math: 'rund(a, 2)'}", ".math", "there is no function 'rund'; did you mean round?"),
        (
            "{math: 'round()'}",
            ".math",
            "round does not take 0 values: round(x, n, mode): x with n decimals (0)",
        ),
        ("{if: a, then: b, else: {maths: 1}}", ".else", "'maths' is no rule; did you mean math?"),
        (
            "{ref: other, of: a}",
            ".ref",
            "a flow and its target are named flow.target, in lower snake case",
        ),
        (
            "{ref: customers_to_accounts.acount, of: a}",
            ".ref",
            "this flow has no target 'acount'. Valid: customers_to_accounts.account",
        ),
        (
            "{ref: customers_to_accounts.account, of: $id}",
            ".of",
            "the record would refer to itself; name the field of the other record",
        ),
        ("$parent.city", "", "$parent.city works in the rules of lines only; write city"),
        (
            "{const: a, owner: nobody}",
            ".owner",
            "'nobody' has no meaning here. Valid: source, target, shared",
        ),
        (
            "{if: a, then: {const: 1, owner: target}}",
            ".then.owner",
            "an owner belongs to the field's own rule, not to a rule inside it",
        ),
    ],
)
def test_a_rule_outside_the_language_is_refused_with_its_place_and_what_could_stand_there(
    rule, path, sentence
):
    (fault,) = field_faults(f"x: {rule}")
    assert fault.startswith(f"f.yaml:9: targets.account.fields.x{path}: {sentence}")


def test_a_word_that_is_missing_is_told_with_what_to_write():
    assert faults(
        "flow: a\nsource: {system: bc, entity: customers}\ntargets:\n  t:\n    lines: {l: {rollup: {}}}\n"
    ) == [
        "f.yaml:4: targets.t.system: is missing: name the system by its id, see ipaas systems list",
        "f.yaml:4: targets.t.entity: is missing: name what the system calls these records, such as customers",
        (
            "f.yaml:4: targets.t.key: is missing: say by which field a record is found, such as "
            "key: {accountnumber: number}"
        ),
        "f.yaml:5: targets.t.lines.l.each: is missing: name the field of the source that holds the lines",
        "f.yaml:5: targets.t.lines.l.key: is missing: say which field tells the lines apart, such as key: sequence",
        (
            "f.yaml:5: targets.t.lines.l.rollup.by: is missing: name the fields whose equal values make lines one, "
            "such as by: itemNumber"
        ),
    ]


def test_a_key_and_a_field_with_two_rules_is_refused_and_with_the_same_rule_is_one_field():
    assert field_faults("accountnumber: otherNumber") == [
        (
            "f.yaml:7: targets.account.key.accountnumber: accountnumber has another rule among the fields; "
            "leave one of them out"
        )
    ]
    assert load("accountnumber: number").targets["account"].rules().keys() == {"accountnumber"}


def test_a_folder_tells_the_faults_of_all_its_files_and_refuses_a_flow_that_stands_twice(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(GOOD)
    (tmp_path / "c.yaml").write_text("flow: [")
    (tmp_path / "d.yaml").write_bytes(b"flow: \xff")
    (tmp_path / "readme.txt").write_text("not a flow")
    with pytest.raises(FlowErrors) as caught:
        load_folder(tmp_path)
    assert [str(fault) for fault in caught.value.faults] == [
        "b.yml:1: flow: the flow customers_to_accounts stands in a.yaml already",
        "c.yaml:1: this is not YAML: expected the node content, but found '<stream end>'",
        "d.yaml: the file is not UTF-8 text (byte 6); save it as UTF-8",
    ]
    assert str(caught.value).startswith("3 faults in the flow, nothing was changed:\n  b.yml:1: ")


def test_a_folder_gives_its_flows_by_file_name_with_their_text(tmp_path):
    (tmp_path / "z.yaml").write_text(GOOD)
    (tmp_path / "a.yaml").write_text("# first\n" + GOOD.replace("customers_to", "items_to"))
    loaded = load_folder(tmp_path)
    assert [(each.name, each.flow.flow) for each in loaded] == [
        ("a.yaml", "items_to_accounts"),
        ("z.yaml", "customers_to_accounts"),
    ]
    assert loaded[0].text.startswith("# first\n")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"There is no folder .*nowhere"):
        load_folder(tmp_path / "nowhere")


def test_a_lookup_table_is_its_two_columns_without_the_header_and_remarks(tmp_path):
    file = tmp_path / "units.csv"
    file.write_text('\ufeffcode,unit,people:remark\nPCS,each,x\n"a,b","line\nbreak",y\n\nEMPTY,,\n')
    assert load_lookup(file) == {"PCS": "each", "a,b": "line\nbreak", "EMPTY": ""}
    assert load_lookups(tmp_path) == {"units": load_lookup(file)}


def test_a_lookup_table_tells_all_its_faults(tmp_path):
    file = tmp_path / "units.csv"
    file.write_text("code,unit\nPCS,each\nBOX\nPCS,piece\n")
    with pytest.raises(ConfigurationError) as caught:
        load_lookup(file)
    assert str(caught.value) == (
        "The lookup table units.csv cannot be used:\n"
        "  units.csv:3: there is no value beside the key\n"
        "  units.csv:4: the key stands in line 2 already"
    )


def test_a_flow_made_in_python_has_faults_without_lines():
    from mappings.compiler import compile_flow
    from mappings.spec import Flow

    flow = Flow.model_validate(
        {
            "flow": "a",
            "source": {"system": "bc", "entity": "customers"},
            "targets": {
                "t": {"system": "crm", "entity": "accounts", "key": {"n": "number"}, "fields": {"n": "other"}}
            },
        }
    )
    with pytest.raises(
        FlowErrors, match=r"^1 fault in the flow, nothing was changed:\n  targets\.t\.key\.n: n has"
    ):
        compile_flow(flow)


@given(st.text(max_size=200))
def test_any_text_is_a_flow_or_a_list_of_faults_never_another_error(text):
    with pytest.raises(FlowErrors):
        load_flow(text, name="f.yaml")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "if",
                        "then",
                        "else",
                        "of",
                        "lookup",
                        "math",
                        "const",
                        "ref",
                        "date",
                        "to",
                        "template",
                        "missing",
                        "python",
                        "direct",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_any_rule_is_a_rule_or_a_list_of_faults_never_another_error(rule):
    _, error = outcome(FlowErrors, lambda: load(f"x: {encode(rule).decode()}"))
    if error is not None:
        assert error.faults
        assert all(fault.file == "flow.yaml" for fault in error.faults)
