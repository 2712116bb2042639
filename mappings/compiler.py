"""A flow's rules -> one compiled Python function per target.

Mapping a record then costs one call. Lineage, references and explanations come out of the same pass that makes the
function, so they cannot disagree with what runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mappings.faults import Fault, FlowErrors, Path, dotted
from mappings.generate import TargetFunctions
from mappings.mapped import MISSING, Flag, LineImage, LinkHit, Mapped, Missing, RefUse, Resolver, Unresolved
from mappings.transforms.direct import Direct
from mappings.transforms.ref import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ipaas_resources.core.values import Document
    from mappings.rules import Owner, Rule
    from mappings.spec import Conflict, Flow, LeavePolicy, Lines, OnMissing, Policy, Target

__all__ = [
    "MISSING",
    "CompiledFlow",
    "CompiledTarget",
    "Flag",
    "LineImage",
    "LinkHit",
    "Mapped",
    "Missing",
    "RefUse",
    "Resolver",
    "Unresolved",
    "compile_faults",
    "compile_flow",
]


class CompiledTarget:
    """One target of a flow, ready to map records. Holds no state between records; any thread may use it."""

    def __init__(self, flow: Flow, name: str, target: Target, functions: TargetFunctions) -> None:
        self.flow = flow.flow
        self.name = name
        self.spec = target
        self.system = target.system
        self.entity = target.entity
        self.key_fields: tuple[str, ...] = tuple(target.key)
        #: Every owned field in order, key fields first; lines fields are in `line_fields`.
        self.fields: tuple[str, ...] = tuple(target.rules())
        #: lines field -> the owned fields of a line, its key first
        self.line_fields: Mapping[str, tuple[str, ...]] = {
            field: tuple(lines.rules()) for field, lines in target.lines.items()
        }
        #: lines field -> the field that tells its lines apart
        self.line_keys: Mapping[str, str] = {field: lines.key_field for field, lines in target.lines.items()}
        #: lines field -> what happens to a line that the source no longer has
        self.line_policies: Mapping[str, OnMissing] = {
            field: lines.on_missing for field, lines in target.lines.items()
        }
        self.on_delete: Policy = target.on_delete
        self.on_leave: LeavePolicy = target.on_leave
        self.conflict: Conflict = target.conflict
        owner: Owner = "source" if target.conflict == "source_wins" else "shared"
        #: Per field (lines: "salesOrderLines.quantity"), whose value counts when both sides changed.
        self.owners: Mapping[str, Owner] = {
            field: rule.owner or owner for field, rule in functions.rules.items()
        }
        #: Per field, its rule, as the person wrote it.
        self.rules: Mapping[str, Rule] = functions.rules
        #: Per field, the source fields it is made of; "$scope" for the scope's rule, where there is one.
        self.lineage: Mapping[str, tuple[str, ...]] = functions.lineage
        self.references: tuple[RefUse, ...] = tuple(functions.shared.references)
        self.lookups: tuple[str, ...] = tuple(functions.shared.lookups)
        #: Top-level source fields that mapping and `when` read.
        self.source_fields: frozenset[str] = frozenset(functions.source_fields)
        #: The generated source, for people who look into a traceback.
        self.source = functions.source
        built = functions.build()
        #: when(document, scope): whether the record belongs into this target. Raises MappingError.
        self.when: Callable[[Document, str], bool] = built["when_target"]
        #: map(document, scope, record, resolve): the record's image. `record` is its id. Raises MappingError.
        self.map: Callable[[Document, str, str, Resolver], Mapped] = built["map_target"]
        #: wants(document, scope, record, resolve): the links that mapping may ask for, to be read for many records at once.
        self.wants: Callable[[Document, str, str, Resolver], list[tuple[RefUse, str]]] = built["want_links"]

    def explain(self, field: str) -> str:
        """One sentence on how a field is made."""
        rule = self.rules[field]
        return f"{field} is {rule.explain()}{rule.explain_fitting()}."


class CompiledFlow:
    """A flow, ready to map records."""

    def __init__(self, flow: Flow, targets: dict[str, CompiledTarget]) -> None:
        self.flow = flow
        self.targets: Mapping[str, CompiledTarget] = targets
        #: All source fields that any target reads: what a narrowed read must ask for.
        self.source_fields: frozenset[str] = frozenset().union(
            *(target.source_fields for target in targets.values())
        )


def compile_flow(flow: Flow) -> CompiledFlow:
    """Compile every target of a flow.

    Raises:
        FlowErrors: rules that contradict each other or use what their place does not have.
    """
    faults: list[Fault] = []
    functions = _all_functions(flow, faults)
    if faults:
        raise FlowErrors(faults)
    return CompiledFlow(
        flow,
        {name: CompiledTarget(flow, name, target, functions[name]) for name, target in flow.targets.items()},
    )


def compile_faults(flow: Flow) -> list[Fault]:
    """What compiling a flow would refuse."""
    faults: list[Fault] = []
    _all_functions(flow, faults)
    return faults


def _all_functions(flow: Flow, faults: list[Fault]) -> dict[str, TargetFunctions]:
    _check_reverse(flow, faults)
    found = {}
    for name, target in flow.targets.items():
        _check_target(flow, name, target, faults)
        functions = found[name] = TargetFunctions(flow, name, target)
        for path, what in functions.faults:
            _add(flow, path, what, faults)
    return found


def _add(flow: Flow, path: Path, what: str, faults: list[Fault], valid: tuple[str, ...] = ()) -> None:
    file, line = flow.place(path)
    faults.append(Fault(path=dotted(path), what=what, file=file, line=line, valid=valid))


def _check_reverse(flow: Flow, faults: list[Fault]) -> None:
    if flow.reverse_of and flow.reverse_of.partition(".")[0] == flow.flow:
        _add(flow, ("reverse_of",), "a flow cannot be the reverse of itself; name the other flow", faults)


def _check_target(flow: Flow, name: str, target: Target, faults: list[Fault]) -> None:
    at: Path = ("targets", name)
    for field, rule in target.key.items():
        if field in target.fields and target.fields[field] != rule:
            what = f"{field} has another rule among the fields; leave one of them out"
            _add(flow, (*at, "key", field), what, faults)
    placed: list[tuple[Path, Rule]] = [
        *(((*at, "key", field), rule) for field, rule in target.key.items()),
        *(((*at, "fields", field), rule) for field, rule in target.fields.items()),
        *([((*at, "scope"), target.scope)] if target.scope is not None else []),
    ]
    for field, lines in target.lines.items():
        place: Path = (*at, "lines", field)
        if field in target.rules():
            _add(flow, place, f"{field} has a rule among the fields as well", faults)
        _check_line_key(flow, place, lines, faults)
        placed += [((*place, "key", inner), rule) for inner, rule in lines.key.items()]
        placed += [((*place, "fields", inner), rule) for inner, rule in lines.fields.items()]
    for path, rule in placed:
        _check_rule(flow, name, path, rule, faults, inside=False)
    _check_fitted_keys(flow, at, target, faults)
    for word in _WORDS_OF_A_FIELD if target.scope is not None else ():
        if getattr(target.scope, word) is not None:
            _add(flow, (*at, "scope", word), f"{word} belongs to a field's rule; a scope is no field", faults)


def _check_fitted_keys(flow: Flow, at: Path, target: Target, faults: list[Fault]) -> None:
    keys: list[tuple[Path, Rule]] = [((*at, "key", field), rule) for field, rule in target.key.items()]
    for name, lines in target.lines.items():
        part = "fields" if lines.key_field in lines.fields else "key"
        keys.append(((*at, "lines", name, part, lines.key_field), lines.rules()[lines.key_field]))
    for path, rule in keys:
        for word, said in (("too_long", rule.too_long), ("unfit_characters", rule.unfit_characters)):
            if said in ("truncate", "drop", "replace"):
                what = "a key cannot be changed until it fits: two records could come to share it"
                _add(flow, (*path, word), f"{what}; choose error or flag", faults)


def _check_line_key(flow: Flow, place: Path, lines: Lines, faults: list[Fault]) -> None:
    for key, rule in lines.key.items():
        if key in lines.fields and lines.fields[key] != rule and rule != Direct(direct=key):
            _add(flow, (*place, "key", key), f"{key} has another rule among the fields of the line", faults)


_WORDS_OF_A_FIELD = {"owner": "an owner", "too_long": "too_long", "unfit_characters": "unfit_characters"}


def _check_rule(
    flow: Flow, target: str, path: Path, rule: Rule, faults: list[Fault], *, inside: bool
) -> None:
    for word, what in _WORDS_OF_A_FIELD.items():
        if inside and getattr(rule, word) is not None:
            _add(
                flow,
                (*path, word),
                f"{what} belongs to the field's own rule, not to a rule inside it",
                faults,
            )
    if isinstance(rule, Ref) and rule.flow == flow.flow:
        if rule.target not in flow.targets:
            valid = tuple(f"{flow.flow}.{name}" for name in flow.targets)
            _add(flow, (*path, "ref"), f"this flow has no target {rule.target!r}", faults, valid)
        elif rule.target == target and rule.of == Direct(direct="$id") and rule.by == "id":
            _add(
                flow,
                (*path, "of"),
                "the record would refer to itself; name the field of the other record",
                faults,
            )
    for word, part in rule.parts():
        _check_rule(flow, target, (*path, word), part, faults, inside=True)
