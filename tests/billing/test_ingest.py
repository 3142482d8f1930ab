"""Usage arrives exactly once, and what cannot be taken is refused aloud."""

from __future__ import annotations

import datetime as dt
import random
import threading
import uuid

import msgspec
import pytest
from django.db import connection

from billing.metering.ingest import ingest, ingest_all
from billing.models import UsageRefusal
from billing.models import UsageSegment as StoredSegment
from gateway.contract import Outcome, UsageSegment
from tenants import scope
from tests.billing.usage import NOW, batch, segment
from tests.factories import default_project, make_tenant

DAY = dt.timedelta(days=1)


@pytest.fixture
def tenant(db):
    return make_tenant()


def stored(tenant) -> list[StoredSegment]:
    with scope.tenant(tenant.id):
        return list(StoredSegment.objects.order_by("sequence"))


def test_segment_is_stored_as_it_came(tenant):
    sent = segment(tenant, 7)
    receipt = ingest(batch=batch(sent), now=NOW)
    assert (receipt.inserted, receipt.duplicates, receipt.refused) == (1, 0, ())
    (row,) = stored(tenant)
    for name in ("day", "gateway", "sequence", "model", "slo_class", "region", "window_start", "window_end",
                 "requests", "input_tokens", "output_tokens", "cached_tokens", "input_tokens_squared",
                 "output_tokens_squared"):  # fmt: skip
        assert getattr(row, name) == getattr(sent, name), name
    assert row.project_id == default_project(tenant).id
    for name in ("tenant_id", "key_id", "endpoint_id", "revision_id", "outcome"):
        assert str(getattr(row, name)) == getattr(sent, name), name
    assert (tuple(row.ttft_ms), tuple(row.itl_ms)) == (sent.ttft_ms, sent.itl_ms)
    assert row.received_at == NOW


def test_names_with_quotes_braces_and_umlauts_are_stored_as_they_came(tenant):
    model = r'a"b\c{d},é NULL'
    ingest(batch=batch(segment(tenant, 1, model=model), segment(tenant, 2, model="NULL")), now=NOW)
    assert [row.model for row in stored(tenant)] == [model, "NULL"]


def test_repeats_within_and_across_batches_count_once(tenant):
    first = [segment(tenant, n) for n in range(1, 6)]
    assert ingest(batch=batch(*first, first[0]), now=NOW).inserted == 5
    again = ingest(batch=batch(*reversed(first), segment(tenant, 6)), now=NOW + DAY)
    assert (again.inserted, again.duplicates) == (1, 5)
    assert [row.sequence for row in stored(tenant)] == [1, 2, 3, 4, 5, 6]


def test_same_sequence_of_another_gateway_key_day_or_tenant_is_another_segment(tenant):
    other = make_tenant()
    receipt = ingest(
        batch=batch(
            segment(tenant, 1),
            segment(tenant, 1, key_id=str(uuid.uuid4())),
            segment(tenant, 1, at=NOW - DAY),
            segment(other, 1),
        ),
        now=NOW,
    )
    assert receipt.inserted == 4
    assert ingest(batch=batch(segment(tenant, 1, gateway="g2"), gateway="g2"), now=NOW).inserted == 1
    assert len(stored(tenant)) == 4


def test_request_that_named_no_endpoint_is_kept(tenant):
    nothing = {"endpoint_id": "", "revision_id": None, "model": "", "slo_class": "", "ttft_ms": ()}
    sent = segment(tenant, 1, outcome=Outcome.REFUSED, **nothing)
    assert ingest(batch=batch(sent), now=NOW).inserted == 1
    assert stored(tenant)[0].endpoint_id is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tenant_id": str(uuid.uuid4())}, "there is no tenant"),
        ({"tenant_id": "acme"}, "there is no tenant 'acme'"),
        ({"project_id": str(uuid.uuid4())}, "with a project"),
        ({"project_id": "x"}, "with a project 'x'"),
        ({"gateway": "another"}, "is of gateway 'another'"),
        ({"key_id": "x"}, "'x' is not a UUID"),
        ({"key_id": ""}, "'' is not a UUID"),
        ({"day": (NOW - DAY).date()}, "is not the UTC day"),
        ({"day": (NOW + DAY).date()}, "is not the UTC day"),
        ({"window_start": NOW + DAY}, "ends before it starts"),
        ({"window_end": NOW.replace(tzinfo=None)}, "needs a time zone"),
        ({"requests": -1}, "negative"),
        ({"output_tokens": -1}, "negative"),
        ({"ttft_ms": (0, -1)}, "negative"),
        ({"requests": 2**31}, "too large"),
        ({"input_tokens": 2**63}, "too large"),
        (
            {"requests": 10**6, "output_tokens": 10**12 + 1, "output_tokens_squared": 10**18 + 2 * 10**6 + 1},
            "too large",
        ),
        ({"day": dt.date.max, "window_end": dt.datetime.max.replace(tzinfo=dt.UTC)}, "ahead of this clock"),
        ({"sequence": -1}, "sequence"),
        ({"cached_tokens": 101}, "more input tokens were cached"),
        ({"ttft_ms": (0,) * 23}, "the histogram ttft_ms has 23 buckets, at most 22"),
        ({"itl_ms": (0,) * 23}, "the histogram itl_ms has 23 buckets, at most 22"),
        ({"itl_ms": (1, -1)}, "negative"),
        ({"itl_ms": (2**31,)}, "too large"),
        ({"output_tokens_squared": -1}, "negative"),
        ({"input_tokens_squared": 2**63}, "too large"),
        ({"input_tokens_squared": 3_333}, "squares of 100 input tokens of 3 requests cannot sum to 3333"),
        ({"output_tokens_squared": 2_501}, "squares of 50 output tokens of 3 requests cannot sum to 2501"),
        ({"model": "m" * 81}, "model is longer"),
        ({"region": "de\x00"}, "region is longer than 40 characters or not printable"),
    ],
)
def test_segment_that_cannot_be_right_is_refused_alone(tenant, changes, reason):
    bad = segment(tenant, **({"sequence": 2} | changes))
    receipt = ingest(batch=batch(segment(tenant, 1), bad, segment(tenant, 3)), now=NOW)
    assert receipt.inserted == 2
    (refused,) = receipt.refused
    assert refused.sequence == bad.sequence
    assert reason in refused.reason


def test_what_is_refused_is_kept_as_it_came_and_how_often(tenant):
    bad = segment(tenant, 2, model="m\x00" * 50, input_tokens=-1, input_tokens_squared=2**70)
    for days in (0, 1):
        ingest(batch=batch(bad), now=NOW + days * DAY)
    with scope.platform("test"):
        (kept,) = UsageRefusal.objects.all()
    assert (kept.gateway, kept.sequence, kept.count) == (bad.gateway, 2, 2)
    assert (kept.first_seen_at, kept.last_seen_at) == (NOW, NOW + DAY)
    assert "negative" in kept.reason
    assert msgspec.json.decode(kept.content, type=UsageSegment) == bad


def test_a_sequence_beyond_all_bounds_is_refused_and_kept(tenant):
    assert ingest(batch=batch(segment(tenant, 2**63)), now=NOW).refused[0].sequence == 2**63
    with scope.platform("test"):
        assert UsageRefusal.objects.get().sequence == 2**63 - 1


def test_several_batches_get_each_their_own_receipt(tenant):
    first, second = (
        batch(segment(tenant, 1), segment(tenant, 2)),
        batch(segment(tenant, 2), segment(tenant, 3)),
    )
    receipts = ingest_all(batches=[first, second], now=NOW)
    assert sorted((each.inserted, each.duplicates) for each in receipts) == [(1, 1), (2, 0)]
    assert [row.sequence for row in stored(tenant)] == [1, 2, 3]


@pytest.mark.parametrize("squares", [3_334, 10_000])
def test_requests_may_be_of_one_length_or_one_have_all_the_tokens(tenant, squares):
    sent = segment(tenant, 1, input_tokens_squared=squares)
    assert ingest(batch=batch(sent), now=NOW).inserted == 1
    assert stored(tenant)[0].input_tokens_squared == squares


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (NOW - 401 * DAY, "arrived after its day was dropped"),
        (NOW + DAY + dt.timedelta(minutes=1), "more than a day ahead"),
    ],
)
def test_time_out_of_reach_is_refused(tenant, at, reason):
    receipt = ingest(batch=batch(segment(tenant, at=at)), now=NOW)
    assert receipt.inserted == 0
    assert reason in receipt.refused[0].reason


def test_retention_is_a_setting(tenant, settings):
    settings.USAGE_RETENTION_DAYS = 2
    segments = [segment(tenant, 1, at=NOW - 2 * DAY), segment(tenant, 2, at=NOW - 3 * DAY)]
    receipt = ingest(batch=batch(*segments), now=NOW)
    assert receipt.inserted == 1
    assert receipt.refused[0].sequence == 2


def test_window_may_close_at_midnight_of_its_day(tenant):
    midnight = NOW.replace(hour=0, minute=0)
    start = midnight - dt.timedelta(seconds=5)
    sent = segment(tenant, at=midnight, day=start.date(), window_start=start)
    assert ingest(batch=batch(sent), now=NOW).inserted == 1


def test_days_long_ago_get_their_partition_on_arrival(tenant):
    segments = [segment(tenant, days, at=NOW - days * DAY) for days in (1, 40, 399)]
    assert ingest(batch=batch(*segments), now=NOW).inserted == 3


def test_empty_batch(tenant):
    receipt = ingest(batch=batch(), now=NOW)
    assert (receipt.inserted, receipt.duplicates, receipt.refused) == (0, 0, ())


def test_segments_never_change(tenant):
    ingest(batch=batch(segment(tenant)), now=NOW)
    with pytest.raises(Exception, match="never change"), scope.tenant(tenant.id):
        StoredSegment.objects.update(requests=0)


def test_senders_at_once_in_any_order_store_each_segment_once(committed_db):
    tenant = make_tenant()
    segments = [segment(tenant, n, at=NOW - (n % 3) * DAY) for n in range(600)]
    inserted, errors = [], []

    def send(seed: int) -> None:
        shuffled = segments[:]
        random.Random(seed).shuffle(shuffled)
        try:
            for start in range(0, len(shuffled), 150):
                inserted.append(ingest(batch=batch(*shuffled[start : start + 150]), now=NOW).inserted)
        except Exception as error:  # noqa: BLE001
            errors.append(error)
        finally:
            connection.close()

    senders = [threading.Thread(target=send, args=(seed,)) for seed in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(60)
    assert errors == []
    assert sum(inserted) == 600
    assert len(stored(tenant)) == 600


def test_partition_asked_directly_shows_only_the_scope(committed_db):
    ours, theirs = make_tenant(), make_tenant()
    ingest(batch=batch(segment(ours), segment(theirs)), now=NOW)
    for name in ("billing_usagesegment", f"billing_usagesegment_{NOW:%Y%m%d}"):
        with scope.tenant(ours.id), connection.cursor() as cursor:
            cursor.execute(f"SELECT tenant_id FROM {name}")
            assert cursor.fetchall() == [(ours.id,)]
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {name}")
            assert cursor.fetchone() == (0,)
            secured = "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relname = %s"
            cursor.execute(secured, [name])
            assert cursor.fetchone() == (True,)
