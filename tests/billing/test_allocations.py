"""Allocations are written once per replica, however often the reconciler says so."""

from __future__ import annotations

import uuid

import pytest

from billing.allocations import (
    allocation_close,
    allocation_open,
    allocation_phase,
    label_write,
    wait_open,
)
from billing.models import Allocation, AllocationPhase, EndpointLabel, GpuWait
from tenants import scope
from tenants.errors import Conflict
from tests.billing.prices import utc
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
Phase = AllocationPhase.Phase
ENDPOINT, REVISION = uuid.uuid4(), uuid.uuid4()


@pytest.fixture
def project():
    return default_project(make_tenant())


def open_one(project, **changes):
    facts = {
        "endpoint_id": ENDPOINT,
        "revision_id": REVISION,
        "replica_id": "chat-0",
        "cluster": "berlin",
        "region": "de-1",
        "gpu_type": "h100_sxm",
        "gpus": 2,
        "started_at": utc("2026-05-01"),
    }
    return allocation_open(project=project, **(facts | changes))


def test_opening_again_keeps_the_first_start(project):
    with scope.tenant(project.tenant_id):
        first = open_one(project)
        again = open_one(project, started_at=utc("2026-05-02"))
        assert again.id == first.id
        assert Allocation.objects.get().started_at == utc("2026-05-01")


def test_closing_again_keeps_the_first_end(project):
    with scope.tenant(project.tenant_id):
        open_one(project)
        assert allocation_close(replica_id="chat-0", ended_at=utc("2026-05-03"))
        assert not allocation_close(replica_id="chat-0", ended_at=utc("2026-05-04"))
        assert Allocation.objects.get().ended_at == utc("2026-05-03")
        assert not allocation_close(replica_id="never-seen", ended_at=utc("2026-05-04"))


def test_a_replica_that_holds_gpus_again_gets_a_further_interval(project):
    with scope.tenant(project.tenant_id):
        open_one(project)
        allocation_close(replica_id="chat-0", ended_at=utc("2026-05-03"))
        again = open_one(project)
        assert open_one(project).id == again.id
        assert (again.started_at, again.ended_at) == (utc("2026-05-03"), None)
        assert Allocation.objects.count() == 2
        with pytest.raises(Conflict):
            open_one(project, cluster="oslo")


def test_end_before_start_is_an_empty_interval(project):
    with scope.tenant(project.tenant_id):
        open_one(project)
        allocation_close(replica_id="chat-0", ended_at=utc("2026-04-30"))
        assert Allocation.objects.get().ended_at == utc("2026-05-01")


def test_replica_with_gpus_of_another_type_is_a_conflict(project):
    with scope.tenant(project.tenant_id):
        open_one(project)
        with pytest.raises(Conflict, match="another gpu_type"):
            open_one(project, gpu_type="l4")


def test_replica_seen_with_another_number_of_gpus_is_held_as_seen(project):
    with scope.tenant(project.tenant_id):
        first = open_one(project)
        allocation_phase(allocation=first, phase=Phase.SERVING, since=utc("2026-05-01T01:00"))
        second = open_one(project, gpus=1, seen_at=utc("2026-05-02"))
        assert open_one(project, gpus=1, seen_at=utc("2026-05-03")).id == second.id
        held = Allocation.objects.values_list("gpus", "started_at", "ended_at")
        assert list(held) == [(2, utc("2026-05-01"), utc("2026-05-02")), (1, utc("2026-05-02"), None)]
        assert not AllocationPhase.objects.filter(ended_at=None).exists()


def phases(allocation):
    return list(
        AllocationPhase.objects.filter(allocation=allocation)
        .order_by("started_at", "created_at")
        .values_list("phase", "started_at", "ended_at")
    )


def test_phases_tile_the_allocation(project):
    with scope.tenant(project.tenant_id):
        held = open_one(project)
        allocation_phase(allocation=held, phase=Phase.LOADING, since=utc("2026-05-01T00:30"))
        allocation_phase(allocation=held, phase=Phase.SERVING, since=utc("2026-05-01T01:00"))
        allocation_phase(allocation=held, phase=Phase.SERVING, since=utc("2026-05-01T02:00"))
        allocation_phase(allocation=held, phase=Phase.DRAINING, since=utc("2026-05-01T00:10"))
        allocation_close(replica_id="chat-0", ended_at=utc("2026-05-01T03:00"))
        assert phases(held) == [
            ("loading", utc("2026-05-01"), utc("2026-05-01T01:00")),
            ("draining", utc("2026-05-01T01:00"), utc("2026-05-01T03:00")),
        ]


def test_a_replica_first_seen_while_it_drains_was_loading_and_serving_before(project):
    with scope.tenant(project.tenant_id):
        held = open_one(project)
        allocation_phase(
            allocation=held,
            phase=Phase.DRAINING,
            since=utc("2026-05-01T05:00"),
            served_since=utc("2026-05-01T01:00"),
        )
        assert [phase for phase, _, _ in phases(held)] == ["loading", "serving", "draining"]
        assert phases(held)[1][1:] == (utc("2026-05-01T01:00"), utc("2026-05-01T05:00"))


def test_an_end_in_the_past_takes_what_came_later_with_it(project):
    with scope.tenant(project.tenant_id):
        held = open_one(project)
        allocation_phase(allocation=held, phase=Phase.SERVING, since=utc("2026-05-01T01:00"))
        allocation_phase(allocation=held, phase=Phase.DRAINING, since=utc("2026-05-01T04:00"))
        allocation_close(replica_id="chat-0", ended_at=utc("2026-05-01T02:00"))
        assert phases(held)[-1] == ("serving", utc("2026-05-01T01:00"), utc("2026-05-01T02:00"))
        assert len(phases(held)) == 2


def test_what_waits_holds_nothing_and_ends_with_the_gpus(project):
    facts = {
        "endpoint_id": ENDPOINT, "revision_id": REVISION, "replica_id": "chat-0", "cluster": "berlin",
        "region": "de-1", "gpu_type": "h100_sxm", "gpus": 2,
    }  # fmt: skip
    with scope.tenant(project.tenant_id):
        first = wait_open(project=project, **facts, started_at=utc("2026-04-30"))
        assert wait_open(project=project, **facts, started_at=utc("2026-05-09")).id == first.id
        assert not Allocation.objects.exists()
        open_one(project)
        assert GpuWait.objects.get().ended_at == utc("2026-05-01")
        allocation_close(replica_id="chat-0", ended_at=utc("2026-05-02"))
        again = wait_open(project=project, **facts, started_at=utc("2026-05-03"))
        allocation_close(replica_id="chat-0", ended_at=utc("2026-05-04"))
        again.refresh_from_db()
        assert again.ended_at == utc("2026-05-04")


def test_other_tenants_replicas_are_out_of_reach(project):
    with scope.tenant(project.tenant_id):
        open_one(project)
    other = make_tenant()
    with scope.tenant(other.id):
        assert not allocation_close(replica_id="chat-0", ended_at=utc("2026-05-03"))
        assert not Allocation.objects.exists()


def test_label_follows_the_endpoint(project):
    with scope.tenant(project.tenant_id):
        for name in ("chat", "chat-eu"):
            label_write(project=project, endpoint_id=ENDPOINT, name=name, model="guide", slo_class="batch")
        assert EndpointLabel.objects.get().name == "chat-eu"
