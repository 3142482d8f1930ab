"""Classes share a pool: lower ones leave room, and give back what they have above their floors."""

from __future__ import annotations

import uuid

import pytest
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.endpoints import services
from clusters.endpoints.autoscaling.bounds import Bounds
from clusters.endpoints.autoscaling.giving_way import Neighbour, taken_from
from clusters.endpoints.autoscaling.selectors import scaling_shown
from clusters.models import NodePool, Revision
from tenants import scope
from tests.clusters.autoscaling.test_carrying import at_once, quota, to_zero
from tests.clusters.endpoints.conftest import fresh
from tests.clusters.endpoints.rollouts import Rolling, canary
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
HERE = {"residency": "region:eu-de-1", "pins": {"gpu": "l4"}}  # four of them


@pytest.fixture
def scaled(order, settle, world):
    """Order an endpoint in the pool of four whose replicas Berth chooses."""

    def scaled(name, slo_class, *, replicas=1, floor=1, ceiling=4):
        endpoint = settle(order(name, slo_class=slo_class, replicas=replicas, **HERE))
        world.autoscale(endpoint, floor=floor, ceiling=ceiling)
        return settle(endpoint)

    return scaled


def busy(world, endpoint, replicas: int) -> None:
    """Let it have enough to do for so many replicas."""
    world.tell(endpoint, in_flight=int(0.8 * replicas * at_once(endpoint)))


def lacks(endpoint) -> int:
    """How many replicas people are told that it lacks."""
    with scope.tenant(endpoint.tenant_id):
        return scaling_shown(fresh(endpoint), now=timezone.now()).lacks


def test_batch_leaves_half_of_what_interactive_may_grow_to(scaled, world):
    scaled("chat", "interactive", ceiling=3)
    batch = scaled("nightly", "batch")
    busy(world, batch, 4)
    # Two are free; one of them is half of the two that chat may still grow by.
    assert world.look(batch) == 2
    assert "keeps 1 of 2 free GPUs for higher classes" in world.decisions(batch)[0].reason


def test_the_operators_say_how_much_is_kept(scaled, world):
    NodePool.objects.filter(cluster__name="de-a").update(higher_share=100)
    scaled("chat", "interactive", ceiling=3)
    batch = scaled("nightly", "batch")
    busy(world, batch, 4)
    assert world.look(batch) == 1
    NodePool.objects.filter(cluster__name="de-a").update(higher_share=0)
    assert world.look(batch) == 3


def test_up_to_its_own_floor_batch_takes_what_is_free(scaled, world):
    NodePool.objects.filter(cluster__name="de-a").update(higher_share=100)
    scaled("chat", "interactive", ceiling=3)
    batch = scaled("nightly", "batch", floor=2)
    assert world.look(batch) == 2


def test_one_that_sleeps_is_not_woken_by_gpus_kept_for_higher_classes(scaled, world, settle, order):
    NodePool.objects.filter(cluster__name="de-a").update(higher_share=100)
    batch = scaled("nightly", "batch", floor=0)
    world.autoscale(batch, floor=0, ceiling=4, idle_s=600)
    to_zero(batch, world)
    settle(batch)
    scaled("chat", "interactive", ceiling=3)
    settle(order("other", replicas=1, **HERE))
    world.tell(batch, in_flight=1)

    assert world.look(batch) == 0

    assert "keeps 2 of 2 free GPUs for higher classes" in world.decisions(batch)[0].reason
    assert settle(batch).state == "scaled-to-zero"
    assert world.holds(batch) == 0
    NodePool.objects.filter(cluster__name="de-a").update(higher_share=50)
    assert world.look(batch) == 1


def test_batch_above_its_floor_gives_way_and_says_what_for(scaled, world, settle):
    batch = scaled("nightly", "batch")
    busy(world, batch, 3)
    assert world.look(batch) == 3
    settle(batch)
    chat = scaled("chat", "interactive", ceiling=3)
    busy(world, chat, 3)

    assert world.look(chat) == 1, "nothing is free yet"

    assert world.wants(batch) == 1
    (gave, *_) = world.decisions(batch)
    assert (gave.before, gave.after, gave.why) == (3, 1, "gives-way")
    assert "higher class" in gave.reason
    assert "chat" not in gave.reason, "whose it is is nobody's business"
    assert world.look(chat) == 1, "the GPUs are not released yet"
    assert len(world.decisions(batch)) == 2, "what is on its way is waited for"
    settle(batch)
    busy(world, batch, 3)
    assert world.look(batch) == 1, "what chat lacks is kept for it"
    assert world.look(chat) == 3
    assert settle(chat).state == "ready"


def test_other_tenants_give_way_too_and_interactive_never_does(scaled, world, settle, estate, order):
    other = make_tenant("globex", gpus=8)
    with scope.tenant(other.id):
        theirs = services.endpoint_order(
            project=default_project(other), name="theirs", actor="a test",
            terms=estate.terms(slo_class="standard", replicas=3, **HERE),
        )  # fmt: skip
    settle(theirs)
    world.autoscale(theirs, floor=2, ceiling=4)
    settle(theirs)
    chat = scaled("chat", "interactive", ceiling=4)
    busy(world, chat, 2)
    world.look(chat)
    settle(theirs)
    assert (world.wants(theirs), world.look(chat)) == (2, 2)
    settle(chat)
    busy(world, theirs, 4)
    assert world.look(theirs) == 2
    assert world.wants(chat) == 2
    busy(world, chat, 4)
    world.look(chat)
    assert world.wants(theirs) == 2, "nobody goes below its floor"


def test_nobody_gives_way_to_one_that_may_have_no_more(scaled, world, settle, tenant):
    batch = scaled("nightly", "batch")
    busy(world, batch, 3)
    assert world.look(batch) == 3
    settle(batch)
    chat = scaled("chat", "interactive", ceiling=3)
    quota(tenant, 4)
    busy(world, chat, 3)

    assert world.look(chat) == 1

    assert (world.wants(batch), len(world.decisions(batch))) == (3, 1)
    assert "quota is 4 GPUs" in world.decisions(chat)[0].reason
    assert lacks(chat) == 2, "whatever it is for want of"
    quota(tenant, 40)
    assert world.look(chat) == 1
    settle(batch)
    quota(tenant, 2)
    assert world.look(chat) == 1, "it may have no more again"
    quota(tenant, 40)
    NodePool.objects.filter(cluster__name="de-a").update(higher_share=0)
    busy(world, batch, 3)
    assert world.look(batch) == 3, "nothing is kept for one that may have no more"


def test_no_more_is_given_back_than_the_quota_of_a_higher_class_allows(scaled, world, settle, estate, tenant):
    other = make_tenant("globex", gpus=8)
    with scope.tenant(other.id):
        theirs = services.endpoint_order(
            project=default_project(other), name="theirs", actor="a test",
            terms=estate.terms(slo_class="batch", replicas=3, **HERE),
        )  # fmt: skip
    settle(theirs)
    world.autoscale(theirs, floor=0, ceiling=4)
    settle(theirs)
    chat = scaled("chat", "interactive")
    quota(tenant, 2)
    busy(world, chat, 4)
    world.look(chat)
    assert world.wants(theirs) == 2
    assert world.scaling(chat).wants == 2


def test_one_in_the_middle_of_a_rollout_gives_nothing(scaled, world, settle, order, cluster):
    canary()
    chat = scaled("chat", "interactive", ceiling=3)
    batch = scaled("nightly", "batch", floor=0)
    settle(order("other", replicas=1, **HERE))
    it = Rolling(estate=world.estate, cluster=cluster, endpoint=batch)
    it.change(pins={"gpu": "l4", "max_batch_size": 4})
    assert (it.look().phase, it.rollout.revision.pool_id) == ("canary", it.rollout.before.pool_id)
    busy(world, chat, 2)

    assert world.look(chat) == 1

    assert world.decisions(batch) == []
    with scope.tenant(batch.tenant_id):
        wanted = Revision.objects.filter(endpoint=batch, retired_at=None)
        assert set(wanted.values_list("replicas", flat=True)) == {1}


LEVEL = st.integers(0, 6)


@st.composite
def neighbours(draw) -> list[Neighbour]:
    found = []
    for _ in range(draw(st.integers(0, 5))):
        floor = draw(st.integers(0, 3))
        bounds = Bounds(floor=floor, ceiling=9, idle_s=None, scheduled=False, until=None)
        found.append(
            Neighbour(
                endpoint_id=uuid.uuid4(),
                tenant_id=uuid.uuid4(),
                priority=draw(st.integers(2, 4)),
                replicas=floor + draw(LEVEL),
                wants=0,
                gpus_per_replica=draw(st.sampled_from((1, 2, 4))),
                bounds=bounds,
            )
        )
    return found


@settings(deadline=None)
@given(neighbours(), st.integers(0, 40))
def test_as_long_as_anybody_is_above_its_floor_enough_is_given_and_no_more(lower, gpus):
    takes = taken_from(lower, gpus)
    left = {each.endpoint_id: each.replicas for each in lower} | {
        each.endpoint_id: keeps for each, keeps in takes
    }
    assert all(left[each.endpoint_id] >= each.bounds.floor for each in lower)
    assert all(keeps < each.replicas for each, keeps in takes)
    given_back = sum((each.replicas - left[each.endpoint_id]) * each.gpus_per_replica for each in lower)
    assert given_back >= gpus or all(left[each.endpoint_id] == each.bounds.floor for each in lower)
    largest = max((each.gpus_per_replica for each, _ in takes), default=0)
    assert given_back < gpus + largest or not gpus
    for each, _ in takes:  # nobody's last one goes while somebody has another above the floor
        if left[each.endpoint_id] == 0:
            assert all(left[other.endpoint_id] <= max(1, other.bounds.floor) for other in lower)
