"""Pages of evaluations in Chromium: no violations of axe, no scrolling sideways, in light and dark."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client

from clusters.endpoints.evaluations.prompts import EXAMPLE, read
from clusters.endpoints.evaluations.sets import newest_version, set_create
from clusters.endpoints.services import endpoint_order
from clusters.models import CatalogModel, EvaluationRun, Revision
from tenants import scope
from tests.estate import make_estate
from tests.factories import default_project, make_tenant, make_user
from tests.scenarios.browser import CHROMIUM, Visitor, chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here"),
]


def _checks(*passed: bool | None) -> list[dict]:
    kinds = ("contains", "max_tokens", "similar", "json_schema")
    why = "the answer has 12 tokens, at most 5 may be"
    return [
        {"kind": kind, "weight": 2, "passed": each, "reason": "" if each else why}
        for kind, each in zip(kinds, passed, strict=False)
    ]


def _furnish(root) -> dict[str, str]:
    estate, tenant = make_estate(), make_tenant("nord", owner=root, gpus=8)
    model = CatalogModel.objects.get(name="berth-docs-ngram")
    with scope.tenant(tenant.id):
        endpoint = endpoint_order(
            project=default_project(tenant), name="chat", terms=estate.terms(), actor="a test"
        )
        values = {"prompts": read(EXAMPLE), "actor": "somebody@nord.example", "tenant_id": tenant.id}
        version = newest_version(
            set_create(name="What our help desk is asked", endpoint=endpoint, most_drop=Decimal(5), **values)
        )
        revision = Revision.objects.get(endpoint=endpoint)
        common = {"endpoint": endpoint, "revision": revision, "version": version, "pass_percent": 100}
        results = [
            {"name": "capital", "checks": _checks(True, False, None), "before": _checks(True, True, None)},
            {"name": "", "checks": _checks(True), "before": None},
        ]
        failed = EvaluationRun.objects.create(
            state="failed", score=Decimal("66.66"), score_before=100, results=results, cost=Decimal("0.0123"),
            currency="EUR", message="The score is 66.66 %, at least 100.00 % is demanded.", **common,
        )  # fmt: skip
        EvaluationRun.objects.create(state="running", results=results[:1], **common)
        own = version.set
    with scope.platform("a test"):
        theirs = set_create(
            name="of the platform", model=model, prompts=read(EXAMPLE), actor="olga", tenant_id=None
        )
    base = f"/t/nord/endpoints/{endpoint.id}"
    return {
        "evaluations": f"{base}/evaluations",
        "evaluation": f"{base}/evaluations/{failed.id}",
        "evaluation-set-new": f"{base}/evaluation-sets/new",
        "evaluation-set": f"{base}/evaluation-sets/{own.id}",
        "evaluation-set-platform": f"{base}/evaluation-sets/{theirs.id}",
        "console-model": f"/console/catalog/{model.name}",
        "console-evaluation-set": f"/console/catalog/{model.name}/evaluation-sets/{theirs.id}",
    }


def test_every_page_is_sound_in_a_browser(portal):
    root = make_user("root@nord.example", is_superuser=True)
    pages = _furnish(root)
    client = Client()
    client.force_login(root)
    session = client.cookies["sessionid"].value  # Playwright's own loop keeps Django from the database here
    assert SessionStore(session).exists(session)
    with chromium() as browser:
        context = browser.new_context()
        context.add_cookies([{"name": "sessionid", "value": session, "url": portal}])
        visitor = Visitor(context, portal)
        for name, path in pages.items():
            visitor.open(path)
            visitor.look(name)
        visitor.open(pages["evaluation"])
        visitor.page.get_by_label("Why").fill("by keyboard")
        visitor.page.get_by_role("button", name="Waive").press("Enter")
        visitor.page.get_by_text("Accepted by root@nord.example").wait_for()
        assert visitor.complaints == []
