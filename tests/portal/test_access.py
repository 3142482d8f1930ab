"""Where people are led who are in the wrong place. Who may open which screen: ``tests/access/``."""

from __future__ import annotations

import pytest

from tenants import scope
from tenants.members import member_add

pytestmark = pytest.mark.django_db


def test_a_fragment_sends_anonymous_people_to_sign_in_as_a_whole(world):
    answer = world.browser("nobody").get("/t/nord/endpoints/table", headers={"HX-Request": "true"})
    assert answer["HX-Redirect"].startswith("/accounts/login/")


def test_home_leads_to_where_one_belongs(world):
    assert world.browser("nobody").get("/").url.startswith("/accounts/login/")
    assert world.browser("owner").get("/").url == "/t/nord/"
    with scope.tenant(world.other.id):
        member_add(email="owner@nord.example", role="viewer", granter_role="owner")
    assert world.browser("owner").get("/").url == "/tenants"
    page = world.browser("owner").get("/tenants").content.decode()
    assert "/t/nord/" in page
    assert "/t/other/" in page


def test_healthz_answers(world):
    assert world.browser("nobody").get("/healthz").json() == {"status": "ok"}


def test_unknown_pages_are_told_kindly(world):
    answer = world.browser("owner").get("/t/nord/nowhere")
    assert answer.status_code == 404
    assert "There is nothing here" in answer.content.decode()
    assert world.browser("owner").get("/t/nord/catalog/%00").status_code == 400
    assert world.browser("owner").get("/t/nord/keys?page=%00").status_code == 400
