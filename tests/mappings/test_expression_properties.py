"""What holds for every expression, block and template, tried by chance: they end, in a value or a typed error."""

from __future__ import annotations

import copy
import decimal
import json
import random
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.values import canonical_number, encode
from mappings.compiler import compile_flow
from mappings.evaluate import RefusedExpressionError, evaluate
from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.guards import ERROR_CLASSES, MAX_ITEMS, MAX_TEXT, RuleError
from mappings.expressions.language import parse
from mappings.expressions.methods import METHODS
from mappings.faults import FlowErrors
from tests.mappings.making import Answers, load, outcome, quoted
from tests.mappings.programs import ARGUMENTS, HOLDERS, METHOD_ARGUMENTS, Programs

CANARY = "canary4711"

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ue000"), max_size=12)
numbers = (
    st.integers(-(10**9), 10**9)
    | st.integers(-(2**4000), 2**4000)
    | st.decimals(-(10**20), 10**20, places=30).map(canonical_number)
)
plain = st.recursive(
    st.none()
    | st.booleans()
    | numbers
    | texts
    | st.sampled_from([CANARY, "2026-03-29", "Europe/London", "k"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.just("k"), inner, max_size=4),
    max_leaves=8,
)
records = st.fixed_dictionaries(
    {
        "s": texts | st.just(CANARY),
        "t": texts | st.just(f"{CANARY} {CANARY}"),
        "i": st.integers(-5, 300) | numbers,
        "d": numbers,
        "l": st.lists(plain, max_size=5),
        "rows": st.lists(st.fixed_dictionaries({"k": texts, "q": numbers}), max_size=3),
        "o": st.dictionaries(texts | st.just("k"), plain, max_size=3),
        "day": st.dates().map(str) | plain,
        "at": st.datetimes().map(lambda moment: moment.isoformat(timespec="microseconds") + "Z") | plain,
        "Any name": plain,
    },
    optional={"x": plain, "y": plain},
)
programs = st.randoms(use_true_random=False).map(Programs)
many = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def end_of(kind, source, record):
    """("value", it), or ("error", class, message); an error of any other kind is the test's failure."""
    try:
        return "value", evaluate(kind, source, record)
    except (RefusedExpressionError, RuleError) as error:
        return "error", error.class_name, str(error)


def check_plain(value, depth=0):
    """Only plain values, storable, of bounded size."""
    assert depth <= 20
    kind = type(value)
    assert kind in (type(None), bool, int, Decimal, str, list, dict)
    if kind is Decimal:
        assert value.is_finite()
        assert value != value.to_integral_value()
        assert value.as_tuple().digits[-1] != 0
    if kind is str:
        assert len(value) <= MAX_TEXT
        assert "\x00" not in value
        value.encode()
    if kind is list:
        assert len(value) <= MAX_ITEMS
    for part in value if kind is list else value.values() if kind is dict else ():
        check_plain(part, depth + 1)
    for key in value if kind is dict else ():
        check_plain(key)
        assert type(key) is str


def parts(value):
    """The lists and objects inside a value, itself included."""
    if type(value) in (list, dict):
        yield value
        for part in value.values() if type(value) is dict else value:
            yield from parts(part)


def check_end(kind, source, record):
    before = encode(record)
    held = {id(part) for part in parts(record)}
    end = end_of(kind, source, record)
    assert end == end_of(kind, source, copy.deepcopy(record))  # no state, no chance
    assert encode(record) == before
    if end[0] == "value":
        check_plain(end[1])
        encode(end[1])
        assert not held & {id(part) for part in parts(end[1])}
    else:
        assert end[1] in {*ERROR_CLASSES.values(), "RefusedExpression"}
        if CANARY not in source:
            assert CANARY not in end[2]
    return end


# --- any program


@many
@given(programs, records)
def test_any_expression_gives_a_plain_value_or_a_typed_error_twice_the_same_and_changes_nothing(
    maker, record
):
    source = maker.expression()
    end = check_end("python", source, record)
    for kind in ("if", "math"):
        other = check_end(kind, source, record)
        assert (other[1] == "RefusedExpression") == (end[1] == "RefusedExpression" and end[0] == "error")
        if other[0] == "value":
            assert type(other[1]) is bool if kind == "if" else type(other[1]) in (type(None), int, Decimal)


@many
@given(programs, records)
def test_any_block_gives_a_plain_value_or_a_typed_error_twice_the_same_and_changes_nothing(maker, record):
    check_end("python", maker.block(), record)


def test_most_programs_made_here_are_of_the_language_and_many_give_a_value():
    """Otherwise the two tests above would say little."""
    chance = random.Random(1)
    maker = Programs(chance)
    record = {
        "s": "abc", "t": "a b", "i": 3, "d": Decimal("2.5"), "l": ["b", "a"], "rows": [{"k": "x", "q": 1}],
        "o": {"k": 1}, "day": "2026-03-29", "at": "2026-03-29T00:30:00.000000Z", "Any name": "x",
    }  # fmt: skip
    for make, accepted, valued in ((maker.expression, 0.95, 0.2), (maker.block, 0.9, 0.1)):
        ends = [end_of("python", make(), record) for _ in range(300)]
        refused = [end for end in ends if end[1] == "RefusedExpression"]
        assert len(refused) <= (1 - accepted) * len(ends), refused[:5]
        assert len([end for end in ends if end[0] == "value"]) >= valued * len(ends)


@pytest.mark.parametrize("name", sorted({*FUNCTIONS, *METHODS}))
def test_a_function_takes_any_values_and_ends_in_a_value_or_a_typed_error(name):
    @settings(max_examples=15)
    @given(st.lists(plain, min_size=1, max_size=4))
    def tried(values):
        record = {f"v{index}": value for index, value in enumerate(values)}
        for table, method in ((FUNCTIONS, False), (METHODS, True)):
            if name not in table:
                continue
            least, most = table[name].least, table[name].most
            for count in range(least, min(most, 4) + 1):
                arguments = [f"v{index % len(values)}" for index in range(count + method)]
                called = f"{arguments.pop(0)}.{name}" if method else name
                end = check_end("python", f"{called}({', '.join(arguments)})", record)
                assert end[1] != "RefusedExpression", end

    tried()


@given(st.text(max_size=80))
def test_any_text_is_refused_with_a_sentence_or_compiles(text):
    for kind in ("python", "if", "when", "math", "template", "date", "lookup"):

        def tried(kind=kind):
            return evaluate(kind, text, {"a": CANARY, "value": CANARY}, {"a": CANARY})

        _, error = outcome((RefusedExpressionError, RuleError), tried)
        assert error is None or str(error)


PIECES = [
    "a",
    "b",
    "upper",
    "len",
    "sum",
    "range",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ".",
    ",",
    ":",
    "=",
    ":=",
    "+=",
    "==",
    "<",
    "lambda",
    "for",
    "in",
    "if",
    "else",
    "elif",
    "not",
    "and",
    "or",
    "is",
    "await",
    "yield",
    "*",
    "**",
    "+",
    "-",
    "'x'",
    "f'",
    "'",
    '"',
    "1",
    "1.5",
    "1e5",
    "__class__",
    "record",
    "parent",
    "get",
    "value",
    "null",
    "None",
    "true",
    "pass",
    "break",
    "continue",
    "result",
    "while",
    "def",
    "class",
    "import",
    "try",
    "except",
    "with",
    "return",
    "global",
    "del",
    "async",
    "match",
    "case",
    "_",
    ";",
    "|",
    "~",
    "&",
    "@",
    "$",
    "#",
    "\\",
    "!",
    "?",
    "->",
    "\t",
]


@many
@given(st.lists(st.sampled_from([*PIECES, "\n", "\n    ", "\n        ", " "]), max_size=25).map(" ".join))
def test_any_words_of_python_are_refused_with_a_sentence_or_mean_something(text):
    for kind in ("python", "if", "template"):
        check_end(kind, text, {"a": "x", "b": ["y"], "value": 1})


@many
@given(programs, st.data())
def test_a_program_with_one_character_changed_is_refused_or_means_something(maker, data):
    source = maker.block() if data.draw(st.booleans()) else maker.expression()
    at = data.draw(st.integers(0, len(source)))
    character = data.draw(
        st.sampled_from(list("()[]{}.,:;='\"\\\n\t _aé0x#@!%&|~^$?\u2028\u200b\ufeffª")) | st.characters()
    )
    check_end(
        "python", source[:at] + character + source[at + data.draw(st.integers(0, 1)) :], {"s": "x", "l": [1]}
    )


@given(st.text(max_size=60), records)
def test_any_template_is_refused_or_gives_text(template, record):
    end = check_end("template", template, record)
    assert end[0] == "error" or type(end[1]) is str


# --- a flow and an evaluation are one thing


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(programs, records, records)
def test_a_compiled_flow_gives_what_an_evaluation_gives_and_keeps_nothing(maker, first, second):
    source = maker.block()
    flow, refused = outcome(FlowErrors, lambda: load(f"x: {{python: {quoted(source)}}}"))
    if refused is not None:
        assert end_of("python", source, first)[1] == "RefusedExpression"
        return
    compiled = compile_flow(flow).targets["account"]
    for record in (first, second, first):
        before = encode(record)
        expected = end_of("python", source, record)
        image, error = outcome(MappingError, lambda record=record: compiled.map(record, "", "1", Answers()))
        if error is None:
            assert ("value", image.values["x"]) == expected
        else:
            assert expected[0] == "error"
            assert ERROR_CLASSES[error.code.removeprefix("mapping_")] == expected[1]
            assert CANARY in source or CANARY not in error.message
        assert encode(record) == before


# --- agreement with Python, where both are defined


def python_of(source, **names):
    """What Python itself makes of a source of this file."""
    builtins = {"len": len, "sum": sum, "sorted": sorted, "any": any, "all": all, "range": range}
    return eval(source, {**names, "__builtins__": builtins})  # noqa: S307 - sources of this file


exact = decimal.Context(prec=34, rounding=decimal.ROUND_HALF_EVEN, Emax=399, Emin=-366)
small = st.integers(-(10**15), 10**15) | st.decimals(-(10**9), 10**9, places=5)


def as_ours(value):
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else value.normalize(exact)
    return value


@given(small, small, st.sampled_from("+-*"))
def test_sums_and_products_are_those_of_exact_decimals(a, b, operator):
    found = evaluate("python", f"a {operator} b", {"a": a, "b": b})
    with decimal.localcontext(exact):
        assert found == as_ours(python_of(f"a {operator} b", a=Decimal(a), b=Decimal(b)))


@given(small, small.filter(bool))
def test_quotients_are_those_of_decimals_with_34_digits_and_floor_and_rest_are_pythons(a, b):
    record = {"a": a, "b": b}
    assert evaluate("python", "a / b", record) == as_ours(exact.divide(Decimal(a), Decimal(b)))
    if type(a) is int and type(b) is int:
        assert evaluate("python", "[a // b, a % b]", record) == [a // b, a % b]


@given(small, st.integers(0, 6))
def test_rounding_goes_half_away_from_zero(a, places):
    step = Decimal(1).scaleb(-places)
    assert evaluate("python", f"round(a, {places})", {"a": a}) == as_ours(
        Decimal(a).quantize(step, decimal.ROUND_HALF_UP)
    )


@given(small, small)
def test_comparisons_are_those_of_numbers(a, b):
    for operator in ("<", "<=", ">", ">=", "==", "!="):
        assert evaluate("if", f"a {operator} b", {"a": a, "b": b}) is python_of(f"a {operator} b", a=a, b=b)


bounds = st.none() | st.integers(-15, 15)


@given(texts | st.lists(st.integers(0, 9), max_size=9), bounds, bounds, bounds.filter(lambda step: step != 0))
def test_slices_are_those_of_python(a, start, end, step):
    written = ":".join("" if bound is None else str(bound) for bound in (start, end, step))
    assert evaluate("python", f"a[{written}]", {"a": a}) == python_of(f"a[{written}]", a=a)


#: Where ours differs on purpose: startswith and endswith take lists, join takes any plain value, split refuses "".
TEXT_METHODS = sorted(
    name
    for name, method in METHODS.items()
    if hasattr(str, name) and "t" in HOLDERS.get(name, "t") and name not in ("index", "join")
)


@pytest.mark.parametrize("name", TEXT_METHODS)
def test_a_method_of_text_does_what_python_does(name):
    alphabet = st.text(st.sampled_from("aAbß ,.-\t\n1²İΣ\u03c3éxX"), max_size=10)

    @settings(max_examples=60)
    @given(alphabet, alphabet, alphabet, st.integers(0, 12))
    def tried(a, b, c, n):
        kinds = METHOD_ARGUMENTS.get(name, "")
        written = [
            "n" if kinds[index : index + 1] == "n" else "bc"[index] for index in range(METHODS[name].least)
        ]
        if name in ("ljust", "rjust", "center"):
            written = ["n", "'.'"]
        source = f"a.{name}({', '.join(written)})"
        try:
            expected = python_of(source, a=a, b=b, c=c, n=n)
        except ValueError:
            expected = None
        if name in ("replace", "partition", "rpartition", "split", "rsplit") and written and b == "":
            expected = None  # an empty text is nowhere and everywhere
        end = end_of("python", source, {"a": a, "b": b, "c": c, "n": n})
        if expected is None:
            assert end[:2] == ("error", "WrongType")
        else:
            assert end == ("value", list(expected) if isinstance(expected, tuple) else expected)

    tried()


@pytest.mark.parametrize(
    "source",
    [
        "[x * 2 for x in a]",
        "[x for x in a if x > 3]",
        "[x + y for x in a for y in b if x < y]",
        "[[y for y in b if y > x] for x in a]",
        "[x for x in a for x in [x + 1, x + 2]]",
        "[a for a in a]",
        "{str: 1 for str in ['p', 'q']}",
        "sum(x for x in a)",
        "sum([x * y for x in a for y in b])",
        "any(x > 5 for x in a)",
        "all(x > 5 for x in a)",
        "sorted(x for x in a)",
        "[x for x in a if x in b]",
        "a + b",
        "a[1:] + b[::-1]",
        "len([x for x in a if x % 2 == 0])",
        "[(x if x > 2 else -x) for x in a]",
        "a == b",
        "a != a",
        "[1, 2] == [1, 2]",
        "3 in a",
        "a and b",
        "a or b",
        "not a",
        "1 < len(a) <= 3",
        "[i for i in range(len(a))]",
        "a.index(a[0]) if a else -1",
        "a.count(3)",
        "{'x': a, 'y': {'z': b}}['y']['z']",
        "[k for k in {'x': 1, 'y': 2}]",
        "[x for x in 'abc']",
    ],
)
def test_lists_and_comprehensions_are_those_of_python(source):
    @settings(max_examples=30)
    @given(st.lists(st.integers(0, 9), max_size=6), st.lists(st.integers(0, 9), max_size=6))
    def tried(a, b):
        assert evaluate("python", source, {"a": a, "b": b}) == python_of(source, a=a, b=b)

    tried()


@pytest.mark.parametrize(
    "block",
    [
        "total = 0\nfor x in a:\n    total += x\nresult = total",
        "seen = []\nfor x in a:\n    if x in seen:\n        continue\n    seen = seen + [x]\nresult = seen",
        "n = 0\nfor x in a:\n    for y in b:\n        if x == y:\n            break\n        n += 1\nresult = n",
        "last = null\nfor x in a:\n    last = x\nresult = last",
        "x = 1\nif a:\n    x = 2\nelif b:\n    x = 3\nelse:\n    x = 4\nresult = x",
        "p, q = len(a), len(b)\np, q = q, p\nresult = [p, q]",
        "a = a + b\na += [1]\nresult = a",
        "n = 1\nfor i in range(5):\n    n *= 2\nfor i in range(0, 10, 3):\n    n -= i\nresult = n",
        "out = []\nfor x in a:\n    out += [y for y in b if y > x]\nresult = out",
        "x = 5\nout = [x for x in a]\nresult = [x, out]",
        "for x in a:\n    pass\nresult = x if a else null",
        "result = 0\nfor i in range(3):\n    for j in range(3):\n        if j > i: break\n        result += i * j",
        "found = false\nfor x in a:\n    if x > 7:\n        found = true\n        break\nresult = found",
    ],
)
def test_blocks_do_what_python_does(block):
    @settings(max_examples=40)
    @given(st.lists(st.integers(0, 9), max_size=6), st.lists(st.integers(0, 9), max_size=6))
    def tried(a, b):
        names = {
            "a": a,
            "b": b,
            "null": None,
            "true": True,
            "false": False,
            "__builtins__": {"len": len, "range": range},
        }
        exec(block, names)  # noqa: S102 - Python as the judge
        result = names["result"]
        assert evaluate("python", block, {"a": a, "b": b}) == result

    tried()


# Python writes -0.00 for what rounds to nothing; here nothing has no sign.
@given(
    texts, st.integers(-(10**6), 10**6), st.decimals(-(10**6), 10**6, places=3).filter(lambda d: abs(d) >= 1)
)
def test_f_strings_are_those_of_python_but_for_halves_which_go_away_from_zero(s, i, d):
    record = {"s": s, "i": i, "d": d}
    for form in (
        "{s}",
        "{i}",
        "{s:>20}|",
        "{s:*^9}|",
        "{i:08d}",
        "{i:+,}",
        "{i:>12,}",
        "{s:.3}",
        "{s:<4s}|",
        "{i:-d}",
    ):
        assert evaluate("python", f"f'{form}'", record) == python_of(f"f'{form}'", s=s, i=i), form
    with decimal.localcontext(rounding=decimal.ROUND_HALF_UP):
        for form in ("{d:.2f}", "{d:,.1f}", "{d:+010.2f}", "{d:.0f}", "{d:^12.1f}|"):
            assert evaluate("python", f"f'{form}'", record) == python_of(f"f'{form}'", d=d), form
        assert evaluate("python", "f'{i:.1%}'", record) == python_of("f'{i:.1%}'", i=Decimal(i))


# --- templates: one pass


@given(st.lists(texts | st.sampled_from(["{a}", "{", "}", "{{", "{record[a]}", "{b.c}"]), max_size=3), plain)
def test_a_template_is_filled_in_once(values, other):
    record = {"a": values, "b": "never", **{f"v{index}": value for index, value in enumerate(values)}}
    template = "|".join(f"{{v{index}}}" for index in range(len(values)))
    assert evaluate("template", template, record) == "|".join(values)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ue000{}"), max_size=40))
def test_text_without_braces_is_itself_in_a_template(text):
    assert evaluate("template", text, {}) == text


# --- what the record holds beside what is read


@given(records)
def test_an_error_holds_no_value_and_no_chain_that_does(record):
    for source in (
        "s + i",
        "number(t)",
        "date(s)",
        "o[s]",
        "l[99]",
        "t.index(s)",
        "round(s)",
        "s < i",
        "f'{l}'",
        "int(s)",
        "sum(l)",
        "sorted(l)",
    ):
        try:
            evaluate("python", source, {**record, "s": CANARY, "t": CANARY, "l": [CANARY, 1]})
        except (RefusedExpressionError, RuleError) as error:
            seen = error
            while seen is not None:
                assert CANARY not in str(seen)
                assert CANARY not in json.dumps([str(argument) for argument in seen.args])
                seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def test_every_function_that_takes_arguments_of_a_kind_is_known_to_the_maker_of_programs():
    """New functions are tried with arguments of any kind; a name here that is gone is a mistake."""
    assert set(ARGUMENTS) - set(FUNCTIONS) <= {"if_null", "if_empty", "add_months", "local", "to_utc"}
    assert set(METHOD_ARGUMENTS) <= set(METHODS)
    assert parse("1").source == "1"
