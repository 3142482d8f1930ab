"""The endpoint's pages: what they show, what can be done, what follows without a reload."""

from __future__ import annotations

import msgspec
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusters.models import Endpoint, EndpointState, Revision, Wanted
from tenants import scope
from tenants.models import ApiKey

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def fresh(world, endpoint: Endpoint) -> Endpoint:
    with scope.tenant(world.tenant.id):
        return Endpoint.objects.get(id=endpoint.id)


def test_the_list_shows_state_place_and_price(world):
    world.order("chat")
    text = world.browser("viewer").get("/t/nord/").content.decode()
    assert ">chat</a>" in text
    assert 'data-state="provisioning"' in text
    assert "Zone EU" in text
    assert ">0.45<" in text


def test_an_empty_list_leads_to_the_catalog(world):
    text = world.browser("owner").get("/t/nord/").content.decode()
    assert "No endpoints yet" in text
    assert 'href="/t/nord/catalog"' in text


def test_the_list_takes_as_many_queries_for_many_as_for_one(world):
    browser = world.browser("owner")
    world.order("one")
    browser.get("/t/nord/")
    with CaptureQueriesContext(connection) as few:
        browser.get("/t/nord/")
    for number in range(4):
        world.order(f"more-{number}")
    with CaptureQueriesContext(connection) as many:
        text = browser.get("/t/nord/").content.decode()
    assert text.count("more-") >= 4
    assert len(many) == len(few)


def test_live_parts_are_sent_only_when_they_read_differently(world):
    endpoint = world.order("chat")
    browser = world.browser("owner")
    for page, name in (("/t/nord/", "table"), (f"/t/nord/endpoints/{endpoint.id}", "status")):
        live = browser.get(page).context[name]
        url = live.html.split('hx-get="', 1)[1].split('"', 1)[0].replace("&amp;", "&")
        assert 'hx-trigger="every 2s"' in live.html
        assert browser.get(url, headers=HTMX).status_code == 204
        with scope.tenant(world.tenant.id):
            Endpoint.objects.filter(id=endpoint.id).update(state=EndpointState.READY, state_reason="It is.")
        changed = browser.get(url, headers=HTMX)
        assert changed.status_code == 200
        assert 'data-state="ready"' in changed.content.decode()
        assert 'hx-trigger="every 10s"' in changed.content.decode()
        with scope.tenant(world.tenant.id):
            Endpoint.objects.filter(id=endpoint.id).update(state=EndpointState.PROVISIONING, state_reason="")


def test_a_page_reloads_when_somebody_else_changed_the_order(world):
    endpoint = world.order("chat")
    url = f"/t/nord/endpoints/{endpoint.id}/status?generation={endpoint.generation + 1}"
    assert world.browser("owner").get(url, headers=HTMX)["HX-Refresh"] == "true"


def test_the_overview_says_how_to_call_it_and_why_it_runs_there(world):
    endpoint = world.order("chat")
    text = world.browser("viewer").get(f"/t/nord/endpoints/{endpoint.id}").content.decode()
    assert "http://127.0.0.1:8100/v1/chat/completions" in text
    assert "from openai import OpenAI" in text
    for told in ("Techniques", "Chunked prefill", "In-flight batching", "Speculative decoding", "Headroom"):
        assert told in text
    for told in ("own numbers", "none, Berth chooses", "tokens with its answer", "Memory of each GPU"):
        assert told in text
    assert "What was ruled out" in text
    assert "Ordered berth-docs-ngram" in text
    assert "Pause" not in text


def test_scale_pause_resume(world):
    endpoint = world.order("chat")
    browser, base = world.browser("developer"), f"/t/nord/endpoints/{endpoint.id}"
    assert browser.post(f"{base}/scale", {"replicas": "2"}, follow=True).status_code == 200
    assert fresh(world, endpoint).replicas == 2
    too_many = browser.post(f"{base}/scale", {"replicas": "60"})
    assert too_many.status_code == 422
    assert "quota" in too_many.content.decode()
    assert 'value="60"' in too_many.content.decode()
    browser.post(f"{base}/pause")
    assert fresh(world, endpoint).wanted == Wanted.PAUSED
    assert "Resume" in browser.get(base).content.decode()
    browser.post(f"{base}/resume")
    assert fresh(world, endpoint).wanted == Wanted.RUNNING
    assert world.browser("viewer").post(f"{base}/pause").status_code == 403
    assert browser.get(f"{base}/pause").status_code == 405


def test_deleting_takes_the_name(world):
    endpoint = world.order("chat")
    browser, path = world.browser("owner"), f"/t/nord/endpoints/{endpoint.id}/delete"
    refused = browser.post(path, {"confirm": "chta"})
    assert refused.status_code == 422
    assert 'value="chta"' in refused.content.decode()
    assert fresh(world, endpoint).wanted == Wanted.RUNNING
    done = browser.post(path, {"confirm": "chat"}, follow=True)
    assert "chat is being deleted." in done.content.decode()
    assert fresh(world, endpoint).wanted == Wanted.DELETED
    late = browser.post(f"/t/nord/endpoints/{endpoint.id}/pause")
    assert late.status_code == 409
    assert "is being deleted" in late.content.decode()


def test_the_playground_gets_a_key_for_an_hour(world):
    endpoint = world.order("chat")
    path = f"/t/nord/endpoints/{endpoint.id}/playground"
    page = world.browser("developer").get(path)
    assert f'data-key-url="{path}/key"' in page.content.decode()
    assert "http://127.0.0.1:8100" in page["Content-Security-Policy"]
    answer = world.browser("developer").post(f"{path}/key", headers={"Accept": "application/json"})
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    assert answer.json()["key"].startswith("berth_")
    with scope.tenant(world.tenant.id):
        key = ApiKey.objects.get()
        assert key.ephemeral
        assert key.project_id == endpoint.project_id
    refused = world.browser("viewer").post(f"{path}/key", headers={"Accept": "application/json"})
    assert refused.status_code == 403
    assert "viewer may not mint keys" in refused.json()["detail"]
    assert "Your role may not talk" in world.browser("viewer").get(path).content.decode()


def test_revisions_keep_the_whole_plan(world):
    endpoint = world.order("chat")
    text = world.browser("viewer").get(f"/t/nord/endpoints/{endpoint.id}/revisions").content.decode()
    assert "Revision 1" in text
    assert "Planned price" in text
    page = world.browser("viewer").get(f"/t/nord/endpoints/{endpoint.id}/revisions/1")
    with scope.tenant(world.tenant.id):
        refusals = Revision.objects.get(endpoint=endpoint).plan["refusals"]
    assert len(page.context["candidates"]) == len(refusals)
    assert f"All {len(refusals)} candidates" in page.content.decode()


def test_a_plan_that_another_version_wrote_is_shown_by_its_price(world, monkeypatch):
    endpoint = world.order("chat")
    monkeypatch.setattr("portal.pages.quotes.Plan", msgspec.defstruct("Plan", [("wanting", int)]))
    for path in ("", "/revisions", "/revisions/1"):
        page = world.browser("viewer").get(f"/t/nord/endpoints/{endpoint.id}{path}")
        assert page.status_code == 200
    overview = world.browser("viewer").get(f"/t/nord/endpoints/{endpoint.id}").content.decode()
    assert "Another version of Berth planned it" in overview
    assert "0.45" in overview


def test_logs_say_when_there_are_none(world):
    endpoint = world.order("chat")
    text = world.browser("viewer").get(f"/t/nord/endpoints/{endpoint.id}/logs").content.decode()
    assert "No engine was started yet." in text
