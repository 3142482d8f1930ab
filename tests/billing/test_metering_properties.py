"""Whatever way segments arrive, what is counted is what the sorted set of them comes to."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections import Counter, defaultdict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import quantities
from billing.metering.ingest import ingest
from billing.metering.rollups import roll_up
from billing.models import GatewayDay, SequenceGap, UsageDay, UsageHour, UsageMinute, UsageMinutes
from gateway.contract import Outcome, UsageSegment
from tenants import scope
from tests.billing.usage import NOW, NUMBERS, batch, roll_up_until, segment
from tests.factories import make_tenant

_numbers = itertools.count(1)
UNITS = {UsageMinute: "minute", UsageHour: "hour", UsageDay: "day"}
FIRST = NOW - dt.timedelta(days=40)

facts = st.fixed_dictionaries(
    {
        "at": st.one_of(
            st.integers(0, 40 * 24 * 3600 - 1).map(lambda s: FIRST + dt.timedelta(seconds=s)),
            # Around midnight, where a day begins.
            st.integers(-90, 90).map(
                lambda s: NOW.replace(hour=0, minute=0) + dt.timedelta(seconds=s, days=-3)
            ),
        ),
        "instance": st.sampled_from("ab"),
        "key_id": st.integers(1, 2).map(lambda n: str(uuid.UUID(int=n))),
        "endpoint_id": st.sampled_from(["", str(uuid.UUID(int=3)), str(uuid.UUID(int=4))]),
        "revision_id": st.sampled_from([None, str(uuid.UUID(int=5))]),
        "model": st.sampled_from(["guide", "docs"]),
        "outcome": st.sampled_from(list(Outcome)),
        "requests": st.integers(1, 4),
        "input_tokens": st.integers(10, 10**9),
        "output_tokens": st.integers(0, 10**9),
        "ttft_ms": st.lists(st.integers(0, 3), max_size=22).map(tuple),
        "itl_ms": st.lists(st.integers(0, 3), max_size=22).map(tuple),
    }
)


@st.composite
def arrivals(draw) -> tuple[list[dict], list[list[int]], list[int]]:
    """Give segments, batches of their places (some more than once, in any order), and pages of rollups between."""
    wanted = draw(st.lists(facts, min_size=1, max_size=25))
    places = draw(st.permutations(range(len(wanted))))
    again = draw(st.lists(st.sampled_from(range(len(wanted))), max_size=10))
    order = [*places]
    for place in again:
        order.insert(draw(st.integers(0, len(order))), place)
    cuts = sorted(draw(st.sets(st.integers(0, len(order)), max_size=6)))
    batches = [order[start:end] for start, end in itertools.pairwise([0, *cuts, len(order)])]
    pages = draw(st.lists(st.integers(0, 12), min_size=len(batches), max_size=len(batches)))
    return wanted, batches, pages


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)  # fmt: skip
@given(arrivals())
def test_any_split_repetition_order_and_lateness_gives_the_same_rollups(committed_db, plan):
    wanted, batches, pages = plan
    run = next(_numbers)
    tenant = make_tenant()
    sent = made(tenant, wanted, run)
    for places, page in zip(batches, pages, strict=True):
        for instance in "ab":
            # A batch is of one gateway.
            chosen = [sent[place] for place in places if wanted[place]["instance"] == instance]
            if chosen:
                ingest(batch=batch(*chosen, gateway=chosen[0].gateway), now=NOW)
        if page:
            roll_up(page=page, now=NOW)
    requests = sum(each.requests for each in sent)
    roll_up_until(tenant, requests)

    with scope.tenant(tenant.id):
        for model, unit in UNITS.items():
            found = {identity(row, row.bucket): numbers(row) for row in model.objects.all()}
            kept = [
                each for each in sent if unit != "minute" or each.day >= (NOW - dt.timedelta(days=35)).date()
            ]
            assert found == summed(kept, unit), unit
        for model in (UsageHour, UsageDay):
            rows = list(model.objects.all())
            for name in ("ttft_ms", "itl_ms"):
                assert histogram(rows, name) == histogram(sent, name)
        assert busiest() == minutes_of(sent)
        rated = quantities.used(start=start_of("day", FIRST), end=NOW + dt.timedelta(days=1))
        for name in ("requests", "input_tokens", "output_tokens", "cached_tokens"):
            assert sum(getattr(row, name) for row in rated) == sum(getattr(each, name) for each in sent)
    with scope.platform("test"):
        ours = GatewayDay.objects.filter(gateway__endswith=f"{run}")
        assert sum(row.segments for row in ours) == len(sent)
        assert sum(row.output_tokens for row in ours) == sum(each.output_tokens for each in sent)
        assert not SequenceGap.objects.exists()


def made(tenant, wanted: list[dict], run: int) -> list[UsageSegment]:
    sequences: Counter[str] = Counter()
    sent = []
    for each in wanted:
        changes = {name: value for name, value in each.items() if name not in ("at", "instance")}
        gateway = f"gw/{each['instance']}{run}"
        sequences[gateway] += 1
        sent.append(segment(tenant, sequences[gateway], at=each["at"], gateway=gateway, **changes))
    return sent


def identity(row, bucket: dt.datetime) -> tuple:
    found = (row.key_id, row.endpoint_id or None, row.revision_id, row.model, str(row.outcome))
    return (bucket, *(str(each) if isinstance(each, uuid.UUID) else each for each in found))


def numbers(row) -> tuple[int, ...]:
    return tuple(getattr(row, name) for name in NUMBERS)


def start_of(unit: str, moment: dt.datetime) -> dt.datetime:
    lower = {"second": 0, "microsecond": 0}
    if unit in ("hour", "day"):
        lower["minute"] = 0
    if unit == "day":
        lower["hour"] = 0
    return moment.replace(**lower)


def summed(sent: list[UsageSegment], unit: str) -> dict[tuple, tuple[int, ...]]:
    sums: dict[tuple, tuple[int, ...]] = defaultdict(lambda: (0,) * len(NUMBERS))
    for each in sent:
        place = identity(each, start_of(unit, each.window_end))
        sums[place] = tuple(a + b for a, b in zip(sums[place], numbers(each), strict=True))
    return dict(sums)


def histogram(rows, name: str) -> list[int]:
    found = [
        sum(places) for places in itertools.zip_longest(*(getattr(row, name) for row in rows), fillvalue=0)
    ]
    while found and not found[-1]:
        found.pop()
    return found


def busiest() -> dict[tuple, int]:
    return {
        (str(row.endpoint_id), row.outcome, row.bucket + dt.timedelta(minutes=place)): count
        for row in UsageMinutes.objects.all()
        for place, count in enumerate(row.requests)
        if count
    }


def minutes_of(sent: list[UsageSegment]) -> dict[tuple, int]:
    found: Counter[tuple] = Counter()
    for each in sent:
        if each.endpoint_id:
            found[each.endpoint_id, str(each.outcome), start_of("minute", each.window_end)] += each.requests
    return dict(found)
