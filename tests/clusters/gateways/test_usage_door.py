"""The door for usage as an ASGI server asks it: in front of Django, many batches in one transaction."""

from __future__ import annotations

import asyncio

import httpx
import msgspec
import pytest
from django.db import connection
from django.utils import timezone

from billing.models import UsageSegment
from clusters.api import usage_door
from clusters.inventory.gateways import gateway_register
from clusters.models import Gateway, Region
from gateway.contract import USAGE_PATH, UsageBatch, UsageReceipt
from portal.asgi import application
from tenants import scope
from tests.billing.usage import GATEWAY, segment
from tests.factories import make_tenant

IDENTITY = f"{GATEWAY}/a1"


@pytest.fixture
def token(committed_db):
    _, token = gateway_register(
        name=GATEWAY, region=Region.objects.create(code="de-1", name="Frankfurt", country="DE")
    )
    yield token
    usage_door.stop()


@pytest.fixture
def tenant(committed_db):
    return make_tenant()


def body(*segments, gateway=IDENTITY) -> bytes:
    return msgspec.json.encode(UsageBatch(gateway=gateway, segments=segments))


def ours(tenant, sequence, **changes):
    return segment(tenant, sequence, at=timezone.now().replace(microsecond=0), gateway=IDENTITY, **changes)


def post(*bodies: bytes, token: str, path: str = USAGE_PATH) -> list[httpx.Response]:
    """Send all at once."""

    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=application)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://portal", headers=headers
        ) as client:
            return await asyncio.gather(*(client.post(path, content=each) for each in bodies))

    return asyncio.run(send())


def receipt(answer: httpx.Response) -> UsageReceipt:
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=UsageReceipt)


def stored() -> int:
    with scope.platform("test"):
        return UsageSegment.objects.count()


def test_batches_that_come_at_once_are_answered_each_with_its_own_counts(token, tenant):
    bodies = [body(*(ours(tenant, 10 * n + each) for each in range(n))) for n in range(1, 10)]
    answers = post(*bodies, token=token)
    assert [receipt(each).inserted for each in answers] == list(range(1, 10))
    again = [receipt(each) for each in post(*bodies, body(ours(tenant, 500)), token=token)]
    assert [(each.inserted, each.duplicates) for each in again] == [*((0, n) for n in range(1, 10)), (1, 0)]
    assert stored() == 46


def test_the_same_batch_many_times_at_once_is_stored_once(token, tenant):
    same = body(ours(tenant, 1), ours(tenant, 2))
    receipts = [receipt(each) for each in post(*[same] * 20, token=token)]
    assert sum(each.inserted for each in receipts) == 2
    assert sum(each.duplicates for each in receipts) == 38
    assert stored() == 2


def test_one_that_cannot_be_read_does_not_hinder_the_others(token, tenant):
    answers = post(
        body(ours(tenant, 1)), b"{", body(gateway="another"), body(ours(tenant, 2, requests=-1)), token=token
    )
    assert [each.status_code for each in answers] == [200, 400, 400, 200]
    assert "does not hold a batch of usage segments" in answers[1].json()["detail"]
    assert f"This token belongs to gateway {GATEWAY}" in answers[2].json()["detail"]
    assert answers[1].headers["content-type"] == "application/problem+json"
    assert "negative" in receipt(answers[3]).refused[0].reason
    assert stored() == 1


def test_bytes_that_are_no_text_are_refused_and_hinder_nobody(token, tenant):
    broken = body(ours(tenant, 1)).replace(b'"guide"', b'"\xff"')
    answers = post(body(ours(tenant, 2)), broken, body(ours(tenant, 3)), token=token)
    assert [each.status_code for each in answers] == [200, 400, 200]
    assert "does not hold a batch of usage segments" in answers[1].json()["detail"]


@pytest.mark.parametrize("instance", ["a\0", "a\n", "\u2028"])
def test_an_instance_that_is_not_printable_is_refused(token, tenant, instance):
    named = f"{GATEWAY}/{instance}"
    (answer,) = post(body(segment(tenant, 1, gateway=named), gateway=named), token=token)
    assert answer.status_code == 400
    assert "printable" in answer.json()["detail"]


@pytest.mark.parametrize("field", ["model", "tenant_id", "key_id"])
def test_a_segment_with_nul_is_refused_alone(token, tenant, field):
    (answer,) = post(body(ours(tenant, 1), ours(tenant, 2, **{field: "a\0b"})), token=token)
    found = receipt(answer)
    assert (found.inserted, [each.sequence for each in found.refused]) == (1, [2])


def test_a_strange_or_missing_token_is_refused(token, tenant):
    for wrong in ("nobody's", ""):
        (answer,) = post(body(ours(tenant, 1)), token=wrong)
        told = answer.json()
        assert (answer.status_code, told["code"]) == (401, "not-authenticated")
        assert (told["status"], told["type"]) == (401, "/docs/errors#not-authenticated")
    assert stored() == 0


def test_a_renewed_token_ends_the_old_one_as_soon_as_it_is_looked_up_again(token, tenant, monkeypatch):
    monkeypatch.setattr(usage_door, "TOKEN_S", 0.0)
    assert receipt(*post(body(ours(tenant, 1)), token=token)).inserted == 1
    _, new = gateway_register(name=GATEWAY, region=Gateway.objects.get().region)
    assert post(body(ours(tenant, 2)), token=token)[0].status_code == 401
    assert receipt(*post(body(ours(tenant, 2)), token=new)).inserted == 1


def test_a_body_that_is_too_large_is_not_read(token, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    (answer,) = post(b" " * 101, token=token)
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


def test_more_segments_than_one_batch_may_have_are_refused(token, tenant, monkeypatch):
    monkeypatch.setattr(usage_door, "MOST_SEGMENTS", 1)
    (answer,) = post(body(ours(tenant, 1), ours(tenant, 2)), token=token)
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "One message has at most 1 segments; this one has 2.",
    )


def test_a_connection_that_broke_is_replaced(token, tenant):
    assert receipt(*post(body(ours(tenant, 1)), token=token)).inserted == 1
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    answers = post(*(body(ours(tenant, n)) for n in range(2, 8)), token=token)
    assert [receipt(each).inserted for each in answers] == [1] * 6


def test_other_paths_and_methods_are_left_to_django(token):
    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://portal") as client:
            return await client.get(USAGE_PATH)

    assert asyncio.run(get()).status_code == 405
