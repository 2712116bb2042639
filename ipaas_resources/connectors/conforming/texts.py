"""Conformance of values: whatever a product can hold arrives unharmed, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ipaas_resources.connectors.conforming.rig import Rig, need
from ipaas_resources.core.records import Outcome
from ipaas_resources.core.values import canonical_number, decode, encode_canonical, escape_text

if TYPE_CHECKING:
    from ipaas_resources.connectors.conforming.case import ConformanceCase

LONG = "0123456789" * 1_000


class ValueTests:
    """What every connector promises of the values that it carries."""

    async def test_hostile_text_is_read_unharmed(self, rig: Rig, case: ConformanceCase) -> None:
        planted = {case.plant(rig.fake, {case.text_field: text}): text for text in case.hostile_texts}
        documents = (await rig.scan(case.writable)).documents()
        for number, (identifier, text) in enumerate(planted.items()):
            assert documents[identifier][case.text_field] == escape_text(text), f"text number {number}"
            assert decode(encode_canonical(documents[identifier])) == documents[identifier]

    async def test_one_hostile_record_leaves_its_neighbours_alone(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        plain = case.plant(rig.fake, {})
        alone = (await rig.scan(case.writable)).documents()[plain]
        for text in case.hostile_texts:
            case.plant(rig.fake, {case.text_field: text})
        assert (await rig.scan(case.writable)).documents()[plain] == alone

    async def test_a_value_that_breaks_its_type_sets_one_record_aside(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        if case.unreadable is None:
            pytest.skip("the case names no value that breaks its type")
        good = [case.plant(rig.fake, {}) for _ in range(2)]
        bad = case.plant(rig.fake, dict([case.unreadable]))
        good.append(case.plant(rig.fake, {}))
        scan = await rig.scan(case.writable)
        assert sorted(scan.documents()) == sorted(good)
        ((identifier, error),) = scan.faults
        assert (identifier, error.field) == (bad, case.unreadable[0])
        assert str(case.unreadable[1]) not in str(error)
        assert scan.pages[-1].complete, "the record is there; that it cannot be read makes nobody delete it"
        assert sorted(i for page in await rig.all_keys(case.writable) for i in page.ids) == sorted(
            [*good, bad]
        )

    async def test_hostile_text_is_written_unharmed(self, rig: Rig, case: ConformanceCase) -> None:
        for number, text in enumerate(case.hostile_texts):
            (result,) = await rig.write(rig.create(number, {case.text_field: escape_text(text)}))
            assert result.outcome is Outcome.APPLIED, f"text number {number}: {result.error}"
            assert case.stored(rig.fake, result.id or "")[case.text_field] == text, f"text number {number}"

    async def test_ten_thousand_characters_pass_both_ways(self, rig: Rig, case: ConformanceCase) -> None:
        need("" if case.long_text_field else case.no_long_text)
        (result,) = await rig.write(rig.create(1, {case.long_text_field: LONG}))
        assert result.outcome is Outcome.APPLIED, result.error
        assert case.stored(rig.fake, result.id or "")[case.long_text_field] == LONG
        (found,) = await rig.read(case.writable, [result.id or ""])
        assert found is not None
        assert found.document[case.long_text_field] == LONG

    async def test_a_number_keeps_every_digit_both_ways(self, rig: Rig, case: ConformanceCase) -> None:
        need("" if case.decimal_field else case.no_decimal)
        for number, value in enumerate(case.decimals):
            canonical = canonical_number(value)
            identifier = case.plant(rig.fake, {case.decimal_field: value})
            (found,) = await rig.read(case.writable, [identifier])
            assert found is not None
            assert found.document[case.decimal_field] == canonical
            assert not isinstance(found.document[case.decimal_field], float)
            (result,) = await rig.write(rig.create(number, {case.decimal_field: canonical}))
            assert result.outcome is Outcome.APPLIED, result.error
            assert case.stored(rig.fake, result.id or "")[case.decimal_field] == value

    async def test_the_products_empty_is_null(self, rig: Rig, case: ConformanceCase) -> None:
        need("" if case.empties else "this entity has no other spelling of empty than null")
        for field, wire in case.empties:
            identifier = case.plant(rig.fake, {field: wire})
            (found,) = await rig.read(case.writable, [identifier])
            assert found is not None
            assert found.document[field] is None, field

    async def test_enums_are_decoded_and_encoded(self, rig: Rig, case: ConformanceCase) -> None:
        need("" if case.enums else "this entity has no enum that can be written")
        schema = await rig.schema(case.writable)
        for number, (name, wire, member) in enumerate(case.enums):
            field = schema.field(name)
            assert field is not None
            assert field.enum is not None
            assert member in field.enum
            identifier = case.plant(rig.fake, {name: wire})
            (found,) = await rig.read(case.writable, [identifier])
            assert found is not None
            assert found.document[name] == member
            if field.creatable:
                (result,) = await rig.write(rig.create(number, {name: member}))
                assert result.outcome is Outcome.APPLIED, result.error
                assert case.stored(rig.fake, result.id or "")[name] == wire
