"""What a person who knows Python or Excel expects of an expression, asked at the command line.

Each table is written from issue and custom, not from the code: (expression, record, the answer as JSON text).
"""

import json

import pytest
from click.testing import CliRunner

from console.cli.commands.expr import expr
from mappings import evaluate as evaluation
from mappings.evaluate import RefusedExpressionError, evaluate
from mappings.expressions.guards import RuleError

LINES = [
    {"sku": "A", "qty": 2, "price": 10},
    {"sku": "B", "qty": 1, "price": 20},
    {"sku": "A", "qty": 3, "price": 1},
]
RECORD = {
    "name": "Acme Ltd", "city": "Leeds", "n": 7, "empty": "", "nothing": None, "tags": ["a", "b", "c"],
    "addr": {"street": "High St", "zip": "LS1"}, "lines": LINES, "big": 12345678901234567,
    "Any name": "v1", "class": 4, "braces": "{name} {{x}} }{",
}  # fmt: skip

VALUES = [
    # text and slices
    ("name[0]", '"A"'), ("name[-3:]", '"Ltd"'), ("name[::2]", '"Am t"'), ("name[10:20]", '""'), ("city[::-1]", '"sdeeL"'),
    ("name.split()[1].upper()", '"LTD"'), ("'a,b,,c'.split(',')", '["a", "b", "", "c"]'), ("'-12'.zfill(5)", '"-0012"'),
    ("'a-b-c'.rpartition('-')", '["a-b", "-", "c"]'), ("'abc' * -1", '""'), ("'ß'.upper()", '"SS"'), ("len('🙂')", "1"),
    ("'10' < '9'", "true"), ("'Z' < 'a'", "true"), ("1 == '1'", "false"), ("'' in ''", "true"), ("str(12) + 'x'", '"12x"'),
    ("str(1.50)", '"1.5"'), ("str(nothing)", "null"), ("str(true)", '"true"'), ("float('1.5') * 2", "3"),
    # f-strings
    ("f'{name:*^12}'", '"**Acme Ltd**"'), ("f'{name:10.3}|'", '"Acm       |"'), ("f'{n:05d}'", '"00007"'),
    ("f'{-5:05d}'", '"-0005"'), ("f'{1234567.891:,.2f}'", '"1,234,567.89"'), ("f'{0.256:.1%}'", '"25.6%"'),
    ("f'{big:,}'", '"12,345,678,901,234,567"'), ("f'{{{n}}}'", '"{7}"'), ("f'{addr[\"zip\"]}'", '"LS1"'),
    ("f'{0.0000001}'", '"0.0000001"'), ("f'{10/4} {1e3} {1.50}'", '"2.5 1000 1.5"'), ("f'{n if n > 5 else 0:03d}'", '"007"'),
    ("f'{-0.001:.2f}'", '"0.00"'), ("f'{nothing}'", '""'), ("len(f'{n:100}')", "100"), ("len(f'{0.5:.100f}')", "102"),
    # exact numbers, printed as a person writes them
    ("0.1 + 0.2", "0.3"), ("0.1 + 0.2 == 0.3", "true"), ("1.0", "1"), ("1.50", "1.5"), ("1e3", "1000"), ("-0.0", "0"),
    ("1e20 * 1", "100000000000000000000"), ("0.0000001 * 1", "0.0000001"), ("big + 1", "12345678901234568"),
    ("big * big", "152415787532388345526596755677489"), ("19.99 * 3", "59.97"), ("1 / 3", "0." + "3" * 34),
    ("2 / 3", "0." + "6" * 33 + "7"), ("10 / 5", "2"), ("2 ** -1", "0.5"), ("2 ** 3 ** 2", "512"), ("-2 ** 2", "-4"),
    ("0 ** 0", "1"), ("(0.5 - 0.5) ** 0", "1"), ("7 / 2 * 2", "7"), ("1_000", "1000"),
    # division and rest have the signs of Python, for decimals too
    ("-7 // 2", "-4"), ("7 // -2", "-4"), ("-7 % 3", "2"), ("7 % -3", "-2"), ("-7.5 // 2", "-4"), ("-7.5 % 2", "0.5"),
    # rounding
    ("round(2.675, 2)", "2.68"), ("round(1.005, 2)", "1.01"), ("round(-2.5)", "-3"), ("round(1250, -2)", "1300"),
    ("round(2.5, 0, 'half_even')", "2"), ("int(-7.9)", "-7"), ("floor(-0.5)", "-1"),
    # a number with nothing behind the point is whole, however it was made
    ("'abcdef'[4 / 2]", '"c"'), ("tags[round(1.2)]", '"b"'), ("'abcd'[:4 / 2]", '"ab"'), ("'ab'[n % 2.0]", '"b"'),
    ("'a' * round(2.4)", '"aa"'), ("(4 / 2) * 'a'", '"aa"'), ("[0] * (4 / 2)", "[0, 0]"), ("2 ** (4 / 2)", "4"),
    ("range(floor(2.9))", "[0, 1]"), ("left('abc', 4 / 2)", '"ab"'), ("'5'.zfill(4 / 2)", '"05"'),
    ("round(2.555, 4 / 2)", "2.56"), ("add_days('2024-01-01', 7 * 2.0)", '"2024-01-15"'),
    ("add_days('2024-01-01', round(n / 2))", '"2024-01-05"'), ("add_months('2024-01-31', 2 / 2)", '"2024-02-29"'),
    # integers up to 4,096 bits, to the bit
    ("2 ** 4095 > 0", "true"), ("(2 ** 4095 - 1) * 2 + 1 > 2 ** 4095", "true"), ("10 ** 1233 % 7", "6"),
    ("(-2) ** 4095 < 0", "true"), ("text(2 ** 4000)[:4]", '"1318"'), ("1 ** 10000", "1"),
    # truth, and, or, chains
    ("1 if '0' else 2", "1"), ("1 if [] else 2", "2"), ("1 if {} else 2", "2"), ("1 if 0.0 else 2", "2"),
    ("0 or ''", '""'), ("n and city", '"Leeds"'), ("nothing or empty or 'x'", '"x"'), ("1 < 2 > 1", "true"),
    ("1 < 3 < 2", "false"), ("0 < n <= 7 != 8", "true"), ("n == 7 or 1 / 0", "true"), ("n == 8 and 1 / 0", "false"),
    ("bool('0')", "true"), ("bool('')", "false"), ("bool(nothing)", "false"), ("bool([])", "false"), ("bool(0.5)", "true"),
    # lists and objects
    ("'zip' in addr", "true"), ("'LS1' in addr", "false"), ("'LS1' in addr.values()", "true"), ("tags[-1]", '"c"'),
    ("addr.get('no', 'd')", '"d"'), ("{v: k for k, v in addr.items()}", '{"High St": "street", "LS1": "zip"}'),
    ("[[x * y for x in range(3)] for y in range(2)]", "[[0, 0, 0], [0, 1, 2]]"),
    ("[x + y for x in 'ab' for y in 'cd']", '["ac", "ad", "bc", "bd"]'),
    ("[name for name in tags] + [name]", '["a", "b", "c", "Acme Ltd"]'),
    ("{l['sku']: sum(m['qty'] for m in lines if m['sku'] == l['sku']) for l in lines}", '{"A": 5, "B": 1}'),
    ("sum(l['qty'] * l['price'] for l in lines)", "43"), ("[1, 2] == [1, 2.0]", "true"), ("1 in [1.0]", "true"),
    ("[f'{i}{t}' for i, t in enumerate(tags, 1)]", '["1a", "2b", "3c"]'),
    # fields
    ('record["Any name"]', '"v1"'), ("record.get('nope', 3)", "3"), ("record['class']", "4"), ('record["TRUE"]', "null"),
    # dates and clock changes
    ("add_days('2024-02-28', 1)", '"2024-02-29"'), ("days_between('2024-03-30', '2024-04-01')", "2"),
    ("local('2024-03-31T01:00:00Z', 'Europe/London', '%H:%M')", '"02:00"'),
    ("local('2024-01-01T00:00:00Z', 'Asia/Kathmandu', '%H:%M')", '"05:45"'),
    ("to_utc('2024-10-27T01:30:00', 'Europe/London', 'later')", '"2024-10-27T01:30:00.000000Z"'),
    # blocks
    ("x = 1\nresult = x\nx = 2", "1"), ("x, y = 1, 2\nx, y = y, x\n[x, y]", "[2, 1]"),
    ("for t in tags:\n    tags = tags + [t]\nlen(tags)", "6"), ("x = tags\nx += ['q']\ntags", '["a", "b", "c"]'),
    ("r = ''\nfor t in tags:\n    if t == 'b':\n        continue\n    r += t\nr", '"ac"'),
    ("if n > 50:\n    result = 'big'\nelif n > 6:\n    result = 'mid'\nelse:\n    result = 'small'", '"mid"'),
]  # fmt: skip

ERRORS = [
    ("1 / 0", "DivisionByZero"), ("0 ** -1", "DivisionByZero"), ("5 % 0.0", "DivisionByZero"), ("'a' + 1", "WrongType"),
    ("'a' < 1", "WrongType"), ("-name", "WrongType"), ("'%s' % name", "WrongType"), ("'abc'[1.5]", "WrongType"),
    ("'a' * 1.5", "WrongType"), ("'abc'[true]", "WrongType"), ("add_days('2024-01-01', 0.5)", "WrongType"),
    ("2 ** 0.5", "WrongType"), ("true * 'a'", "WrongType"), ("name[100]", "NoSuchItem"), ("addr['no']", "NoSuchItem"),
    ("date('2024-02-30')", "BadDate"), ("to_utc('2024-03-31T01:30:00', 'Europe/London')", "BadDate"),
    ("int('abc')", "BadNumber"), ("number('9' * 401)", "BadNumber"), ("float('nan')", "BadNumber"),
    ("2 ** 4096", "LimitExceeded"), ("10 ** 1234", "LimitExceeded"), ("3 ** 2585", "LimitExceeded"),
    ("9 ** 9 ** 9", "LimitExceeded"), ("'x' * 65537", "LimitExceeded"), ("[0] * 1001", "LimitExceeded"),
    ("'a' * (10 ** 30 / 2)", "LimitExceeded"), ("range(10 ** 12)", "LimitExceeded"),
    ("x = [1]\nfor i in range(60):\n    x = [x, x]\nx", "LimitExceeded"),
    ("TRUE", "RefusedExpression"), ("n == NULL", "RefusedExpression"), ("x = FALSE\nx", "RefusedExpression"),
    ("f'{n:101}'", "RefusedExpression"), ("f'{n:.101f}'", "RefusedExpression"), ("str.upper(name)", "RefusedExpression"),
    ("'{0.__class__}'.format(1)", "RefusedExpression"), ("bool.__subclasses__()", "RefusedExpression"),
    ("tags.append('x')", "RefusedExpression"), ("addr['zip'] = 1\naddr", "RefusedExpression"),
    ("while True:\n    pass", "RefusedExpression"), ("name.\uff55pper()", "RefusedExpression"), ("", "RefusedExpression"),
]  # fmt: skip

OTHERS = [
    ("template", "{braces}|{name}", RECORD, None, '"{name} {{x}} }{|Acme Ltd"'),
    ("template", "{record[Any name]}, {nothing}", RECORD, None, '"v1, "'),
    ("template", "%s ${name}", RECORD, None, '"%s $Acme Ltd"'),
    ("lookup", "code", {"code": 14}, {"14": "net"}, '"net"'),
    ("lookup", "code / 2", {"code": 28}, {"14": "net"}, '"net"'),
    ("lookup", "code", {"code": "__class__"}, {"14": "net"}, "null"),
    ("date", "%d %b %Y", {"value": "2024-03-05"}, None, '"05 Mar 2024"'),
    ("date", "%H:%M", {"value": "2024-03-31T10:11:12+02:00"}, None, '"08:11"'),
    ("if", "'0'", {}, None, "true"),
    ("when", "nobody", {}, None, "false"),
    ("math", "sum([])", {}, None, "0"),
]


def answers(lines):
    asked = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    result = CliRunner().invoke(expr, ["eval", "--file", "-", "--json"], input=asked)
    assert result.exit_code == 0
    return result.output.splitlines()


def test_every_expression_gives_what_a_person_expects_to_the_digit():
    lines = [{"kind": "python", "expr": each, "record": RECORD} for each, _ in VALUES]
    lines += [{"kind": k, "expr": e, "record": r, "table": t} for k, e, r, t, _ in OTHERS]
    expected = [said for _, said in VALUES] + [said for *_, said in OTHERS]
    found = answers(lines)
    for line, answer, said in zip(lines, found, expected, strict=True):
        # The text of a number counts: 2 is not 2.0, and nothing has an exponent.
        numbers = {"parse_float": lambda text: f"number {text}", "parse_int": lambda text: f"number {text}"}
        assert json.loads(answer, **numbers) == {"ok": True, "value": json.loads(said, **numbers)}, line[
            "expr"
        ]


def test_every_mistake_gives_its_class_of_error():
    lines = [{"kind": "python", "expr": each, "record": RECORD} for each, _ in ERRORS]
    for line, answer, (_, said) in zip(lines, answers(lines), ERRORS, strict=True):
        assert json.loads(answer).get("error") == said, (line["expr"], answer)


def test_bad_lines_between_good_ones_change_neither_order_nor_answers():
    lines = []
    for number in range(300):
        lines += [{"kind": "math", "expr": "x + 1", "record": {"x": number}}, "no JSON\n"]
    found = [json.loads(answer) for answer in answers(lines)]
    assert [answer["value"] for answer in found[::2]] == list(range(1, 301))
    assert {answer["error"] for answer in found[1::2]} == {"BadInput"}


def test_a_number_with_decimals_is_told_apart_from_a_whole_one():
    with pytest.raises(RuleError, match="a position is a whole number, there is a number with decimals"):
        evaluate("python", "'abc'[x / 2]", {"x": 3})


def test_a_kept_function_knows_its_kind_and_nothing_of_the_record_or_table_before():
    assert evaluate("python", "'1' + x", {"x": "2"}) == "12"
    assert evaluate("python", "'1' + x", {}) is None
    assert evaluate("if", "'1' + x", {"x": "2"}) is True
    assert evaluate("template", "'1' + x", {"x": "2"}) == "'1' + x"
    assert evaluate("lookup", "'1' + x", {"x": "2"}, {"12": "a"}) == "a"
    assert evaluate("lookup", "'1' + x", {"x": "2"}, {"12": "b"}) == "b"
    assert evaluate("lookup", "'1' + x", {"x": "2"}, {}) is None
    with pytest.raises(RefusedExpressionError, match="needs a table"):
        evaluate("lookup", "'1' + x", {"x": "2"})


def test_a_value_that_was_given_once_can_be_changed_without_changing_the_next():
    for text in (
        "[1, [2], {'a': []}]",
        "x = [[]]\nresult = x",
        "tags",
        "{'a': tags}",
        "[tags for i in range(2)]",
    ):
        first = evaluate("python", text, {"tags": ["t"]})
        before = json.dumps(first)
        (first["a"] if isinstance(first, dict) else first).append("changed")
        assert json.dumps(evaluate("python", text, {"tags": ["t"]})) == before


def test_an_error_of_one_record_does_not_spend_the_steps_of_the_next():
    program = "t = 0\nfor i in range(n):\n    for j in range(n):\n        t += 1\nt"
    for _ in range(3):
        with pytest.raises(RuleError, match="steps"):
            evaluate("python", program, {"n": 1000})
        assert evaluate("python", program, {"n": 40}) == 1600


def test_what_is_kept_of_a_text_cannot_hold_anything_of_a_record():
    plain = {"int", "str", "bool", "Decimal", "slice", "Format", "type", "function"}
    for text, _ in VALUES:
        function = evaluation._kept("python", text)
        held = {name: value for name, value in function.__globals__.items() if name != "__builtins__"}
        assert {type(value).__name__ for value in held.values()} <= plain, text
        for value in held.values():
            cells = getattr(value, "__closure__", None) or ()
            assert not any(isinstance(cell.cell_contents, (list, dict, set)) for cell in cells), text
            assert not any(
                isinstance(each, (list, dict, set)) for each in getattr(value, "__defaults__", None) or ()
            )


def test_no_more_than_a_bounded_number_of_functions_is_kept_and_refusals_never():
    kept = evaluation._kept
    kept.cache_clear()
    for number in range(kept.cache_info().maxsize + 50):
        assert evaluate("python", f"x + {number}", {"x": 1}) == number + 1
    assert kept.cache_info().currsize == kept.cache_info().maxsize
    kept.cache_clear()
    for _ in range(2):
        with pytest.raises(RefusedExpressionError):
            evaluate("python", "x.__class__", {})
        evaluate("template", "x" * 5_000, {})  # longer than what is kept
    assert kept.cache_info().currsize == 0
