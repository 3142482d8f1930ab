"""Sequences of a gateway that are missing are seen, and forgotten once they came."""

from __future__ import annotations

import datetime as dt

import pytest

from billing.metering.ingest import ingest
from billing.metering.sequences import SETTLED, settled_gaps
from billing.metering.tasks import watch
from billing.models import GatewaySequence, SequenceGap
from tenants import scope
from tests.billing.usage import GATEWAY, NOW, batch, roll_up_until, segment
from tests.factories import make_tenant

MINUTE = dt.timedelta(minutes=1)
IDENTITY = f"{GATEWAY}/a1"


@pytest.fixture
def tenant(committed_db):
    return make_tenant()


@pytest.fixture
def ship(tenant):
    """Give a function that ships and counts the named sequences."""
    counted = 0

    def shipping(*sequences: int, now: dt.datetime = NOW, gateway: str = IDENTITY, **changes) -> None:
        nonlocal counted
        segments = [segment(tenant, each, gateway=gateway, **changes) for each in sequences]
        receipt = ingest(batch=batch(*segments, gateway=gateway), now=now)
        counted += 3 * receipt.inserted
        roll_up_until(tenant, counted, now=now)

    return shipping


def gaps() -> list[tuple[str, int, int, dt.datetime]]:
    with scope.platform("test"):
        return [(each.gateway, each.first, each.last, each.noticed_at) for each in SequenceGap.objects.all()]


def test_what_comes_in_order_leaves_no_gap(ship):
    ship(1, 2, 3)
    ship(4)
    assert gaps() == []


def test_a_gap_is_as_old_as_when_later_ones_came_and_goes_when_it_fills(ship):
    ship(1, 2, 6, 7)
    assert gaps() == [(IDENTITY, 3, 5, NOW)]
    ship(8, 12, now=NOW + MINUTE)
    assert gaps() == [(IDENTITY, 3, 5, NOW), (IDENTITY, 9, 11, NOW + MINUTE)]
    ship(4, now=NOW + 2 * MINUTE)
    assert gaps() == [(IDENTITY, 3, 3, NOW), (IDENTITY, 5, 5, NOW), (IDENTITY, 9, 11, NOW + MINUTE)]
    ship(3, 5, 9, 10, 11, now=NOW + 3 * MINUTE)
    assert gaps() == []


def test_what_is_missing_at_the_start_is_a_gap(ship):
    ship(3)
    assert gaps() == [(IDENTITY, 1, 2, NOW)]


def test_gateways_and_their_instances_are_apart(ship):
    ship(1)
    ship(2, gateway=f"{GATEWAY}/b2")
    assert [(gateway, first, last) for gateway, first, last, _ in gaps()] == [(f"{GATEWAY}/b2", 1, 1)]
    later = NOW + SETTLED
    with scope.platform("test"):
        assert len(settled_gaps(now=later, gateway=GATEWAY)) == 1
        assert settled_gaps(now=later, gateway="gateway") == []


def test_a_gap_is_told_only_once_it_has_settled(ship):
    ship(2)
    with scope.platform("test"):
        assert settled_gaps(now=NOW + SETTLED - MINUTE) == []
        assert [each.first for each in settled_gaps(now=NOW + SETTLED)] == [1]


def test_missing_usage_is_said_in_the_log(ship, caplog):
    ship(1, 3)
    assert watch() == 1  # by the real clock it is old
    assert f"usage of gateway {IDENTITY} is missing: sequences 2 to 2" in caplog.text
    ship(2)
    assert watch() == 0


def test_what_was_refused_is_not_missing(ship, tenant):
    ship(1)
    bad = segment(tenant, 2, gateway=IDENTITY, input_tokens=-1, input_tokens_squared=1)
    assert ingest(batch=batch(bad, gateway=IDENTITY), now=NOW).inserted == 0
    ship(3)
    assert gaps() == []


def test_a_repeat_changes_nothing(ship):
    ship(1, 3)
    ship(1, 3, 4, now=NOW + MINUTE)
    assert gaps() == [(IDENTITY, 2, 2, NOW)]


def test_the_highest_sequences_that_there_are_are_counted(ship):
    ship(2**63 - 2, 2**63 - 1)
    assert [(first, last) for _, first, last, _ in gaps()] == [(1, 2**63 - 3)]
    with scope.platform("test"):
        assert GatewaySequence.objects.get().gateway == IDENTITY


def test_no_tenant_sees_what_gateways_shipped(ship, tenant):
    ship(2)
    with scope.tenant(tenant.id):
        assert not SequenceGap.objects.exists()
        assert not GatewaySequence.objects.exists()
