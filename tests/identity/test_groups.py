"""Groups decide roles: at sign-in, when mappings change, when the provider is asked again."""

from __future__ import annotations

import pytest
from django.test import Client

from tenants import scope
from tenants.errors import Conflict, NotFound
from tenants.identity import providers
from tenants.keys import key_authenticate, key_mint
from tenants.members import member_add, member_change_role, member_remove
from tenants.models import (
    KeyScope,
    Membership,
    PlatformRole,
    ProviderIdentity,
    Role,
    SecondFactorOf,
    Tenant,
    User,
)
from tests.factories import make_tenant, make_user
from tests.identity.conftest import enter, long_ago, make_provider, map_group, sign_in, signed_in

pytestmark = pytest.mark.django_db

ADA = "ada@acme.example"


@pytest.fixture
def provider(acme, oidc):
    return make_provider(oidc, acme.tenant)


def test_a_mapping_takes_effect_at_the_next_request(acme, oidc, provider):
    browser = enter(oidc, provider, groups=["engineers"])
    assert browser.get("/t/acme/").status_code == 404
    owner = acme.browser("owner")
    owner.post(f"/t/acme/settings/sign-in/{provider.id}", {"group": "engineers", "role": "viewer"})
    assert browser.get("/t/acme/").status_code == 200
    assert browser.get("/t/acme/keys/new").status_code == 403
    with scope.tenant(acme.tenant.id):
        mapping = provider.mappings.get()
    owner.post(f"/t/acme/settings/sign-in/{provider.id}/mappings/{mapping.id}/remove")
    assert browser.get("/t/acme/").status_code == 404
    assert browser.get("/api/v1/tenant").status_code == 400  # of no tenant now
    map_group(provider, "engineers", acme.tenant, role="developer")
    assert browser.get("/t/acme/keys/new").status_code == 200


def test_of_several_groups_the_highest_role_counts(acme, oidc, provider):
    map_group(provider, "staff", acme.tenant, role="viewer")
    map_group(provider, "leads", acme.tenant, role="admin")
    map_group(provider, "*", acme.tenant, role="billing")
    enter(oidc, provider, groups=["staff", "leads"])
    enter(oidc, provider, "bob", groups=[])
    assert acme.role_of(ADA) == "admin"
    assert acme.role_of("bob@acme.example") == "billing"


@pytest.mark.parametrize("groups", [None, "engineers", {"a": 1}, ["engineers", 7, None], ["x" * 500]])
def test_groups_of_any_shape(acme, oidc, provider, groups):
    map_group(provider, "engineers", acme.tenant, role="developer")
    enter(oidc, provider, groups=groups)
    expected = "developer" if groups == "engineers" or "engineers" in (groups or []) else ""
    assert acme.role_of(ADA) == expected


def test_groups_taken_away_count_when_the_provider_is_asked_again(acme, oidc, provider, settings):
    map_group(provider, "engineers", acme.tenant, role="developer")
    browser = enter(oidc, provider, groups=["engineers"])
    oidc.person("ada", groups=["others"])
    assert browser.get("/t/acme/").status_code == 200  # not asked yet
    long_ago(settings)
    assert browser.get("/t/acme/").status_code == 404
    assert signed_in(browser)
    oidc.person("ada", groups=["engineers"])
    long_ago(settings)
    assert browser.get("/t/acme/").status_code == 200


def test_who_is_gone_there_is_signed_out_here(acme, oidc, provider, settings):
    map_group(provider, "engineers", acme.tenant, role="developer")
    browser = enter(oidc, provider, groups=["engineers"])
    oidc.revoke("ada")
    long_ago(settings)
    assert browser.get("/t/acme/").url.startswith("/accounts/login/")
    assert not signed_in(browser)


def test_a_provider_that_fails_is_waited_for_and_not_for_ever(acme, oidc, provider, settings):
    map_group(provider, "engineers", acme.tenant, role="developer")
    browser = enter(oidc, provider, groups=["engineers"])
    with scope.platform("a test"):
        type(provider).objects.update(issuer="http://127.0.0.1:9")
    long_ago(settings)
    assert browser.get("/t/acme/").status_code == 200
    long_ago(settings, times=5)
    assert browser.get("/t/acme/").url.startswith("/accounts/login/")


def test_a_provider_switched_off_ends_its_sessions_and_roles(acme, oidc, provider):
    map_group(provider, "engineers", acme.tenant, role="developer")
    browser = enter(oidc, provider, groups=["engineers"])
    with scope.tenant(acme.tenant.id):
        providers.provider_change(provider=provider, active=False)
    assert not signed_in(browser)
    assert acme.role_of(ADA) == ""
    assert Client().post(f"/accounts/oidc/{provider.id}/login/").status_code == 404


def test_a_removed_provider_leaves_nothing(acme, oidc, provider):
    map_group(provider, "engineers", acme.tenant, role="developer")
    browser = enter(oidc, provider, groups=["engineers"])
    acme.browser("owner").post(f"/t/acme/settings/sign-in/{provider.id}/remove")
    assert not signed_in(browser)
    assert acme.role_of(ADA) == ""
    with scope.platform("a test"):
        assert not ProviderIdentity.objects.exists()


def test_keys_fall_with_the_role_that_made_them(acme, oidc, provider):
    mapping = map_group(provider, "engineers", acme.tenant, role="developer")
    enter(oidc, provider, groups=["engineers"])
    with scope.tenant(acme.tenant.id):
        _, text = key_mint(
            name="k",
            key_scope=KeyScope.MANAGEMENT,
            role=Role.DEVELOPER,
            created_by=User.objects.get(email=ADA),
        )
    assert key_authenticate(text).name == "k"
    with scope.tenant(acme.tenant.id):
        providers.mapping_remove(mapping=mapping)
    with pytest.raises(NotFound):
        key_authenticate(text)


def test_what_groups_decide_nobody_changes_by_hand(acme, oidc, provider):
    map_group(provider, "engineers", acme.tenant, role="developer")
    enter(oidc, provider, groups=["engineers"])
    with scope.tenant(acme.tenant.id):
        membership = Membership.objects.get(user__email=ADA)
        with pytest.raises(Conflict, match="groups of a sign-in provider"):
            member_change_role(membership=membership, role=Role.ADMIN, granter_role=Role.OWNER)
    page = acme.browser("owner").get("/t/acme/members").content.decode()
    assert "by groups of a sign-in provider" in page


def test_who_left_is_taken_out_and_is_back_only_by_signing_in(acme, oidc, provider):
    map_group(provider, "engineers", acme.tenant, role="developer")
    browser = enter(oidc, provider, groups=["engineers"])
    with scope.tenant(acme.tenant.id):
        id = Membership.objects.get(user__email=ADA).id
    owner = acme.browser("owner")
    assert "they are back once they sign in" in owner.get(f"/t/acme/members/{id}/remove").content.decode()
    owner.post(f"/t/acme/members/{id}/remove")
    map_group(provider, "*", acme.tenant, role="viewer")  # what the provider told before is forgotten
    assert acme.role_of(ADA) == ""
    assert not signed_in(browser)
    enter(oidc, provider, groups=["engineers"])
    assert acme.role_of(ADA) == "developer"


def test_a_tenants_provider_gives_nothing_outside_it(acme, oidc, provider):
    other = make_tenant("other")
    for wish in ({"tenant": other, "role": "owner"}, {"platform_role": "operator"}):
        with pytest.raises(Conflict, match="in that tenant alone"):
            map_group(provider, "engineers", **wish)


def test_the_platforms_groups_open_and_shut_the_console(acme, oidc):
    provider = make_provider(oidc, None)
    mapping = map_group(provider, "ops", platform_role=PlatformRole.OPERATOR)
    map_group(provider, "ops", acme.tenant, role="viewer")
    browser = enter(oidc, provider, groups=["ops"])
    assert browser.get("/console/").status_code == 200
    assert acme.role_of(ADA) == "viewer"
    assert b"Acme ID" in Client().get("/accounts/login/").content  # offered to everybody
    root = Client()
    root.force_login(make_user("root@platform.example", is_superuser=True))
    ada = User.objects.get(email=ADA)
    assert "it is back at the next" in root.get(f"/console/people/{ada.id}/remove").content.decode()
    with scope.platform("a test"):
        providers.mapping_remove(mapping=mapping)
    assert browser.get("/console/").status_code == 404
    assert User.objects.get(email=ADA).platform_role == ""


def test_a_platform_role_given_by_hand_stays(acme, oidc):
    provider = make_provider(oidc, None)
    make_user(ADA, platform_role=PlatformRole.AUDITOR)
    map_group(provider, "ops", platform_role=PlatformRole.OPERATOR)
    enter(oidc, provider, groups=["ops"])
    assert User.objects.get(email=ADA).platform_role == PlatformRole.AUDITOR


def test_only_superusers_set_up_providers_of_the_platform(acme, oidc):
    provider = make_provider(oidc, None)
    make_user("olga@platform.example", platform_role=PlatformRole.OPERATOR)
    make_user("root@platform.example", is_superuser=True)
    olga, root = Client(), Client()
    sign_in(olga, "olga@platform.example")
    sign_in(root, "root@platform.example")
    path = f"/console/sign-in/{provider.id}"
    wish = {"group": "ops", "tenant": "", "role": "operator"}
    for refused in (
        olga.post(path, wish),
        olga.get("/console/sign-in/add"),
        olga.post(f"{path}/edit", {}),
        olga.post(f"{path}/remove"),
    ):
        assert refused.status_code == 403
    assert olga.get("/console/sign-in").status_code == 200
    assert root.post(path, wish).status_code == 302
    assert root.post(path, {"group": "ops", "tenant": "acme", "role": "viewer"}).status_code == 302
    assert root.post(path, {"group": "x", "tenant": "acme", "role": "operator"}).status_code == 422
    assert root.post(path, {"group": "x", "tenant": "", "role": "viewer"}).status_code == 422


def test_an_operator_confirms_the_domain_of_a_tenant(acme, oidc):
    provider = make_provider(oidc, acme.tenant, confirmed=False)
    make_user("olga@platform.example", platform_role=PlatformRole.OPERATOR)
    make_user("audrey@platform.example", platform_role=PlatformRole.AUDITOR)
    olga, audrey = Client(), Client()
    sign_in(olga, "olga@platform.example")
    sign_in(audrey, "audrey@platform.example")
    oidc.person("ada")
    assert oidc.sign_in(Client(), provider, "ada").status_code == 403
    with scope.platform("a test"):
        domain = provider.domains.get()
    confirm = f"/console/sign-in/domains/{domain.id}/confirm"
    assert acme.browser("owner").post(confirm).status_code == 404
    assert audrey.post(confirm).status_code == 403
    assert "acme.example" in olga.get("/console/sign-in").content.decode()
    olga.post(confirm)
    assert oidc.sign_in(Client(), provider, "ada").status_code == 302


def test_a_tenants_provider_answers_for_second_factors_in_its_tenant_alone(acme, oidc, settings):
    provider = make_provider(oidc, acme.tenant, second_factor=True)
    map_group(provider, "*", acme.tenant, role="viewer")
    with scope.platform("a test"):
        Tenant.objects.update(second_factor_of=SecondFactorOf.ALL)
    browser = enter(oidc, provider)
    assert browser.get("/t/acme/").status_code == 200
    other = make_tenant("other")
    with scope.tenant(other.id):
        Tenant.objects.filter(id=other.id).update(second_factor_of=SecondFactorOf.ALL)
        member_add(email=ADA, role=Role.VIEWER, granter_role=Role.OWNER)
    assert browser.get("/t/other/").url == "/account/security"
    with scope.tenant(other.id):
        member_remove(membership=Membership.objects.get(user__email=ADA), granter_role=Role.OWNER)
    assert browser.get("/t/acme/").status_code == 200
    settings.MFA_REQUIRED_FOR = ["all"]
    assert browser.get("/t/acme/").url == "/account/security"


def test_a_domain_taken_away_ends_the_sessions_of_its_people(acme, oidc, provider):
    map_group(provider, "*", acme.tenant, role="viewer")
    browser = enter(oidc, provider)
    assert browser.get("/t/acme/").status_code == 200
    with scope.tenant(acme.tenant.id):
        providers.domains_set(provider=provider, domains=[])
    assert not signed_in(browser)


def test_a_provider_says_that_somebody_signed_out(acme, oidc, provider):
    browser = enter(oidc, provider)
    by_password = Client()
    sign_in(by_password, "owner@acme.example")
    path = f"/accounts/oidc/{provider.id}/back-channel-logout"
    for forged in (
        oidc.logout_token(aud="another-client", sub="ada"),
        oidc.logout_token(aud="berth", sub="ada", events={}),
        oidc.logout_token(aud="berth", sub="ada", nonce="n"),
        oidc.logout_token(aud="berth", sub="ada", iss="https://evil.example"),
        oidc.logout_token(aud="berth", sub="ada", iat=1_700_000_000),
        "nonsense",
        "",
    ):
        assert Client().post(path, {"logout_token": forged}).status_code == 400
        assert signed_in(browser)
    answer = Client(enforce_csrf_checks=True).post(
        path, {"logout_token": oidc.logout_token(aud="berth", sub="ada")}
    )
    assert answer.status_code == 200
    assert not signed_in(browser)
    assert signed_in(by_password)
