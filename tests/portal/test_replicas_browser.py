"""Pages of replicas and schedules in Chromium: no violations of axe, no scrolling sideways, in light and dark."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client
from django.utils import timezone

from clusters.endpoints.autoscaling.setting import ScheduleTerms, endpoint_scaling_set, schedule_set
from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.services import endpoint_order
from clusters.models import ScalingDecision
from tenants import scope
from tests.estate import make_estate
from tests.factories import default_project, make_tenant, make_user
from tests.scenarios.browser import CHROMIUM, Visitor, chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here"),
]


def test_every_page_is_sound_in_a_browser(portal):
    owner = make_user("owner@acme.example")
    tenant = make_tenant("acme", owner=owner, gpus=8)
    terms: OrderTerms = make_estate().terms(slo_class="batch", replicas=2)
    with scope.tenant(tenant.id):
        endpoint = endpoint_order(
            project=default_project(tenant), name="nightly-evaluations", terms=terms, actor="a test"
        )
        endpoint_scaling_set(endpoint=endpoint, actor="a test", enabled=True, floor=0, ceiling=6)
        night = ScheduleTerms(
            name="Zero at night", days=[1, 2, 3, 4, 5, 6, 7], from_time=dt.time(20), until_time=dt.time(7),
            time_zone="Europe/Berlin", floor=0,
        )  # fmt: skip
        schedule = schedule_set(endpoint=endpoint, terms=night, actor="a test")
        for before, after, outcome, reason in (
            (0, 1, "done", "A request asks for it."),
            (1, 4, "done", "26 requests are in progress; 1 replica works on 8 at once and should be given no more "
             "than 95% of that."),
            (4, 6, "refused", "40 requests are in progress; 6 replicas would be right, but: your quota is 8 GPUs."),
        ):  # fmt: skip
            ScalingDecision.objects.create(
                endpoint=endpoint, at=timezone.now(), revision=1, before=before, after=after, outcome=outcome,
                why="load", reason=reason, currency="EUR", price_before=before, price_after=after,
            )  # fmt: skip
    client = Client()
    client.force_login(owner)
    session = client.cookies["sessionid"].value
    assert SessionStore(session).exists(session)
    base = f"/t/acme/endpoints/{endpoint.id}"
    with chromium() as browser:
        context = browser.new_context()
        context.add_cookies([{"name": "sessionid", "value": session, "url": portal}])
        visitor = Visitor(context, portal)
        for name, path in {
            "replicas": f"{base}/replicas",
            "schedule-new": f"{base}/schedules/new",
            "schedule": f"{base}/schedules/{schedule.id}",
        }.items():
            visitor.open(path)
            visitor.look(name)
        assert visitor.complaints == []
