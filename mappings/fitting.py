"""Texts that a target field cannot hold as they are: too long, or with characters it has no place for.

What happens then stands in the rule (`too_long`, `unfit_characters`). It is decided once per target and schema which
fields can meet that at all; only those are looked at, by a generated function, so that texts that fit cost next to
nothing. It runs right after the rules, so plan, dry run, sandbox and run see one image, and a text that was cut stays
cut the same way each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.schema import Characters, EntitySchema, FieldSchema
from ipaas_resources.core.values import escape_text, unescape_text
from mappings.characters import NAMES, UNFIT, cut, drop_unfit, has_unfit, replace_unfit
from mappings.kinds import FieldTypes, SourceTypes, text_length
from mappings.mapped import Flag
from mappings.rules import TooLong, UnfitCharacters
from mappings.transforms.direct import Const, Direct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ipaas_resources.core.values import Document
    from mappings.compiler import CompiledTarget
    from mappings.mapped import Mapped
    from mappings.rules import Rule

_ESCAPE = "\ue000"  # begins an escaped character, see core/values.py


class FittedField(msgspec.Struct, frozen=True):
    """A text field of the target whose values are looked at."""

    field: str
    label: str  # as messages and flags name it: name, salesOrderLines.description
    target: str  # flow.target
    max_length: int | None
    characters: Characters
    too_long: TooLong
    unfit_characters: UnfitCharacters

    def fit(self, values: Document, flags: list[Flag]) -> None:
        """Make one value fit, or leave its field out with a flag.

        Raises:
            MappingError: it does not fit, and the rule does not say that it may be changed.
        """
        text = unescape_text(values[self.field])
        if has_unfit(text, self.characters):
            match self.unfit_characters:
                case "error":
                    raise self._unfit_error()
                case "flag":
                    self._leave_out(values, flags, f"the value holds {NAMES[self.characters]}")
                    return
                case "drop":
                    text = drop_unfit(text, self.characters)
                case "replace":
                    text = replace_unfit(text, self.characters)
        if self.max_length is not None and len(text) > self.max_length:
            match self.too_long:
                case "error":
                    raise self._too_long_error(len(text))
                case "flag":
                    reason = f"the value has {len(text)} characters, the field takes {self.max_length}"
                    self._leave_out(values, flags, reason)
                    return
                case "truncate":
                    text = cut(text, self.max_length)
        values[self.field] = escape_text(text)

    def _leave_out(self, values: Document, flags: list[Flag], reason: str) -> None:
        del values[self.field]
        flags.append(Flag(self.label, reason))

    def _too_long_error(self, length: int) -> MappingError:
        return MappingError(
            f"The value for {self.label} in {self.target} has {length} characters, the field takes {self.max_length}. "
            "Shorten the source value, or add too_long: truncate or too_long: flag to the rule.",
            code="too_long",
            field=self.label,
        )

    def _unfit_error(self) -> MappingError:
        return MappingError(
            f"The value for {self.label} in {self.target} holds {NAMES[self.characters]}, which the field cannot hold. "
            "Correct the source value, or add unfit_characters: drop, replace or flag to the rule.",
            code="unfit_characters",
            field=self.label,
        )


class Fitting:
    """The fields of one target whose texts may not fit, and the function that makes them."""

    def __init__(
        self, target: CompiledTarget, schema: EntitySchema, source: EntitySchema | None = None
    ) -> None:
        """With the source's schema, fields are left alone that copy a source field of no greater length."""
        self.fields: tuple[FittedField, ...] = tuple(
            _fitted(target, "", target.fields, schema.fields, FieldTypes(source.fields if source else ()))
        )
        self.line_fields: Mapping[str, tuple[FittedField, ...]] = {
            name: tuple(_fitted(target, name, inner, _rows(schema, name), _line_types(target, name, source)))
            for name, inner in target.line_fields.items()
        }
        self._fit = _compiled(self.fields)
        self._lines = [(name, _compiled(fields)) for name, fields in self.line_fields.items() if fields]

    def fit(self, image: Mapped) -> Mapped:
        """The same image, its texts as the target can hold them; what is flagged is left out and noted in its flags.

        Raises:
            MappingError: a text does not fit and its rule does not say what to do.
        """
        if self.fields:
            self._fit(image.values, image.flags)
            if image.flags:
                for name in image.key:
                    image.key[name] = image.values.get(name)
        for name, fit_line in self._lines:
            for line in image.lines.get(name, ()):
                fit_line(line.values, image.flags)
        return image


def _rows(schema: EntitySchema, name: str) -> Sequence[FieldSchema]:
    field = schema.field(name)
    return field.fields if field is not None else ()


def _line_types(target: CompiledTarget, name: str, source: EntitySchema | None) -> FieldTypes:
    if source is None:
        return FieldTypes(())
    each = source.field(target.spec.lines[name].each)
    return FieldTypes(each.fields if each is not None else (), source.fields)


def _fitted(
    target: CompiledTarget,
    lines: str,
    names: Iterable[str],
    fields: Sequence[FieldSchema],
    types: SourceTypes,
) -> Iterable[FittedField]:
    known = {field.name: field for field in fields}
    for name in names:
        field = known.get(name)
        label = f"{lines}.{name}" if lines else name
        rule = target.rules[label]
        if field is None or field.type != "text" or _always_fits(rule, field, types):
            continue
        yield FittedField(
            name,
            label,
            f"{target.flow}.{target.name}",
            field.max_length,
            field.characters,
            rule.too_long or "error",
            rule.unfit_characters or "error",
        )


def _always_fits(rule: Rule, field: FieldSchema, types: SourceTypes) -> bool:
    if field.characters != "any":
        return False
    if field.max_length is None:
        return True
    # What a record's contract has checked, or the flow itself says; what expressions may give is reckoned too loosely.
    if not isinstance(rule, Direct | Const):
        return False
    longest = text_length(rule.gives(types))
    return longest is not None and longest <= field.max_length


def _compiled(fields: Sequence[FittedField]) -> Any:
    """fit(values, flags) for these fields. The text is ours: names go through `repr`, all else by a name of ours."""
    namespace: dict[str, Any] = {"__builtins__": {}, "text_type": str, "length": len}
    lines = ["def fit(values, flags):", "    get = values.get"]
    for number, field in enumerate(fields):
        namespace[f"fit_{number}"] = field.fit
        doubts = []
        if field.max_length is not None:
            doubts.append(f"length(value) > {int(field.max_length)}")
        if field.characters != "any":
            # An escaped character may be one that the field can hold, or not: the slow way tells.
            namespace[f"search_{number}"] = UNFIT[field.characters].search
            doubts += [f"search_{number}(value) is not None", f"{_ESCAPE!r} in value"]
        lines += [
            f"    value = get({field.field!r})",
            f"    if value.__class__ is text_type and ({' or '.join(doubts)}):",
            f"        fit_{number}(values, flags)",
        ]
    exec(compile("\n".join(lines), "<fitting>", "exec"), namespace)  # noqa: S102 - see the docstring
    return namespace["fit"]
