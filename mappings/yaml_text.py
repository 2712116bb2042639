"""YAML 1.2 text -> plain values that know their lines.

Stricter than YAML on purpose: one document, no duplicate keys, no anchors, no tags, no infinities, and text that looks
like a number with leading zeros must say whether it is text. Numbers with a point become Decimal, dates stay text.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLStreamError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from ipaas_resources.core.values import canonical_number
from mappings.faults import Fault, FlowErrors, Path, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TEXT = 512 * 1024  # characters of one document
MAX_DEPTH = 40
MAX_DIGITS = 400

# YAML 1.2 core schema, https://yaml.org/spec/1.2.2/#103-core-schema
_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]{1,100}|0x[0-9a-fA-F]{1,100}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+(\.[0-9]*)?")


Yaml = Any
"""What stands in a YAML document: null, bool, text, int, Decimal, list, Located."""


class Located(dict[str, Yaml]):
    """A mapping that knows its place."""

    path: Path = ()


def plain(value: Yaml) -> Yaml:
    """The same value without places: what belongs into a record."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


class Document:
    """One YAML document: its values, and the line of every path in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.data: Yaml = None
        self.lines: dict[Path, int] = {}
        self.faults: list[Fault] = []

    def line_of(self, path: Path) -> int:
        """The line (1-based) of this path or of the nearest thing around it, 0 when nothing is known."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def fault(self, path: Path, what: str, line: int | None = None) -> None:
        """Note a fault."""
        at = self.line_of(path) if line is None else line
        self.faults.append(Fault(path=dotted(path), what=what, file=self.name, line=at))


def read_document(text: str, name: str) -> Document:
    """Read one document; `name` is the file for messages.

    Faults that leave the rest readable (a duplicate key) are noted in `Document.faults`.

    Raises:
        FlowErrors: the text is not YAML, or is no single mapping.
    """
    document = Document(name)
    if len(text) > MAX_TEXT:
        _stop(document, 0, f"the text is longer than {MAX_TEXT} characters")
    try:
        events = _events(text, document)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or error.context or "the text cannot be read").replace("\n", " ")
        _stop(document, 0 if mark is None else mark.line + 1, f"this is not YAML: {problem}")
    except (YAMLError, YAMLStreamError) as error:
        _stop(document, _line_of_character(text, error), "this is not YAML: it holds a control character")
    starts = [event for event in events if isinstance(event, DocumentStartEvent)]
    if not starts:
        _stop(document, 0, "the document is empty")
    if len(starts) > 1:
        _stop(
            document, starts[1].start_mark.line + 1, "a second document begins here; one file holds one flow"
        )
    if starts[0].version not in (None, (1, 2)):
        _stop(document, 1, "the text asks for another YAML than 1.2; remove the %YAML line")
    reader = _Reader(document, iter(events[1:]))
    document.data = reader.value(())
    if not isinstance(document.data, Located):
        _stop(document, 1, "the document is not a mapping of words and values")
    return document


def _events(text: str, document: Document) -> list[Event]:
    """The events of the text that make values; stops at the depth limit, for deep nesting costs the parser dearly."""
    found: list[Event] = []
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1
                _stop(document, line, f"the text nests deeper than {MAX_DEPTH} levels")
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            depth -= 1
        if isinstance(event, _KEPT):
            found.append(event)
    return found


_KEPT = (DocumentStartEvent, NodeEvent, MappingEndEvent, SequenceEndEvent)


def _stop(document: Document, line: int, what: str) -> NoReturn:
    raise FlowErrors([Fault(path="", what=what, file=document.name, line=line)])


def _line_of_character(text: str, error: Exception) -> int:
    position = getattr(error, "position", None)
    return text.count("\n", 0, position) + 1 if isinstance(position, int) else 0


class _Reader:
    """Turns events into values."""

    def __init__(self, document: Document, events: Iterator[Event]) -> None:
        self.document = document
        self.events = events

    def value(self, path: Path) -> Yaml:
        return self._node(next(self.events), path)

    def _node(self, event: Event, path: Path) -> Yaml:
        line = event.start_mark.line + 1
        self.document.lines.setdefault(path, line)
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            _stop(
                self.document,
                line,
                "anchors and aliases (& and *) are not part of a flow; write the value out",
            )
        if getattr(event, "tag", None) is not None:
            _stop(self.document, line, "tags (!name) are not part of a flow; put text in quotes instead")
        if isinstance(event, ScalarEvent):
            return self._scalar(event, path, line)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(path)
        assert isinstance(event, MappingStartEvent)
        return self._mapping(path)

    def _sequence(self, path: Path) -> list[Yaml]:
        items: list[Yaml] = []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> Located:
        found = Located()
        found.path = path
        while not isinstance(event := next(self.events), MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, ScalarEvent) or event.tag is not None or event.anchor is not None:
                _stop(self.document, line, "a key must be plain text")
            key = event.value
            inner = (*path, key)
            if key in found:
                first = self.document.lines[inner]
                self.document.fault(
                    inner, f"{key!r} stands here a second time; it was set in line {first}", line
                )
                self._node(next(self.events), (*path, key, "(second)"))
                continue
            self.document.lines[inner] = line
            found[key] = self._node(next(self.events), inner)
        return found

    def _scalar(self, event: ScalarEvent, path: Path, line: int) -> Yaml:
        text = event.value
        value: Yaml = text
        if event.style not in (None, ""):
            return value
        if _NULL.fullmatch(text):
            value = None
        elif _BOOL.fullmatch(text):
            value = text[0] in "tT"
        elif _LEADING_ZERO.fullmatch(text):
            self.document.fault(path, "a number begins with 0; put it in quotes to make it text", line)
        elif _INTEGER.fullmatch(text) or _FLOAT.fullmatch(text):
            value = self._number(text, path, line)
        elif _OTHER_BASE.fullmatch(text):
            value = int(text, 0)
        elif _NOT_FINITE.fullmatch(text):
            self.document.fault(path, "infinity and 'not a number' are no values of a record", line)
        return value

    def _number(self, text: str, path: Path, line: int) -> Yaml:
        try:
            if len(text) > MAX_DIGITS:
                raise ValueError  # noqa: TRY301 - the same fault as a number that is too large
            return canonical_number(Decimal(text))
        except ValueError:
            self.document.fault(path, f"a number has more than {MAX_DIGITS} digits", line)
            return 0
