"""python -m benchmarks.mapping --json: a 30-field flow with all seven transforms, beside the same output by other means.

Beside it, on the same records and with the same output (checked in every run): hand-written Python, simpleeval (every
field an expression given to `eval`, as its manual shows; `ratio_simpleeval_parsed` with trees kept by the caller), and
pandas column operations. Best of three rounds each, taken in turns, process time of one core. `ratio_handwritten` is our
time over theirs; the other ratios are theirs over ours.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import itertools
import json
import sys
import time
import zoneinfo
from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pandas as pd
import simpleeval

from ipaas_resources.core.values import Document, canonical_number
from mappings.compiler import compile_flow
from mappings.load import load_flow
from mappings.mapped import MISSING, LinkHit, RefUse

FLOW = """
flow: bench
source: {system: bc, entity: customers}
when: blocked != "All"
targets:
  account:
    system: crm
    entity: accounts
    key: {accountnumber: number}
    fields:
      name: displayName
      telephone1: phoneNumber
      emailaddress1: email
      websiteurl: website
      address1_line1: addressLine1
      address1_line2: addressLine2
      address1_city: city
      address1_postalcode: postalCode
      address1_country: country
      salesperson: salespersonCode
      taxnumber: taxRegistrationNumber
      customertypecode: 3
      address1_composite: {template: "{addressLine1}, {postalCode} {city}"}
      description: {template: "Customer {number} of {city}, {country}"}
      fileas: {template: "{displayName} ({number})"}
      externalkey: {template: "{$scope}-{number}"}
      paymentterms: {lookup: terms, of: paymentTermsCode, missing: {default: "0"}}
      shippingmethod: {lookup: shipping, of: shipmentMethodCode, missing: null}
      currencycode: {lookup: currencies, of: currencyCode, missing: {default: GBP}}
      creditonhold: {if: "balanceDue > creditLimit", then: true, else: false}
      ratingcode: {if: "balanceDue == 0 and creditLimit > 1000", then: {const: A}, else: {const: B}}
      donotmail: {if: 'blocked in ["All", "Ship"] or email == ""', then: true, else: false}
      creditlimit: {math: "round(creditLimit * 1.1, 2)"}
      openamount: {math: "creditLimit - balanceDue"}
      discount: {math: "round(balanceDue / 100 * discountPercent, 2)"}
      openedon: {date: created, to: date, tz: Europe/London}
      modifiedon: {date: lastModified, to: "%d.%m.%Y"}
      region: {python: "upper(left(country, 2)) if country else null"}
      contact: {python: "coalesce(contactName, displayName)"}
"""

SCOPE = "cronus"
TERMS = {f"T{number}": str(number) for number in range(10)}
SHIPPING = {"EXW": "1", "DAP": "2"}
CURRENCIES = {"EUR": "EUR", "USD": "USD"}
TABLES = {"terms": TERMS, "shipping": SHIPPING, "currencies": CURRENCIES}
LONDON = zoneinfo.ZoneInfo("Europe/London")
CENT = Decimal("0.01")
CHUNK = 1_000  # as the engine maps them; results are dropped, as there
SIMPLEEVAL_SHARE = 10  # it gets a tenth of the records: its time per record does not hang on their number


def records(count: int) -> list[Document]:
    """Customers as the mirror gives them: exact numbers, canonical times, some values null or empty."""
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    made = []
    for n in range(count):
        created = (start + dt.timedelta(minutes=37 * n)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        made.append(
            {
                "number": f"C{n:06d}",
                "displayName": f"Laboratory {n}",
                "phoneNumber": "+44 20 7946 0000",
                "email": "" if n % 7 == 0 else f"lab{n}@example.org",
                "website": "https://example.org",
                "addressLine1": f"{n} Gauge Road",
                "addressLine2": "",
                "city": "York",
                "postalCode": "YO1 7HH",
                "country": ("gb", "de", None)[n % 3],
                "salespersonCode": "JO",
                "taxRegistrationNumber": f"GB{n:09d}",
                "paymentTermsCode": f"T{n % 12}",
                "shipmentMethodCode": ("EXW", "DAP", "FOB")[n % 3],
                "currencyCode": ("EUR", "USD", "", None)[n % 4],
                "blocked": ("", "Ship", "", "", "")[n % 5],
                "creditLimit": Decimal(n % 5000),
                "balanceDue": Decimal(n % 900) / 8,
                "discountPercent": Decimal("2.5"),
                "created": created,
                "lastModified": created,
                "contactName": None if n % 2 else "A. Turner",
            }
        )
    return made


class Tables:
    """The lookup tables; the flow follows no links."""

    def link(self, ref: RefUse, value: str) -> LinkHit | None:
        """No link."""
        raise AssertionError((ref, value))

    def lookup(self, table: str, key: str) -> Any:
        """The entry."""
        return TABLES[table].get(key, MISSING)


def compiled() -> Callable[[list[Document]], list[Document]]:
    """Our own: what a run calls for every record."""
    target = compile_flow(load_flow(FLOW, name="bench")).targets["account"]
    when, mapping, tables = target.when, target.map, Tables()

    def run(chunk: list[Document]) -> list[Document]:
        mapped = [mapping(document, SCOPE, "1", tables) for document in chunk if when(document, SCOPE)]
        return [image.values for image in mapped]  # noqa: PD011 - no frame

    return run


def handwritten() -> Callable[[list[Document]], list[Document]]:
    """What a careful programmer writes for this one flow."""

    def plain(number: Decimal) -> Decimal | int:
        whole = number.to_integral_value()
        return int(whole) if number == whole else number.normalize()

    def one(get: Callable[[str], Any]) -> Document:
        number, name, city, country = get("number"), get("displayName"), get("city"), get("country")
        line, code, email, blocked = get("addressLine1"), get("postalCode"), get("email"), get("blocked")
        limit, due, currency = get("creditLimit"), get("balanceDue"), get("currencyCode")
        created = dt.datetime.fromisoformat(get("created")).astimezone(LONDON)
        modified = dt.datetime.fromisoformat(get("lastModified"))
        return {
            "accountnumber": number,
            "name": name,
            "telephone1": get("phoneNumber"),
            "emailaddress1": email,
            "websiteurl": get("website"),
            "address1_line1": line,
            "address1_line2": get("addressLine2"),
            "address1_city": city,
            "address1_postalcode": code,
            "address1_country": country,
            "salesperson": get("salespersonCode"),
            "taxnumber": get("taxRegistrationNumber"),
            "customertypecode": 3,
            "address1_composite": f"{line}, {code} {city}",
            "description": f"Customer {number} of {city}, {country or ''}",
            "fileas": f"{name} ({number})",
            "externalkey": f"{SCOPE}-{number}",
            "paymentterms": TERMS.get(get("paymentTermsCode"), "0"),
            "shippingmethod": SHIPPING.get(get("shipmentMethodCode")),
            "currencycode": CURRENCIES.get(currency, "GBP") if currency else None,
            "creditonhold": due > limit,
            "ratingcode": "A" if due == 0 and limit > 1000 else "B",  # noqa: PLR2004
            "donotmail": blocked in ("All", "Ship") or email == "",
            "creditlimit": plain((limit * Decimal("1.1")).quantize(CENT, ROUND_HALF_UP)),
            "openamount": plain(limit - due),
            "discount": plain((due / 100 * get("discountPercent")).quantize(CENT, ROUND_HALF_UP)),
            "openedon": created.date().isoformat(),
            "modifiedon": modified.strftime("%d.%m.%Y"),
            "region": country[:2].upper() if country else None,
            "contact": name if get("contactName") is None else get("contactName"),
        }

    return lambda chunk: [one(document.get) for document in chunk if document["blocked"] != "All"]


EXPRESSIONS = {
    "accountnumber": "number",
    "name": "displayName",
    "telephone1": "phoneNumber",
    "emailaddress1": "email",
    "websiteurl": "website",
    "address1_line1": "addressLine1",
    "address1_line2": "addressLine2",
    "address1_city": "city",
    "address1_postalcode": "postalCode",
    "address1_country": "country",
    "salesperson": "salespersonCode",
    "taxnumber": "taxRegistrationNumber",
    "customertypecode": "3",
    "address1_composite": "addressLine1 + ', ' + postalCode + ' ' + city",
    "description": "'Customer ' + number + ' of ' + city + ', ' + (country or '')",
    "fileas": "displayName + ' (' + number + ')'",
    "externalkey": "scope + '-' + number",
    "paymentterms": "lookup(terms, paymentTermsCode, '0')",
    "shippingmethod": "lookup(shipping, shipmentMethodCode, None)",
    "currencycode": "lookup(currencies, currencyCode, 'GBP') if currencyCode else None",
    "creditonhold": "balanceDue > creditLimit",
    "ratingcode": "'A' if balanceDue == 0 and creditLimit > 1000 else 'B'",
    "donotmail": "blocked == 'All' or blocked == 'Ship' or email == ''",
    "creditlimit": "cents(creditLimit * factor)",
    "openamount": "canonical(creditLimit - balanceDue)",
    "discount": "cents(balanceDue / 100 * discountPercent)",
    "openedon": "london(created)",
    "modifiedon": "german(lastModified)",
    "region": "upper(left(country, 2)) if country else None",
    "contact": "displayName if contactName == None else contactName",
}


def by_simpleeval(*, parsed_once: bool) -> Callable[[list[Document]], list[Document]]:
    """Every field an expression for simpleeval."""
    evaluator = simpleeval.SimpleEval(
        functions={
            "lookup": lambda table, key, default: table.get(key, default),
            "cents": lambda number: canonical_number(number.quantize(CENT, ROUND_HALF_UP)),
            "canonical": canonical_number,
            "london": lambda text: dt.datetime.fromisoformat(text).astimezone(LONDON).date().isoformat(),
            "german": lambda text: dt.datetime.fromisoformat(text).strftime("%d.%m.%Y"),
            "upper": str.upper,
            "left": lambda text, count: text[:count],
        }
    )
    names = {
        "scope": SCOPE,
        "terms": TERMS,
        "shipping": SHIPPING,
        "currencies": CURRENCIES,
        "factor": Decimal("1.1"),
        "None": None,
    }
    parsed = {field: evaluator.parse(text) if parsed_once else None for field, text in EXPRESSIONS.items()}

    def run(chunk: list[Document]) -> list[Document]:
        made = []
        for document in chunk:
            evaluator.names = {**names, **document}
            if evaluator.eval("blocked != 'All'"):
                made.append(
                    {
                        field: evaluator.eval(text, previously_parsed=parsed[field])
                        for field, text in EXPRESSIONS.items()
                    }
                )
        return made

    return run


def by_pandas() -> Callable[[list[Document]], list[Document]]:
    """Column operations on a frame of all records of the chunk; numbers stay Decimal."""

    def cents(column: Any) -> Any:
        return column.map(lambda value: canonical_number(value.quantize(CENT, ROUND_HALF_UP)))

    def run(chunk: list[Document]) -> list[Document]:
        frame = pd.DataFrame(chunk, dtype=object)
        frame = frame[frame["blocked"] != "All"]
        get = frame.__getitem__
        country, limit, due = get("country"), get("creditLimit"), get("balanceDue")
        known = country.notna()
        made: dict[str, Any] = {
            target: get(source) for target, source in EXPRESSIONS.items() if source in frame.columns
        }
        number, city = get("number"), get("city")
        currency = get("currencyCode")
        given = currency.notna() & (currency != "")
        moments = pd.to_datetime(get("created"), utc=True)
        made |= {
            "customertypecode": pd.Series(3, index=frame.index, dtype=object),
            "address1_composite": get("addressLine1") + ", " + get("postalCode") + " " + city,
            "description": "Customer " + number + " of " + city + ", " + country.where(known, ""),
            "fileas": get("displayName") + " (" + number + ")",
            "externalkey": SCOPE + "-" + number,
            "paymentterms": get("paymentTermsCode").map(lambda key: TERMS.get(key, "0")),
            "shippingmethod": get("shipmentMethodCode").map(SHIPPING.get),
            "currencycode": currency.map(lambda key: CURRENCIES.get(key, "GBP")).where(given, None),
            "creditonhold": due > limit,
            "ratingcode": ((due == 0) & (limit > 1000)).map({True: "A", False: "B"}),  # noqa: PLR2004
            "donotmail": get("blocked").isin(["All", "Ship"]) | (get("email") == ""),
            "creditlimit": cents(limit * Decimal("1.1")),
            "openamount": (limit - due).map(canonical_number),
            "discount": cents(due / 100 * get("discountPercent")),
            "openedon": moments.dt.tz_convert("Europe/London").dt.strftime("%Y-%m-%d"),
            "modifiedon": pd.to_datetime(get("lastModified"), utc=True).dt.strftime("%d.%m.%Y"),
            "region": country.where(known, "").astype(object).str[:2].str.upper().where(known, None),
            "contact": get("contactName").where(get("contactName").notna(), get("displayName")),
        }
        out = pd.DataFrame({field: made[field].astype(object) for field in EXPRESSIONS})
        out = out.where(out.notna(), None)
        return [dict(zip(out.columns, row, strict=True)) for row in out.itertuples(index=False, name=None)]

    return run


def seconds(run: Callable[[list[Document]], list[Document]], documents: list[Document], chunk: int) -> float:
    """Process time for all documents, chunk by chunk."""
    gc.collect()
    started = time.process_time()
    for start in range(0, len(documents), chunk):
        run(documents[start : start + chunk])
    return time.process_time() - started


def checked(runs: Iterable[Callable[[list[Document]], list[Document]]], documents: list[Document]) -> None:
    """Every way gives the same."""
    outputs = [run(documents) for run in runs]
    for one, other in itertools.pairwise(outputs):
        for left, right in zip(one, other, strict=True):
            assert left == right, {key: (left[key], right[key]) for key in left if left[key] != right[key]}


def measure(count: int, rounds: int = 3) -> dict[str, float]:
    """The figures, see the module's first lines."""
    documents = records(count)
    ours, hand, frames = compiled(), handwritten(), by_pandas()
    evaluated, evaluated_parsed = by_simpleeval(parsed_once=False), by_simpleeval(parsed_once=True)
    checked((ours, hand, evaluated, evaluated_parsed, frames), documents[:2_000])
    few = documents[: max(1, count // SIMPLEEVAL_SHARE)]
    times: dict[str, list[float]] = {"ours": [], "hand": [], "simpleeval": [], "parsed": [], "pandas": []}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        times["ours"].append(seconds(ours, documents, CHUNK) / count)
        times["hand"].append(seconds(hand, documents, CHUNK) / count)
        times["pandas"].append(seconds(frames, documents, count) / count)
        times["simpleeval"].append(seconds(evaluated, few, CHUNK) / len(few))
        times["parsed"].append(seconds(evaluated_parsed, few, CHUNK) / len(few))
    best = {name: min(taken) for name, taken in times.items()}
    return {
        "records_per_s": round(1 / best["ours"]),
        "us_per_field": round(best["ours"] * 1e6 / len(EXPRESSIONS), 3),
        "ratio_handwritten": round(best["ours"] / best["hand"], 2),
        "ratio_simpleeval": round(best["simpleeval"] / best["ours"], 1),
        "ratio_simpleeval_parsed": round(best["parsed"] / best["ours"], 1),
        "ratio_pandas": round(best["pandas"] / best["ours"], 2),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    figures = measure(arguments.records)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:<20} {value}")


if __name__ == "__main__":
    main()
