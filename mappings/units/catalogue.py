"""The units of UN/ECE Recommendation 20 and the package types of Recommendation 21, as rec20.csv and rec21.csv list them."""

from __future__ import annotations

import csv
import functools
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER: Final = Path(__file__).parent


class Unit(msgspec.Struct, frozen=True):
    """One unit of measure."""

    code: str  # the Rec 20 code; X and the Rec 21 code for a package
    name: str
    symbol: str = ""  # "" where Rec 20 has none
    status: str = ""  # "", D: deprecated, X: deleted
    kind: str = ""  # units of one kind convert into each other; "": into none
    #: value in the base unit of its kind = (value + offset) * numerator / denominator
    numerator: int = 0
    denominator: int = 1
    offset: Decimal = Decimal(0)


@functools.cache
def units() -> Mapping[str, Unit]:
    """Every unit of Rec 20 by its code, deleted ones too."""
    found: dict[str, Unit] = {}
    for row in read_table("rec20.csv"):
        factor = Fraction(row["factor"] or 0)
        found[row["code"]] = Unit(
            code=row["code"],
            name=row["name"],
            symbol=row["symbol"],
            status=row["status"],
            kind=row["kind"],
            numerator=factor.numerator,
            denominator=factor.denominator,
            offset=Decimal(row["offset"] or 0),
        )
    return found


@functools.cache
def packages() -> Mapping[str, Unit]:
    """Every package type by its code with the X before it."""
    return {row["code"]: Unit(code=row["code"], name=row["name"]) for row in read_table("rec21.csv")}


def unit_named(code: str) -> Unit | None:
    """The unit or package of a code that may be used; None for a deleted code and for none at all."""
    unit = units().get(code) or packages().get(code)
    return None if unit is None or unit.status == "X" else unit


def read_table(name: str) -> list[dict[str, str]]:
    """The rows of one of our files."""
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))
