"""Tenants and gateways."""

from __future__ import annotations

import datetime as dt
import logging

import pytest
from django.urls import reverse
from django.utils import timezone

from clusters.inventory.gateways import token_digest
from clusters.models import Gateway, Region
from tenants import scope, services
from tenants.models import Membership, Tenant, User

TENANT = {
    "name": "Globex", "slug": "globex", "time_zone": "Europe/Vienna", "gpus": "12",
    "owner_email": "Hank@Example.org", "owner_name": "Hank", "password": "a long enough secret",
}  # fmt: skip


def test_a_tenant_is_opened_with_its_owner_and_quota(console, estate, client):
    answer = console.post(reverse("console:tenant-open"), TENANT, follow=True)
    assert "Tenant Globex is open." in answer.text
    with scope.platform("a test"):
        tenant = Tenant.objects.get(slug="globex")
    with scope.tenant(tenant.id):
        assert services.quota_limits()["gpus"] == 12
        member = Membership.objects.select_related("user").get()
    assert (member.role, member.user.email) == ("owner", "hank@example.org")
    assert client.login(email="hank@example.org", password="a long enough secret")


def test_a_person_who_has_an_account_becomes_owner_and_keeps_their_password(console, estate, client):
    User.objects.create_user("hank@example.org", "the older secret")
    console.post(reverse("console:tenant-open"), TENANT)
    assert client.login(email="hank@example.org", password="the older secret")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"slug": "acme"}, "slug"),
        ({"slug": "Not A Slug"}, "slug"),
        ({"owner_email": "nobody"}, "owner_email"),
        ({"password": "12345"}, "password"),
        ({"gpus": "-1"}, "gpus"),
    ],
)
def test_a_wrong_tenant_is_refused_input_kept_and_nobody_made(console, acme, changes, field):
    answer = console.post(reverse("console:tenant-open"), TENANT | changes)
    assert answer.status_code == 422
    assert answer.context["form"].errors[field]
    assert 'value="Globex"' in answer.text
    with scope.platform("a test"):
        assert not Tenant.objects.filter(name="Globex").exists()
    assert not User.objects.filter(email="hank@example.org").exists()
    assert "a long enough secret" not in answer.text


def test_the_gpu_quota_is_set(console, acme, caplog, django_capture_on_commit_callbacks):
    path = reverse("console:tenant-quota", args=["acme"])
    with caplog.at_level(logging.INFO, "berth.operator"), django_capture_on_commit_callbacks(execute=True):
        assert console.post(path, {"gpus": "40"}).status_code == 302
    with scope.tenant(acme.id):
        assert services.quota_limits()["gpus"] == 40
    assert "action=quota.set tenant='acme'" in caplog.text
    answer = console.post(path, {"gpus": "lots"})
    assert answer.status_code == 422
    assert 'value="lots"' in answer.text


def test_the_list_shows_what_tenants_hold(console, endpoint):
    answer = console.get(reverse("console:tenants"))
    row = next(row for row in answer.context["rows"] if row["tenant"].slug == "acme")
    assert row["held"] >= 1
    assert (row["limit"], row["endpoints"]) == (8, 1)


def test_a_gateways_token_is_shown_once(console, estate):
    form = {
        "name": "gw-fi",
        "region": str(Region.objects.get(code="eu-fi-1").id),
        "public_url": "https://fi.example",
    }
    answer = console.post(reverse("console:gateway-register"), form)
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    token = answer.context["token"]
    assert token in answer.text
    assert Gateway.objects.get(name="gw-fi").token_digest == token_digest(token)
    assert token not in console.get(reverse("console:gateways")).text


def test_registering_a_taken_name_does_not_change_its_token(console, estate):
    form = {"name": "gw-de", "region": str(Region.objects.get(code="eu-fi-1").id), "public_url": ""}
    answer = console.post(reverse("console:gateway-register"), form)
    assert answer.status_code == 422
    assert answer.context["form"].errors["name"]
    assert Gateway.objects.get(name="gw-de").token_digest == token_digest(estate.gateway_token)


def test_a_malformed_address_is_refused_and_kept(console, estate):
    form = {"name": "gw-x", "region": str(Region.objects.first().id), "public_url": "not an address"}
    answer = console.post(reverse("console:gateway-register"), form)
    assert answer.status_code == 422
    assert 'value="not an address"' in answer.text


def test_renewing_a_token_asks_for_the_name_first(console, estate):
    path = reverse("console:gateway-token", args=["gw-de"])
    assert console.post(path, {"confirm": "gw"}).status_code == 422
    assert Gateway.objects.get(name="gw-de").token_digest == token_digest(estate.gateway_token)
    token = console.post(path, {"confirm": "gw-de"}).context["token"]
    assert Gateway.objects.get(name="gw-de").token_digest == token_digest(token)


def test_silent_gateways_are_told(console, estate):
    def state() -> str:
        return console.get(reverse("console:gateways")).context["gateways"][0]["state"]["label"]

    assert state() == "Never heard of"
    Gateway.objects.update(last_seen_at=timezone.now())
    assert state() == "In contact"
    Gateway.objects.update(last_seen_at=timezone.now() - dt.timedelta(minutes=5))
    assert state() == "Silent"
    assert "Gateway gw-de is silent" in console.get(reverse("console:home")).text
