# ruff: noqa: RUF001 - look-alike characters are what is tested
"""Nothing outside the language gets in, and nothing inside it grows without bound.

The list holds the published ways out of RestrictedPython, asteval, simpleeval, Jinja and n8n's Python (security.md
section 7), adapted to what an expression could try here. ASVS 5.0: 1.2.8, 1.3.2 (no dynamic code from input).
"""

from __future__ import annotations

import ast
import builtins
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.values import encode
from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.language import MAX_SOURCE, parse
from mappings.faults import FlowErrors
from tests.mappings.making import Answers, evaluate, load, mapped, outcome, quoted, target

ESCAPES = [
    # attributes and the class tree (simpleeval, asteval, Jinja sandbox, n8n)
    "().__class__.__base__.__subclasses__()",
    "''.__class__.__mro__[1].__subclasses__()",
    "a.__class__",
    "a.b",
    "a.upper()",
    "record.__class__",
    "record.get('a')",
    "[].append.__self__.__class__",
    "round.__self__",
    "upper.__globals__['os']",
    "(1).real",
    "1 .real",
    "a.__getattribute__('x')",
    # names of the interpreter
    "__import__('os').system('id')",
    "__builtins__",
    "__builtins__['eval']",
    "__name__",
    "__debug__",
    "__loader__",
    "__class__",
    "__record__",
    "getattr(a, 'b')",
    "eval('1')",
    "exec('1')",
    "compile('1', '', 'eval')",
    "open('/etc/passwd')",
    "globals()",
    "locals()",
    "vars()",
    "dir(a)",
    "type(a)",
    "object()",
    "super()",
    "print(1)",
    "input()",
    "breakpoint()",
    "help()",
    "id(a)",
    "hash(a)",
    "str(a)",
    "sorted(a)",
    "pow(2, 10)",
    "sum(a)",
    "range(10)",
    "map(upper, a)",
    "resolve.lookup('t', 'k')",
    "namespace()",
    # formatting reaches attributes (RestrictedPython CVE-2023-41039, Jinja CVE-2024-56326, asteval GHSA-3wwr)
    "'{0.__class__}'.format(a)",
    "'{0.__class__}'.format_map(record)",
    "format(a, 's')",
    "f'{a}'",
    "f'{a.__class__}'",
    "f'{a!r:>100}'",
    "rf'{a}'",
    # scopes and frames (RestrictedPython CVE-2023-37271, CVE-2024-47532, CVE-2025-22153)
    "(x for x in [1]).gi_frame.f_back",
    "[x for x in a]",
    "{x for x in a}",
    "{x: 1 for x in a}",
    "(x for x in a)",
    "x for x in a",
    "[y := 1, y]",
    "(y := 1)",
    "y := 1",
    "lambda: 1",
    "(lambda: 1)()",
    "(lambda x=1: x)()",
    "yield 1",
    "(yield)",
    "yield from a",
    "await a",
    # literals of other kinds
    "b'bytes'",
    "1j",
    "...",
    "{}",
    "{'a': 1}",
    "{1}",
    "(1, 2)",
    "1, 2",
    "()",
    "[1]",
    "[a][0]",
    "'\\ud800'",
    "'\\x00'",
    # subscripts and slices
    "a[0]",
    "a['b']",
    "a[1:2]",
    "record",
    "parent",
    "record[0]",
    "record[a]",
    "record['a' + 'b']",
    "record['a']['b']",
    "record[...]",
    "record['a':'b']",
    "record['']",
    "record['$secret']",
    "record['$parent.a']",
    "parent['$id']",
    "record()",
    "$scope",
    # calls
    "upper(*a)",
    "upper(**a)",
    "upper(x=a)",
    "upper()(a)",
    "upper(a)(a)",
    "upper(upper)(a)",
    "(upper)(a)(b)",
    "'upper'(a)",
    "record['upper'](a)",
    "empty(a, b)",
    # operators outside the list
    "a @ b",
    "a & b",
    "a | b",
    "a ^ b",
    "a << 1",
    "a >> 1",
    "~a",
    "a is b",
    "a is not b",
    # statements and ways to smuggle them
    "import os",
    "a = 1",
    "a += 1",
    "a; b",
    "pass",
    "del a",
    "if a: b",
    "1\nimport os",
    "1)\nimport os\n(1",
    "a) + (b",
    ") (",
    "1)(2",
    "exec('x') if True else 1",
    "assert a",
    "with a: b",
    "@a",
    # names that only look plain; the parser folds them to ASCII
    "ｇetattr(a, 'b')",
    "ｅval('1')",
    "ｒound(a)",
    "𝓇ound(a)",
    "__ｃlass__",
    "ａ",
    "ﬁeld",
    "ｔrue",
    "ｒecord['a']",
    "\u2167",
    # odd characters
    "1 if x else\x0c y\x00",
    "\\",
    "'\\d'",
    "1if a else 2",
    "0777",
    "\ud800",
    "a\u202eb",
    "#",
    "",
    "   ",
]


@pytest.mark.parametrize("expression", ESCAPES)
def test_a_published_escape_is_refused_when_the_rule_is_read(expression):
    with pytest.raises(ValueError, match=r"^[a-z'$]"):
        parse(expression)


@pytest.mark.parametrize(
    "name", ["upper", "number", "eval", "os", "self", "get", "scope", "resolve", "document", "values"]
)
def test_a_bare_name_is_a_field_of_the_record_whatever_it_is_called_elsewhere(name):
    assert evaluate(name, {}) is None
    assert evaluate(name, {name: "mine"}) == "mine"


@pytest.mark.parametrize("name", ["__class__", "__builtins__", "__dict__", "get", "keys", "pop"])
def test_a_field_reached_by_text_is_only_ever_a_key(name):
    assert evaluate(f'record["{name}"]', {}) is None
    assert evaluate(f'record["{name}"]', {name: 1}) == 1


def test_every_field_of_a_rule_that_takes_an_expression_is_checked():
    for rule in (
        "{math: EXPR}",
        "{python: EXPR}",
        "{if: EXPR, then: a, else: b}",
        "{if: a, then: {python: EXPR}}",
        "{lookup: t, of: {python: EXPR}, missing: flag}",
        "{date: {python: EXPR}}",
        "{ref: a_b.c, of: {python: EXPR}}",
    ):
        with pytest.raises(FlowErrors, match="there is no function 'eval'"):
            load("x: " + rule.replace("EXPR", quoted("eval('1')")))
    for more in (
        "when: EXPR\n",
        "    when: EXPR\n",
        "    lines: {rows: {each: rows, key: k, when: EXPR}}\n",
        "    lines: {rows: {each: rows, key: k, fields: {a: {math: EXPR}}}}\n",
    ):
        with pytest.raises(FlowErrors, match="there is no function 'eval'"):
            load(more=more.replace("EXPR", quoted("eval('1')")))


def test_compiled_functions_have_no_builtins_and_know_only_what_was_bound():
    compiled = target('x: {python: "upper(a)"}\ny: {template: "{a}"}\nz: {math: "a + 1"}')
    for function in (compiled.map, compiled.when, compiled.wants):
        assert function.__globals__["__builtins__"] == {}
        dangerous = {
            getattr(builtins, name) for name in ("eval", "exec", "open", "getattr", "__import__", "compile")
        }
        assert not dangerous & {value for value in function.__globals__.values() if callable(value)}


HOSTILE = st.text(max_size=40) | st.sampled_from(
    [
        "'",
        '"',
        "\\",
        "\n",
        "');import os;('",
        '"""',
        "{",
        "}",
        "#",
        "\u2028",
        "__builtins__",
        "f'{1}'",
        "\\N{DIGIT ONE}",
    ]
)


@given(HOSTILE, HOSTILE, HOSTILE)
def test_no_text_of_a_flow_can_become_code(field, source, constant):
    """Names and constants of any spelling come out as the data they are, or are refused when the flow is read."""
    rules = {f"a{field}": {"direct": source}, f"b{field}": {"const": constant}}
    text = (
        "flow: f_g\nsource: {system: bc, entity: c}\n"
        "targets: {t: {system: crm, entity: a, key: {number: number}, fields: " + json.dumps(rules) + "}}"
    )
    from mappings.compiler import compile_flow
    from mappings.load import load_flow

    try:
        compiled = compile_flow(load_flow(text, name="f.yaml")).targets["t"]
    except FlowErrors:
        return
    image = compiled.map({source: "the value"}, "", "1", Answers())
    expected = {"$scope": "", "$id": "1"}.get(source, "the value")
    assert image.values == {
        "number": None if source != "number" else "the value",
        f"a{field}": expected,
        f"b{field}": constant,
    }
    ast.parse(compiled.source)


# --- bounds


@pytest.mark.parametrize(
    "expression",
    [
        "9 ** 9 ** 9 ** 9",
        "2 ** 100000",
        "(2 ** 4000) * (2 ** 4000)",
        "2 ** 4095 + 2 ** 4095",
        "big * big",
        "big + 1",
        "text(big)",
        "1.5 * big",
        "10.5 ** 9999",
        "1.1 ** 100000",
        "long + long",
        "upper(sharp)",
        "replace(half, 'a', 'bbb')",
        "replace(longer, 'a', '')",
        "'x' in longer",
        "contains(longer, 'x')",
        "strip(longer)",
        "round(1.5, 31)",
        "pad_left('a', 100000)",
        "left('a', 99999999)",
        "add_days('2026-01-01', 99999999)",
        "1 in items",
    ],
)
def test_what_would_grow_beyond_the_limits_is_a_typed_error(expression):
    record = {
        "big": 1 << 5000,
        "long": "x" * 40_000,
        "half": "a" * 30_000,
        "sharp": "ß" * 40_000,
        "longer": "a" * 70_000,
        "items": [1] * 1_001,
    }
    with pytest.raises(MappingError) as caught:
        evaluate(expression, record)
    assert caught.value.code == "mapping_limit"


def refused_or_value(expression, record):
    parse(expression)
    return evaluate(expression, record)


@pytest.mark.parametrize("expression", ["'ab' * 3", "3 * 'ab'", "'ab' * 1000000000", "text * 2", "[1] * 9"])
def test_text_is_never_repeated(expression):
    with pytest.raises((ValueError, MappingError), match=r"cannot multiply|a list stands"):
        refused_or_value(expression, {"text": "x"})


@pytest.mark.parametrize(
    "expression",
    [
        "1 + " * 2000 + "1",
        "(" * 41 + "1" + ")" * 41,
        "[" * 100,
        "not " * 900 + "a",
        "-" * 3000 + "1",
        "+".join(["a"] * 200),
        "a if a else " * 200 + "a",
        "upper(" * 30 + "not " * 40 + "a" + ")" * 30,
        "1" * 1300,
        "1e400",
        "1e31",
        "1.0e-31",
        "1." + "1" * 34,
        "'" + "x" * MAX_SOURCE + "'",
    ],
)
def test_long_deep_and_huge_expressions_are_refused_before_they_are_compiled(expression):
    with pytest.raises(ValueError, match=r"longer|deep|opens more|bits|digits|cannot be read"):
        parse(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "not " * 58 + "a",
        "-" * 58 + "a",
        "(" * 39 + "a" + ")" * 39,
        "+".join(["a"] * 59),
        "a if a else " * 58 + "a",
        " and ".join(["a"] * 600),
        "1 < " * 300 + "1",
        "a not in [" + ", ".join(["'x'"] * 500) + "]",
        "max(" * 38 + "a" + ")" * 38,
        "(n not in (not " * 19 + "n" + "))" * 19,
    ],
)
def test_the_deepest_expressions_that_are_taken_also_compile_and_run(expression):
    if "n not in" in expression:
        with pytest.raises(MappingError, match="cannot look for"):
            evaluate(expression, {"n": 1})
        return
    evaluate(expression, {"a": 1})


def test_the_deepest_nest_of_rules_compiles():
    rule = "{const: 1}"
    for _ in range(16):
        rule = "{if: " + quoted("not " * 55 + "a") + f", then: a, else: {rule}}}"
    assert mapped(f"x: {rule}", {"a": 1}).values["x"] in (1, None)


def test_no_state_survives_an_evaluation_and_the_record_is_not_changed():
    compiled = target('x: {python: "coalesce(a, b)"}\ny: {if: "a < b < c", then: a, else: b}')
    record = {"a": [1], "b": 2, "c": 3}
    before = encode(record)
    with pytest.raises(MappingError):
        compiled.map(record, "", "1", Answers())
    assert encode(record) == before
    assert compiled.map({"b": 2}, "", "1", Answers()).values == {"accountnumber": None, "x": 2, "y": 2}


leaves = st.sampled_from(
    [
        "a",
        "b",
        "n",
        "1",
        "0",
        "2.5",
        "-3",
        "'x'",
        "''",
        "null",
        "true",
        'record["Any name"]',
        "10 ** 20",
        "4095",
    ]
)
binary = st.sampled_from(
    ["+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!=", "in", "and", "or"]
)


def _calls(inner):
    return st.sampled_from(sorted(FUNCTIONS)).flatmap(
        lambda name: st.lists(inner, min_size=FUNCTIONS[name].least, max_size=FUNCTIONS[name].least).map(
            lambda arguments: f"{name}({', '.join(arguments)})"
        )
    )


expressions = st.recursive(
    leaves,
    lambda inner: (
        st.tuples(inner, binary, inner).map(lambda parts: f"({' '.join(parts)})")
        | st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} if {parts[1]} else {parts[2]})")
        | inner.map(lambda one: f"(not {one})")
        | inner.map(lambda one: f"(-{one})")
        | _calls(inner)
    ),
    max_leaves=12,
)
values = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.text(max_size=8)
    | st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20)
    | st.lists(st.integers(), max_size=3)
)


@given(expressions, values, values)
def test_any_expression_of_the_language_gives_a_plain_value_or_a_typed_error(expression, a, b):
    result, error = outcome(MappingError, lambda: evaluate(expression, {"a": a, "b": b, "Any name": 5}))
    if error is not None:
        assert error.code.startswith("mapping_")
        return
    assert type(result) in (type(None), bool, int, Decimal, str, list)
    if type(result) is Decimal:
        assert result.is_finite()
        assert result != result.to_integral_value()
    encode(result)


python_pieces = st.lists(
    st.sampled_from(
        ["a", "upper", "(", ")", "[", "]", "{", "}", ".", ",", ":", "=", ":=", "lambda", "for", "in", "if", "else", "not",
         "and", "is", "await", "yield", "*", "**", "'x'", "f'", "'", "1", "1.5", "__class__", "record", "\n", "#", "@",
         "import", ";", "|", "~", "<", "$"]
    ),
    max_size=14,
)  # fmt: skip


@given(python_pieces.map(" ".join) | st.text(max_size=60))
def test_any_text_is_an_expression_or_is_refused_with_a_sentence(text):
    expression, error = outcome(ValueError, lambda: parse(text))
    if error is not None:
        assert str(error)
        return
    allowed = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
    kinds = (
        ast.Constant,
        ast.Name,
        ast.BinOp,
        ast.BoolOp,
        ast.UnaryOp,
        ast.Compare,
        ast.IfExp,
        ast.Call,
        ast.Subscript,
        ast.List,
    )
    assert all(isinstance(node, (*allowed, *kinds)) for node in ast.walk(expression.tree))
