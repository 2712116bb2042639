"""System documents, real HTTP, and the schema against the API description."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipaas_resources.connectors import registry
from ipaas_resources.connectors.base import Environment
from ipaas_resources.connectors.calibration.entities import ENTITIES, WORK_ORDERS
from ipaas_resources.connectors.calibration.tests import (
    BERLIN,
    URL,
    CalibrationFake,
    ClientsCase,
    OrdersAndAssetsCase,
)
from ipaas_resources.connectors.conformance import CANARY_SECRET, Rig
from ipaas_resources.connectors.fakes import Fault, serve
from ipaas_resources.core.clock import SeededIds, SystemClock
from ipaas_resources.core.errors import (
    ConfigurationError,
    SystemBusyError,
)
from ipaas_resources.core.limits import LimitPolicy, Unlimited

SPECS = Path(__file__).parents[4] / "shared" / "reference" / "specs"


@pytest.fixture
async def rig():
    rig = Rig(OrdersAndAssetsCase())
    yield rig
    await rig.close()


async def test_a_busy_product_is_reported_after_one_smaller_try(rig):
    rig.fake.fail(Fault(status=503, path="workorders", times=-1))
    with pytest.raises(SystemBusyError):
        async for _ in rig.connector.changes("work_orders", "", None):
            pass
    assert len(rig.fake.ledger.entries) == 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": {}}, ["settings.url"]),
        ({"settings": {"url": URL, "overlap": 0, "speed": 1}}, ["overlap", "speed"]),
        ({"secrets": {"password": "env:X"}}, ["secrets.api_token", "secrets.password"]),
        ({"scopes": {"uk": "x"}}, ["scopes"]),
        ({"timezone": "Mars/Olympus"}, ["timezone"]),
    ],
)
async def test_a_wrong_system_document_names_every_fault(rig, change, words):
    with pytest.raises(ConfigurationError) as error:
        registry.create(rig.document.model_copy(update=change), rig.environment())
    assert all(word in str(error.value) for word in words)
    assert CANARY_SECRET not in str(error.value)


async def test_it_works_over_real_http():
    fake = CalibrationFake(clock=SystemClock(), tokens=["t"], zone=BERLIN)
    ids = ClientsCase().seed(fake, "work_orders", 12)
    with serve(fake) as url:
        document = ClientsCase().document().model_copy(update={"settings": {"url": url}})
        environment = Environment(
            system="lab",
            clock=SystemClock(),
            ids=SeededIds(1),
            limits=Unlimited(),
            secret=lambda name: "t",
            policy=LimitPolicy(requests=6000, window=300, concurrency=5),
        )
        connector = registry.create(document, environment)
        pages = [page async for page in connector.changes("work_orders", "", None)]
        assert [change.id for page in pages for change in page.changes] == ids
        await connector.close()


def test_the_schema_of_orders_leaves_out_nothing_that_it_shows():
    names = set(WORK_ORDERS.names())
    assert {"WorkItems", "Certificate", "LastUpdatedOn", "OrderStatus"} <= names
    assert WORK_ORDERS.field("LastUpdatedOn").volatile
    assert WORK_ORDERS.field("WorkItems").line_key == "WorkItemId"


@pytest.mark.skipif(not SPECS.exists(), reason="the reference folder is not on this machine")
@pytest.mark.parametrize(
    ("entity", "models"),
    [
        ("clients", "Clients.To.ClientCompanyResponseModel Clients.From.SponsoredClientCreateModel"),
        ("vendors", "Vendors.To.VendorCompanyResponseModel Vendors.From.SponsoredVendorCreateModel"),
        ("employees", "Clients.To.EmployeeResponseModel Employees.From.CreateEmployeeModel"),
        ("assets", "Asset.To.AssetResponseModel Clients.From.AssetModel"),
        ("work_orders", "ServiceOrders.To.ClientOrderResponseModel"),
        ("work_items", "ServiceOrders.To.ClientOrderItemResponseModel"),
        ("certificates", "ServiceOrderDocuments.To.CompanyOrderItemControlledDocumentResponse"),
        ("products", "Product.To.ProductApiResponseModel"),
        ("forecasts", "Asset.To.AssetServiceForecastModel"),
    ],
)
def test_the_transcribed_fields_are_those_of_the_api_description(entity, models):
    swagger = json.loads((SPECS / "qualer_swagger2.json").read_text())["definitions"]
    answer, *request = [swagger[f"Qualer.Api.Models.{model}"]["properties"] for model in models.split()]
    schema = ENTITIES[entity]
    made_up = {"WorkItems", "Certificate", "File"}
    assert set(schema.names()) - made_up == set(answer)
    kinds = {
        "text": "string",
        "integer": "integer",
        "decimal": "number",
        "boolean": "boolean",
        "list": "array",
    }
    for field in schema.fields:
        if field.name in made_up or field.type not in kinds:
            continue
        assert answer[field.name].get("type") == kinds[field.type], field.name
    dated = {name for name, one in answer.items() if one.get("format") == "date-time"}
    assert dated == {field.name for field in schema.fields if field.type == "datetime"}
    if request:
        writable = {field.name for field in schema.fields if field.creatable}
        assert writable - {"CustomName"} <= set(request[0])
