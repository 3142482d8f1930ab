"""Pages of approvals and policy in Chromium: no violations of axe, no scrolling sideways, in light and dark."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client
from django.utils import timezone
from playwright.sync_api import expect

from clusters.endpoints.approvals.links import Link, link_token
from clusters.endpoints.policy.exceptions import exception_ask
from clusters.endpoints.services import endpoint_scale
from tenants import scope
from tests.clusters.approvals.conftest import Office, make_office
from tests.scenarios.browser import CHROMIUM, Visitor, chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here"),
]


def _office() -> tuple[Office, dict[str, str]]:
    office = make_office()
    office.policy(allowed_zones=["EU"], home_zone="EU", most_per_hour=Decimal(50))
    office.rule("price-above", amount=Decimal("0.01"))
    office.rule("quota-above", gpus=2, decides="owner")
    first = office.order("chat")
    office.decide("approve", office.request(first), comment="A long enough word of why this is fine.")
    office.act(endpoint_scale, endpoint=office.fresh(first), replicas=3)
    waiting = office.order("waits-for-somebody")
    refused = office.order("refused")
    office.decide("refuse", office.request(refused), comment="Not this month.")
    with scope.tenant(office.tenant.id):
        exception = exception_ask(
            restriction="zone",
            value="US",
            ends_at=timezone.now() + dt.timedelta(days=30),
            reason="A trial of the American region",
            asked_by=office.people["developer"],
            asked_as="developer@acme.example",
        )
    office.decide("approve", exception)
    request = office.request(waiting)
    token = link_token(
        Link(tenant_id=office.tenant.id, request_id=request.id, round=1, user_id=office.people["admin"].id)
    )
    tenant = "/t/acme"
    return office, {
        "approvals": f"{tenant}/approvals",
        "approval": f"{tenant}/approvals/{request.id}",
        "approval-refused": f"{tenant}/approvals/{office.request(refused).id}",
        "endpoint-waiting": f"{tenant}/endpoints/{waiting.id}",
        "policy": f"{tenant}/policy",
        "policy-edit": f"{tenant}/policy/edit",
        "policy-versions": f"{tenant}/policy/versions",
        "policy-rule": f"{tenant}/policy/rules/new",
        "policy-exception": f"{tenant}/policy/exceptions/new",
        "decide": f"/decide/{token}",
    }


def test_every_page_is_sound_in_a_browser(portal):
    office, pages = _office()
    session = _session(office)  # Playwright's own loop keeps Django from the database in this thread
    with chromium() as browser:
        stranger = Visitor(browser.new_context(), portal)
        link = pages.pop("decide")
        stranger.open(link)
        stranger.look("decide")
        stranger.page.get_by_label("Comment").fill("by keyboard")
        stranger.page.get_by_role("button", name="Approve", exact=True).press("Enter")
        stranger.page.get_by_text("waits-for-somebody: approved").wait_for()
        stranger.look("decided")
        assert stranger.complaints == []

        context = browser.new_context()
        context.add_cookies([{"name": "sessionid", "value": session, "url": portal}])
        visitor = Visitor(context, portal)
        for name, path in pages.items():
            visitor.open(path)
            visitor.look(name)
        visitor.open(pages["policy-rule"])
        for kind, shown in (("price-above", "amount"), ("quota-above", "gpus"), ("new-model-licence", "")):
            visitor.page.get_by_label("Ask when").select_option(kind)
            for name in ("amount", "gpus"):
                expect(visitor.page.locator(f"[name={name}]")).to_be_visible(visible=name == shown)
        assert visitor.complaints == []


def _session(office: Office) -> str:
    client = Client()
    client.force_login(office.people["owner"])
    key = client.cookies["sessionid"].value
    assert SessionStore(key).exists(key)
    return key
