"""Text files as they stand: line ends and byte order mark are kept, for `export` gives them back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mappings.faults import Fault, FlowErrors

if TYPE_CHECKING:
    from pathlib import Path

_MARK: Final = "\ufeff"  # a byte order mark, as some editors write it


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, every byte of it.

    Raises:
        FlowErrors: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"the file is not UTF-8 text (byte {error.start}); save it as UTF-8"
    except OSError as error:
        what = f"the file cannot be read: {error.strerror or type(error).__name__}"
    raise FlowErrors([Fault(path="", what=what, file=path.name)])


def without_mark(text: str) -> str:
    """The text as a reader wants it."""
    return text.removeprefix(_MARK)
