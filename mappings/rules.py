"""The words of a flow, and how a rule is recognised by its word."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationInfo, model_validator

from mappings import transforms
from mappings.faults import Fault, closest_name, dotted
from mappings.yaml_text import Document, Located, Yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mappings.codegen import Code
    from mappings.kinds import Gives, SourceTypes

Owner = Literal["source", "target", "shared"]
TooLong = Literal["error", "truncate", "flag"]
UnfitCharacters = Literal["error", "drop", "replace", "flag"]
As = Literal["text", "number"]
"""What a rule makes of something that is text by nature."""


_TOO_LONG_SAID = {"truncate": "cut where it is too long", "flag": "left out and flagged where it is too long"}
_UNFIT_SAID = {
    "drop": "without characters that the field cannot hold",
    "replace": "with the nearest for characters that the field cannot hold",
    "flag": "left out and flagged where it holds characters that the field cannot",
}


class SpecModel(BaseModel):
    """A part of a flow: only the words it knows, never changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)

    @classmethod
    def words(cls) -> list[str]:
        """The words that may stand here, as a person writes them."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @model_validator(mode="before")
    @classmethod
    def _note_unknown_words(cls, data: Yaml, info: ValidationInfo) -> Yaml:
        # Each unknown word is noted and taken out, so that the faults of the known ones are found in the same go.
        document = info.context
        if not isinstance(data, Located) or not isinstance(document, Document):
            return data
        known = cls.words()
        for word in data:
            if word not in known:
                path = (*data.path, word)
                document.faults.append(
                    Fault(
                        path=dotted(path),
                        what=f"{word!r} is not a word of this place",
                        file=document.name,
                        line=document.line_of(path),
                        valid=tuple(known),
                        closest=closest_name(word, known),
                    )
                )
        return {word: value for word, value in data.items() if word in known}


class Rule(SpecModel):
    """How one target field is made. A module of `mappings/transforms/` exports its rules as RULES."""

    #: The word that tells this rule from the others.
    word: ClassVar[str]

    #: Whose value counts when both sides changed; None: what the target's conflict policy says.
    owner: Owner | None = None
    #: What a text does that is longer than the target field takes; None is an error of the record.
    too_long: TooLong | None = None
    #: What characters do that the target field cannot hold; None is an error of the record.
    unfit_characters: UnfitCharacters | None = None

    @classmethod
    def parse(cls, data: Yaml, document: Document | None = None) -> Self:
        """The rule from its YAML mapping. Raises pydantic.ValidationError."""
        return cls.model_validate(data, context=document)

    def compile(self, code: Code) -> str:
        """The Python expression that makes the value."""
        raise NotImplementedError

    def explain(self) -> str:
        """What the rule does, as the end of a sentence for people: '<field> is ...'."""
        raise NotImplementedError

    def explain_fitting(self) -> str:
        """What happens to texts that the field cannot hold, as the end of a sentence; '' where the record is set aside."""
        said = [
            _TOO_LONG_SAID.get(self.too_long or "", ""),
            _UNFIT_SAID.get(self.unfit_characters or "", ""),
        ]
        return "".join(f", {words}" for words in said if words)

    def gives(self, types: SourceTypes) -> Gives:
        """What kinds of value can come out, as far as the source's schema tells."""
        raise NotImplementedError

    def reads(self) -> Iterator[str]:
        """The source values that the rule itself reads: fields, $scope, $id, $parent.FIELD."""
        yield from ()

    def parts(self) -> Iterator[tuple[str, Rule]]:
        """The rules inside this one, with the word each stands under."""
        yield from ()


@functools.cache
def rule_words() -> Mapping[str, type[Rule]]:
    """Every rule by its word, found in the modules of `mappings/transforms/`."""
    found: dict[str, type[Rule]] = {}
    for module in pkgutil.iter_modules(transforms.__path__):
        for rule in importlib.import_module(f"{transforms.__name__}.{module.name}").RULES:
            assert rule.word not in found, rule.word
            found[rule.word] = rule
    return found


def parse_rule(data: Yaml, info: ValidationInfo) -> Rule:
    """A rule from what stands in a flow: a field's name, a constant that is no text, or a mapping with one rule's word.

    Raises:
        ValueError: it is none of these; the message says what could stand there.
    """
    if isinstance(data, Rule):
        return data
    words = rule_words()
    if data is None:
        raise ValueError(
            "there is no rule; name a source field, or write {const: null} to send an empty value"
        )
    if isinstance(data, str):
        return words["direct"].model_validate({"direct": data}, context=info.context)
    if isinstance(data, bool | int | Decimal):
        return words["const"].model_validate({"const": data}, context=info.context)
    if not isinstance(data, dict):
        raise ValueError("a list is no rule; write {const: [...]} for a constant list")  # noqa: TRY004
    chosen = [word for word in data if word in words]
    if len(chosen) == 1:
        return words[chosen[0]].parse(data, info.context)
    valid = ", ".join(sorted(words))
    if chosen:
        raise ValueError(f"two rules at once: {' and '.join(chosen)}; a field has one rule")
    named = [word for word in data if isinstance(word, str)]
    hints = [hint for word in named if (hint := closest_name(word, words))]
    hint = f"; did you mean {hints[0]}?" if hints else "."
    raise ValueError(f"{', '.join(map(repr, named)) or 'an empty mapping'} is no rule{hint} Valid: {valid}")


AnyRule = Annotated[Rule, PlainValidator(parse_rule)]
"""A rule inside a model; a bare text is the name of a source field."""
