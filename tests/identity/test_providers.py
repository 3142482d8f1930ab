"""Signing in by a provider: the whole way round, and everything that must not let anybody in."""

from __future__ import annotations

import time

import pytest
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.db import connection
from django.test import Client

from tenants import scope
from tenants.errors import Invalid
from tenants.identity import providers
from tenants.models import EmailDomain, IdentityProvider, PlatformRole, ProviderIdentity, User
from tests.api.contract import assert_problem
from tests.factories import make_tenant, make_user
from tests.identity.conftest import enter, long_ago, make_provider, map_group, sign_in, signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider(acme, oidc) -> IdentityProvider:
    """The tenant's provider, its domain confirmed, with the group ``engineers`` mapped."""
    provider = make_provider(oidc, acme.tenant)
    map_group(provider, "engineers", acme.tenant, role="developer")
    return provider


def test_the_first_sign_in_makes_an_account_with_the_roles_of_its_groups(acme, oidc, provider):
    oidc.person("ada", groups=["engineers", "others"])
    browser = Client()
    answer = oidc.sign_in(browser, provider, "ada", next="/t/acme/keys")
    assert (answer.status_code, answer.url) == (302, "/t/acme/keys")
    assert browser.get("/t/acme/keys").status_code == 200
    assert acme.role_of("ada@acme.example") == "developer"
    user = User.objects.get(email="ada@acme.example")
    assert (user.name, user.has_usable_password()) == ("Ada", False)
    again = Client()
    oidc.sign_in(again, provider, "ada")
    assert signed_in(again)
    assert User.objects.filter(email="ada@acme.example").count() == 1


def test_it_asks_with_state_nonce_and_pkce(acme, oidc, provider):
    oidc.person("ada", groups=["engineers"])
    oidc.sign_in(Client(), provider, "ada")
    asked, exchanged = oidc.calls("/oauth2/authorize")[-1], oidc.calls("/oauth2/token")[-1]
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["nonce"]) >= 24
    assert len(asked["state"]) >= 16
    assert len(exchanged["code_verifier"]) >= 43  # which the provider has held to the challenge
    assert asked["redirect_uri"].endswith(f"/accounts/oidc/{provider.id}/login/callback/")


@pytest.mark.parametrize(
    "spoiled",
    [
        {"aud": "another-client"},
        {"aud": ["berth", "another-client"]},
        {"aud": ["berth", "another-client"], "azp": "another-client"},
        {"exp": int(time.time()) - 600},
        {"exp": None},
        {"iat": int(time.time()) + 3600},
        {"iss": "https://evil.example"},
        {"nonce": "of another sign-in"},
        {"nonce": None},
        {"sub": "somebody-else"},
        {"how": "none"},
        {"how": "shared"},
        {"how": "other-key"},
        {"userinfo": {"sub": "somebody-else", "email": "owner@acme.example", "email_verified": True}},
    ],
    ids=lambda spoiled: "-".join(spoiled),  # no values: times differ between the processes of a run
)
def test_a_forged_token_lets_nobody_in(acme, oidc, provider, spoiled):
    oidc.person("ada", groups=["engineers"])
    browser = Client()
    way_back = oidc.back(oidc.leave(browser, provider), "ada")
    oidc.spoil(**spoiled)
    answer = browser.get(way_back)
    oidc.spoil()
    assert "You are not signed in" in answer.content.decode()
    assert not signed_in(browser)
    assert not User.objects.filter(email="ada@acme.example").exists()


def test_an_answer_to_nobodys_question_lets_nobody_in(acme, oidc, provider):
    oidc.person("ada", groups=["engineers"])
    browser, victim = Client(), Client()
    way_back = oidc.back(oidc.leave(browser, provider), "ada")
    # Somebody else's browser is sent there: it would be signed in as the attacker.
    victim.get(way_back)
    assert not signed_in(victim)
    browser.get(way_back)
    assert signed_in(browser)
    used = Client()
    used.get(way_back)
    assert not signed_in(used)


def test_a_code_without_its_verifier_is_refused_by_the_provider(acme, oidc, provider):
    oidc.person("ada", groups=["engineers"])
    one, two = Client(), Client()
    first, second = oidc.leave(one, provider), oidc.leave(two, provider)
    code = oidc.back(first, "ada").partition("code=")[2].partition("&")[0]
    state = second.partition("state=")[2].partition("&")[0]
    two.get(f"/accounts/oidc/{provider.id}/login/callback/?code={code}&state={state}")
    assert not signed_in(two)


def test_an_account_of_its_domain_is_linked_and_keeps_its_password(acme, oidc, provider):
    oidc.person("developer")
    browser = Client()
    oidc.sign_in(browser, provider, "developer")
    assert signed_in(browser)
    assert User.objects.filter(email="developer@acme.example").count() == 1
    assert acme.role_of("developer@acme.example") == "developer"  # given by hand, and not taken
    assert sign_in(Client(), "developer@acme.example").status_code == 302


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "victim@other.example"},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": None},
        {"email": "victim@other.example", "userinfo": {"email": "eve@acme.example"}},
        {"email": "eve@acme.example@other.example"},
        {"email": None},
    ],
    ids=str,
)
def test_it_speaks_for_verified_addresses_of_its_domains_only(acme, oidc, provider, claims):
    make_user("victim@other.example")
    before = User.objects.count()
    oidc.person("eve", groups=["engineers"], **claims)
    browser = Client()
    answer = oidc.sign_in(browser, provider, "eve")
    assert answer.status_code == 403
    assert "cannot sign you in" in answer.content.decode()
    assert not signed_in(browser)
    assert User.objects.count() == before
    assert not SocialAccount.objects.exists()


def test_a_domain_that_nobody_confirmed_is_nobodys(acme, oidc):
    provider = make_provider(oidc, acme.tenant, confirmed=False, domains=["other.example"])
    make_user("victim@other.example")
    oidc.person("eve", email="victim@other.example")
    browser = Client()
    assert oidc.sign_in(browser, provider, "eve").status_code == 403
    assert not signed_in(browser)


def test_a_domain_taken_away_ends_what_was_linked(acme, oidc, provider):
    oidc.person("ada", groups=["engineers"])
    oidc.sign_in(Client(), provider, "ada")
    with scope.tenant(acme.tenant.id):
        providers.domains_set(provider=provider, domains=[])
    browser = Client()
    assert oidc.sign_in(browser, provider, "ada").status_code == 403
    assert not signed_in(browser)


def test_another_issuer_is_another_authority(acme, oidc, provider):
    oidc.person("ada", groups=["engineers"])
    browser = Client()
    oidc.sign_in(browser, provider, "ada")
    with scope.tenant(acme.tenant.id):
        providers.provider_change(provider=provider, issuer=oidc.issuer.replace("127.0.0.1", "localhost"))
        assert not EmailDomain.objects.get().confirmed_at
    assert not signed_in(browser)
    assert acme.role_of("ada@acme.example") == ""
    assert not SocialAccount.objects.exists()


def test_the_provider_of_a_tenant_signs_in_nobody_of_the_platform(acme, oidc, provider):
    operator = make_user("op@acme.example", platform_role=PlatformRole.OPERATOR)
    oidc.person("op")
    browser = Client()
    assert oidc.sign_in(browser, provider, "op").status_code == 403
    assert not signed_in(browser)
    # One who becomes an operator later loses the session that the tenant's provider gave.
    oidc.person("ada", groups=["engineers"])
    oidc.sign_in(browser, provider, "ada")
    assert signed_in(browser)
    User.objects.filter(email="ada@acme.example").update(platform_role=PlatformRole.OPERATOR)
    assert browser.get("/console/").url.startswith("/accounts/login/")
    operator.refresh_from_db()
    assert not SocialAccount.objects.filter(user=operator).exists()


def test_nobody_connects_an_account_by_hand(acme, oidc, provider):
    oidc.person("eve", email="eve@other.example", groups=["engineers"])
    browser = acme.browser("developer")
    oidc.sign_in(browser, provider, "eve", process="connect")
    assert not SocialAccount.objects.exists()
    assert browser.get("/accounts/3rdparty/").status_code == 404
    assert browser.get("/accounts/3rdparty/signup/").status_code == 404


def test_somebody_switched_off_is_not_let_in(acme, oidc, provider):
    User.objects.filter(email="developer@acme.example").update(is_active=False)
    oidc.person("developer")
    browser = Client()
    oidc.sign_in(browser, provider, "developer")
    assert not signed_in(browser)


def test_a_provider_that_makes_no_accounts(acme, oidc):
    provider = make_provider(oidc, acme.tenant, makes_accounts=False)
    oidc.person("ada")
    assert oidc.sign_in(Client(), provider, "ada").status_code == 403
    assert not User.objects.filter(email="ada@acme.example").exists()


def test_secrets_and_tokens_rest_sealed_and_in_no_table_of_the_library(acme, oidc, provider):
    oidc.person("ada", groups=["engineers"])
    oidc.sign_in(Client(), provider, "ada")
    with scope.platform("a test"):
        identity = ProviderIdentity.objects.get()
        provider.refresh_from_db()
    for sealed in (identity.access_token, identity.refresh_token, provider.client_secret):
        assert len(sealed) > 40
        assert b"the client's secret" not in bytes(sealed)
    assert not SocialApp.objects.exists()
    assert not SocialToken.objects.exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT extra_data::text FROM socialaccount_socialaccount")
        (kept,) = cursor.fetchone()
    assert "token" not in kept


def test_a_provider_that_does_not_answer_is_told(acme, oidc, provider):
    with scope.tenant(acme.tenant.id):
        IdentityProvider.objects.update(issuer="http://127.0.0.1:9")
    answer = Client().post(f"/accounts/oidc/{provider.id}/login/")
    assert "did not answer" in answer.content.decode()


@pytest.mark.parametrize(
    "issuer",
    [
        "http://10.0.0.1", "https://10.0.0.1", "https://169.254.169.254/latest", "http://[fd00:ec2::254]",
        "https://192.168.1.1:8443", "ftp://id.example.org", "https://user:pw@93.184.216.34", "http://93.184.216.34",
        "https://0.0.0.0", "https://[::ffff:127.0.0.1]", "id.example.org", "https://93.184.216.34/?x=1",
    ],
)  # fmt: skip
def test_an_issuer_inside_is_not_spoken_to(acme, oidc, issuer):
    with scope.tenant(acme.tenant.id), pytest.raises(Invalid) as refused:
        providers.provider_create(tenant=acme.tenant, name="x", issuer=issuer, client_id="x")
    assert "issuer" in refused.value.errors


def test_an_address_that_the_provider_names_is_judged_when_it_is_dialled(acme, oidc, provider, settings):
    url = oidc.leave(Client(), provider)
    assert url.startswith(oidc.issuer)
    settings.OUTSIDE_ALLOW_LOOPBACK = False
    answer = Client().post(f"/accounts/oidc/{provider.id}/login/")
    assert "did not answer" in answer.content.decode()


def test_an_addresss_domain_leads_to_its_provider_and_tells_no_accounts(acme, oidc, provider):
    found = Client().post("/accounts/find-provider", {"email": "nobody@acme.example"})
    assert found.context["url"].startswith(oidc.issuer)
    known = Client().post("/accounts/find-provider", {"email": make_user("a@other.example").email})
    unknown = Client().post("/accounts/find-provider", {"email": "b@other.example"})
    assert known.status_code == unknown.status_code == 422
    assert known.context["form"].errors == unknown.context["form"].errors


def test_where_passwords_are_not_taken(acme, oidc, provider):
    before = acme.browser("developer")
    acme.browser("owner").post("/t/acme/settings/sign-in", {"second_factor_of": "", "provider_only": "on"})
    browser = Client()
    answer = browser.post(
        "/accounts/login/",
        {"login": "developer@acme.example", "password": "a long enough secret"},
        follow=True,
    )
    assert "own provider only" in answer.content.decode()
    assert not signed_in(browser)
    assert signed_in(acme.browser("owner"))  # the way in when the provider fails
    refused = before.get("/t/acme/")
    assert refused.status_code == 403
    assert "by a sign-in provider only" in refused.content.decode()
    assert_problem(before.get("/api/v1/endpoints"), 403, "provider-required")
    oidc.person("developer")
    oidc.sign_in(browser, provider, "developer")
    assert signed_in(browser)
    assert browser.get("/t/acme/").status_code == 200
    assert browser.get("/api/v1/endpoints").status_code == 200
    make_tenant("other", owner=acme.people["developer"])
    both = acme.browser("developer")  # by password, which is the other tenant's to take
    assert [both.get(f"/t/{slug}/").status_code for slug in ("other", "acme")] == [200, 403]


def test_passwords_are_taken_until_a_provider_can_sign_people_in(acme, oidc):
    make_provider(oidc, acme.tenant, confirmed=False)
    browser, wish = acme.browser("owner"), {"second_factor_of": "", "provider_only": "on"}
    refused = browser.post("/t/acme/settings/sign-in", wish)
    assert refused.status_code == 422
    assert "have one of its domains confirmed" in refused.content.decode()
    assert acme.browser("developer").get("/t/acme/").status_code == 200
    with scope.platform("a test"):
        providers.domain_confirm(domain=EmailDomain.objects.get(), by=None)
    assert browser.post("/t/acme/settings/sign-in", wish).status_code == 302


@pytest.mark.parametrize("kind", ["client_secret", "access_token"])
def test_a_secret_that_opens_no_more_is_told(acme, oidc, provider, settings, kind):
    browser = enter(oidc, provider)
    with scope.platform("a test"):
        rows = IdentityProvider.objects if kind == "client_secret" else ProviderIdentity.objects
        row = rows.get()
        setattr(row, kind, bytes(getattr(row, kind))[:-1] + b"!")
        row.save()
    if kind == "client_secret":
        told = Client().post(f"/accounts/oidc/{provider.id}/login/")
        assert told.status_code == 409
        assert "must be entered anew" in told.content.decode()
        return
    long_ago(settings)
    assert not signed_in(browser)  # by signing in again there is a new one
    oidc.sign_in(browser, provider, "ada")
    assert signed_in(browser)


def test_a_tenant_sees_and_changes_its_own_providers_only(acme, oidc, provider):
    stranger = make_user("stranger@other.example")
    make_tenant("other", owner=stranger)
    browser = Client()
    sign_in(browser, stranger.email)
    for path in ("", "/edit", "/remove"):
        assert browser.get(f"/t/other/settings/sign-in/{provider.id}{path}").status_code == 404
    assert browser.post(f"/t/other/settings/sign-in/{provider.id}/remove").status_code == 404
    shown = acme.browser("owner").get(f"/t/acme/settings/sign-in/{provider.id}").content.decode()
    assert "engineers" in shown
    assert "the client&#x27;s secret" not in shown
    for who in ("admin", "developer"):
        assert acme.browser(who).get("/t/acme/settings/sign-in").status_code == 403
