"""ipaas expr eval: what an expression gives, without a flow, a database or a system.

The values that it shows are those that the person handed to it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
import msgspec

from console.cli.strict_json import JsonError, read_json, read_json_bytes, write_json
from mappings.evaluate import KINDS, RefusedExpressionError, evaluate
from mappings.expressions.guards import RuleError

_log = logging.getLogger(__name__)

#: Bytes of one line; a longer one is answered with an error and never held in memory.
MAX_LINE: Final = 4 * 1024 * 1024
_BLOCK: Final = 64 * 1024


class BadInputError(ValueError):
    """A line does not say what to evaluate; the message says why and holds no value."""


class Answer(msgspec.Struct, frozen=True):
    """What came of one line: a value, or the class of an error with its sentence."""

    ok: bool
    value: Any = None
    error: str = ""
    message: str = ""

    def as_json(self) -> str:
        """The line that `--json` prints."""
        if self.ok:
            return f'{{"ok": true, "value": {write_json(self.value)}}}'
        return f'{{"ok": false, "error": {write_json(self.error)}, "message": {write_json(self.message)}}}'

    def as_text(self) -> str:
        """The line for a person."""
        return write_json(self.value) if self.ok else f"{self.error}: {self.message}"


@click.group()
def expr() -> None:
    """Expressions: try one on a record."""


@expr.command("eval", short_help="Say what an expression gives for a record, or for many.")
@click.argument("expression", required=False)
@click.option(
    "--file",
    "path",
    help="One JSON object per line: kind, expr, record, table (--kind, --record and --table do not count then); - reads "
    "stdin.",
)
@click.option(
    "--kind", type=click.Choice(KINDS), default="python", show_default=True, help="What it stands in."
)
@click.option("--record", default="{}", help="The record, a JSON object.")
@click.option("--table", help="The lookup table, a JSON object.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per answer.")
def eval_command(
    expression: str | None, path: str | None, kind: str, record: str, table: str | None, *, as_json: bool
) -> None:
    """Say what EXPRESSION gives for one record, or what each line of a file gives.

    Put -- before an expression that begins with a minus. With --file the exit code is 0 when every line was answered;
    with an EXPRESSION it is 1 when there is no value.
    """
    if (expression is None) == (path is None):
        raise click.UsageError("Name one EXPRESSION, or a file of them with --file.")
    if expression is not None:
        answer = _answer_one(expression, kind, record, table)
        click.echo(answer.as_json() if as_json else answer.as_text(), err=not (answer.ok or as_json))
        sys.exit(0 if answer.ok else 1)
    assert path is not None
    if path == "-":
        _answer_all(sys.stdin.buffer, as_json=as_json)
        return
    with Path(path).open("rb") as source:
        _answer_all(source, as_json=as_json)


def _answer_one(expression: str, kind: str, record: str, table: str | None) -> Answer:
    try:
        request = {"kind": kind, "expr": expression, "record": _of_option("--record", record)}
        if table is not None:
            request["table"] = _of_option("--table", table)
        return _answer(request)
    except BadInputError as error:
        said = str(error)
        raise click.UsageError(
            f"{said}." if said.startswith("--") else f"It cannot be tried: {said}."
        ) from None


def _of_option(option: str, text: str) -> Any:
    try:
        return read_json(text)
    except JsonError as error:
        raise BadInputError(f"{option} cannot be read: {error}") from None


def _answer_all(source: BinaryIO, *, as_json: bool) -> None:
    """Answer each line as it comes; what could be read is answered before more is waited for."""
    target = sys.stdout.buffer
    number = broken = 0
    try:
        for lines in _blocks(source):
            for line in lines:
                number += 1
                if line is not None and not line.strip():
                    continue
                answer = _answer_line(line)
                broken += answer.error == _BROKEN
                text = answer.as_json() if as_json else f"{number}: {answer.as_text()}"
                target.write(text.encode() + b"\n")
            target.flush()
    except BrokenPipeError:
        # The reader has seen enough (`| head`); Python's own flush at the end must not fail on it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if broken:
        click.echo(
            f"ipaas: {broken} of {number} lines met a fault of the platform; see the log above.", err=True
        )
        sys.exit(1)


def _blocks(source: BinaryIO) -> Iterator[list[bytes | None]]:
    """The lines that each read completes; None for a line longer than MAX_LINE."""
    line = bytearray()
    too_long = False
    first = True
    while block := source.read1(_BLOCK):  # type: ignore[attr-defined]
        *ends, rest = block.split(b"\n")
        found: list[bytes | None] = []
        for end in ends:
            too_long = too_long or len(line) + len(end) > MAX_LINE
            found.append(None if too_long else bytes(line) + end)
            line.clear()
            too_long = False
        too_long = too_long or len(line) + len(rest) > MAX_LINE
        if too_long:
            line.clear()
        else:
            line += rest
        if first and found and found[0] is not None:
            # Some editors of Windows put it before UTF-8.
            found[0] = found[0].removeprefix(b"\xef\xbb\xbf")
        first = first and not found
        yield found
    if line or too_long:
        yield [None if too_long else bytes(line).removeprefix(b"\xef\xbb\xbf" if first else b"")]


_BROKEN: Final = "PlatformFault"


def _answer_line(line: bytes | None) -> Answer:
    try:
        return _answer(_request(line))
    except BadInputError as error:
        return Answer(ok=False, error="BadInput", message=f"The line cannot be used: {error}.")
    except Exception:  # noqa: BLE001 - told as a fault, see below
        # The next lines are answered whatever this one met; the exit code and the log tell that it is not the line's fault.
        _log.exception("An expression met a fault of the platform")
        return Answer(
            ok=False, error=_BROKEN, message="The platform failed on this line; the log says where."
        )


def _request(line: bytes | None) -> dict[str, Any]:
    if line is None:
        raise BadInputError(f"it is longer than {MAX_LINE} bytes")
    try:
        found = read_json_bytes(line)
    except JsonError as error:
        raise BadInputError(str(error)) from None
    if not isinstance(found, dict):
        raise BadInputError('it is no JSON object; write {"kind": ..., "expr": ..., "record": {...}}')
    return found


def _answer(request: dict[str, Any]) -> Answer:
    kind, expression = request.get("kind"), request.get("expr")
    record, table = request.get("record", {}), request.get("table")
    if kind not in KINDS:
        raise BadInputError(
            f"its kind is {'missing' if kind is None else 'not known'}. Valid: {', '.join(KINDS)}"
        )
    if not isinstance(expression, str):
        raise BadInputError("its expr is missing or no text")
    if not isinstance(record, dict):
        raise BadInputError('its record is no object; write {"FIELD": VALUE, ...}')
    if table is not None and not isinstance(table, dict):
        raise BadInputError("its table is no object")
    if kind == "lookup" and table is None:
        raise BadInputError('a lookup needs its table, such as {"KEY": VALUE, ...}')
    try:
        return Answer(ok=True, value=evaluate(kind, expression, record, table))
    except RuleError as error:
        return Answer(ok=False, error=error.class_name, message=f"{error.what}.")
    except RefusedExpressionError as error:
        return Answer(ok=False, error=error.class_name, message=_sentence(str(error)))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


COMMANDS = [expr]
