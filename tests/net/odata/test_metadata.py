import json
from pathlib import Path

import pytest

from ipaas_resources.core.errors import ProtocolError, SchemaError
from ipaas_resources.net.odata.metadata import Metadata, Navigation

REFERENCE = Path(__file__).parents[3].parent / "shared" / "reference" / "specs"


def reference(name):
    """A document of the reference folder, which lies beside the repository on the machines that have it."""
    path = REFERENCE / name
    if not path.exists():
        pytest.skip(f"the reference document {name} is not on this machine")
    return path.read_bytes()


def edmx(inside, container=""):
    return (
        '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>'
        '<Schema Namespace="Microsoft.NAV" Alias="N" xmlns="http://docs.oasis-open.org/odata/ns/edm">'
        f'{inside}<EntityContainer Name="NAV">{container}</EntityContainer>'
        "</Schema></edmx:DataServices></edmx:Edmx>"
    ).encode()


ITEM = """
<EnumType Name="itemType"><Member Name="Non_x002D_Inventory"/><Member Name="_x0020_"/></EnumType>
<TypeDefinition Name="money" UnderlyingType="Edm.Decimal"/>
<ComplexType Name="address"><Property Name="street" Type="Edm.String" MaxLength="50"/>
  <Property Name="inner" Type="N.address"/></ComplexType>
<EntityType Name="base" Abstract="true"><Key><PropertyRef Name="id"/></Key>
  <Property Name="id" Type="Edm.Guid" Nullable="false"/></EntityType>
<EntityType Name="item" BaseType="N.base">
  <Property Name="number" Type="Edm.String" MaxLength="20"/>
  <Property Name="notes" Type="Edm.String" MaxLength="max"/>
  <Property Name="type" Type="Microsoft.NAV.itemType"/>
  <Property Name="price" Type="N.money"/>
  <Property Name="weight" Type="Edm.Decimal" Scale="3"/>
  <Property Name="volume" Type="Edm.Decimal" Scale="Variable"/>
  <Property Name="count" Type="Edm.Int64"/>
  <Property Name="shift" Type="Edm.TimeOfDay"/>
  <Property Name="picture" Type="Edm.Stream"/>
  <Property Name="tags" Type="Collection(Edm.String)"/>
  <Property Name="place" Type="N.address"/>
  <Property Name="places" Type="Collection(N.address)"/>
  <Property Name="odd" Type="Edm.GeographyPoint"/>
  <Property Name="made" Type="Edm.DateTimeOffset"><Annotation Term="Org.OData.Core.V1.Computed"/></Property>
  <Property Name="fixed" Type="Edm.String"><Annotation Term="Org.OData.Core.V1.Immutable" Bool="true"/></Property>
  <Property Name="shown" Type="Edm.String"><Annotation Term="NAV.AllowEdit" Bool="false"/></Property>
  <Property Name="once" Type="Edm.String"><Annotation Term="NAV.AllowEdit" Bool="false"/>
    <Annotation Term="NAV.AllowEditOnCreate" Bool="true"/></Property>
  <Property Name="free" Type="Edm.String"><Annotation Term="NAV.IsReadOnly" Bool="false"/></Property>
  <Property Name="locked" Type="Edm.String"><Annotation Term="NAV.IsReadOnly" Bool="true"/></Property>
  <Property Name="apart" Type="Edm.String"/>
  <Property Name="ruled" Type="Edm.String"><Annotation Term="Org.OData.Core.V1.Permissions">
    <EnumMember>Org.OData.Core.V1.Permission/Read</EnumMember></Annotation></Property>
  <NavigationProperty Name="lines" Type="Collection(N.item)"/>
  <NavigationProperty Name="parent" Type="N.item"><ReferentialConstraint Property="number" ReferencedProperty="id"/>
  </NavigationProperty>
</EntityType>
<Action Name="post" IsBound="true"><Parameter Name="bindingParameter" Type="N.item"/></Action>
<Action Name="free"/>
<Annotations Target="N.item/apart"><Annotation Term="Org.OData.Core.V1.Computed" Bool="true"/>
  <Annotation Term="Org.OData.Core.V1.Description" String="Made by the product"/></Annotations>
<Annotations Target="N.NAV/items"><Annotation Term="Org.OData.Capabilities.V1.DeleteRestrictions">
  <Record><PropertyValue Property="Deletable"><Bool>false</Bool></PropertyValue></Record></Annotation></Annotations>
"""
ITEMS = """
<EntitySet Name="items" EntityType="N.item"><Annotation Term="Org.OData.Capabilities.V1.InsertRestrictions"><Record>
  <PropertyValue Property="Insertable" Bool="false"/></Record></Annotation></EntitySet>
<EntitySet Name="lost" EntityType="N.unknown"/>
"""


@pytest.fixture(scope="module")
def items():
    return Metadata(edmx(ITEM, ITEMS)).entity_set("items")


@pytest.mark.parametrize(
    ("field", "type_"),
    [
        ("id", "guid"),
        ("number", "text"),
        ("type", "enum"),
        ("price", "decimal"),
        ("count", "integer"),
        ("shift", "time"),
        ("picture", "file"),
        ("tags", "list"),
        ("place", "object"),
        ("places", "lines"),
        ("odd", "any"),
        ("made", "datetime"),
    ],
)
def test_a_property_has_the_type_of_its_edm_type(items, field, type_):
    assert items.schema.field(field).type == type_


def test_lengths_scales_keys_and_enum_members_are_read(items):
    schema = items.schema
    assert (schema.entity, schema.key) == ("items", ("id",))
    assert schema.names()[0] == "id"
    assert [schema.field(name).max_length for name in ("number", "notes")] == [20, None]
    assert [schema.field(name).scale for name in ("weight", "volume", "price")] == [3, None, None]
    assert schema.field("type").enum == ("Non-Inventory", " ")
    assert [each.name for each in schema.field("places").fields] == ["street", "inner"]
    assert not schema.field("id").nullable
    assert not schema.field("id").updatable


@pytest.mark.parametrize(
    ("field", "creatable", "updatable"),
    [
        ("number", True, True),
        ("made", False, False),
        ("fixed", True, False),
        ("shown", False, False),
        ("once", True, False),
        ("free", True, True),
        ("locked", False, False),
        ("apart", False, False),
        ("ruled", False, False),
    ],
)
def test_annotations_say_what_may_be_written(items, field, creatable, updatable):
    found = items.schema.field(field)
    assert (found.creatable, found.updatable) == (creatable, updatable)


def test_restrictions_of_a_set_count_wherever_they_stand(items):
    schema = items.schema
    assert (schema.creatable, schema.updatable, schema.deletable) == (False, True, False)
    assert schema.field("apart").description == "Made by the product"


def test_navigation_and_bound_actions_are_read(items):
    assert items.navigation == (
        Navigation(name="lines", target="Microsoft.NAV.item", many=True),
        Navigation(name="parent", target="Microsoft.NAV.item", many=False, constraints={"number": "id"}),
    )
    assert Metadata(edmx(ITEM, ITEMS)).actions("items") == ("Microsoft.NAV.post",)


def test_a_type_that_holds_itself_ends_somewhere(items):
    levels, fields = 0, items.schema.field("place").fields
    while fields and levels < 50:
        levels, fields = levels + 1, fields[1].fields
    assert 0 < levels < 10


def test_a_set_that_is_not_there_or_not_described_is_a_schema_error():
    metadata = Metadata(edmx(ITEM, ITEMS))
    for name in ("absent", "lost"):
        with pytest.raises(SchemaError):
            metadata.entity_set(name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html></html>",
        b"{}",
        b'<!DOCTYPE x [<!ENTITY a "b">]><edmx:Edmx/>',
        b"<Edmx><DataServices/></Edmx>",
        edmx("").replace(b"Edmx", b"Other"),
    ],
)
def test_a_document_that_is_no_metadata_is_a_protocol_error(content):
    with pytest.raises(ProtocolError):
        Metadata(content)


def test_types_that_are_their_own_base_end_somewhere():
    loop = '<EntityType Name="a" BaseType="N.b"/><EntityType Name="b" BaseType="N.a"/>'
    found = Metadata(edmx(loop, '<EntitySet Name="as" EntityType="N.a"/>')).entity_set("as")
    assert found.schema.fields == ()


def test_the_business_central_shape_gives_the_catalogue_back():
    metadata = Metadata(reference("bc_v2_metadata.synthetic.xml"))
    catalogue = {
        each["entitySet"]: each
        for each in json.loads(reference("bc_v2_entities.json"))["entities"].values()
        if each["route"] == "v2.0" and each["entitySet"] in metadata.sets()
    }
    assert len(catalogue) >= 85
    for name, expected in catalogue.items():
        schema = metadata.entity_set(name).schema
        fields = {each.name.removesuffix("_FilterOnly"): each for each in schema.fields}
        assert set(fields) == {each["name"] for each in expected["fields"]}, name
        if name != "companies":  # the document says nothing of its rights
            assert schema.creatable == expected["insert"], name
        for field in expected["fields"]:
            found = fields[field["name"]]
            assert found.max_length == field.get("maxLength"), (name, field["name"])
            if field["type"] == "Enum":
                assert found.type == "enum"
    customers = metadata.entity_set("customers").schema
    assert customers.key == ("id",)
    assert customers.field("type").enum == ("Company", "Person")
    assert metadata.actions("salesOrders") == ("Microsoft.NAV.shipAndInvoice",)


def test_a_service_of_another_vendor_is_read_too():
    metadata = Metadata(reference("odata_v4_test_service.edmx"))
    several = metadata.entity_set("TestEntityWithMultipleKeys").schema
    assert several.key == (
        "KeyTestEntityWithMultipleKeys",
        "StringPropertyWithMultipleKeys",
        "BooleanPropertyWithMultipleKeys",
    )
    plain = metadata.entity_set("TestEntity")
    assert plain.schema.field("DecimalProperty").scale == 2
    assert plain.schema.field("StringProperty").max_length == 111
    assert plain.navigation[0].many
