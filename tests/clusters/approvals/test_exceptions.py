"""Exceptions from the policy: asked for, granted for some or all, and what becomes of what ran under them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from clusters.endpoints.approvals.sweeping import approvals_sweep
from clusters.endpoints.policy import exceptions
from clusters.endpoints.policy.setting import policy_floor_set
from clusters.errors import PolicyRefused
from clusters.models import Condition, PolicyException, Reservation, Revision
from tenants import scope
from tenants.errors import Conflict, Forbidden, Invalid
from tenants.models import Mail, Project
from tenants.services import project_create

pytestmark = pytest.mark.django_db

DAY = dt.timedelta(days=1)


def ask(office, restriction="zone", value="US", *, days=30, **where):
    with scope.tenant(office.tenant.id):
        return exceptions.exception_ask(
            restriction=restriction,
            value=value,
            ends_at=timezone.now() + days * DAY,
            reason="a trial",
            asked_by=office.people["developer"],
            asked_as="developer@acme.example",
            **where,
        )


def granted(office, *args, **where) -> PolicyException:
    request = office.decide("approve", ask(office, *args, **where))
    with scope.tenant(office.tenant.id):
        return PolicyException.objects.get(request=request)


def test_an_exception_needs_somebody_else_and_then_holds(office):
    office.policy(allowed_zones=["EU"])
    request = ask(office)
    with pytest.raises(Forbidden):
        office.decide("approve", request, "developer")
    with pytest.raises(PolicyRefused):
        office.order(residency="zone:US")
    office.decide("approve", request)
    office.order(residency="zone:US")
    with scope.tenant(office.tenant.id):
        made = PolicyException.objects.get()
        assert (made.approved_as, made.value, made.ended_as) == ("admin@acme.example", "US", "")
        assert Revision.objects.get().policy_exceptions == [made.id]


@pytest.mark.parametrize(
    ("policy", "restriction", "value", "terms"),
    [
        ({"certifications": ["C5"]}, "certification", "C5", {"residency": "region:eu-fi-1"}),
        ({"allowed_classes": ["batch"]}, "slo-class", "standard", {}),
        ({"most_per_hour": Decimal("0.10")}, "spend-hour", "5", {}),
        ({"most_per_month": Decimal(10)}, "spend-month", "5000", {}),
    ],
)
def test_each_restriction_can_be_excepted_from(office, policy, restriction, value, terms):
    office.policy(**policy)
    with pytest.raises(PolicyRefused):
        office.order(**terms)
    granted(office, restriction, value)
    office.order(**terms)


def test_an_exception_for_one_project_is_none_for_others(office):
    office.policy(allowed_zones=["EU"])
    with scope.tenant(office.tenant.id):
        other = project_create(name="Other", slug="other")
    granted(office, project=other)
    with pytest.raises(PolicyRefused):
        office.order(residency="zone:US")
    with scope.tenant(office.tenant.id):
        project = Project.objects.get(slug="default")
    granted(office, project=project)
    office.order(residency="zone:US")


@pytest.mark.parametrize("days", [0, -1, 367])
def test_every_exception_ends_within_a_year(office, days):
    office.policy(allowed_zones=["EU"])
    with pytest.raises(Invalid, match="within 366 days"):
        ask(office, days=days)


@pytest.mark.parametrize("value", ["-1", "NaN", "Infinity", "1e30", "much"])
def test_a_cap_is_excepted_to_an_amount_of_money(office, value):
    office.policy(most_per_hour=Decimal(1))
    with pytest.raises(Invalid, match="Give the amount"):
        ask(office, "spend-hour", value)


def test_the_database_keeps_exceptions_from_lasting(office):
    office.policy(allowed_zones=["EU"])
    made = granted(office)
    with scope.tenant(office.tenant.id), pytest.raises(IntegrityError), transaction.atomic():
        PolicyException.objects.filter(id=made.id).update(ends_at=made.starts_at + 400 * DAY)


def test_what_needs_no_exception_or_is_locked_gets_none(office):
    with pytest.raises(Conflict, match="no policy"):
        ask(office)
    office.policy(allowed_zones=["EU"])
    with pytest.raises(Invalid, match="no exception is needed"):
        ask(office, value="EU")
    with scope.tenant(office.tenant.id):
        policy_floor_set(zones=["EU"], certifications=[], set_by=None, set_as="operator olga")
    with pytest.raises(Invalid, match="operators lock"):
        ask(office, value="US")


def test_people_are_warned_before_it_ends_and_what_ran_under_it_is_paused(office):
    office.policy(allowed_zones=["EU"])
    made = granted(office, days=20)
    under = office.order("under", residency="zone:US")
    lawful = office.order("lawful", residency="zone:EU")
    assert approvals_sweep(now=made.ends_at - 15 * DAY) == 0
    soon = made.ends_at - 13 * DAY
    assert (approvals_sweep(now=soon), approvals_sweep(now=soon)) == (1, 0)
    with scope.tenant(office.tenant.id):
        warned = Mail.objects.filter(event_type="approval.exception_ending")
        assert set(warned.values_list("recipient", flat=True)) == {"olive@acme.example", "admin@acme.example"}
    assert approvals_sweep(now=made.ends_at) == 1
    assert office.fresh(under).wanted == "paused"
    assert office.fresh(lawful).wanted == "running"
    with scope.tenant(office.tenant.id):
        placed = Condition.objects.get(endpoint=under, type="Placed")
        assert placed.reason == "PolicyRefused"
        assert placed.message.startswith("Paused: the exception US from the policy ended. Policy version 1")
        assert not Reservation.objects.held().filter(endpoint=under).exists()


def test_of_other_restrictions_only_new_orders_are_refused(office):
    office.policy(allowed_classes=["batch"])
    made = granted(office, "slo-class", "standard")
    endpoint = office.order()
    with scope.tenant(office.tenant.id):
        exceptions.exception_end(exception=made, actor="olive")
        exceptions.exception_end(exception=made, actor="again")
        made.refresh_from_db()
        assert made.ended_as == "olive"
        assert Condition.objects.get(endpoint=endpoint, type="WithinPolicy").status == "false"
    assert office.fresh(endpoint).wanted == "running"
    with pytest.raises(PolicyRefused):
        office.order("next")
