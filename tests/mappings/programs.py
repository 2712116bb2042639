"""Programs of the expression language, made by chance from its own tables: what is new in them is tried by itself."""

from __future__ import annotations

from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.methods import METHODS

#: The kinds of the arguments, as far as they matter: t text, n number, l list, o object, d date, z zone, k name of a
#: field, a anything. A function that is not named here gets arguments of any kind.
ARGUMENTS = {
    "round": "nn", "floor": "nn", "ceil": "nn", "abs": "n", "min": "nnn", "max": "nnn", "number": "t", "int": "n",
    "text": "a", "len": "a", "upper": "t", "lower": "t", "title_case": "t", "strip": "tt", "left": "tn", "right": "tn",
    "mid": "tnn", "pad_left": "tnt", "replace": "ttt", "startswith": "tt", "endswith": "tt", "contains": "tt",
    "split": "ttn", "join": "lt", "coalesce": "aaa", "empty": "a", "if_null": "aa", "if_empty": "aa", "sum": "l",
    "any": "l", "all": "l", "sorted": "lk", "reversed": "l", "unique": "l", "range": "nnn", "enumerate": "ln",
    "zip": "lll", "first": "l", "last": "l", "list": "l", "dict": "l", "date": "d", "datetime": "d", "year": "d",
    "month": "d", "day": "d", "weekday": "d", "hour": "d", "minute": "d", "add_days": "dn", "days_between": "dd",
    "add_months": "dn", "local": "dz", "to_utc": "dz",
}  # fmt: skip
METHOD_ARGUMENTS = {
    "replace": "ttn", "split": "tn", "rsplit": "tn", "partition": "t", "rpartition": "t", "join": "l", "find": "tn",
    "rfind": "t", "startswith": "t", "endswith": "t", "removeprefix": "t", "removesuffix": "t", "strip": "t",
    "lstrip": "t", "rstrip": "t", "zfill": "n", "ljust": "nt", "rjust": "nt", "center": "nt", "count": "a",
    "index": "a", "get": "ka", "keys": "", "values": "", "items": "",
}  # fmt: skip
#: Whose methods they are; of text, if not said.
HOLDERS = {"count": "tl", "index": "l", "get": "o", "keys": "o", "values": "o", "items": "o"}

#: What gives which kind, for arguments that are calls themselves.
_GIVES = {
    "text": "t",
    "number": "n",
    "integer": "n",
    "list": "l",
    "object": "o",
    "date": "d",
    "datetime": "d",
}

LEAVES = {
    "t": ["s", "t", "'x'", "''", "'a b'", "'ab'", "'é'", 'record["Any name"]', "null"],
    "n": ["i", "d", "0", "1", "2", "-3", "2.5", "10 ** 20", "255", "null"],
    "l": ["l", "rows", "[]", "[1, 2]", "['b', 'a', null]", "null"],
    "o": ["o", "{}", "{'k': 1}", "rows[0]", "null"],
    "d": ["day", "at", "'2026-03-29'", "null"],
    "z": ["'Europe/London'", "'UTC'"],
    "k": ["'k'", "'q'", "s"],
    "b": ["true", "false", "i > 1", "s == t"],
}
LEAVES["a"] = [leaf for leaves in LEAVES.values() for leaf in leaves]

FORMS = ["", ":>5", ":05d", ":.2f", ":,", ":^10", ":*<4s", ":.1%", ":+", ":,.3f"]
BINARY = {"n": ["+", "-", "*", "/", "//", "%", "**"], "t": ["+"], "l": ["+"]}
COMPARISONS = ["==", "!=", "<", "<=", ">", ">=", "in", "not in"]


class Programs:
    """Makes programs; `random` decides, so that a seed or hypothesis says which."""

    def __init__(self, random):
        self._random = random
        self._names = []

    def expression(self, kind="a", depth=3):
        """The source of an expression that mostly gives this kind."""
        if depth <= 0 or self._random.random() < 0.2:
            return self._leaf(kind)
        made = self._one_of(
            self._call, self._method, self._operation, self._comparison, self._choice, self._item, self._slice,
            self._comprehension, self._f_string, self._display, self._logic,
        )(kind, depth - 1)  # fmt: skip
        return made if made.startswith(("(", "[", "{")) else f"({made})"

    def block(self):
        """The source of a short block."""
        self._names = []
        lines = self._statements(2, 3)
        lines.append(self._one_of("result = {}", "{}").format(self.expression("a", 2)))
        self._names = []
        return "\n".join(lines)

    def _statements(self, depth, most, indent=""):
        lines = []
        for _ in range(self._random.randint(1, most)):
            lines += [indent + line for line in self._statement(depth)]
        return lines

    def _statement(self, depth):
        choice = self._random.randint(0, 5 if depth else 3)
        if choice <= 1:
            value = self.expression("a", 2)
            name = self._one_of("x", "y", "s", "i", "total")
            self._names.append(name)
            return [f"{name} = {value}"]
        if choice == 2:
            name = self._one_of("x", "y", "s", "i")
            kind = self._one_of("n", "t", "l")
            return [f"{name} {self._one_of(*BINARY[kind])}= {self.expression(kind, 1)}"]
        if choice == 3:
            self._names += ["x", "y"]
            return [f"x, y = [{self.expression('a', 1)}, {self.expression('a', 1)}]"]
        if choice == 4:
            test = self.expression("b", 1)
            lines = [f"if {test}:", *self._statements(depth - 1, 2, "    ")]
            if self._random.random() < 0.5:
                lines += ["else:", *self._statements(depth - 1, 2, "    ")]
            return lines
        lines = [f"for {self._one_of('x', 'y', 'e')} in {self.expression('l', 2)}:"]
        lines += self._statements(depth - 1, 2, "    ")
        if self._random.random() < 0.3:
            lines += [
                f"    if {self.expression('b', 1)}:",
                f"        {self._one_of('break', 'continue', 'pass')}",
            ]
        return lines

    def _one_of(self, *choices):
        return self._random.choice(choices)

    def _leaf(self, kind):
        if self._names and self._random.random() < 0.3:
            return self._random.choice(self._names)
        return self._random.choice(LEAVES.get(kind, LEAVES["a"]))

    def _arguments(self, kinds, least, most, depth):
        count = self._random.randint(least, max(least, min(most, 3)))
        kinds = (kinds if kinds is not None else "") + "a" * count
        return ", ".join(self.expression(kinds[index], depth) for index in range(count))

    def _call(self, kind, depth):
        fitting = [
            name for name, function in FUNCTIONS.items() if kind in ("a", _GIVES.get(function.gives, kind))
        ]
        name = self._random.choice(fitting or list(FUNCTIONS))
        function = FUNCTIONS[name]
        return f"{name}({self._arguments(ARGUMENTS.get(name), function.least, function.most, depth)})"

    def _method(self, kind, depth):
        fitting = [name for name, method in METHODS.items() if kind in ("a", _GIVES.get(method.gives, kind))]
        name = self._random.choice(fitting or list(METHODS))
        method = METHODS[name]
        holder = self.expression(self._random.choice(HOLDERS.get(name, "t")), depth)
        holder = f"({holder})" if holder[0].isdigit() or holder[0] == "-" else holder
        return f"{holder}.{name}({self._arguments(METHOD_ARGUMENTS.get(name, ''), method.least, method.most, depth)})"

    def _operation(self, kind, depth):
        kind = kind if kind in BINARY else "n"
        if self._random.random() < 0.2:
            return f"{self._one_of('-', '+', 'not ')}{self.expression(kind, depth)}"
        right = "n" if self._random.random() < 0.2 else kind
        return f"{self.expression(kind, depth)} {self._one_of(*BINARY[kind], '*')} {self.expression(right, depth)}"

    def _comparison(self, kind, depth):
        kind = self._one_of("n", "t", "l", "a", "d")
        operator = self._one_of(*COMPARISONS)
        right = "l" if operator in ("in", "not in") else kind
        return f"{self.expression(kind, depth)} {operator} {self.expression(right, depth)}"

    def _choice(self, kind, depth):
        return f"{self.expression(kind, depth)} if {self.expression('b', depth)} else {self.expression(kind, depth)}"

    def _logic(self, kind, depth):
        return f"{self.expression(kind, depth)} {self._one_of('and', 'or')} {self.expression(kind, depth)}"

    def _item(self, kind, depth):
        if self._random.random() < 0.5:
            return f"{self.expression('o', 0)}[{self.expression('k', 0)}]"
        return f"{self.expression(self._one_of('l', 't'), depth)}[{self.expression('n', 0)}]"

    def _slice(self, kind, depth):
        bounds = [self._one_of("", "0", "1", "-1", "i", "9", "null") for _ in range(2)]
        step = self._one_of("", ":2", ":-1", ":")
        return f"{self.expression('l' if kind == 'l' else 't', depth)}[{bounds[0]}:{bounds[1]}{step}]"

    def _comprehension(self, kind, depth):
        each = self._one_of("e", "f", "s")
        source = self.expression("l", min(depth, 1))
        self._names.append(each)
        inner = self.expression("a", min(depth, 1))
        test = f" if {self.expression('b', 0)}" if self._random.random() < 0.4 else ""
        self._names.remove(each)
        shape = self._one_of("[{}{}]", "[{}{}]", "{{'k': {}{}}}", "sum({}{})", "any({}{})", "', '.join({}{})")
        return shape.format(inner, f" for {each} in {source}{test}")

    def _f_string(self, kind, depth):
        leaves = [leaf for leaf in LEAVES["a"] if "'" not in leaf and '"' not in leaf and "{" not in leaf]
        pieces = [
            f"{{{self._random.choice(leaves)}{self._random.choice(FORMS)}}}"
            for _ in range(self._random.randint(1, 2))
        ]
        return f"f'{self._one_of('', 'x ', '{{')}{' '.join(pieces)}'"

    def _display(self, kind, depth):
        if self._random.random() < 0.4:
            return f"{{{self.expression('k', 0)}: {self.expression('a', depth)}}}"
        return f"[{', '.join(self.expression('a', depth) for _ in range(self._random.randint(0, 3)))}]"
