"""/usage and /costs: buckets, groups, filters, pages, and what is told of wrong questions."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from billing.api.serializers import CostsSerializer, UsageSerializer
from billing.metering.partitions import ensure_minutes
from billing.models import UsageMinute
from tenants import scope
from tenants.services import project_create
from tests.billing.prices import hold, label, list_prices, utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant, management_key

pytestmark = pytest.mark.django_db
MAY = {"start": "2026-05-01T00:00:00Z", "end": "2026-06-01T00:00:00Z"}
KEY = uuid.UUID(int=1)


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
    add_usage(
        project, at=utc("2026-05-03T09:30"), endpoint_id=endpoint_id, output_tokens=2_000_000, requests=3,
        ttft_ms=[0, 4],
    )  # fmt: skip
    add_usage(project, at=utc("2026-05-03T09:40"), endpoint_id=endpoint_id, outcome="failed")
    return endpoint_id


def client(tenant, role: str = "owner") -> APIClient:
    caller = APIClient()
    caller.credentials(HTTP_AUTHORIZATION=f"Bearer {management_key(tenant, role)}")
    return caller


def get(tenant, path: str, **query):
    answer = client(tenant).get(f"/api/v1/{path}", query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def results(found):
    return [each for bucket in found["data"] for each in bucket["results"]]


def test_usage_by_hour_and_group(tenant, chat):
    found = get(tenant, "usage", **MAY, limit=768, group_by="endpoint_id,model", latency="true")
    (bucket,) = [bucket for bucket in found["data"] if bucket["results"]]
    (point,) = bucket["results"]
    assert (bucket["start"], bucket["end"]) == ("2026-05-03T09:00:00Z", "2026-05-03T10:00:00Z")
    assert (point["endpoint_id"], point["model"], point["project_id"]) == (str(chat), "guide", None)
    assert (point["label"], point["output_tokens"]) == ("chat, guide", 2_000_000)
    assert [point[name] for name in ("requests", "completed", "failed", "refused")] == [4, 3, 1, 0]
    assert point["ttft_p50_ms"] == 7.5
    assert (found["group_by"], found["bucket_width"]) == (["endpoint_id", "model"], "1h")
    assert results(get(tenant, "usage", **MAY, bucket_width="1d"))[0]["ttft_p50_ms"] is None
    assert results(get(tenant, "usage")) == []


def test_usage_by_minute_is_what_was_counted_by_minute(tenant, project, chat):
    now = timezone.now().replace(second=0, microsecond=0)
    facts = {
        "tenant_id": tenant.id, "project_id": project.id, "key_id": KEY, "endpoint_id": chat, "model": "guide",
        "slo_class": "standard", "region": "de-1", "outcome": "completed",
    }  # fmt: skip
    with scope.platform("a test"):
        ensure_minutes([now.date(), now.date() - dt.timedelta(days=1)])
    with scope.tenant(tenant.id):
        for minutes, requests in ((2, 3), (1, 5)):
            at = now - dt.timedelta(minutes=minutes)
            UsageMinute.objects.create(bucket=at, requests=requests, output_tokens=7, **facts)
    found = get(tenant, "usage", bucket_width="1m", limit=61, group_by="endpoint_id")
    assert [each["requests"] for each in results(found)] == [3, 5]
    assert found["data"][-1]["start"] == f"{now:%Y-%m-%dT%H:%M:00Z}"


def test_costs_of_a_period_on_both_bases(tenant, chat):
    found = get(tenant, "costs", **MAY)
    assert (found["currency"], found["bucket_width"], found["has_more"]) == ("EUR", None, False)
    cost = found["total"]
    assert (cost["allocation"], cost["usage"], cost["charged"]) == ("7.200000", "3.000000", "7.200000")
    assert (cost["allocation_per_million_tokens"], cost["usage_per_million_tokens"]) == (
        "3.600000",
        "1.500000",
    )
    assert (cost["allocation_per_request"], cost["usage_per_request"]) == ("1.800000", "0.750000")
    assert [bucket["results"][0]["cost"] for bucket in found["data"]] == [cost]
    (by_project,) = results(get(tenant, "costs", **MAY, group_by="project_id", bucket_width="1d"))
    assert (by_project["label"], by_project["cost"]["allocation"]) == ("Default", "7.200000")


@pytest.mark.parametrize(
    "groups", ["", "endpoint_id,slo_class", "route_id,api_key_id", "project_id,model,region"]
)
def test_answers_have_the_fields_and_forms_of_their_schema(tenant, chat, groups):
    asked = MAY | {"bucket_width": "1d", "limit": 20} | ({"group_by": groups} if groups else {})
    for path, schema, more in (
        ("usage", UsageSerializer, {"latency": "true"}),
        ("costs", CostsSerializer, {}),
        ("costs", CostsSerializer, {"bucket_width": "1M", "limit": 2}),
    ):
        found = get(tenant, path, **asked | more)
        assert results(found)
        assert schema(found).data == found


def test_pages_have_every_bucket_once(tenant, chat, project):
    hold(project, chat, "2026-05-09T09:00", "2026-05-09T11:00")
    whole = get(tenant, "costs", **MAY, bucket_width="1d")
    assert (len(whole["data"]), whole["has_more"], whole["next_page"]) == (31, False, None)
    paged, page = [], None
    for _ in range(5):
        found = get(tenant, "costs", **MAY, bucket_width="1d", limit=7, **({"page": page} if page else {}))
        paged += found["data"]
        page = found["next_page"]
        assert found["has_more"] == (page is not None)
    assert paged == whole["data"]
    months = get(tenant, "usage", **MAY | {"start": "2026-01-15T00:00:00Z"}, bucket_width="1M", limit=2)
    assert [bucket["start"] for bucket in months["data"]] == ["2026-01-15T00:00:00Z", "2026-02-01T00:00:00Z"]
    assert months["next_page"] == "2026-03-01T00:00:00Z"


def test_filters_by_every_dimension_and_several_values(tenant, project, chat):
    with scope.tenant(tenant.id):
        research = project_create(name="Research", slug="research")
    search = label(research, "search", model="other")
    add_usage(research, at=utc("2026-05-04T09:00"), endpoint_id=search, model="other", slo_class="batch")
    month = MAY | {"bucket_width": "1M"}
    for query, requests in (
        ({"project_ids": str(research.id)}, 1),
        ({"project_ids": f"{research.id},{project.id}"}, 5),
        ({"project_ids": [str(research.id), str(project.id)]}, 5),
        ({"endpoint_ids": str(chat)}, 4),
        ({"models": "other"}, 1),
        ({"models": "other", "slo_classes": "standard"}, None),
        ({"slo_classes": "batch"}, 1),
        ({"regions": "de-1"}, 5),
        ({"route_ids": str(uuid.uuid4())}, None),
    ):
        found = results(get(tenant, "usage", **month, **query))
        assert [each["requests"] for each in found] == ([requests] if requests else []), query
        cost = get(tenant, "costs", **MAY, **query)["total"]
        assert cost["requests"] == (requests or 0), query


@pytest.mark.parametrize("name", ["project_ids", "endpoint_ids", "api_key_ids"])
def test_what_another_tenant_has_reads_as_missing(tenant, chat, name):
    stranger = make_tenant()
    theirs = {"project_ids": default_project(tenant).id, "endpoint_ids": chat, "api_key_ids": KEY}[name]
    for path in ("usage", "costs"):
        answer = client(stranger).get(f"/api/v1/{path}", {name: str(theirs)})
        assert answer.status_code == 404
        missing = client(stranger).get(f"/api/v1/{path}", {name: str(uuid.UUID(int=77))})
        assert answer.json()["detail"].replace(str(theirs), "") == missing.json()["detail"].replace(
            str(uuid.UUID(int=77)), ""
        )
    assert get(stranger, "costs", **MAY)["total"]["allocation"] == "0.000000"


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("usage", {"start": "yesterday"}, "start"),
        ("usage", {"bucket_width": "1m", "latency": "true"}, "latency"),
        ("usage", {"bucket_width": "1m", **MAY}, "start"),
        ("usage", {"bucket_width": "fortnight"}, "bucket_width"),
        ("usage", {"group_by": "colour"}, "group_by"),
        ("usage", {"group_by": "model,colour"}, "group_by"),
        ("usage", {"endpoint_ids": "chat"}, "endpoint_ids"),
        ("usage", {"from": "2026-05-01"}, "from"),
        ("usage", {"limit": "0"}, "limit"),
        ("usage", {"limit": "769"}, "limit"),
        ("usage", {"page": "2020-01-01T00:00:00Z"}, "page"),
        ("usage", {"page": "two"}, "page"),
        ("usage", {"latency": "perhaps"}, "latency"),
        ("costs", {"start": MAY["end"], "end": MAY["start"]}, "start"),
        ("costs", {"start": "2020-01-01T00:00:00Z"}, "start"),
        ("costs", {"bucket_width": "1m"}, "bucket_width"),
        ("costs", {"limit": "2"}, "limit"),
    ],
)
def test_wrong_parameter_is_named(tenant, path, query, field):
    answer = client(tenant).get(f"/api/v1/{path}", query)
    assert answer.status_code == 422, answer.content
    assert field in answer.json()["errors"]
