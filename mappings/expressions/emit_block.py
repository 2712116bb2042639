"""A checked block -> a Python function of our own beside the target's, and the call of it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mappings.expressions.emit import Emitter
from mappings.expressions.guards import out_of_steps
from mappings.expressions.items import unpacked
from mappings.expressions.meter import needs_counter, statement_work
from mappings.expressions.names import RESULT, target_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mappings.codegen import Code
    from mappings.expressions.language import Block


def emit_block(block: Block, code: Code, given: str = "") -> str:
    """The Python expression that runs the block; `given` as in `emit`."""
    if given and "value" not in block.names.reads:
        raise ValueError("the rule has of:, and its block does not read it; write value where it belongs")
    emitter = Emitter(code, counted=needs_counter(block.statements), own=True)
    arguments = emitter.take_given(given)
    lines: list[str] = []
    variables: dict[str, str] = {}
    for name in block.names.assigned:
        variables[name] = emitter.variable()
        if name in block.names.starts:
            start = emitter.names.get(name) or emitter.read(name)
            lines.append(f"{variables[name]} = {start}")
        elif name == RESULT and block.names.result_may_be_unset:
            lines.append(f"{variables[name]} = None")
    writer = _Writer(emitter, variables)
    *before, last = block.statements
    if isinstance(last, ast.Expr):
        lines += writer.suite(before, in_loop=False) if before else []
        lines.append(f"return {writer.value(last.value)}")
    else:
        lines += writer.suite(block.statements, in_loop=False)
        lines.append(f"return {variables[RESULT]}")
    return emitter.define(lines, arguments)


class _Writer:
    def __init__(self, emitter: Emitter, variables: dict[str, str]) -> None:
        self._emitter = emitter
        self._variables = variables
        emitter.names.update(variables)

    def value(self, node: ast.expr) -> str:
        return self._emitter.emit(node)

    def suite(self, statements: Sequence[ast.stmt], *, in_loop: bool, each_round: int = 0) -> list[str]:
        """The lines of some statements; in a loop they charge for themselves when they begin."""
        lines: list[str] = []
        steps = each_round + sum(map(statement_work, statements)) if in_loop else 0
        if steps:
            lines += [
                f"steps[0] -= {steps}",
                "if steps[0] < 0:",
                f"    {self._emitter.helper(out_of_steps)}()",
            ]
        for statement in statements:
            lines += self._statement(statement, in_loop=in_loop)
        return lines or ["pass"]

    def _statement(self, node: ast.stmt, *, in_loop: bool) -> list[str]:
        if isinstance(node, ast.Assign):
            return self._assign(node)
        if isinstance(node, ast.AugAssign):
            assert isinstance(node.target, ast.Name)
            name = self._variables[node.target.id]
            return [f"{name} = {self._emitter.binary(type(node.op), name, self.value(node.value))}"]
        if isinstance(node, ast.If):
            return self._if(node, in_loop=in_loop)
        if isinstance(node, ast.For):
            return self._for(node)
        if isinstance(node, ast.Expr):
            return [self.value(node.value)]
        return [{ast.Break: "break", ast.Continue: "continue", ast.Pass: "pass"}[type(node)]]

    def _assign(self, node: ast.Assign) -> list[str]:
        value = self.value(node.value)
        if len(node.targets) == 1 and not isinstance(node.targets[0], ast.Tuple):
            return [f"{self._targets(node.targets[0])[0]} = {value}"]
        kept = self._emitter.variable()
        lines = [f"{kept} = {value}"]
        for target in node.targets:
            names = self._targets(target)
            if isinstance(target, ast.Tuple):
                lines.append(f"{', '.join(names)}, = {self._emitter.helper(unpacked)}({kept}, {len(names)})")
            else:
                lines.append(f"{names[0]} = {kept}")
        return lines

    def _targets(self, node: ast.expr) -> list[str]:
        return [self._variables[name] for name in target_names(node)]

    def _if(self, node: ast.If, *, in_loop: bool, word: str = "if") -> list[str]:
        lines = [f"{word} {self.value(node.test)}:", *_inside(self.suite(node.body, in_loop=in_loop))]
        if len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
            # Its test is charged with this one: a suite of its own would nest deeper with every elif.
            return lines + self._if(node.orelse[0], in_loop=in_loop, word="elif")
        if node.orelse:
            lines += ["else:", *_inside(self.suite(node.orelse, in_loop=in_loop))]
        return lines

    def _for(self, node: ast.For) -> list[str]:
        source = self.value(node.iter)
        target, rounds = self._emitter.rounds(self._targets(node.target), node.target, source, 0)
        return [f"for {target} in {rounds}:", *_inside(self.suite(node.body, in_loop=True, each_round=1))]


def _inside(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
