"""Pages of approvals and policy: who sees what, deciding, rules, exceptions, and what other pages say of it."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from clusters.endpoints.approvals import rules
from clusters.models import ApprovalRequest, ApprovalRule, Endpoint, PolicyException, TenantPolicy
from tenants import scope
from tenants.members import member_add
from tenants.models import PlatformRole, Role
from tests.estate import MODEL
from tests.factories import make_user

pytestmark = pytest.mark.django_db

ORDER = {
    "intent": "order", "model": MODEL, "project": "default", "slo_class": "standard", "residency": "zone:EU",
    "profile": "", "requests_per_second": "1", "burstiness": "1", "input_tokens": "100", "input_cv": "1",
    "output_tokens": "50", "output_cv": "1", "prefix_share": "0", "name": "chat",
}  # fmt: skip


def url(name: str, *args, slug: str = "nord") -> str:
    return reverse(f"tenant:{name}", args=[slug, *args])


def text(response) -> str:
    return re.sub(r"\s+", " ", response.content.decode())


@pytest.fixture
def rule(world) -> ApprovalRule:
    with scope.tenant(world.tenant.id):
        admin = member_add(email="admin@nord.example", role=Role.ADMIN, granter_role=Role.OWNER)
        world.people["admin"] = admin.user
        return rules.rule_create(kind="price-above", amount=Decimal("0.01"))


@pytest.fixture
def asked(world, rule) -> ApprovalRequest:
    """A developer's order that waits for approval, made with the form."""
    shown = world.browser("developer").post(url("order"), ORDER | {"intent": "quote"})
    assert "Needs approval by an owner or admin" in text(shown)
    placed = world.browser("developer").post(url("order"), ORDER, follow=True)
    assert "it waits for approval" in text(placed)
    assert "waits for an owner or admin" in text(placed)
    with scope.tenant(world.tenant.id):
        return ApprovalRequest.objects.select_related("endpoint").get()


@pytest.mark.parametrize(
    ("name", "viewer"),
    [
        ("approvals", 200), ("policy", 200), ("policy-versions", 200), ("policy-edit", 403),
        ("approval-rule-new", 403), ("policy-exception-new", 403),
    ],
)  # fmt: skip
def test_who_may_open_which_screen(world, name, viewer):
    path = url(name)
    assert world.browser("owner").get(path).status_code == 200
    assert world.browser("viewer").get(path).status_code == viewer
    assert world.browser("stranger").get(path).status_code == 404
    assert world.browser("nobody").get(path).status_code == 302


def test_the_inbox_counts_and_shows_what_waits_for_the_person(world, asked):
    inbox = world.browser("owner").get(url("approvals"))
    assert "For you to decide" in text(inbox)
    assert 'class="nav-count">1<' in inbox.content.decode()
    others = world.browser("viewer").get(url("approvals"))
    assert "For you to decide" not in text(others)
    assert "nav-count" not in others.content.decode()
    assert "Order chat" in text(others)


def test_a_request_is_approved_on_its_page(world, asked):
    path = url("approval", asked.id)
    page = world.browser("owner").get(path)
    assert "Quote" in text(page)
    assert 'name="approve"' in page.content.decode()
    assert 'name="approve"' not in world.browser("developer").get(path).content.decode()
    assert world.browser("stranger").get(url("approval", asked.id, slug="other")).status_code == 404
    done = world.browser("owner").post(path, {"approve": "1", "round": "1", "comment": "go"}, follow=True)
    assert "Order chat: approved." in text(done)
    assert "They say: go" in text(done)
    again = world.browser("admin").post(path, {"approve": "1", "round": "1"})
    assert again.status_code == 409
    assert "approved already by owner@nord.example" in text(again)


def test_the_asker_is_told_that_others_decide(world, rule):
    world.browser("owner").post(url("order"), ORDER)
    with scope.tenant(world.tenant.id):
        request = ApprovalRequest.objects.get()
    tried = world.browser("owner").post(url("approval", request.id), {"approve": "1", "round": "1"})
    assert (tried.status_code, "You asked for it yourself" in text(tried)) == (403, True)
    gone = world.browser("owner").post(url("approval", request.id), {"withdraw": "1"}, follow=True)
    assert "The request is withdrawn" in text(gone)


def test_refused_it_is_asked_for_again_with_other_terms(world, asked):
    path = url("approval", asked.id)
    world.browser("owner").post(path, {"refuse": "1", "round": "1", "comment": "dear"})
    overview = world.browser("developer").get(url("endpoint", asked.endpoint_id))
    assert "Order chat: refused by owner@nord.example" in text(overview)
    assert "Ask again" in text(world.browser("developer").get(path))
    again = world.browser("developer").post(
        url("approval-ask-again", asked.id), {"replicas": "2", "residency": "", "slo_class": ""}, follow=True
    )
    assert "is asked for again" in text(again)
    with scope.tenant(world.tenant.id):
        assert Endpoint.objects.get().replicas == 2
        newest = ApprovalRequest.objects.order_by("-id")[0]
    change = {"change": "1", "round": "1", "replicas": "1", "residency": "", "slo_class": "batch"}
    changed = world.browser("owner").post(url("approval", newest.id), change, follow=True)
    assert "Order chat: changed and approved." in text(changed)
    assert "standard -&gt; batch" in text(changed)


def test_scaling_that_waits_says_so_and_leaves_it_running(world, rule):
    with scope.tenant(world.tenant.id):
        ApprovalRule.objects.update(enabled=False)
    endpoint = world.order()
    with scope.tenant(world.tenant.id):
        ApprovalRule.objects.update(enabled=True)
    scaled = world.browser("developer").post(
        url("endpoint-scale", endpoint.id), {"replicas": "2"}, follow=True
    )
    assert "stays as it is: what you wish waits for approval" in text(scaled)
    assert "Scale chat to 2 replicas waits for an owner or admin" in text(scaled)


def test_a_quote_that_the_policy_bars_says_so(world):
    world.browser("owner").post(url("policy-edit"), policy(allowed_zones=["EU"]))
    shown = world.browser("developer").post(url("order"), ORDER | {"intent": "quote", "residency": "zone:US"})
    assert "Your policy does not allow this" in text(shown)
    assert "policy version 1 allows EU" in text(shown).replace("Policy", "policy")


def policy(version: int = 0, **values) -> dict:
    return {"four_eyes": "on", "link_decisions": "on", "version": str(version), **values}


def test_the_policy_is_changed_shown_and_compared(world):
    done = world.browser("owner").post(
        url("policy-edit"), policy(allowed_zones=["EU"], note="law"), follow=True
    )
    assert "Version 1 of the policy is in force" in text(done)
    stale = world.browser("owner").post(url("policy-edit"), policy(allowed_zones=["US"]))
    assert (stale.status_code, "at version 1 now" in text(stale)) == (422, True)
    world.browser("owner").post(url("policy-edit"), policy(1, allowed_zones=["eu-de-1"]))
    versions = text(world.browser("viewer").get(url("policy-versions")))
    assert "Version 2" in versions
    assert "law" in versions
    assert ">EU</td>" in versions
    assert ">eu-de-1</td>" in versions


def test_loosening_leads_to_the_request_that_a_second_person_decides_upon(world, rule):
    owner, admin = world.browser("owner"), world.browser("admin")
    owner.post(url("policy-edit"), policy(allowed_zones=["EU"]))
    asked = owner.post(url("policy-edit"), policy(1), follow=True)
    assert "a second person has agreed" in text(asked)
    with scope.tenant(world.tenant.id):
        request = ApprovalRequest.objects.get(what="policy")
    admin.post(url("approval", request.id), {"approve": "1", "round": "1"})
    with scope.tenant(world.tenant.id):
        assert TenantPolicy.objects.in_force().version == 2


def test_rules_are_made_changed_and_removed(world, rule):
    owner = world.browser("owner")
    bad = owner.post(
        url("approval-rule-new"), {"kind": "quota-above", "decides": "admin", "valid_hours": "8"}
    )
    assert (bad.status_code, "a share of the quota" in text(bad)) == (422, True)
    made = {"kind": "quota-above", "gpus": "4", "decides": "owner", "valid_hours": "8", "enabled": "on"}
    shown = owner.post(url("approval-rule-new"), made, follow=True)
    assert "The tenant would hold more than 4 GPUs" in text(shown)
    assert "For some member nobody else could decide" in text(shown)
    with scope.tenant(world.tenant.id):
        new = ApprovalRule.objects.get(kind="quota-above")
    path = url("approval-rule", new.id)
    assert owner.get(path).status_code == 200
    tighter = made | {"gpus": "2"}
    assert "The rule is changed" in text(owner.post(path, tighter, follow=True))
    asked = owner.post(path, {"remove": "1"}, follow=True)
    assert "a second person has agreed" in text(asked)
    with scope.tenant(world.tenant.id):
        request = ApprovalRequest.objects.get(what="rule")
    world.browser("admin").post(url("approval", request.id), {"approve": "1", "round": "1"})
    with scope.tenant(world.tenant.id):
        assert not ApprovalRule.objects.filter(kind="quota-above").exists()
    assert world.browser("stranger").get(url("approval-rule", rule.id, slug="other")).status_code == 404


def test_an_exception_is_asked_for_and_ended(world, rule):
    owner, developer = world.browser("owner"), world.browser("developer")
    owner.post(url("policy-edit"), policy(allowed_zones=["EU"]))
    wish = {
        "restriction": "zone", "value": "US", "reason": "trial", "endpoint": "", "project": "",
        "ends_on": (timezone.now() + dt.timedelta(days=9)).date().isoformat(),
    }  # fmt: skip
    late = wish | {"ends_on": (timezone.now() + dt.timedelta(days=900)).date().isoformat()}
    assert "within 366 days" in text(developer.post(url("policy-exception-new"), late))
    assert "an owner or admin decides" in text(developer.post(url("policy-exception-new"), wish, follow=True))
    with scope.tenant(world.tenant.id):
        request = ApprovalRequest.objects.get(what="exception")
    owner.post(url("approval", request.id), {"approve": "1", "round": "1"})
    assert "Zone or region: US" in text(developer.get(url("policy")))
    with scope.tenant(world.tenant.id):
        held = PolicyException.objects.get()
    assert owner.get(url("policy-exception-end", held.id)).status_code == 200
    assert "The exception is ended" in text(owner.post(url("policy-exception-end", held.id), follow=True))
    assert "Zone or region: US" not in text(developer.get(url("policy")))


def test_operators_decide_in_the_console(world):
    with scope.tenant(world.tenant.id):
        rules.rule_create(kind="reserved-gpus", gpu_types=["l4"], decides="operators")
    world.people["operator"] = make_user("olga@example.org", platform_role=PlatformRole.OPERATOR)
    world.browser("developer").post(url("order"), ORDER)
    console = world.browser("operator")
    listed = console.get(reverse("console:approvals"))
    assert "Order chat" in text(listed)
    with scope.tenant(world.tenant.id):
        request = ApprovalRequest.objects.get()
    path = reverse("console:approval", args=[request.id])
    assert "An operator of the platform decides" in text(console.get(path))
    done = console.post(path, {"approve": "1", "round": "1"}, follow=True)
    assert "Order chat: approved." in text(done)
    assert world.browser("owner").get(path).status_code == 404
