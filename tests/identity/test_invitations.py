"""Invitations: by mail, once, for seven days, to one person."""

from __future__ import annotations

import datetime as dt

import pytest
from django.test import Client
from django.utils import timezone

from tenants import scope
from tenants.identity.invitations import invitation_create
from tenants.members import member_change_role
from tenants.models import Invitation, Mail, Membership, Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.factories import make_tenant, make_user
from tests.identity.conftest import PASSWORD, links_mailed, sign_in, signed_in

pytestmark = pytest.mark.django_db


def invite(
    acme, mailoutbox, email: str = "ada@new.example", role: str = "developer", who: str = "owner"
) -> str:
    """Invite by the members page, and give the path of the link that came by mail."""
    answer = acme.browser(who).post("/t/acme/members/new", {"email": email, "role": role}, follow=True)
    assert "An invitation is on its way" in answer.content.decode()
    return links_mailed(mailoutbox)[-1]


def change(**fields) -> None:
    with scope.platform("a test"):
        Invitation.objects.update(**fields)


def test_a_new_person_makes_an_account_and_joins(acme, mailoutbox):
    link = invite(acme, mailoutbox)
    assert mailoutbox[-1].to == ["ada@new.example"]
    browser = Client()
    page = browser.get(link, follow=True)
    assert page.redirect_chain == [("/invitations/join", 302)]  # the token is out of the address
    assert "Join Acme" in page.content.decode()
    weak = browser.post("/invitations/join", {"name": "Ada", "password": "12345678"})
    assert weak.status_code == 422
    assert weak.context["form"].errors["password"]
    joined = browser.post("/invitations/join", {"name": "Ada", "password": PASSWORD}, follow=True)
    assert joined.redirect_chain[-1][0] == "/t/acme/"
    assert acme.role_of("ada@new.example") == "developer"
    assert sign_in(Client(), "ada@new.example").status_code == 302


def test_somebody_with_an_account_signs_in_and_joins(acme, mailoutbox):
    make_user("ada@new.example")
    link = invite(acme, mailoutbox)
    browser = Client()
    page = browser.get(link, follow=True).content.decode()
    assert 'name="password"' not in page  # no second account can be made
    assert browser.post("/invitations/join", {"name": "X", "password": PASSWORD}).status_code == 422
    sign_in(browser, "ada@new.example")
    assert browser.post("/invitations/join", follow=True).redirect_chain[-1][0] == "/t/acme/"
    assert acme.role_of("ada@new.example") == "developer"


def test_the_token_rests_nowhere_in_plain_text(acme, mailoutbox):
    browser = acme.browser("owner")
    browser.post("/t/acme/members/new", {"email": "ada@new.example", "role": "viewer"})
    with scope.platform("a test"):
        waiting = Mail.objects.get()
        digest = Invitation.objects.get().token_digest
    token = links_mailed(mailoutbox)[-1].rpartition("/")[2]
    with scope.platform("a test"):
        sent = Mail.objects.get()
    assert len(token) >= 40
    assert (waiting.text, sent.text) == ("", "")
    assert token.encode() not in bytes(waiting.sealed)
    assert sent.sealed is None
    assert token not in digest


def test_a_link_works_once(acme, mailoutbox):
    link = invite(acme, mailoutbox)
    first, second = Client(), Client()
    for browser in (first, second):
        browser.get(link)
    first.post("/invitations/join", {"name": "Ada", "password": PASSWORD})
    late = second.post("/invitations/join", {"name": "Eve", "password": PASSWORD})
    assert late.status_code == 410
    assert "used already" in late.content.decode()
    assert "used already" in Client().get(link, follow=True).content.decode()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"expires_at": timezone.now() - dt.timedelta(hours=1)}, "more than seven days old"),
        ({"revoked_at": timezone.now()}, "taken back"),
    ],
)
def test_a_closed_invitation_says_so_and_lets_nobody_in(acme, mailoutbox, fields, told):
    link = invite(acme, mailoutbox)
    browser = Client()
    browser.get(link)
    change(**fields)
    for answer in (
        browser.post("/invitations/join", {"name": "Ada", "password": PASSWORD}),
        Client().get(link, follow=True),
    ):
        assert answer.status_code == 410
        assert told in answer.content.decode()
    assert acme.role_of("ada@new.example") == ""


def test_another_persons_account_does_not_join(acme, mailoutbox):
    make_user("eve@other.example")
    link = invite(acme, mailoutbox)
    browser = Client()
    sign_in(browser, "eve@other.example")
    assert "for somebody else" in browser.get(link, follow=True).content.decode()
    refused = browser.post("/invitations/join")
    assert refused.status_code == 403
    assert acme.role_of("eve@other.example") == ""


def test_nobody_invites_above_their_own_role(acme):
    answer = acme.browser("admin").post("/t/acme/members/new", {"email": "a@new.example", "role": "owner"})
    assert answer.status_code == 422
    assert_problem(
        client_of(acme.tenant, Role.ADMIN).post(
            f"{API}/invitations", {"email": "a@new.example", "role": "owner"}
        ),
        403,
        "forbidden",
    )
    with scope.platform("a test"):
        assert not Invitation.objects.exists()


def test_an_invitation_falls_with_the_rights_of_who_sent_it(acme, mailoutbox):
    link = invite(acme, mailoutbox, role="admin", who="admin")
    with scope.tenant(acme.tenant.id):
        admin = Membership.objects.get(user=acme.people["admin"])
        member_change_role(membership=admin, role=Role.VIEWER, granter_role=Role.OWNER)
    answer = Client().get(link, follow=True)
    assert answer.status_code == 410
    assert "may no longer give the role" in answer.content.decode()


def test_one_that_somebody_else_sends_again_is_theirs(acme, mailoutbox):
    invite(acme, mailoutbox, role="admin", who="admin")
    with scope.tenant(acme.tenant.id):
        admin = Membership.objects.get(user=acme.people["admin"])
        member_change_role(membership=admin, role=Role.VIEWER, granter_role=Role.OWNER)
        id = Invitation.objects.get().id
    acme.browser("owner").post(f"/t/acme/members/invitations/{id}/resend")
    assert Client().get(links_mailed(mailoutbox)[-1], follow=True).status_code == 200


def test_sending_again_ends_the_old_link(acme, mailoutbox):
    old = invite(acme, mailoutbox)
    early = Client()  # has opened the old link already
    early.get(old)
    with scope.tenant(acme.tenant.id):
        id = Invitation.objects.get().id
    browser = acme.browser("owner")
    browser.post(f"/t/acme/members/invitations/{id}/resend")
    new = links_mailed(mailoutbox)[-1]
    assert Client().get(old).status_code == 404
    assert early.post("/invitations/join", {"name": "Eve", "password": PASSWORD}).status_code == 404
    assert Client().get(new).status_code == 302
    assert "ada@new.example" in browser.get("/t/acme/members").content.decode()
    browser.post(f"/t/acme/members/invitations/{id}/revoke")
    assert "is taken back" in browser.get("/t/acme/members").content.decode()
    assert "ada@new.example" not in browser.get("/t/acme/members").content.decode()
    assert Client().get(new, follow=True).status_code == 410


def test_members_and_the_invited_are_not_invited_twice(acme, mailoutbox):
    invite(acme, mailoutbox)
    browser = acme.browser("owner")
    for email, told in (("ADA@new.example", "invited already"), ("developer@acme.example", "member already")):
        answer = browser.post("/t/acme/members/new", {"email": email, "role": "viewer"})
        assert answer.status_code == 422
        assert told in answer.content.decode()


def test_another_tenants_invitation_is_not_found(acme, mailoutbox):
    invite(acme, mailoutbox)
    with scope.tenant(acme.tenant.id):
        id = Invitation.objects.get().id
    stranger = make_user("stranger@other.example")
    make_tenant("other", owner=stranger)
    browser = Client()
    sign_in(browser, stranger.email)
    assert browser.post(f"/t/other/members/invitations/{id}/revoke").status_code == 404
    assert browser.post(f"/t/acme/members/invitations/{id}/revoke").status_code == 404
    with scope.tenant(acme.tenant.id):
        assert Invitation.objects.get().revoked_at is None


def test_a_guessed_link_leads_nowhere(db):
    answer = Client().get("/invitations/" + "x" * 43)
    assert answer.status_code == 404
    assert not signed_in(Client())


def test_one_that_ran_out_makes_room(acme, mailoutbox):
    invite(acme, mailoutbox)
    change(expires_at=timezone.now() - dt.timedelta(days=1))
    with scope.tenant(acme.tenant.id):
        invitation_create(
            email="ada@new.example",
            role=Role.VIEWER,
            granter_role=Role.OWNER,
            invited_by=acme.people["owner"],
            portal_url="https://berth.example",
        )
        assert Invitation.objects.open(timezone.now()).count() == 1
