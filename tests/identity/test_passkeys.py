"""Passkeys in a real browser, with the authenticator that its debugger brings."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.test.testcases import LiveServerThread
from playwright.sync_api import expect

from tenants import scope
from tenants.models import SecondFactorOf, Tenant
from tests.factories import make_tenant, make_user
from tests.identity.conftest import PASSWORD, make_provider, map_group
from tests.scenarios import browser
from tests.scenarios.browser import Visitor

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not browser.CHROMIUM, reason="NO BROWSER: install Debian's package chromium to run this test"
    ),
]


@pytest.fixture
def portal(committed_db) -> Iterator[str]:
    """The portal served by threads of this process, on a name that browsers take for secure."""
    server = LiveServerThread("localhost", StaticFilesHandler)
    server.daemon = True
    server.start()
    assert server.is_ready.wait(60)
    assert server.error is None, server.error
    yield f"http://localhost:{server.port}"
    server.terminate()


@pytest.fixture
def visitor(portal) -> Iterator[Visitor]:
    with browser.chromium() as chromium:
        context = chromium.new_context()
        context.set_default_timeout(60_000)
        visitor = Visitor(context, portal)
        authenticator = context.new_cdp_session(visitor.page)
        authenticator.send("WebAuthn.enable")
        authenticator.send(
            "WebAuthn.addVirtualAuthenticator",
            {
                "options": {
                    "protocol": "ctap2", "transport": "internal", "hasResidentKey": True,
                    "hasUserVerification": True, "isUserVerified": True, "automaticPresenceSimulation": True,
                }
            },
        )  # fmt: skip
        yield visitor
        context.close()
    # What the provider's own page asks for is not ours to judge.
    assert [each for each in visitor.complaints if "/oauth2/authorize" not in each.split(": ")[0]] == []


def in_thread(work):
    """Touch rows apart from the browser's event loop, which Django takes for an asynchronous caller."""
    found: list = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def enter(visitor: Visitor, email: str) -> None:
    page = visitor.page
    page.goto(f"{visitor.portal}/accounts/login/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_a_demanded_passkey_is_set_up_and_signs_in_alone(portal, visitor):
    def rows() -> Tenant:
        tenant = make_tenant("acme", owner=make_user("owner@acme.example", name="Olive"), name="Acme")
        with scope.platform("a test"):
            Tenant.objects.update(second_factor_of=SecondFactorOf.OWNERS)
        return tenant

    in_thread(rows)
    page = visitor.page
    page.goto(f"{portal}/accounts/login/")
    expect(page.get_by_role("button", name="Use a passkey")).to_be_visible()
    visitor.look("identity-sign-in")
    enter(visitor, "owner@acme.example")
    expect(page.get_by_text("Owners of Acme need a second factor.").first).to_be_visible()
    visitor.look("identity-security-empty")
    page.get_by_role("link", name="Add a passkey").click()
    visitor.look("identity-confirm")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    page.get_by_label("Name").fill("Laptop")
    page.get_by_label("Passwordless").check()
    visitor.look("identity-passkey-new")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    visitor.look("identity-recovery-codes")
    page.get_by_role("link", name="I have stored them").click()
    expect(page.get_by_role("rowheader", name="Laptop")).to_be_visible()
    visitor.look("identity-security")
    assert in_thread(lambda: Authenticator.objects.filter(type="webauthn").count()) == 1

    page.goto(f"{portal}/t/acme/members")  # the way is free
    expect(page.get_by_role("heading", name="Members")).to_be_visible()

    page.context.clear_cookies()
    page.goto(f"{portal}/accounts/login/")
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("**/t/acme/**")

    # And as the second step after a password.
    page.context.clear_cookies()
    enter(visitor, "owner@acme.example")
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    visitor.look("identity-second-factor")
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("**/t/acme/**")


def test_the_pages_of_sign_in(portal, visitor, oidc):
    def rows() -> str:
        tenant = make_tenant("acme", owner=make_user("owner@acme.example", name="Olive"), name="Acme")
        provider = make_provider(oidc, tenant)
        map_group(provider, "engineers", tenant, role="developer")
        make_provider(oidc, make_tenant("other"), confirmed=False, domains=["other.example"])
        ours = make_provider(oidc, None, domains=["platform.example"])
        map_group(ours, "ops", platform_role="operator")
        make_user("root@platform.example", is_superuser=True)
        return f"{provider.id} {ours.id}"

    mine, ours = in_thread(rows).split()
    page = visitor.page
    oidc.person("ada", groups=["engineers"])
    # By a provider, through pages and redirects that the policy of the site must allow.
    page.goto(f"{portal}/accounts/find-provider")
    visitor.look("identity-find-provider")
    page.get_by_label("E-mail address").fill("ada@acme.example")
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url(f"{oidc.issuer}/**")
    page.locator("input[name=sub]").fill("ada")
    page.locator("button[value=authorize], button[type=submit], input[type=submit]").first.click()
    page.wait_for_url(f"{portal}/t/acme/**")
    page.context.clear_cookies()

    enter(visitor, "owner@acme.example")
    page.wait_for_url("**/t/acme/**")
    for path, name in (
        ("/t/acme/settings/sign-in", "identity-settings"),
        (f"/t/acme/settings/sign-in/{mine}", "identity-provider"),
        ("/t/acme/settings/sign-in/new", "identity-provider-new"),
        ("/t/acme/members", "identity-members"),
        ("/t/acme/members/new", "identity-invite"),
    ):
        visitor.open(path)
        visitor.look(name)
    page.get_by_label("E-mail address").fill("new@acme.example")
    page.get_by_role("button", name="Send the invitation").click()
    expect(page.get_by_role("rowheader", name="new@acme.example")).to_be_visible()
    visitor.look("identity-invited")
    page.context.clear_cookies()
    enter(visitor, "root@platform.example")
    page.wait_for_url("**/console/**")
    visitor.open("/console/sign-in")
    visitor.look("identity-console")
    visitor.open(f"/console/sign-in/{ours}")
    visitor.look("identity-console-provider")
