"""A gateway that waits for a snapshot hears of every change, whenever it comes."""

from __future__ import annotations

import asyncio
import threading

import msgspec
from django.test import RequestFactory

from clusters.api import gateways
from clusters.endpoints.snapshot import build_snapshot
from clusters.inventory.gateways import gateway_register
from clusters.models import Gateway
from gateway.contract import Snapshot
from tenants import notices, scope
from tenants.announcements import CHANNEL
from tenants.keys import key_mint
from tenants.models import KeyScope
from tests.estate import make_estate
from tests.factories import default_project, make_tenant

PATIENCE_S = 60


def test_a_change_between_the_look_and_the_wait_is_heard(committed_db, monkeypatch):
    # Otherwise it is found by looking, two seconds later.
    monkeypatch.setattr(notices, "LOOK_ANYWAY_S", 3600.0)
    monkeypatch.setattr(gateways, "LONGEST_WAIT_S", 3600.0)
    tenant = make_tenant("acme")
    gateway, token = gateway_register(name="gw-1", region=make_estate().gateway.region)
    held = build_snapshot(Gateway.objects.select_related("region").get(id=gateway.id)).version
    looks = 0
    look = gateways._newest
    heard = threading.Event()

    def newest(*asked):
        nonlocal looks
        looks += 1
        found = look(*asked)
        if looks == 1:
            with scope.tenant(tenant.id):
                key_mint(name="app", key_scope=KeyScope.INFERENCE, project=default_project(tenant))
            assert heard.wait(PATIENCE_S / 2)  # the announcement has come before the look ends
        return found

    monkeypatch.setattr(gateways, "_newest", newest)
    request = RequestFactory().get(
        "/", {"version": held, "wait": "3600"}, headers={"Authorization": f"Bearer {token}"}
    )

    async def poll():
        async with asyncio.timeout(PATIENCE_S), notices.listener(CHANNEL).subscribed() as beside:
            await beside.wait(0)
            asked = asyncio.create_task(gateways.snapshot(request))
            await beside.wait(PATIENCE_S / 2)
            heard.set()
            return await asked

    answer = asyncio.run(poll())
    assert answer.status_code == 200
    (key,) = msgspec.json.decode(answer.content, type=Snapshot).keys
    assert key.name == "app"
    assert looks == 2
