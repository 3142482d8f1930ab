"""The console is there for the platform's people only, and all of it for whoever may do everything."""

from __future__ import annotations

import pytest
from django.urls import reverse

from tests.factories import make_user


@pytest.fixture
def operator(db):
    return make_user("root@example.org", is_superuser=True)


LISTS = ["home", "clusters", "gateways", "endpoints", "catalog", "slo-classes", "prices", "tenants", "engine-images",
         "engine-settings", "what-if", "advisor", "price-books", "price-rerate", "statements",
         "report-utilization", "report-throughput", "report-costs", "report-fragmentation", "report-savings",
         "reconciliation", "sign-in"]  # fmt: skip
FORMS = [
    "region-register", "cluster-register", "cluster-register-local", "gateway-deploy", "gateway-register",
    "model-add", "slo-add", "price-add", "price-book-new", "tenant-open", "advisor-policy",
    "sign-in-provider-add",
]  # fmt: skip


def details(endpoint) -> list[str]:
    return [
        reverse("console:cluster", args=["de-a"]),
        reverse("console:cluster-cordon", args=["de-a"]),
        reverse("console:pool-add", args=["de-a"]),
        reverse("console:pool-change", args=["de-a", "h100"]),
        reverse("console:cluster-remove", args=["de-a"]),
        reverse("console:gateway", args=["gw-de"]),
        reverse("console:gateway-change", args=["gw-de"]),
        reverse("console:gateway-remove", args=["gw-de"]),
        reverse("console:gateway-token", args=["gw-de"]),
        reverse("console:endpoint-move", args=[endpoint.id]),
        reverse("console:endpoint-revision", args=[endpoint.id, 1]),
        reverse("console:endpoint-restore", args=[endpoint.id, 1]),
        reverse("console:model-weights", args=["llama-3.1-8b-instruct"]),
        reverse("console:model-secret", args=["llama-3.1-8b-instruct"]),
        reverse("console:model-secret-remove", args=["llama-3.1-8b-instruct"]),
        reverse("console:engine-image", args=["triton-llmapi"]),
        reverse("console:engine-settings-edit", args=["batch"]),
        reverse("console:endpoint", args=[endpoint.id]),
        reverse("console:model", args=["llama-3.1-8b-instruct"]),
        reverse("console:model-edit", args=["llama-3.1-8b-instruct"]),
        reverse("console:slo-edit", args=["batch"]),
        reverse("console:tenant", args=["acme"]),
        reverse("console:tenant-quota", args=["acme"]),
        reverse("console:tenant-limits", args=["acme"]),
        reverse("console:tenant-commitments", args=["acme"]),
        reverse("console:tenant-commitment-add", args=["acme"]),
        reverse("console:tenant-credit-grant", args=["acme"]),
        reverse("console:endpoint-share", args=[endpoint.id]),
    ]


@pytest.mark.parametrize("name", LISTS + FORMS)
def test_a_superuser_sees_every_screen_of_an_empty_installation(console, name):
    answer = console.get(reverse(f"console:{name}"))
    assert answer.status_code == 200
    assert 'data-door="console"' in answer.text


def test_a_superuser_sees_every_screen_of_a_full_installation(console, endpoint):
    for path in [reverse(f"console:{name}") for name in LISTS + FORMS] + details(endpoint):
        assert console.get(path).status_code == 200, path


def test_to_members_of_tenants_the_console_does_not_exist(client, acme, endpoint):
    client.force_login(make_user("ann@example.org"))
    for path in [reverse(f"console:{name}") for name in LISTS + FORMS] + details(endpoint):
        assert client.get(path).status_code == 404, path


def test_nobody_else_may_write_either(client, estate):
    client.force_login(make_user("ann@example.org"))
    assert (
        client.post(reverse("console:cluster-cordon", args=["de-a"]), {"reason": "mine"}).status_code == 404
    )
    estate.clusters["de-a"].refresh_from_db()
    assert estate.clusters["de-a"].state == "active"


def test_who_is_not_signed_in_is_sent_to_sign_in_and_back(client, db):
    path = reverse("console:clusters")
    answer = client.get(path)
    assert answer.status_code == 302
    assert answer["Location"] == f"{reverse('account_login')}?next={path}"


def test_what_is_not_there_is_not_found(console, db):
    missing = ["clusters/none", "catalog/none", "slo-classes/none", "tenants/none", "gateways/none/token",
               "endpoints/01890000-0000-7000-8000-000000000000", "clusters/none/pools/add", "clusters/none/remove",
               "clusters/none/settings", "gateways/none", "engines/images/none", "engines/settings/none",
               "catalog/none/weights", "catalog/none/secret"]  # fmt: skip
    for path in missing:
        assert console.get(f"/console/{path}").status_code == 404, path


@pytest.mark.parametrize("name", ["console:home", "console:prices"])
def test_no_page_allows_inline_code_or_style(console, db, name):
    assert "unsafe" not in console.get(reverse(name))["Content-Security-Policy"]
