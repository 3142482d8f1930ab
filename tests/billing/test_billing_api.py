"""The billing room's doors under /api/v1."""

from __future__ import annotations

import uuid
from decimal import Decimal

import pytest
from rest_framework.test import APIClient

from tenants import scope
from tests.billing.prices import hold, label, list_prices, price, utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant, management_key

pytestmark = pytest.mark.django_db
MAY = {"start": "2026-05-01T00:00:00Z", "end": "2026-06-01T00:00:00Z"}
LISTS = ["usage", "costs", "prices", "allocations"]


@pytest.fixture
def tenant():
    list_prices()
    return make_tenant()


@pytest.fixture
def project(tenant):
    return default_project(tenant)


@pytest.fixture
def chat(project):
    """An endpoint that held one H100 for two hours of May and gave two million tokens."""
    endpoint_id = label(project, "chat")
    hold(project, endpoint_id, "2026-05-03T09:00", "2026-05-03T11:00")
    add_usage(project, at=utc("2026-05-03T09:30"), endpoint_id=endpoint_id, output_tokens=2_000_000)
    return endpoint_id


def client(tenant, role: str = "owner") -> APIClient:
    caller = APIClient()
    caller.credentials(HTTP_AUTHORIZATION=f"Bearer {management_key(tenant, role)}")
    return caller


def get(tenant, path: str, **query):
    answer = client(tenant).get(f"/api/v1/{path}", query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_price_list_is_in_the_tenants_currency(tenant):
    price("gpu_hour", "4.00", currency="USD")
    found = get(tenant, "prices")["results"]
    assert {each["currency"] for each in found} == {"EUR"}
    (gpu,) = get(tenant, "prices", kind="gpu_hour")["results"]
    assert gpu["amount"] == "3.6000000000"
    assert get(tenant, f"prices/{gpu['id']}") == gpu


def test_allocations_held_and_released(tenant, project, chat):
    hold(project, chat, "2026-05-04T09:00", None)
    assert len(get(tenant, "allocations", endpoint_id=str(chat))["results"]) == 2
    (held,) = get(tenant, "allocations", held="true")["results"]
    assert held["ended_at"] is None
    assert get(tenant, f"allocations/{held['id']}") == held


def test_allocations_of_parts_of_gpus_say_which(tenant, project, chat):
    part = {
        "gpu_type": "h100_sxm-1g-10gb",
        "slice": "1g.10gb",
        "share": Decimal("0.14285714"),
        "pool": "parts",
    }
    hold(project, chat, "2026-05-04T09:00", None, **part)
    (held,) = get(tenant, "allocations", held="true")["results"]
    assert {name: held[name] for name in part} == part | {"share": "0.14285714"}


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("prices", {"colour": "red"}, "colour"),
        ("allocations", {"endpoint_id": "x"}, "endpoint_id"),
    ],
)
def test_wrong_parameter_is_named(tenant, path, query, field):
    answer = client(tenant).get(f"/api/v1/{path}", query)
    assert answer.status_code == 422, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert field in answer.json()["errors"]


@pytest.mark.parametrize("path", LISTS)
def test_who_may_read(tenant, path):
    for role, status in (("owner", 200), ("developer", 200), ("billing", 200), ("viewer", 403)):
        assert client(tenant, role).get(f"/api/v1/{path}").status_code == status, role
    assert APIClient().get(f"/api/v1/{path}").status_code == 401


@pytest.mark.parametrize("path", LISTS)
def test_nothing_can_be_written(tenant, path):
    for method in ("post", "put", "patch", "delete"):
        assert getattr(client(tenant), method)(f"/api/v1/{path}", {}).status_code == 405, method


def test_other_tenants_objects_read_as_missing(tenant, chat):
    stranger = make_tenant()
    with scope.tenant(tenant.id):
        allocation = get(tenant, "allocations")["results"][0]
    for path in (
        f"allocations/{allocation['id']}",
        f"allocations/{uuid.uuid4()}",
    ):
        answer = client(stranger).get(f"/api/v1/{path}")
        assert answer.status_code == 404
        assert (
            answer.json()["detail"] == client(stranger).get(f"/api/v1/prices/{uuid.uuid4()}").json()["detail"]
        )
    assert get(stranger, "allocations")["results"] == []
