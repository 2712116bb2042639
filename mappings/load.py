"""Flow files -> checked models. All faults of all files are told at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from pydantic import ValidationError

from ipaas_resources.core.errors import ConfigurationError
from mappings.compiler import compile_faults
from mappings.faults import Fault, FlowErrors, Path, closest_name, dotted
from mappings.spec import Flow
from mappings.texts import read_text, without_mark
from mappings.yaml_text import Document, Yaml, read_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path as FilePath

    from pydantic_core import ErrorDetails


class LoadedFlow(msgspec.Struct, frozen=True):
    """A flow and the text it was read from."""

    name: str  # the file's name, or what the caller called the text
    text: str  # exactly as it stands in the file
    flow: Flow


def load_flow(text: str, *, name: str) -> Flow:
    """Read one flow; `name` is what faults call the text.

    Raises:
        FlowErrors: with every fault that can be seen without the schemas of the systems.
    """
    document = read_document(without_mark(text), name)
    flow = None
    faults: list[Fault] = []
    try:
        flow = Flow.model_validate(document.data, context=document).read_from(document)
    except ValidationError as error:
        faults = [_fault(document, details) for details in error.errors(include_url=False)]
    if flow is not None:
        faults = compile_faults(flow)
    if document.faults or faults:
        raise FlowErrors([*document.faults, *faults])
    assert flow is not None
    return flow


def load_folder(path: FilePath) -> list[LoadedFlow]:
    """Every *.yaml and *.yml of a folder, in the order of their names.

    Raises:
        FlowErrors: with the faults of all files, two files with one flow included.
        ConfigurationError: there is no such folder.
    """
    if not path.is_dir():
        raise ConfigurationError(f"There is no folder {path}. Name a folder of flow files (*.yaml).")
    loaded: list[LoadedFlow] = []
    faults: list[Fault] = []
    homes: dict[str, str] = {}
    for file in sorted([*path.glob("*.yaml"), *path.glob("*.yml")]):
        try:
            text = read_text(file)
            flow = load_flow(text, name=file.name)
        except FlowErrors as error:
            faults.extend(error.faults)
            continue
        if flow.flow in homes:
            what = f"the flow {flow.flow} stands in {homes[flow.flow]} already"
            faults.append(Fault(path="flow", what=what, file=file.name, line=flow.place(("flow",))[1]))
            continue
        homes[flow.flow] = file.name
        loaded.append(LoadedFlow(file.name, text, flow))
    if faults:
        raise FlowErrors(faults)
    return loaded


def _fault(document: Document, details: ErrorDetails) -> Fault:
    """The fault of one pydantic error, in words of the flow language."""
    path, at_key = _path_in(document.data, details["loc"])
    what, closest, valid = _sentence(details, path, document.data)
    line = document.line_of(path)
    if at_key and path:
        what = f"the name {path[-1]!r} cannot be used: {what}"
    return Fault(path=dotted(path), what=what, file=document.name, line=line, closest=closest, valid=valid)


def _path_in(data: Yaml, loc: Iterable[str | int]) -> tuple[Path, bool]:
    """The path of a pydantic location in the document: what names no key of it is pydantic's own word."""
    parts = list(loc)
    path: list[str | int] = []
    node = data
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "[key]":
            return tuple(path), True
        if isinstance(node, dict) and (part in node or last):
            path.append(part)
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            path.append(part)
            node = node[part]
    return tuple(path), False


def _value_at(data: Yaml, path: Path) -> Yaml:
    node = data
    for part in path:
        node = node.get(part) if isinstance(node, dict) else node[part] if isinstance(node, list) else None  # type: ignore[index]
    return node


_SAID = {
    "string_type": "text is needed; put it in quotes",
    "bool_type": "true or false is needed",
    "dict_type": "a mapping of names and values is needed",
    "list_type": "a list is needed",
    "tuple_type": "a list is needed",
    "model_type": "a mapping of words and values is needed",
    "model_attributes_type": "a mapping of words and values is needed",
}


#: What a word is for that has to stand there: its name alone does not tell.
_NEEDED = {
    "flow": "give the flow an id in lower snake case",
    "source": "say where records come from: {system: ID, entity: NAME}",
    "targets": "name what is written, such as contact: {system: ID, entity: NAME, key: ..., fields: ...}",
    "system": "name the system by its id, see ipaas systems list",
    "entity": "name what the system calls these records, such as customers",
    "missing": "say what a missing entry does: flag, null or {default: VALUE}",
    "by": "name the fields whose equal values make lines one, such as by: itemNumber",
    "of": "name the source field, or the rule, that gives the value",
    "then": "give the rule for when the condition holds",
    "each": "name the field of the source that holds the lines",
    "in": "give the source record of the example",
    "out": "give what the example must make, by target",
    "max_age": "say how old a change may get, such as 4h",
    "min": "say how often to ask at most, such as 15s",
    "max": "say how rarely to ask at least, such as 15m",
}
_KEY_NEEDED = "say by which field a record is found, such as key: {accountnumber: number}"
_LINE_KEY_NEEDED = "say which field tells the lines apart, such as key: sequence"


def _missing(path: Path) -> str:
    word = path[-1] if path else ""
    needed = _NEEDED.get(str(word), "")
    if word == "key":
        needed = _LINE_KEY_NEEDED if "lines" in path[:-1] else _KEY_NEEDED
    return f"is missing: {needed}" if needed else "is missing"


def _sentence(details: ErrorDetails, path: Path, data: Yaml) -> tuple[str, str, tuple[str, ...]]:
    """What is wrong, the closest valid word, the valid words."""
    kind = details["type"]
    context = details.get("ctx", {})
    closest, valid = "", ()
    if kind == "missing":
        what = _missing(path)
    elif kind == "value_error":
        what = str(context["error"])
    elif kind == "literal_error":
        value = _value_at(data, path)
        valid = tuple(re.findall(r"'([^']*)'", context["expected"]))
        closest = closest_name(value, valid) if isinstance(value, str) else ""
        what = f"{value!r} has no meaning here"
    elif kind == "string_pattern_mismatch" and r"\." in context["pattern"]:
        what = "a flow and its target are named flow.target, in lower snake case"
    elif kind == "string_pattern_mismatch":
        what = "an id is lower snake case: small letters, digits and single underscores"
    elif kind in ("too_short", "too_long"):
        what = f"{context.get('actual_length', 0)} entries stand here, {_count(context)} needed"
    elif kind in ("string_too_long", "string_too_short"):
        what = f"the text has a wrong length, {_count(context)} characters needed"
    else:
        what = _SAID.get(kind, details["msg"][:1].lower() + details["msg"][1:])
    return what, closest, valid


def _count(context: Mapping[str, int]) -> str:
    if "max_length" in context:
        return f"at most {context['max_length']} {'is' if context['max_length'] == 1 else 'are'}"
    return f"at least {context['min_length']} {'is' if context['min_length'] == 1 else 'are'}"
