"""The text that a tree was parsed from, and whether its names are spelled as the parser reads them."""

from __future__ import annotations

import ast
import re


class Source:
    """The text that a tree was parsed from, ready to be cut out by node."""

    def __init__(self, text: str) -> None:
        # The parser counts lines as the file reader does, and columns in bytes.
        self._text = text
        self._lines = [line.encode() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]

    def of(self, node: ast.expr) -> str:
        """What stands in the text for a node that does not run over lines."""
        return self._cut(node.lineno, node.col_offset, node.end_col_offset)

    def _cut(self, line: int, start: int | None, end: int | None) -> str:
        if not 1 <= line <= len(self._lines):
            return ""
        return self._lines[line - 1][start:end].decode(errors="replace")

    def spells(self, node: ast.Name, name: str) -> bool:
        """True when a name stands in the text letter by letter."""
        return self.of(node) == name or self._spells_somewhere(node, name)

    def spells_method(self, node: ast.Attribute) -> bool:
        """True when the name behind the point stands in the text letter by letter."""
        end = node.end_col_offset or 0
        start = max(0, end - len(node.attr.encode()))
        return self._cut(node.end_lineno or 0, start, end) == node.attr or self._spells_somewhere(
            node, node.attr
        )

    def _spells_somewhere(self, node: ast.expr, name: str) -> bool:
        # In some f-strings over several lines the parser loses the place: then the plain name must be in the text.
        if not self.of(node).isascii() or not name.isascii():
            return False
        return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", self._text, re.ASCII) is not None
