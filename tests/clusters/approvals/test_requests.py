"""Rules and requests: what trips which rule, who decides, and what becomes of each decision."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from billing.prices import price_set
from clusters.endpoints import services
from clusters.endpoints.advisor.relocating import endpoint_relocate, plan_into
from clusters.endpoints.approvals import rules
from clusters.endpoints.approvals.rewording import endpoint_ask_again
from clusters.endpoints.approvals.sweeping import approvals_sweep
from clusters.endpoints.load.replanning import endpoint_replan
from clusters.endpoints.planning import Market
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.errors import ApprovalNeeded, PolicyRefused
from clusters.models import (
    ApprovalRequest,
    ApprovalRule,
    ApprovalSignature,
    Condition,
    EndpointEvent,
    NodePool,
    OperatorCluster,
    Reservation,
    Revision,
)
from tenants import scope
from tenants.errors import Conflict, Forbidden, Invalid
from tenants.models import Mail, WebhookDelivery
from tenants.webhooks.services import webhook_create
from tests.factories import make_user

pytestmark = pytest.mark.django_db

CHEAP = Decimal("0.01")


def held(office) -> int:
    with scope.tenant(office.tenant.id):
        return Reservation.objects.held().gpus()


def replicas(office, endpoint) -> int:
    with scope.tenant(office.tenant.id):
        return Revision.objects.filter(endpoint=endpoint, retired_at=None).order_by("-number")[0].replicas


def test_without_rules_nobody_is_asked(office):
    endpoint = office.order()
    assert office.requests() == 0
    assert held(office) == 1
    assert office.fresh(endpoint).cleared


@pytest.mark.parametrize(
    ("rule", "terms", "told"),
    [
        ({"kind": "price-above", "amount": CHEAP}, {}, "EUR per hour, more than 0.01 EUR"),
        ({"kind": "price-above", "amount": Decimal(10), "monthly": True}, {}, "per month of 730 hours, more"),
        ({"kind": "quota-above", "gpus": 1}, {"replicas": 2}, "would hold 2 GPUs, more than 1"),
        ({"kind": "quota-above", "share": 10}, {"replicas": 2}, "2 GPUs, more than 10 % of the quota"),
        ({"kind": "reserved-gpus", "gpu_types": ["l4"]}, {}, "are reserved"),
        (
            {"kind": "reserved-gpus", "pools": ["fi-a/l4"]},
            {"residency": "region:eu-fi-1"},
            "fi-a/l4 are reserved",
        ),
        ({"kind": "new-model-licence"}, {}, "first model here under the licence"),
    ],
)
def test_each_kind_of_rule_holds_an_order_that_trips_it(office, rule, terms, told):
    office.rule(**rule)
    endpoint = office.fresh(office.order(**terms))
    assert (endpoint.state, held(office)) == ("waiting-for-approval", 0)
    request = office.request(endpoint)
    assert (request.what, request.state, request.asked_as) == ("order", "pending", "developer@acme.example")
    assert told in request.trips[0]["reason"]
    assert Decimal(request.quote["price_per_hour"]) > 0
    assert told in endpoint.state_reason
    assert "an owner or admin until" in endpoint.state_reason
    assert reconcile_endpoint(endpoint.id) is None
    assert office.fresh(endpoint).state == "waiting-for-approval"
    assert held(office) == 0


def test_outside_the_home_zone_needs_approval_and_inside_does_not(office):
    with pytest.raises(Invalid, match="Set the home zone"):
        office.rule("outside-home-zone")
    office.policy(home_zone="EU")
    office.rule("outside-home-zone")
    assert office.fresh(office.order("home", residency="zone:EU")).state != "waiting-for-approval"
    away = office.order("away", residency="zone:US")
    assert "outside the home zone EU" in office.request(away).trips[0]["reason"]
    with pytest.raises(Invalid, match="A rule asks whether"):
        office.policy(alone=True)


def test_a_licence_is_new_once(office):
    rule = office.rule("new-model-licence")
    first = office.order("first")
    office.decide("approve", office.request(first))
    assert office.fresh(office.order("second")).state != "waiting-for-approval"
    assert rules.rule_text(rule, "EUR") == "Uses a licence that is new here"


def test_what_is_approved_is_placed_at_once_and_the_asker_hears_of_it(office):
    office.rule("price-above", amount=CHEAP)
    endpoint = office.order()
    done = office.decide("approve", office.request(endpoint), comment="fine")
    assert (done.state, done.decided_as, done.decided_via) == ("approved", "admin@acme.example", "api")
    assert (held(office), office.fresh(endpoint).state) == (1, "provisioning")
    with scope.tenant(office.tenant.id):
        assert Condition.objects.get(endpoint=endpoint, type="Approved").status == "true"
        mails = Mail.objects.filter(recipient="developer@acme.example")
        assert "They say: fine" in mails.get().text
        history = " ".join(EndpointEvent.objects.filter(endpoint=endpoint).values_list("message", flat=True))
    assert "waits for an owner or admin" in history
    assert "Order chat: approved. fine" in history


def test_those_who_may_decide_are_told_and_webhooks_too(office):
    with scope.tenant(office.tenant.id):
        webhook_create(
            name="hook", url="https://93.184.216.34/", event_types=["approval.requested", "approval.decided"]
        )
    office.rule("price-above", amount=CHEAP, decides="owner")
    endpoint = office.order()
    office.decide("refuse", office.request(endpoint), "owner")
    with scope.tenant(office.tenant.id):
        asked = Mail.objects.filter(event_type="approval.requested")
        assert list(asked.values_list("recipient", flat=True)) == ["olive@acme.example"]
        events = list(WebhookDelivery.objects.order_by("id").values_list("event_type", flat=True))
    assert events == ["approval.requested", "approval.decided"]


def test_a_refusal_is_shown_and_it_may_be_asked_for_again_with_other_terms(office):
    office.rule("quota-above", gpus=1)
    endpoint = office.order(replicas=2)
    office.decide("refuse", office.request(endpoint), comment="too many")
    shown = office.fresh(endpoint)
    assert (shown.state, shown.state_reason) == (
        "waiting-for-approval",
        "Refused by admin@acme.example: too many",
    )
    again = office.act(endpoint_ask_again, endpoint=shown, changes={"replicas": 3})
    assert office.request(endpoint).state == "pending"
    assert office.request(endpoint).quote["gpus"] == 3
    office.act(endpoint_ask_again, endpoint=again, changes={"replicas": 1})
    assert held(office) == 1
    assert office.fresh(endpoint).replicas == 1
    with scope.tenant(office.tenant.id):
        states = set(ApprovalRequest.objects.values_list("state", flat=True))
    assert states == {"refused", "superseded"}


def test_one_that_decides_may_change_the_wish_and_the_asker_sees_what(office):
    office.rule("quota-above", gpus=1)
    endpoint = office.order(replicas=3)
    done = office.decide("change", office.request(endpoint), changes={"replicas": 2}, comment="two do")
    assert (done.state, done.changed) == ("changed", {"replicas": {"from": 3, "to": 2}})
    assert held(office) == 2
    with scope.tenant(office.tenant.id):
        assert "replicas: 3 -> 2" in Mail.objects.get(recipient="developer@acme.example").text


def test_a_change_that_makes_it_dearer_waits_with_its_new_quote(office):
    office.rule("quota-above", gpus=1)
    endpoint = office.order(replicas=2)
    request = office.decide("change", office.request(endpoint), changes={"replicas": 3})
    assert (request.state, request.round, request.quote["gpus"], held(office)) == ("pending", 2, 3, 0)
    with pytest.raises(Forbidden, match="or made it dearer"):
        office.decide("approve", request)
    with scope.tenant(office.tenant.id):
        again = Mail.objects.filter(subject__startswith="Changed").values_list("recipient", flat=True)
        assert list(again) == ["olive@acme.example"]
    assert office.decide("approve", request, "owner").state == "changed"
    assert held(office) == 3


def test_a_change_that_others_have_to_agree_to_is_told_to_them_anew(office):
    office.rule("quota-above", gpus=1)
    office.rule("price-above", amount=CHEAP, decides="billing")
    endpoint = office.order(replicas=3)
    half = office.decide("change", office.request(endpoint), changes={"replicas": 2})
    assert (half.state, half.round, held(office)) == ("pending", 2, 0)
    with scope.tenant(office.tenant.id):
        (mail,) = Mail.objects.filter(subject__startswith="Changed", recipient="billing@acme.example")
        assert "GPUs: 2" in mail.text
    assert office.decide("approve", half, "billing").state == "changed"
    assert held(office) == 2


def test_what_a_wish_does_not_have_cannot_be_changed(office):
    office.rule("quota-above", gpus=1)
    endpoint = office.order()
    office.act(services.endpoint_scale, endpoint=endpoint, replicas=2)
    with pytest.raises(Invalid, match="What may be changed of it: replicas"):
        office.decide("change", office.request(endpoint), changes={"residency": "global"})


def test_scaling_that_needs_approval_leaves_what_runs_as_it_is(office):
    office.rule("quota-above", gpus=1)
    endpoint = office.order()
    before = office.fresh(endpoint)
    office.act(services.endpoint_scale, endpoint=endpoint, replicas=3)
    after = office.fresh(endpoint)
    assert (after.generation, after.replicas, held(office)) == (before.generation, before.replicas, 1)
    request = office.request(endpoint)
    assert (request.what, request.wish, request.title) == (
        "scale", {"replicas": 3}, "Scale chat to 3 replicas",
    )  # fmt: skip
    office.decide("approve", request)
    assert (replicas(office, endpoint), held(office)) == (3, 3)
    office.act(services.endpoint_scale, endpoint=office.fresh(endpoint), replicas=2)
    assert replicas(office, endpoint) == 2, "fewer is nobody's to approve"


def test_another_wish_supersedes_the_one_that_waits(office):
    office.rule("quota-above", gpus=2)
    endpoint = office.order()
    office.act(services.endpoint_scale, endpoint=endpoint, replicas=4)
    request = office.request(endpoint)
    office.act(services.endpoint_scale, endpoint=office.fresh(endpoint), replicas=2)
    with pytest.raises(Conflict, match="superseded already"):
        office.decide("approve", request)


def test_resume_restore_replan_and_move_ask_too(office):
    endpoint = office.order(residency="global", pins={"cluster": "de-a"})
    with scope.tenant(office.tenant.id):
        services.endpoint_pause(endpoint=endpoint, actor="test")
    office.rule("price-above", amount=CHEAP)
    office.act(services.endpoint_resume, endpoint=office.fresh(endpoint))
    assert (office.request(endpoint).what, office.fresh(endpoint).wanted) == ("resume", "paused")
    office.decide("approve", office.request(endpoint))
    assert (office.fresh(endpoint).wanted, held(office)) == ("running", 1)

    terms = office.estate.terms(residency="global", pins={"cluster": "de-a"}, replicas=2)
    office.act(endpoint_replan, endpoint=office.fresh(endpoint), terms=terms)
    assert office.request(endpoint).what == "replan"
    assert office.fresh(endpoint).replicas is None
    office.decide("approve", office.request(endpoint))
    assert (office.fresh(endpoint).replicas, held(office)) == (2, 2)

    office.policy(home_zone="EU")
    office.rule("outside-home-zone")
    free = office.order("free", residency="global", requests_per_second=0.5)
    office.decide("approve", office.request(free))
    office.act(services.endpoint_move, endpoint=office.fresh(free), cluster=office.estate.clusters["us-a"])
    moved = office.request(free)
    assert (moved.what, moved.wish) == ("move", {"cluster": "us-a"})
    office.decide("approve", moved)
    assert office.fresh(free).cluster.name == "us-a"


def test_the_advisor_does_not_ask_and_is_refused(office):
    endpoint = office.order(residency="global")
    office.policy(home_zone="EU")
    office.rule("outside-home-zone")
    with scope.tenant(office.tenant.id):
        market = Market.read(tenant=office.tenant, besides=office.fresh(endpoint), lock=True)
        target = {"gpu": "l4", "precision": office_precision(endpoint), "tp": 1, "pp": 1, "pool": "us-a/l4"}
        plan = plan_into(office.fresh(endpoint), target, market)
        with pytest.raises(ApprovalNeeded):
            endpoint_relocate(
                endpoint=endpoint, plan=plan, market=market, actor="advisor", why="x", if_generation=1
            )
    assert office.requests() == 0


def office_precision(endpoint) -> str:
    return Revision.objects.filter(endpoint=endpoint)[0].precision


def test_what_waited_for_capacity_is_asked_about_once_it_has_a_price(office, cluster):
    full = office.order("full", residency="region:eu-fi-1", replicas=4)
    office.rule("price-above", amount=CHEAP)
    endpoint = office.order("late", residency="region:eu-fi-1")
    assert reconcile_endpoint(endpoint.id) is not None
    assert office.fresh(endpoint).state == "waiting-for-capacity"
    assert office.requests() == 0
    with scope.tenant(office.tenant.id):
        services.endpoint_pause(endpoint=full, actor="test")
        Reservation.objects.update(released_at=timezone.now())
        Revision.objects.update(cleaned_at=timezone.now())
    reconcile_endpoint(endpoint.id)
    assert office.fresh(endpoint).state == "waiting-for-approval"
    assert office.request(endpoint).asked_as == "developer@acme.example"
    office.decide("approve", office.request(endpoint))
    assert held(office) == 1


def test_dearer_than_quoted_goes_into_another_round(office):
    office.rule("price-above", amount=CHEAP)
    endpoint = office.order(residency="region:eu-fi-1")
    request = office.request(endpoint)
    doubled = 2 * Decimal(request.quote["price_per_hour"])
    price_set(kind="gpu_hour", amount=doubled, currency="EUR", gpu_type="l4")
    again = office.decide("approve", request)
    assert (again.state, again.round, held(office)) == ("pending", 2, 0)
    assert Decimal(again.quote["price_per_hour"]) == doubled
    with pytest.raises(Conflict, match="has changed meanwhile"):
        office.decide("approve", again, round=1)
    assert office.decide("approve", again, round=2).state == "approved"
    assert held(office) == 1


def test_a_rule_that_came_since_wants_its_say(office):
    office.rule("price-above", amount=CHEAP)
    endpoint = office.order()
    office.rule("quota-above", gpus=0, decides="owner")
    again = office.decide("approve", office.request(endpoint))
    assert (again.state, again.round, len(again.trips)) == ("pending", 2, 2)


def test_a_policy_that_came_since_refuses_what_waits_for_approval(office):
    office.rule("price-above", amount=CHEAP)
    request = office.request(office.order(residency="zone:US"))
    office.policy(allowed_zones=["EU"])
    with pytest.raises(PolicyRefused, match="policy version 1 allows EU"):
        office.decide("approve", request)
    assert (office.request(request.endpoint).state, held(office)) == ("pending", 0)
    assert office.decide("change", request, changes={"residency": "zone:EU"}).state in ("changed", "pending")


def test_a_rule_that_names_others_since_asks_them(office):
    rule = office.rule("price-above", amount=CHEAP)
    request = office.request(office.order())
    with scope.tenant(office.tenant.id):
        ApprovalRule.objects.filter(id=rule.id).update(decides="owner")
    again = office.decide("approve", request)
    assert (again.state, again.round, [trip["part"] for trip in again.trips]) == ("pending", 2, ["owner"])
    with pytest.raises(Forbidden, match="an owner to decide"):
        office.decide("approve", again)
    assert office.decide("approve", again, "owner").state == "approved"


def test_what_a_rule_asked_about_is_all_that_was_agreed_to(office):
    office.rule("quota-above", gpus=2)
    first, second = office.order("first", replicas=3), office.order("second", replicas=3)
    office.decide("approve", office.request(first))
    again = office.decide("approve", office.request(second))
    assert (again.state, again.round, held(office)) == ("pending", 2, 3)
    assert again.trips[0]["reason"] == "The tenant would hold 6 GPUs, more than 2."
    assert office.decide("approve", again).state == "approved"

    office.rule("reserved-gpus", gpu_types=["l4"])
    third = office.order("third", residency="region:eu-fi-1")
    request = office.request(third)
    with scope.tenant(office.tenant.id):
        ApprovalRequest.objects.filter(id=request.id).update(quote={**request.quote, "pool": "de-a/l4"})
    assert office.decide("approve", request).round == 2


def test_operators_of_other_clusters_are_not_told(office):
    people = {
        name: make_user(f"{name}@berth.example", platform_role="operator") for name in ("all", "de", "us")
    }
    for name in ("de", "us"):
        OperatorCluster.objects.create(user=people[name], cluster=office.estate.clusters[f"{name}-a"])
    office.rule("reserved-gpus", gpu_types=["l4"], decides="operators")
    office.order(pins={"cluster": "de-a"})
    with scope.tenant(office.tenant.id):
        told = Mail.objects.filter(event_type="approval.requested").values_list("recipient", flat=True)
        assert sorted(told) == ["all@berth.example", "de@berth.example"]


def test_several_who_have_to_agree_each_do(office):
    office.rule("price-above", amount=CHEAP, decides="billing")
    office.rule("quota-above", gpus=0, decides="admin")
    endpoint = office.order()
    half = office.decide("approve", office.request(endpoint), "billing")
    assert (half.state, held(office)) == ("pending", 0)
    with pytest.raises(Conflict, match="agreed to it already"):
        office.decide("approve", half, "billing")
    assert office.decide("approve", half, "admin").state == "approved"
    with scope.tenant(office.tenant.id):
        signed = dict(ApprovalSignature.objects.values_list("part", "signed_as"))
    assert signed == {"billing": "billing@acme.example", "admin": "admin@acme.example"}


def test_only_those_whom_the_rule_names_decide(office):
    office.rule("price-above", amount=CHEAP, decides="members", members=[office.people["billing"].id])
    request = office.request(office.order())
    for who in ("owner", "admin"):
        with pytest.raises(Forbidden, match="one of the members"):
            office.decide("approve", request, who)
    assert office.decide("approve", request, "billing").state == "approved"


@pytest.mark.parametrize("how", ["approve", "refuse"])
def test_nobody_decides_upon_their_own_request(office, how):
    office.rule("price-above", amount=CHEAP)
    request = office.request(office.order(who="admin"))
    with pytest.raises(Forbidden, match="asked for it yourself"):
        office.decide(how, request, "admin")
    assert office.decide(how, request, "owner").state != "pending"


def test_without_four_eyes_one_may(office):
    office.policy(four_eyes=False)
    office.rule("price-above", amount=CHEAP)
    request = office.request(office.order(who="admin"))
    assert office.decide("approve", request, "admin").state == "approved"


def test_alone_one_may_only_where_the_policy_says_so(office):
    rule = office.rule("price-above", amount=CHEAP, decides="owner")
    with scope.tenant(office.tenant.id):
        assert rules.lonely(rule)
    request = office.request(office.order(who="owner"))
    with pytest.raises(Forbidden, match="An owner may allow deciding alone"):
        office.decide("approve", request, "owner")
    office.policy(self_approval=True)
    assert office.decide("approve", request, "owner").state == "approved"
    office.rule("quota-above", gpus=0)
    busy = office.request(office.order("other", who="owner"))
    half = office.decide("approve", busy, "owner")
    assert half.state == "pending", "an admin can decide that the tenant holds more GPUs, and so has to"
    assert office.decide("approve", busy, "admin").state == "approved"


def test_only_the_asker_withdraws(office):
    office.rule("price-above", amount=CHEAP)
    endpoint = office.order()
    with pytest.raises(Forbidden):
        office.decide("withdraw", office.request(endpoint), "admin")
    assert office.decide("withdraw", office.request(endpoint), "developer").state == "withdrawn"
    assert "withdrew" in office.fresh(endpoint).state_reason


def test_a_request_expires_and_those_who_decide_are_reminded_once(office):
    office.rule("price-above", amount=CHEAP, valid_hours=8)
    endpoint = office.order()
    request = office.request(endpoint)
    assert approvals_sweep(now=request.created_at + dt.timedelta(hours=5)) == 0
    late = request.created_at + dt.timedelta(hours=7)
    assert (approvals_sweep(now=late), approvals_sweep(now=late)) == (1, 0)
    with scope.tenant(office.tenant.id):
        reminders = Mail.objects.filter(subject__startswith="Expires soon")
        assert set(reminders.values_list("recipient", flat=True)) == {
            "olive@acme.example", "admin@acme.example",
        }  # fmt: skip
    over = request.expires_at + dt.timedelta(seconds=1)
    assert (approvals_sweep(now=over), approvals_sweep(now=over)) == (1, 0)
    assert office.request(endpoint).state == "expired"
    assert "expired undecided" in office.fresh(endpoint).state_reason
    with pytest.raises(Conflict, match="expired already"):
        office.decide("approve", request)


def test_what_expired_and_was_not_swept_yet_cannot_be_approved(office):
    office.rule("price-above", amount=CHEAP)
    request = office.request(office.order())
    with scope.tenant(office.tenant.id):
        ApprovalRequest.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    with pytest.raises(Conflict, match="asked for again"):
        office.decide("approve", request)


def test_deleting_or_pausing_what_waits_ends_its_request(office):
    office.rule("price-above", amount=CHEAP)
    first, second = office.order("first"), office.order("second")
    with scope.tenant(office.tenant.id):
        services.endpoint_delete(endpoint=first, actor="test")
        services.endpoint_pause(endpoint=second, actor="test")
    assert office.request(first).state == office.request(second).state == "superseded"
    reconcile_endpoint(second.id)
    assert office.fresh(second).state == "paused"
    office.act(services.endpoint_resume, endpoint=office.fresh(second))
    assert office.request(second).what == "resume"


def test_loosening_or_removing_a_rule_takes_a_second_person(office):
    rule = office.rule("price-above", amount=Decimal(1))
    developer, owner = office.people["developer"], office.people["owner"]
    with scope.tenant(office.tenant.id):
        tight = rules.rule_change(rule=rule, changes={"amount": CHEAP}, asked_by=owner, actor="olive")
        assert (tight.request, tight.rule.amount) == (None, CHEAP)
        loose = rules.rule_change(rule=rule, changes={"enabled": False}, asked_by=owner, actor="olive")
        assert loose.rule.enabled
    with pytest.raises(Forbidden):
        office.decide("approve", loose.request, "owner")
    office.decide("approve", loose.request, "admin")
    with scope.tenant(office.tenant.id):
        assert not ApprovalRule.objects.get().enabled
        gone = rules.rule_delete(rule=rule, asked_by=developer, actor="x")
        assert (gone.rule, gone.request) == (None, None), "one that is off holds nothing up"
        assert not ApprovalRule.objects.exists()


def test_a_cluster_that_was_lost_asks_nobody_to_be_replaced(office, cluster):
    endpoint = office.order(residency="global")
    office.rule("price-above", amount=CHEAP)
    with scope.tenant(office.tenant.id):
        Reservation.objects.update(released_at=timezone.now())
        Revision.objects.update(cleaned_at=timezone.now(), retired_at=timezone.now())
        assert NodePool.objects.exists()
    reconcile_endpoint(endpoint.id)
    assert (office.requests(), held(office)) == (0, 1)
