"""A tenant's policy: versions, what loosens it, and that nothing is placed which it does not allow."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import DatabaseError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusters.endpoints import restoring, services
from clusters.endpoints.advisor.relocating import plan_into
from clusters.endpoints.load.replanning import endpoint_replan
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.policy import setting
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.errors import Impossible, PolicyRefused
from clusters.models import Condition, Reservation, Revision, TenantPolicy
from clusters.planning.plans import PlanStatus, Reason
from tenants import scope
from tenants.errors import BerthError, Conflict, Forbidden, Invalid, OverQuota, Stale
from tests.estate import MODEL

pytestmark = pytest.mark.django_db


def plan(office, **terms):
    with scope.tenant(office.tenant.id):
        return services.endpoint_quote(terms=office.estate.terms(**terms))


def test_without_a_policy_everything_is_allowed(office):
    assert plan(office, residency="zone:US").status == PlanStatus.PLACED


@pytest.mark.parametrize(
    ("policy", "terms", "told"),
    [
        ({"allowed_zones": ["EU"]}, {"residency": "zone:US"}, "policy version 1 allows EU"),
        ({"allowed_zones": ["eu-fi-1"]}, {"residency": "region:eu-de-1"}, "policy version 1 allows eu-fi-1"),
        ({"certifications": ["C5"]}, {"residency": "region:eu-fi-1"}, "demands certification C5"),
        ({"allowed_classes": ["batch"]}, {}, "does not allow the class standard"),
        ({"most_per_hour": Decimal("0.10")}, {}, "one endpoint may cost 0.10 EUR per hour"),
        ({"most_per_month": Decimal(100)}, {}, "all endpoints may cost 100.00 EUR in a month"),
    ],
)
def test_what_the_policy_does_not_allow_is_refused_with_its_version(office, policy, terms, told):
    office.policy(**policy)
    refused = plan(office, **terms)
    assert refused.status == PlanStatus.POLICY
    assert told in refused.message
    with pytest.raises(PolicyRefused) as caught:
        office.order(**terms)
    assert caught.value.extra["policy_version"] == 1
    assert caught.value.extra["may_change"] == ["owner", "admin"]
    assert told in caught.value.message


def test_models_and_licences_that_are_not_allowed_are_refused(office):
    with scope.tenant(office.tenant.id):
        licence = office.estate.terms().model.licence
    others = [name for name in licences() if name != licence]
    office.policy(allowed_licences=[licence], allowed_models=[MODEL])
    assert plan(office).status == PlanStatus.PLACED
    if others:
        office.policy(allowed_licences=others)
        assert f"does not allow the licence {licence}" in plan(office).message


def licences() -> list[str]:
    from clusters.models import CatalogModel

    return sorted(set(CatalogModel.objects.values_list("licence", flat=True)))


def test_the_policy_leaves_other_places_that_it_allows(office):
    office.policy(certifications=["C5"])
    placed = plan(office, residency="zone:EU")
    assert placed.configuration.cluster == "de-a"
    assert any(refusal.reason == Reason.POLICY and "fi-a" in refusal.clusters for refusal in placed.refusals)


def test_spend_of_a_month_counts_what_other_endpoints_hold(office):
    first = plan(office).configuration.price_per_hour
    office.policy(most_per_month=round(first * 730 * Decimal("1.5"), 2))
    office.order("one")
    assert "the others cost" in plan(office).message
    with pytest.raises(PolicyRefused):
        office.order("two")


def test_versions_never_change_and_the_newest_is_in_force(office):
    office.policy(allowed_zones=["EU"])
    office.policy(allowed_zones=["EU", "US"])
    with scope.tenant(office.tenant.id):
        newest, oldest = TenantPolicy.objects.all()
        assert (newest.version, oldest.version) == (2, 1)
        assert setting.policy_diff(oldest, newest) == [("allowed_zones", ["EU"], ["EU", "US"])]
        with pytest.raises(DatabaseError), transaction.atomic():
            TenantPolicy.objects.filter(id=oldest.id).update(allowed_zones=[])
        assert TenantPolicy.objects.in_force().version == 2


def test_a_policy_that_names_nothing_known_or_changes_nothing_is_refused(office):
    with pytest.raises(Invalid, match="no zone or region 'MARS'"):
        office.policy(allowed_zones=["MARS"])
    with pytest.raises(Invalid, match="no class"):
        office.policy(allowed_classes=["gold"])
    office.policy(allowed_zones=["EU"])
    with pytest.raises(Conflict, match="Nothing would change"):
        office.policy(allowed_zones=["EU"])
    with scope.tenant(office.tenant.id), pytest.raises(Stale):
        setting.policy_set(values={}, set_by=None, set_as="x", role="owner", if_version=7)


def test_only_an_owner_lets_people_decide_alone(office):
    with pytest.raises(Forbidden, match="Only an owner"):
        office.policy("admin", self_approval=True)


def test_loosening_takes_a_second_person_and_tightening_does_not(office):
    office.policy(allowed_zones=["EU"], alone=True)
    loose = office.policy(allowed_zones=["EU", "US"], alone=True)
    assert loose.request is not None
    assert loose.policy.version == 1
    with pytest.raises(Conflict, match="Another change"):
        office.policy(alone=True)
    with pytest.raises(Forbidden, match="asked for it yourself"):
        office.decide("approve", loose.request, "owner")
    office.decide("approve", loose.request, "admin")
    with scope.tenant(office.tenant.id):
        held = TenantPolicy.objects.in_force()
    assert (held.version, held.allowed_zones) == (2, ["EU", "US"])
    assert held.set_as == "olive@acme.example, approved by admin@acme.example"
    tight = office.policy(allowed_zones=["EU"], alone=True)
    assert (tight.request, tight.policy.version) == (None, 3)


def test_a_loosening_that_another_version_overtook_is_not_carried_out(office):
    office.policy(allowed_zones=["EU"], alone=True)
    loose = office.policy(alone=True)
    office.policy(allowed_zones=["eu-de-1"], alone=True)
    with pytest.raises(Conflict, match="changed meanwhile"):
        office.decide("approve", loose.request, "admin")


def test_what_operators_lock_the_tenant_cannot_open(office):
    with scope.tenant(office.tenant.id):
        setting.policy_floor_set(zones=["EU"], certifications=[], set_by=None, set_as="operator olga")
    office.policy(allowed_zones=["US", "EU"])
    assert "policy version 2 allows EU" in plan(office, residency="zone:US").message
    with scope.tenant(office.tenant.id):
        assert TenantPolicy.objects.in_force().floor_zones == ["EU"]


def test_a_placement_keeps_the_version_that_it_was_made_under(office):
    office.order("before")
    office.policy(allowed_zones=["EU"])
    office.order("after")
    with scope.tenant(office.tenant.id):
        versions = dict(Revision.objects.values_list("endpoint__name", "policy_version"))
    assert versions == {"before": 0, "after": 1}


def test_what_runs_outside_a_new_policy_goes_on_and_says_so(office, cluster):
    endpoint = office.order(residency="zone:US")
    office.policy(allowed_zones=["EU"])
    with scope.tenant(office.tenant.id):
        shown = Condition.objects.get(endpoint=endpoint, type="WithinPolicy")
        assert (shown.status, shown.reason) == ("false", "OutsidePolicy")
        assert Reservation.objects.held().filter(endpoint=endpoint).exists()
    with pytest.raises(PolicyRefused):
        office.act(services.endpoint_scale, endpoint=endpoint, replicas=2)
    office.act(services.endpoint_scale, endpoint=office.fresh(endpoint), replicas=1)
    office.policy(allowed_zones=["EU", "US"])
    with scope.tenant(office.tenant.id):
        assert Condition.objects.get(endpoint=endpoint, type="WithinPolicy").status == "true"


def test_every_path_that_places_keeps_to_the_policy(office, cluster):
    """Resume, restore, move, plan anew, the advisor's way and the reconciler's own: each is refused in its words."""
    endpoint = office.order(residency="global", pins={"cluster": "us-a"})
    with scope.tenant(office.tenant.id):
        number = Revision.objects.get(endpoint=endpoint).number
    office.policy(allowed_zones=["EU"])
    endpoint = office.fresh(endpoint)
    with pytest.raises(PolicyRefused):
        office.act(
            endpoint_replan,
            endpoint=endpoint,
            terms=office.estate.terms(residency="global", pins={"cluster": "us-a"}, requests_per_second=2.0),
        )
    with scope.tenant(office.tenant.id):
        market = Market.read(tenant=endpoint.tenant, besides=endpoint)
        target = {"gpu": "l4", "precision": "bf16", "tp": 1, "pp": 1, "pool": "us-a/l4"}
        assert plan_into(endpoint, target, market).configuration is None
        services.endpoint_pause(endpoint=endpoint, actor="test")
        Reservation.objects.held().update(released_at="2026-01-01T00:00:00Z")
        Revision.objects.update(cleaned_at="2026-01-01T00:00:00Z")
    with pytest.raises(PolicyRefused):
        office.act(services.endpoint_resume, endpoint=office.fresh(endpoint))
    with scope.tenant(office.tenant.id):
        type(endpoint).objects.filter(id=endpoint.id).update(wanted="running")
    with pytest.raises(PolicyRefused):
        office.act(restoring.endpoint_restore, endpoint=office.fresh(endpoint), number=number)
    with pytest.raises(PolicyRefused):
        office.act(
            services.endpoint_move, endpoint=office.fresh(endpoint), cluster=office.estate.clusters["us-a"]
        )
    reconcile_endpoint(endpoint.id)
    with scope.tenant(office.tenant.id):
        placed = Condition.objects.get(endpoint=endpoint, type="Placed")
        assert (placed.status, placed.reason) == ("false", "PolicyRefused")
        assert not Reservation.objects.held().exists()


zones = st.lists(st.sampled_from(["EU", "US", "eu-de-1", "eu-fi-1", "us-east-1"]), unique=True, max_size=3)
policies = st.fixed_dictionaries(
    {
        "allowed_zones": zones,
        "certifications": st.lists(st.sampled_from(["C5", "ISO27001"]), unique=True),
        "allowed_classes": st.lists(st.sampled_from(["standard", "batch"]), unique=True),
        "most_per_hour": st.sampled_from([None, Decimal("0.40"), Decimal("0.90"), Decimal(5)]),
        "most_per_month": st.sampled_from([None, Decimal(400), Decimal(2000)]),
    }
)
acts = st.one_of(
    st.tuples(
        st.just("order"),
        st.sampled_from(["global", "zone:EU", "zone:US", "region:eu-fi-1"]),
        st.sampled_from(["standard", "batch"]),
    ),
    st.tuples(st.just("scale"), st.integers(1, 3)),
    st.tuples(st.just("pause")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("move"), st.sampled_from(["de-a", "fi-a", "us-a"])),
    st.tuples(st.just("restore"), st.integers(1, 2)),
    st.tuples(st.just("policy"), policies),
)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=policies, steps=st.lists(acts, min_size=3, max_size=7))
def test_no_placement_violates_the_policy_in_force(office, cluster, first, steps):
    with transaction.atomic():
        _try(office, ("policy", first), 0)
        seen: set = set()
        for number, step in enumerate(steps):
            _try(office, step, number)
            _check_new(office, seen)
        transaction.set_rollback(True)


def _try(office, step, number) -> None:
    kind, *values = step
    with scope.tenant(office.tenant.id):
        newest = office_endpoints()[:1]
    try:
        with transaction.atomic():
            if kind == "policy":
                office.policy(**values[0])
            elif kind == "order":
                office.order(f"e{number}", residency=values[0], slo_class=values[1])
            elif newest:
                endpoint = office.fresh(newest[0])
                if kind == "scale":
                    office.act(services.endpoint_scale, endpoint=endpoint, replicas=values[0])
                elif kind == "pause":
                    with scope.tenant(office.tenant.id):
                        services.endpoint_pause(endpoint=endpoint, actor="test")
                elif kind == "resume":
                    office.act(services.endpoint_resume, endpoint=endpoint)
                elif kind == "move":
                    where = office.estate.clusters[values[0]]
                    office.act(services.endpoint_move, endpoint=endpoint, cluster=where)
                else:
                    office.act(restoring.endpoint_restore, endpoint=endpoint, number=values[0])
    except (PolicyRefused, Impossible, OverQuota, Conflict, Invalid):
        pass  # refused, which places nothing
    except BerthError as error:
        raise AssertionError(f"{step} was refused as {error.code}") from error


def office_endpoints():
    from clusters.models import Endpoint

    return list(Endpoint.objects.live().order_by("-id"))


def _check_new(office, seen: set) -> None:
    """Judge what was placed since the last look by the version then in force, with code of its own."""
    with scope.tenant(office.tenant.id):
        policy = TenantPolicy.objects.in_force()
        for held in Reservation.objects.held().select_related(
            "pool__cluster__region", "revision", "endpoint__slo_class"
        ):
            key = (held.id, held.revision.replicas)
            if key in seen:
                continue
            seen.add(key)
            if policy is None or any(before == held.id and n > held.revision.replicas for before, n in seen):
                continue  # shrinking what runs is always allowed
            region = held.pool.cluster.region
            places = {region.code, *region.zones}
            assert not policy.allowed_zones or places & set(policy.allowed_zones)
            assert set(policy.certifications) <= set(region.certifications)
            assert not policy.allowed_classes or held.endpoint.slo_class.name in policy.allowed_classes
            terms = OrderTerms.of(held.endpoint)
            assert terms.slo_class == held.endpoint.slo_class
            rate = next(
                pool.price_per_gpu_hour
                for pool in Market.read(tenant=office.tenant).pools
                if pool.id == str(held.pool)
            )
            price = rate * held.revision.replicas * held.gpus_per_replica * held.revision.price_factor
            assert policy.most_per_hour is None or price <= policy.most_per_hour
