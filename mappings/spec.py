"""A flow as a person writes it: the model of one YAML document (design.md section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    PrivateAttr,
    StrictBool,
    ValidationInfo,
    model_validator,
)

from ipaas_resources.core.values import Value
from mappings.expressions.language import Expression
from mappings.rollup import RollUp
from mappings.rules import AnyRule, Owner, Rule, SpecModel, parse_rule
from mappings.times import Cron, Duration
from mappings.transforms.direct import Const
from mappings.windows import Window
from mappings.yaml_text import Document, Yaml, plain
from mappings.zones import ZoneName

if TYPE_CHECKING:
    from mappings.faults import Path

# No two underscores together: flow and target are joined by `__` in asset keys, and the pair stays unique.
_ID: Final = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$"

Id = Annotated[str, Field(pattern=_ID, max_length=60)]
"""Lower snake case."""


def _checked_name(name: str) -> str:
    if not name or name != name.strip() or not name.isprintable() or "$" in name:
        raise ValueError("the name is empty or has odd characters")
    return name


Name = Annotated[str, Field(max_length=200), AfterValidator(_checked_name)]
"""The name of an entity, a field or a group, as its system spells it."""

Policy = Literal["ignore", "deactivate", "delete", "review"]
LeavePolicy = Literal["keep", "deactivate", "delete", "review"]
Conflict = Literal["source_wins", "newest_wins", "manual"]
OnMissing = Literal["keep", "delete", "review"]


def _parse_scopes(value: Yaml) -> Literal["all"] | tuple[str, ...]:
    if value == "all":
        return "all"
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError("all, or a list of scope names is needed")


class Source(SpecModel):
    """Where the records come from."""

    system: Id
    entity: Name
    scopes: Annotated[Literal["all"] | tuple[str, ...], PlainValidator(_parse_scopes)] = "all"


class Poll(SpecModel):
    """How often the source is asked for changes: as often as `min` while it is busy, as rarely as `max` while not."""

    min: Duration
    max: Duration

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max < self.min:
            raise ValueError("max is shorter than min")
        return self


class Trigger(SpecModel):
    """What starts work: any of them, or none for a flow that is run by hand."""

    webhook: StrictBool = False
    poll: Poll | None = None
    schedule: Cron | None = None
    tz: ZoneName = "UTC"  # of the schedule


class Sla(SpecModel):
    """How old the oldest change that waits may be."""

    max_age: Duration


def _parse_scope(value: Yaml, info: ValidationInfo) -> Rule:
    # In place of a scope a bare text is a constant: it names one of our scopes, not a field.
    if isinstance(value, str) and not value.startswith("$"):
        return Const(const=value)
    return parse_rule(value, info)


def _named_by_itself(value: Yaml) -> Yaml:
    return {value: value} if isinstance(value, str) else value


class Lines(SpecModel):
    """How the lines of a target document are made from the lines of the source."""

    each: Name  # the source's lines field
    #: The one target field that tells the lines of a document apart, with its rule; a bare name is copied by that name,
    #: or made by its rule among the fields.
    key: Annotated[dict[Name, AnyRule], BeforeValidator(_named_by_itself), Field(min_length=1, max_length=1)]
    when: Expression | None = None
    #: Source lines that become one, after `when` and before the rules.
    rollup: RollUp | None = None
    #: What happens to a line of ours that the source no longer has.
    on_missing: OnMissing = "keep"
    fields: dict[Name, AnyRule] = Field(default_factory=dict)

    @property
    def key_field(self) -> str:
        """The target field that tells the lines of one document apart."""
        return next(iter(self.key))

    def rules(self) -> dict[str, Rule]:
        """Every field of the target line with its rule, the key first."""
        return {**self.key, **self.fields}


class Target(SpecModel):
    """One target entity of a flow."""

    system: Id
    entity: Name
    #: target field -> rule; by these a record is found before it is created. They are written like other fields.
    key: dict[Name, AnyRule] = Field(min_length=1)
    scope: Annotated[Rule, PlainValidator(_parse_scope)] | None = None
    when: Expression | None = None
    on_delete: Policy = "ignore"
    on_leave: LeavePolicy = "keep"
    conflict: Conflict = "source_wins"
    fields: dict[Name, AnyRule] = Field(default_factory=dict)
    lines: dict[Name, Lines] = Field(default_factory=dict)

    def rules(self) -> dict[str, Rule]:
        """Every written field with its rule, key fields first."""
        return {**self.key, **self.fields}


class Example(SpecModel):
    """What goes in and what must come out; run by the tests."""

    title: str = ""
    record: Annotated[dict[str, Value], AfterValidator(plain)] = Field(alias="in")
    scope: str = ""
    id: str = "1"
    #: flow.target -> near side (as `of` gives it) -> far id, or {id:, scope:}
    links: dict[str, dict[str, str | dict[Literal["id", "scope"], str]]] = Field(default_factory=dict)
    #: table -> entries, in place of the lookups folder
    lookups: dict[str, dict[str, Value]] = Field(default_factory=dict)
    #: target -> fields that must have these values (lines: a list of such), or null: `when` filters the record
    out: Annotated[dict[str, dict[str, Value] | None], AfterValidator(plain)]
    #: target -> fields that must be left out because a lookup has no entry
    flagged: dict[str, list[str]] = Field(default_factory=dict)
    #: target -> fields whose reference must be unresolved
    unresolved: dict[str, list[str]] = Field(default_factory=dict)


class Flow(SpecModel):
    """Records of one source entity become records of one or more target entities."""

    flow: Id
    title: str = ""
    description: str = ""
    group: Id | None = None
    owners: tuple[Name, ...] = ()
    source: Source
    trigger: Trigger = Trigger()
    lane: Literal["realtime", "polling", "batch"] = "realtime"
    mode: Literal["live", "run"] = "live"
    window: Window | None = None
    when: Expression | None = None
    sla: Sla | None = None
    #: How long a record waits for one that it refers to before a person is asked; the engine's own where it is left out.
    park: Duration | None = None
    exclusive_group: Id | None = None
    #: flow.target of the other half of a two-way pair
    reverse_of: Annotated[str, Field(pattern=_ID[:-1] + r"\." + _ID[1:])] | None = None
    targets: dict[Id, Target] = Field(min_length=1)
    examples: tuple[Example, ...] = ()

    #: The text it was read from, for the lines of faults.
    _document: Document | None = PrivateAttr(default=None)

    def read_from(self, document: Document) -> Self:
        """Remember the lines."""
        self._document = document
        return self

    def place(self, path: Path) -> tuple[str, int]:
        """File and line of a path, ('', 0) for a flow that was not read from text."""
        return (self._document.name, self._document.line_of(path)) if self._document else ("", 0)


__all__ = [
    "Conflict",
    "Example",
    "Flow",
    "LeavePolicy",
    "Lines",
    "Owner",
    "Policy",
    "Rule",
    "Source",
    "Target",
]
