"""`template`: text with source values in it.

`{field}`, `{record[Any name]}`, `{$scope}`, `{$id}`, and in lines `{parent[Any name]}`; `{value}` is the rule's input
where it has `of`; everything else is text, other braces too. One pass: what a value holds is never looked at again. Null
is empty text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator

from ipaas_resources.core.values import escape_text
from mappings.expressions.guards import MAX_TEXT, as_text, capped, put_together
from mappings.kinds import TEXT, Gives, SourceTypes, characters, text_length, text_of
from mappings.rule_input import INPUT, RuleWithInput
from mappings.transforms.direct import checked_source_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mappings.codegen import Code
    from mappings.rules import Rule

_FEW_PARTS = 16
_PIECE = re.compile(
    r"\{(?:(?P<name>[^\W\d]\w*)|(?P<holder>record|parent)\[(?P<any>[^\[\]{}]+)\]|(?P<own>\$scope|\$id))\}"
)
_QUOTED = re.compile(r"""(["'])(.+)\1""")
_BRACES = re.compile(r"\{[^{}]*\}")


def template_pieces(template: str) -> list[tuple[str, bool]]:
    """The pieces of a template in order: (text, False) or (source name, True).

    Raises:
        ValueError: it is too long, or holds what cannot be stored.
    """
    if len(template) > MAX_TEXT:
        raise ValueError(f"the template is longer than {MAX_TEXT} characters")
    if escape_text(template) != template:
        raise ValueError("the template holds a character that cannot be stored")
    pieces: list[tuple[str, bool]] = []
    end = 0
    for match in _PIECE.finditer(template):
        name = match["name"] or match["own"] or match["any"]
        quoted = _QUOTED.fullmatch(name)
        if quoted is not None:
            name = quoted[2]  # {record["Any name"]}, as an expression spells it
        if match["any"] and name.startswith("$"):
            raise ValueError(f"{match[0]} does not exist; write {{$scope}} or {{$id}}")
        if match.start() > end:
            pieces.append((template[end : match.start()], False))
        pieces.append((checked_source_name(f"$parent.{name}" if match["holder"] == "parent" else name), True))
        end = match.end()
    return [*pieces, (template[end:], False)] if end < len(template) else pieces


def unfilled(template: str) -> list[str]:
    """What stands in braces and is text all the same, because it names no field: `{a.b}`, `{ a }`."""
    texts = [piece for piece, is_source in template_pieces(template) if not is_source]
    return [found for text in texts for found in _BRACES.findall(text)]


def _checked_template(template: str) -> str:
    template_pieces(template)
    return template


class Template(RuleWithInput):
    """Text with source values in it."""

    word: ClassVar[str] = "template"

    template: Annotated[str, AfterValidator(_checked_template)]

    def compile(self, code: Code) -> str:
        """The pieces, joined."""
        given = self.input(code)
        if given and INPUT not in self._names():
            raise ValueError("the rule has of:, and its template does not read it; write {value}")
        kept = code.temporary() if given and not given.isidentifier() else given
        convert = code.helper(as_text)
        parts = []
        for piece, is_source in template_pieces(self.template):
            if is_source:
                value = kept if given and piece == INPUT else code.read(piece)
                parts.append(f"({value} if {value}.__class__ is text_type else {convert}({value}))")
            else:
                parts.append(code.constant(piece))
        if not parts:
            return "''"
        if len(parts) > _FEW_PARTS:
            # Their length is known before the text is made: every field may hold a long one.
            text = f"{code.helper(put_together)}(({', '.join(parts)},))"
        else:
            text = f"{code.helper(capped)}(''.join(({', '.join(parts)},)))"
        return f"({kept} := {given}, {text})[1]" if kept != given else text

    def explain(self) -> str:
        """In words."""
        return f"the text {self.template!r} with the values filled in{self.input_explained()}"

    def gives(self, types: SourceTypes) -> Gives:
        """Text, no longer than its parts together."""
        longest = 0
        types = self.input_types(types)
        for piece, is_source in template_pieces(self.template):
            length = text_length(types.of(piece)) if is_source else characters(piece)
            if length is None:
                return TEXT
            longest += length
        return text_of(longest)

    def reads(self) -> Iterator[str]:
        """The names in the braces."""
        yield from self.without_input(self._names())

    def parts(self) -> Iterator[tuple[str, Rule]]:
        """The input."""
        yield from self.input_parts()

    def _names(self) -> Iterator[str]:
        yield from (piece for piece, is_source in template_pieces(self.template) if is_source)


RULES = (Template,)
