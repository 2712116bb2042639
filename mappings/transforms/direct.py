"""`direct`: a source value as it is (`name: displayName`), and `const`: a value that is always the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, Field

from ipaas_resources.core.values import Value, encode, escape_text
from mappings.kinds import Gives, SourceTypes, of_constant
from mappings.rules import Rule
from mappings.yaml_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mappings.codegen import Code

_LONGEST_NAME = 200


def checked_source_name(name: str) -> str:
    """The name of a source value: a field, $scope, $id or $parent.FIELD.

    Raises:
        ValueError: it can be none of these.
    """
    if name.startswith("$") and name not in ("$scope", "$id") and not name.startswith("$parent."):
        raise ValueError(
            f"{name} does not exist. Valid: $scope, $id, and $parent.FIELD in the rules of lines"
        )
    field = name.removeprefix("$parent.")
    if not field or field != field.strip() or len(field) > _LONGEST_NAME or not field.isprintable():
        raise ValueError("the name of a source field is empty, too long, or has odd characters")
    return name


SourceName = Annotated[str, AfterValidator(checked_source_name)]


class Direct(Rule):
    """A source value as it is."""

    word: ClassVar[str] = "direct"

    direct: SourceName

    def compile(self, code: Code) -> str:
        """The local variable of the field."""
        return code.read(self.direct)

    def explain(self) -> str:
        """In words."""
        return {"$scope": "the scope of the record", "$id": "the id of the record"}.get(
            self.direct, self.direct
        )

    def gives(self, types: SourceTypes) -> Gives:
        """What the field holds."""
        return types.of(self.direct)

    def reads(self) -> Iterator[str]:
        """The field."""
        yield self.direct


def _checked_constant(value: Value) -> Value:
    text = value if isinstance(value, str) else ""
    if escape_text(text) != text:
        raise ValueError("the constant holds a character that cannot be stored")
    return plain(value)


class Const(Rule):
    """A value that is always the same."""

    word: ClassVar[str] = "const"

    const: Annotated[Value, Field(), AfterValidator(_checked_constant)]

    def compile(self, code: Code) -> str:
        """The literal."""
        return code.constant(self.const)

    def explain(self) -> str:
        """In words."""
        return encode(self.const).decode()

    def gives(self, types: SourceTypes) -> Gives:
        """The value itself."""
        del types
        return of_constant(self.const)


RULES = (Direct, Const)
