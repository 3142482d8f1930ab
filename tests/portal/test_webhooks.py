"""Webhooks in the portal: made with a secret that is shown once, tested, sent again, rotated, removed."""

from __future__ import annotations

import re

import pytest

from tenants import scope
from tenants.models import OutboxState, WebhookDelivery, WebhookEndpoint
from tenants.webhooks.delivery import webhook_deliver
from tests.tenants.receiver import receiving

pytestmark = pytest.mark.django_db
PAGES = "/t/nord/settings/webhooks"
FORM = {"name": "Ops", "url": "https://8.8.8.8/hook", "event_types": ["budget.spent"], "active": "on"}


@pytest.fixture
def hook(world) -> WebhookEndpoint:
    world.browser("owner").post(f"{PAGES}/new", FORM)
    with scope.tenant(world.tenant.id):
        return WebhookEndpoint.objects.get()


def test_a_webhook_is_made_and_its_secret_shown_once(world):
    browser = world.browser("owner")
    assert "No webhooks yet" in browser.get(PAGES).text
    made = browser.post(f"{PAGES}/new", FORM)
    (secret,) = re.findall(r"whsec_[A-Za-z0-9+/=]+", made.text)
    assert made["Cache-Control"] == "no-store"
    with scope.tenant(world.tenant.id):
        endpoint = WebhookEndpoint.objects.get()
    for page in (PAGES, f"{PAGES}/{endpoint.id}", f"{PAGES}/{endpoint.id}/edit"):
        text = browser.get(page).text
        assert "Ops" in text
        assert secret not in text
    assert f'href="{PAGES}"' in browser.get("/t/nord/settings").text


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"), ({"url": "http://169.254.169.254/"}, "url"), ({"event_types": []}, "event_types"),
        ({"event_types": ["nothing"]}, "event_types"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_beside_its_field(world, hook, change, field):
    browser = world.browser("owner")
    for page in ("new", f"{hook.id}/edit"):
        answer = browser.post(f"{PAGES}/{page}", FORM | {"name": "Another"} | change)
        assert answer.status_code == 422
        assert list(answer.context["form"].errors) == [field]


def test_a_test_is_sent_shown_with_its_answer_and_sent_again(world, hook):
    browser = world.browser("owner")
    here = f"{PAGES}/{hook.id}"
    with receiving() as receiver:
        receiver.answers = [(500, {})]
        browser.post(f"{here}/edit", FORM | {"url": receiver.url})
        assert browser.post(f"{here}/test").url == here
        assert "Waiting" in browser.get(here).text
        webhook_deliver(endpoint_id=hook.id)
        page = browser.get(here).text
        assert "Answered 500" in page
        assert "It fails" in page
        with scope.tenant(world.tenant.id):
            WebhookDelivery.objects.update(state=OutboxState.GIVEN_UP)
            delivery = WebhookDelivery.objects.get()
        browser.post(f"{PAGES}/deliveries/{delivery.id}/again")
        webhook_deliver(endpoint_id=hook.id)
    page = browser.get(here).text
    assert "Delivered" in page
    assert "Answered 200" in page
    assert "It fails" not in page


def test_a_secret_is_rotated_and_a_webhook_removed_once_confirmed(world, hook):
    browser = world.browser("owner")
    here = f"{PAGES}/{hook.id}"
    assert "both secrets sign" in browser.get(f"{here}/rotate").text
    assert "whsec_" in browser.post(f"{here}/rotate").text
    assert "signs, too, until" in browser.get(here).text
    assert "cannot be undone" in browser.get(f"{here}/remove").text
    browser.post(f"{here}/remove")
    assert browser.get(here).status_code == 404


def test_webhooks_are_for_owners_and_admins_of_the_tenant(world, hook):
    pages = ("", "/new", *(f"/{hook.id}{more}" for more in ("", "/edit", "/rotate", "/remove")))
    for who in ("developer", "billing", "viewer"):
        for page in pages:
            assert world.browser(who).get(f"{PAGES}{page}").status_code == 403
        assert world.browser(who).post(f"{PAGES}/{hook.id}/test").status_code == 403
    stranger = world.browser("stranger")
    for page in pages:
        assert stranger.get(f"{PAGES}{page}").status_code == 404
        if str(hook.id) in page:
            assert stranger.get(f"/t/other/settings/webhooks{page}").status_code == 404
