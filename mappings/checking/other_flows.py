"""A flow against the other flows: what it refers to, whose other half it is, and who writes the same fields."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from mappings.faults import closest_name
from mappings.spec import Flow, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipaas_resources.core.schema import FieldSchema
    from mappings.checking.notes import Notes
    from mappings.faults import Path
    from mappings.transforms.ref import Ref

Flows = Mapping[str, "Flow | Collection[str]"]
"""Flow -> the flow, or the names of its targets where no more is known."""

_MANY = 5  # field names that a warning lists

Side = tuple[str, str]
"""System and entity."""


class OtherFlows:
    """The flows that exist beside one, those of its folder included."""

    def __init__(self, flow: Flow, others: Flows | None) -> None:
        self._flow = flow
        self._known = others is not None
        self._flows: dict[str, Flow | Collection[str]] = {**(others or {}), flow.flow: flow}

    # --- references -----------------------------------------------------------------------------------------------

    def check_reference(self, notes: Notes, path: Path, flow: str, target: str) -> bool:
        """Note a flow or a target that does not exist; False then."""
        if not self._known or flow == self._flow.flow:
            return target in self._flow.targets or flow != self._flow.flow
        if flow not in self._flows:
            notes.unknown(path, "the flow", flow, sorted(self._flows))
            return False
        targets = _targets(self._flows[flow])
        if target not in targets:
            notes.unknown(path, "the target", f"{flow}.{target}", [f"{flow}.{name}" for name in targets])
            return False
        return True

    def check_near(self, notes: Notes, path: Path, rule: Ref) -> None:
        """Note a ref whose links cannot be followed from our source."""
        sides = self._sides(rule.flow, rule.target)
        source = self._flow.source
        if sides is not None and sides[0][0] != source.system:
            notes.fault(
                path,
                f"{rule.ref} links no records of {source.system}, the source of this flow; it links "
                f"{_named(sides[0])} and {_named(sides[1])}",
            )

    def check_ref(
        self, notes: Notes, path: Path, rule: Ref, target: Target, field: FieldSchema | None, *, scope: bool
    ) -> None:
        """Note a ref that makes the value of a field (or of the scope) and leads to what that cannot hold."""
        sides = self._sides(rule.flow, rule.target)
        if sides is None or sides[0][0] != self._flow.source.system:
            return  # told by check_near
        far = sides[1]
        leads = f"{rule.ref} leads to {_named(far)}"
        if scope or rule.part == "scope":
            if scope and far[0] != target.system:
                notes.fault(path, f"{leads}; a scope of {target.system} is needed here")
            return
        if field is None or field.type != "reference":
            return
        if far[0] != target.system:
            notes.fault(path, f"{leads}, and {field.name} refers to records of {target.system}")
        elif field.targets and far[1] not in field.targets:
            listed = ", ".join(field.targets)
            notes.fault(path, f"{leads}, and {field.name} refers to records of {listed}")

    def _sides(self, flow: str, target: str) -> tuple[Side, Side] | None:
        """The near and the far side of a link as our source reads it, None where they are not known."""
        other = self._flows.get(flow)
        if not isinstance(other, Flow) or target not in other.targets:
            return None
        source: Side = (other.source.system, other.source.entity)
        made: Side = (other.targets[target].system, other.targets[target].entity)
        # As the engine decides it: from the source's side where that is our system, else from the target's.
        return (source, made) if source[0] == self._flow.source.system else (made, source)

    # --- two-way pairs --------------------------------------------------------------------------------------------

    def check_reverse(self, notes: Notes) -> None:
        """Note a `reverse_of` that is no other half of this flow."""
        if self._flow.reverse_of is None:
            return
        path: Path = ("reverse_of",)
        name, _, target = self._flow.reverse_of.partition(".")
        if not self.check_reference(notes, path, name, target):
            return
        partner = self._flows.get(name)
        if not isinstance(partner, Flow) or name == self._flow.flow:
            return
        ours: Side = (self._flow.source.system, self._flow.source.entity)
        theirs: Side = (partner.source.system, partner.source.entity)
        made: Side = (partner.targets[target].system, partner.targets[target].entity)
        written = [(each.system, each.entity) for each in self._flow.targets.values()]
        if made != ours:
            notes.fault(
                path,
                f"{self._flow.reverse_of} writes {_named(made)}, and this flow reads {_named(ours)}: no pair",
            )
        if theirs not in written:
            notes.fault(
                path,
                f"{name} reads {_named(theirs)}, which no target of this flow writes, so the two are no pair",
            )
        if partner.reverse_of is not None and partner.reverse_of.partition(".")[0] != self._flow.flow:
            notes.fault(path, f"{name} is the other half of {partner.reverse_of} already")

    # --- neighbours -----------------------------------------------------------------------------------------------

    def check_group(self, notes: Notes) -> None:
        """Warn of an exclusive group that holds this flow alone: its name may be misspelt."""
        group = self._flow.exclusive_group
        others = [flow for flow in self._full() if flow.flow != self._flow.flow]
        if group is None or not others or any(flow.exclusive_group == group for flow in others):
            return
        groups = {flow.exclusive_group for flow in others if flow.exclusive_group is not None}
        what = f"no other flow is in the exclusive group {group!r}"
        notes.warn(("exclusive_group",), what, closest=closest_name(group, groups))

    def check_same_fields(self, notes: Notes) -> None:
        """Warn of fields that another target, of this flow or of another one, writes too."""
        for name, target in self._flow.targets.items():
            for other, other_name, other_target in self._neighbours(name):
                if (target.system, target.entity) != (other_target.system, other_target.entity):
                    continue
                shared = [field for field in _written(target) if field in set(_written(other_target))]
                if shared:
                    listed = ", ".join(shared[:_MANY]) + (" and more" if len(shared) > _MANY else "")
                    notes.warn(
                        ("targets", name),
                        f"{other.flow}.{other_name} writes {listed} of {_named((target.system, target.entity))} too: "
                        "where both meet one record, the last write wins",
                    )

    def _neighbours(self, name: str) -> Iterator[tuple[Flow, str, Target]]:
        """The targets that can write at the same time as ours; of our own flow those that stand before it."""
        for own, target in self._flow.targets.items():
            if own == name:
                break
            yield self._flow, own, target
        for flow in self._full():
            alone = flow.exclusive_group is not None and flow.exclusive_group == self._flow.exclusive_group
            if flow.flow != self._flow.flow and not alone:
                for other_name, target in flow.targets.items():
                    yield flow, other_name, target

    def _full(self) -> list[Flow]:
        return [flow for flow in self._flows.values() if isinstance(flow, Flow)]


def _targets(flow: Flow | Collection[str]) -> Collection[str]:
    return list(flow.targets) if isinstance(flow, Flow) else flow


def _written(target: Target) -> list[str]:
    """The fields that a target writes; lines as salesOrderLines.quantity. Keys are for finding: two may share them."""
    return [
        *(field for field in target.fields if field not in target.key),
        *(f"{name}.{field}" for name, lines in target.lines.items() for field in lines.fields),
    ]


def _named(side: Side) -> str:
    return f"{side[0]}/{side[1]}"
