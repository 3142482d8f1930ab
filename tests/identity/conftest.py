"""A tenant with people, their mail, and an OpenID Connect provider that runs beside the tests."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.test import Client
from django.utils import timezone

from tenants import scope
from tenants.identity import providers
from tenants.members import member_add
from tenants.models import EmailDomain, IdentityProvider, Membership, ProviderIdentity, Role, Tenant, User
from tenants.webhooks.mailing import mail_send_due
from tests import databases
from tests.factories import make_tenant, make_user

PASSWORD = "a long enough secret"


@dataclasses.dataclass
class Oidc:
    """The provider's process, and what a person does there."""

    issuer: str

    def person(self, subject: str, **claims: Any) -> None:
        """Say what the provider tells of a person."""
        told = {"email": f"{subject}@acme.example", "email_verified": True, "name": subject.title(), **claims}
        httpx.put(f"{self.issuer}/users/{subject}", json=told).raise_for_status()

    def spoil(self, **claims: Any) -> None:
        """Spoil the next ID token, or the next answer of userinfo."""
        httpx.put(f"{self.issuer}/spoil", json=claims).raise_for_status()

    def revoke(self, subject: str) -> None:
        """Take all tokens of a person back."""
        httpx.post(f"{self.issuer}/users/{subject}/revoke-tokens").raise_for_status()

    def calls(self, path: str) -> list[dict[str, Any]]:
        """Give what came at a path, in order."""
        return [each for each in httpx.get(f"{self.issuer}/calls").json() if each["path"] == path]

    def logout_token(self, **claims: Any) -> str:
        """Give a logout token that the provider signed."""
        return httpx.post(f"{self.issuer}/logout-token", json=claims).json()["logout_token"]

    def leave(self, browser: Client, provider: IdentityProvider, **more: Any) -> str:
        """Press the button at sign-in and give where it leads."""
        return browser.post(f"/accounts/oidc/{provider.id}/login/", more).context["url"]

    def back(self, url: str, subject: str) -> str:
        """Sign in at the provider and give the address that it sends the browser back to."""
        answer = httpx.post(url, data={"sub": subject})
        assert answer.status_code == 302, answer.text
        parts = urlsplit(answer.headers["Location"])
        return f"{parts.path}?{parts.query}"

    def sign_in(self, browser: Client, provider: IdentityProvider, subject: str, **more: Any) -> Any:
        """Go all the way round; gives the answer of the callback."""
        return browser.get(self.back(self.leave(browser, provider, **more), subject))


@pytest.fixture(scope="session")
def oidc() -> Iterator[Oidc]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.oidc_provider"],
        cwd=databases.ROOT,
        env=os.environ | {"AUTHLIB_INSECURE_TRANSPORT": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        port = process.stdout.readline().strip()
        assert port, "the provider did not start"
        yield Oidc(f"http://127.0.0.1:{port}")
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


@dataclasses.dataclass
class Acme:
    """The tenant ``acme``, its people by role, and their browsers."""

    tenant: Tenant
    people: dict[str, User]

    def browser(self, who: str = "") -> Client:
        """Give a browser, signed in by password as ``who`` if anybody."""
        browser = Client()
        if who:
            sign_in(browser, self.people[who].email)
        return browser

    def role_of(self, email: str) -> str:
        """Give somebody's role in the tenant, "" where they have none."""
        with scope.tenant(self.tenant.id):
            found = Membership.objects.filter(user__email=email).first()
        return found.role if found else ""


@pytest.fixture
def acme(db) -> Acme:
    people = {"owner": make_user("owner@acme.example", name="Olive Owner")}
    tenant = make_tenant("acme", owner=people["owner"], name="Acme")
    with scope.tenant(tenant.id):
        for role in (Role.ADMIN, Role.DEVELOPER):
            member = member_add(
                email=f"{role}@acme.example", role=role, granter_role=Role.OWNER, password=PASSWORD
            )
            people[role.value] = member.user
    return Acme(tenant, people)


def make_provider(
    oidc: Oidc, tenant: Tenant | None, *, confirmed: bool = True, domains=("acme.example",), **fields: Any
) -> IdentityProvider:
    """Set up the running provider for a tenant, or for the platform."""
    with scope.tenant(tenant.id) if tenant else scope.platform("a test"):
        provider = providers.provider_create(
            tenant=tenant,
            name="Acme ID",
            issuer=oidc.issuer,
            client_id="berth",
            client_secret="the client's secret",
            domains=domains,
            **fields,
        )
    if confirmed and tenant:
        with scope.platform("a test"):
            for domain in EmailDomain.objects.filter(provider=provider):
                providers.domain_confirm(domain=domain, by=None)
    return provider


def map_group(provider: IdentityProvider, group: str, tenant: Tenant | None = None, **role: str):
    """Map a group, as the page does."""
    with scope.platform("a test"):
        return providers.mapping_create(provider=provider, group=group, tenant=tenant, **role)


def enter(oidc: Oidc, provider: IdentityProvider, subject: str = "ada", **claims: Any) -> Client:
    """Sign in by a provider, which tells ``claims`` of the person; gives the browser."""
    oidc.person(subject, **claims)
    browser = Client()
    oidc.sign_in(browser, provider, subject)
    assert signed_in(browser)
    return browser


def long_ago(settings: Any, *, times: int = 1) -> None:
    """Let the time pass after which a provider is asked again."""
    with scope.platform("a test"):
        ProviderIdentity.objects.update(
            checked_at=timezone.now() - dt.timedelta(minutes=settings.SSO_RECHECK_MINUTES * times, seconds=1)
        )


def sign_in(browser: Client, email: str, password: str = PASSWORD, **extra: Any) -> Any:
    """Sign in by the form."""
    return browser.post("/accounts/login/", {"login": email, "password": password}, **extra)


def signed_in(browser: Client) -> bool:
    """Say whether somebody is signed in: a page for people answers, or leads elsewhere than to sign-in."""
    answer = browser.get("/account/security")
    return answer.status_code == 200


def links_mailed(mailoutbox: list) -> list[str]:
    """Send what is due by mail, and give the paths of the links in it."""
    mail_send_due()
    texts = "\n".join(message.body for message in mailoutbox)
    return [urlsplit(url).path for url in re.findall(r"https?://\S+", texts)]


def totp(secret: str, step: int = 0) -> str:
    """Give the code that an authenticator app shows now, or so many steps later."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + step))


def confirm_identity(browser: Client) -> None:
    """Enter the password again, as changes of second factors ask for."""
    assert browser.post("/accounts/reauthenticate/", {"password": PASSWORD}).status_code == 302


def add_app(browser: Client) -> str:
    """Set up an authenticator app by its pages; gives its key."""
    confirm_identity(browser)
    secret = browser.get("/accounts/2fa/totp/activate/").context["form"].secret
    answer = browser.post("/accounts/2fa/totp/activate/", {"code": totp(secret)})
    assert answer.status_code == 302, answer.context["form"].errors
    assert Authenticator.objects.filter(type="totp").exists()
    return secret
