"""What each role of the platform is shown, and that nothing on a page leads where the role may not go."""

from __future__ import annotations

import re
from collections import deque
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.urls import resolve, reverse

from clusters.inventory.remit import operator_of
from clusters.models import OperatorCluster
from portal.pages.base import ConsolePage
from tenants.models import PlatformRole
from tests.factories import make_user

_LINK = re.compile(r'(?:href|hx-get)="(/console/[^"]*)"')
_FORM = re.compile(r'<form[^>]*action="(/console/[^"]*)"')

PEOPLE = ["operator", "narrowed", "finance", "auditor"]
#: One screen of each group, with who may see it.
SCREENS = {
    "home": {"operator", "narrowed", "auditor"},
    "clusters": {"operator", "narrowed", "auditor"},
    "gateways": {"operator", "narrowed", "auditor"},
    "report-utilization": {"operator", "narrowed", "auditor"},
    "report-throughput": {"operator", "narrowed", "auditor"},
    "report-fragmentation": {"operator", "narrowed", "auditor"},
    "report-savings": {"operator", "narrowed", "auditor"},
    "endpoints": {"operator", "narrowed", "auditor"},
    "catalog": {"operator", "narrowed", "auditor"},
    "engine-settings": {"operator", "narrowed", "auditor"},
    "advisor": {"operator", "auditor"},
    "what-if": {"operator", "auditor"},
    "tenants": {"operator", "finance", "auditor"},
    "prices": {"operator", "finance", "auditor"},
    "asset-rates": {"operator", "finance", "auditor"},
    "statements": {"operator", "finance", "auditor"},
    "report-costs": {"operator", "finance", "auditor"},
    "reconciliation": {"operator", "finance", "auditor"},
    "people": {"auditor"},
    "region-register": {"operator"},
    "cluster-register": {"operator"},
    "gateway-register": {"operator"},
    "gateway-deploy": {"operator", "narrowed"},
    "model-add": {"operator"},
    "slo-add": {"operator"},
    "tenant-open": {"operator"},
    "advisor-policy": {"operator"},
    "price-add": {"finance"},
    "price-book-new": {"finance"},
    "asset-rate-add": {"finance"},
    "person-add": set(),
}


def person(kind: str, estate=None):
    role = PlatformRole.OPERATOR if kind == "narrowed" else kind
    user = make_user(f"{kind}@berth.example", platform_role=role)
    if kind == "narrowed" and estate:
        OperatorCluster.objects.create(user=user, cluster=estate.clusters["de-a"])
    return user


def browser(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("kind", PEOPLE)
def test_each_role_sees_its_screens_and_is_told_why_not_the_others(kind, estate):
    client = browser(person(kind, estate))
    for name, who in SCREENS.items():
        answer = client.get(reverse(f"console:{name}"))
        if kind in who:
            assert answer.status_code == 200, name
        else:
            assert answer.status_code == 403, name
            assert "may not" in answer.text, name


@pytest.mark.parametrize("kind", PEOPLE)
def test_nothing_on_a_page_leads_where_the_role_may_not_go(kind, estate, endpoint):
    user = person(kind, estate)
    operator, client = operator_of(user), browser(user)
    waiting, seen = deque([client.get("/").url]), set()
    while waiting:
        path = waiting.popleft()
        match = resolve(urlsplit(path).path)
        if match.url_name in seen:
            continue
        seen.add(match.url_name)
        answer = client.get(path)
        assert answer.status_code == 200, f"{kind}: {path}"
        page = answer.text if "html" in answer["Content-Type"] else ""
        waiting += [each.replace("&amp;", "&") for each in _LINK.findall(page)]
        for target in _FORM.findall(page):
            view: type[ConsolePage] = resolve(urlsplit(target).path).func.view_class
            assert operator.may(view.write_action or view.action), f"{kind}: {path} posts to {target}"
    assert len(seen) > 5


def test_whoever_has_no_estate_begins_with_money(db):
    assert browser(person("finance")).get("/").url == reverse("console:statements")
    assert browser(person("operator")).get("/").url == reverse("console:home")
    assert browser(person("auditor")).get("/").url == reverse("console:home")


def test_an_auditor_changes_nothing(estate, endpoint):
    client = browser(person("auditor"))
    writes = {
        reverse("console:cluster-cordon", args=["de-a"]): {"reason": "mine"},
        reverse("console:endpoint-move", args=[endpoint.id]): {"cluster": "de-a"},
        reverse("console:price-add"): {},
        reverse("console:tenant-quota", args=["acme"]): {"gpus": 1},
        reverse("console:advisor-run"): {},
        reverse("console:person-add"): {"email": "a@example.org", "role": "auditor"},
    }
    for path, body in writes.items():
        assert client.post(path, body).status_code == 403, path


def test_a_role_that_is_taken_away_is_gone_at_the_next_request(estate):
    user = person("operator")
    client = browser(user)
    assert client.get(reverse("console:clusters")).status_code == 200
    user.platform_role = PlatformRole.NONE
    user.save(update_fields=["platform_role"])
    assert client.get(reverse("console:clusters")).status_code == 404
    assert client.get("/").url == reverse("tenants")


def test_a_suspended_person_is_signed_out(estate):
    user = person("auditor")
    client = browser(user)
    assert client.get(reverse("console:clusters")).status_code == 200
    user.is_active = False
    user.save(update_fields=["is_active"])
    assert client.get(reverse("console:clusters")).status_code == 302
