"""What is wrong with a flow: every fault at once, each with its place and the way out."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import msgspec

from ipaas_resources.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Path = tuple[str | int, ...]
"""Where something stands in a flow: ("targets", "account", "fields", "name")."""

_MANY_FAULTS = 100  # beyond this number they are counted, not listed, in the message
_MANY = 30  # valid values beyond this number are not listed: nobody reads them


def dotted(path: Iterable[str | int]) -> str:
    """The path as a person writes it: targets.account.fields.name, examples[0].in."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def closest_name(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, '' when none is near."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else ""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, and where."""

    path: str  # targets.account.fields.name; '' for the document as a whole
    what: str  # one sentence without its full stop: what is wrong and what to do
    file: str = ""
    line: int = 0  # 1-based; 0 where the flow was not read from text
    valid: tuple[str, ...] = ()  # what could stand here
    closest: str = ""  # what was probably meant

    def __str__(self) -> str:
        """One line: file:line: path: what; did you mean ...? Valid: ..."""
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        text = ": ".join(part for part in (place, self.path, self.what) if part)
        if self.closest:
            text += f"; did you mean {self.closest}?"
        if self.valid and len(self.valid) <= _MANY:
            text += f"{'' if text.endswith('?') else '.'} Valid: {', '.join(self.valid)}"
        return text


def unknown_name(
    what: str, name: str, known: Sequence[str], *, path: Path, file: str = "", line: int = 0
) -> Fault:
    """The fault of a name that is not among the known ones."""
    return Fault(
        path=dotted(path),
        what=f"{what} {name!r} does not exist",
        file=file,
        line=line,
        valid=tuple(known),
        closest=closest_name(name, known),
    )


class FlowErrors(ConfigurationError):  # noqa: N818 - it holds many
    """A flow says something that cannot be; all its faults are listed."""

    code = "flow"

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.file, fault.line)))
        count = f"{len(self.faults)} faults" if len(self.faults) != 1 else "1 fault"
        listing = "\n".join(f"  {fault}" for fault in self.faults[:_MANY_FAULTS])
        if len(self.faults) > _MANY_FAULTS:
            listing += f"\n  ... and {len(self.faults) - _MANY_FAULTS} more"
        super().__init__(f"{count} in the flow, nothing was changed:\n{listing}")
