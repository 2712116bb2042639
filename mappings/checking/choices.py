"""Comparisons with a choice that a field does not have: nearly always a slip of the pen, never an error when they run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

import msgspec

from ipaas_resources.core.schema import FieldSchema
from mappings.expressions.checker import holder_key
from mappings.expressions.language import Block, Expression
from mappings.faults import closest_name

_MANY = 12  # choices beyond this number are not listed


class NoChoice(msgspec.Struct, frozen=True):
    """A text that a field is compared with, and can never hold."""

    what: str  # a sentence without its full stop
    closest: str  # the choice that was probably meant


def misspelt_choices(
    program: Expression | Block, fields: Mapping[str, FieldSchema], parent: Mapping[str, FieldSchema]
) -> Iterator[NoChoice]:
    """The texts in `program` that enum fields are held against (`==`, `!=`, `in [...]`) and that are none of their choices.

    `fields` are those that plain names read, `parent` those that `parent[...]` reads, both by name.
    """
    trees: list[ast.AST] = [*program.statements] if isinstance(program, Block) else [program.tree]
    own = frozenset(program.names.reads) - frozenset(program.names.assigned)
    for node in (inner for tree in trees for inner in ast.walk(tree)):
        if not isinstance(node, ast.Compare) or len(node.ops) != 1:
            continue
        left, right = node.left, node.comparators[0]
        pairs = [(left, right)]
        if isinstance(node.ops[0], ast.Eq | ast.NotEq):
            pairs.append((right, left))
        elif not isinstance(node.ops[0], ast.In | ast.NotIn) or not isinstance(right, ast.List):
            continue
        for read, against in pairs:
            field = _field(read, own, fields, parent)
            if field is not None:
                yield from _no_choices(field, against)


def _field(
    node: ast.expr,
    own: frozenset[str],
    fields: Mapping[str, FieldSchema],
    parent: Mapping[str, FieldSchema],
) -> FieldSchema | None:
    if isinstance(node, ast.Name):
        return fields.get(node.id) if node.id in own else None
    read = holder_key(node) if isinstance(node, ast.Subscript) else None
    if read is None:
        return None
    return (fields if read[0] == "record" else parent).get(read[1])


def _no_choices(field: FieldSchema, against: ast.expr) -> Iterator[NoChoice]:
    choices = [choice for choice in field.enum or () if isinstance(choice, str)]
    if field.type != "enum" or not choices:
        return
    for node in against.elts if isinstance(against, ast.List) else [against]:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in choices:
            what = f"{node.value!r} is no choice of the source field {field.name}"
            if len(choices) <= _MANY:
                what += f" ({', '.join(map(repr, choices))})"
            yield NoChoice(what, closest_name(node.value, choices))
