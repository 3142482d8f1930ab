"""Allocations are written once per replica, however often the reconciler says so."""

from __future__ import annotations

import uuid

import pytest

from billing.allocations import allocation_close, allocation_open, label_write
from billing.models import Allocation, EndpointLabel
from tenants import scope
from tenants.errors import Conflict
from tests.billing.prices import utc
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
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
            open_one(project, gpus=4)


def test_end_before_start_is_an_empty_interval(project):
    with scope.tenant(project.tenant_id):
        open_one(project)
        allocation_close(replica_id="chat-0", ended_at=utc("2026-04-30"))
        assert Allocation.objects.get().ended_at == utc("2026-05-01")


def test_replica_with_other_gpus_is_a_conflict(project):
    with scope.tenant(project.tenant_id):
        open_one(project)
        with pytest.raises(Conflict, match="another gpus"):
            open_one(project, gpus=4)


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
