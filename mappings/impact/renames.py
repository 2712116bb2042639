"""Which new field a field that is gone has probably become: a proposal with a score, never applied by itself.

Three things speak for a rename: the names say the same in other letters, the types and lengths agree, and the values
are the same. Values count most where the same records are known from before and after.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from ipaas_resources.core.values import Value, encode_canonical

if TYPE_CHECKING:
    from ipaas_resources.core.schema import FieldSchema

Samples = Mapping[str, Mapping[str, Value]]
"""field -> record id -> value: of records as they were, or as they are now."""

THRESHOLD: Final = 0.7
"""Scores below are no proposal."""
MARGIN: Final = 0.08
"""Two candidates nearer than this to each other are ambiguous."""

_FEW: Final = 3  # records: fewer prove nothing
_NAME, _TYPE, _VALUES = 0.5, 0.2, 0.3  # weights; without samples the values' share goes to the other two
_OPPOSED: Final = 0.45  # no more for names that say the opposite, however alike their letters are


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A new field that the old one may have become."""

    field: str
    score: float  # 0 to 1
    name: float
    type: float
    values: float | None  # None: there were not enough values to compare

    def why(self) -> str:
        """What the score is made of, for people."""
        said = [f"name {self.name:.0%} alike", f"type and length {self.type:.0%}"]
        if self.values is not None:
            said.append(f"values {self.values:.0%} the same")
        return ", ".join(said)


class Rename(msgspec.Struct, frozen=True, kw_only=True):
    """What a field that is gone has probably become."""

    field: str
    candidates: tuple[Candidate, ...]  # the best first

    #: Other fields that are gone and claim the same best candidate.
    rivals: tuple[str, ...] = ()
    #: A person has to choose: several are about equally likely.
    ambiguous: bool = False

    def __str__(self) -> str:
        """The end of a sentence for people."""
        names = " or ".join(f"{each.field} ({each.score:.2f})" for each in self.candidates)
        if not self.ambiguous:
            return f"probably renamed to {names}"
        also = f", which {' and '.join(self.rivals)} may have become as well" if self.rivals else ""
        return f"perhaps renamed, but that is ambiguous: {names}{also}"


def propose(
    removed: Sequence[FieldSchema],
    added: Sequence[FieldSchema],
    *,
    before: Samples | None = None,
    after: Samples | None = None,
) -> dict[str, Rename]:
    """Removed field -> what it probably became; fields without a likely one are left out.

    A new field that two old ones claim goes to the one with the clearly higher score; else both name it, and both
    are ambiguous.
    """
    scores = {
        (old.name, new.name): _candidate(old, new, before or {}, after or {})
        for old in removed
        for new in added
    }
    likely = {pair: found for pair, found in scores.items() if found.score >= THRESHOLD}
    found: dict[str, Rename] = {}
    for old in removed:
        own = sorted(
            (candidate for (name, _), candidate in likely.items() if name == old.name),
            key=lambda candidate: (-candidate.score, candidate.field),
        )
        own = [candidate for candidate in own if not _is_taken(old.name, candidate, likely)]
        if own:
            near = [candidate for candidate in own if candidate.score > own[0].score - MARGIN]
            found[old.name] = Rename(field=old.name, candidates=tuple(near))
    return _both_ways(found)


def _is_taken(name: str, candidate: Candidate, likely: Mapping[tuple[str, str], Candidate]) -> bool:
    """True when another old field fits this new one clearly better."""
    return any(
        other.score >= candidate.score + MARGIN
        for (old, new), other in likely.items()
        if new == candidate.field and old != name
    )


def _both_ways(found: dict[str, Rename]) -> dict[str, Rename]:
    """Two old fields that both became the one new field cannot both be right: a person chooses."""
    claims: dict[str, list[str]] = {}
    for rename in found.values():
        claims.setdefault(rename.candidates[0].field, []).append(rename.field)
    told = {}
    for old, rename in found.items():
        rivals = tuple(each for each in claims[rename.candidates[0].field] if each != old)
        ambiguous = bool(rivals) or len(rename.candidates) > 1
        told[old] = msgspec.structs.replace(rename, rivals=rivals, ambiguous=ambiguous)
    return told


def _candidate(old: FieldSchema, new: FieldSchema, before: Samples, after: Samples) -> Candidate:
    name = name_similarity(old.name, new.name)
    kind = type_similarity(old, new)
    values = value_similarity(before.get(old.name, {}), after.get(new.name, {}))
    if values is None:
        score = (_NAME * name + _TYPE * kind) / (_NAME + _TYPE)
    else:
        score = _NAME * name + _TYPE * kind + _VALUES * values
        if values == 1.0:
            # The same records with the same values under another name: the name alone says little against that.
            score = max(score, 0.5 + 0.3 * kind + 0.2 * name)
    if kind == 0:
        score *= 0.5  # a text does not become a date by a new name
    return Candidate(
        field=new.name,
        score=round(score, 2),
        name=round(name, 2),
        type=round(kind, 2),
        values=None if values is None else round(values, 2),
    )


# --- names --------------------------------------------------------------------------------------------------------

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
#: What a publisher puts in front of custom fields (Dataverse), and what marks them behind (Salesforce).
_PREFIX: Final = re.compile(
    r"(?:new|cr[0-9a-f]{2,5}|msdyn|msdynmkt|bcbi|ext|custom|x)_+(?=\w)", re.IGNORECASE
)
_SUFFIX: Final = re.compile(r"__(?:c|pc|x)$", re.IGNORECASE)
#: Short forms of field names -> the word they stand for.
_LONG_FORMS: Final[Mapping[str, str]] = {
    "no": "number", "nr": "number", "num": "number", "nbr": "number", "qty": "quantity", "amt": "amount",
    "desc": "description", "descr": "description", "addr": "address", "tel": "phone", "telephone": "phone",
    "mobile": "mobile", "mail": "email", "zip": "postcode", "postal": "postcode", "cust": "customer",
    "acct": "account", "org": "organization", "organisation": "organization", "curr": "currency", "ccy": "currency",
    "uom": "unitofmeasure", "dt": "date", "lang": "language", "dept": "department", "mgr": "manager",
    "pct": "percent", "percentage": "percent", "disc": "discount", "inv": "invoice", "ref": "reference",
    "ext": "external", "cat": "category", "grp": "group", "min": "minimum", "max": "maximum", "avg": "average",
    "modified": "changed", "updated": "changed", "on": "date",
}  # fmt: skip
#: Words that say little: two names that differ in these alone are nearly the same.
_FILLERS: Final = frozenset(
    {"code", "id", "text", "value", "field", "name", "key", "is", "the", "of", "to", "at", "display"}
)
#: Of each group, two different words are two different things.
_OPPOSITES: Final[Sequence[frozenset[str]]] = tuple(
    map(
        frozenset,
        (
            ("bill", "ship", "sell", "buy", "pay"), ("start", "end", "begin", "finish"), ("from", "until"),
            ("minimum", "maximum", "average"), ("first", "last", "middle"), ("created", "changed", "deleted"),
            ("net", "gross"), ("including", "excluding"), ("debit", "credit"), ("cost", "price"),
            ("phone", "fax", "mobile", "email"), ("home", "work", "business"), ("in", "out"), ("customer", "vendor"),
            ("purchase", "sales"), ("due", "order", "delivery", "posting"), ("width", "height", "length", "weight"),
            ("quantity", "amount", "price"), ("city", "country", "county", "state", "street", "postcode"),
        ),
    )
)  # fmt: skip

#: Words that make another thing of what they stand beside: phoneNumber, mobilePhoneNumber.
_QUALIFIERS: Final = frozenset(
    {
        "mobile",
        "fax",
        "minimum",
        "maximum",
        "average",
        "previous",
        "old",
        "shipped",
        "received",
        "invoiced",
        "not",
    }
)


def name_words(name: str) -> list[str]:
    """The words of a field's name, small, in full, without what a publisher put around them."""
    bare = _SUFFIX.sub("", _PREFIX.sub("", name, count=1)) or name
    bare = re.sub(r"e-?mail", "Email", bare, flags=re.IGNORECASE)
    bare = re.sub(r"post(?:al)?[ _]?code", "Postcode", bare, flags=re.IGNORECASE)
    words = [word.lower() for word in _WORD.findall(bare)]
    return [_LONG_FORMS.get(word, word) for word in words]


def name_similarity(old: str, new: str) -> float:
    """How much two names of fields say the same, 0 to 1."""
    if old == new:
        return 1.0
    olds, news = name_words(old), name_words(new)
    joined = "".join(olds), "".join(news)
    if joined[0] == joined[1]:
        return 1.0
    if "".join(sorted(olds)) == "".join(sorted(news)):
        return 0.95  # the same words in another order
    letters = difflib.SequenceMatcher(None, *joined, autojunk=False).ratio()
    words = _word_similarity(olds, news)
    found = max(words, (letters + words) / 2)
    shorter, longer = sorted(joined, key=len)
    if _runs_on(olds, news) or _runs_on(news, olds):
        found = max(found, letters)
    if len(shorter) >= _SPEAKING and (longer.startswith(shorter) or longer.endswith(shorter)):
        found = max(found, _CONTAINED)
    return min(found, _OPPOSED) if _are_opposed(olds, news) else found


_SPEAKING: Final = 4  # letters: shorter names are part of many others by chance
_CONTAINED: Final = 0.6  # email, emailaddress1
_LONG_WORD: Final = 10


def _runs_on(words: Sequence[str], others: Sequence[str]) -> bool:
    """True when a name has its words in one, as Dataverse writes them: estimatedclosedate."""
    return len(words) == 1 and len(words[0]) >= _LONG_WORD and len(others) > 1


def _word_similarity(olds: Sequence[str], news: Sequence[str]) -> float:
    """Dice's coefficient over words; a filler weighs a quarter, words spelled alike count in part."""
    left = list(news)
    shared = 0.0
    for word in olds:
        best = max(left, key=lambda other: _likeness(word, other), default=None)
        if best is None or (likeness := _likeness(word, best)) < 0.75:  # noqa: PLR2004 - spelled alike
            continue
        shared += likeness * (_weight(word) + _weight(best))
        left.remove(best)
    total = sum(map(_weight, [*olds, *news]))
    return shared / total if total else 0.0


def _likeness(word: str, other: str) -> float:
    return 1.0 if word == other else difflib.SequenceMatcher(None, word, other, autojunk=False).ratio()


def _weight(word: str) -> float:
    return 0.25 if word in _FILLERS else 1.0


def _are_opposed(olds: Sequence[str], news: Sequence[str]) -> bool:
    """address1_line1 is not address1_line2, Address not Address 2, shipToCity not billToCity."""
    numbers = [sorted(word for word in words if word.isdigit()) for words in (olds, news)]
    if numbers[0] != numbers[1] and (all(numbers) or set(numbers[0] + numbers[1]) != {"1"}):
        return True
    if _QUALIFIERS & (set(olds) ^ set(news)):
        return True
    for group in _OPPOSITES:
        mine, theirs = _members(group, olds), _members(group, news)
        if mine and theirs and not mine & theirs:
            return True
    return False


def _members(group: frozenset[str], words: Sequence[str]) -> set[str]:
    """The words of a group that a name holds, also where the name runs its words together."""
    if len(words) > 1:
        return set(group.intersection(words))
    joined = "".join(words)
    return {word for word in group if word == joined or (len(word) >= _SPEAKING and word in joined)}


# --- types --------------------------------------------------------------------------------------------------------

#: Types that one field may go between and still be the same field.
_KIN: Final[Sequence[frozenset[str]]] = (
    frozenset({"integer", "decimal"}),
    frozenset({"text", "enum", "guid", "reference"}),
    frozenset({"integer", "enum", "reference"}),
    frozenset({"date", "datetime"}),
    frozenset({"lines", "list"}),
)


def type_similarity(old: FieldSchema, new: FieldSchema) -> float:
    """How much two fields take the same values, 0 to 1; 0: their types have nothing in common."""
    if old.type != new.type:
        if "any" in (old.type, new.type):
            return 0.7
        return 0.5 if any({old.type, new.type} <= kin for kin in _KIN) else 0.0
    if old.enum is not None and new.enum is not None:
        members = set(old.enum), set(new.enum)
        return 0.4 + 0.6 * len(members[0] & members[1]) / max(1, len(members[0] | members[1]))
    if old.type == "lines" and old.fields and new.fields:
        names = {field.name for field in old.fields}, {field.name for field in new.fields}
        return 0.4 + 0.6 * len(names[0] & names[1]) / len(names[0] | names[1])
    if (old.max_length, old.scale) == (new.max_length, new.scale):
        return 1.0
    return 0.85


# --- values -------------------------------------------------------------------------------------------------------


def value_similarity(before: Mapping[str, Value], after: Mapping[str, Value]) -> float | None:
    """How far the values are the same, 0 to 1; None where too few are known, or they tell nothing (all are equal).

    Records known from both sides are compared one by one, and what agrees by chance is taken off (Cohen's kappa): two
    fields that are false in nearly all records agree in nearly all. Without such records the sets of values are.
    """
    both = [
        (encode_canonical(before[record]), encode_canonical(after[record]))
        for record in before.keys() & after.keys()
        if not (_is_empty(before[record]) and _is_empty(after[record]))
    ]
    if len(both) >= _FEW:
        olds, news = Counter(old for old, _ in both), Counter(new for _, new in both)
        agree = sum(old == new for old, new in both) / len(both)
        chance = sum(many * news[value] for value, many in olds.items()) / len(both) ** 2
        return None if chance == 1 else max(0.0, (agree - chance) / (1 - chance))
    left, right = _distinct(before.values()), _distinct(after.values())
    if min(len(left), len(right)) < _FEW:
        return None
    return len(left & right) / min(len(left), len(right))


def _is_empty(value: Value) -> bool:
    return value is None or value in ("", [])


def _distinct(values: Iterable[Value]) -> set[bytes]:
    return {encode_canonical(value) for value in values if not _is_empty(value)}
