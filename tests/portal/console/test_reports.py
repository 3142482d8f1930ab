"""The operators' reports: pages, downloads and REST say the same; wrong questions are told; only operators see them."""

from __future__ import annotations

import csv
import html
import io
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from django.urls import reverse

from tests.billing.reports.estate import report_estate
from tests.factories import make_user, management_key

SPAN = "range=custom&from=2026-05-30&to=2026-06-01"
REST_SPAN = "start=2026-05-30T00:00:00Z&end=2026-06-02T00:00:00Z"
PAGES = ["report-utilization", "report-throughput", "report-costs", "report-fragmentation"]
DOORS = [
    "/api/v1/platform/utilization", "/api/v1/platform/throughput", "/api/v1/platform/costs",
    "/api/v1/platform/recovery", "/api/v1/platform/fragmentation",
]  # fmt: skip


@pytest.fixture
def reported(db, estate):
    return report_estate()


def page(console, name: str, query: str = ""):
    answer = console.get(f"{reverse(f'console:{name}')}?{SPAN}{'&' if query else ''}{query}")
    assert answer.status_code == 200
    return answer


def download(console, name: str, part: str, query: str = "") -> list[dict[str, str]]:
    answer = page(console, name, f"{query}{'&' if query else ''}csv={part}")
    assert answer["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text)))


def rest(console, report: str, query: str = "") -> dict:
    answer = console.get(f"/api/v1/platform/{report}?{REST_SPAN}{'&' if query else ''}{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def as_texts(rows: list[dict]) -> list[dict[str, str]]:
    return [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]


@pytest.mark.parametrize(
    ("name", "report", "by", "parts"),
    [
        *[("report-utilization", "utilization", by, ["groups", "points"])
          for by in ("cluster", "pool", "gpu_type", "tenant", "project", "endpoint", "model", "slo_class")],
        *[("report-throughput", "throughput", by, ["groups", "points"]) for by in ("model", "gpu_type", "endpoint")],
        *[("report-costs", "costs", by, ["groups", "points"]) for by in ("slo_class", "model", "tenant")],
    ],
)  # fmt: skip
def test_downloads_and_rest_say_the_same(console, reported, name, report, by, parts):
    told = rest(console, report, f"group_by={by}&bucket_width=1d")
    for part in parts:
        assert told[part]
        assert download(console, name, part, f"by={by}") == as_texts(told[part])


def test_recovery_and_the_tops_are_told_by_rest_too(console, reported):
    told = rest(console, "recovery")
    assert download(console, "report-costs", "recovery") == as_texts(told["months"])
    assert [row["month"] for row in told["months"]] == ["2026-05-01", "2026-06-01"]


def test_a_page_shows_the_figures_of_its_table(console, reported):
    shown = page(console, "report-utilization", "by=pool").text
    row = next(
        each for each in rest(console, "utilization", "group_by=pool")["groups"] if each["pool"] == "h100"
    )
    assert (row["seen"], row["held"], row["idle"]) == ("16.000000", "8.000000", "4.000000")
    assert '<td class="num" data-label="Seen">16</td><td class="num" data-label="Held">8</td>' in shown
    assert '<td class="num" data-label="Held of seen">66.7 %</td>' in shown


def test_throughput_shows_measured_beside_planned(console, reported):
    shown = page(console, "report-throughput").text
    assert "guide / h100_sxm" in shown
    assert (
        '<td class="num" data-label="Output per s">10</td><td class="num" data-label="Planned per s">50</td>'
        in shown
    )


def test_costs_show_the_target_of_a_class(console, reported):
    from clusters.models import SloClass

    SloClass.objects.filter(name="interactive").update(cost_target=100)
    (row,) = [each for each in rest(console, "costs")["groups"] if each["slo_class"] == "interactive"]
    assert (row["target"], row["of_target"]) == ("100.0000", "1.095890")
    assert "109.6 %" in page(console, "report-costs").text


def test_filters_narrow_and_stay_in_every_link(console, reported):
    shown = page(console, "report-utilization", "by=endpoint&tenant=nord&gpu_type=h100_sxm").text
    assert "chat" in shown
    assert "Süd / mail" not in shown
    spans = re.findall(r'class="chip" href="([^"]+range=[^"]+)"', shown)
    assert len(spans) > 5
    for link in spans:
        asked = parse_qs(urlsplit(html.unescape(link)).query)
        assert (asked["by"], asked["tenant"], asked["gpu_type"]) == (["endpoint"], ["nord"], ["h100_sxm"])
    told = rest(console, "utilization", "group_by=endpoint&tenant=nord&gpu_type=h100_sxm")
    assert [row["endpoint"] for row in told["groups"]] == ["chat"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("tenant=nobody", "There is no tenant nobody."),
        ("endpoint=x", "is no id of a endpoint"),
        ("by=colour", "Nothing can be told apart by"),
        ("csv=colour", "There is no table called"),
        ("by=tenant&bucket=1h", "choose a tenant or 1d"),
    ],
)
def test_a_page_says_what_it_could_not_make_of_a_question(console, reported, query, told):
    assert told in page(console, "report-utilization", query).text.replace("&#x27;", "'")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("bucket_width=1m", "bucket_width"),
        ("group_by=colour", "group_by"),
        ("start=2026-05-30T00:00:00Z&end=2026-05-30T00:00:00Z", "start"),
        ("start=2020-05-30T00:00:00Z", "start"),
        ("tenant=nobody", "tenant"),
        ("limit=0", "limit"),
        ("colour=red", "colour"),
        ("bucket_width=1h&group_by=cluster", "bucket_width"),
        (
            "bucket_width=1d&group_by=tenant&start=2026-01-01T00:00:00Z&end=2026-05-01T00:00:00Z",
            "bucket_width",
        ),
    ],
)
def test_rest_refuses_what_it_cannot_answer(console, reported, query, field):
    answer = console.get(f"/api/v1/platform/utilization?{query}")
    assert answer.status_code in (400, 422), answer.text
    assert field in answer.json()["errors"]


def test_an_empty_estate_has_pages_that_say_so(console):
    for name in PAGES:
        assert "card-header" in page(console, name).text or "empty" in page(console, name).text
    assert rest(console, "utilization", "group_by=tenant")["groups"] == []
    assert rest(console, "recovery")["months"] == []


@pytest.mark.parametrize("name", PAGES)
def test_reports_are_for_operators(client, reported, name):
    url = reverse(f"console:{name}")
    assert client.get(url).status_code == 302
    client.force_login(make_user("stranger@example.org"))
    assert client.get(url).status_code == 404


@pytest.mark.parametrize("door", DOORS)
def test_rest_reports_are_for_operators(client, reported, door):
    assert client.get(door).status_code == 401
    key = management_key(reported.nord)
    assert client.get(door, headers={"Authorization": f"Bearer {key}"}).status_code == 404


@pytest.mark.parametrize("name", PAGES)
def test_pages_ask_the_database_a_bounded_number_of_times(
    console, reported, django_assert_max_num_queries, name
):
    page(console, name)
    with django_assert_max_num_queries(36):
        page(console, name)
