"""`ref`: the record at the other side of a link, from whichever side of the flow this one stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from mappings.kinds import TEXT, Gives, SourceTypes, kind
from mappings.mapped import RefUse
from mappings.rules import AnyRule, As, Rule
from mappings.runtime import entry_number, follow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mappings.codegen import Code

SCOPE_FIELD = "$scope"


class Ref(Rule):
    """The id of a linked record, or its scope."""

    word: ClassVar[str] = "ref"

    ref: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$", max_length=200)]
    of: AnyRule
    by: Annotated[str, Field(min_length=1, max_length=200)] = "id"
    part: Literal["id", "scope"] | None = None
    #: Ids are text; `number` makes a number of it, for targets that take one.
    as_: As = Field(alias="as", default="text")

    @property
    def flow(self) -> str:
        """The flow whose links are followed."""
        return self.ref.partition(".")[0]

    @property
    def target(self) -> str:
        """The target of that flow."""
        return self.ref.partition(".")[2]

    def use(self, field: str) -> RefUse:
        """What the engine is asked, for this field."""
        part = self.part or ("scope" if field == SCOPE_FIELD else "id")
        return RefUse(
            flow=self.flow, target=self.target, of=self.of.explain(), by=self.by, field=field, part=part
        )

    def compile(self, code: Code) -> str:
        """A call of the resolver."""
        use = self.use(code.field)
        code.may_be_absent = True
        code.links.append((use, self.of))
        if use not in code.shared.references:
            code.shared.references.append(use)
        value = self.of.compile(code)
        found = f"{code.helper(follow)}(resolve, {code.shared.bind(use, 'ref')}, {value}, unresolved)"
        return f"{code.helper(entry_number)}({found})" if self.as_ == "number" else found

    def explain(self) -> str:
        """In words."""
        named = "id" if self.by == "id" else self.by
        what = "scope" if self.part == "scope" else "id"
        return (
            f"the {what} of the record linked by {self.ref} to the one whose {named} is {self.of.explain()}"
        )

    def gives(self, types: SourceTypes) -> Gives:
        """A record id."""
        del types
        if self.as_ == "number":
            return kind("integer")
        return TEXT if self.part == "scope" else kind("reference")

    def parts(self) -> Iterator[tuple[str, Rule]]:
        """The rule that names the record."""
        yield "of", self.of


RULES = (Ref,)
