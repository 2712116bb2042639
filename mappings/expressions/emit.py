"""A checked expression -> Python source made of our names, literals by `repr`, and calls to guarded operators.

Straight expressions stand in the function of the target as they are. One with loops, or with so many primitives that
their steps must be counted, becomes a function of its own that starts with a fresh counter; see meter.py.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mappings.expressions import comparing, items, operators
from mappings.expressions.checker import LITERALS, format_text, holder_key, is_null
from mappings.expressions.formats import formatted, parse_format
from mappings.expressions.guards import MAX_STEPS, as_text, capped, put_together
from mappings.expressions.lists import name_of
from mappings.expressions.meter import called, needs_counter, round_work
from mappings.expressions.names import target_names
from mappings.expressions.texts import piece_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mappings.codegen import Code
    from mappings.expressions.language import Expression

_BINARY: Final[Mapping[type[ast.operator], Callable[..., Any]]] = {
    ast.Add: operators.add,
    ast.Sub: operators.subtract,
    ast.Mult: operators.multiply,
    ast.Div: operators.divide,
    ast.FloorDiv: operators.floor_divide,
    ast.Mod: operators.modulo,
    ast.Pow: operators.power,
}
_COMPARE: Final[Mapping[type[ast.cmpop], Callable[..., Any]]] = {
    ast.Eq: comparing.equal,
    ast.NotEq: comparing.unequal,
    ast.Lt: comparing.less,
    ast.LtE: comparing.less_or_equal,
    ast.Gt: comparing.greater,
    ast.GtE: comparing.greater_or_equal,
    ast.In: comparing.inside,
}
_PLAIN: Final[Mapping[type[ast.cmpop], str]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Is: "is",
    ast.IsNot: "is not",
}
_FEW_PIECES: Final = 16


def emit(expression: Expression, code: Code, given: str = "") -> str:
    """The Python expression that evaluates this one inside the function of `code`.

    `given` is the Python expression of the rule's input, which the name `value` then means; '' where the rule has none.
    """
    if given and "value" not in expression.names.reads:
        raise ValueError(
            "the rule has of:, and its expression does not read it; write value where it belongs"
        )
    if needs_counter([expression.tree]):
        emitter = Emitter(code, counted=True, own=True)
        arguments = emitter.take_given(given)
        body = emitter.emit(expression.tree)
        return emitter.define([f"return {body}"], arguments)
    if given and not given.isidentifier():
        name = code.temporary()
        emitter = Emitter(code, {"value": name})
        return f"({name} := {given}, {emitter.emit(expression.tree)})[1]"
    return Emitter(code, {"value": given} if given else {}).emit(expression.tree)


class Emitter:
    """Emits the expressions of one rule. `names` are the local variables that stand for names of the person's."""

    def __init__(
        self, code: Code, names: dict[str, str] | None = None, *, counted: bool = False, own: bool = False
    ) -> None:
        self._code = code
        self._own = own  # in a function of its own, not in the one of the target
        self.names = dict(names or {})
        self._counted = counted
        self._outer: dict[str, None] = {}  # what a function of its own must be given
        self._variables = 0
        self._slots = 0
        self._in_source_of_rounds = 0

    # --- a function of its own

    def take_given(self, given: str) -> list[str]:
        """Make `value` mean the rule's input; the arguments that the function is then called with."""
        if not given:
            return []
        self.names["value"] = "given"
        return [given]

    def define(self, body: list[str], arguments: list[str]) -> str:
        """Put a function with this body beside the target's; the call of it."""
        parameters = [*(["given"] if arguments else []), *self._outer]
        start = (
            [f"    steps = [{', '.join([str(MAX_STEPS), *['None'] * self._slots])}]"] if self._counted else []
        )
        name = self._code.define(parameters, [*start, *(f"    {line}" for line in body)])
        return f"{name}({', '.join([*arguments, *self._outer])})"

    def variable(self) -> str:
        """A new local variable."""
        self._variables += 1
        return f"var{self._variables}"

    def helper(self, function: Callable[..., Any]) -> str:
        """The name under which a function of ours is called."""
        return self._code.helper(function)

    def read(self, name: str) -> str:
        """The local variable of a source value."""
        return self._take(self._code.read(name))

    def _take(self, local: str) -> str:
        if self._own:
            self._outer[local] = None
        return local

    # --- expressions

    def emit(self, node: ast.expr) -> str:
        """The Python expression of a checked one."""
        return self._BY_NODE[type(node)](self, node)

    def _all(self, nodes: list[ast.expr]) -> list[str]:
        return [self.emit(node) for node in nodes]

    def call(self, function: Callable[..., Any], *arguments: str) -> str:
        """The call of an operator, with the counter where there is one."""
        counter = ["steps"] if self._counted else []
        return f"{self.helper(function)}({', '.join([*arguments, *counter])})"

    def _constant(self, node: ast.Constant) -> str:
        return self._code.constant(node.value)

    def _name(self, node: ast.Name) -> str:
        if node.id in LITERALS:
            return repr(LITERALS[node.id])
        known = self.names.get(node.id)
        return known if known is not None else self.read(node.id)

    def _subscript(self, node: ast.Subscript) -> str:
        read = holder_key(node)
        if read is not None:
            return self._field(*read)
        holder = self.emit(node.value)
        if not isinstance(node.slice, ast.Slice):
            return f"{self.helper(items.item)}({holder}, {self.emit(node.slice)})"
        bounds = (node.slice.lower, node.slice.upper, node.slice.step)
        numbers = [_number(bound) for bound in bounds]
        if numbers[2] != 0 and all(
            number is not None or bound is None for number, bound in zip(numbers, bounds, strict=True)
        ):
            return self.call(items.fixed_slice, holder, self._code.shared.bind(slice(*numbers), "slice"))
        return self.call(
            items.slice_of, holder, *("None" if bound is None else self.emit(bound) for bound in bounds)
        )

    def _field(self, holder: str, key: str) -> str:
        return self.read(key if holder == "record" else f"$parent.{key}")

    def _calculation(self, node: ast.BinOp) -> str:
        return self.binary(type(node.op), self.emit(node.left), self.emit(node.right))

    def binary(self, operator: type[ast.operator], left: str, right: str) -> str:
        """The call of a binary operator."""
        return self.call(_BINARY[operator], left, right)

    def _all_or_any(self, node: ast.BoolOp) -> str:
        word = " and " if isinstance(node.op, ast.And) else " or "
        return f"({word.join(self._all(node.values))})"

    def _choice(self, node: ast.IfExp) -> str:
        test, body, otherwise = self._all([node.test, node.body, node.orelse])
        return f"({body} if {test} else {otherwise})"

    def _unary(self, node: ast.UnaryOp) -> str:
        operand = self.emit(node.operand)
        if isinstance(node.op, ast.Not):
            return f"(not {operand})"
        function = operators.negate if isinstance(node.op, ast.USub) else operators.positive
        return f"{self.helper(function)}({operand})"

    def _list(self, node: ast.List | ast.Tuple) -> str:
        return f"[{', '.join(self._all(node.elts))}]"

    def _dict(self, node: ast.Dict) -> str:
        pairs = []
        for key, value in zip(node.keys, node.values, strict=True):
            assert key is not None
            pairs.append(f"{self._object_name(key)}: {self.emit(value)}")
        return f"{{{', '.join(pairs)}}}"

    def _object_name(self, key: ast.expr) -> str:
        name = self.emit(key)
        return name if isinstance(key, ast.Constant) else f"{self.helper(name_of)}({name})"

    # --- calls

    def _call(self, node: ast.Call) -> str:
        read = holder_key(node)
        if read is not None:
            return self._record_get(node, *read)
        function = called(node)
        arguments = [self.emit(node.func.value)] if isinstance(node.func, ast.Attribute) else []
        arguments += self._all(node.args)
        if function.steps and self._counted:
            arguments.append("steps=steps")
        return f"{self.helper(function.call)}({', '.join(arguments)})"

    def _record_get(self, node: ast.Call, holder: str, key: str) -> str:
        field = self._field(holder, key)
        if len(node.args) == 1 or key.startswith("$"):
            return field
        document = self._take(self._code.holder(parent=holder == "parent"))
        return f"({field} if {key!r} in {document} else {self.emit(node.args[1])})"

    # --- comparisons

    def _compare(self, node: ast.Compare) -> str:
        """A comparison; in a chain (0 <= x <= 5) the values in the middle are computed once."""
        parts: list[str] = []
        left_node: ast.expr = node.left
        left = self.emit(left_node)
        last = len(node.ops) - 1
        for index, (operator, right_node) in enumerate(zip(node.ops, node.comparators, strict=True)):
            right = again = self.emit(right_node)
            if index < last and not right.isidentifier():
                right, again = self._kept(right)
            parts.append(self._comparison(operator, (left_node, left), (right_node, right)))
            left_node, left = right_node, again
        return parts[0] if len(parts) == 1 else f"({' and '.join(parts)})"

    def _kept(self, value: str) -> tuple[str, str]:
        """The value, kept for a second use, and the second use."""
        if self._in_source_of_rounds:
            # Python takes no := there.
            self._slots += 1
            return f"{self.helper(items.hold)}(steps, {self._slots}, {value})", f"steps[{self._slots}]"
        name = self.variable() if self._own else self._code.temporary()
        return f"({name} := {value})", name

    def _comparison(
        self, operator: ast.cmpop, left: tuple[ast.expr, str], right: tuple[ast.expr, str]
    ) -> str:
        symbol = _PLAIN.get(type(operator))
        if symbol and (_is_plain(left[0]) or _is_plain(right[0])):
            # With a text or null on one side Python's own == means the same and costs a tenth.
            return f"({left[1]} {symbol} {right[1]})"
        if isinstance(operator, ast.NotIn):
            return f"(not {self._inside(left[1], right)})"
        if isinstance(operator, ast.In):
            return self._inside(left[1], right)
        return self.call(_COMPARE[type(operator)], left[1], right[1])

    def _inside(self, left: str, right: tuple[ast.expr, str]) -> str:
        if isinstance(right[0], ast.List | ast.Tuple) and all(map(_is_plain, right[0].elts)):
            return f"({left} in {_as_tuple(right[1])})"
        return self.call(comparing.inside, left, right[1])

    # --- comprehensions

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp) -> str:
        outside = self.names
        clauses = self._clauses(node)
        made = f"[{self.emit(node.elt)}{clauses}]"
        self.names = outside
        if len(node.generators) == 1:
            return made
        return f"{self.helper(items.not_too_many)}({made})"

    def _object_comprehension(self, node: ast.DictComp) -> str:
        outside = self.names
        clauses = self._clauses(node)
        made = f"{{{self._object_name(node.key)}: {self.emit(node.value)}{clauses}}}"
        self.names = outside
        return made if len(node.generators) == 1 else f"{self.helper(items.not_too_many)}({made})"

    def _clauses(self, node: ast.ListComp | ast.GeneratorExp | ast.DictComp) -> str:
        text = ""
        self.names = dict(self.names)
        for level, each in enumerate(node.generators):
            self._in_source_of_rounds += 1
            source = self.emit(each.iter)
            self._in_source_of_rounds -= 1
            variables = [self.variable() for _ in target_names(each.target)]
            self.names.update(zip(target_names(each.target), variables, strict=True))
            target, rounds = self.rounds(variables, each.target, source, round_work(node, level))
            text += f" for {target} in {rounds}"
            for condition in each.ifs:
                text += f" if {self.emit(condition)}"
        return text

    def rounds(self, variables: list[str], target: ast.expr, source: str, cost: int) -> tuple[str, str]:
        """The variables of a loop and what it goes over; each round is charged `cost` when the loop begins."""
        if not isinstance(target, ast.Tuple):
            return variables[0], f"{self.helper(items.rounds)}(steps, {source}, {cost})"
        several = self.helper(items.rounds_of_several)
        return f"({', '.join(variables)},)", f"{several}(steps, {source}, {cost}, {len(variables)})"

    # --- f-strings

    def _f_string(self, node: ast.JoinedStr) -> str:
        pieces = self._all(node.values)
        if not pieces:
            return "''"
        if self._counted or len(pieces) > _FEW_PIECES:
            return self.call(put_together, f"({', '.join(pieces)},)")
        return f"{self.helper(capped)}(''.join(({', '.join(pieces)},)))"

    def _f_value(self, node: ast.FormattedValue) -> str:
        value = self.emit(node.value)
        if node.format_spec is not None:
            form = self._code.shared.bind(parse_format(format_text(node.format_spec)), "format")
            return self.call(formatted, value, form)
        if self._counted:
            return self.call(piece_of, value)
        if value.isidentifier():
            return f"({value} if {value}.__class__ is text_type else {self.helper(as_text)}({value}))"
        return f"{self.helper(as_text)}({value})"

    _BY_NODE: ClassVar[Mapping[type[ast.expr], Callable[..., str]]] = {
        ast.Constant: _constant,
        ast.Name: _name,
        ast.Subscript: _subscript,
        ast.BinOp: _calculation,
        ast.BoolOp: _all_or_any,
        ast.UnaryOp: _unary,
        ast.Compare: _compare,
        ast.IfExp: _choice,
        ast.Call: _call,
        ast.List: _list,
        ast.Tuple: _list,
        ast.Dict: _dict,
        ast.ListComp: _comprehension,
        ast.GeneratorExp: _comprehension,
        ast.DictComp: _object_comprehension,
        ast.JoinedStr: _f_string,
        ast.FormattedValue: _f_value,
    }


def _number(node: ast.expr | None) -> int | None:
    """The integer that stands there as a literal, None for anything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _number(node.operand)
        return None if number is None else -number
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None


def _as_tuple(listing: str) -> str:
    return f"({listing[1:-1]},)" if listing != "[]" else "()"


def _is_plain(node: ast.expr) -> bool:
    return is_null(node) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
