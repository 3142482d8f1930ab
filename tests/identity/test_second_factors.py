"""Second factors: set up, asked for, demanded; sealed at rest."""

from __future__ import annotations

import base64
import json
import re

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from tenants.models import PlatformRole, SecondFactorOf
from tests.api.contract import assert_problem
from tests.factories import audit_entries, make_user
from tests.identity.conftest import add_app, confirm_identity, sign_in, signed_in, totp

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _clocks(settings):
    # A code may run out between its making and its coming.
    settings.MFA_TOTP_TOLERANCE = 1


def demand(acme, of: str) -> None:
    """Demand a second factor by the tenant's page."""
    acme.browser("owner").post("/t/acme/settings/sign-in", {"second_factor_of": of})


def test_setting_up_an_app_asks_for_the_password_first(acme):
    browser = acme.browser("developer")
    answer = browser.get("/accounts/2fa/totp/activate/")
    assert answer.url.startswith("/accounts/reauthenticate/")
    assert browser.post("/accounts/reauthenticate/", {"password": "not it"}).status_code == 200
    assert browser.get("/accounts/2fa/totp/activate/").status_code == 302
    add_app(browser)
    assert "Active" in browser.get("/account/security").content.decode()


def test_with_an_app_a_password_alone_lets_nobody_in(acme):
    secret = add_app(acme.browser("developer"))
    browser = Client()
    answer = sign_in(browser, "developer@acme.example")
    assert answer.url == "/accounts/2fa/authenticate/"
    assert not signed_in(browser)
    assert browser.get("/api/v1/tenant").status_code == 401
    wrong = browser.post("/accounts/2fa/authenticate/", {"code": "000000"})
    assert "Incorrect code" in wrong.content.decode()
    assert browser.post("/accounts/2fa/authenticate/", {"code": totp(secret)}).status_code == 302
    assert signed_in(browser)


def test_a_code_is_taken_once(acme):
    secret = add_app(acme.browser("developer"))
    code = totp(secret)
    first, second = Client(), Client()
    for browser in (first, second):
        sign_in(browser, "developer@acme.example")
        browser.post("/accounts/2fa/authenticate/", {"code": code})
    assert signed_in(first)
    assert not signed_in(second)


def test_codes_cannot_be_tried_out(acme):
    secret = add_app(acme.browser("developer"))
    browser = Client()
    sign_in(browser, "developer@acme.example")
    for _ in range(5):
        browser.post("/accounts/2fa/authenticate/", {"code": "000000"})
    right = browser.post("/accounts/2fa/authenticate/", {"code": totp(secret)})
    assert "Too many failed login attempts" in right.content.decode()
    assert not signed_in(browser)


def test_a_recovery_code_lets_in_once(acme):
    here = acme.browser("developer")
    add_app(here)
    codes = re.findall(r"<code>(\d{8})</code>", here.get("/accounts/2fa/recovery-codes/").content.decode())
    assert len(codes) == 10
    for expected in (True, False):
        browser = Client()
        sign_in(browser, "developer@acme.example")
        browser.post("/accounts/2fa/authenticate/", {"code": codes[0]})
        assert signed_in(browser) is expected


def test_secrets_of_factors_rest_sealed(acme):
    here = acme.browser("developer")
    secret = add_app(here)
    codes = re.findall(r"<code>(\d{8})</code>", here.get("/accounts/2fa/recovery-codes/").content.decode())
    rows = json.dumps(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in rows
    assert not any(code in rows for code in codes)


def test_nothing_is_demanded_unless_somebody_does(acme):
    assert acme.browser("owner").get("/t/acme/").status_code == 200


@pytest.mark.parametrize(
    ("of", "owner", "developer"), [(SecondFactorOf.OWNERS, 302, 200), (SecondFactorOf.ALL, 302, 302)]
)
def test_a_tenant_demands_a_second_factor(acme, of, owner, developer):
    demand(acme, of)
    for who, status in (("owner", owner), ("developer", developer)):
        answer = acme.browser(who).get("/t/acme/")
        assert answer.status_code == status
        if status == 302:
            assert answer.url == "/account/security"


def test_who_lacks_a_demanded_factor_reaches_nothing_else(acme):
    demand(acme, SecondFactorOf.ALL)
    browser = acme.browser("developer")
    assert browser.get("/", follow=True).redirect_chain[-1][0] == "/account/security"
    assert "demands a second factor" in browser.get("/account/security").content.decode()
    assert_problem(browser.get("/api/v1/tenant"), 403, "mfa-required")
    # A header of a key does not lead around it.
    junk = {"HTTP_AUTHORIZATION": "Bearer nothing"}
    assert browser.get("/api/v1/tenant", **junk).status_code == 403
    assert (
        browser.get("/t/acme/endpoints/table", HTTP_HX_REQUEST="true")["HX-Redirect"] == "/account/security"
    )
    add_app(browser)
    assert browser.get("/t/acme/").status_code == 200
    assert browser.get("/api/v1/tenant").status_code == 200


def test_the_platform_demands_one_of_its_people_and_of_owners(acme, settings):
    settings.MFA_REQUIRED_FOR = ["platform", "owners"]
    operator = make_user("olga@platform.example", platform_role=PlatformRole.OPERATOR)
    finance = make_user("fin@platform.example", platform_role=PlatformRole.FINANCE)
    superuser = make_user("root@platform.example", is_superuser=True, is_staff=True)
    for person, path in ((operator, "/console/"), (finance, "/tenants"), (superuser, "/admin/")):
        browser = Client()
        sign_in(browser, person.email)
        assert browser.get(path).url == "/account/security"
    assert acme.browser("owner").get("/t/acme/").status_code == 302
    assert acme.browser("developer").get("/t/acme/").status_code == 200
    browser = Client()
    sign_in(browser, operator.email)
    assert_problem(browser.get("/api/v1/clusters"), 403, "mfa-required")
    add_app(browser)
    assert browser.get("/console/").status_code == 200


def test_the_last_factor_stays_while_one_is_demanded(acme):
    browser = acme.browser("developer")
    add_app(browser)
    demand(acme, SecondFactorOf.ALL)
    assert "last second factor" in browser.get("/accounts/2fa/totp/deactivate/").content.decode()
    browser.post("/accounts/2fa/totp/deactivate/")
    assert Authenticator.objects.filter(type="totp").exists()
    demand_nothing = {"second_factor_of": ""}
    owner = acme.browser("owner")
    add_app(owner)
    owner.post("/t/acme/settings/sign-in", demand_nothing)
    browser.post("/accounts/2fa/totp/deactivate/")
    assert not Authenticator.objects.filter(user=acme.people["developer"]).exists()


def test_only_owners_say_what_is_demanded(acme):
    for who in ("admin", "developer"):
        answer = acme.browser(who).post("/t/acme/settings/sign-in", {"second_factor_of": "all"})
        assert answer.status_code == 403
    assert acme.browser("developer").get("/t/acme/").status_code == 200


def test_reauthentication_is_by_a_factor_too(acme):
    secret = add_app(acme.browser("developer"))
    browser = Client()
    sign_in(browser, "developer@acme.example")
    browser.post("/accounts/2fa/authenticate/", {"code": totp(secret)})
    assert browser.get("/accounts/2fa/recovery-codes/generate/").status_code == 302
    confirm_identity(browser)
    assert browser.get("/accounts/2fa/recovery-codes/generate/").status_code == 200


def test_the_first_factor_ends_sessions_that_never_showed_one(acme, monkeypatch):
    demand(acme, SecondFactorOf.ALL)
    thief, here = acme.browser("developer"), acme.browser("developer")  # the thief knows the password alone
    monkeypatch.setattr("django.db.transaction.on_commit", lambda then: then())  # nothing commits in a test
    add_app(here)
    assert not signed_in(thief)
    assert here.get("/t/acme/").status_code == 200


def spoil(kind: str, name: str) -> None:
    """Change a sealed secret in the database."""
    row = Authenticator.objects.get(type=kind)
    sealed = bytearray(base64.b64decode(row.data[name]))
    sealed[-1] ^= 1
    row.data[name] = base64.b64encode(sealed).decode()
    row.save()


def test_a_secret_that_opens_no_more_is_told_and_replaced(acme):
    here = acme.browser("developer")
    add_app(here)
    spoil("recovery_codes", "seed")
    assert here.get("/account/security").context["codes_left"] == 0
    spoil("totp", "secret")
    browser = Client()
    sign_in(browser, "developer@acme.example")
    told = browser.post("/accounts/2fa/authenticate/", {"code": "000000"})
    assert told.status_code == 409
    assert "Have an operator of the platform take your second factors away" in told.content.decode()
    root = make_user("root@platform.example", is_superuser=True, is_staff=True)
    admin = Client()
    sign_in(admin, root.email)
    person = str(acme.people["developer"].id)
    wish = {"action": "take_second_factors_away", "_selected_action": [person]}
    done = admin.post("/admin/tenants/user/", wish, follow=True)
    assert "to be set up anew" in done.content.decode()
    assert not signed_in(here)
    assert not Authenticator.objects.exists()
    assert signed_in(acme.browser("developer"))
    (entry,) = audit_entries(acme.tenant, action="second-factor.removed")
    assert (entry.actor_kind, entry.actor_id) == ("operator", str(root.id))
    assert entry.facts == {"kind": "all", "person": acme.people["developer"].email}
