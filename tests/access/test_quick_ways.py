"""Who is known the quick way of ``callers.py`` is answered as by the whole way that a request goes."""

from __future__ import annotations

import re

import pytest

from tenants.keys import key_authenticate
from tests.access.callers import API, OF_THE_PLATFORM, PAGES
from tests.access.conftest import taken_back
from tests.access.operations import pages
from tests.access.test_pages import same

SEEN = ("home", "tenant:projects", "tenant:member-new", "console:clusters", "console:prices")


@pytest.mark.parametrize("caller", PAGES)
def test_on_pages(world, callers, caller):
    for page in [each for each in pages() if each.name in SEEN]:
        url = page.url(world.ids)
        for method in ("GET", "POST"):
            answers = []
            for browser in (callers.quick(caller), callers.browser(caller)):
                with taken_back():
                    answer = browser.generic(method, url)
                answers.append((answer.status_code, answer.get("Location"), same(answer.text, url)))
            assert answers[0] == answers[1], (method, url)


@pytest.mark.parametrize("caller", API)
def test_at_the_api(world, callers, caller, monkeypatch):
    def answers(client) -> list:
        with taken_back():
            asked = [
                client.get("/api/v1/tenant"),
                client.get("/api/v1/clusters"),
                client.get(f"/api/v1/endpoints/{world.ids['endpoints']}"),
                client.post("/api/v1/projects", {"slug": "new"}, format="json"),
            ]
        return [(each.status_code, re.sub(r"T\d\d:\d\d:\d\d\.\d+Z", "T(now)", each.text)) for each in asked]

    quick = answers(callers.api(caller))
    monkeypatch.setattr("portal.api.authentication.key_authenticate", key_authenticate)
    whole = callers.session_api(caller) if caller in OF_THE_PLATFORM else callers.api(caller)
    assert quick == answers(whole)
