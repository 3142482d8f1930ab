"""Sessions: seen, ended, and over; attempts to get one, counted."""

from __future__ import annotations

import time
from urllib.parse import urlencode

import pytest
from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.test import Client

from tenants.identity.sign_in import BEGAN
from tests.factories import audit_entries, make_user
from tests.identity.conftest import PASSWORD, sign_in, signed_in

pytestmark = pytest.mark.django_db

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def test_sessions_are_listed_and_one_is_ended(acme):
    here, there = Client(), Client()
    sign_in(here, "developer@acme.example")
    sign_in(there, "developer@acme.example", HTTP_USER_AGENT=FIREFOX)
    page = here.get("/account/security")
    assert "Firefox on Linux" in page.content.decode()
    assert "127.0.0.1" in page.content.decode()
    other = next(each["row"] for each in page.context["sessions"] if not each["here"])
    assert here.post(f"/account/sessions/{other.pk}/end").status_code == 302
    assert not signed_in(there)
    assert signed_in(here)


def test_nobody_ends_the_session_of_another(acme):
    owner, developer = acme.browser("owner"), acme.browser("developer")
    theirs = UserSession.objects.get(user=acme.people["owner"])
    assert developer.post(f"/account/sessions/{theirs.pk}/end").status_code == 404
    assert signed_in(owner)


def test_all_others_are_ended_at_once(acme):
    browsers = [acme.browser("developer") for _ in range(3)]
    browsers[0].post("/account/sessions/end-others")
    assert [signed_in(each) for each in browsers] == [True, False, False]


@pytest.fixture
def root(acme) -> Client:
    """A browser of a superuser, who is no member of Acme."""
    make_user("root@berth.example", password=PASSWORD, is_superuser=True)
    client = Client()
    sign_in(client, "root@berth.example")
    return client


def test_a_superuser_ends_one_session_of_somebody(acme, root):
    here, there = Client(), Client()
    sign_in(here, "developer@acme.example")
    sign_in(there, "developer@acme.example", HTTP_USER_AGENT=FIREFOX)
    person = acme.people["developer"]
    assert f"/console/people/{person.id}/sessions" in root.get("/console/tenants/acme").text
    page = root.get(f"/console/people/{person.id}/sessions")
    assert [each["device"] for each in page.context["rows"]] == ["Firefox on Linux", "an unknown browser"]
    lost = page.context["rows"][0]["row"].pk
    answer = root.post(f"/console/people/{person.id}/sessions/{lost}/end", follow=True)
    assert "The session of developer@acme.example on Firefox on Linux is ended." in answer.text
    assert [signed_in(each) for each in (here, there, root)] == [True, False, True]
    for tenant in (None, acme.tenant):
        (told,) = audit_entries(tenant, action="session.revoked")
        assert told.actor_name == "root@berth.example"
        assert told.facts["person"] == "developer@acme.example"


def test_a_superuser_ends_all_sessions_of_somebody(acme, root):
    browsers = [acme.browser("developer") for _ in range(2)]
    path = f"/console/people/{acme.people['developer'].id}/sessions"
    assert "Not signed in anywhere" in root.post(f"{path}/end-all", follow=True).text
    assert [signed_in(each) for each in (*browsers, root)] == [False, False, True]


def test_a_session_is_ended_under_its_own_person_alone(acme, root):
    owner = acme.browser("owner")
    theirs = UserSession.objects.get(user=acme.people["owner"])
    path = f"/console/people/{acme.people['developer'].id}/sessions/{theirs.pk}/end"
    assert root.post(path).status_code == 404
    assert signed_in(owner)


def test_whoever_posted_without_a_session_comes_back_to_the_page_of_the_form(acme):
    post = Client().post
    form = "/t/acme/members?page=2"
    for came_from, back in (
        (f"http://testserver{form}", form),
        ("https://elsewhere.example/t/acme/members", "/"),
        ("", "/"),
    ):
        answer = post("/account/sessions/end-others", HTTP_REFERER=came_from)
        assert answer.url == f"/accounts/login/?{urlencode({'next': back}, safe='/')}"


def test_what_only_takes_a_form_says_so_in_words(acme):
    answer = acme.browser("owner").get("/account/sessions/end-others")
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert "There is nothing to look at here" in answer.text


def test_a_changed_password_ends_the_other_sessions(acme, mailoutbox):
    here, there = acme.browser("developer"), acme.browser("developer")
    new = "quite another secret"
    here.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": new, "password2": new})
    assert signed_in(here)
    assert not signed_in(there)
    assert [message.to for message in mailoutbox] == [["developer@acme.example"]]


def test_somebody_switched_off_is_out_at_the_next_request(acme):
    browser = acme.browser("developer")
    acme.people["developer"].is_active = False
    acme.people["developer"].save()
    assert browser.get("/t/acme/").url.startswith("/accounts/login/")
    assert browser.get("/api/v1/tenant").status_code == 401


def test_a_session_ends_after_its_longest_time(acme, settings):
    browser = acme.browser("developer")
    session = browser.session
    session[BEGAN] = time.time() - settings.SESSION_MOST_HOURS * 3600 - 1
    session.save()
    assert browser.get("/api/v1/tenant").status_code == 401
    assert not signed_in(browser)


def test_a_session_that_is_not_used_is_over(acme, settings):
    browser = acme.browser("developer")
    left = browser.session.get_expiry_age()
    assert left <= settings.SESSION_IDLE_MINUTES * 60
    session = browser.session
    session.set_expiry(-1)
    session.save()
    assert not signed_in(browser)


def test_a_part_that_keeps_itself_up_to_date_keeps_no_session(acme):
    browser = acme.browser("developer")
    session = browser.session
    session["berth.seen"] = 0
    session.save()
    browser.get("/t/acme/endpoints/table?seen=x")
    assert browser.session["berth.seen"] == 0
    browser.get("/t/acme/")
    assert browser.session["berth.seen"] > 0


def test_an_account_takes_five_wrong_passwords(acme):
    for _ in range(5):
        wrong = sign_in(Client(), "developer@acme.example", "not it")
        assert "not correct" in wrong.content.decode()
    right = sign_in(Client(), "developer@acme.example")
    assert right.status_code == 200
    assert "Too many failed login attempts" in right.content.decode()
    assert sign_in(Client(), "admin@acme.example").status_code == 302  # others are not locked out


def test_ten_wrong_accounts_from_one_address_whatever_it_claims(acme):
    for number in range(10):
        sign_in(Client(), f"nobody{number}@acme.example", "x", HTTP_X_FORWARDED_FOR=f"203.0.113.{number}")
    answer = sign_in(Client(), "developer@acme.example", HTTP_X_FORWARDED_FOR="203.0.113.99")
    assert "Too many failed login attempts" in answer.content.decode()


def test_a_trusted_proxy_tells_addresses_apart(acme, settings):
    import ipaddress

    settings.TRUSTED_PROXIES = [ipaddress.ip_network("127.0.0.0/8")]
    for number in range(10):
        sign_in(Client(), f"nobody{number}@acme.example", "x", HTTP_X_FORWARDED_FOR="203.0.113.1")
    blocked = sign_in(Client(), "developer@acme.example", HTTP_X_FORWARDED_FOR="203.0.113.1")
    assert "Too many failed login attempts" in blocked.content.decode()
    assert sign_in(Client(), "developer@acme.example", HTTP_X_FORWARDED_FOR="203.0.113.2").status_code == 302


def test_nothing_tells_whether_there_is_an_account(acme):
    known = sign_in(Client(), "developer@acme.example", "not it").content.decode()
    unknown = sign_in(Client(), "nobody@acme.example", "not it").content.decode()
    assert ("not correct" in known) is ("not correct" in unknown) is True
    for email in ("developer@acme.example", "nobody@acme.example"):
        answer = Client().post("/accounts/password/reset/", {"email": email})
        assert (answer.status_code, answer.url) == (302, "/accounts/password/reset/done/")


def test_password_resets_are_few(acme):
    answers = [
        Client().post("/accounts/password/reset/", {"email": "developer@acme.example"}).status_code
        for _ in range(7)
    ]
    assert answers[:5] == [302] * 5
    assert 429 in answers[5:] or 200 in answers[5:]


def test_what_is_counted_is_counted_for_all_processes(db):
    assert cache.add("tried", 1, timeout=60)
    assert not cache.add("tried", 2, timeout=60)
    assert cache.get("tried") == 1
    cache.set("tried", [1.5], timeout=-1)
    assert cache.get("tried") is None
    assert cache.add("tried", 3, timeout=60)
