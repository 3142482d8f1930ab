"""The queue of an endpoint: bounded, strict in priority with floors, fair between tenants, and nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.queue import EndpointQueue, Reason, Shed
from gateway.admission.waiter import Waiter
from gateway.contract import SloClass

INTERACTIVE = SloClass(name="interactive", priority=1, queue_s=5.0)
STANDARD = SloClass(name="standard", priority=2, queue_s=5.0, floor=0.2)
BATCH = SloClass(name="batch", priority=3, queue_s=60.0, floor=0.05)
CLASSES = (INTERACTIVE, STANDARD, BATCH)


@pytest.fixture(autouse=True)
def _loop():
    """Verdicts are futures of a loop that never runs here."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def waiter(
    slo_class: SloClass = INTERACTIVE,
    *,
    tenant_id: str = "t1",
    share: float = 1.0,
    tokens: int = 100,
    at: float = 0.0,
) -> Waiter:
    return Waiter(
        slo_class=slo_class,
        tenant_id=tenant_id,
        share=share,
        tokens=tokens,
        arrived=at,
        seat=lambda: True,
        verdict=asyncio.get_event_loop_policy().get_event_loop().create_future(),
    )


def queue(most: int = 1000, places: int = 4) -> EndpointQueue:
    return EndpointQueue(most=most, places=lambda: places)


def measured(per_s: float, most: int = 1000) -> tuple[EndpointQueue, float]:
    """Make an empty queue that has admitted ``per_s`` a second, and give the time it is then."""
    one, count = queue(most), 200
    now = 0.0
    one.push(waiter(at=now))
    for _ in range(count):
        one.push(waiter(at=now))
        now += 1 / per_s
        take(one, now)
    take(one, now)
    assert one.waiting == 0
    return one, now


def take(one: EndpointQueue, now: float = 0.0) -> Waiter:
    first = next(one.candidates())
    one.take(first, now)
    return first


def drain(one: EndpointQueue, now: float = 0.0) -> list[Waiter]:
    taken = []
    while one.waiting:
        assert len(list(one.candidates())) == len(set(one.candidates())) == one.waiting
        taken.append(take(one, now))
    return taken


def test_the_urgent_go_first_and_within_a_class_who_came_first() -> None:
    one = queue()
    came = [
        waiter(slo_class, at=float(at)) for at, slo_class in enumerate([BATCH, STANDARD, INTERACTIVE] * 2)
    ]
    for each in came:
        assert one.push(each) is None

    # Floors owe nobody anything for so few.
    assert drain(one) == [came[2], came[5], came[1], came[4], came[0], came[3]]


def test_lower_classes_keep_their_floors_while_higher_ones_wait() -> None:
    one = queue(places=500)
    for slo_class in CLASSES:
        for _ in range(300):
            one.push(waiter(slo_class))

    served = Counter(take(one).slo_class.name for _ in range(200))

    assert served["standard"] == pytest.approx(40, abs=1)
    assert served["batch"] == pytest.approx(10, abs=1)


def test_floors_leave_a_tenth_to_the_higher_class_whatever_they_add_up_to() -> None:
    greedy = [SloClass(name=f"c{n}", priority=n, floor=0.8, queue_s=1e6) for n in (2, 3)]
    one = queue(places=500)
    for slo_class in (INTERACTIVE, *greedy):
        for _ in range(300):
            one.push(waiter(slo_class))

    served = Counter(take(one).slo_class.name for _ in range(200))

    assert served["interactive"] == pytest.approx(20, abs=2)
    assert served["c2"] == pytest.approx(served["c3"], abs=2)


@given(
    demands=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(min_value=1, max_value=5000)), min_size=2, max_size=120
    ),
    share=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_tenants_that_both_wait_get_the_same_by_their_shares(
    demands: list[tuple[str, int]], share: float
) -> None:
    one = queue()
    shares = {"a": 1.0, "b": share}
    left: Counter[str] = Counter()
    for tenant_id, tokens in demands:
        assert one.push(waiter(tenant_id=tenant_id, share=shares[tenant_id], tokens=tokens)) is None
        left[tenant_id] += 1

    got = {"a": 0.0, "b": 0.0}
    largest = {name: max((t for n, t in demands if n == name), default=0) / shares[name] for name in shares}
    while left["a"] and left["b"]:
        served = take(one)
        left[served.tenant_id] -= 1
        got[served.tenant_id] += served.tokens / shares[served.tenant_id]
        assert abs(got["a"] - got["b"]) <= largest["a"] + largest["b"] + 1e-6


def test_a_tenant_that_sends_little_does_not_wait_behind_one_that_sends_much() -> None:
    one = queue()
    for _ in range(50):
        one.push(waiter(tenant_id="loud"))
    late = waiter(tenant_id="quiet")
    one.push(late)

    assert late in [take(one), take(one)]


def test_whoever_would_wait_too_long_is_refused_on_arrival() -> None:
    one, now = measured(per_s=10.0)

    shed = [one.push(waiter(at=now)) for _ in range(100)]

    accepted = shed.index(next(each for each in shed if each is not None))
    assert 45 <= accepted <= 55  # about ten a second for five seconds
    assert one.waiting == accepted
    assert {each.reason for each in shed[accepted:] if each} == {Reason.HOPELESS}
    assert one.refusal(INTERACTIVE, "t1", 1.0, now) is Reason.HOPELESS
    # Another tenant's first request still finds room: the newest of the many goes.
    assert one.refusal(INTERACTIVE, "t2", 1.0, now) is None
    displaced = one.push(waiter(tenant_id="t2", at=now))
    assert displaced is not None
    assert (displaced.reason, displaced.waiter.tenant_id) == (Reason.DISPLACED, "t1")
    assert 1 <= one.retry_after_s(1, now) <= 5


def test_a_lower_class_counts_on_what_higher_ones_leave() -> None:
    alone, now = measured(per_s=10.0)
    beside, _ = measured(per_s=10.0)
    for step in range(40):  # interactive comes twice as fast as it is served
        beside.push(waiter(at=now + step / 20))
        if step % 2:
            take(beside, now + step / 20)
    now += 2.0

    def accepted(one: EndpointQueue) -> int:
        return next(n for n in range(500) if one.push(waiter(STANDARD, at=now)) is not None)

    assert accepted(beside) < accepted(alone) / 3


def test_waiting_in_vain_makes_it_more_careful() -> None:
    one, now = measured(per_s=10.0)

    def accepted() -> list[Waiter]:
        came = []
        while not isinstance(one.push(each := waiter(at=now)), Shed):
            came.append(each)
        return came

    first = accepted()
    for each in first:
        one.expire(each)

    assert len(accepted()) < len(first) * 0.8


def test_a_full_queue_sheds_the_least_urgent_first() -> None:
    one = queue(most=3)
    batch = [waiter(BATCH) for _ in range(2)]
    standard = waiter(STANDARD)
    for each in (*batch, standard):
        assert one.push(each) is None

    urgent = [waiter(INTERACTIVE) for _ in range(4)]
    assert one.push(urgent[0]) == Shed(batch[1], Reason.FULL)  # the newest of them
    assert one.push(urgent[1]) == Shed(batch[0], Reason.FULL)
    late = waiter(BATCH)
    assert one.refusal(BATCH, "t1", 1.0, 0.0) is Reason.FULL
    assert one.push(late) == Shed(late, Reason.FULL)
    assert one.push(urgent[2]) == Shed(standard, Reason.FULL)
    assert one.push(urgent[3]) == Shed(urgent[3], Reason.FULL)
    assert drain(one) == urgent[:3]


def test_what_was_accepted_before_anything_was_measured_is_looked_at_again() -> None:
    one = queue()
    came = [waiter(at=0.0) for _ in range(150)]
    for each in came:
        assert one.push(each) is None
    now = 0.0
    while not one.measured:
        now += 0.5
        take(one, now)

    shed = one.trim(now)

    assert 0 < one.waiting <= 10  # two a second for five seconds
    assert len(shed) + one.waiting + one_served(came, shed, one) == len(came)
    assert {each.reason for each in shed} == {Reason.HOPELESS}
    assert came[-1] in {each.waiter for each in shed}


def one_served(came: list[Waiter], shed: list[Shed], one: EndpointQueue) -> int:
    gone = {each.waiter for each in shed}
    return sum(not each.waiting and each not in gone for each in came)


def test_it_says_what_waits() -> None:
    one = queue()
    assert (dict(one.by_class()), one.oldest_s(3.0), one.admitted_per_s(3.0)) == ({}, {}, None)
    one.push(waiter(BATCH, at=1.0))
    one.push(waiter(BATCH, at=2.0, tenant_id="t2"))
    one.push(waiter(at=2.5))

    assert dict(one.by_class()) == {"batch": 2, "interactive": 1}
    assert one.oldest_s(4.0) == {BATCH.priority: 3.0, 1: 1.5}
    drain(one)
    assert (dict(one.by_class()), one.oldest_s(9.0)) == ({}, {})


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "push", "take", "take-any", "remove", "expire", "trim"]),
        st.sampled_from(CLASSES),
        st.sampled_from("abc"),
        st.floats(min_value=0.0, max_value=2.0),
    ),
    max_size=150,
)


@given(actions=ACTIONS, most=st.integers(min_value=1, max_value=30))
def test_whatever_happens_each_leaves_once_and_the_queue_stays_bounded(
    actions: list[tuple[str, SloClass, str, float]], most: int
) -> None:
    one, now = queue(most), 0.0
    inside: dict[Waiter, None] = {}
    for action, slo_class, tenant_id, pause in actions:
        now += pause
        if action == "push":
            came = waiter(slo_class, tenant_id=tenant_id, at=now)
            expected = one.refusal(slo_class, tenant_id, 1.0, now)
            shed = one.push(came)
            inside[came] = None
            if shed is not None:
                del inside[shed.waiter]
                assert shed.waiter is not came or expected is shed.reason
            assert (shed is not None and shed.waiter is came) == (expected is not None)
        elif inside and action == "take":
            del inside[take(one, now)]
        elif inside and action == "take-any":
            chosen = list(one.candidates())[-1]
            one.take(chosen, now)
            del inside[chosen]
        elif inside and action in ("remove", "expire"):
            gone = next(itertools.islice(inside, len(inside) // 2, None))
            del inside[gone]
            getattr(one, action)(gone)
        elif action == "trim":
            for shed in one.trim(now):
                del inside[shed.waiter]
        assert one.waiting == len(inside) <= most
        assert all(each.waiting for each in inside)
        assert dict(one.by_class()) == Counter(each.slo_class.name for each in inside)
    # Within a tenant and class, who came first goes first.
    order: dict[tuple[str, str], list[float]] = {}
    for each in drain(one, now):
        order.setdefault((each.tenant_id, each.slo_class.name), []).append(each.arrived)
        del inside[each]
    assert not inside
    assert all(times == sorted(times) for times in order.values())
