"""Nobody who makes a link decides where Berth leads people, or which host its mails name."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from django.core import mail as outbox

from tests.factories import make_user

pytestmark = pytest.mark.django_db

ELSEWHERE = (
    "https://evil.example/", "//evil.example/", "///evil.example/", "/\\evil.example/", "\\\\evil.example",
    "https:evil.example", "javascript:alert(1)", " //evil.example/", "http://testserver@evil.example/",
)  # fmt: skip


def test_signing_in_and_out_lead_nowhere_else(client):
    person = make_user("ada@example.org")
    for there in ELSEWHERE:
        client.force_login(person)
        entered = client.get(f"/accounts/login/?next={quote(there)}")
        left = client.post(f"/accounts/logout/?next={quote(there)}", {"next": there})
        for answer in (entered, left):
            assert (answer.status_code, answer["Location"]) in ((302, "/"), (302, "/accounts/login/")), there


def test_the_host_of_a_request_is_one_that_is_known(client, settings):
    settings.ALLOWED_HOSTS = ["testserver"]
    assert client.get("/accounts/login/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/api/v1/projects", headers={"host": "evil.example"}).status_code == 400


def test_no_header_puts_another_host_into_a_mail(client):
    make_user("ada@example.org")
    forged = {"x-forwarded-host": "evil.example", "forwarded": "host=evil.example", "origin": "null"}
    client.post("/accounts/password/reset/", {"email": "ada@example.org"}, headers=forged)
    (letter,) = outbox.outbox
    assert "http://testserver/" in letter.body
    assert "evil.example" not in letter.body
