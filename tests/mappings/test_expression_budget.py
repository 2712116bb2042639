"""The slowest program within the budget: looked for, and shown to end under 50 ms of CPU time and in little memory.

Three ways to find it: a list of what is known to be slow in Python, every primitive in a loop on operands of the sizes
where the price changes, and a climb from the slowest of these by small changes. All by a fixed seed. What ends early by
its budget counts like what ends with a value: the time until the end is what a worker loses.
"""

from __future__ import annotations

import ast
import functools
import gc
import random
import time
import tracemalloc
from decimal import Decimal

import pytest

from ipaas_resources.core.errors import MappingError
from mappings.compiler import compile_flow
from mappings.evaluate import RefusedExpressionError, evaluate
from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.guards import MAX_STEPS
from mappings.expressions.language import MAX_SOURCE
from mappings.expressions.methods import METHODS
from mappings.faults import FlowErrors
from tests.mappings.making import Answers, load, quoted
from tests.mappings.programs import ARGUMENTS, HOLDERS, METHOD_ARGUMENTS

#: Seconds of CPU time that one evaluation may take.
BAR = 0.050
#: Bytes that one evaluation may hold at once.
MEMORY = 64 * 1024 * 1024

#: Programs that the search tries.
TRIES = 900
CLIMBS = 300

# --- operands


SIZES = (1, 16, 17, 64, 255, 256, 257, 1_000, 1_023, 1_024, 1_025, 4_096, 16_384, 32_768, 65_535, 65_536)
TEXT_SHAPES = {
    "one": lambda size: "a" * size,
    "end": lambda size: "a" * (size - 1) + "b",
    "start": lambda size: "b" + "a" * (size - 1),
    "middle": lambda size: "a" * (size // 2) + "b" + "a" * (size - size // 2 - 1),
    "pairs": lambda size: ("ab" * size)[:size],
    "spaces": lambda size: " " * size,
    "words": lambda size: ("a " * size)[:size],
    "lines": lambda size: "\n" * size,
    "sharp": lambda size: "ß" * size,
    "ligature": lambda size: "ﬃ" * size,  # three letters when it is a capital
    "sigma": lambda size: ("Σ." * size)[:size],
    "dots": lambda size: "." * (size - 1) + "Σ",
    "dotted": lambda size: "İ" * size,
    "astral": lambda size: "\U0001f600" * size,
    "digits": lambda size: "9" * size,
    "decimal": lambda size: "0." + "1" * size,
    "quotes": lambda size: ("a'" * size)[:size],
    "fibonacci": lambda size: _fibonacci()[:size],
    "commas": lambda size: "," * size,
}


@functools.cache
def _fibonacci():
    first, second = "a", "ab"
    while len(second) < 70_000:
        first, second = second, second + first
    return second


ITEM_SHAPES = {
    "numbers": lambda n: list(range(n)),
    "backwards": lambda n: list(range(n, 0, -1)),
    "same": lambda n: [1] * n,
    "large": lambda n: [(1 << 4_095) + i for i in range(n)],
    "colliding": lambda n: [i * (2**61 - 1) for i in range(n)],
    "decimals": lambda n: [Decimal(i) + Decimal("0.3333333333333333333333333333333333") for i in range(n)],
    "exponents": lambda n: [Decimal(10) ** (i % 300) * Decimal("1.5") for i in range(n)],
    "tiny": lambda n: [Decimal(1).scaleb(-300) * (i + 1) for i in range(n)],
    "texts": lambda n: [f"t{i}" for i in range(n)],
    "prefixes": lambda n: ["a" * 250 + str(i) for i in range(n)],
    "long": lambda n: ["a" * 4_000 + str(i) for i in range(n)],
    "longest": lambda n: ["a" * 65_500 + str(i) for i in range(min(n, 100))],
    "lists": lambda n: [[i, i] for i in range(n)],
    "equal lists": lambda n: [[0] * 1_000 for _ in range(min(n, 200))],
    "deep": lambda n: [_nested(18) for _ in range(n)],
    "objects": lambda n: [{"k": i, "q": "a" * 20} for i in range(n)],
    "wide objects": lambda n: [{f"n{j}": j for j in range(100)} for _ in range(min(n, 200))],
    "pairs": lambda n: [[f"n{i}", i] for i in range(n)],
    "nulls": lambda n: [None] * n,
    "mixed": lambda n: [True, 1, Decimal("1.5"), "a", None] * (n // 5),
    "sparse": lambda n: [None] * (n - 1) + [1],
}


def _nested(depth):
    value = [1]
    for _ in range(depth):
        value = [value]
    return value


NUMBERS = {
    "0": 0, "1": 1, "2": 2, "7": 7, "100": 100, "1000": 1_000, "9999": 9_999, "65536": 65_536, "large": (1 << 4_095) + 1,
    "half": (1 << 2_047) + 1, "quarter": (1 << 1_000) + 1, "digits34": Decimal("1.234567890123456789012345678901234"),
    "big decimal": Decimal("9.99999999999999999999999999999999E+390"), "tiny": Decimal("1.1E-360"), "minus": -(1 << 4_000),
    "1.1": Decimal("1.1"), "third": Decimal("0.3333333333333333333333333333333333"), "0.000000001": Decimal("0.000000001"),
}  # fmt: skip
OBJECTS = {
    "small": {"k": 1, "q": "a"},
    "thousand": {f"n{i}": i for i in range(1_000)},
    "long names": {"a" * 200 + str(i): i for i in range(1_000)},
    "full": {f"n{i}": ["a" * 50, i, Decimal("0.3")] for i in range(1_000)},
    "deep": {"k": _nested(17)},
}
DATES = {
    "day": "2026-01-15",
    "at": "2026-01-15T13:58:10.123456Z",
    "offset": "2026-03-29T01:30:00+02:00",
    "no": "x" * 65_000,
    "first": "0001-01-01",
}


class Operands:
    """Values by a name that says how they are made; a program's record holds those that it names."""

    def __init__(self, chance):
        self._chance = chance

    def pick(self, kind):
        choose = self._chance.choice
        if kind == "a":
            kind = choose("tnlo")
        if kind == "t":
            return f"t:{choose(list(TEXT_SHAPES))}:{choose(SIZES)}"
        if kind == "l":
            return f"l:{choose(list(ITEM_SHAPES))}:{choose((1, 16, 100, 500, 1_000))}"
        return {"n": f"n:{choose(list(NUMBERS))}", "o": f"o:{choose(list(OBJECTS))}", "d": f"d:{choose(list(DATES))}",
                "k": f"k:{choose(['k', 'q', 'n500'])}", "z": "k:Europe/London"}[kind]  # fmt: skip


@functools.cache
def operand(name):
    kind, _, rest = name.partition(":")
    shape, _, size = rest.rpartition(":")
    if kind == "t":
        return TEXT_SHAPES[shape](int(size))[:65_536]
    if kind == "l":
        return ITEM_SHAPES[shape](int(size))
    return {"n": NUMBERS, "o": OBJECTS, "d": DATES}.get(kind, {}).get(rest, rest)


# --- programs


def primitives():
    """Every primitive of the language: (source with {} for each operand, the kinds of the operands)."""
    found = [
        *((f"{{}} {sign} {{}}", kinds) for sign in ("+", "-", "*", "/", "//", "%", "**") for kinds in ("nn", "tn", "ln", "tt", "ll")),
        *((f"{{}} {sign} {{}}", kinds) for sign in ("==", "!=", "<", "<=", ">=") for kinds in ("nn", "tt", "ll", "oo", "aa")),
        *((f"{{}} {word} {{}}", kinds) for word in ("in", "not in") for kinds in ("tt", "al", "to", "nl", "ll")),
        ("-{}", "n"), ("not {}", "a"), ("{} < {} < {}", "nnn"), ("{} if {} else {}", "aaa"), ("{} and {} or {}", "aaa"),
        ("{}[{}]", "ln"), ("{}[{}]", "tn"), ("{}[{}]", "ok"), ("{}[{}:{}]", "tnn"), ("{}[::-1]", "t"), ("{}[::2]", "t"),
        ("{}[1:]", "l"), ("{}[::-1]", "l"), ("[{}, {}]", "aa"), ("{{{{'k': {}}}}}", "a"), ("{{{{{}: {}}}}}", "ta"),
        ("f'{{{{{}}}}}'", "a"), ("f'{{{{{}:>100}}}}'", "a"), ("f'{{{{{}:.100f}}}}'", "n"), ("f'{{{{{}:,.2f}}}}'", "n"),
        ("f'{{{{{}:>+100,.50f}}}}'", "n"), ("f'{{{{{}:.100%}}}}'", "n"), ("f'{{{{{}}}}}{{{{{}}}}}'", "tt"),
        ("[e for e in {}]", "l"), ("[e for e in {} for f in {}]", "ll"), ("[e for e in {} if e == {}]", "la"),
        ("{{{{'k': e for e in {}}}}}", "l"), ("{{{{e: e for e in {}}}}}", "l"), ("sum(e for e in {})", "l"),
        ("','.join(e for e in {})", "l"), ("[e for e in {}]", "t"), ("[e for e in {}]", "o"), ("[[e, e] for e in {}]", "l"),
        ("[e + e for e in {}]", "l"), ("[{} + text(e) for e in {}]", "tl"), ("sorted([{} + text(e) for e in {}])", "tl"),
        ("unique([{} + text(e) for e in {}])", "tl"), ("[{} == {} + '' for e in {}]", "ttl"),
    ]  # fmt: skip
    for table, method in ((FUNCTIONS, False), (METHODS, True)):
        for name, function in table.items():
            kinds = (METHOD_ARGUMENTS if method else ARGUMENTS).get(name, "")
            for count in range(function.least, min(function.most, 4) + 1):
                arguments = (kinds + "aaaa")[:count]
                written = ", ".join(["{}"] * count)
                called = f"{{}}.{name}({written})" if method else f"{name}({written})"
                found += [
                    (called, holder + arguments) for holder in (HOLDERS.get(name, "t") if method else [""])
                ]
    return found


class Program:
    """Calls of primitives in a frame: what it says, and what it reads."""

    FRAMES = (
        "for i in range(1000):\n    for j in range(1000):\n{lines}\nresult = 1",
        "for i in range(1000):\n{lines}\nresult = 1",
        "for i in range(20):\n    for j in range(50):\n{lines}\nresult = 1",
        "[{first} for i in range(1000) for j in range(1000)]",
        "[{first} for i in range(1000)]",
        "len([1 for i in range(1000) if {first}])",
        "kept = []\nfor i in range(1000):\n    kept += [[{first}]]\nlen(kept)",
        "{many}",
        "{first}",
    )

    def __init__(self, frame, calls):
        self.frame = frame
        self.calls = calls  # [(source, operands)]

    def source(self):
        written = []
        for text, operands in self.calls:
            names = [f'record["{name}"]' for name in operands]
            if "f'" in text or '"' in text:
                names = [f"v{index}" for index, _ in enumerate(operands)]
            written.append((text.replace("{{{{", "{{").replace("}}}}", "}}").format(*names), operands))
        setup = "".join(
            f'v{index} = record["{name}"]\n'
            for text, operands in self.calls
            if "f'" in text
            for index, name in enumerate(operands)
        )
        sources = [each for each, _ in written]
        frame = self.FRAMES[self.frame]
        lines = "\n".join(f"        x{index} = {each}" for index, each in enumerate(sources))
        if frame.count("for") == 1:
            lines = lines.replace("        ", "    ")
        if frame == "{many}":
            body = "\n".join(f"x = {each}" for each in (sources * 400)[:400])
            while len(setup) + len(body) > MAX_SOURCE - 20:
                body = body[: body.rindex("\n")]
            return f"{setup}{body}\nresult = 1"
        text = frame.replace("{lines}", lines).replace("{first}", sources[0])
        return setup + text

    def record(self):
        return {name: operand(name) for _, operands in self.calls for name in operands}

    def changed(self, chance, operands, known):
        """A neighbour: another frame, operand or call, a call more or less."""
        frame, calls = self.frame, [(text, list(names)) for text, names in self.calls]
        what = chance.random()
        if what < 0.2:
            frame = chance.randrange(len(self.FRAMES))
        elif what < 0.75:
            text, names = chance.choice(calls)
            if names:
                index = chance.randrange(len(names))
                names[index] = operands.pick(names[index][0] if names[index][0] in "tnlod" else "a")
        elif what < 0.9 or len(calls) > 3:
            text, kinds = chance.choice(known)
            calls[chance.randrange(len(calls))] = (text, [operands.pick(kind) for kind in kinds])
        else:
            calls.append(chance.choice(calls))
        return Program(frame, calls)


@functools.lru_cache(maxsize=8)
def compiled(source):
    return compile_flow(load(f"x: {{python: {quoted(source)}}}")).targets["account"]


def run(source, record):
    """How it ends: "value", or the code of its error."""
    try:
        compiled(source).map(record, "", "1", Answers())
    except MappingError as error:
        return error.code
    return "value"


def seconds(source, record, *, tries=1):
    """CPU seconds of one evaluation, the best of a few tries. A program that is refused takes none."""
    try:
        compiled(source)
    except FlowErrors:
        return 0.0
    best = 10.0
    for _ in range(tries):
        # What this test keeps is out of the collector's way: a worker has no such heap.
        gc.collect(0)
        gc.freeze()
        start = time.process_time()
        run(source, record)
        best = min(best, time.process_time() - start)
        gc.unfreeze()
    return best


def measured(source, record):
    """The CPU seconds of an evaluation, tried again while the machine's noise may be in them."""
    spent = seconds(source, record)
    return min(spent, seconds(source, record, tries=5)) if spent > BAR / 3 else spent


# --- what is known to be slow


TEXT = "a" * 65_536
HAND = {
    "the longest loop": ("for i in range(1000):\n    for j in range(1000):\n        pass\n1", {}),
    "the longest loop with a sum": ("n = 0\nfor i in range(1000):\n    for j in range(1000):\n        n += j\nn", {}),
    "nested comprehensions": ("[1 for i in range(1000) for j in range(1000) for k in range(1000)]", {}),
    "comprehensions in comprehensions": ("[[[k for k in range(99)] for j in range(99)] for i in range(99)]", {}),
    "a product of lists": ("len([1 for a in l for b in l if a == b])", {"l": list(range(1_000))}),
    "a long search that nearly hits": ("t in s", {"s": "a" * 65_536, "t": "a" * 32_767 + "b"}),
    "many long searches": ("[t in s for i in range(1000)]", {"s": "a" * 65_536, "t": "a" * 32_767 + "b"}),
    "searches backwards": ("[s.rfind(t) for i in range(1000)]", {"s": "a" * 65_536, "t": "b" + "a" * 32_767}),
    "searches from the middle": ("[s.find(t) for i in range(1000)]", {"s": "a" * 65_536, "t": "a" * 16_000 + "b" + "a" * 16_000}),
    "counts": ("[s.count(t) for i in range(1000)]", {"s": "ab" * 32_768, "t": "ab" * 100}),
    "replacements": ("[s.replace('a', 'b') for i in range(1000)]", {"s": TEXT}),
    "replacements of many characters": ("[s.replace(t, 'b') for i in range(1000)]", {"s": "ab" * 32_768, "t": "ab"}),
    "growing replacements": ("[s.replace('a', 'bb') for i in range(1000)]", {"s": "a" * 32_768}),
    "splits": ("[s.split(' ') for i in range(1000)]", {"s": "a " * 999}),
    "splits at nothing": ("[s.split() for i in range(1000)]", {"s": " " * 65_536}),
    "splits from the right": ("[s.rsplit('a', 1) for i in range(1000)]", {"s": "b" * 65_536}),
    "joins": ("[','.join(l) for i in range(1000)]", {"l": ["a" * 60] * 1_000}),
    "joins of numbers": ("[join(l) for i in range(1000)]", {"l": [(1 << 150) + i for i in range(1_000)]}),
    "doublings": ("s = 'a'\nfor i in range(1000):\n    s = s + s\ns", {}),
    "appending": ("s = ''\nfor i in range(1000):\n    for j in range(60):\n        s += 'a'\nlen(s)", {}),
    "appending to a list": ("l = []\nfor i in range(1000):\n    l = l + [i]\nlen(l)", {}),
    "appending long texts": ("l = []\nfor i in range(1000):\n    l += [s + text(i)]\nlen(l)", {"s": "a" * 65_000}),
    "capitals that grow": ("[s.upper() for i in range(1000)]", {"s": "ﬃ" * 20_000}),
    "capitals": ("[s.casefold() for i in range(1000)]", {"s": "ß" * 32_000}),
    "small letters after dots": ("[s.lower() for i in range(1000)]", {"s": "." * 65_535 + "Σ"}),
    "titles": ("[s.title() for i in range(1000)]", {"s": "a " * 32_768}),
    "words": ("[title_case(s) for i in range(1000)]", {"s": "a " * 32_768}),
    "padding": ("[f'{i:>100}' for i in range(1000) for j in range(1000)]", {}),
    "forms": ("[f'{d:>+100,.99f}' for i in range(1000) for j in range(100)]", {"d": Decimal("1.234567890123456789")}),
    "forms of large numbers": ("[f'{n:,}' for i in range(1000) for j in range(100)]", {"n": 1 << 4_095}),
    "text of large numbers": ("[text(n) for i in range(1000) for j in range(100)]", {"n": 1 << 4_095}),
    "numbers of long texts": ("[number(s) for i in range(1000) for j in range(100)]", {"s": "9" * 400}),
    "large products": ("[n * n for i in range(1000) for j in range(1000)]", {"n": (1 << 2_047) + 1}),
    "large quotients": ("[n // m for i in range(1000) for j in range(1000)]", {"n": (1 << 4_095) + 1, "m": (1 << 2_000) + 1}),
    "large rests": ("[n % m for i in range(1000) for j in range(1000)]", {"n": (1 << 4_095) + 1, "m": (1 << 2_000) + 1}),
    "rests of decimals": ("[n % d for i in range(1000) for j in range(1000)]", {"n": Decimal("9E+390"), "d": Decimal("1.1E-360")}),
    "quotients of decimals": ("[n / d for i in range(1000) for j in range(1000)]", {"n": 1 << 4_095, "d": Decimal("1.1E-360")}),
    "whole quotients of decimals": ("[n // d for i in range(1000) for j in range(1000)]", {"n": Decimal("9E+390"), "d": Decimal("3.3")}),
    "powers": ("[d ** 9999 for i in range(1000) for j in range(1000)]", {"d": Decimal("1.000123456789012345678901234567891")}),
    "powers of integers": ("[3 ** 2500 for i in range(1000) for j in range(1000)]", {}),
    "rounding": ("[round(d, 30) for i in range(1000) for j in range(1000)]", {"d": Decimal("9.9E+300")}),
    "sums of decimals": ("[sum(l) for i in range(1000)]", {"l": [Decimal(1).scaleb(i % 300) for i in range(1_000)]}),
    "sums of large numbers": ("[sum(l) for i in range(1000)]", {"l": [1 << 4_000] * 1_000}),
    "sorting": ("[sorted(l) for i in range(1000)]", {"l": [f"{i * 7919 % 1000}" for i in range(1_000)]}),
    "sorting long texts": ("[sorted(l) for i in range(1000)]", {"l": ["a" * 4_000 + str(i * 7919 % 1000) for i in range(1_000)]}),
    "sorting decimals": ("[sorted(l) for i in range(1000)]", {"l": [Decimal(i * 7919 % 1000).scaleb(-i % 300) for i in range(1_000)]}),
    "sorting large numbers": ("[sorted(l) for i in range(1000)]", {"l": [(1 << 4_000) + i * 7919 % 1000 for i in range(1_000)]}),
    "sorting mixed numbers": ("[sorted(l) for i in range(1000)]", {"l": [(1 << 4_000) + i if i % 2 else Decimal(f"1E+{i % 390}") for i in range(1_000)]}),
    "unique values": ("[unique(l) for i in range(1000)]", {"l": [i * (2**61 - 1) for i in range(1_000)]}),
    "unique objects": ("[unique(l) for i in range(1000)]", {"l": [{"k": [i] * 10} for i in range(1_000)]}),
    "unique large numbers": ("[unique(l) for i in range(1000)]", {"l": [(1 << 4_000) + i for i in range(1_000)]}),
    "looking for what is not there": ("[x in l for i in range(1000)]", {"l": ["a" * 4_000] * 1_000, "x": "a" * 3_999 + "b"}),
    "looking for a decimal": ("[x in l for i in range(1000)]", {"l": [Decimal(f"1E+{i % 390}") for i in range(1_000)], "x": (1 << 4_000) + 1}),
    "counting lists": ("[l.count(x) for i in range(1000)]", {"l": [[0] * 1_000] * 1_000, "x": [0] * 999 + [1]}),
    "equal lists": ("[l == m for i in range(1000)]", {"l": [[0] * 1_000] * 1_000, "m": [[0] * 1_000] * 999 + [[1] * 1_000]}),
    "equal objects": ("[o == p for i in range(1000)]", {"o": {f"n{i}": [0] * 100 for i in range(1_000)}, "p": {f"n{i}": [0] * 100 for i in range(1_000)}}),
    "equal deep lists": ("[l == m for i in range(1000)]", {"l": _nested(95), "m": _nested(95)}),
    "comparing large numbers with decimals": ("[n < d for i in range(1000) for j in range(1000)]", {"n": (1 << 4_095) + 1, "d": Decimal("1.1E+390")}),
    "slices": ("[s[::-1] for i in range(1000)]", {"s": "\U0001f600" * 65_536}),
    "slices with steps": ("[s[::3] for i in range(1000)]", {"s": "\U0001f600" * 65_536}),
    "slices of lists": ("[l[:] for i in range(1000)]", {"l": [1] * 1_000}),
    "repeats": ("[s * 65536 for i in range(1000)]", {"s": "\U0001f600"}),
    "repeated lists": ("[[1] * 1000 for i in range(1000)]", {}),
    "ranges": ("[range(1000) for i in range(1000)]", {}),
    "pairs of ranges": ("[zip(l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l) for i in range(1000)]", {"l": [1] * 1_000}),
    "objects": ("[dict(l) for i in range(1000)]", {"l": [[f"n{i}", i] for i in range(1_000)]}),
    "items": ("[o.items() for i in range(1000)]", {"o": {f"n{i}": i for i in range(1_000)}}),
    "many starts": ("[s.startswith(l) for i in range(1000)]", {"s": TEXT, "l": ["a" * 65_000 + "b"] * 1_000}),
    "stripping": ("[s.strip(t) for i in range(1000)]", {"s": "b" * 65_536, "t": "a" * 99 + "b"}),
    "dates": ("[date(s) for i in range(1000) for j in range(1000)]", {"s": "2026-01-15T13:58:10.123456+02:00"}),
    "days": ("[add_days(s, i) for i in range(1000) for j in range(1000)]", {"s": "2026-01-15"}),
    "a result at its largest": ("[[s for i in range(99)] for j in range(99)]", {"s": "\ue001" * 65_536}),
    "a result of many nodes": ("[l for i in range(1000)]", {"l": [[1] * 99] * 9}),
    "a straight line of searches": ("\n".join(["x = t in s"] * 350) + "\n1", {"s": "a" * 65_536, "t": "a" * 32_767 + "b"}),
    "a straight line of sorts": ("\n".join(["x = sorted(l)"] * 250) + "\n1", {"l": ["a" * 4_000 + str(i * 7919 % 1000) for i in range(1_000)]}),
    "a straight line of products": ("x = " + "*".join(["n"] * 2) + "\n" + "\n".join(["x = n*n"] * 400) + "\n1", {"n": (1 << 2_047) + 1}),
    "a straight line of texts": ("\n".join(["x = text(n)"] * 300) + "\n1", {"n": 1 << 4_095}),
    "a straight line of equal lists": ("\n".join(["x = l == m"] * 300) + "\n1", {"l": [[0] * 1_000] * 1_000, "m": [[0] * 1_000] * 1_000}),
    "a straight line of capitals": ("\n".join(["x = s.upper()"] * 280) + "\n1", {"s": "ﬃ" * 20_000}),
    "a straight line of long forms": ("\n".join(["x = f'{d:>+100,.99f}'"] * 160) + "\n1", {"d": Decimal("9.99E+300")}),
    "a straight line of rests": ("\n".join(["x = n % d"] * 350) + "\n1", {"n": Decimal("9E+390"), "d": Decimal("1.1E-360")}),
    "a straight line of powers": ("\n".join(["x = d ** 9999"] * 280) + "\n1", {"d": Decimal("1.000123456789012345678901234567891")}),
}  # fmt: skip


@pytest.mark.parametrize("name", HAND)
def test_what_is_known_to_be_slow_ends_under_the_bar(name):
    source, record = HAND[name]
    assert len(source) <= MAX_SOURCE
    compiled(source)  # it is of the language
    end = run(source, record)
    assert end == "value" or end.startswith("mapping_"), end
    spent = measured(source, record)
    assert spent < BAR, f"{name} took {spent * 1000:.1f} ms and ended with {end}"


def test_the_longest_loop_ends_by_its_budget_and_not_by_chance():
    source, record = HAND["the longest loop"]
    assert run(source, record) == "mapping_limit"
    assert run(f"for i in range({MAX_STEPS // 20}):\n    pass\n1", {}) == "value"


def test_the_same_program_ends_the_same_way_on_every_run():
    """The bound counts steps, not time: what passes once passes always."""
    for source, record in HAND.values():
        assert len({run(source, record) for _ in range(2)}) == 1


# --- the search


def search(seed, tries, climbs):
    """The slowest programs found: (seconds, Program), the slowest first."""
    chance = random.Random(seed)
    operands = Operands(chance)
    known = primitives()
    found = []
    for number in range(tries):
        text, kinds = known[number % len(known)] if number < len(known) else chance.choice(known)
        program = Program(
            chance.randrange(len(Program.FRAMES)), [(text, [operands.pick(kind) for kind in kinds])]
        )
        found.append((seconds(program.source(), program.record()), number, program))
    found.sort(key=lambda each: (-each[0], each[1]))
    best = found[:10]
    for number in range(climbs):
        at = number % len(best)
        spent, order, program = best[at]
        neighbour = program.changed(chance, operands, known)
        slower = seconds(neighbour.source(), neighbour.record())
        if slower > spent:
            best[at] = (slower, order, neighbour)
    return [(spent, program) for spent, _, program in sorted(best, key=lambda each: -each[0])]


def test_the_search_finds_no_program_above_the_bar():
    slowest = search(20261121, TRIES, CLIMBS)
    for spent, program in slowest:
        again = measured(program.source(), program.record()) if spent > BAR / 3 else spent
        assert again < BAR, f"{again * 1000:.1f} ms:\n{program.source()}"
    # The search works the budget: what it finds comes near what the bar allows, not near nothing.
    assert slowest[0][0] > BAR / 50


def test_every_primitive_of_the_language_is_part_of_the_search():
    sources = [text for text, _ in primitives()]
    for name in FUNCTIONS:
        assert any(source.startswith(f"{name}(") for source in sources), name
    for name in METHODS:
        assert any(f".{name}(" in source for source in sources), name
    operators = {
        type(node.op) for text in sources for node in ast.walk(_tree(text)) if isinstance(node, ast.BinOp)
    }
    assert operators >= {ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow}


def _tree(text):
    return ast.parse(text.replace("{{{{", "{").replace("}}}}", "}").replace("{}", "x"), mode="eval")


def test_most_programs_of_the_search_are_of_the_language():
    chance = random.Random(1)
    operands = Operands(chance)
    refused = []
    for text, kinds in primitives():
        program = Program(1, [(text, [operands.pick(kind) for kind in kinds])])
        try:
            compiled(program.source())
        except FlowErrors as error:
            refused.append(str(error))
    assert refused == []


# --- memory


@pytest.mark.parametrize(
    "name",
    ["appending long texts", "repeats", "slices", "a result at its largest", "joins", "splits", "repeated lists",
     "pairs of ranges", "capitals that grow", "nested comprehensions", "comprehensions in comprehensions", "items"],
)  # fmt: skip
def test_what_holds_much_memory_stays_within_its_bound(name):
    source, record = HAND[name]
    compiled(source)
    tracemalloc.start()
    try:
        run(source, record)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY, f"{peak / 1024**2:.0f} MiB"


# --- reading


@pytest.mark.parametrize(
    "source",
    [
        " " * 3_990 + "(",
        "\n" * 3_990 + "(",
        ("\n" + " " * 60) * 65 + "(",
        "'''" + "\n" * 3_900,
        "x" * 3_990 + "(1)",
        "a." + "upper" * 790 + "()",
        "a, " * 1_300 + "(",
        "a=" * 1_990 + "(",
        "a" * 30 * 100 + " = (",
        "$a" * 1_900,
        "'" * 3_999,
        "#\n" * 1_999 + "(",
        "f'{a:" + "x" * 3_900 + "}'",
        "if a:\n x=1\n" + "elif a:\n x=1\n" * 250,
        "[x" + " for x in a" * 350 + " if",
        "(" * 40 + "1," * 1_900,
        "zzz(1)+" * 550 + "1",
        "0." + "0" * 3_990 + "1",
        "9" * 3_990,
    ],
    ids=lambda text: f"{text[:16]!r} {len(text)}",
)
def test_what_cannot_be_read_is_refused_soon_too(source):
    """The limits before the parser bound it, and no pattern of ours goes over the text again and again."""
    best = 10.0
    for _ in range(3):
        start = time.process_time()
        with pytest.raises(RefusedExpressionError):
            evaluate("python", source, {})
        best = min(best, time.process_time() - start)
    assert best < BAR
