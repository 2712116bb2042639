"""Nothing outside the language gets in, and nothing of Python is reached from inside it.

The payloads stand in advisories.py, by the name of the advisory (security.md section 7, items 57 to 65). Bounds in time
and memory: test_expression_budget.py; what holds for any program: test_expression_properties.py.
ASVS 5.0: 1.2.8, 1.3.2 (no dynamic code from input).
"""

from __future__ import annotations

import ast
import builtins
import functools
import json
import pathlib
import sys
import types
from collections import UserDict, UserString, defaultdict
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.values import escape_text
from mappings.compiler import compile_flow
from mappings.evaluate import KINDS, RefusedExpressionError, _kept, evaluate
from mappings.expressions import language
from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.guards import ERROR_CLASSES, RuleError
from mappings.faults import FlowErrors
from mappings.load import load_flow
from tests.mappings.advisories import (
    HARMLESS,
    REFUSED,
    TEMPLATES_OF_DATA,
    TEMPLATES_OF_TEXT,
    TEMPLATES_REFUSED,
)
from tests.mappings.making import Answers, load, mapped, quoted, target

#: Their brackets close what stands around them: refused alone, they may mean something plain inside other brackets.
UNBALANCED = {"a) + (b", ") (", "1)(2", "1)\nimport os\n(1"}

PAYLOADS = [
    pytest.param(payload, id=f"{advisory.partition(':')[0]}-{number}")
    for advisory, payloads in REFUSED.items()
    for number, payload in enumerate(payloads)
]

# --- what Python does while a rule is evaluated: audit events tell of every way to the outside

_CODE_OF_OURS = {"<evaluation>"}
_OUTSIDE = (
    "open", "os.", "subprocess.", "socket.", "ctypes.", "object.__getattr__", "object.__setattr__", "object.__delattr__",
    "sys._getframe", "sys._current", "sys.addaudithook", "sys.setprofile", "sys.settrace", "code.__new__",
    "function.__new__", "builtins.input", "builtins.breakpoint", "pickle.", "marshal.", "shutil.", "glob.", "gc.", "import", "exec", "pty.",
    "tempfile.", "urllib.", "webbrowser.", "winreg.", "mmap.", "signal.", "sqlite3.",
)  # fmt: skip


class Watch:
    """Notes what leaves the language while it is on; a hook cannot be taken away again, so there is one."""

    def __init__(self):
        self.on = False
        self.seen = []
        sys.addaudithook(self._note)

    def _note(self, event, arguments):
        if not self.on or not event.startswith(_OUTSIDE):
            return
        if event == "open" and arguments[0] == "":
            return  # the parser quotes from the file that it reads, and there is none
        if event == "exec" and arguments[0].co_filename in _CODE_OF_OURS:
            return
        self.seen.append((event, str(arguments)[:100]))

    def __enter__(self):
        self.seen = []
        self.on = True
        return self

    def __exit__(self, *_):
        self.on = False


@functools.cache
def watch():
    evaluate("python", "1", {})  # what is imported on the first use
    return Watch()


def end_of(kind, expression, record, table=None):
    """How an evaluation ends: "refused", the class of a typed error, or ("value", it). Anything else fails the test."""
    with watch() as seen:
        try:
            end = ("value", evaluate(kind, expression, record, table))
        except RefusedExpressionError:
            end = "refused"
        except RuleError as error:
            end = error.class_name
    assert seen.seen == []
    return end


RECORD = {"a": "text", "b": ["x"], "obj": {"k": 1}, "config": {}, "foo": {}}


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("kind", ["python", "math", "if", "when"])
def test_a_published_escape_is_refused_when_the_rule_is_read(payload, kind):
    assert end_of(kind, payload, RECORD) == "refused"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_published_escape_is_refused_inside_other_parts_of_the_language(payload):
    if not payload.strip() or payload in UNBALANCED:
        return
    for around in (
        "upper({})",
        "[x for x in [{}]]",
        "(1 if {} else 2)",
        "f'{{ {} }}'",
        "[1, 2][{}]",
        "{{'k': {}}}",
    ):
        assert end_of("python", around.format(payload), RECORD) == "refused"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_published_escape_is_refused_inside_a_block(payload):
    lines = payload.split("\n")
    inner = "\n    ".join(lines)
    for block in (
        f"x = 1\n{payload}\nresult = x",
        f"if a:\n    {inner}\nresult = 1",
        f"for y in [1]:\n    {inner}\nresult = 1",
    ):
        # A payload that is no more than a comment or an empty line leaves a block that says something else.
        if not payload.strip() or payload.startswith("#") or payload in BLOCKS:
            continue
        assert end_of("python", block, RECORD) == "refused", block


#: Refused because they give no value; inside a block that gives one they are plain statements, or nothing.
BLOCKS = {"pass", "x = 1", "\\"}


@pytest.mark.parametrize(("expression", "record", "value"), HARMLESS, ids=lambda part: str(part)[:40])
def test_what_is_spelled_like_an_attack_is_data(expression, record, value):
    assert end_of("python", expression, record) == ("value", value)


@pytest.mark.parametrize("template", TEMPLATES_REFUSED)
def test_a_template_takes_fields_and_nothing_else_in_braces(template):
    assert end_of("template", template, RECORD) == "refused"


@pytest.mark.parametrize("template", TEMPLATES_OF_TEXT)
def test_braces_that_name_no_field_are_text(template):
    assert evaluate("template", template, {"a": "never", "b": "never"}) == template


@pytest.mark.parametrize("text", TEMPLATES_OF_DATA)
def test_what_a_value_holds_is_never_filled_in_again(text):
    record = {"a": text, "b": "secret", text: "other"}
    assert end_of("template", "{a}|{record[a]}|{a}", record) == ("value", f"{text}|{text}|{text}")
    assert end_of("python", "f'{a}|{b}'", record) == ("value", f"{text}|secret")
    assert end_of("python", "a.replace('b', 'b') + upper('')", record) == ("value", text)


def test_an_attack_as_the_key_of_a_lookup_or_as_a_pattern_of_a_date_is_refused():
    for expression in ("a.__class__", "__import__('os')", "[x for x in record]"):
        assert end_of("lookup", expression, RECORD, {"text": "found"}) == "refused"
    for pattern in ("%s", "%n", "%Y" * 60, "%E", "%-d", "{0.__class__}", "%Q", "%"):
        assert end_of("date", pattern, {"value": "2026-01-15"}) == "refused"
    assert end_of("lookup", "a", RECORD, {"__class__": 1}) == ("value", None)
    assert end_of("lookup", "a", {"a": "__class__"}, {}) == ("value", None)


@pytest.mark.parametrize("kind", ["", "eval", "__class__", "PYTHON", "python ", None, 1])
def test_an_unknown_kind_is_refused(kind):
    assert end_of(kind, "1", {}) == "refused"


# --- the allowlist is one: whatever Python's grammar has or will have is refused unless it is named


#: What each kind of node may look like, by its class: one way to write it, as an expression or as a statement.
WRITTEN = {
    "Add": "1 + 1", "And": "a and b", "Assign": "x = 1\nx", "AugAssign": "x = 1\nx += 1\nx", "BinOp": "1 + 1",
    "BoolOp": "a or b", "Break": "for x in b:\n    break\n1", "Call": "upper('a')", "Compare": "1 < 2",
    "Constant": "1", "Continue": "for x in b:\n    continue\n1", "Dict": "{'k': 1}", "DictComp": "{x: 1 for x in b}",
    "Div": "1 / 2", "Eq": "1 == 2", "Expr": "x = 1\nupper('a')", "FloorDiv": "1 // 2", "For": "for x in b:\n    pass\n1",
    "FormattedValue": "f'{a}'", "GeneratorExp": "sum(1 for x in b)", "Gt": "1 > 2", "GtE": "1 >= 2",
    "If": "if a:\n    x = 1\n1", "IfExp": "1 if a else 2", "In": "1 in [1]", "Is": "a is null", "IsNot": "a is not null",
    "JoinedStr": "f'{a}'", "List": "[1]", "ListComp": "[x for x in b]", "Load": "a", "Lt": "1 < 2", "LtE": "1 <= 2",
    "Mod": "5 % 2", "Mult": "2 * 2", "Name": "a", "Not": "not a", "NotEq": "1 != 2", "NotIn": "1 not in [1]",
    "Or": "a or b", "Pass": "if a:\n    pass\n1", "Pow": "2 ** 2", "Slice": "a[1:2]", "Store": "x = 1\nx",
    "Sub": "1 - 1", "Subscript": "b[0]", "Tuple": "'x' in ('x', 'y')", "UAdd": "+1", "USub": "-1", "UnaryOp": "-1",
    "Attribute": "a.upper()", "comprehension": "[x for x in b]",
}  # fmt: skip

#: Every other kind of node, written so that it appears.
FORBIDDEN = {
    "AnnAssign": "x: int = 1\nx", "Assert": "assert a\n1", "AsyncFor": "async for x in b:\n    pass\n1",
    "AsyncFunctionDef": "async def f():\n    pass\n1", "AsyncWith": "async with a:\n    pass\n1", "Await": "await a",
    "BitAnd": "1 & 1", "BitOr": "1 | 1", "BitXor": "1 ^ 1", "ClassDef": "class A:\n    pass\n1",
    "Del": "x = 1\ndel x\n1", "Delete": "x = 1\ndel x\n1", "ExceptHandler": "try:\n    1\nexcept E:\n    1\n1",
    "FunctionDef": "def f():\n    pass\n1", "Global": "global x\n1", "Import": "import os\n1",
    "ImportFrom": "from os import path\n1", "Invert": "~1", "LShift": "1 << 1", "Lambda": "lambda: 1",
    "MatMult": "a @ b", "Match": "match a:\n    case 1:\n        pass\n1", "MatchAs": "match a:\n    case x:\n        pass\n1",
    "MatchClass": "match a:\n    case str():\n        pass\n1", "MatchMapping": "match a:\n    case {'k': 1}:\n        pass\n1",
    "MatchOr": "match a:\n    case 1 | 2:\n        pass\n1", "MatchSequence": "match a:\n    case [1]:\n        pass\n1",
    "MatchSingleton": "match a:\n    case None:\n        pass\n1", "MatchStar": "match a:\n    case [*x]:\n        pass\n1",
    "MatchValue": "match a:\n    case 1:\n        pass\n1", "NamedExpr": "(x := 1)", "Nonlocal": "nonlocal x\n1",
    "RShift": "1 >> 1", "Raise": "raise a\n1", "Return": "return 1", "Set": "{1}", "SetComp": "{x for x in b}",
    "Starred": "[*b]", "Try": "try:\n    1\nfinally:\n    1\n1", "TryStar": "try:\n    1\nexcept* E:\n    1\n1",
    "While": "while a:\n    break\n1", "With": "with a:\n    pass\n1", "Yield": "(yield)", "YieldFrom": "(yield from b)",
    "alias": "import os as x\n1", "arg": "lambda x: 1", "arguments": "lambda: 1", "keyword": "upper(x=1)",
    "match_case": "match a:\n    case 1:\n        pass\n1", "withitem": "with a as x:\n    pass\n1",
    "TypeAlias": "type X = int\n1", "ParamSpec": "type X[**P] = int\n1", "TypeVar": "type X[T] = int\n1",
    "TypeVarTuple": "type X[*T] = int\n1", "TemplateStr": "t'{a}'", "Interpolation": "t'{a}'",
}  # fmt: skip

#: Classes that no text turns into: roots of other modes, abstract bases, what old versions had.
NEVER = {
    "AST", "mod", "stmt", "expr", "expr_context", "boolop", "operator", "unaryop", "cmpop", "excepthandler", "pattern",
    "type_ignore", "type_param", "slice", "Module", "Expression", "Interactive", "FunctionType", "Suite", "TypeIgnore",
    "Index", "ExtSlice", "AugLoad", "AugStore", "Param", "Num", "Str", "Bytes", "NameConstant", "Ellipsis",
}  # fmt: skip


def node_classes():
    return {
        name: kind for name, kind in vars(ast).items() if isinstance(kind, type) and issubclass(kind, ast.AST)
    }


def holds(text, name):
    """Whether the parser makes a node of this class of the text."""
    return any(type(node).__name__ == name for node in ast.walk(ast.parse(text)))


def test_every_class_of_the_running_pythons_grammar_is_judged_here():
    assert set(node_classes()) - set(WRITTEN) - set(FORBIDDEN) - NEVER == set()
    assert set(WRITTEN) & set(FORBIDDEN) == set()


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_each_construct_of_the_language_can_be_written(name):
    assert holds(WRITTEN[name], name)
    assert end_of("python", WRITTEN[name], RECORD)[0] == "value"


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
def test_each_other_construct_is_refused_as_an_expression_and_in_a_block(name):
    if name not in node_classes():
        pytest.skip(f"Python {sys.version_info[0]}.{sys.version_info[1]} has no {name}")
    text = FORBIDDEN[name]
    assert holds(text, name)
    assert end_of("python", text, RECORD) == "refused"
    inner = text.replace("\n", "\n    ")
    assert end_of("python", f"if a:\n    {inner}\nresult = 1", RECORD) == "refused"
    assert end_of("python", f"for z in b:\n    {inner}\nresult = 1", RECORD) == "refused"


def test_a_construct_that_a_later_python_brings_is_refused_by_not_being_named(monkeypatch):
    class Later(ast.expr):
        _fields = ("value",)

    class LaterStatement(ast.stmt):
        _fields = ("value",)

    parse = ast.parse

    def newer(text, *arguments, **keywords):
        tree = parse(text, *arguments, **keywords)
        for node in ast.walk(tree):
            for field, value in ast.iter_fields(node):
                if isinstance(value, ast.Constant) and value.value == 4711:
                    setattr(node, field, ast.copy_location(Later(value=value), value))
                if isinstance(value, list):
                    value[:] = [
                        ast.copy_location(LaterStatement(value=part), part)
                        if isinstance(part, ast.Pass)
                        else part
                        for part in value
                    ]
        return tree

    for text in ("4711", "1 + 4711", "[4711]", "upper(4711)", "x = 4711\nx", "for y in 4711:\n    x = 1\n1"):
        end_of("python", text, {})
    monkeypatch.setattr(ast, "parse", newer)
    _kept.cache_clear()  # what this Python compiled above is not read again
    for text in ("4711", "1 + 4711", "not 4711", "x = 4711\nx", "for y in 4711:\n    x = 1\n1"):
        assert end_of("python", text, {}) == "refused"
    assert end_of("python", "if a:\n    pass\nresult = 1", {}) == "refused"


# --- objects that are no JSON, as values of a record


class Trap:
    """Notes every use of itself: nothing of the language may touch a value of a kind that it does not know."""

    touched: list[str]

    def __getattribute__(self, name):
        if name not in ("__class__", "__dict__"):
            Trap.touched.append(name)
        return object.__getattribute__(self, name)


def _touch(name):
    def method(self, *_, **__):
        Trap.touched.append(name)
        return NotImplemented

    return method


for _name in [
    "add",
    "radd",
    "sub",
    "mul",
    "rmul",
    "truediv",
    "rtruediv",
    "floordiv",
    "mod",
    "rmod",
    "pow",
    "rpow",
    "neg",
    "pos",
    "abs",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "contains",
    "iter",
    "len",
    "getitem",
    "setitem",
    "call",
    "bool",
    "int",
    "float",
    "index",
    "str",
    "repr",
    "format",
    "hash",
    "enter",
    "exit",
    "next",
    "reversed",
]:
    if _name not in ("hash", "repr"):
        setattr(Trap, f"__{_name}__", _touch(_name))


class LoudText(str):
    """A text whose methods are not those of text."""

    __slots__ = ()

    def _loud(self, *_):
        Trap.touched.append("text")
        return "owned"

    upper = strip = replace = __add__ = __format__ = __str__ = __contains__ = startswith = split = join = (
        _loud
    )
    __mod__ = __mul__ = __getitem__ = format = _loud


class LoudDict(dict):
    def get(self, *_):
        Trap.touched.append("get")
        return "owned"

    __getitem__ = __missing__ = keys = values = items = get


class LoudList(list):
    def __iter__(self):
        Trap.touched.append("iter")
        return iter(["owned"])

    __getitem__ = index = count = __contains__ = __add__ = lambda *_: Trap.touched.append("list")


class LoudInt(int):
    def __add__(self, _):
        Trap.touched.append("int")
        return "owned"

    __radd__ = __mul__ = __eq__ = __lt__ = __index__ = __add__
    __hash__ = int.__hash__


class LoudDecimal(Decimal):
    def __add__(self, _):
        Trap.touched.append("decimal")
        return "owned"

    __radd__ = __mul__ = __eq__ = __lt__ = quantize = __add__
    __hash__ = Decimal.__hash__


def _circle():
    ring: list[object] = []
    ring.append(ring)
    return ring


OBJECTS = {
    "a module": builtins,
    "a function": len,
    "a function of ours": end_of,
    "a class": str,
    "a type": type,
    "an instance with traps": Trap(),
    "a generator": (x for x in [1]),
    "a lambda": lambda: 1,
    "a partial": functools.partial(len, "a"),
    "a path": pathlib.Path("x"),
    "a frame": sys._getframe(),
    "a code object": end_of.__code__,
    "an exception": ValueError("x"),
    "a namespace": types.SimpleNamespace(a=1),
    "a mapping proxy": types.MappingProxyType({"a": 1}),
    "a numpy array": np.array([1, 2]),
    "a numpy number": np.float64(1.5),
    "a numpy integer": np.int64(1),
    "a numpy text": np.str_("x"),
    "a numpy truth": np.bool_(True),
    "a data frame": pd.DataFrame({"a": [1]}),
    "a series": pd.Series([1]),
    "a timestamp": pd.Timestamp("2026-01-15"),
    "pandas' missing": pd.NA,
    "a float": 1.5,
    "a complex": 1j,
    "a fraction": Fraction(1, 2),
    "not a number": Decimal("NaN"),
    "a signalling one": Decimal("sNaN"),
    "infinity": Decimal("Infinity"),
    "bytes": b"x",
    "a bytearray": bytearray(b"x"),
    "a memoryview": memoryview(b"x"),
    "a tuple": (1, 2),
    "a set": {1},
    "a range": range(3),
    "a slice": slice(1),
    "an ellipsis": ...,
    "not implemented": NotImplemented,
    "a text of another class": LoudText("x"),
    "a text of the library": UserString("x"),
    "a dict of another class": LoudDict(a=1),
    "a default dict": defaultdict(lambda: "made", a=1),
    "a dict of the library": UserDict(a=1),
    "a list of another class": LoudList([1]),
    "a number of another class": LoudInt(5),
    "a decimal of another class": LoudDecimal(5),
    "a key that is no text": {1: "a"},
    "a key of another class": {LoudText("k"): 1},
    "a ring": _circle(),
    "half a character": "\ud800",
    "a NUL": "\x00",
    "an object deep inside": {"x": [{"y": [object()]}]},
}

USES = [
    "a", "a + 1", "1 + a", "a * 2", "a - 1", "a / 2", "a % 2", "a ** 2", "-a", "not a", "a and 1", "a or 1", "a == 1",
    "1 == a", "a < 1", "a in [1]", "1 in a", "'x' in a", "[a]", "{'k': a}", "a[0]", "a['k']", "a[0:1]", "f'{a}'",
    "f'{a:>10}'", "a.upper()", "a.get('a')", "a.keys()", "a.split('x')", "a.index(1)", "1 if a else 2",
    "[x for x in a]", "{x: 1 for x in a}", "for x in a:\n    y = x\nresult = y", "x, y = a\nx", "',' .join(a)",
    "a.replace('x', a)", "record['a']", "record.get('a')", "text(a)", "len(a)", "coalesce(a, 1)", "empty(a)",
]  # fmt: skip


@pytest.mark.parametrize("what", OBJECTS)
def test_a_value_that_is_no_json_never_gets_in_and_none_of_its_methods_is_called(what):
    Trap.touched = []
    for use in USES:
        for kind in ("python", "if", "math"):
            end = end_of(kind, use, {"a": OBJECTS[what], "b": 1})
            assert end in ("refused", *ERROR_CLASSES.values()), (use, kind)
    assert end_of("template", "{a}", {"a": OBJECTS[what]}) in ERROR_CLASSES.values()
    assert end_of("date", "%Y", {"value": OBJECTS[what]}) in ERROR_CLASSES.values()
    assert end_of("lookup", "b", {"b": "k"}, {"k": OBJECTS[what]}) in ERROR_CLASSES.values()
    assert Trap.touched == []


def test_a_record_of_another_class_is_copied_or_refused_before_anything_is_read():
    Trap.touched = []
    for record in (
        LoudDict(a=1),
        defaultdict(lambda: "made"),
        UserDict(a=1),
        [("a", 1)],
        "a",
        None,
        5,
        Trap(),
    ):
        assert end_of("python", "a", record) in ("refused", *ERROR_CLASSES.values())
    assert Trap.touched == []


# --- where expressions stand


@pytest.mark.parametrize(
    "name", ["upper", "number", "eval", "os", "self", "get", "scope", "resolve", "document", "values"]
)
def test_a_bare_name_is_a_field_of_the_record_whatever_it_is_called_elsewhere(name):
    assert evaluate("python", name, {}) is None
    assert evaluate("python", name, {name: "mine"}) == "mine"


@pytest.mark.parametrize("name", ["__class__", "__builtins__", "__dict__", "get", "keys", "pop"])
def test_a_field_reached_by_text_is_only_ever_a_key(name):
    assert evaluate("python", f'record["{name}"]', {}) is None
    assert evaluate("python", f'record["{name}"]', {name: 1}) == 1


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


# --- what is compiled


SAMPLES = (
    "upper(a)", "a + 1", "a.strip().upper()", "[x.upper() for x in b if x]", "{x: 1 for x in b}", "sum(x for x in b)",
    "f'{a:>10}'", "a[1:2]", "b[0]", "record['Any name']", "record.get('a', 1)",
    "total = 0\nfor x in b:\n    total += 1\nresult = total",
)  # fmt: skip


def _reachable(value, depth=0):
    """The values that compiled code has under a name, containers opened."""
    yield value
    if depth < 3 and isinstance(value, dict | list | tuple | set | frozenset):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _reachable(part, depth + 1)


def test_compiled_functions_have_no_builtins_and_know_only_what_was_bound():
    rules = "\n".join(f"x{number}: {{python: {quoted(sample)}}}" for number, sample in enumerate(SAMPLES))
    compiled = target(
        rules + '\ny: {template: "{a}"}\nz: {math: "a + 1"}\nw: {if: "a == 1", then: a, else: b}'
    )
    dangerous = {
        id(getattr(builtins, name))
        for name in (
            "eval",
            "exec",
            "open",
            "getattr",
            "setattr",
            "__import__",
            "compile",
            "globals",
            "vars",
            "input",
        )
    }
    for function in (compiled.map, compiled.when, compiled.wants):
        names = function.__globals__
        assert names["__builtins__"] == {}
        for value in _reachable({name: value for name, value in names.items() if name != "__builtins__"}):
            assert id(value) not in dangerous
            assert not isinstance(value, types.ModuleType)
            assert value is not sys.modules
        assert function.__closure__ is None


def test_compiled_source_calls_only_names_of_ours_and_reads_no_inner_attribute():
    rules = "\n".join(f"x{number}: {{python: {quoted(sample)}}}" for number, sample in enumerate(SAMPLES))
    compiled = target(rules)
    bound = set(compiled.map.__globals__)
    for node in ast.walk(ast.parse(compiled.source)):
        assert not isinstance(
            node, ast.Import | ast.ImportFrom | ast.Lambda | ast.Global | ast.Nonlocal | ast.ClassDef
        )
        if isinstance(node, ast.Attribute):
            assert node.attr == "__class__" or not node.attr.startswith("_")
        if isinstance(node, ast.Name):
            assert node.id not in vars(builtins) or node.id in bound or isinstance(node.ctx, ast.Store)


HOSTILE = st.text(max_size=40) | st.sampled_from(
    ["'", '"', "\\", "\n", "');import os;('", '"""', "{", "}", "#", "\u2028", "__builtins__", "f'{1}'", "\\N{DIGIT ONE}"]
)  # fmt: skip


@given(HOSTILE, HOSTILE, HOSTILE)
def test_no_text_of_a_flow_can_become_code(field, source, constant):
    """Names and constants of any spelling come out as the data they are, or are refused when the flow is read."""
    rules = {f"a{field}": {"direct": source}, f"b{field}": {"const": constant}}
    text = (
        "flow: f_g\nsource: {system: bc, entity: c}\n"
        "targets: {t: {system: crm, entity: a, key: {number: number}, fields: " + json.dumps(rules) + "}}"
    )
    try:
        compiled = compile_flow(load_flow(text, name="f.yaml")).targets["t"]
    except FlowErrors:
        return
    image = compiled.map({source: "the value"}, "", "1", Answers())
    expected = {"$scope": "", "$id": "1"}.get(source, "the value")
    assert image.values == {  # noqa: PD011 - no data frame
        "number": None if source != "number" else "the value",
        f"a{field}": expected,
        f"b{field}": constant,
    }
    ast.parse(compiled.source)


@given(
    HOSTILE.filter(lambda text: escape_text(text) == text and text != "a"),  # a is the field beside it
    HOSTILE.filter(lambda text: escape_text(text) == text),
)
def test_no_text_in_an_expression_can_become_code(name, constant):
    """Keys and texts of any spelling are the data they are, or the expression is refused."""
    for spelled in (f"record[{name!r}]", f"record.get({name!r}, {constant!r})", f"f'{{a}}' + {constant!r}"):
        end = end_of("python", spelled, {name: constant, "a": ""})
        assert end in ("refused", ("value", constant)), spelled


# --- the check itself


def test_the_checker_carries_a_version():
    assert isinstance(language.CHECKER_VERSION, int)


def test_every_refusal_is_a_sentence_that_names_no_inner_part():
    for payloads in REFUSED.values():
        for payload in payloads:
            with pytest.raises(RefusedExpressionError) as caught:
                evaluate("python", payload, RECORD)
            said = str(caught.value)
            assert said
            assert len(said) < 2_000
            assert "Traceback" not in said
            assert "object at 0x" not in said
            assert caught.value.__suppress_context__


def test_every_function_of_the_language_is_a_plain_function_of_our_modules():
    for name, function in FUNCTIONS.items():
        assert isinstance(function.call, types.FunctionType), name
        assert function.call.__module__.startswith("mappings."), name


def test_a_flow_ends_in_the_same_typed_errors_as_an_evaluation():
    compiled = target('x: {python: "a + 1"}')
    with pytest.raises(MappingError) as caught:
        compiled.map({"a": "text"}, "", "1", Answers())
    with pytest.raises(RuleError) as same:
        evaluate("python", "a + 1", {"a": "text"})
    assert caught.value.code == f"mapping_{same.value.code}"
    assert same.value.what in caught.value.message
    assert set(KINDS) == {"if", "when", "math", "python", "template", "date", "lookup"}


# --- bounds before the parser, and the compiler behind it


@pytest.mark.parametrize(
    "expression",
    [
        "1 + " * 2000 + "1",
        "(" * 41 + "1" + ")" * 41,
        "[" * 100,
        "{" * 41 + "1" + "}" * 41,
        "a[" * 41 + "0" + "]" * 41,
        "not " * 900 + "a",
        "-" * 3000 + "1",
        "+".join(["a"] * 200),
        "a if a else " * 200 + "a",
        "upper(" * 30 + "not " * 40 + "a" + ")" * 30,
        "a" + ".upper()" * 70,
        "a" + "[0]" * 70,
        "a" + "[:]" * 70,
        "1" * 1300,
        "1e400",
        "1e31",
        "1.0e-31",
        "1." + "1" * 34,
        "'" + "x" * language.MAX_SOURCE + "'",
        "\n" * language.MAX_SOURCE + "1",
        "#" * language.MAX_SOURCE + "\n1",
        "[" + ", ".join(["1"] * 1_001) + "]",
        "if a:\n" + "".join(" " * level + "if a:\n" for level in range(1, 30)) + " " * 30 + "x = 1\n1",
        "".join(" " * level + "for x in a:\n" for level in range(15)) + " " * 15 + "pass\n1",
        "if a:\n    x = 1\n" + "elif a:\n    x = 2\n" * 150 + "1",
        "x = " * 900 + "1",
        "f'{" * 5 + "a" + "}'" * 5,
    ],
    ids=lambda text: f"{text[:20]!r} {len(text)}",
)
def test_long_deep_and_huge_programs_are_refused_before_they_are_compiled(expression):
    assert end_of("python", expression, RECORD) == "refused"


DEEPEST = [
    "not " * 58 + "a",
    "-" * 58 + "a",
    "(" * 39 + "a" + ")" * 39,
    "[" * 39 + "a" + "]" * 39,
    "{'k': " * 39 + "a" + "}" * 39,
    "a[" * 39 + "0" + "]" * 39,
    "a" + ".upper()" * 55,
    "a" + "[0:]" * 55,
    "a" + "[0]" * 55,
    "+".join(["a"] * 59),
    "*".join(["1"] * 59),
    "a if a else " * 58 + "a",
    " and ".join(["a"] * 600),
    "1 < " * 300 + "1",
    "a not in [" + ", ".join(["'x'"] * 500) + "]",
    "[" + ", ".join(["1"] * 999) + "]",
    "max(" * 38 + "a" + ")" * 38,
    "coalesce(" * 38 + "a" + ")" * 38,
    "[x for x in " * 38 + "a" + "]" * 38,
    "[" * 38 + "x for x in a" + " for x in a]" * 38,
    "{'k': " * 19 + "[x for x in a]" + "}" * 19,
    "sum(1 for x in " * 19 + "a" + ")" * 19,
    "(n not in (not " * 19 + "n" + "))" * 19,
    "(1 < (2 < " * 19 + "n" + " < 3) < 4)" * 19,
    "[x for x in [1] if 1 < x < " * 19 + "2" + " < 9]" * 19,
    "(1 if n else [x for x in [" * 12 + "n" + "]])" * 12,
    "f'{" + "a" + "}" + "{a:>10}" * 400 + "'",
    "".join(f"{' ' * level}if a:\n" for level in range(10)) + " " * 10 + "x = 1\nresult = 1",
    "".join(f"{' ' * level}for x{level} in a:\n" for level in range(10)) + " " * 10 + "y = not " + "not " * 20 + "a\n1",
    "if a:\n    x = 1\n" + "elif a:\n    x = 2\n" * 59 + "else:\n    x = 3\nresult = x",
    "x = 1\n" * 600 + "x",
    "x, y = [1, 2]\n" * 250 + "x",
]  # fmt: skip


@pytest.mark.parametrize("program", DEEPEST, ids=lambda text: f"{text[:24]!r} {len(text)}")
@pytest.mark.parametrize("record", [{"a": "text", "n": 1}, {"a": ["b"], "n": None}, {}])
def test_the_deepest_programs_that_are_taken_also_compile_and_end(program, record):
    end = end_of("python", program, record)
    assert end in ERROR_CLASSES.values() or end[0] == "value", end
    end = end_of("if", program, record) if "\n" not in program else end
    assert end in ERROR_CLASSES.values() or end[0] == "value", end


def test_the_deepest_nest_of_rules_compiles():
    for inner in ("not " * 55 + "a", "[x for x in " * 30 + "a" + "]" * 30):
        rule = "{const: 1}"
        for _ in range(16):
            rule = "{if: " + quoted(inner) + f", then: a, else: {rule}}}"
        assert mapped(f"x: {rule}", {"a": []}).values["x"] in (1, None, [])  # noqa: PD011 - no data frame


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
        "f'{big}'",
        "1.5 * big",
        "10.5 ** 9999",
        "1.1 ** 100000",
        "long + long",
        "f'{long}{long}'",
        "long * 2",
        "'ab' * 1000000000",
        "10 ** 9 * 'ab'",
        "[1] * 1001",
        "[0] * 10 ** 9",
        "items + items",
        "upper(sharp)",
        "sharp.upper()",
        "ligature.upper()",
        "replace(half, 'a', 'bbb')",
        "half.replace('a', half)",
        "half.join([half, half, half])",
        "','.join([half] * 3)",
        "replace(longer, 'a', '')",
        "'x' in longer",
        "contains(longer, 'x')",
        "strip(longer)",
        "longer.strip()",
        "longer[0:1]",
        "half.split('a')",
        "lines.splitlines()",
        "list(half)",
        "[x for x in half]",
        "round(1.5, 31)",
        "pad_left('a', 100000)",
        "'a'.zfill(100000)",
        "'a'.ljust(10 ** 9)",
        "'a'.center(10 ** 9, 'x')",
        "left('a', 99999999)",
        "add_days('2026-01-01', 99999999)",
        "range(1001)",
        "range(10 ** 30)",
        "range(0, 10 ** 9, 1)",
        "1 in long_list",
        "[x for x in long_list]",
        "sum(long_list)",
        "long_list[0:1]",
        "[1 for x in items for y in items]",
        "for x in items:\n    for y in items:\n        pass\n1",
        "s = 'a'\nfor x in items:\n    s += s\ns",
        "l = [1]\nfor x in items:\n    l += l\nl",
        "n = 3\nfor x in items:\n    n *= n\nn",
        "l = [1]\nfor x in range(30):\n    l = [l, l]\nl",
        "l = []\nfor x in range(30):\n    l = [l]\nl",
        "[[half] * 100] * 100",
        "[items] * 100",
    ],
)
def test_what_would_grow_beyond_the_limits_is_a_typed_error(expression):
    record = {
        "big": 1 << 5000,
        "long": "x" * 40_000,
        "half": "a" * 30_000,
        "sharp": "\u00df" * 40_000,
        "ligature": "\ufb03" * 40_000,
        "lines": "\n" * 30_000,
        "longer": "a" * 70_000,
        "items": [1] * 1_000,
        "long_list": [1] * 1_001,
    }
    assert end_of("python", expression, record) == "LimitExceeded"
