"""`ipaas expr eval`: one answer per line, in order, exact numbers, and no line that stops it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from console.cli.commands import expr as command
from console.cli.strict_json import JsonError, read_json, write_json
from tests.mappings.making import outcome

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*arguments, asked: bytes | str | None = None):
    return CliRunner().invoke(command.expr, ["eval", *arguments], input=asked)


def answers(asked, *, code=0):
    """What `--file - --json` answers, numbers as they are spelled."""
    result = run("--file", "-", "--json", asked=asked)
    assert result.exit_code == code, result.output
    assert result.output.isascii()
    return [json.loads(line, parse_float=Decimal) for line in result.stdout.splitlines()]


def line(kind, expr, record=None, **more):
    return json.dumps({"kind": kind, "expr": expr, "record": record or {}, **more})


def process(*arguments, **keywords):
    return subprocess.run(
        [sys.executable, "-m", "console.cli.main", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        **keywords,
    )


# --- values


@pytest.mark.parametrize(
    ("asked", "printed"),
    [
        (line("math", "0.1 + 0.2"), "0.3"),
        ('{"kind": "python", "expr": "a", "record": {"a": 12345678901234567.89}}', "12345678901234567.89"),
        ('{"kind": "math", "expr": "a * 3", "record": {"a": 0.1}}', "0.3"),
        ('{"kind": "python", "expr": "a", "record": {"a": 1.50}}', "1.5"),
        ('{"kind": "python", "expr": "a", "record": {"a": 10.0}}', "10"),
        ('{"kind": "python", "expr": "a", "record": {"a": 1e3}}', "1000"),
        ('{"kind": "python", "expr": "a", "record": {"a": 1E-10}}', "0.0000000001"),
        ('{"kind": "python", "expr": "a", "record": {"a": -0.0}}', "0"),
        ('{"kind": "python", "expr": "a", "record": {"a": 123456789012345678901234567890}}', "123456789012345678901234567890"),
        (line("math", "2 ** 100"), "1267650600228229401496703205376"),
        (line("math", "1 / 3"), "0.3333333333333333333333333333333333"),
        (line("math", "10 ** 30 / 4"), "250000000000000000000000000000"),
        (line("math", "1 / 10 ** 20"), "0.00000000000000000001"),
        (line("python", "a", {"a": [1, None, True, {"k": "v"}]}), '[1, null, true, {"k": "v"}]'),
        (line("python", "a", {"a": "Zürich \u2028 \U0001f600"}), '"Z\\u00fcrich \\u2028 \\ud83d\\ude00"'),
        (line("python", 'record["Any name"]', {"Any name": "x"}), '"x"'),
        (line("if", "a > 1", {"a": 2}), "true"),
        (line("if", "a", {"a": "text"}), "true"),
        (line("when", "a", {"a": ""}), "false"),
        (line("when", "nothing"), "false"),
        (line("math", "nothing + 1"), "null"),
        (line("template", "{a}: {b}|{c}", {"a": "x", "b": 1.50, "c": None}), '"x: 1.5|"'),
        (line("template", ""), '""'),
        (line("date", "date", {"value": "2026-06-30T23:30:00.000000Z"}), '"2026-06-30"'),
        (line("date", "datetime", {"value": "2026-06-30"}), '"2026-06-30T00:00:00.000000Z"'),
        (line("date", "%d.%m.%Y %H:%M", {"value": "2026-06-30T23:30:00+02:00"}), '"30.06.2026 21:30"'),
        (line("date", "%Y", {"value": None}), "null"),
        (line("lookup", "a", {"a": "k"}, table={"k": "v"}), '"v"'),
        (line("lookup", "upper(a)", {"a": "k"}, table={"K": 1.5}), "1.5"),
        (line("lookup", "a", {"a": "miss"}, table={"k": "v"}), "null"),
        (line("lookup", "a", {"a": 7}, table={"7": "seven"}), '"seven"'),
        (line("lookup", "a", {"a": "k"}, table={}), "null"),
    ],
)  # fmt: skip
def test_a_line_is_answered_with_this_value(asked, printed):
    result = run("--file", "-", "--json", asked=asked + "\n")
    assert result.output == f'{{"ok": true, "value": {printed}}}\n'
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (line("math", "1 / 0"), "DivisionByZero"),
        (line("python", "a + 1", {"a": "x"}), "WrongType"),
        (line("math", "a", {"a": "x"}), "WrongType"),
        (line("python", "number(a)", {"a": "x"}), "BadNumber"),
        (line("python", "date(a)", {"a": "x"}), "BadDate"),
        (line("date", "date", {"value": "15.01.2026"}), "BadDate"),
        (line("python", "2 ** 9999"), "LimitExceeded"),
        (line("python", "eval('1')"), "RefusedExpression"),
        (line("python", ""), "RefusedExpression"),
        (line("math", "1 +"), "RefusedExpression"),
        (line("template", "{record[$x]}"), "RefusedExpression"),
        (line("date", "%Q"), "RefusedExpression"),
        (line("python", "(" * 5000), "RefusedExpression"),
        (line("python", "\x00"), "BadInput"),
    ],
)
def test_a_line_without_a_value_is_answered_with_the_class_of_its_error(asked, error):
    (answer,) = answers(asked)
    assert answer["ok"] is False
    assert answer["error"] == error
    assert answer["message"].endswith(".")
    assert set(answer) == {"ok", "error", "message"}


# --- lines that say nothing


BAD = [
    b"no json",
    b"{",
    b'{"kind": "python", "expr": "1", "record": {}} x',
    b"[]",
    b"1",
    b'"text"',
    b"null",
    b'{"kind": "python"}',
    b'{"expr": "1"}',
    b'{"kind": "eval", "expr": "1", "record": {}}',
    b'{"kind": null, "expr": "1", "record": {}}',
    b'{"kind": ["python"], "expr": "1", "record": {}}',
    b'{"kind": {"a": 1}, "expr": "1", "record": {}}',
    b'{"kind": "python", "expr": 1, "record": {}}',
    b'{"kind": "python", "expr": null, "record": {}}',
    b'{"kind": "python", "expr": ["1"], "record": {}}',
    b'{"kind": "python", "expr": "1", "record": []}',
    b'{"kind": "python", "expr": "1", "record": null}',
    b'{"kind": "python", "expr": "1", "record": "a"}',
    b'{"kind": "lookup", "expr": "1", "record": {}}',
    b'{"kind": "lookup", "expr": "1", "record": {}, "table": []}',
    b'{"kind": "lookup", "expr": "1", "record": {}, "table": "a"}',
    b'{"kind": "python", "expr": "1", "record": {"a": 1, "a": 2}}',
    b'{"kind": "python", "expr": "1", "record": {"x": [{"a": 1, "\\u0061": 2}]}}',
    b'{"kind": "python", "kind": "math", "expr": "1", "record": {}}',
    b'{"kind": "python", "expr": "1", "record": {"a": NaN}}',
    b'{"kind": "python", "expr": "1", "record": {"a": Infinity}}',
    b'{"kind": "python", "expr": "1", "record": {"a": -Infinity}}',
    b'{"kind": "python", "expr": "1", "record": {"a": 1e999999}}',
    b'{"kind": "python", "expr": "1", "record": {"a": 1e-999999}}',
    b'{"kind": "python", "expr": "1", "record": {"a": 1e99999999999999999999999}}',
    b'{"kind": "python", "expr": "1", "record": {"a": 01}}',
    b'{"kind": "python", "expr": "1", "record": {"a": .5}}',
    b'{"kind": "python", "expr": "1", "record": {"a": +1}}',
    b'{"kind": "python", "expr": "1", "record": {"a": 0x10}}',
    b'{"kind": "python", "expr": "1", "record": {"a": ' + b"9" * 5000 + b"}}",
    b'{"kind": "python", "expr": "1", "record": {"a": 0.' + b"1" * 5000 + b"}}",
    b'{"kind": "python", "expr": "1", "record": {"a": "\\ud800"}}',
    b'{"kind": "python", "expr": "1", "record": {"\\udfff": 1}}',
    b'{"kind": "python", "expr": "1", "record": {"a": ["\\u0000"]}}',
    b'{"kind": "python", "expr": "\\ud800", "record": {}}',
    b'{"kind": "python", "expr": "1", "record": {"a": "\x01"}}',
    b'{"kind": "python", "expr": "1", "record": {"a": "\xff"}}',
    b'{"kind": "python", "expr": "1", "record": {"a": "\xed\xa0\x80"}}',
    b"\xff\xfe{\x00}\x00",
    b"\x00",
    b'{"kind": "python", "expr": "1", "record": {"a": ' + b"[" * 101 + b"]" * 101 + b"}}",
    b'{"kind": "python", "expr": "1", "record": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    b'{"a": ' * 100_000,
    b'{"kind": "python", "expr": "1", "record": {"a": "' + b"x" * 10_000_000 + b'"}}',
    b"x" * (command.MAX_LINE + 1),
    b"{'kind': 'python'}",
    b'{"kind": "python", "expr": "1", "record": {},}',
    b'// note\t{"kind": "python"}',
]  # fmt: skip


def test_a_line_that_says_nothing_is_answered_in_its_place_and_stops_nothing():
    good = line("math", "1 + 1").encode()
    asked = b"".join(bad + b"\n" + good + b"\n" for bad in BAD)
    found = answers(asked)
    assert len(found) == 2 * len(BAD)
    for number, answer in enumerate(found):
        if number % 2:
            assert answer == {"ok": True, "value": 2}
        else:
            assert answer["error"] == "BadInput", BAD[number // 2][:80]
            assert len(answer["message"]) < 300


@pytest.mark.parametrize(
    "asked",
    [
        '{"kind": "python", "expr": "a", "record": {"a": ' + "[" * 90 + "]" * 90 + "}}",
        '{"kind": "math", "expr": "a - a", "record": {"a": ' + "9" * 1_200 + "}}",
        '{"kind": "python", "expr": "1", "record": {"a": 1e400}}',
        '{"kind": "python", "expr": "1", "record": {"a": "' + "x" * 1_000_000 + '"}}',
        '{"kind": "python", "expr": "1"}',
        '{"kind": "python", "expr": "1", "record": {}, "table": null}',
        '{"kind": "python", "expr": "1", "record": {}, "table": {}, "id": "mine", "note": [1]}',
        '   {"kind": "python", "expr": "1", "record": {}}\t\r',
        '{"kind": "python", "expr": "1", "record": {"a": "\\ud83d\\ude00"}}',
    ],
)
def test_what_is_unusual_and_good_is_not_refused_as_bad_input(asked):
    (answer,) = answers(asked)
    assert answer.get("error") in (None, "LimitExceeded")


def test_blank_lines_are_passed_over_and_windows_line_ends_and_a_mark_are_read():
    good = line("math", "1 + 1")
    assert len(answers(f"\n  \n{good}\r\n\r\n\t\n{good}\n\n")) == 2
    assert len(answers(b"\xef\xbb\xbf" + good.encode())) == 1
    assert len(answers(b"\xef\xbb\xbf" + good.encode() + b"\n" + good.encode())) == 2
    assert answers(good + "\n" + "\ufeff" + good)[1]["error"] == "BadInput"
    assert answers("") == []


def test_the_last_line_needs_no_end_and_lines_may_be_cut_anywhere(monkeypatch):
    asked = "\n".join([line("python", "a", {"a": "x" * size}) for size in (0, 1, 5, 100)])
    expected = answers(asked)
    assert [len(answer["value"]) for answer in expected] == [0, 1, 5, 100]
    for size in (1, 2, 7, 64, 65):
        monkeypatch.setattr(command, "_BLOCK", size)
        assert answers(asked) == expected


def test_a_line_of_the_longest_length_is_answered_and_one_byte_more_is_not(monkeypatch):
    monkeypatch.setattr(command, "MAX_LINE", 200)
    head = '{"kind": "python", "expr": "1", "record": {}, "note": "'
    for block in (3, 199, 200, 201, 4096):
        monkeypatch.setattr(command, "_BLOCK", block)
        for length, error in ((199, None), (200, None), (201, "BadInput"), (900, "BadInput")):
            text = head + "x" * (length - len(head) - 2) + '"}'
            assert len(text) == length
            assert [answer.get("error") for answer in answers(f"{text}\n{text}\n1\n")] == [
                error,
                error,
                "BadInput",
            ]
            assert [answer.get("error") for answer in answers(text)] == [error]


# --- the file


def test_a_file_is_answered_and_the_exit_code_is_0_with_errors_too(tmp_path):
    file = tmp_path / "Fälle.jsonl"
    file.write_text(line("math", "1/0") + "\n" + line("math", "1") + "\n", encoding="utf-8")
    result = process("expr", "eval", "--file", str(file), "--json", text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert [json.loads(each)["ok"] for each in result.stdout.splitlines()] == [False, True]


def test_without_json_a_line_for_a_person_names_the_line_of_the_file():
    result = run("--file", "-", asked="\n" + line("math", "1/0") + "\nx\n" + line("python", "'a'") + "\n")
    assert result.output.splitlines() == [
        "2: DivisionByZero: a division by zero; test the divisor first: a / b if b else null.",
        "3: BadInput: The line cannot be used: it is not JSON: Expecting value at character 1.",
        '4: "a"',
    ]


def test_a_file_that_cannot_be_read_ends_the_command_with_a_sentence(tmp_path):
    for path in (tmp_path / "missing.jsonl", tmp_path):
        result = process("expr", "eval", "--file", str(path), "--json", text=True)
        assert result.returncode == 1
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert "Traceback" not in result.stderr


def test_a_fault_of_ours_is_told_as_one_and_the_other_lines_are_answered(monkeypatch, caplog):
    def broken(kind, expr, record, table):
        if expr == "1":
            raise ZeroDivisionError("not of the language")
        return 5

    monkeypatch.setattr(command, "evaluate", broken)
    found = answers("\n".join([line("math", "1"), line("math", "2")]), code=1)
    assert [answer.get("error") for answer in found] == ["PlatformFault", None]
    assert "not of the language" in caplog.text
    assert "not of the language" not in str(found)


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(tmp_path):
    file = tmp_path / "many.jsonl"
    file.write_text((line("python", "a", {"a": "x" * 2_000}) + "\n") * 500, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "console.cli.main", "expr", "eval", "--file", str(file), "--json"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stdout.readline().startswith(b'{"ok": true')
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait() == 1


def test_what_was_asked_is_answered_before_more_is_read():
    """A program may ask line by line and wait for each answer."""
    with subprocess.Popen(
        [sys.executable, "-m", "console.cli.main", "expr", "eval", "--file", "-", "--json"],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as child:  # fmt: skip
        watchdog = threading.Timer(60, child.kill)
        watchdog.start()
        for number in range(3):
            child.stdin.write(line("math", f"{number} + 1").encode() + b"\n")
            child.stdin.flush()
            assert json.loads(child.stdout.readline()) == {"ok": True, "value": number + 1}
        child.stdin.close()
        assert child.stdout.read() == b""
        assert child.wait() == 0
        watchdog.cancel()


def test_lines_are_not_kept():
    """The answers begin before the last line is asked, and what is held does not grow with the file."""
    seen = []

    class Endless:
        def __init__(self):
            self.blocks = 0

        def read1(self, size):
            self.blocks += 1
            seen.append(len(written))
            return (line("math", "1").encode() + b"\n") * 20 if self.blocks <= 50 else b""

    written = []
    blocks = command._blocks(Endless())
    for lines in blocks:
        written.extend(lines)
        assert len(lines) == 20
    assert seen == [20 * number for number in range(51)]


def test_the_command_loads_neither_dagster_nor_the_database_nor_pandas():
    code = (
        "import sys, console.cli.main as m\n"
        "try:\n    m.cli(['expr', 'eval', '1 + 1'], standalone_mode=False)\nexcept SystemExit:\n    pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.stdout.startswith("2\n"), result.stderr
    loaded = set(result.stdout.splitlines()[1].split())
    assert "mappings" in loaded
    assert (
        loaded & {"dagster", "sqlalchemy", "psycopg", "pandas", "numpy", "httpx", "alembic", "ipaas_assets"}
        == set()
    )


# --- one expression


def test_one_expression_prints_its_value_or_its_error():
    assert run("1 + 1").output == "2\n"
    assert run("a + 'ü'", "--record", '{"a": "x"}').output == '"x\\u00fc"\n'
    assert run("1 / 0").exit_code == 1
    assert run("1 / 0").stdout == ""
    assert run("1 / 0").stderr.startswith("DivisionByZero: ")
    assert run("1 / 0", "--json").exit_code == 1
    assert json.loads(run("1 / 0", "--json").stdout)["error"] == "DivisionByZero"
    assert json.loads(run("a", "--json", "--record", '{"a": [1]}').stdout) == {"ok": True, "value": [1]}
    assert run("--", "-a", "--record").exit_code == 2
    assert run("--record", '{"a": 1}', "--", "-a").output == "-1\n"
    assert run("a", "--kind", "lookup", "--table", '{"k": "v"}', "--record", '{"a": "k"}').output == '"v"\n'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name one EXPRESSION"),
        (["1", "--file", "-"], "Name one EXPRESSION"),
        (["1", "--kind", "eval"], "eval"),
        (["1", "--record", "{"], "--record cannot be read: it is not JSON"),
        (["1", "--record", "[]"], "its record is no object"),
        (["1", "--record", '{"a": NaN}'], "--record cannot be read: it holds NaN"),
        (["1", "--table", "x"], "--table cannot be read"),
        (["1", "--kind", "lookup"], "a lookup needs its table"),
    ],
)
def test_a_wrong_command_says_what_is_wrong_with_it(arguments, said):
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


# --- JSON


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**4000), 2**4000)
    | st.decimals(-(10**40), 10**40, places=30)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(values)
def test_what_is_written_is_one_line_of_ascii_that_reads_back_as_the_same(value):
    text = write_json(value)
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert read_json(text) == value


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_answered(data):
    lines = [each for each in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if each.strip()]
    assert [answer["ok"] for answer in answers(data)] == [False] * len(lines)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text):
    _, error = outcome(JsonError, lambda: read_json(text))
    assert error is None or str(error)


def test_no_message_holds_a_value_of_the_record():
    secret = "canary-4711"
    for asked in (
        f'{{"kind": "python", "expr": "a + 1", "record": {{"a": "{secret}"}}}}',
        f'{{"kind": "python", "expr": "1", "record": {{"a": "{secret}", "a": 2}}}}',
        f'{{"kind": "python", "expr": "1", "record": {{"{secret}": NaN}}}}',
        f'{{"kind": "{secret}", "expr": "1", "record": {{}}}}',
        f'{{"kind": "date", "expr": "date", "record": {{"value": "{secret}"}}}}',
        f'{{"kind": "python", "expr": "1", "record": "{secret}"}}',
        f'"{secret}"',
        f"{secret}",
    ):
        (answer,) = answers(asked)
        assert answer["ok"] is False
        assert secret not in json.dumps(answer)


def test_the_answers_are_the_same_on_any_terminal():
    asked = line("python", "a", {"a": "Zürich 東京"}).encode()
    for encoding in ("ascii", "cp1252", "utf-8"):
        result = process(
            "expr",
            "eval",
            "--file",
            "-",
            "--json",
            input=asked,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        assert (result.returncode, result.stderr) == (0, b"")
        assert json.loads(result.stdout)["value"] == "Zürich 東京"
