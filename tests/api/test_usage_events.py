"""Usage of engines outside Berth through the REST API, as CloudEvents."""

from __future__ import annotations

import datetime as dt
import json
import uuid

import pytest
from django.utils import timezone

from billing.metering.events import TYPE, engine_id
from billing.models import EndpointLabel, UsageSegment
from tenants import scope
from tenants.models import Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.factories import default_project

pytestmark = pytest.mark.django_db

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def event(id: str = "1", **changes) -> dict:
    data = {"project": "default", "endpoint": "vllm-berlin", "model": "llama", "input_tokens": 10}
    data |= changes.pop("data", {})
    attributes = {
        "specversion": "1.0", "type": TYPE, "id": id, "source": "/vllm/1", "time": timezone.now().isoformat()
    }  # fmt: skip
    return {**attributes, **changes, "data": data}


def send(client, *events, **options):
    return client.post(f"{API}/usage-events", json.dumps(events), content_type=BATCH, **options)


def counts(response) -> tuple[int, int, int]:
    assert response.status_code == 200, response.content
    found = response.json()
    return found["inserted"], found["duplicates"], len(found["refused"])


def stored(tenant) -> list[UsageSegment]:
    with scope.tenant(tenant.id):
        return list(UsageSegment.objects.order_by("event"))


def test_one_event_in_structured_mode_is_stored_under_its_utc_day(owner, tenant):
    sent = event(
        time=(timezone.now() - dt.timedelta(days=3)).replace(hour=1, minute=30, second=0, microsecond=0).isoformat(),
        data={"output_tokens": 7, "cached_tokens": 4, "requests": 2, "slo_class": "batch", "region": "eu-de-1"},
    )  # fmt: skip
    answer = owner.post(f"{API}/usage-events", json.dumps(sent), content_type=STRUCTURED)
    assert counts(answer) == (1, 0, 0)
    (row,) = stored(tenant)
    assert (row.event, row.source, row.requests) == ("1", "/vllm/1", 2)
    assert (row.input_tokens, row.output_tokens, row.cached_tokens) == (10, 7, 4)
    assert (row.input_tokens_squared, row.output_tokens_squared) == (50, 25)
    assert (row.model, row.slo_class, row.region, row.outcome) == ("llama", "batch", "eu-de-1", "completed")
    assert row.window_end == dt.datetime.fromisoformat(sent["time"])
    assert row.day == row.window_end.date()
    project = default_project(tenant)
    assert (row.project_id, row.endpoint_id) == (
        project.id,
        engine_id(tenant.id, project.id, "vllm-berlin"),
    )


def test_sending_again_stores_nothing_also_within_one_batch(owner, tenant):
    first, second = event("1"), event("2")
    assert counts(send(owner, first, second, first)) == (2, 1, 0)
    assert counts(send(owner, second, event("3"), first)) == (1, 2, 0)
    assert [row.event for row in stored(tenant)] == ["1", "2", "3"]


def test_an_event_is_known_by_source_and_id_whatever_else_it_says(owner, tenant):
    assert counts(send(owner, event("1"))) == (1, 0, 0)
    assert counts(send(owner, event("1", data={"key": "other", "input_tokens": 99}))) == (0, 1, 0)
    assert counts(send(owner, event("1", source="/vllm/2"))) == (1, 0, 0)
    assert sorted(row.source for row in stored(tenant)) == ["/vllm/1", "/vllm/2"]


def test_the_same_event_of_another_tenant_is_another(owner, stranger, tenant):
    assert counts(send(owner, event())) == (1, 0, 0)
    assert counts(send(stranger, event())) == (1, 0, 0)
    assert len(stored(tenant)) == 1


def test_the_day_follows_utc_not_the_senders_zone(owner, tenant):
    moment = (timezone.now() - dt.timedelta(days=2)).replace(hour=23, minute=30, second=0, microsecond=0)
    local = moment.astimezone(dt.timezone(dt.timedelta(hours=5)))
    assert local.date() != moment.date()
    send(owner, event(time=local.isoformat()))
    assert stored(tenant)[0].day == moment.date()


def test_the_engine_gets_a_label_as_an_endpoint_outside(owner, tenant):
    send(owner, event("1"), event("2"), event("3", data={"endpoint": "other"}))
    with scope.tenant(tenant.id):
        labels = {label.name: label for label in EndpointLabel.objects.all()}
    assert sorted(labels) == ["other", "vllm-berlin"]
    label = labels["vllm-berlin"]
    assert (label.external, label.model, label.project_id) == (True, "llama", default_project(tenant).id)
    assert {row.endpoint_id for row in stored(tenant)} == {each.endpoint_id for each in labels.values()}


def test_callers_are_told_apart_by_any_text_and_by_keys_ids(owner, tenant):
    key = str(uuid.uuid4())
    found = [event(str(n), data={"key": name}) for n, name in enumerate(("ann", "bob", "ann", key, ""))]
    send(owner, *found)
    keys = [row.key_id for row in stored(tenant)]
    assert keys[0] == keys[2]
    assert str(keys[3]) == key
    assert len(set(keys)) == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"specversion": "0.3"}, "not a CloudEvent 1.0"),
        ({"type": "com.example"}, "only berth.usage.v1 is taken"),
        ({"id": ""}, "the attribute id is missing"),
        ({"source": 5}, "the attribute source is missing"),
        ({"id": "x" * 201}, "id is longer than 200"),
        ({"source": "\ud800"}, "source is longer than 300 characters or not printable"),
        ({"time": "yesterday"}, "RFC 3339"),
        ({"time": "2026-05-20T14:30:00"}, "must be timezone aware"),
        ({"time": "0001-01-01T00:00:00+23:59"}, "RFC 3339"),
        ({"time": "2001-01-01T00:00:00Z"}, "arrived after its day was dropped"),
        ({"time": "2101-01-01T00:00:00Z"}, "more than a day ahead"),
        ({"Bad-Name": "x"}, "not a CloudEvent 1.0"),
        ({"data": {"project": "absent"}}, "there is no project 'absent'"),
        ({"data": {"input_tokens": -1}}, "data does not follow berth.usage.v1"),
        ({"data": {"input_tokens": 2**63}}, "data does not follow"),
        ({"data": {"input_tokens": 1.5}}, "data does not follow"),
        ({"data": {"requests": 0}}, "data does not follow"),
        ({"data": {"cached_tokens": 11}}, "more input tokens were cached"),
        ({"data": {"outcome": "lost"}}, "data does not follow"),
        ({"data": {"prompt": "hello"}}, "unknown field `prompt`"),
        ({"data": {"endpoint": "a\nb"}}, "printable"),
        ({"data": {"model": "m\x00"}}, "model is longer than 80 characters or not printable"),
    ],
)
def test_an_event_that_cannot_be_right_is_refused_alone(owner, tenant, changes, reason):
    answer = send(owner, event("a"), event(**({"id": "b"} | changes)), event("c"))
    assert counts(answer) == (2, 0, 1)
    (refused,) = answer.json()["refused"]
    assert refused["position"] == 1
    assert reason in refused["reason"]
    assert [row.event for row in stored(tenant)] == ["a", "c"]


def test_something_that_is_no_event_is_refused_alone(owner):
    assert counts(send(owner, 7, event(), None)) == (1, 0, 2)
    assert counts(send(owner)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        ("{", STRUCTURED, 400, "malformed"),
        ("[]", STRUCTURED, 400, "malformed"),
        ("{}", BATCH, 400, "malformed"),
        ("[" * 100_000, BATCH, 400, "malformed"),
        ("{}", "application/json", 415, "unsupported-media-type"),
        (json.dumps([{}] * 1_001), BATCH, 400, "malformed"),
        (" " * (1024 * 1024 + 1), BATCH, 413, "body-too-large"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(owner, content, content_type, status, code):
    answer = owner.post(f"{API}/usage-events", content, content_type=content_type)
    assert_problem(answer, status, code)


@pytest.mark.parametrize("content_type", [STRUCTURED, BATCH])
def test_a_body_that_is_empty_or_of_no_told_length_is_not_taken_for_no_events(owner, tenant, content_type):
    """A chunked body has no length, and is not read."""
    chunked = json.dumps([event()]).encode()
    for body, told in ((b"", "0"), (chunked, ""), (chunked, "0")):
        answer = owner.generic(
            "POST", f"{API}/usage-events", body, content_type=content_type, CONTENT_LENGTH=told
        )
        assert "Content-Length" in assert_problem(answer, 400, "malformed")["detail"]
    assert stored(tenant) == []


def test_only_some_roles_may_report_usage(tenant, anonymous):
    for role in Role:
        allowed = role in (Role.OWNER, Role.ADMIN, Role.DEVELOPER)
        assert send(client_of(tenant, role), event(role)).status_code == (200 if allowed else 403)
    assert_problem(send(anonymous, event()), 401, "not-authenticated")
    assert len(stored(tenant)) == 3
