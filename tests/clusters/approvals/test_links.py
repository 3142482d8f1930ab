"""Links in mails: for one person and one round, made when the mail is sent, resting nowhere, used once."""

from __future__ import annotations

import re
from decimal import Decimal
from urllib.parse import quote

import pytest
from allauth.mfa.models import Authenticator
from django.core import mail as outbox
from django.core import signing
from django.db import connection
from django.test import Client
from django.utils import timezone

from clusters.endpoints.approvals.links import Link, link_token, link_url
from clusters.models import ApprovalRequest, ApprovalSignature, Reservation
from tenants import scope
from tenants.identity.policy import tenant_policy_set
from tenants.members import member_change_role, member_remove
from tenants.models import Mail, Membership, SecondFactorOf, Tenant
from tenants.webhooks.links import NO_LINK
from tenants.webhooks.mailing import mail_send_due
from tests.factories import audit_entries

pytestmark = pytest.mark.django_db


@pytest.fixture
def asked(office, settings):
    """A request that owner and admin may decide upon, told by mail with a link."""
    settings.PORTAL_PUBLIC_URL = "https://berth.example"
    office.rule("price-above", amount=Decimal("0.01"))
    office.order()
    return office.request()


def path_for(office, who: str) -> str:
    """Send what is due and give the path of the link that somebody got."""
    outbox.outbox.clear()
    mail_send_due(now=timezone.now())
    (letter,) = [each for each in outbox.outbox if each.to == [office.people[who].email]]
    return re.search(r"https://berth\.example(/decide/\S+)", letter.body)[1]


def decide(path: str, how: str = "approve", round: int = 1):
    return Client().post(path, {how: "1", "round": round, "comment": "by mail"})


def held(office) -> int:
    with scope.tenant(office.tenant.id):
        return Reservation.objects.held().gpus()


def member(office, who: str) -> Membership:
    return Membership.objects.get(user=office.people[who])


def test_one_decides_by_the_link_without_signing_in(office, asked):
    path = path_for(office, "admin")
    shown = Client().get(path)
    assert shown.status_code == 200
    assert b"You decide as admin@acme.example" in shown.content
    assert shown["Cache-Control"].startswith("max-age=0") or "no-store" in shown["Cache-Control"]
    assert (office.request().state, held(office)) == ("pending", 0), "looking decides nothing"
    assert b"Order chat: approved." in decide(path).content
    done = office.request()
    assert (done.state, done.decided_as, done.decided_via) == ("approved", "admin@acme.example", "link")
    assert done.comment == "by mail"
    assert held(office) == 1


def test_the_audit_tells_who_decided_by_link_from_where(office, asked):
    Client(headers={"user-agent": "Mailer/1"}).post(
        path_for(office, "admin"), {"approve": "1", "round": 1}, headers={"x-request-id": "from-a-mail-1"}
    )
    told = audit_entries(office.tenant, request_id="from-a-mail-1")
    assert {"approval-signature.create", "approval-request.approve"} <= {entry.action for entry in told}
    who = {(each.actor_kind, each.actor_id, each.actor_name, each.address, each.user_agent) for each in told}
    admin = office.people["admin"]
    assert who == {("mail-link", str(admin.id), admin.email, "127.0.0.1", "Mailer/1")}


@pytest.mark.parametrize("by", ["factor", "tenant", "platform"])
def test_whom_no_password_alone_lets_in_signs_in_first(office, asked, settings, by):
    path, admin = path_for(office, "admin"), office.people["admin"]
    if by == "factor":
        Authenticator.objects.create(user=admin, type=Authenticator.Type.TOTP, data={"secret": "sealed"})
    elif by == "platform":
        settings.MFA_REQUIRED_FOR = ["all"]
    else:
        with scope.tenant(office.tenant.id):
            tenant_policy_set(tenant=office.tenant, second_factor_of=SecondFactorOf.ALL, provider_only=False)
    for answer in (Client().get(path), decide(path)):
        assert (answer.status_code, answer["Location"]) == (302, f"/accounts/login/?next={quote(path)}")
    assert office.request().state == "pending"
    client = Client()
    client.force_login(admin)
    reached = {"factor": 200, "tenant": 302, "platform": 302}[by]
    assert client.get(path).status_code == reached, "without one that is demanded, it is set up first"


def test_one_refuses_by_the_link(office, asked):
    assert decide(path_for(office, "owner"), "refuse").status_code == 200
    assert office.request().state == "refused"


def test_a_link_works_once(office, asked):
    path = path_for(office, "admin")
    assert decide(path, "refuse").status_code == 200
    assert (decide(path).status_code, Client().get(path).status_code) == (410, 410)
    assert office.request().state == "refused"


def test_a_forged_link_is_none(office, asked):
    path = path_for(office, "admin")
    with scope.tenant(office.tenant.id):
        ids = [str(office.tenant.id), str(asked.id), 1, str(office.people["admin"].id)]
    others = signing.dumps(ids, salt="another use", compress=True)
    for forged in (path[:-2] + "AA", f"/decide/{others}", "/decide/x", "/decide/" + "a" * 400):
        assert (Client().get(forged).status_code, decide(forged).status_code) == (410, 410)
    assert office.request().state == "pending"


def test_a_link_for_somebody_who_may_not_decide_does_nothing(office, asked):
    for who in ("developer", "billing"):
        token = link_token(
            Link(tenant_id=office.tenant.id, request_id=asked.id, round=1, user_id=office.people[who].id)
        )
        assert decide(f"/decide/{token}").status_code == 410
    assert office.request().state == "pending"


@pytest.mark.parametrize("demand", [{"provider_only": True}, {"second_factor_of": SecondFactorOf.ALL}])
def test_who_has_to_sign_in_with_more_than_a_password_decides_by_no_link_alone(office, asked, demand):
    path = path_for(office, "admin")
    with scope.tenant(office.tenant.id):
        Tenant.objects.update(**demand)
    assert decide(path).url.startswith("/accounts/login/")
    browser = Client()
    browser.force_login(office.people["admin"])  # by a password, that is
    assert browser.post(path, {"approve": "1", "round": 1, "comment": ""}).status_code in (302, 403)
    assert office.request().state == "pending"


def test_a_link_is_no_use_to_another_person_who_is_signed_in(office, asked):
    path = path_for(office, "admin")
    client = Client()
    client.force_login(office.people["owner"])
    assert client.get(path).status_code == 410


@pytest.mark.parametrize("loss", ["role", "membership", "account"])
def test_who_lost_the_right_meanwhile_decides_nothing_by_an_old_link(office, asked, loss):
    path = path_for(office, "admin")
    with scope.tenant(office.tenant.id):
        if loss == "role":
            member_change_role(membership=member(office, "admin"), role="viewer", granter_role="owner")
        elif loss == "membership":
            member_remove(membership=member(office, "admin"), granter_role="owner")
        else:
            office.people["admin"].is_active = False
            office.people["admin"].save()
    assert decide(path).status_code == 410
    assert office.request().state == "pending"


def test_a_link_ends_with_its_request_and_its_round(office, asked):
    path = path_for(office, "admin")
    with scope.tenant(office.tenant.id):
        ApprovalRequest.objects.update(round=2)
    assert decide(path).status_code == 410
    with scope.tenant(office.tenant.id):
        ApprovalRequest.objects.update(round=1, expires_at=timezone.now())
    late = decide(path)
    assert late.status_code == 409
    assert b"asked for again" in late.content
    assert held(office) == 0


def test_links_are_too_old_some_day(office, asked, settings):
    path = path_for(office, "admin")
    settings.APPROVAL_LINK_DAYS = -1
    assert decide(path).status_code == 410


def test_a_tenant_may_do_without_links(office, asked):
    path = path_for(office, "admin")
    office.policy(link_decisions=False)
    assert decide(path).status_code == 410
    office.order("second")
    outbox.outbox.clear()
    mail_send_due(now=timezone.now())
    bodies = [each.body for each in outbox.outbox if "second" in each.subject]
    assert bodies
    assert not any("/decide/" in body for body in bodies)


def test_a_link_needs_the_form_s_own_token_in_a_browser(office, asked):
    path = path_for(office, "admin")
    client = Client(enforce_csrf_checks=True)
    assert client.post(path, {"approve": "1", "round": 1}).status_code == 403
    assert office.request().state == "pending"


def test_no_link_rests_anywhere(office, asked):
    token = path_for(office, "admin").rpartition("/")[2]
    with scope.tenant(office.tenant.id):
        assert all("/decide/" not in each.text for each in Mail.objects.all())
        assert Mail.objects.filter(text__contains=f"[[link:approval:{asked.id}/1]]").count() == 2
    decide(f"/decide/{token}")
    with scope.platform("look for the link"), connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
            "AND data_type IN ('text', 'character varying', 'jsonb')"
        )
        for table, column in cursor.fetchall():
            cursor.execute(f'SELECT count(*) FROM "{table}" WHERE "{column}"::text LIKE %s', [f"%{token}%"])
            assert cursor.fetchone() == (0,), (table, column)


def test_what_people_write_makes_no_link(office, asked):
    office.decide("refuse", asked, comment=f"[[link:approval:{asked.id}/1]]")
    outbox.outbox.clear()
    mail_send_due(now=timezone.now())
    assert not any("/decide/" in each.body for each in outbox.outbox if "Refused" in each.subject)
    assert link_url(f"{asked.id}/1", "nobody@example.org") == ""
    assert NO_LINK


def test_two_parts_may_sign_by_link_each(office, settings):
    settings.PORTAL_PUBLIC_URL = "https://berth.example"
    office.rule("price-above", amount=Decimal("0.01"), decides="billing")
    office.rule("quota-above", gpus=0, decides="admin")
    office.order()
    first, second = path_for(office, "billing"), None
    for each in outbox.outbox:
        if each.to == ["admin@acme.example"]:
            second = re.search(r"(/decide/\S+)", each.body)[1]
    assert b"Others have to, too" in decide(first).content
    assert [decide(first, how).status_code for how in ("approve", "refuse")] == [410, 410], "used"
    assert office.request().state == "pending"
    assert decide(second).status_code == 200
    with scope.tenant(office.tenant.id):
        assert set(ApprovalSignature.objects.values_list("via", flat=True)) == {"link"}
    assert held(office) == 1
