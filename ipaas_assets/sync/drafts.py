"""Flows that are not active: an old version, a draft file, or the active flow with one rule of a draft in it."""

from __future__ import annotations

from typing import Final

import msgspec

from ipaas_assets.sync.engine import ActiveFlow, Engine
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store import versions
from ipaas_resources.store.registry import StoredFlow
from mappings.compiler import CompiledFlow, compile_faults, compile_flow
from mappings.faults import FlowErrors, closest_name
from mappings.load import load_flow
from mappings.rules import Rule
from mappings.spec import Flow, Target
from mappings.transforms.ref import SCOPE_FIELD

#: A flow around a draft rule, so that it is read and checked as in any flow.
_AROUND: Final = """\
flow: draft
source: {system: draft, entity: draft}
targets:
  draft:
    system: draft
    entity: draft
    key: {key: key}
"""
_IN_FIELDS: Final = "    fields:\n      draft:\n        "
_IN_LINES: Final = "    lines:\n      draft:\n        each: draft\n        key: key\n        fields:\n          draft:\n            "


class DraftFlow(ActiveFlow):
    """A flow as it would be if it were active."""

    def __init__(self, flow: Flow, *, version: int) -> None:
        self.stored = StoredFlow(flow=flow.flow, version=version, text="", enabled=True)
        self.compiled: CompiledFlow = compile_flow(flow)


class RulePlace(msgspec.Struct, frozen=True):
    """Where a rule stands in a target."""

    target: str
    field: str  # as it stands there; of a line, its field in the line
    lines: str = ""

    @property
    def label(self) -> str:
        """The field as messages name it."""
        return f"{self.lines}.{self.field}" if self.lines else self.field


async def flow_of(
    engine: Engine, name: str, *, version: int | None = None, text: str | None = None, file: str = "the draft"
) -> tuple[Flow, int | None]:
    """The flow to look at, with its version (None for a draft): the active one, an older one, or the one of a text.

    Raises:
        ConfigurationError: there is no such flow or version, or the text holds another flow. FlowErrors: it has faults.
    """
    if text is not None:
        flow = load_flow(text, name=file)
        if flow.flow != name:
            raise ConfigurationError(
                f"{file} holds the flow {flow.flow!r}, not {name!r}. Name that flow, or another file."
            )
        return flow, None
    if version is None:
        active = engine.flow(name)
        return active.compiled.flow, active.stored.version
    stored = await versions.flow_text(engine.database, name, version)
    if stored is None:
        raise ConfigurationError(
            f"There is no version {version} of the flow {name!r}. `ipaas flows history {name}` lists them."
        )
    return load_flow(stored.text, name=f"{name} version {version}"), version


def find_rule(flow: Flow, field: str, target: str | None = None, *, may_be_new: bool = False) -> RulePlace:
    """The place of a field's rule: NAME, LINES.NAME or $scope; in the one target that has it, or in the named one.

    Raises:
        ConfigurationError: no target has it, or several have.
    """
    check_target(flow, target)
    names = [target] if target is not None else list(flow.targets)
    places = {name: _places(flow.targets[name], name) for name in names}
    found = [place for known in places.values() for place in known if place.label == field]
    if len(found) > 1:
        targets = ", ".join(place.target for place in found)
        raise ConfigurationError(
            f"The targets {targets} each have a rule for {field!r}. Choose one with --target."
        )
    if found:
        return found[0]
    if may_be_new and len(names) == 1:
        return _new_place(flow.targets[names[0]], names[0], field)
    if may_be_new:
        raise ConfigurationError(
            f"No target of {flow.flow} has a rule for {field!r} yet. Choose where it belongs with --target: "
            f"{', '.join(flow.targets)}."
        )
    known = [place.label for each in places.values() for place in each]
    hint = closest_name(field, known)
    raise ConfigurationError(
        f"{flow.flow} has no rule for {field!r}{f'; did you mean {hint}?' if hint else '.'} "
        f"Its rules: {', '.join(dict.fromkeys(known))}."
    )


def check_target(flow: Flow, target: str | None) -> None:
    """Raise ConfigurationError where the flow has no target of this name."""
    if target is not None and target not in flow.targets:
        raise ConfigurationError(
            f"{flow.flow} has no target {target!r}. Its targets: {', '.join(flow.targets)}."
        )


def _places(target: Target, name: str) -> list[RulePlace]:
    found = [RulePlace(name, field) for field in target.rules()]
    if target.scope is not None:
        found.append(RulePlace(name, SCOPE_FIELD))
    return found + [
        RulePlace(name, field, lines) for lines, spec in target.lines.items() for field in spec.rules()
    ]


def _new_place(target: Target, name: str, field: str) -> RulePlace:
    lines, dot, inner = field.partition(".")
    if dot and lines in target.lines:
        return RulePlace(name, inner, lines)
    return RulePlace(name, field)


def with_rule(flow: Flow, place: RulePlace, text: str) -> Flow:
    """The same flow with this rule, as YAML, in the place of the one that stands there, or as a new one.

    Raises:
        FlowErrors: the rule has faults.
    """
    rule = _parsed(place, text)
    target = flow.targets[place.target]
    if place.field == SCOPE_FIELD:
        changed = target.model_copy(update={"scope": rule})
    elif place.lines:
        lines = target.lines[place.lines]
        part = "key" if place.field in lines.key and place.field not in lines.fields else "fields"
        inner = lines.model_copy(update={part: {**getattr(lines, part), place.field: rule}})
        changed = target.model_copy(update={"lines": {**target.lines, place.lines: inner}})
    else:
        part = "key" if place.field in target.key else "fields"
        changed = target.model_copy(update={part: {**getattr(target, part), place.field: rule}})
    draft = flow.model_copy(update={"targets": {**flow.targets, place.target: changed}})
    faults = compile_faults(draft)
    if faults:
        raise FlowErrors(faults)
    return draft


def _parsed(place: RulePlace, text: str) -> Rule:
    around = _AROUND + (_IN_LINES if place.lines else _IN_FIELDS)
    indent = "\n" + " " * (len(around) - around.rindex("\n") - 1)
    try:
        draft = load_flow(around + text.strip().replace("\n", indent) + "\n", name="the draft").targets[
            "draft"
        ]
    except FlowErrors as error:
        raise FlowErrors(
            [
                msgspec.structs.replace(fault, path=_in_place(fault.path, place), file="the draft", line=0)
                for fault in error.faults
            ]
        ) from None
    rules = draft.lines["draft"].fields if place.lines else draft.fields
    return rules["draft"]


def _in_place(path: str, place: RulePlace) -> str:
    for around in ("targets.draft.lines.draft.fields.draft", "targets.draft.fields.draft"):
        path = path.replace(around, place.label)
    return path
