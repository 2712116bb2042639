"""docs/expressions.md is true: every example is executed, every function, method, limit and error stands on it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from console.cli.commands.expr import MAX_LINE, expr
from console.cli.strict_json import MAX_DEPTH as MAX_JSON_DEPTH
from ipaas_resources.core.values import decode, encode
from mappings.evaluate import RefusedExpressionError, evaluate
from mappings.expressions import guards, language
from mappings.expressions.checker import MAX_DEPTH
from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.guards import ERROR_CLASSES, RuleError
from mappings.expressions.methods import METHODS
from mappings.expressions.operators import DIGITS
from mappings.yaml_text import plain, read_document
from tests.mappings.making import mapped

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "expressions.md").read_text(encoding="utf-8")


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def section(title):
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    return found


def rows(text):
    """The cells of the tables of a text, without heads; a bar within `code` is written \\|."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    tables = [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
        for line in lines
    ]
    return [
        row for index, row in enumerate(tables) if not set(row[0]) <= set("-") and not _is_head(tables, index)
    ]


def _is_head(tables, index):
    return index + 1 < len(tables) and set(tables[index + 1][0]) <= set("-")


def code(cell):
    return re.findall(r"`` ?(.+?) ?``|`([^`]+)`", cell)


def spans(cell):
    return [double or single for double, single in code(cell)]


RECORD = plain(read_document(blocks("yaml record")[0], "record").data)

EXPRESSIONS = [line for block in blocks("expressions") for line in block.splitlines()]
EXCEL = [
    (expression, row[2])
    for row in rows(section("From Excel to here"))
    for expression in spans(row[1])
    if row[2]
]
LISTED = {"functions": rows(section("All functions")), "methods": rows(section("All methods"))}


def gives(kind, expression):
    """What an example gives, as the page writes it."""
    try:
        return encode(evaluate(kind, expression, RECORD)).decode()
    except RefusedExpressionError as error:
        return f"error: {error.class_name}"
    except RuleError as error:
        return f"error: {error.class_name}"


def same(found, said):
    if said.startswith("error: ") or found.startswith("error: "):
        return found == said
    return found == encode(decode(said.encode())).decode()


@pytest.mark.parametrize("line", EXPRESSIONS)
def test_an_expression_gives_what_the_page_says(line):
    expression, _, said = line.rpartition(" -> ")
    assert same(gives("python", expression.strip()), said), gives("python", expression.strip())


@pytest.mark.parametrize(("expression", "said"), EXCEL)
def test_what_stands_for_an_excel_formula_gives_what_the_page_says(expression, said):
    assert same(gives("python", expression), spans(said)[0]), gives("python", expression)


@pytest.mark.parametrize("kind", ["block", "template"])
def test_a_block_or_template_gives_what_the_page_says(kind):
    assert len(blocks(kind)) >= 2
    for text in blocks(kind):
        source, _, said = text.rstrip("\n").rpartition("\n-> ")
        found = gives({"block": "python"}.get(kind, kind), source)
        assert same(found, said), (source, found)


@pytest.mark.parametrize("text", blocks("yaml rule"))
def test_a_rule_of_the_page_makes_what_it_says(text):
    example = plain(read_document(text, "docs/expressions.md").data)
    image = mapped("x: " + encode(example["rule"]).decode(), example["in"])
    assert encode(image.values["x"]) == encode(example["out"])


def test_a_command_of_the_page_prints_what_it_says():
    found = [part for block in blocks("console") for part in block.split("$ ipaas expr ")[1:]]
    assert len(found) >= 4
    for part in found:
        command, _, said = part.partition("\n")
        result = CliRunner().invoke(expr, shlex.split(command))
        assert result.output == said, command


def test_the_lines_of_the_page_are_answered_as_it_says():
    pairs = [pair.split("\n=> ") for pair in re.split(r"\n(?!=> )", blocks("jsonl")[0].strip())]
    asked = "".join(f"{question}\n" for question, _ in pairs)
    result = CliRunner().invoke(expr, ["eval", "--file", "-", "--json"], input=asked)
    assert result.exit_code == 0
    answers = [json.loads(line, parse_float=str) for line in result.output.splitlines()]
    assert len(answers) == len(pairs) > 6
    for answer, (question, said) in zip(answers, pairs, strict=True):
        for key, value in json.loads(said, parse_float=str).items():
            assert answer[key] == value, question


@pytest.mark.parametrize(("kind", "known"), [("functions", FUNCTIONS), ("methods", METHODS)])
def test_every_function_and_method_stands_on_the_page_and_nothing_else(kind, known):
    named = [re.match(r"(?:\w+\.)?(\w+)\(", usage)[1] for row in LISTED[kind] for usage in spans(row[0])]
    assert sorted(set(named)) == sorted(known)


@pytest.mark.parametrize("kind", ["functions", "methods"])
def test_every_function_and_method_has_an_example_that_holds(kind):
    for row in LISTED[kind]:
        names = {re.match(r"(?:\w+\.)?(\w+)\(", usage)[1] for usage in spans(row[0])}
        examples = [spans(example) for example in row[2].split("; ")]
        shown = " ".join(expression for expression, _ in examples)
        assert all(f"{name}(" in shown for name in names), row
        for expression, said in examples:
            assert same(gives("python", expression), said), (expression, gives("python", expression))


def test_the_page_tells_every_error_and_no_other():
    told = [
        spans(row[0])[0] for row in rows(section("Errors, and what to do")) if spans(row[0])[0].isidentifier()
    ]
    assert sorted(told) == sorted({*ERROR_CLASSES.values(), RefusedExpressionError.class_name})


def test_what_the_page_calls_refused_is_refused():
    told = [row for row in rows(section("Errors, and what to do")) if not spans(row[0])[0].isidentifier()]
    assert len(told) >= 8
    for row in told:
        source = spans(row[0])[0]
        kind = "if" if "condition" in row[0] else "python"
        source = f"{source}\n    pass" if source.endswith(":") else source
        assert gives(kind, source) == "error: RefusedExpression", source


def test_the_limits_of_the_page_are_those_of_the_language():
    told = {row[0]: row[1] for row in rows(section("Limits"))}
    numbers = {
        what: [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", said)]
        for what, said in told.items()
    }
    assert numbers == {
        "length of an expression": [language.MAX_SOURCE],
        "brackets open at once": [language.MAX_BRACKETS],
        "levels of nesting": [MAX_DEPTH],
        "steps of one evaluation": [guards.MAX_STEPS],
        "a text": [guards.MAX_TEXT],
        "a list, an object, a `for`": [guards.MAX_ITEMS],
        "a whole number": [guards.MAX_BITS, len(str(2**guards.MAX_BITS - 1)) - 1],
        "a decimal number": [DIGITS],
        "width and precision in an f-string": [100],
    }
    assert f"{MAX_LINE:,} bytes" in TEXT
    assert f"{MAX_JSON_DEPTH} levels" in TEXT


def test_there_are_examples_to_execute():
    assert len(EXPRESSIONS) > 90
    assert len(EXCEL) > 35
