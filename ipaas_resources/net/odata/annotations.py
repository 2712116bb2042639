"""What annotations say about a property or a set: inside its element, or apart under `Annotations Target=...`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipaas_resources.net.safe_xml import local

if TYPE_CHECKING:
    from collections.abc import Callable
    from xml.etree.ElementTree import Element

# Business Central qualifies its terms by the namespace "NAV" whatever the service's own namespace is (seen in its
# ODataV4 documents), and older documents name an alias of it.
_NAV = ("NAV.", "Microsoft.NAV.")


class Notes:
    """The annotations of one thing, by term."""

    def __init__(self, elements: list[Element], full: Callable[[str], str]) -> None:
        self._by_term = {full(element.get("Term", "")): element for element in elements}

    def text(self, term: str) -> str | None:
        """The text of an annotation, None when it is absent."""
        element = self._by_term.get(term)
        return (
            None
            if element is None
            else element.get("String") or (element.findtext("*") or "").strip() or None
        )

    def flag(self, term: str, part: str | None = None) -> bool | None:
        """True or false as an annotation says (or the named part of its record), None when it says nothing."""
        element = self._by_term.get(term)
        if element is None:
            return None
        if part is not None:
            values = [each for each in element.iter() if each.get("Property") == part]
            if not values:
                return None
            element = values[0]
        elif element.get("Bool") is None and not len(element):
            return True  # a tagging term without a value is true
        return (element.get("Bool") or (element.findtext("*") or "true")).strip().lower() == "true"

    def rights(self) -> tuple[bool, bool]:
        """Whether a create and an update may carry the property."""
        if (
            self.flag("Org.OData.Core.V1.Computed")
            or self._nav("IsReadOnly")
            or self._member("Org.OData.Core.V1.Permissions") in {"Read", "None"}
        ):
            return False, False
        if self.flag("Org.OData.Core.V1.Immutable"):
            return True, False
        edit = self._nav("AllowEdit")
        create = self._nav("AllowEditOnCreate")
        return (create if create is not None else edit is not False), edit is not False

    def _nav(self, term: str) -> bool | None:
        flags = (self.flag(f"{prefix}{term}") for prefix in _NAV)
        return next((flag for flag in flags if flag is not None), None)

    def _member(self, term: str) -> str | None:
        element = self._by_term.get(term)
        if element is None:
            return None
        text = element.get("EnumMember") or element.findtext("*") or ""
        return text.strip().rpartition("/")[2]


class Annotations:
    """All annotations of a document that stand apart from what they speak of."""

    def __init__(self, full: Callable[[str], str]) -> None:
        self._full = full
        self._apart: dict[str, list[Element]] = {}

    def add(self, element: Element) -> None:
        """Take in one `Annotations` element."""
        path, slash, last = element.get("Target", "").partition("/")
        self._apart.setdefault(f"{self._full(path)}{slash}{last}", []).extend(collect(element, "Annotation"))

    def of(self, path: str, element: Element) -> Notes:
        """What is said of the thing at this path, whose element this is."""
        return Notes([*collect(element, "Annotation"), *self._apart.get(path, ())], self._full)


def collect(element: Element | None, name: str) -> list[Element]:
    """The children of that name, whatever their namespace."""
    return [] if element is None else [child for child in element if local(child) == name]
