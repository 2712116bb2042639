"""The functions of the expression language about money: amounts in the smallest coin of their currency, nothing lost.

Codes and decimals are those of ISO 4217 (currencies in use in 2025; withdrawn ones are unknown).
"""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from ipaas_resources.core.values import Value
from mappings.expressions.function import Function
from mappings.expressions.guards import (
    EXACT,
    RuleError,
    Steps,
    canonical,
    charge_items,
    checked_list,
    checked_number,
    checked_text,
    empty,
    kind_name,
    too_large,
    whole,
)
from mappings.expressions.numbers import rounding_of, to_decimals

_TWO: Final = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP
    COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR
    JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN
    NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL
    THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
"""
_OTHERS: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
DECIMALS: Final[Mapping[str, int]] = {
    **dict.fromkeys(_TWO.split(), 2),
    **{code: decimals for decimals, codes in _OTHERS.items() for code in codes.split()},
}
"""Currency -> decimals of its smallest coin. Metals, funds and tests (XAU, XXX) have none and are not listed."""

_CODE_LENGTH: Final = 3
_MOST_DECIMALS: Final = 12
_LARGEST: Final = 10**30  # of an amount that is split, and of a weight
_SMALLEST: Final = -30  # exponent of a weight
_SCALE: Final = 10**-_SMALLEST


def decimals_of(currency: Value) -> int:
    """The decimals of a currency.

    Raises:
        RuleError: there is no such currency, or it is not named.
    """
    if empty(currency):
        raise RuleError("currency", 'the amount has no currency; name one for that case: currency or "EUR"')
    code = checked_text(currency)
    found = DECIMALS.get(code.strip().upper()) if len(code) <= _CODE_LENGTH * 2 else None
    if found is None:
        raise RuleError(
            "currency", "a text is no currency of ISO 4217 with a smallest coin; EUR or USD is needed"
        )
    return found


def money(x: Value, currency: Value, mode: Value = "half_up") -> Value:
    """The amount in whole coins of its currency."""
    rounding = rounding_of(mode)
    return None if x is None else to_decimals(x, decimals_of(currency), rounding)


def allocate(total: Value, weights: Value, currency: Value = 2, steps: Steps | None = None) -> Value:
    """The total in rounded parts, one per weight, that add up to it exactly.

    What rounding down leaves goes, coin by coin, to the parts that lost most; at a tie to the first.
    """
    if total is None or weights is None:
        return None
    decimals = (
        whole(currency, "the number of decimals", _MOST_DECIMALS)
        if type(currency) is int
        else decimals_of(currency)
    )
    if decimals < 0:
        raise RuleError("type", "the number of decimals is 0 or more")
    charge_items(steps, len(checked_list(weights)), 40)
    coins = _coins(total, decimals)
    shares = [_share(weight) for weight in weights]
    whole_weight = sum(shares)
    if not whole_weight:
        raise RuleError("zero", "there is no weight above 0 to split an amount by")
    sign, left = (-1, -coins) if coins < 0 else (1, coins)
    parts, losses = [], []
    for place, share in enumerate(shares):
        part, loss = divmod(left * share, whole_weight)
        parts.append(part)
        losses.append((-loss, place))
    for _loss, place in sorted(losses)[: left - sum(parts)]:
        parts[place] += 1
    return [canonical(Decimal(sign * part).scaleb(-decimals, EXACT)) for part in parts]


def _coins(total: Value, decimals: int) -> int:
    number = checked_number(total)
    if not -_LARGEST < number < _LARGEST:
        too_large("an amount is too large to split")
    coins = Decimal(number).scaleb(decimals, EXACT)
    if coins != coins.to_integral_value(decimal.ROUND_DOWN):
        raise RuleError(
            "number", "an amount has more decimals than its parts; round it first with money or round"
        )
    return int(coins)


def _share(weight: Value) -> int:
    if type(weight) not in (int, Decimal):
        raise RuleError("type", f"a weight is a number, there is {kind_name(weight)}")
    if weight < 0:
        raise RuleError("number", "a weight is below 0")
    if weight >= _LARGEST:
        too_large("a weight is too large")
    if type(weight) is int:
        return weight * _SCALE
    if int(weight.as_tuple().exponent) < _SMALLEST:
        weight = weight.quantize(Decimal((0, (1,), _SMALLEST)), decimal.ROUND_HALF_UP, EXACT)
    return int(weight.scaleb(-_SMALLEST, EXACT))


FUNCTIONS: Final[Mapping[str, Function]] = {
    "money": Function(
        money,
        2,
        3,
        "number",
        "money(x, currency, mode): x in whole coins of the currency (ISO 4217); modes as for round",
        weight=4,
    ),
    "allocate": Function(
        allocate,
        2,
        3,
        "list",
        "allocate(total, weights, currency): rounded parts by weight that add up to the total exactly",
        steps=2_500,
        weight=4,
    ),
}
