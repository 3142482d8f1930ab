"""Keys that are revoked, disabled, limited or replaced, at two gateway processes of a real control plane."""

from __future__ import annotations

import datetime as dt

import httpx
import pytest

from tenants import scope
from tenants.keys import key_mint, key_revoke, key_rotate
from tenants.limits import key_change
from tenants.models import ApiKey, KeyScope
from tenants.service_accounts import service_account_change, service_account_create
from tests.factories import default_project
from tests.scenarios.site import Site, furnish, wait

GATEWAYS = ("gw-1", "gw-2")


@pytest.fixture
def site(committed_db, tmp_path, monkeypatch):
    site = Site(tmp_path, committed_db)
    try:
        site.tenant = furnish(site, monkeypatch, *GATEWAYS)
        site.gate.touch()
        site.control_plane()
        for name in GATEWAYS:
            site.gateway(name)
        yield site
    finally:
        site.close()


def statuses(site: Site, key: str) -> list[int]:
    """Ask every gateway for what the key may call."""
    headers = {"authorization": f"Bearer {key}"}
    return [
        httpx.get(f"{site.urls[each]}/v1/models", headers=headers, timeout=30).status_code
        for each in GATEWAYS
    ]


def comes_to(site: Site, key: str, status: int) -> None:
    """Wait until every gateway answers the key so."""
    wait(lambda: statuses(site, key) == [status] * len(GATEWAYS))


def test_what_happens_to_a_key_holds_at_every_gateway(site) -> None:
    with scope.tenant(site.tenant.id):
        project = default_project(site.tenant)
        account = service_account_create(name="ci", role="viewer")
        _, automatic = key_mint(
            name="ci", key_scope=KeyScope.INFERENCE, project=project, service_account=account
        )
        key = ApiKey.objects.get(name="app")
    comes_to(site, site.key, 200)
    comes_to(site, automatic, 200)

    with scope.tenant(site.tenant.id):
        new, text = key_rotate(key=key, overlap=dt.timedelta(hours=1))
    comes_to(site, text, 200)
    assert statuses(site, site.key) == [200, 200]
    with scope.tenant(site.tenant.id):
        key_revoke(key=key)
    comes_to(site, site.key, 401)
    assert statuses(site, text) == [200, 200]

    with scope.tenant(site.tenant.id):
        key_change(key=new, narrowed={"verbs": ["chat"]})
    comes_to(site, text, 403)
    with scope.tenant(site.tenant.id):
        key_change(key=new, narrowed={"verbs": [], "networks": ["10.0.0.0/8"]})
    comes_to(site, text, 403)
    with scope.tenant(site.tenant.id):
        key_change(key=new, narrowed={"networks": []})
    comes_to(site, text, 200)

    with scope.tenant(site.tenant.id):
        service_account_change(account=account, active=False)
    comes_to(site, automatic, 401)
    with scope.tenant(site.tenant.id):
        service_account_change(account=account, active=True)
    comes_to(site, automatic, 200)
