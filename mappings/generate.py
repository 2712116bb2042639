"""The generated functions of one target: map_target, when_target, want_links, and one function per lines field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ipaas_resources.core.errors import MappingError
from mappings.codegen import Code, Shared
from mappings.expressions.emit import emit
from mappings.expressions.guards import RuleError
from mappings.mapped import LineImage, Mapped, RefUse
from mappings.rollup import rolled_up
from mappings.runtime import (
    AbsentError,
    as_scope,
    broken_rule,
    no_lines_twice,
    rows_of,
    take_files,
    want,
)
from mappings.transforms.ref import SCOPE_FIELD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mappings.expressions.language import Expression
    from mappings.faults import Path
    from mappings.rollup import RollUp
    from mappings.rules import Rule
    from mappings.spec import Flow, Lines, Target

#: What every generated function may use; it has no builtins at all.
_NAMES: Final[Mapping[str, object]] = {
    "__builtins__": {},
    "AbsentError": AbsentError,
    "LineImage": LineImage,
    "MappingError": MappingError,
    "Mapped": Mapped,
    "RuleError": RuleError,
    "as_scope": as_scope,
    "broken_rule": broken_rule,
    "dict_type": dict,
    "each_of": map,
    "no_lines_twice": no_lines_twice,
    "rolled_up": rolled_up,
    "rows_of": rows_of,
    "take_files": take_files,
    "text_type": str,
    "type_of": type,
    "want": want,
}


class _Made:
    """One rule, compiled."""

    def __init__(self, field: str, label: str, value: str, code: Code) -> None:
        self.field = field  # as the target names it
        self.label = label  # as messages name it
        self.value = value  # the Python expression
        self.may_be_absent = code.may_be_absent
        self.links = list(code.links)

    @property
    def is_plain(self) -> bool:
        """A local variable or a short literal: it cannot fail."""
        return self.value.isidentifier() or self.value[0] in "'\"0123456789" or self.value.startswith("(-")


class TargetFunctions:
    """Compiles the rules of one target; what cannot be compiled is noted in `faults`."""

    def __init__(self, flow: Flow, name: str, target: Target) -> None:
        self.flow = flow
        self.name = name
        self.shared = Shared(flow.flow, name)
        self.faults: list[tuple[Path, str]] = []
        self.rules: dict[str, Rule] = {}
        self.lineage: dict[str, tuple[str, ...]] = {}
        self.source_fields: set[str] = set()
        self._at: Path = ("targets", name)
        self._labels: list[str] = []
        texts = [self._when(target), *self._map(target)]
        self.source = "\n\n".join("\n".join(lines) for lines in [*self.shared.functions, *texts])

    def build(self) -> dict[str, Any]:
        """Run the generated source once; the functions by name."""
        namespace = {
            **_NAMES,
            "FLOW": self.flow.flow,
            "TARGET": self.name,
            "FIELDS": tuple(self._labels),
            **self.shared.namespace,
        }
        program = compile(self.source, f"<flow {self.flow.flow}.{self.name}>", "exec")
        exec(program, namespace)  # noqa: S102 - the text is ours: see codegen.py for what may enter it
        return namespace

    # --- one rule -----------------------------------------------------------------------------------------------

    def _compiled(self, code: Code, path: Path, field: str, label: str, rule: Rule) -> _Made:
        with code.making(label):
            try:
                value = rule.compile(code)
            except ValueError as error:
                self.faults.append((path, str(error)))
                value = "None"
            self.lineage[label] = tuple(code.sources)
            return _Made(field, label, value, code)

    def _condition(self, code: Code, path: Path, expression: Expression) -> str:
        with code.making("when"):
            try:
                return emit(expression, code)
            except ValueError as error:
                self.faults.append((path, str(error)))
                return "True"

    def _position(self, label: str) -> int:
        if label not in self._labels:
            self._labels.append(label)
        return self._labels.index(label)

    # --- when ---------------------------------------------------------------------------------------------------

    def _when(self, target: Target) -> list[str]:
        code = Code(self.shared, knows_id=False)
        conditions = [
            self._condition(code, path, expression)
            for path, expression in (((("when"),), self.flow.when), ((*self._at, "when"), target.when))
            if expression is not None
        ]
        self.source_fields.update(code.reads)
        lines = ["def when_target(document, scope):"]
        if not conditions:
            return [*lines, "    return True"]
        return [
            *lines,
            *_loads("    ", "document", code.reads),
            "    try:",
            f"        return True if {' and '.join(conditions)} else False",
            "    except RuleError as error:",
            "        raise broken_rule(FLOW, TARGET, 'when', error) from None",
        ]

    # --- map ----------------------------------------------------------------------------------------------------

    def _map(self, target: Target) -> list[list[str]]:
        code = Code(self.shared)
        made = []
        for field, rule in target.rules().items():
            part = "fields" if field in target.fields else "key"
            made.append(self._compiled(code, (*self._at, part, field), field, field, rule))
            self.rules[field] = rule
        scope = None
        if target.scope is not None:
            scope = self._compiled(code, (*self._at, "scope"), SCOPE_FIELD, SCOPE_FIELD, target.scope)
        lines_functions: list[list[str]] = []
        body = self._values(made, "        ")
        body += [
            "        files = {}",
            "        if dict_type in each_of(type_of, values.values()):",
            f"            at = {self._position('the file fields')}",
            "            files = take_files(values)",
        ]
        body.append(f"        key = {{{', '.join(self._key_entry(made, field) for field in target.key)}}}")
        body += self._scope(scope, "        ")
        images = []
        links = [link for rule in [*made, *([scope] if scope else [])] for link in rule.links]
        asking: list[tuple[int, str]] = []
        for number, (field, lines) in enumerate(target.lines.items()):
            functions = self._lines_functions(number, field, lines)
            lines_functions += functions
            rows = code.reads.setdefault(lines.each, f"field{len(code.reads)}")
            body.append(f"        at = {self._position(field)}")
            body.append(
                f"        lines{number} = lines_of_{number}(rows_of({rows}), document, scope, record, resolve, "
                "unresolved, flags)"
            )
            images.append(f"{field!r}: lines{number}")
            if functions[-1][0].startswith("def want_"):
                asking.append((number, lines.each))
        self.source_fields.update(code.reads)
        mapping = [
            "def map_target(document, scope, record, resolve):",
            *_loads("    ", "document", code.reads),
            "    unresolved = []",
            "    flags = []",
            "    at = 0",
            "    try:",
            *body,
            "    except RuleError as error:",
            "        raise broken_rule(FLOW, TARGET, FIELDS[at], error) from None",
            f"    return Mapped(values, key, target_scope, {{{', '.join(images)}}}, files, unresolved, flags)",
        ]
        return [*lines_functions, mapping, self._wants(links, asking)]

    def _values(self, made: list[_Made], indent: str) -> list[str]:
        """The statements that fill `values`: what cannot fail in one go, the others one by one."""
        plain = [f"{rule.field!r}: {rule.value}" for rule in made if rule.is_plain]
        lines = [f"{indent}values = {{{', '.join(plain)}}}"]
        for rule in made:
            if rule.is_plain:
                continue
            lines.append(f"{indent}at = {self._position(rule.label)}")
            assignment = f"values[{rule.field!r}] = {rule.value}"
            lines += (
                _unless_absent(indent, assignment, "pass") if rule.may_be_absent else [indent + assignment]
            )
        return lines

    def _key_entry(self, made: list[_Made], field: str) -> str:
        rule = next(rule for rule in made if rule.field == field)
        read = f"values.get({field!r})" if rule.may_be_absent else f"values[{field!r}]"
        return f"{field!r}: {read}"

    def _scope(self, scope: _Made | None, indent: str) -> list[str]:
        if scope is None:
            return [f"{indent}target_scope = None"]
        assignment = f"target_scope = as_scope({scope.value})"
        at = f"{indent}at = {self._position(scope.label)}"
        if scope.may_be_absent:
            return [at, *_unless_absent(indent, assignment, "target_scope = None")]
        return [at, indent + assignment]

    # --- lines --------------------------------------------------------------------------------------------------

    def _lines_functions(self, number: int, field: str, lines: Lines) -> list[list[str]]:
        """The function that maps the rows of one lines field, and where they follow links the one that asks for them."""
        path: Path = (*self._at, "lines", field)
        code = Code(self.shared, each=lines.each)
        body: list[str] = []
        if lines.when is not None and lines.rollup is None:
            condition = self._condition(code, (*path, "when"), lines.when)
            body += [
                f"            at = {self._position(f'{field}.when')}",
                f"            if not {condition}:",
                "                continue",
            ]
        made = []
        for name, rule in lines.rules().items():
            part = "fields" if name in lines.fields else "key"
            label = f"{field}.{name}"
            made.append(self._compiled(code, (*path, part, name), name, label, rule))
            self.rules[label] = rule
        body += self._values(made, "            ")
        if made[0].may_be_absent:
            body += [f"            if {lines.key_field!r} not in values:", "                continue"]
        body.append(f"            images.append(LineImage(values[{lines.key_field!r}], values))")
        rows = "rows"
        rolling: list[list[str]] = []
        if lines.rollup is not None:
            rolling = [self._rolling(number, field, lines, lines.rollup, code)]
            rows = f"rolled_{number}(rows, document, scope)"
        self.source_fields.update(code.parent_reads)
        function = [
            f"def lines_of_{number}(rows, document, scope, record, resolve, unresolved, flags):",
            *_loads("    ", "document", code.parent_reads),
            "    images = []",
            "    at = 0",
            "    try:",
            f"        for row in {rows}:",
            *_loads("            ", "row", code.reads),
            *body,
            f"        at = {self._position(f'{field}.{lines.key_field}')}",
            "        return no_lines_twice(images)",
            "    except RuleError as error:",
            "        raise broken_rule(FLOW, TARGET, FIELDS[at], error) from None",
        ]
        links = [link for rule in made for link in rule.links]
        if not links:
            return [*rolling, function]
        asking = Code(self.shared, each=lines.each)
        asks = self._asks(asking, links, "        ")
        wanting = [
            f"def want_lines_{number}(rows, document, scope, record, resolve, wanted):",
            "    unresolved = []",
            "    flags = []",
            *_loads("    ", "document", asking.parent_reads),
            f"    for row in {rows}:",
            *_loads("        ", "row", asking.reads),
            *asks,
        ]
        return [*rolling, function, wanting]

    def _rolling(self, number: int, field: str, lines: Lines, rollup: RollUp, code: Code) -> list[str]:
        """The function that filters the rows of one lines field and rolls them up; `code` is that of the rules."""
        plan = self.shared.bind(rollup.plan(code.reads), "rollup")
        condition = Code(self.shared, each=lines.each)
        kept = ["    kept = rows"]
        if lines.when is not None:
            label = self._position(f"{field}.when")
            expression = self._condition(condition, (*self._at, "lines", field, "when"), lines.when)
            self.source_fields.update(condition.parent_reads)
            kept = [
                "    kept = []",
                *_loads("    ", "document", condition.parent_reads),
                f"    at = {label}",
                "    try:",
                "        for row in rows:",
                *_loads("            ", "row", condition.reads),
                f"            if {expression}:",
                "                kept.append(row)",
                "    except RuleError as error:",
                "        raise broken_rule(FLOW, TARGET, FIELDS[at], error) from None",
            ]
        return [
            f"def rolled_{number}(rows, document, scope):",
            *kept,
            "    try:",
            f"        return rolled_up(kept, {plan})",
            "    except RuleError as error:",
            f"        raise broken_rule(FLOW, TARGET, FIELDS[{self._position(f'{field}.rollup')}], error) from None",
        ]

    # --- links --------------------------------------------------------------------------------------------------

    def _wants(self, links: list[tuple[RefUse, Rule]], lines: list[tuple[int, str]]) -> list[str]:
        code = Code(self.shared)
        body = self._asks(code, links, "    ")
        for number, each in lines:
            rows = code.reads.setdefault(each, f"field{len(code.reads)}")
            call = f"want_lines_{number}(rows_of({rows}), document, scope, record, resolve, wanted)"
            body += _try("    ", call)
        return [
            "def want_links(document, scope, record, resolve):",
            *_loads("    ", "document", code.reads),
            "    unresolved = []",
            "    flags = []",
            "    wanted = []",
            *body,
            "    return wanted",
        ]

    def _asks(self, code: Code, links: list[tuple[RefUse, Rule]], indent: str) -> list[str]:
        body: list[str] = []
        for use, of in links:
            with code.making(use.field):
                try:
                    value = of.compile(code)
                except ValueError:
                    continue  # noted as a fault when the rule itself was compiled
            body += _try(indent, f"want(wanted, {self.shared.bind(use, 'ref')}, {value})")
        return body


def _loads(indent: str, holder: str, reads: Mapping[str, str]) -> list[str]:
    """Each field that is read becomes a local variable, once."""
    if not reads:
        return []
    return [
        f"{indent}get = {holder}.get",
        *(f"{indent}{local} = get({field!r})" for field, local in reads.items()),
    ]


def _unless_absent(indent: str, statement: str, otherwise: str) -> list[str]:
    return [
        f"{indent}try:",
        f"{indent}    {statement}",
        f"{indent}except AbsentError:",
        f"{indent}    {otherwise}",
    ]


def _try(indent: str, statement: str) -> list[str]:
    """A step whose failure map_target will tell."""
    return [
        f"{indent}try:",
        f"{indent}    {statement}",
        f"{indent}except (RuleError, AbsentError, MappingError):",
        f"{indent}    pass",
    ]
