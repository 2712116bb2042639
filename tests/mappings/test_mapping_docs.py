"""docs/mapping.md is the language: every example on it is executed, every word of the language stands on it."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.values import decode, encode
from mappings.examples import run_examples
from mappings.load import load_flow
from mappings.rules import rule_words
from mappings.spec import Example, Flow, Lines, Source, Target, Trigger
from mappings.windows import Window
from mappings.yaml_text import plain, read_document
from tests.mappings.making import Answers, evaluate, mapped

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "mapping.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


EXPRESSIONS = [line for block in blocks("expressions") for line in block.splitlines()]
RECORD = plain(read_document(blocks("yaml record")[0], "record").data)


@pytest.mark.parametrize("text", blocks("yaml flow"), ids=lambda text: text.split("\n")[0])
def test_a_flow_of_the_reference_is_a_flow_and_its_examples_hold(text):
    flow = load_flow(text, name="docs/mapping.md")
    assert flow.examples
    assert [str(failure) for failure in run_examples(flow)] == []


@pytest.mark.parametrize("text", blocks("yaml rule"), ids=lambda text: text.split("\n")[0])
def test_a_rule_of_the_reference_makes_what_it_says(text):
    example = plain(read_document(text, "docs/mapping.md").data)
    rule = encode(example["rule"]).decode()
    links = {
        (link, near): far for link, sides in example.get("links", {}).items() for near, far in sides.items()
    }
    image = mapped(
        f"x: {rule}",
        example["in"],
        answers=Answers(links, example.get("lookups", {})),
        scope=example.get("scope", ""),
    )
    if example.get("left_out"):
        assert "x" not in image.values
        assert image.flags or image.unresolved
    else:
        assert encode(image.values["x"]) == encode(example["out"])


@pytest.mark.parametrize("line", EXPRESSIONS)
def test_an_expression_of_the_reference_has_the_value_it_says(line):
    expression, _, result = line.rpartition(" -> ")
    if result.startswith("error: "):
        with pytest.raises(MappingError, match=re.escape(result.removeprefix("error: "))):
            evaluate(expression.strip(), RECORD)
        return
    assert encode(evaluate(expression.strip(), RECORD)) == encode(decode(result.encode()))


def test_the_reference_names_every_word_of_the_language():
    words = set(rule_words())
    for model in (Flow, Source, Trigger, Target, Lines, Example, Window):
        words.update(model.words())
    for rule in rule_words().values():
        words.update(rule.words())
    code = " ".join(re.findall(r"`[^`]+`|^```.*?^```$", TEXT, re.MULTILINE | re.DOTALL))
    assert [word for word in sorted(words) if not re.search(rf"\b{word}\b", code)] == []


def test_there_are_examples_to_execute():
    assert len(EXPRESSIONS) > 10
    assert len(blocks("yaml rule")) > 10
    assert RECORD["price"] == Decimal("2.5")
    assert json.loads(encode(RECORD["items"])) == [1, "a"]
