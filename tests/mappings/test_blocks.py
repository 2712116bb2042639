# ruff: noqa: RUF001 - look-alike characters are what is tested
"""The short blocks of a python rule: assignments, if, for, and the value that they give."""

from __future__ import annotations

import random

import pytest

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.values import encode
from mappings.codegen import Code, Shared
from mappings.expressions.emit import emit
from mappings.expressions.emit_block import emit_block
from mappings.expressions.guards import MAX_STEPS
from mappings.expressions.language import Block, Expression, parse_program
from tests.mappings.making import Answers, evaluate, mapped, outcome, quoted, target
from tests.mappings.programs import Programs

RECORD = {
    "city": " York ",
    "i": 7,
    "n": None,
    "rows": [{"q": 2, "p": 5}, {"q": 3, "p": 1}],
    "result": "field",
    "t": "abc",
}


@pytest.mark.parametrize(
    ("block", "result"),
    [
        ("city = city.strip()\ncity + '!'", "York!"),
        ("a = 1\nresult = a + 1", 2),
        ("a = 1; b = a + 1; b", 2),
        ("a = b = 2\na * b", 4),
        ("a, b = [1, 2]\na, b = b, a\n[a, b]", [2, 1]),
        ("i += 1\ni *= 2\ni -= 1\ni", 15),
        (
            "if i > 9:\n    result = 'big'\nelif i > 5:\n    result = 'middle'\nelse:\n    result = 'small'",
            "middle",
        ),
        ("if n: result = 1", None),
        ("if i: pass\nresult = result", "field"),
        ("total = 0\nfor row in rows:\n    total += row['q'] * row['p']\ntotal", 13),
        (
            "found = null\nfor row in rows:\n    if row['q'] > 2:\n        found = row['p']\n        break\nfound",
            1,
        ),
        ("out = []\nfor x in range(5):\n    if x % 2: continue\n    out = out + [x]\nout", [0, 2, 4]),
        (
            "out = {}\nfor k, v in enumerate(t):\n    out = dict(out.items() + [[v, k]])\nout",
            {"a": 0, "b": 1, "c": 2},
        ),
        ("for x in t: last = x\nlast", "c"),
        ("for x in n: last = x\nlast", None),
        ("for k in {'a': 1}: pass\nk", "a"),
        ("# a comment\nx = 1  # and another\n\nx", 1),
        ("    x = 1\n    x + 1\n", 2),
        ("x = [y for y in range(3)]\ny = 9\n[x, y]", [[0, 1, 2], 9]),
        ("x = 5\n[x for x in [1]] + [x]", [1, 5]),
        ("a = 1 if 0 < i + 1 < 9 else 2\na", 1),
        ("for x in [1]:\n    a = [z for z in [1] if 0 < x + z < 9]\na", [1]),
        ("x = f'{i}'\nx", "7"),
        ("a = rows\na = a + [1]\nlen(a) + len(rows)", 5),
        ("x = 1 +\\\n  2\nx", 3),
        ("x = '''a\n \n b'''\nx", "a\n \n b"),
    ],
)
def test_a_block_gives_this_value(block, result):
    assert isinstance(parse_program(block), Block)
    assert encode(evaluate(block, RECORD)) == encode(result)


@pytest.mark.parametrize(
    "text", ["a\n+ b", "1 +\n 2", "(a,\n b)", "a", "a\n(b)" if False else "upper\n(t)", "\n\n a \n"]
)
def test_what_can_be_read_as_an_expression_is_one(text):
    assert isinstance(parse_program(text), Expression)


@pytest.mark.parametrize(
    ("block", "what"),
    [
        (
            "x = 1",
            "the block gives no value; end it with an expression, or assign the value to the name result",
        ),
        ("if a: 1", "the block gives no value"),
        ("for x in a: x", "the block gives no value"),
        ("while a: pass\n1", "a block cannot use while; use for over range(n)"),
        ("def f(): pass\n1", "a block cannot use def; a block cannot make functions"),
        ("class A: pass\n1", "a block cannot use class"),
        ("import os\n1", "a block cannot use import"),
        ("from os import path\n1", "a block cannot use import"),
        ("x = 1\nreturn x", "a block cannot use return; end with the expression, or assign it to result"),
        ("del a\n1", "a block cannot use del"),
        ("assert a\n1", "a block cannot use assert"),
        ("raise a\n1", "a block cannot use raise"),
        ("global a\n1", "a block cannot use global"),
        ("nonlocal a\n1", "a block cannot use nonlocal"),
        ("try:\n  a\nexcept a:\n  b\n1", "a block cannot use try"),
        ("try:\n  a\nexcept* a:\n  b\n1", "a block cannot use try"),
        ("with a: pass\n1", "a block cannot use with"),
        ("match a:\n  case 1: pass\n1", "a block cannot use match; use if and elif"),
        ("async def f(): pass\n1", "a block cannot use async def"),
        ("x: int = 1\nx", "a block cannot use a type behind a colon; write name = value"),
        ("@a\ndef f(): pass\n1", "a block cannot use def"),
        ("a.b = 1\na", "only names take values: x, or x, y; a part of a value is never changed"),
        ("a[0] = 1\na", "only names take values"),
        ("a[0] += 1\na", "only a name can be changed so: x += y; a part of a value is never changed"),
        ("a, (b, c) = d\na", "only names take values"),
        ("[a, b] = d\na", "only names take values"),
        ("a, *b = d\na", "only names take values"),
        ("() = d\nd", "there is no name to take the value"),
        ("null = 1\nnull", "null is a value and cannot be a name"),
        ("record = 1\n2", "record alone is no value"),
        ("__x = 1\n2", "the name '__x' cannot be used"),
        ("ｘ = 1\nx", "the name 'x' is written with look-alike characters"),
        ("a @= b\na", "an expression cannot use the operator @"),
        ("a |= b\na", "an expression cannot use the operator |; use or"),
        ("x = (yield)\nx", "an expression cannot use yield"),
        ("x = lambda: 1\nx", "an expression cannot use a lambda"),
        ("break\n1", "break stands outside of a loop"),
        ("if a:\n  continue\n1", "continue stands outside of a loop"),
        ("for x in a:\n  break\n  b\n1", "nothing behind break or continue is ever reached; take it out"),
        ("for x in a: pass\nelse: pass\n1", "a for loop has no else here"),
        ("x = 1\n  y = 2\nx", "the block cannot be read in line 2: unexpected indent"),
        ("if a:\nx = 1", "the block cannot be read in line 2: expected an indented block"),
        ("x = $scope\nx", 'the expression cannot be read: write record["$scope"]'),
        (
            "x = 1\n" + "".join(" " * n + "if a:\n" for n in range(11)) + " " * 11 + "x = 2\nx",
            "a block nests deeper than 10 levels",
        ),
        (
            "".join(" " * n + "if a:\n" for n in range(25)) + " " * 25 + "x = 2\nx",
            "the block is indented more than 20 times",
        ),
        ("if a: x = 1\n" + "elif a: x = 2\n" * 61 + "x", "a block has at most 60 elif"),
        ("x = " + "1 + " * 1_000 + "1\nx", "the expression is longer than 4000 characters"),
        ("x = " + "(" * 41 + ")" * 41 + "\nx", "the expression opens more than 40 brackets"),
        ("x = " + "not " * 70 + "a\nx", "the expression nests deeper than 60 levels"),
        ("#", "the expression is empty"),
    ],
)
def test_a_block_outside_the_language_is_refused_with_a_sentence(block, what):
    with pytest.raises(ValueError) as caught:
        parse_program(block)
    assert str(caught.value).startswith(what)


@pytest.mark.parametrize(
    ("block", "reads"),
    [
        ("a = b\na", ["b"]),
        ("city = city.strip()\ncity", ["city"]),
        ("city = 1\ncity + other", ["other"]),
        ("x += 1\nx", ["x"]),
        ("if a: x = 1\nx", ["a", "x"]),
        ("if a: x = 1\nelse: x = 2\nx", ["a"]),
        ("if a: result = 1", ["a"]),
        ("if a: result = 1\nresult = result", ["a", "result"]),
        ("for x in rows: y = x\ny", ["rows", "y"]),
        ("for x in rows:\n  if x: continue\n  else: z = 1\n  a = z\nresult = 1", ["rows"]),
        ("for x in rows:\n  if x: break\n  else: pass\n  a = z\n  z = 1\nresult = 1", ["rows", "z"]),
        ("for x in x: pass\nresult = 1", ["x"]),
        ("x = [y for y in z]\nx", ["z"]),
        ("x = record['$scope'] + record.get('a b', c)\nx", ["$scope", "a b", "c"]),
        ("a, b = b, a\na", ["b", "a"]),
    ],
)
def test_only_names_that_may_be_read_from_the_record_count_as_fields(block, reads):
    assert list(parse_program(block).names.reads) == reads
    assert set(target(f"x: {{python: {quoted(block)}}}").lineage["x"]) == {
        name for name in reads if name[0] != "$"
    }


def test_the_input_of_a_block_is_called_value_and_may_be_assigned():
    rule = '{python: "value = value.strip()\\nvalue + city", of: a}'
    compiled = target(f"x: {rule}")
    assert compiled.map({"a": " x ", "city": "!"}, "", "1", Answers()).values["x"] == "x!"
    assert compiled.lineage["x"] == ("a", "city")


def test_a_block_of_a_line_reads_the_line_and_its_document():
    more = (
        "    lines:\n      rows:\n        each: rows\n        key: {k: q}\n        fields:\n"
        "          x: {python: \"out = ''\\nfor c in parent['t']:\\n  out += c * q\\nresult = out\"}\n"
    )
    image = mapped("x: i", RECORD, more=more)
    assert [line.values["x"] for line in image.lines["rows"]] == ["aabbcc", "aaabbbccc"]


def test_no_local_name_and_no_counter_survives_an_evaluation():
    compiled = target(
        'x: {python: "if first: kept = 1\\nresult = kept"}\ny: {python: "[a for a in range(900)][0]"}'
    )
    assert compiled.map({"first": True}, "", "1", Answers()).values["x"] == 1
    for _ in range(3 * MAX_STEPS // 900):
        assert compiled.map({}, "", "1", Answers()).values == {"accountnumber": None, "x": None, "y": 0}


def test_the_record_is_never_changed_by_a_block():
    record = {"rows": [{"q": [1]}], "a": [1]}
    before = encode(record)
    compiled = target("x: {python: \"a = a + [2]\\na += [3]\\nb = rows[0]['q']\\nb *= 3\\n[a, b, rows]\"}")
    values = compiled.map(record, "", "1", Answers()).values["x"]
    assert values == [[1, 2, 3], [1, 1, 1], [{"q": [1]}]]
    values[2][0]["q"].append(9)
    values[0].append(9)
    assert encode(record) == before


@pytest.mark.parametrize(
    ("block", "ends"),
    [
        ("x = 0\nfor a in range(1000):\n    x += 1\nx", True),
        ("x = 0\nfor a in range(1000):\n    x += a * a + 1\nx", True),
        ("x = 0\nfor a in range(1000):\n    for b in range(30):\n        x += 1\nx", False),
        ("x = 0\nfor a in range(1000):\n    for b in range(30):\n        break\nx", True),
        (
            "x = 0\nfor a in range(1000):\n    if a > 10:\n        break\n    x += "
            + "+".join(["a"] * 40)
            + "\nx",
            True,
        ),
    ],
)
def test_a_loop_is_charged_for_the_rounds_that_it_makes(block, ends):
    if ends:
        evaluate(block, {})
        return
    with pytest.raises(MappingError, match="the calculation takes more than 20000 steps"):
        evaluate(block, {})


def test_a_straight_expression_has_no_function_and_no_counter():
    source = target('x: {python: "upper(t) + text(i)"}').source
    assert "steps" not in source
    assert "def rule_" not in source
    assert "steps = [20000]" in target('x: {python: "[a for a in t]"}').source


def test_the_deepest_blocks_that_are_taken_also_compile_and_run():
    deep = "".join("  " * n + f"for x{n} in [1]:\n" for n in range(10)) + "  " * 10 + "result = x0 + x9"
    assert evaluate(deep, {}) == 2
    assert (
        evaluate(
            "if i == 0: x = 0\n" + "".join(f"elif i == {n}: x = {n}\n" for n in range(1, 60)) + "x", {"i": 59}
        )
        == 59
    )
    assert evaluate("[" * 19 + "x for x in [1]" + "]" * 19, {}) is not None
    assert evaluate("[x for x in " * 12 + "[1]" + "]" * 12, {}) == [1]
    assert evaluate("f'{f\"{1 + 1}\"}'", {}) == "2"


def test_what_the_analysis_says_is_read_is_what_the_compiled_rule_reads():
    for number in range(150):
        maker = Programs(random.Random(number))
        for source in (maker.block(), maker.expression()):
            program, refused = outcome(ValueError, lambda source=source: parse_program(source))
            if refused is None:
                code = Code(Shared("f", "t"))
                with code.making("x"):
                    (emit_block if isinstance(program, Block) else emit)(program, code)
                    reads = set(program.names.reads) - {"$scope", "$id"}
                    assert (reads, set(code.reads)) == (set(code.sources), reads), source
