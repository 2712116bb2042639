import datetime as dt
import json
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipaas_resources.core.errors import ContractError
from ipaas_resources.core.schema import EntitySchema, FieldSchema
from ipaas_resources.core.values import encode_canonical, hash_document
from ipaas_resources.net import canonical
from ipaas_resources.net.body import decode_json, encode_json, holds_only_storable_text
from ipaas_resources.net.convert import Codec, Converter, Dialect
from ipaas_resources.net.odata.convert import ODATA

LINE = (FieldSchema(name="sequence", type="integer"), FieldSchema(name="quantity", type="decimal"))
SCHEMA = EntitySchema(
    entity="customers",
    key=("id",),
    fields=(
        FieldSchema(name="id", type="guid", creatable=False, updatable=False),
        FieldSchema(name="name", type="text"),
        FieldSchema(name="balance", type="decimal", updatable=False),
        FieldSchema(name="count", type="integer"),
        FieldSchema(name="blocked", type="boolean"),
        FieldSchema(name="status", type="enum"),
        FieldSchema(name="opened", type="date"),
        FieldSchema(name="modified", type="datetime", volatile=True),
        FieldSchema(name="shift", type="time"),
        FieldSchema(name="parent", type="reference", wire="_parent_value"),
        FieldSchema(name="lines", type="lines", fields=LINE, line_key="sequence"),
        FieldSchema(name="address", type="object", fields=(FieldSchema(name="city", type="text"),)),
        FieldSchema(name="tags", type="list"),
        FieldSchema(name="rest", type="any"),
    ),
)
GUID = "2e451703-8b1c-4a6e-9d5f-0123456789ab"
WIRE = {
    "id": GUID.upper(),
    "name": "Adatum",
    "balance": Decimal("12.50"),
    "count": 3,
    "blocked": False,
    "status": "In_x0020_Progress",
    "opened": "2026-01-15",
    "modified": "2026-08-18T20:05:51.603Z",
    "shift": "13:58:10",
    "_parent_value": GUID,
    "lines": [{"sequence": 1, "quantity": Decimal("2.0")}],
    "address": {"city": "Chester"},
    "tags": ["a", Decimal("1.0")],
    "rest": {"x": [Decimal("1.10"), None]},
    "@odata.etag": 'W/"1"',
}
CANONICAL = {
    "id": GUID,
    "name": "Adatum",
    "balance": Decimal("12.5"),
    "count": 3,
    "blocked": False,
    "status": "In Progress",
    "opened": "2026-01-15",
    "modified": "2026-08-18T20:05:51.603000Z",
    "shift": "13:58:10.000000",
    "parent": GUID,
    "lines": [{"sequence": 1, "quantity": 2}],
    "address": {"city": "Chester"},
    "tags": ["a", 1],
    "rest": {"x": [Decimal("1.1"), None]},
}


def one(type_, *, key=(), **dialect):
    """A converter of an entity with one field, `x`."""
    schema = EntitySchema(entity="e", key=key, fields=(FieldSchema(name="x", type=type_),))
    return Converter(schema, Dialect(**dialect))


def read(type_, value, **dialect):
    return one(type_, **dialect).read({"x": value})["x"]


@pytest.fixture(scope="module")
def customers():
    return Converter(SCHEMA, ODATA)


def test_a_record_becomes_its_canonical_document_in_the_order_of_the_schema(customers):
    for reader in (customers.read, customers.read_storable):
        document = reader(WIRE)
        assert document == CANONICAL
        assert list(document) == list(SCHEMA.names())
        assert type(document["lines"][0]["quantity"]) is int


def test_nothing_is_as_good_as_null(customers):
    empty = dict.fromkeys(WIRE)
    assert customers.read(empty) == dict.fromkeys(CANONICAL)
    zeros = WIRE | {
        "id": canonical.ZERO_GUID,
        "opened": "0001-01-01",
        "modified": "0001-01-01T00:00:00Z",
        "_parent_value": canonical.ZERO_GUID,
    }
    document = customers.read(zeros)
    assert [document[name] for name in ("id", "opened", "modified", "parent")] == [None] * 4


def test_zeros_are_values_where_the_dialect_does_not_say_otherwise():
    assert read("guid", canonical.ZERO_GUID) == canonical.ZERO_GUID
    assert read("date", "0001-01-01") == "0001-01-01"


def test_a_field_that_is_absent_is_left_out_or_null_as_the_dialect_says():
    row = {"id": GUID}
    assert Converter(SCHEMA, ODATA).read(row) == {"id": GUID}
    document = Converter(SCHEMA, Dialect(absent="null")).read(row)
    assert document == dict.fromkeys(SCHEMA.names()) | {"id": GUID}


def test_a_narrowed_read_converts_the_chosen_fields():
    converter = Converter(SCHEMA, ODATA, fields=["name", "id"])
    assert converter.read(WIRE) == {"id": GUID, "name": "Adatum"}


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("text", 5),
        ("text", ["a"]),
        ("integer", "five"),
        ("integer", Decimal("1.5")),
        ("integer", True),
        ("decimal", "1,5"),
        ("decimal", True),
        ("decimal", Decimal("1E+999999999")),
        ("boolean", 1),
        ("boolean", "true"),
        ("date", "2026-02-30"),
        ("date", "2026-W03-4"),
        ("date", "15.01.2026"),
        ("date", 20260115),
        ("datetime", "2026-08-18T20:05:51"),
        ("datetime", "2026-08-18"),
        ("datetime", "2026-02-30T20:05:51Z"),
        ("datetime", "2026-08-18T25:05:51Z"),
        ("datetime", 0),
        ("time", "25:00"),
        ("time", "noon"),
        ("guid", "2e451703"),
        ("guid", GUID + "0"),
        ("guid", 5),
        ("enum", ["a"]),
        ("enum", True),
        ("enum", Decimal("1.5")),
        ("lines", {"a": 1}),
        ("list", "a"),
        ("reference", ["a"]),
        ("reference", True),
    ],
)
def test_a_value_of_another_form_names_its_field_and_not_its_value(type_, value):
    converter = one(type_)
    for reader in (converter.read, converter.read_storable):
        with pytest.raises(ContractError) as raised:
            reader({"x": value})
        assert raised.value.field == "x"
        assert len(str(value)) < 5 or str(value) not in str(raised.value)


def test_a_broken_line_names_the_way_to_its_field(customers):
    with pytest.raises(ContractError) as raised:
        customers.read(WIRE | {"lines": [{"sequence": "one", "quantity": 1}]})
    assert raised.value.field == "lines.sequence"


@pytest.mark.parametrize("row", [None, [], "text", 5])
def test_a_record_that_is_no_object_is_refused(customers, row):
    with pytest.raises(ContractError):
        customers.read(row)


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (10, 10),
        (Decimal("10.0"), 10),
        (Decimal("-0.0"), 0),
        (Decimal("0.10"), Decimal("0.1")),
        (Decimal("1E+2"), 100),
        (Decimal("1.5E+1"), 15),
        (Decimal("1E-7"), Decimal("1E-7")),
        (Decimal("12345678901234567.89"), Decimal("12345678901234567.89")),
        ("12345678901234567.890", Decimal("12345678901234567.89")),
        ("-5", -5),
    ],
)
def test_a_number_has_one_form_however_it_came(value, made):
    result = read("decimal", value)
    assert result == made
    assert type(result) is type(made)
    assert encode_canonical(result) == encode_canonical(made)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("2026-08-18T20:05:51Z", "2026-08-18T20:05:51.000000Z"),
        ("2026-08-18T20:05:51.6Z", "2026-08-18T20:05:51.600000Z"),
        ("2026-08-18T20:05:51.123456Z", "2026-08-18T20:05:51.123456Z"),
        ("2026-08-18T20:05:51.1234567Z", "2026-08-18T20:05:51.123456Z"),
        ("2026-08-18T22:05:51+02:00", "2026-08-18T20:05:51.000000Z"),
        ("2026-08-18t20:05z", "2026-08-18T20:05:00.000000Z"),
        ("0900-08-18T20:05:51.5Z", "0900-08-18T20:05:51.500000Z"),
        ("0900-08-18T22:05:51.5+02:00", "0900-08-18T20:05:51.500000Z"),
    ],
)
def test_a_time_is_utc_with_six_digits(text, made):
    assert read("datetime", text) == made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("2026-08-18T20:05:51", "2026-08-18T19:05:51.000000Z"),
        ("2026-01-18 20:05:51.25", "2026-01-18T20:05:51.250000Z"),
        ("2026-08-18T20:05:51Z", "2026-08-18T20:05:51.000000Z"),
    ],
)
def test_a_time_without_zone_is_of_the_zone_of_its_system(text, made):
    zone = ZoneInfo("Europe/London")
    converter = one("datetime", zone=zone, write_zoneless=True)
    assert converter.read({"x": text}) == {"x": made}
    assert one("datetime", zone=zone).read(converter.write({"x": made}, create=True)) == {"x": made}


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("2026-08-18", "2026-08-18"),
        ("2026-08-18T00:00:00", "2026-08-18"),
        ("2026-08-17T23:00:00Z", "2026-08-18"),
    ],
)
def test_a_date_that_comes_with_a_time_is_the_date_of_its_zone(text, made):
    assert read("date", text, zone=ZoneInfo("Europe/London")) == made


def test_ids_of_other_records_are_text_whatever_the_product_counts_them_in():
    assert read("reference", 4711) == "4711"
    assert read("reference", "C-7") == "C-7"
    assert read("reference", GUID.upper()) == GUID


def test_a_guid_in_braces_is_a_guid():
    assert read("guid", "{" + GUID.upper() + "}") == GUID


def test_true_and_one_are_not_the_same_choice():
    converter = one("enum")
    assert converter.read({"x": 1}) == {"x": 1}
    with pytest.raises(ContractError):
        converter.read({"x": True})


def test_what_a_connector_reads_itself_goes_to_its_codec():
    codec = Codec(
        read=lambda value: value and {"$file": {"id": value}}, write=lambda value: {"x@bind": value}
    )
    schema = EntitySchema(entity="e", key=("x",), fields=(FieldSchema(name="x", type="file"),))
    converter = Converter(schema, Dialect(), codecs={"x": codec})
    assert converter.read({"x": "7"}) == {"x": {"$file": {"id": "7"}}}
    assert converter.read({"x": None}) == {"x": None}
    assert converter.write({"x": "7"}, create=True) == {"x@bind": "7"}


def test_a_codec_that_meets_an_unknown_form_sets_the_record_aside():
    def refuse(value):
        raise canonical.ShapeError("it is no link")

    schema = EntitySchema(entity="e", key=("x",), fields=(FieldSchema(name="x", type="file"),))
    with pytest.raises(ContractError) as raised:
        Converter(schema, Dialect(), codecs={"x": Codec(read=refuse)}).read({"x": 5})
    assert "it is no link" in str(raised.value)


def test_a_request_body_holds_wire_values_and_only_fields_it_may_carry(customers):
    created = customers.write(CANONICAL, create=True)
    assert "id" not in created
    assert created["status"] == "In_x0020_Progress"
    assert created["_parent_value"] == GUID
    assert created["balance"] == Decimal("12.5")
    assert "balance" not in customers.write(CANONICAL, create=False)


def test_a_field_that_the_entity_lacks_is_not_sent(customers):
    with pytest.raises(ContractError) as raised:
        customers.write({"nmae": "x"}, create=True)
    assert raised.value.field == "nmae"


def test_nulls_are_written_as_zeros_where_the_product_knows_no_null():
    for type_, zero in (
        ("guid", canonical.ZERO_GUID),
        ("date", "0001-01-01"),
        ("datetime", "0001-01-01T00:00:00Z"),
        ("text", None),
    ):
        assert one(type_, write_zeros=True).write({"x": None}, create=True) == {"x": zero}
        assert one(type_).write({"x": None}, create=True) == {"x": None}


def test_lines_have_a_converter_of_their_own(customers):
    lines = customers.lines("lines")
    assert lines.read({"sequence": 1, "quantity": Decimal("1.0")}) == {"sequence": 1, "quantity": 1}
    assert lines.write({"quantity": 2}, create=False) == {"quantity": 2}


def test_field_names_can_be_anything():
    names = [
        "5name",
        "Name-with-Dashes",
        "a b",
        "'",
        '"',
        "\\",
        "\n",
        "{v}",
        "class",
        "\U0001f600",
        "row",
        "slow",
    ]
    schema = EntitySchema(
        entity="hostile", key=(names[0],), fields=tuple(FieldSchema(name=name, type="text") for name in names)
    )
    row = {name: str(index) for index, name in enumerate(names)}
    assert Converter(schema).read(row) == row


def test_more_different_values_than_are_remembered_are_converted_all_the_same():
    converter = one("reference", zeros_are_null=True)
    for number in range(3000):
        text = f"{number:08d}-8B1C-4A6E-9D5F-0123456789AB"
        assert converter.read({"x": text}) == {"x": text.lower()}
        assert converter.read({"x": text.lower()}) == {"x": text.lower()}


def test_values_that_nest_too_deeply_are_refused():
    deep = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(ContractError):
        read("any", deep)


# The generated reader and the slow road are two writings of one meaning.

hostile_text = st.text(st.characters(), max_size=8)
texts = st.one_of(
    hostile_text,
    st.sampled_from(
        [GUID, GUID.upper(), canonical.ZERO_GUID, "0001-01-01", "0001-01-01T00:00:00Z", "2026-01-15"]
    ),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "+05:30"),
    st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.,]\d{1,8})?(Z|[+-]\d\d:\d\d)?", fullmatch=True),
    st.from_regex(r"\d{4}-[W\d]\d-?\d{1,2}", fullmatch=True),
    st.from_regex(r"-?\d{1,20}(\.\d{1,20})?(E[+-]?\d{1,3})?", fullmatch=True),
    st.dates().map(str),
    st.times().map(str),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.decimals(allow_nan=False, allow_infinity=False),
    texts,
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile_text, inner, max_size=3),
    max_leaves=5,
)
TYPES = [
    "text",
    "integer",
    "decimal",
    "boolean",
    "date",
    "datetime",
    "time",
    "guid",
    "enum",
    "reference",
    "any",
]
DIALECTS = [
    Dialect(),
    ODATA,
    Dialect(zone=ZoneInfo("Europe/London"), absent="null"),
    Dialect(zeros_are_null=True, zone=dt.timezone(dt.timedelta(hours=14))),
]
CONVERTERS = {
    (type_, number): one(
        type_,
        key=("x",) if number % 2 else (),
        **{field: getattr(dialect, field) for field in dialect.__struct_fields__},
    )
    for type_ in TYPES
    for number, dialect in enumerate(DIALECTS)
}


def outcome(reader, row):
    try:
        return encode_canonical(reader(row))
    except ContractError as error:
        return str(error)


@given(st.sampled_from(TYPES), st.sampled_from(range(len(DIALECTS))), anything)
@example("datetime", 0, "2026-08-18T20:05:51,603Z")
@example("datetime", 0, "2026-W34-2T20:05:51.603Z")
@example("datetime", 1, "0001-01-01T00:00:00+14:00")
@example("datetime", 0, "0001-01-01T00:00:00Z")
@example("decimal", 0, Decimal("0." + "0" * 401))
@example("enum", 0, Decimal("1.0"))
def test_the_fast_and_the_slow_road_lead_to_the_same_document(type_, number, value):
    converter = CONVERTERS[type_, number]
    row = {"x": value}
    expected = outcome(converter._fields.read, row)
    assert outcome(converter.read, row) == expected
    body = json.dumps(value, default=str).encode()
    if holds_only_storable_text(body):
        assert outcome(converter.read_storable, row) == expected


@given(st.sampled_from(TYPES), st.sampled_from(range(len(DIALECTS))), anything)
def test_a_canonical_value_stays_what_it_is_when_written_and_read_again(type_, number, value):
    converter = CONVERTERS[type_, number]
    try:
        document = converter.read({"x": value})
    except ContractError:
        return
    wire = decode_json(encode_json(converter.write(document, create=True)))
    again = converter.read(wire)
    assert hash_document(again) == hash_document(document)


@given(st.sampled_from(TYPES), anything)
def test_every_document_can_be_stored(type_, value):
    try:
        document = CONVERTERS[type_, 1].read({"x": value})
    except ContractError:
        return
    stored = encode_canonical(document).decode("utf-8")
    assert "\\u0000" not in stored


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4) | st.integers())
def test_equal_numbers_have_equal_bytes(number):
    spelled = {str(number), f"{number}0" if "." in str(number) else f"{number}.0", f"{number}E0"}
    bodies = {
        encode_canonical(CONVERTERS["decimal", 0].read({"x": decode_json(text.encode())})) for text in spelled
    }
    assert len(bodies) == 1
