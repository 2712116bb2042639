"""Discovery: what `EntityDefinitions` say becomes entity schemas, and settings that are wrong are told at once."""

import pytest

from ipaas_resources.connectors.dataverse.config import settings_of
from ipaas_resources.connectors.dataverse.tests import Bench, system_document
from ipaas_resources.core.errors import ConfigurationError, SchemaError
from ipaas_resources.core.records import FileRef


@pytest.fixture
async def bench():
    bench = Bench()
    yield bench
    await bench.connector.close()


class TestSchemas:
    async def test_types_lengths_and_limits(self, bench):
        schema = await bench.connector.schema("accounts")
        assert schema.key == ("accountid",)
        shown = {
            name: (field.type, field.max_length, field.scale)
            for name in (
                "accountid",
                "name",
                "creditlimit",
                "numberofemployees",
                "creditonhold",
                "createdon",
                "versionnumber",
            )
            if (field := schema.field(name))
        }
        assert shown == {
            "accountid": ("guid", None, None),
            "name": ("text", 160, None),
            "creditlimit": ("decimal", None, 2),
            "numberofemployees": ("integer", None, None),
            "creditonhold": ("boolean", None, None),
            "createdon": ("datetime", None, None),
            "versionnumber": ("integer", None, None),
        }
        assert schema.field("numberofemployees").maximum == 2**31 - 1

    async def test_choices_are_integers_with_labels_beside(self, bench):
        schema = await bench.connector.schema("accounts")
        assert schema.field("accountcategorycode").enum == (1, 2)
        assert schema.field("accountcategorycode").description == "1 PreferredCustomer, 2 Standard"
        assert schema.field("statecode").type == "enum"
        order = (await bench.connector.schema("msdyn_workorders")).field("msdyn_systemstatus")
        assert 690970000 in order.enum

    async def test_access_follows_the_columns(self, bench):
        schema = await bench.connector.schema("accounts")
        access = {
            name: (schema.field(name).creatable, schema.field(name).updatable)
            for name in (
                "name",
                "createdon",
                "statecode",
                "overriddencreatedon",
                "accountid",
                "creditlimit_base",
            )
        }
        assert access == {
            "name": (True, True),
            "createdon": (False, False),
            "statecode": (False, True),
            "overriddencreatedon": (True, False),
            "accountid": (False, False),
            "creditlimit_base": (False, False),
        }

    async def test_dates_without_a_time_are_dates(self, bench):
        schema = await bench.connector.schema("contacts")
        assert (schema.field("birthdate").type, schema.field("birthdate").sensitivity) == ("date", "personal")
        assert schema.field("createdon").type == "datetime"

    async def test_what_speaks_of_a_person_is_personal(self, bench):
        contacts = await bench.connector.schema("contacts")
        accounts = await bench.connector.schema("accounts")
        shown = {
            (schema.entity, name): schema.field(name).sensitivity
            for schema in (contacts, accounts)
            for name in ("emailaddress1", "fax", "address1_line1", "creditlimit")
        }
        assert {key for key, value in shown.items() if value == "personal"} == {
            ("contacts", "emailaddress1"),
            ("contacts", "fax"),
            ("contacts", "address1_line1"),
            ("accounts", "emailaddress1"),
        }

    async def test_a_lookup_names_our_entities(self, bench):
        schema = await bench.connector.schema("accounts")
        field = schema.field("primarycontactid")
        assert (field.type, field.targets, field.wire) == (
            "reference",
            ("contacts",),
            "_primarycontactid_value",
        )

    async def test_a_polymorphic_lookup_has_a_companion(self, bench):
        schema = await bench.connector.schema("contacts")
        assert schema.field("parentcustomerid").targets == ("accounts", "contacts")
        assert schema.field("parentcustomeridtype").enum == ("accounts", "contacts")
        assert schema.field("primarycontactidtype") is None

    async def test_a_target_of_an_absent_table_cannot_be_written(self, bench):
        field = (await bench.connector.schema("products")).field("bcbi_companyid")
        assert field.readonly
        assert field.targets == ()

    async def test_required_is_what_the_platform_insists_on(self, bench):
        schema = await bench.connector.schema("products")
        assert {field.name for field in schema.fields if field.required} == {"name", "productnumber"}
        accounts = await bench.connector.schema("accounts")
        assert not any(field.required for field in accounts.fields)

    async def test_hidden_columns_are_left_out(self, bench):
        names = (await bench.connector.schema("accounts")).names()
        assert "entityimage" not in names
        assert names.count("owneridtype") == 1  # ours, not the hidden column of that name

    async def test_rights_of_the_table(self, bench):
        organization = await bench.connector.schema("organizations")
        assert (organization.creatable, organization.updatable, organization.deletable) == (
            False,
            True,
            False,
        )

    async def test_a_table_is_described_in_one_request(self, bench):
        await bench.connector.discover()
        before = len(bench.fake.ledger.entries)
        await bench.connector.schema("accounts")
        assert len(bench.fake.ledger.entries) - before == 1

    async def test_each_schema_is_the_live_one(self, bench):
        before = await bench.connector.schema("accounts")
        bench.fake.organization.add_column("account", "lab_code", "String", max_length=8)
        bench.fake.organization.drop_column("account", "fax")
        bench.fake.organization.tables["account"].columns["name"].max_length = 80
        bench.fake.organization.edited("account")
        after = await bench.connector.schema("accounts")
        assert set(after.names()) - set(before.names()) == {"lab_code"}
        assert set(before.names()) - set(after.names()) == {"fax"}
        assert after.field("name").max_length == 80

    async def test_after_discovery_reads_see_the_new_columns(self, bench):
        identifier = bench.fake.sim_add("accounts", "", {"name": "a"})
        await bench.connector.read("accounts", "", [identifier])
        bench.fake.organization.add_column("account", "lab_code", "String", max_length=8)
        (found,) = await bench.connector.read("accounts", "", [identifier])
        assert "lab_code" not in found.document
        await bench.connector.schema("accounts")
        (found,) = await bench.connector.read("accounts", "", [identifier])
        assert found.document["lab_code"] is None

    async def test_a_table_that_goes_away_is_a_schema_error(self, bench):
        await bench.connector.schema("discounts")
        del bench.fake.organization.tables["discount"]
        with pytest.raises(SchemaError, match="discount"):
            await bench.connector.schema("discounts")
        with pytest.raises(SchemaError):
            await bench.connector.schema("discounts")


class TestDiscovery:
    async def test_every_table_with_an_entity_set_is_offered(self, bench):
        offered = {info.entity: info for info in await bench.connector.discover()}
        assert len(offered) == 44
        assert {"accounts", "contacts", "products", "tasks", "msdyn_workorders"} <= set(offered)
        assert offered["accounts"].incremental
        assert offered["uoms"].incremental
        assert offered["organizations"].writable  # it can be changed, not created

    async def test_the_check_says_who_we_are(self, bench):
        health = await bench.connector.check()
        assert bench.fake.organization.user in health.detail

    async def test_without_the_right_to_see_messages_everything_goes_singly(self, bench):
        bench.fake.organization.denied.add("prvReadsdkmessagefilter")
        await bench.connector.schema("accounts")
        assert bench.connector.manifest.capabilities("accounts").returns_document

    async def test_there_are_no_files(self, bench):
        with pytest.raises(ConfigurationError, match="file"):
            async for _ in bench.connector.open_file(FileRef(id="x"), ""):
                pass


class TestSettings:
    def test_every_fault_is_named_and_no_value_is_repeated(self):
        document = system_document(url="http://contoso.example", bulk_from=0, colour="s3cret")
        document.secrets.clear()
        document.secrets["password"] = "env:X"
        with pytest.raises(ConfigurationError) as caught:
            settings_of(document)
        for name in (
            "settings.url",
            "settings.bulk_from",
            "settings.colour",
            "secrets.password",
            "secrets.client_secret",
        ):
            assert name in caught.value.message
        assert "s3cret" not in caught.value.message
        assert "contoso.example" not in caught.value.message

    @pytest.mark.parametrize(
        "url",
        ["https://org.crm4.dynamics.com/", "http://127.0.0.1:8080", "http://localhost:9", "http://[::1]:9"],
    )
    def test_addresses_that_are_fine(self, url):
        assert settings_of(system_document(url=url)).url == url.rstrip("/")

    @pytest.mark.parametrize(
        "url",
        [
            "http://org.crm4.dynamics.com",
            "https://org/api/data/v9.2",
            "org",
            "https://u:p@org",
            "http://127.1.evil.example",
        ],
    )
    def test_addresses_that_are_not(self, url):
        with pytest.raises(ConfigurationError, match=r"settings\.url"):
            settings_of(system_document(url=url))

    def test_settings_lower_the_manifest(self):
        bench = Bench(write_batch=200, page_size=500, bulk=False)
        capabilities = bench.connector.manifest.capabilities("accounts")
        assert (capabilities.write_batch, capabilities.page_size) == (200, 500)
        assert capabilities.returns_document
