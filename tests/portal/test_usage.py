"""The dashboard of a tenant: page, REST, CSV and rows say the same; filters are in the address."""

from __future__ import annotations

import csv
import datetime as dt
import io
import uuid
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from billing.allocations import allocation_open
from billing.models import Attainment, Budget
from clusters.endpoints.attainment import attainment_keep
from tenants import scope
from tenants.models import Project
from tests.billing.prices import hold, label
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant, management_key

pytestmark = pytest.mark.django_db
KEY = uuid.UUID(int=1)


@pytest.fixture
def used(world):
    """An endpoint that held a GPU for an hour and answered three requests of four."""
    endpoint = world.order("chat")
    now = timezone.now()
    with scope.tenant(world.tenant.id):
        revision = endpoint.revisions.get()
        project = Project.objects.get()
        allocation_open(
            project=project, endpoint_id=endpoint.id, revision_id=revision.id, replica_id="r-0",
            cluster="de-a", region="eu-de-1", gpu_type="l4", gpus=1, started_at=now - dt.timedelta(hours=1),
        )  # fmt: skip
    facts = {
        "endpoint_id": endpoint.id,
        "model": "berth-docs-ngram",
        "slo_class": "standard",
        "region": "eu-de-1",
    }
    add_usage(
        project, at=now, requests=3, input_tokens=3_000_000, cached_tokens=1_000_000, output_tokens=1_000_000,
        itl_ms=[0, 0, 3], ttft_ms=[0, 3], **facts,
    )  # fmt: skip
    add_usage(project, at=now, outcome="failed", **facts)
    return endpoint


def page(world, query="", who="billing", path="usage"):
    answer = world.browser(who).get(f"/t/nord/{path}?{query}")
    assert answer.status_code == 200
    return answer


def download(world, query=""):
    answer = world.browser("owner").get(f"/t/nord/usage.csv?{query}")
    assert answer["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.content.decode())))


@pytest.mark.parametrize("group", ["endpoint_id", "project_id", "model", "api_key_id", "slo_class", "region"])
@pytest.mark.parametrize("span", ["24h", "7d", "month", "12m"])
def test_by_group_and_span(world, used, group, span):
    answer = page(world, f"range={span}&group={group}")
    cost = answer.context["rows"][0]["cost"]
    assert (cost.requests, cost.input_tokens) == (4, 3_000_000)
    charts = {chart["id"] for chart in answer.context["charts"]}
    assert charts >= {"cost", "tokens", "requests"}
    assert {"ttft", "itl"} <= charts or span == "12m"
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert "plotly.min.js" in answer.text


def test_latencies_of_a_long_span_are_shown_when_asked_for(world, used):
    answer = page(world, "range=12m")
    assert "Show latencies" in answer.text
    more = page(world, answer.context["latency_url"].partition("?")[2])
    assert {"ttft", "itl"} <= {chart["id"] for chart in more.context["charts"]}
    assert "latency=yes" in more.context["csv_url"]
    assert "Show latencies" not in more.text


def test_page_rest_and_csv_say_the_same(world, used):
    told = page(world, "range=7d&group=endpoint_id")
    cost = told.context["costs"].total
    caller = APIClient()
    caller.credentials(HTTP_AUTHORIZATION=f"Bearer {management_key(world.tenant, 'owner')}")
    start, end = told.context["costs"].start, told.context["costs"].end
    query = {
        "start": start.isoformat(),
        "end": end.isoformat(),
        "bucket_width": "1d",
        "group_by": "endpoint_id",
    }
    rest = caller.get("/api/v1/costs", query).json()
    results = [each["cost"] for bucket in rest["data"] for each in bucket["results"]]
    rows = download(world, "range=7d&group=endpoint_id")
    for name in ("requests", "input_tokens", "cached_tokens", "output_tokens", "usage"):
        expected = Decimal(str(getattr(cost, name)))
        assert sum(Decimal(str(each[name])) for each in results) == expected, name
        assert sum(Decimal(row[name]) for row in rows) == expected, name
    # GPUs that are still held cost a little more with each question.
    assert rest["total"]["allocation"][:4] == f"{cost.allocation:f}"[:4]
    assert abs(sum(Decimal(row["allocation"]) for row in rows) - cost.allocation) < Decimal("0.01")
    tokens = download(world, "range=7d&chart=tokens")
    assert sum(int(row["Output"]) for row in tokens) == cost.output_tokens
    (chart,) = [each for each in told.context["charts"] if each["id"] == "tokens"]
    drawn = {trace["name"]: sum(trace["y"]) for trace in chart["figure"]["data"]}
    assert drawn == {"Input": 2_000_000, "Cached input": 1_000_000, "Output": 1_000_000}
    outcomes = download(world, "range=7d&chart=requests")[-1]
    assert (outcomes["Completed"], outcomes["Failed"]) == ("3", "1")


def test_inline_style_is_allowed_on_chart_pages_alone(world):
    assert "unsafe" not in world.browser("owner").get("/t/nord/")["Content-Security-Policy"]


def test_filters_are_kept_in_every_link_of_the_page(world, used):
    answer = page(
        world, f"range=7d&model=berth-docs-ngram&endpoint_id={used.id}&group=api_key_id&basis=usage"
    )
    assert answer.context["rows"][0]["cost"].requests == 4
    assert [chip["label"] for chip in answer.context["bar"]["chips"]] == ["Endpoint", "Model"]
    for url in (answer.context["csv_url"], *(item["url"] for item in answer.context["range"]["items"])):
        assert f"endpoint_id={used.id}" in url
        assert "group=api_key_id" in url
    assert "range=7d" in answer.context["bar"]["clear_url"]
    assert "endpoint_id" not in answer.context["bar"]["clear_url"]


def test_what_does_not_exist_is_told_and_left_out(world, used):
    other = make_tenant()
    theirs = label(default_project(other), "theirs")
    for query in (f"endpoint_id={theirs}", "endpoint_id=nonsense", "project_id=x", "api_key_id=x", "model=x"):
        answer = page(world, query)
        assert "it is left out" in answer.context["problems"][0], query
        assert answer.context["total"].requests == 4
        assert "theirs" not in answer.text
    answer = page(world, "range=forever&group=mood")
    assert "no span called" in answer.context["range"]["problem"]
    assert (answer.context["group"], answer.context["problems"]) == (
        "endpoint_id", ("There is no such group: it is left out.",),
    )  # fmt: skip


def test_filters_that_leave_nothing_say_how_to_take_them_back(world, used):
    world.order("quiet")
    with scope.tenant(world.tenant.id):
        quiet = next(each for each in page(world).context["bar"]["filters"] if each.name == "endpoint_id")
        id = next(value for value, name in quiet.choices if name == "quiet")
    answer = page(world, f"endpoint_id={id}")
    assert "Nothing fits these filters" in answer.text
    assert "plotly" not in answer.text


def test_without_usage_there_is_a_way_on_and_no_chart(world):
    text = page(world).text
    assert "Nothing used in this time" in text
    assert "plotly" not in text
    assert "said from the second day on" in text or "if the rest costs" in text


def test_the_month_so_far_and_budgets_beside(world, used):
    with scope.tenant(world.tenant.id):
        for name, kind, owner in (
            ("Team", "project", used.project_id),
            ("All of it", "tenant", world.tenant.id),
        ):
            Budget.objects.create(
                name=name,
                owner_kind=kind,
                owner_id=owner,
                unit="money",
                currency="EUR",
                limit=100,
                period="month",
            )
    answer = page(world)
    assert 0 < answer.context["month"].charged < 5
    assert [row["budget"].name for row in answer.context["budgets"]] == ["All of it", "Team"]
    assert "Charged so far" in answer.text
    assert "of 100.00 EUR" in answer.text


def test_targets_kept_are_shown_and_downloaded(world, used):
    attainment_keep(now=timezone.now())
    with scope.tenant(world.tenant.id):
        row = Attainment.objects.get()
    answer = page(world)
    (shown,) = answer.context["attainment"]
    assert (shown["endpoint"], shown["kept"], shown["availability"]["value"]) == ("chat", False, "75 %")
    assert "75 %, missed" in answer.text
    (line,) = download(world, "chart=attainment")
    assert (line["requests"], line["failed"], line["kept"]) == (str(row.requests), str(row.failed), "False")
    assert page(world, "model=berth-docs-ngram").context["attainment"]
    assert "Targets kept" in page(world, path=f"endpoints/{used.id}/cost").text


def test_cost_of_one_endpoint(world, used):
    other = world.order("other")
    add_usage(other.project, at=timezone.now(), endpoint_id=other.id, requests=50)
    answer = page(world, path=f"endpoints/{used.id}/cost")
    assert answer.context["total"].requests == 4
    assert 0 < answer.context["total"].allocation < 1
    assert [each.name for each in answer.context["bar"]["filters"]][:1] != ["endpoint_id"]
    assert answer.context["group"] == "api_key_id"
    rows = list(
        csv.DictReader(io.StringIO(page(world, path=f"endpoints/{used.id}/cost.csv").content.decode()))
    )
    assert sum(int(row["requests"]) for row in rows) == 4
    assert world.browser("stranger").get(f"/t/nord/endpoints/{used.id}/cost.csv").status_code == 404


def test_a_chart_that_is_not_there_has_no_csv(world, used):
    assert world.browser("owner").get("/t/nord/usage.csv?chart=weather").status_code == 404


def test_who_may_not_see_cost_sees_neither_page_nor_csv(world, used):
    for path in ("usage", "usage.csv", f"endpoints/{used.id}/cost", f"endpoints/{used.id}/cost.csv"):
        assert world.browser("viewer").get(f"/t/nord/{path}").status_code == 403, path


def test_many_endpoints_with_long_names_make_no_more_queries_and_no_large_page(world, used):
    with scope.tenant(world.tenant.id):
        project = Project.objects.get()
    browser = world.browser("billing")
    assert browser.get("/t/nord/").status_code == 200  # the session has been seen just now
    with CaptureQueriesContext(connection) as of_one:
        browser.get("/t/nord/usage?range=90d")
    for number in range(30):
        id = label(project, f"an-endpoint-with-quite-a-long-name-of-its-own-{number:02d}-abcdef")
        add_usage(
            project, at=timezone.now() - dt.timedelta(days=number), endpoint_id=id, output_tokens=number
        )
    with CaptureQueriesContext(connection) as of_many:
        answer = browser.get("/t/nord/usage?range=90d")
    assert len(of_many) == len(of_one)
    assert len(answer.content) < 200_000
    (chart,) = [each for each in answer.context["charts"] if each["id"] == "tokens"]
    assert len(chart["rows"]) == 90


@pytest.mark.parametrize("basis", ["charged", "usage"])
def test_of_many_endpoints_the_dearest_and_the_sum_of_all_others_are_drawn(world, used, monkeypatch, basis):
    with scope.tenant(world.tenant.id):
        project = Project.objects.get()
    for number in range(12):
        id = label(project, f"endpoint-{number:02}")
        at = timezone.now() - dt.timedelta(days=number + 1)
        hold(project, id, at.isoformat(), None, gpu_type="l4", region="eu-de-1")
        tokens = (number + 1) * 10**6
        add_usage(project, at=at, endpoint_id=id, output_tokens=tokens, model="berth-docs-ngram")
    browser = world.browser("billing")

    def chart():
        charts = browser.get(f"/t/nord/usage?range=30d&basis={basis}").context["charts"]
        return next(each for each in charts if each["id"] == "cost")

    each_by_itself = chart()
    monkeypatch.setattr("portal.pages.usage_cards._MANY", 3)
    found = chart()
    assert found["columns"] == each_by_itself["columns"]
    assert len(found["columns"]) == 10
    for row, other in zip(found["csv"][1:-1], each_by_itself["csv"][1:-1], strict=True):
        assert row[0] == other[0]
        assert row[1:] == pytest.approx(other[1:], abs=Decimal("0.00001"))


def test_names_that_people_chose_do_no_harm_in_csv(world, used):
    with scope.tenant(world.tenant.id):
        Project.objects.update(name="=1+1")
    assert download(world, "group=project_id")[0]["project"] == "'=1+1"
    assert "'=1+1" in download(world, "group=project_id&basis=usage&chart=cost")[0]
