"""The door to replicas: nobody's place is lost or taken twice, whatever happens and whoever leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import errors
from gateway.admission import Admission, Reason
from gateway.contract import Endpoint, Key, Replica, Route, SloClass, Snapshot, Tenant
from gateway.demand import Demand
from gateway.directory import Directory
from tests.gateway.world import World, replica

INTERACTIVE = SloClass(name="interactive", priority=1, queue_s=30.0, ttft_ms=500.0)
STANDARD = SloClass(name="standard", priority=2, queue_s=30.0, floor=0.2)
BATCH = SloClass(name="batch", priority=3, queue_s=30.0)
CLASSES = {"interactive": INTERACTIVE, "standard": STANDARD, "batch": BATCH}


def engine(name: str, concurrency: int | None) -> Replica:
    return msgspec.structs.replace(replica("http://engine", replica_id=name), concurrency=concurrency)


class House:
    """One endpoint behind an admission, with requests that stay until they are told to go."""

    def __init__(self, *concurrency: int | None, most_waiting: int = 100, gateways: int = 1) -> None:
        self.outstanding: dict[str, int] = {}
        self.admission = Admission(self.outstanding, most_waiting=most_waiting)
        self.guests: list[Guest] = []
        self.seats_broken = False
        self.publish(*concurrency, gateways=gateways)

    def publish(self, *concurrency: int | None, gateways: int = 1, draining: int = 0) -> None:
        replicas = tuple(
            msgspec.structs.replace(engine(f"r{n}", most), draining=n < draining)
            for n, most in enumerate(concurrency)
        )
        routes = (Route(revision_id="rev1", weight=1, replicas=replicas),)
        self.endpoint: Endpoint = World().endpoint("", routes=routes)
        snapshot = Snapshot.build(
            gateway="gw-1",
            region="eu-de-1",
            zones=("EU",),
            keys=(),
            endpoints=(self.endpoint,),
            classes=tuple(CLASSES.values()),
            tenants=(Tenant(tenant_id="t1", name="One", share=2.0),),
            gateways_here=gateways,
        )
        self.admission.use(Directory(snapshot, peppers={}))

    def replicas(self) -> list[Replica]:
        newest = self.admission.newest(self.endpoint)
        return [each for each in newest.routes[0].replicas if not each.draining]

    def come(
        self, slo_class: SloClass = INTERACTIVE, *, tenant: str = "t1", bound_to: str | None = None
    ) -> Guest:
        guest = Guest(self, slo_class, tenant, bound_to)
        self.guests.append(guest)
        return guest

    def inside(self) -> int:
        return sum(self.outstanding.values())

    def waiting(self) -> int:
        return sum(self.admission.state()["e1"].waiting.values())


class Guest:
    """A request. ``seat_at`` is where it was let in, for good; ``bound_to`` the only replica that will do."""

    def __init__(self, house: House, slo_class: SloClass, tenant: str, bound_to: str | None) -> None:
        self.bound_to = bound_to
        self.house = house
        self.seat_at: Replica | None = None
        self.refusal: errors.Overloaded | None = None
        self.go = asyncio.Event()
        key = Key(key_id="k", pepper_id=1, digest="", tenant_id=tenant, project_id="p", name="")
        self.demand = Demand(
            key=key, endpoint=house.endpoint, slo_class=slo_class, prompt="", input_tokens=5, exact=True,
            max_tokens=5,
        )  # fmt: skip
        self.task = asyncio.create_task(self._visit())

    def seat(self) -> bool:
        if self.house.seats_broken:
            raise LookupError("no seats at all")
        outstanding = self.house.outstanding
        for each in self.house.replicas():
            if self.bound_to in (None, each.replica_id) and self.house.admission.has_room(
                each, outstanding.get(each.replica_id, 0)
            ):
                outstanding[each.replica_id] = outstanding.get(each.replica_id, 0) + 1
                self.seat_at = each
                return True
        return False

    async def _visit(self) -> None:
        admission = self.house.admission
        try:
            admission.check(self.house.endpoint, self.demand.slo_class, self.demand.key)
            await admission.enter(self.demand, self.seat)
            await self.go.wait()
        except errors.Overloaded as refusal:
            self.refusal = refusal
        finally:
            if self.seat_at is not None:
                self.house.outstanding[self.seat_at.replica_id] -= 1
                admission.left(self.demand, self.seat_at)


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def close(house: House) -> None:
    for guest in house.guests:
        guest.task.cancel()
    await asyncio.gather(*(guest.task for guest in house.guests), return_exceptions=True)


@pytest.fixture
async def make() -> Any:
    houses: list[House] = []

    def one(*concurrency: int | None, **more: Any) -> House:
        houses.append(House(*concurrency, **more))
        return houses[-1]

    yield one
    for house in houses:
        await close(house)


Make = Callable[..., House]


async def test_as_many_as_the_plan_says_are_let_in_and_the_next_when_one_leaves(make: Make) -> None:
    house = make(2)
    first, second, third = (house.come() for _ in range(3))
    await settle()
    assert (house.inside(), house.waiting()) == (2, 1)

    first.go.set()
    await settle()

    assert third.seat_at is not None
    assert second.seat_at is not None
    assert (house.inside(), house.waiting()) == (2, 0)


async def test_gateways_share_a_replica(make: Make) -> None:
    assert dict(make(9, gateways=4).admission.state()["e1"].limits) == {"r0": 2}
    assert dict(make(2, gateways=4).admission.state()["e1"].limits) == {"r0": 1}


async def test_the_urgent_are_let_in_first(make: Make) -> None:
    house = make(1)
    first = house.come()
    await settle()
    batch, urgent = house.come(BATCH), house.come(INTERACTIVE)
    await settle()

    first.go.set()
    await settle()

    assert urgent.seat_at is not None
    assert batch.seat_at is None


async def test_a_full_queue_refuses_batch_and_says_when_to_come_again(make: Make) -> None:
    house = make(1, most_waiting=2)
    house.come()
    await settle()
    batch = [house.come(BATCH) for _ in range(2)]
    await settle()
    urgent = house.come(INTERACTIVE)
    await settle()

    refusal = batch[1].refusal
    assert refusal is not None
    assert (refusal.status, refusal.code) == (429, "overloaded")
    assert "Endpoint docs is overloaded: its queue is full, and batch requests" in refusal.message
    assert refusal.retry_after_s is not None
    assert f"Try again in {refusal.retry_after_s} s." in refusal.message
    assert refusal.headers == {"retry-after": str(refusal.retry_after_s)}
    assert urgent.refusal is None
    late = house.come(BATCH)
    await settle()
    assert late.refusal is not None
    assert dict(house.admission.state()["e1"].shed) == {("batch", Reason.FULL): 2}


async def test_waiting_ends_with_the_time_its_class_allows(make: Make) -> None:
    house = make(1)
    house.come()
    await settle()
    hasty = house.come(msgspec.structs.replace(INTERACTIVE, queue_s=0.05))

    await hasty.task

    assert hasty.refusal is not None
    assert "found no free replica within the 0.05 s" in hasty.refusal.message
    assert dict(house.admission.state()["e1"].shed) == {("interactive", Reason.DEADLINE): 1}
    assert house.waiting() == 0


async def test_whoever_leaves_while_waiting_takes_no_place(make: Make) -> None:
    house = make(1)
    first = house.come()
    await settle()
    leaving, staying = house.come(), house.come()
    await settle()

    leaving.task.cancel()
    await settle()
    assert house.waiting() == 1
    first.go.set()
    await settle()

    assert leaving.seat_at is None
    assert staying.seat_at is not None


async def test_whoever_leaves_in_the_moment_a_place_is_free_passes_it_on(make: Make) -> None:
    house = make(1)
    first = house.come()
    await settle()
    leaving, staying = house.come(), house.come()
    await settle()

    leaving.task.cancel()  # its place in the queue is still there, for this tick
    house.outstanding["r0"] -= 1
    house.admission.left(first.demand, house.replicas()[0])
    first.seat_at = None
    await settle()

    assert leaving.seat_at is None
    assert staying.seat_at is not None


async def test_whoever_was_let_in_and_leaves_in_the_same_moment_gives_the_place_back(make: Make) -> None:
    house = make(1)
    first = house.come()
    await settle()
    leaving, staying = house.come(), house.come()
    await settle()

    house.outstanding["r0"] -= 1
    house.admission.left(first.demand, house.replicas()[0])
    first.seat_at = None
    assert leaving.seat_at is not None
    leaving.task.cancel()
    await settle()

    assert staying.seat_at is not None
    assert (house.inside(), house.waiting()) == (1, 0)


async def test_a_new_snapshot_brings_room(make: Make) -> None:
    house = make(1)
    for _ in range(4):
        house.come()
    await settle()
    assert (house.inside(), house.waiting()) == (1, 3)

    house.publish(1, 2)
    await settle()
    assert (house.inside(), house.waiting()) == (3, 1)

    house.publish(2, 2)
    await settle()
    assert (house.inside(), house.waiting()) == (4, 0)
    house.publish(2, 2, draining=1)
    assert dict(house.admission.state()["e1"].limits) == {"r1": 2}


async def test_a_limit_that_grows_brings_room(make: Make) -> None:
    house = make(None)
    guests = [house.come() for _ in range(30)]
    await settle()
    assert house.inside() == 16
    now = 100.0
    house.admission._clock = lambda: now

    for _ in range(40):
        now += 0.1
        house.admission.observed(guests[0].demand, house.replicas()[0], ttft_ms=20.0)
    await settle()

    assert house.inside() > 16
    assert house.inside() + house.waiting() == 30


async def test_room_that_appears_by_itself_is_found(make: Make) -> None:
    house = make(1)
    house.come()
    await settle()
    waiting = house.come()
    await settle()

    house.outstanding["r0"] = 0  # nobody said that it left
    async with asyncio.timeout(10):
        while waiting.seat_at is None:
            await asyncio.sleep(0.01)
    house.guests[0].seat_at = None


async def test_a_seat_that_fails_harms_only_its_own_request(make: Make) -> None:
    house = make(1)
    first = house.come()
    await settle()
    broken = house.come()
    await settle()

    house.seats_broken = True
    first.go.set()
    await settle()

    assert isinstance(broken.task.exception(), LookupError)
    assert first.task.exception() is None
    assert (house.inside(), house.waiting()) == (0, 0)


async def test_signs_of_overload_lower_the_limit(make: Make) -> None:
    house = make(20)
    for _ in range(20):
        house.come()
    await settle()
    one = house.replicas()[0]

    house.admission.read(one, 'trtllm_kv_cache_utilization{model_name="m"} 0.5\n')
    assert house.admission.state()["e1"].limits["r0"] == 20
    house.admission.read(one, 'trtllm_kv_cache_utilization{model_name="m"} 0.97\n')
    assert house.admission.state()["e1"].limits["r0"] == 17


async def test_who_is_bound_elsewhere_holds_nobody_up(make: Make) -> None:
    house = make(1, 1)
    first, second = house.come(), house.come()
    await settle()
    bound = house.come(INTERACTIVE, bound_to="r0")
    free, late = house.come(BATCH), house.come(BATCH)
    await settle()

    second.go.set()
    await settle()

    assert second.seat_at is not None
    assert second.seat_at.replica_id == "r1"
    assert free.seat_at is not None
    assert bound.seat_at is None
    free.go.set()
    await settle()
    assert late.seat_at is not None
    newcomer = house.come(BATCH)
    late.go.set()
    await settle()
    assert newcomer.seat_at is not None
    first.go.set()
    await settle()
    assert bound.seat_at is not None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["come", "come", "come", "go", "cancel", "cancel-seated", "publish", "settle", "slow"]
        ),
        st.integers(min_value=0, max_value=10_000),
    ),
    max_size=80,
)


@settings(deadline=None)
@given(steps=STEPS, most_waiting=st.integers(min_value=1, max_value=20))
def test_whatever_happens_no_place_is_lost_and_nobody_waits_beside_a_free_one(
    steps: list[tuple[str, int]], most_waiting: int
) -> None:
    asyncio.run(_play(steps, most_waiting))


async def _play(steps: list[tuple[str, int]], most_waiting: int) -> None:
    house = House(2, 1, most_waiting=most_waiting)
    for kind, number in steps:
        going = [guest for guest in house.guests if not guest.task.done()]
        if kind == "come":
            house.come(list(CLASSES.values())[number % 3], tenant=f"t{number % 4}")
        elif kind == "publish":
            house.publish(*[1 + number % 3, 1 + number % 2][: 1 + number % 2], gateways=1 + number % 2)
        elif kind == "slow":
            house.admission.overloaded(house.replicas()[0])
        elif kind == "settle":
            await settle()
        elif going:
            guest = going[number % len(going)]
            if kind == "go":
                guest.go.set()
            elif kind == "cancel":
                guest.task.cancel()
            elif guest.seat_at is None:
                # A place becomes free and is given, and whoever gets it may leave before it knows.
                for seated in going:
                    if seated.seat_at is not None:
                        seated.go.set()
                        await asyncio.sleep(0)
                        guest.task.cancel()
                        break
    await settle()
    _check(house)
    while any(not guest.task.done() for guest in house.guests):
        for guest in house.guests:
            guest.go.set()
        await settle()
        _check(house)
    assert (house.inside(), house.waiting()) == (0, 0)
    for guest in house.guests:
        assert guest.task.cancelled() or guest.seat_at is not None or guest.refusal is not None
        assert guest.seat_at is None or guest.refusal is None
    assert house.admission._waiting == 0


def _check(house: House) -> None:
    seated = [guest for guest in house.guests if guest.seat_at is not None and not guest.task.done()]
    assert house.inside() == len(seated)
    if house.waiting():
        assert not any(
            house.admission.has_room(each, house.outstanding.get(each.replica_id, 0))
            for each in house.replicas()
        )
