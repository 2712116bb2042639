"""XML from outside: no document type, no entities, nothing fetched, no endless depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn
from xml.etree.ElementTree import TreeBuilder
from xml.parsers import expat

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

#: Levels of elements; far more than any document type that we read has.
DEEPEST = 200


class MalformedXmlError(ValueError):
    """The bytes are no XML that we read."""


def parse_xml(content: bytes) -> Element:
    """The root element; names in the form `{namespace}local`.

    Without a document type there are no entities but the five of XML itself, so neither their growth nor a file or address
    that they name can do harm.

    Raises:
        MalformedXmlError: not well-formed, a document type, or nested too deeply.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise MalformedXmlError("the XML is nested too deeply")
        builder.start(_clark(name), {_clark(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_clark(name))

    def refuse(*_: object) -> NoReturn:
        raise MalformedXmlError("the XML declares a document type, which is not read")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise MalformedXmlError(f"not well-formed XML, line {error.lineno}") from None
    return builder.close()


def _clark(name: str) -> str:
    return "{" + name if "}" in name else name


def local(element: Element) -> str:
    """The name of an element without its namespace."""
    tag: str = element.tag
    return tag.rpartition("}")[2]
