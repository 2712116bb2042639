"""What a check of a flow finds: faults, which stop a save, and warnings, which do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mappings.faults import Fault, Path, dotted, unknown_name

if TYPE_CHECKING:
    from collections.abc import Collection

    from mappings.checking.fits import Misfit
    from mappings.spec import Flow


class Notes:
    """Collects faults and warnings of one flow, each with file and line."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._faults: list[Fault] = []
        self._warnings: list[Fault] = []

    def fault(self, path: Path, what: str, *, closest: str = "", valid: tuple[str, ...] = ()) -> None:
        """Something that cannot work."""
        self._faults.append(self._at(path, what, closest, valid))

    def misfit(self, path: Path, found: Misfit) -> None:
        """A value that cannot be in its field."""
        self.fault(path, found.what, closest=found.closest, valid=found.valid)

    def unknown(self, path: Path, what: str, name: str, known: Collection[str], *, way: str = "") -> None:
        """A name that does not exist; `way` is what to write where no name was meant."""
        file, line = self._flow.place(path)
        fault = unknown_name(what, name, tuple(known), path=path, file=file, line=line)
        self._faults.append(msgspec.structs.replace(fault, what=f"{fault.what}; {way}") if way else fault)

    def warn(self, path: Path, what: str, *, closest: str = "") -> None:
        """Something that works, though perhaps not as it was meant."""
        self._warnings.append(self._at(path, what, closest, ()))

    def faults(self) -> list[Fault]:
        """In the order of the text, each once."""
        return _sorted(self._faults)

    def warnings(self) -> list[Fault]:
        """In the order of the text, each once."""
        return _sorted(self._warnings)

    def _at(self, path: Path, what: str, closest: str, valid: tuple[str, ...]) -> Fault:
        file, line = self._flow.place(path)
        return Fault(path=dotted(path), what=what, file=file, line=line, closest=closest, valid=valid)


def _sorted(found: list[Fault]) -> list[Fault]:
    return sorted(dict.fromkeys(found), key=lambda fault: (fault.file, fault.line))
