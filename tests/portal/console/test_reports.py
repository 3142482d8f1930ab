"""The operators' reports: pages, downloads and REST say the same; wrong questions are told; only operators see them."""

from __future__ import annotations

import csv
import datetime as dt
import html
import io
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from django.urls import reverse
from django.utils import timezone

from clusters.models import Endpoint, Saving, SloClass
from tenants import scope
from tests.billing.reports.estate import report_estate
from tests.factories import make_user, management_key

SPAN = "range=custom&from=2026-05-30&to=2026-06-01"
REST_SPAN = "start=2026-05-30T00:00:00Z&end=2026-06-02T00:00:00Z"
PAGES = ["report-utilization", "report-throughput", "report-costs", "report-fragmentation", "report-savings"]
DOORS = [
    "/api/v1/platform/utilization", "/api/v1/platform/throughput", "/api/v1/platform/costs",
    "/api/v1/platform/recovery", "/api/v1/platform/fragmentation", "/api/v1/platform/savings",
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


def rest(console, report: str, query: str = "", *, span: str = REST_SPAN) -> dict:
    answer = console.get(f"/api/v1/platform/{report}?{'&'.join(filter(None, (span, query)))}")
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
    assert '<td class="num">16</td><td class="num">8</td>' in shown
    assert '<td class="num">66.7 %</td>' in shown


def test_throughput_shows_measured_beside_planned(console, reported):
    shown = page(console, "report-throughput").text
    assert "h100_sxm / guide" in shown
    assert '<td class="num">10</td><td class="num">50</td>' in shown


def test_costs_show_the_target_of_a_class(console, reported):
    SloClass.objects.filter(name="interactive").update(cost_target=100)
    (row,) = [each for each in rest(console, "costs")["groups"] if each["slo_class"] == "interactive"]
    assert (row["target"], row["of_target"]) == ("100.0000", "1.095890")
    assert "109.6 %" in page(console, "report-costs").text


def test_filters_narrow_and_stay_in_every_link(console, reported):
    shown = page(console, "report-utilization", "by=endpoint&tenant=nord&gpu_type=h100_sxm").text
    assert "chat" in shown
    assert "mail (Süd)" not in shown
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
            "bucket_width=1d&group_by=cluster&start=2025-06-01T00:00:00Z&end=2026-06-01T00:00:00Z",
            "bucket_width",
        ),
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


@pytest.fixture
def saving(endpoint, acme) -> Saving:
    with scope.tenant(acme.id):
        return Saving.objects.create(
            tenant=acme, endpoint=endpoint, kind=Saving.Kind.IDLE, what="Idle in 50% of the GPU time.", amount=120,
            currency="EUR", asset_amount=60, asset_currency="EUR", gpu_hours=48, how=["Half of 96 GPU-hours."],
            computed_at=timezone.now(),
        )  # fmt: skip


def test_savings_are_shown_with_money_how_and_where_to_act(console, saving):
    shown = console.get(reverse("console:report-savings")).text
    for text in (
        "120.00 EUR in 30 days",
        "60.00 EUR",
        "Idle in 50% of the GPU time.",
        "Half of 96 GPU-hours.",
    ):
        assert text in shown
    assert reverse("console:endpoint", args=[saving.endpoint_id]) in shown
    told = console.get("/api/v1/platform/savings").json()["savings"]
    answer = console.get(reverse("console:report-savings"), {"csv": "1"})
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["amount"], row["id"], row["how"]) == (told[0]["amount"], told[0]["id"], told[0]["how"][0])


def test_a_saving_is_put_off_with_a_reason(console, saving):
    url = reverse("console:saving-dismiss", args=[saving.id])
    assert console.get(url).status_code == 200
    refused = console.post(url, {"reason": "", "until": "2020-01-01"})
    assert refused.status_code == 422
    until = (timezone.now() + dt.timedelta(days=9)).date()
    assert console.post(url, {"reason": "A launch next week", "until": until.isoformat()}).status_code == 302
    assert "No savings found" in console.get(reverse("console:report-savings")).text
    put_off = console.get(reverse("console:report-savings"), {"put_off": "1"}).text
    assert "A launch next week" in put_off
    assert console.get("/api/v1/platform/savings", {"dismissed": "true"}).json()["savings"][0]["id"] == str(
        saving.id
    )


def test_a_saving_is_put_off_by_rest(console, saving):
    url = f"/api/v1/platform/savings/{saving.id}:dismiss"
    until = timezone.now() + dt.timedelta(days=9)
    answer = console.post(
        url, {"reason": "Not now", "until": until.isoformat()}, content_type="application/json"
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["dismissed_reason"] == "Not now"
    past = {"reason": "Not now", "until": "2020-01-01T00:00:00Z"}
    assert "until" in console.post(url, past, content_type="application/json").json()["errors"]
    gone = f"/api/v1/platform/savings/{saving.endpoint_id}:dismiss"
    body = {"reason": "x", "until": until.isoformat()}
    assert console.post(gone, body, content_type="application/json").status_code == 404


def test_a_saving_of_an_endpoint_that_is_gone_is_gone(console, saving):
    with scope.platform("a test"):
        Endpoint.objects.filter(id=saving.endpoint_id).update(deleted_at=timezone.now())
    body = {"reason": "x", "until": (timezone.now() + dt.timedelta(days=9)).isoformat()}
    url = f"/api/v1/platform/savings/{saving.id}:dismiss"
    assert console.post(url, body, content_type="application/json").status_code == 404


def test_fragmentation_tells_what_free_gpus_have_room_for(console, estate):
    rows = {
        f"{row['cluster']}/{row['pool']}": row for row in rest(console, "fragmentation", span="")["pools"]
    }
    h100 = rows["de-a/h100"]
    assert (h100["free"], h100["largest"], h100["fits_8"], h100["fits_2"], h100["stranded"]) == (
        8,
        8,
        1,
        4,
        0,
    )
    l4 = rows["fi-a/l4"]  # two nodes of two
    assert (l4["free"], l4["largest"], l4["fits_4"], l4["fits_2"], l4["stranded"]) == (4, 2, 0, 2, 0)
    assert "de-a" in page(console, "report-fragmentation").text


def test_a_gpu_on_a_partly_taken_node_is_stranded(console, endpoint):
    rows = rest(console, "fragmentation", span="")["pools"]
    assert rows[0]["stranded"] == rows[0]["free"] % rows[0]["whole"] > 0
