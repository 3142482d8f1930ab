"""Traces of endpoints through the REST API: read back by the replay that they are for."""

from __future__ import annotations

import datetime as dt
import uuid
from pathlib import Path

import pytest

from billing.metering.partitions import ensure_minutes
from billing.models import UsageMinute
from clusters.endpoints.load import trace as traces
from gateway.replay.trace import Trace, read_trace
from tenants import scope
from tests.api.contract import API, assert_problem
from tests.api.test_endpoints import order

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]

NINE = dt.datetime(2026, 5, 3, 9, tzinfo=dt.UTC)
WHEN = {"start": "2026-05-03T09:00:00Z", "end": "2026-05-03T10:00:00Z"}


@pytest.fixture
def busy(owner, tenant) -> dict:
    """An endpoint with a quiet minute of long prompts, and a busy one of short prompts."""
    made = order(owner)
    with scope.platform("a test"):
        ensure_minutes([NINE.date()])
    facts = {
        "tenant_id": tenant.id, "project_id": uuid.uuid4(), "key_id": uuid.uuid4(), "endpoint_id": made["id"],
        "model": "guide", "slo_class": "standard", "region": "de-1",
    }  # fmt: skip
    with scope.tenant(tenant.id):
        for minute, outcome, requests, given, made_tokens, cached in (
            (0, "completed", 3, 3000, 30, 1500), (7, "completed", 40, 400, 80, 0), (7, "cancelled", 1, 10, 1, 0),
            (7, "failed", 2, 20, 0, 0), (60, "completed", 9, 9, 9, 0),
        ):  # fmt: skip
            UsageMinute.objects.create(
                bucket=NINE + dt.timedelta(minutes=minute), outcome=outcome, requests=requests,
                input_tokens=given, output_tokens=made_tokens, cached_tokens=cached,
                input_tokens_squared=2 * given**2 // requests, output_tokens_squared=made_tokens**2 // requests,
                **facts,
            )  # fmt: skip
    return made


def path(made: dict) -> str:
    return f"{API}/endpoints/{made['id']}/trace"


def read(content: bytes, folder: Path) -> Trace:
    file = folder / "trace.csv"
    file.write_bytes(content)
    return read_trace(file)


def test_a_trace_has_the_requests_and_the_sums_of_each_minute_and_says_that_it_is_made(owner, busy, tmp_path):
    answer = owner.get(path(busy), WHEN)
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/csv; charset=utf-8")
    found = read(answer.content, tmp_path)
    assert "synthesised from sums by minute" in found.notes[1]
    assert found.notes[2] == "2 requests that failed or were refused are left out"
    first, later = found.requests[:3], found.requests[3:]
    assert (len(first), len(later)) == (3, 41)
    assert sum(each.input_tokens for each in first) == 3000
    assert sum(each.output_tokens for each in first) == 30
    assert sum(each.cached_tokens for each in first) == pytest.approx(1500, abs=2)
    assert sum(each.input_tokens for each in later) == 410
    assert later[0].at_s >= 360  # six minutes at least lie between
    assert len({each.input_tokens for each in later}) > 5  # spread, as the squares say
    assert {each.output_tokens for each in later if each.input_tokens} <= {
        1,
        2,
    }  # all alike, as the squares say


def test_the_same_time_gives_the_same_trace(owner, busy):
    assert owner.get(path(busy), WHEN).content == owner.get(path(busy), WHEN).content


def test_a_time_without_requests_gives_an_empty_trace(owner, busy):
    lines = owner.get(path(busy)).content.decode().splitlines()
    assert lines[-1] == "TIMESTAMP,ContextTokens,GeneratedTokens,CachedTokens"


def test_a_trace_of_too_much_is_refused_with_what_to_do(owner, busy, monkeypatch):
    monkeypatch.setattr(traces, "MOST_REQUESTS", 40)
    problem = assert_problem(owner.get(path(busy), WHEN), 422, "invalid")
    assert "44 requests came then" in problem["detail"]
    assert list(problem["errors"]) == ["start"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"start": WHEN["end"], "end": WHEN["start"]}, "before the end"),
        ({"start": "2026-04-01T00:00:00Z", "end": WHEN["end"]}, "at most 7 days"),
        ({"start": "soon"}, "wrong format"),
        ({"from": WHEN["start"]}, "no such field"),
    ],
)
def test_a_wrong_time_is_named(owner, busy, query, words):
    assert words in str(assert_problem(owner.get(path(busy), query), 422, "invalid")["errors"])


def test_another_tenant_sees_no_trace(stranger, busy):
    assert_problem(stranger.get(path(busy), WHEN), 404, "not-found")
