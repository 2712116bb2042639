# ruff: noqa: RUF001 - look-alike characters are what is tested
"""Nested values, methods, slices, comprehensions, f-strings and lists: what they give, and what they refuse."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.values import encode
from mappings.evaluate import evaluate as evaluate_kind
from mappings.expressions.guards import ERROR_CLASSES, RuleError
from mappings.expressions.language import parse
from mappings.expressions.methods import METHODS
from mappings.faults import FlowErrors
from mappings.runtime import broken_rule
from tests.mappings.making import evaluate, mapped, quoted, target

RECORD = {
    "n": None,
    "i": 7,
    "d": Decimal("2.5"),
    "name": " Lab ",
    "t": "a,b,c",
    "o": {"k": 1, "q": None, "inner": {"list": [5, 6]}},
    "lines": [
        {"qty": 2, "price": Decimal("1.5"), "sku": "b"},
        {"qty": 3, "price": Decimal("2.25"), "sku": "a"},
    ],
    "Any name": "odd",
    "big": 1 << 2_000,
}


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        # nested values
        ("lines[0]['qty']", 2),
        ("lines[-1].get('price')", Decimal("2.25")),
        ("o['inner']['list'][1]", 6),
        ("o.get('no')", None),
        ("o.get('no', 'x')", "x"),
        ("o.get('q', 'x')", None),
        ("n['k']", None),
        ("n[0][1]['k']", None),
        ("n.get('k', 5)", 5),
        ("t[0] + t[-1]", "ac"),
        ("record.get('Any name')", "odd"),
        ("record.get('no', 'x')", "x"),
        ("record.get('n', 'x')", None),
        ("record.get('$scope', 'x')", "s"),
        ("'k' in o and 'z' not in o", True),
        # slices
        ("t[2:]", "b,c"),
        ("t[::-1]", "c,b,a"),
        ("t[-1:0:-2]", "cb"),
        ("[1, 2, 3, 4][1:3]", [2, 3]),
        ("n[1:2]", None),
        ("t[:99999999999999999999]", "a,b,c"),
        # lists, objects, tuples
        ("[1, 'a', null]", [1, "a", None]),
        ("(1, 2)", [1, 2]),
        ("()", []),
        ("i in (1, 7)", True),
        ("{'a': 1, t: 2}", {"a": 1, "a,b,c": 2}),
        ("[1] + [2]", [1, 2]),
        ("[0] * 3", [0, 0, 0]),
        ("2 * 'ab'", "abab"),
        ("'' * big", ""),
        ("'ab' * -1", ""),
        ("[1, [2.0]] == [1.0, [2]]", True),
        ("[1] == [true]", False),
        ("{'a': 1} == {'a': 1.0}", True),
        ("{'a': 1} != {'b': 1}", True),
        ("n is None", True),
        ("i is not null", True),
        ("lines[0] in lines", True),
        # methods
        ("name.strip().upper()", "LAB"),
        ("name.lstrip() + '|' + name.rstrip()", "Lab | Lab"),
        ("'--a--'.strip('-')", "a"),
        ("n.upper()", None),
        ("n.split(',')", None),
        ("n.startswith('x')", None),
        ("'straße'.casefold()", "strasse"),
        ('"they\'re here".title()', "They'Re Here"),
        ('title_case("they\'re HERE")', "They're Here"),
        ("'aBc'.swapcase() + 'aB'.capitalize()", "AbCAb"),
        ("t.split(',')", ["a", "b", "c"]),
        ("t.split(',', 1)", ["a", "b,c"]),
        ("t.split(',', -1)", ["a", "b", "c"]),
        ("t.rsplit(',', 1)", ["a,b", "c"]),
        ("' a  b '.split()", ["a", "b"]),
        ("'a\\nb'.splitlines()", ["a", "b"]),
        ("t.partition(',')", ["a", ",", "b,c"]),
        ("t.rpartition(',')", ["a,b", ",", "c"]),
        ("t.partition('-')", ["a,b,c", "", ""]),
        ("' / '.join(['a', null, 1.50])", "a /  / 1.5"),
        ("join(['a', null, '', 1.50], ' / ')", "a / 1.5"),
        ("t.find('b') + t.rfind(',') + t.find('z')", 4),
        ("t.count(',') + [1, 1.0, true].count(1)", 4),
        ("[1, 2, 3].index(3)", 2),
        ("'7'.zfill(3) + '7'.rjust(2, '-') + '7'.ljust(2) + '7'.center(3, '*')", "007-77 *7*"),
        ("'abc'.removeprefix('a').removesuffix('c')", "b"),
        ("t.startswith(['x', 'a']) and t.endswith('c')", True),
        ("'12'.isdigit() and 'ab'.isalpha() and 'a1'.isalnum() and ' '.isspace()", True),
        ("'AB'.isupper() and 'ab'.islower()", True),
        ("t.replace(',', ';', 1)", "a;b,c"),
        ("o['inner'].keys() + o['inner'].values()", ["list", [5, 6]]),
        ("o['inner'].items()", [["list", [5, 6]]]),
        # functions of lists
        ("sum([1, null, 2.5])", Decimal("3.5")),
        ("sum(n) + len(n)", 0),
        ("any([0, '']) or all([1, 'a'])", True),
        ("any(n)", False),
        ("all(n)", True),
        ("sorted([3, 1.5, null, 2])", [Decimal("1.5"), 2, 3, None]),
        ("[line['sku'] for line in sorted(lines, 'sku')]", ["a", "b"]),
        ("reversed([1, 2]) + [reversed('ab')]", [2, 1, "ba"]),
        ("unique([1, 1.0, true, '1', [1], [1.0], null, null])", [1, True, "1", [1], None]),
        ("range(3) + range(5, 1, -2)", [0, 1, 2, 5, 3]),
        ("enumerate('ab', 1)", [[1, "a"], [2, "b"]]),
        ("zip([1, 2], 'ab')", [[1, "a"], [2, "b"]]),
        ("dict(zip(['a', 'b'], [1, 2]))", {"a": 1, "b": 2}),
        ("first(lines)['qty'] + last([1, 2])", 4),
        ("first([])", None),
        ("list('ab') + list(o['inner'])", ["a", "b", "list"]),
        ("if_null(n, 1) + if_empty('', 2)", 3),
        # comprehensions
        ("[x * 2 for x in [1, 2, 3] if x > 1]", [4, 6]),
        ("[x for x in n]", []),
        ("[c for c in 'ab']", ["a", "b"]),
        ("[k for k in o]", ["k", "q", "inner"]),
        ("[a + b for a, b in [[1, 2], [3, 4]]]", [3, 7]),
        ("[[a, b] for a in range(3) for b in range(a) if a + b > 1]", [[2, 0], [2, 1]]),
        ("{k: v for k, v in zip('ab', [1, 2]) if v > 1}", {"b": 2}),
        ("sum(line['qty'] * line['price'] for line in lines)", Decimal("9.75")),
        ("', '.join(x.upper() for x in t.split(','))", "A, B, C"),
        ("[x for x in range(9) if 1 < x + 1 < 4]", [1, 2]),
        ("[x for x in ([1] if 0 < i + 1 < 9 < i + 3 else [2])]", [1]),
        ("[i for i in [i, i + 1]]", [7, 8]),
        ("[[y for y in range(x)] for x in range(3)]", [[], [0], [0, 1]]),
        # f-strings
        ("f'{name.strip()}-{i:05d}'", "Lab-00007"),
        ("f'{n}|{n:>3}|{true}'", "|   |true"),
        ("f'{1.10}|{i / 4:.1f}|{2.345:.2f}|{-0.004:.2f}'", "1.1|1.8|2.35|0.00"),
        ("f'{1234567.891:,.2f}|{12345:,}|{0.256:.1%}'", "1,234,567.89|12,345|25.6%"),
        ("f'{i:+d}|{-i:+06d}|{i:*^5}|{t:<7}|{t:.3}|{t:>7s}'", "+7|-00007|**7**|a,b,c  |a,b|  a,b,c"),
        ("f'{{}}' f'{t}' '!'", "{}a,b,c!"),
        ("f'{d * 1.10}'", "2.75"),
        ("f'{1e2:f}'", "100.000000"),
    ],
)
def test_an_expression_has_this_value(expression, result):
    found = evaluate(expression, RECORD, scope="s")
    assert encode(found) == encode(result)
    assert evaluate_kind("python", expression, {**RECORD, "n": None}) == result or "$scope" in expression


@pytest.mark.parametrize(
    ("expression", "code", "what"),
    [
        ("lines[2]", "item", "there is no item at this position of a list; test len(...) first"),
        ("o['z']", "item", "an object has no such name; x.get(name) gives null instead"),
        ("[1].index(2)", "item", "the value is not in the list; test with `in` first"),
        ("lines['a']", "type", "a position is a whole number, there is text"),
        ("o[1]", "type", "an object is read by a name, there is a number"),
        ("i[0]", "type", "square brackets need a list, a text or an object, there is a number"),
        ("t['a':]", "type", "the bounds of a slice are whole numbers, there is text"),
        ("t[::0]", "type", "the step of a slice is not 0"),
        ("i[1:]", "type", "a slice needs a list or a text, there is a number"),
        ("i.upper()", "type", "text is needed, there is a number"),
        ("t.keys()", "type", "there is no method keys of text"),
        ("lines.find('a')", "type", "there is no method find of a list"),
        ("o.count(1)", "type", "there is no method count of an object"),
        ("[x for x in i]", "type", "a list is needed, there is a number"),
        ("[a for a, b in [[1]]]", "type", "a list of 2 items is needed for 2 names"),
        ("[a for a, b in ['ab']]", "type", "a list of 2 items is needed for 2 names"),
        ("{i: 1}", "type", "a name in an object is text, there is a number; write text(...)"),
        ("sorted([1, 'a'])", "type", "sorted orders numbers or texts; with others there is text"),
        ("sum(['a'])", "type", "sum adds numbers, there is text"),
        ("range(1001)", "limit", "range counts at most 1000 numbers"),
        ("range(1, 2, 0)", "type", "range needs a step other than 0"),
        ("f'{lines}'", "type", "cannot write a list as text"),
        ("f'{t:d}'", "type", "this format is for numbers, there is text"),
        ("f'{d:d}'", "type", "the format d is for whole numbers; write .2f, or round the number first"),
        ("f'{d:.2}'", "type", "digits after the point of a number are written with f, such as .2f"),
        ("f'{i:s}'", "type", "the format s is for text, there is a number; write f or nothing"),
        ("'' .split('')", "type", "split needs a text to split at, it is empty"),
        ("'ab' * 40000", "limit", "a text would grow beyond 65536 characters"),
        ("[0] * 1001", "limit", "a list would grow beyond 1000 items"),
        ("[1 for a in range(40) for b in range(40)]", "limit", "a comprehension made more than 1000 items"),
        (
            "[1 for a in range(1000) for b in range(1000)]",
            "limit",
            "the calculation takes more than 20000 steps; work on fewer or smaller values",
        ),
    ],
)
def test_what_cannot_be_is_an_error_that_says_why(expression, code, what):
    with pytest.raises(MappingError) as caught:
        evaluate(expression, RECORD)
    assert caught.value.code == f"mapping_{code}"
    assert caught.value.message.startswith(f"The rule of x in customers_to_accounts.account fails: {what}. ")


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        (
            "a.b",
            'an expression cannot use attribute access with a point; write a["b"], of a list [x["b"] for x in a]',
        ),
        (
            "a.upper",
            "an expression cannot use attribute access with a point; a method is called with brackets",
        ),
        ("record.city", 'an expression cannot use attribute access with a point; write record["city"]'),
        ("a.append(1)", "there is no method 'append': nothing changes in place; write x = x + [y]"),
        ("a.sort()", "there is no method 'sort': nothing changes in place; make a new list"),
        ("a.format(1)", "there is no method 'format'; write an f-string"),
        ("a.uper()", "there is no method 'uper'; did you mean upper? Near it: upper, isupper"),
        ("a.round()", "there is no method 'round'; it is a function: round(x"),
        ("a._x()", "the name '_x' cannot be used: no name behind a point begins with an underscore"),
        ("a.ｕpper()", "the name 'upper' is written with look-alike characters; type it plainly"),
        ("a.upper(x=1)", "upper takes no named arguments: x.upper(): in capitals"),
        ("a.upper(1)", "upper does not take 1 values: x.upper(): in capitals"),
        ("TRIM(a)", "there is no function 'TRIM'; write strip(x)"),
        ("Upper(a)", "there is no function 'Upper'; did you mean upper?"),
        ("Decimal(a)", "there is no function 'Decimal'; write number(x)"),
        ("zfill(a, 2)", "there is no function 'zfill'; it is a method: x.zfill(n)"),
        ("a is 1", "an expression cannot use is, but with null; use =="),
        ("{1, 2}", "an expression cannot use a set; write a list in square brackets"),
        ("{x for x in a}", "an expression cannot use a set comprehension; write unique([... for ...])"),
        ("(x for x in a)", "an expression cannot use a generator on its own; write it in square brackets"),
        ("max((x for x in a), 1)", "an expression cannot use a generator on its own"),
        ("{**a}", "an expression cannot use ** in an object; write its names one by one"),
        ("{1: 2}", "a name in an object is text; put it in quotes"),
        ("[*a]", "an expression cannot use a star"),
        ("[y := 1]", "an expression cannot use an assignment"),
        ("[x async for x in a]", "an expression cannot use async for"),
        ("[1 for __x in a]", "the name '__x' cannot be used"),
        ("[1 for true in a]", "true is a value and cannot be a name"),
        ("[1 for record in a]", "record alone is no value"),
        ("[1 for x.y in a]", "only names take values: x, or x, y"),
        ("[1 for x[0] in a]", "only names take values: x, or x, y"),
        ("[1 for (x, (y, z)) in a]", "only names take values: x, or x, y"),
        ("a[0, 1]", "square brackets take one position or name: x[0][1], not x[0, 1]"),
        ("record[a]", 'record[...] reaches a field by its name, a text in quotes: record["Any name"]'),
        ("record.keys()", 'record has the method get only: record.get("Any name", default)'),
        ("record.get(a)", 'record[...] reaches a field by its name, a text in quotes: record["Any name"]'),
        ("record.get('$x')", 'record["$x"] does not exist; there are record["$scope"] and record["$id"]'),
        ("f'{a!r}'", "an f-string cannot use !r; write the value alone"),
        ("f'{a:{b}}'", "the format in an f-string is written out; it cannot hold values of its own"),
        ("f'{a:>101}'", "a width or precision in an f-string is at most 100, there is 101"),
        ("f'{a:.101f}'", "a width or precision in an f-string is at most 100, there is 101"),
        ("f'{a:\\x00>3}'", "a text in the expression holds a character that cannot be stored"),
        ("f'{a:x}'", "the format 'x' cannot be used; write [fill]"),
        ("f'{a:08,}'", "a format takes zeros in front or commas between, not both"),
        ("f'{a:.2d}'", "the format d is for whole numbers; write .2f for decimals"),
        ("f'{a:+s}'", "the format s is for text; a sign, zeros or commas are for numbers"),
        ("f'{a.b}'", "an expression cannot use attribute access with a point"),
        ("f'{ｅval}'", "the name 'eval' is written with look-alike characters"),
        ("1) , (2", "the expression cannot be read: its brackets do not match"),
        ("a[1:2, 3]", "square brackets take one position or name"),
    ],
)
def test_what_is_outside_the_language_is_refused_with_the_way_to_say_it(expression, what):
    with pytest.raises(ValueError) as caught:
        parse(expression)
    assert str(caught.value).startswith(what)


def test_bound_names_are_no_fields_and_the_others_are():
    compiled = target(
        'x: {python: "[a + b for a in rows if a > limit for b in a_list if a]"}\n'
        "y: {python: \"sum(line['q'] for line in lines)\"}"
    )
    assert compiled.lineage["x"] == ("rows", "limit", "a_list")
    assert compiled.lineage["y"] == ("lines",)
    assert list(parse("[x for x in x]").names.reads) == ["x"]
    assert list(parse("record.get('a', record['b']) + c").names.reads) == ["a", "b", "c"]


def test_the_input_of_a_rule_is_called_value():
    record = {"a": " x ", "value": "the field", "q": "12"}
    fields = (
        'p: {python: "value.strip()", of: a}\n'
        "f: {python: value}\n"
        'm: {math: "value + value", of: {python: "number(q)"}}\n'
        'i: {if: "0 < value < 20", of: {math: "number(q)"}, then: value, else: a}\n'
        't: {template: "<{value}|{a}>", of: {python: "q + q"}}\n'
        'c: {python: "[value + x for x in \'ab\']", of: {python: "upper(a)"}}'
    )
    values = mapped(fields, record).values
    assert values["p"] == "x"
    assert values["f"] == "the field"
    assert values["m"] == 24
    assert values["i"] == "the field"
    assert values["t"] == "<1212| x >"
    assert values["c"] == [" X a", " X b"]
    compiled = target(fields)
    assert compiled.lineage["p"] == ("a",)
    assert compiled.lineage["m"] == ("q",)
    assert list(compiled.rules["c"].reads()) == []
    assert [word for word, _ in compiled.rules["i"].parts()] == ["of", "then", "else"]


def test_an_input_that_is_not_read_is_a_fault():
    with pytest.raises(FlowErrors, match="the rule has of:, and its expression does not read it"):
        target('x: {python: "a", of: b}')
    with pytest.raises(FlowErrors, match="the rule has of:, and its template does not read it"):
        target('x: {template: "a", of: b}')


def test_the_rules_of_lines_reach_both_the_line_and_its_document():
    more = (
        "    lines:\n      rows:\n        each: lines\n        key: {k: qty}\n        fields:\n"
        '          a: {python: "[x * qty for x in [1, 2]]"}\n'
        "          b: {python: \"record.get('sku', 'none') + parent.get('name', 'none') + record.get('no', '!')\"}\n"
        "          c: {python: \"parent['t'].split(',')[0]\"}\n"
    )
    image = mapped("x: i", RECORD, more=more)
    assert [line.values for line in image.lines["rows"]] == [
        {"k": 2, "a": [2, 4], "b": "b Lab !", "c": "a"},
        {"k": 3, "a": [3, 6], "b": "a Lab !", "c": "a"},
    ]


def test_a_result_is_a_copy_and_no_part_of_the_record():
    record = {"lines": [{"q": [1]}]}
    for expression in (
        "lines",
        "[x for x in lines]",
        "lines + []",
        "{'a': lines}",
        "lines[0]",
        "record['lines'][0]['q']",
    ):
        found = evaluate(expression, record)
        while found:
            inner = found[0] if isinstance(found, list) else next(iter(found.values()))
            found.clear()
            found = inner if isinstance(inner, list | dict) else None
        assert record == {"lines": [{"q": [1]}]}


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("nest", "the result nests deeper than 20 levels"),
        ("[wide] * 11", "the result holds more than 10000 values"),
        ("[long] * 5", "the result holds more than 262144 characters of text"),
        ("longer", "the result holds a text that is longer than 65536 characters"),
        ("many", "the result holds a list or an object with more than 1000 items"),
    ],
)
def test_a_result_beyond_its_bounds_is_a_typed_error(expression, what):
    nest = [1]
    for _ in range(20):
        nest = [nest]
    record = {
        "nest": nest,
        "wide": [1] * 1_000,
        "long": "x" * 65_000,
        "longer": "x" * 65_537,
        "many": [1] * 1_001,
    }
    with pytest.raises(MappingError, match=what) as caught:
        evaluate(expression, record)
    assert caught.value.code == "mapping_limit"


def test_results_in_lists_have_their_canonical_form():
    assert encode(evaluate("[1.50 + 0.5, {'a': 2.50}]", {})) == b'[2,{"a":2.5}]'


@pytest.mark.parametrize(
    ("kind", "expr", "record", "table", "result"),
    [
        ("when", "a == 1", {"a": 1}, None, True),
        ("if", "a", {"a": []}, None, False),
        ("math", "0.1 + 0.2", {}, None, Decimal("0.3")),
        ("math", "a + 1", {}, None, None),
        ("template", "{a}/{record[Any name]}", {"a": "{b}", "Any name": 1}, None, "{b}/1"),
        ("date", "%d.%m.%Y", {"value": "2026-01-02"}, None, "02.01.2026"),
        ("date", "datetime", {"value": None}, None, None),
        ("lookup", "a + '1'", {"a": "k"}, {"k1": [1]}, [1]),
        ("lookup", "a", {"a": 7}, {"7": "seven"}, "seven"),
        ("lookup", "a", {"a": "no"}, {"7": "seven"}, None),
    ],
)
def test_an_evaluation_of_each_kind_goes_the_way_of_a_flow(kind, expr, record, table, result):
    before = encode([record, table])
    assert evaluate_kind(kind, expr, record, table) == result
    assert encode([record, table]) == before


@pytest.mark.parametrize(
    ("kind", "expr", "what"),
    [
        ("nix", "a", "'nix' is no kind of expression. Valid: if, when, math"),
        ("math", "a.b", "an expression cannot use attribute access"),
        ("math", "a = 1", "the expression cannot be read: an assignment has no place here"),
        ("python", "parent['a']", "$parent.a works in the rules of lines only"),
        ("date", "nope", "'nope' is no form of a date"),
        ("lookup", "a", "a lookup needs a table"),
        ("python", 5, "an expression is text; put it in quotes"),
    ],
)
def test_an_evaluation_that_is_refused_says_why(kind, expr, what):
    with pytest.raises(ValueError) as caught:
        evaluate_kind(kind, expr, {})
    assert str(caught.value).startswith(what)
    assert caught.value.class_name == "RefusedExpression"


@pytest.mark.parametrize(
    "value", [1.5, {1: 2}, (1,), {1}, b"x", object(), "\x00", "\ud800", Decimal("NaN"), Decimal("1E+9999")]
)
def test_only_plain_values_go_into_an_evaluation(value):
    with pytest.raises(RuleError):
        evaluate_kind("python", "1", {"a": value})


def test_a_record_that_is_no_object_is_a_typed_error():
    for record in ([], None, "a", 1):
        with pytest.raises(RuleError, match="the record is no object"):
            evaluate_kind("python", "1", record)


def test_every_code_of_an_error_has_a_class_and_a_way_on():
    for code in ERROR_CLASSES:
        error = broken_rule("f", "t", "x", RuleError(code, "what"))
        assert error.code == f"mapping_{code}"
        assert error.message.startswith("The rule of x in f.t fails: what. ")


def test_every_method_says_how_it_is_called():
    for name, method in METHODS.items():
        assert f".{name}(" in method.says.partition(": ")[0]
        if name != "get":
            call = f"n.{name}({', '.join(['t'] * method.least)})"
            assert evaluate(call, RECORD) is None, quoted(call)
