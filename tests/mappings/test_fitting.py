"""Texts that a target cannot hold as they are: what the rule says happens, and nothing else does."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.schema import EntitySchema, FieldSchema
from ipaas_resources.core.values import encode, escape_text, unescape_text
from mappings.characters import NAMES, UNFIT, cut, drop_unfit, has_unfit, replace_unfit
from mappings.compiler import compile_flow
from mappings.fitting import Fitting
from mappings.load import load_flow
from mappings.mapped import Flag, Mapped
from mappings.yaml_text import plain, read_document
from tests.mappings.making import HEAD, Answers, load

F = FieldSchema
TARGET = EntitySchema(
    entity="accounts",
    key=("accountid",),
    fields=(
        F(name="accountnumber", type="text", max_length=8),
        F(name="name", type="text", max_length=10),
        F(name="title", type="text", max_length=10, characters="single_line"),
        F(name="file", type="text", characters="file_name"),
        F(name="memo", type="text"),
        F(name="count", type="integer"),
        F(name="state", type="enum", enum=("a",)),
        F(
            name="rows",
            type="lines",
            line_key="no",
            fields=(F(name="no", type="text", max_length=3), F(name="text", type="text", max_length=5)),
        ),
    ),
)
SOURCE = EntitySchema(
    entity="customers",
    key=("id",),
    fields=(
        F(name="number", type="text", max_length=8),
        F(name="short", type="text", max_length=10),
        F(name="long", type="text", max_length=11),
        F(name="free", type="text"),
        F(
            name="rows",
            type="lines",
            fields=(F(name="no", type="text", max_length=3), F(name="text", type="text")),
        ),
    ),
)
LINES = "    lines: {rows: {each: rows, key: no, fields: {text: RULE}}}\n"


def fitted(fields: str, record: dict, *, more: str = "", source: EntitySchema | None = SOURCE) -> Mapped:
    target = compile_flow(load(fields, more=more)).targets["account"]
    image = target.map({"number": "1", **record}, "", "1", Answers())
    return Fitting(target, TARGET, source).fit(image)


def watched(fields: str, *, more: str = "", source: EntitySchema | None = SOURCE) -> list[str]:
    fitting = Fitting(compile_flow(load(fields, more=more)).targets["account"], TARGET, source)
    return [field.label for fields in (fitting.fields, *fitting.line_fields.values()) for field in fields]


def test_a_text_that_fits_is_not_touched():
    image = fitted("name: free\ntitle: free\nmemo: free", {"free": "exactly 10"})
    assert image.values == {
        "accountnumber": "1",
        "name": "exactly 10",
        "title": "exactly 10",
        "memo": "exactly 10",
    }
    assert image.flags == []


@pytest.mark.parametrize("rule", ["free", "{direct: free, too_long: error}", '{template: "{free}"}'])
def test_a_text_that_is_too_long_is_an_error_unless_the_rule_says_otherwise(rule):
    with pytest.raises(MappingError) as refused:
        fitted(f"name: {rule}", {"free": "SECRET-long-text"})
    assert refused.value.code == "too_long"
    assert refused.value.field == "name"
    assert str(refused.value) == (
        "The value for name in customers_to_accounts.account has 16 characters, the field takes 10. Shorten the source "
        "value, or add too_long: truncate or too_long: flag to the rule."
    )


def test_truncate_cuts_and_cuts_the_same_way_again():
    record = {"free": "exactly 10 and more"}
    once = fitted("name: {direct: free, too_long: truncate}", record)
    assert once.values["name"] == "exactly 10"
    assert fitted("name: {direct: free, too_long: truncate}", record) == once
    assert record == {"free": "exactly 10 and more"}


def test_flag_leaves_the_field_out_and_asks_a_person():
    image = fitted("name: {direct: free, too_long: flag}\nmemo: free", {"free": "SECRET-long-text"})
    assert "name" not in image.values
    assert image.values["memo"] == "SECRET-long-text"
    assert image.flags == [Flag("name", "the value has 16 characters, the field takes 10")]


def test_a_flagged_key_is_no_key():
    text = HEAD.replace("number}", "{direct: number, too_long: flag}}")
    target = compile_flow(load_flow(text, name="flow.yaml")).targets["account"]
    image = Fitting(target, TARGET).fit(target.map({"number": "123456789"}, "", "1", Answers()))
    assert image.key == {"accountnumber": None}
    assert [flag.field for flag in image.flags] == ["accountnumber"]


def test_null_numbers_and_other_values_are_left_alone():
    image = fitted("name: free\ncount: long\nstate: {const: a}", {"free": None, "long": 12345678901})
    assert image.values == {"accountnumber": "1", "name": None, "count": 12345678901, "state": "a"}


@pytest.mark.parametrize(
    ("word", "text", "made"),
    [
        ("drop", "a\r\nb\x00c", "abc"),
        ("replace", "a\r\nb\x00c", "a b\ufffdc"),
        ("replace", "a\nb", "a b"),
        ("replace", "plain", "plain"),
    ],
)
def test_characters_that_do_not_fit_are_dropped_or_replaced(word, text, made):
    image = fitted(f"title: {{direct: free, unfit_characters: {word}}}", {"free": escape_text(text)})
    assert image.values["title"] == made
    assert image.flags == []


def test_characters_that_do_not_fit_are_an_error_unless_the_rule_says_otherwise():
    with pytest.raises(MappingError) as refused:
        fitted("title: free", {"free": "CANARY\nb"})
    assert refused.value.code == "unfit_characters"
    assert str(refused.value) == (
        "The value for title in customers_to_accounts.account holds line breaks or control characters, which the field "
        "cannot hold. Correct the source value, or add unfit_characters: drop, replace or flag to the rule."
    )


def test_characters_that_do_not_fit_can_ask_a_person():
    image = fitted("file: {direct: free, unfit_characters: flag}", {"free": "a/b"})
    assert "file" not in image.values
    assert image.flags == [Flag("file", f"the value holds {NAMES['file_name']}")]


def test_what_is_dropped_counts_no_more_for_the_length():
    rule = "{direct: free, unfit_characters: drop, too_long: error}"
    assert fitted(f"title: {rule}", {"free": "12345\n67890"}).values["title"] == "1234567890"
    both = "{direct: free, unfit_characters: replace, too_long: truncate}"
    assert fitted(f"title: {both}", {"free": "12345\n67890"}).values["title"] == "12345 6789"


def test_an_escaped_character_counts_as_one_and_is_never_cut_in_two():
    nine_and_nul = "123456789\x00"
    rule = "name: {direct: free, too_long: truncate}"
    assert unescape_text(fitted(rule, {"free": escape_text(nine_and_nul)}).values["name"]) == nine_and_nul
    assert (
        unescape_text(fitted(rule, {"free": escape_text(nine_and_nul + "x")}).values["name"]) == nine_and_nul
    )


def test_lines_are_fitted_too_and_named_by_their_lines_field():
    rows = [{"no": "1", "text": "short"}, {"no": "2", "text": "much longer"}]
    with pytest.raises(
        MappingError, match=r"rows\.text in customers_to_accounts\.account has 11 characters"
    ) as refused:
        fitted("", {"rows": rows}, more=LINES.replace("RULE", "text"))
    assert refused.value.field == "rows.text"
    cut_lines = fitted("", {"rows": rows}, more=LINES.replace("RULE", "{direct: text, too_long: truncate}"))
    assert [line.values["text"] for line in cut_lines.lines["rows"]] == ["short", "much "]
    flagged = fitted("", {"rows": rows}, more=LINES.replace("RULE", "{direct: text, too_long: flag}"))
    assert [line.values for line in flagged.lines["rows"]] == [{"no": "1", "text": "short"}, {"no": "2"}]
    assert [flag.field for flag in flagged.flags] == ["rows.text"]


def test_what_happens_to_such_texts_is_part_of_the_explanation():
    fields = "name: {direct: free, too_long: truncate}\ntitle: {direct: free, too_long: flag, unfit_characters: drop}\nmemo: free"
    target = compile_flow(load(fields)).targets["account"]
    assert [target.explain(field) for field in ("name", "title", "memo")] == [
        "name is free, cut where it is too long.",
        (
            "title is free, left out and flagged where it is too long, without characters that the field cannot hold."
        ),
        "memo is free.",
    ]


def test_only_fields_that_can_misfit_are_watched():
    assert watched("name: short\nmemo: free\ncount: long\nstate: free") == []
    assert watched("name: long\ntitle: short\nfile: short") == ["name", "title", "file"]
    assert watched('name: {template: "{short}"}') == ["name"]
    assert watched("name: {const: short}") == []
    assert watched("name: short", source=None) == ["accountnumber", "name"]
    assert watched("", more=LINES.replace("RULE", "$parent.number")) == ["rows.text"]


def test_fields_that_the_schema_does_not_know_are_left_to_the_target():
    assert "gone" not in watched("gone: free")
    assert fitted("gone: free", {"free": "x" * 99}).values["gone"] == "x" * 99


# --- characters -------------------------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(), max_size=40)
ACUTE = "\u0301"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
THUMB = "\U0001f44d\U0001f3fd"
FLAGS = "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7"


@pytest.mark.parametrize(
    ("text", "most", "kept"),
    [
        ("abcdef", 3, "abc"),
        ("abc", 3, "abc"),
        (f"ae{ACUTE}b", 2, "a"),
        (f"ae{ACUTE}b", 3, f"ae{ACUTE}"),
        ("a\r\nb", 2, "a"),
        (f"a{FAMILY}", 3, "a"),
        (f"a{FAMILY}", 6, f"a{FAMILY}"),
        (f"a{THUMB}", 2, "a"),
        (FLAGS, 3, FLAGS[:2]),
        (FLAGS, 2, FLAGS[:2]),
        ("\U0001f600\U0001f600", 1, "\U0001f600"),
        ("a" + ACUTE * 100, 50, "a" + ACUTE * 49),  # no letter of any language: cut anywhere
        (ACUTE * 5, 3, ACUTE * 3),
    ],
)
def test_a_cut_never_parts_what_a_reader_sees_as_one_character(text, most, kept):
    assert cut(text, most) == kept


@given(ANY_TEXT, st.integers(1, 20))
def test_a_cut_text_begins_the_text_is_short_enough_and_is_cut_no_further(text, most):
    made = cut(text, most)
    assert text.startswith(made)
    assert len(made) <= most
    assert bool(made) == bool(text)
    assert cut(made, most) == made


@pytest.mark.parametrize("kind", UNFIT)
@given(text=ANY_TEXT)
def test_what_was_dropped_or_replaced_fits_and_stays_as_it_is(kind, text):
    for mend in (drop_unfit, replace_unfit):
        made = mend(text, kind)
        assert not has_unfit(made, kind)
        assert mend(made, kind) == made
    if not has_unfit(text, kind):
        assert drop_unfit(text, kind) == text
        assert unicodedata.normalize("NFC", replace_unfit(text, kind)) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("kind", "holds", "lacks"),
    [
        ("xml", "tab\tline\nend\rä\U0001f600\ue000", "\x00\x07\x0b\x1f\ud800\ufffe"),
        ("single_line", "tab\tä\U0001f600", "\n\r\x0b\x85\u2028\x00"),
        ("bmp", "ä€\n\uffee", "\U0001f600\U00020000\x00"),
        ("ascii", "Az~ \n\t", "äß€\x00\x7f"),
        ("file_name", "Größe 1 (2).pdf", '"<>|:*?/\\\n'),
    ],
)
def test_each_kind_of_field_holds_and_lacks_its_characters(kind, holds, lacks):
    assert not has_unfit(holds, kind)
    assert [character for character in lacks if not has_unfit(character, kind)] == []
    assert not has_unfit(lacks, "any")


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("Größe", "Grosse"),
        ("Ærø", "AEro"),
        ("naïve \u2013 \u201eja\u201c", 'naive - "ja"'),
        ("½ €", "? ?"),
        (f"e{ACUTE}", "e"),
        ("東", "?"),
    ],
)
def test_ascii_gets_letters_without_their_marks_and_no_guesses(text, made):
    assert replace_unfit(text, "ascii") == made


@given(ANY_TEXT, st.sampled_from(["xml", "single_line", "bmp", "ascii", "file_name"]), st.integers(1, 12))
def test_a_mended_text_always_fits_and_a_second_fitting_changes_nothing(text, kind, most):
    schema = EntitySchema(
        entity="accounts", key=(), fields=(F(name="name", type="text", max_length=most, characters=kind),)
    )
    rule = "name: {direct: free, too_long: truncate, unfit_characters: replace}"
    target = compile_flow(load(rule)).targets["account"]
    fitting = Fitting(target, schema)
    image = fitting.fit(target.map({"number": "1", "free": escape_text(text)}, "", "1", Answers()))
    made = unescape_text(image.values["name"])
    assert len(made) <= most
    assert not has_unfit(made, kind)
    before = msgspec.json.encode(image.values)
    assert msgspec.json.encode(fitting.fit(image).values) == before


# --- the reference ------------------------------------------------------------------------------------------------------

REFERENCE = (Path(__file__).resolve().parents[2] / "docs" / "mapping.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^```yaml fit\n(.*?)^```$", REFERENCE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", SHOWN, ids=lambda text: text.split("\n")[0])
def test_a_text_of_the_reference_is_made_to_fit_as_it_says(text):
    shown = plain(read_document(text, "docs/mapping.md").data)
    schema = EntitySchema(entity="accounts", key=(), fields=(F(name="x", type="text", **shown["field"]),))
    target = compile_flow(load(f"x: {encode(shown['rule']).decode()}")).targets["account"]
    image = target.map({"number": "1", **shown["in"]}, "", "1", Answers())
    if "error" in shown:
        with pytest.raises(MappingError) as refused:
            Fitting(target, schema).fit(image)
        assert refused.value.code == shown["error"]
        return
    Fitting(target, schema).fit(image)
    assert image.values.get("x") == shown.get("out")
    assert bool(image.flags) == shown.get("left_out", False)


def test_the_reference_shows_texts_and_names_every_kind_of_field():
    assert len(SHOWN) > 3
    assert [kind for kind in UNFIT if f"`{kind}`" not in REFERENCE] == []
