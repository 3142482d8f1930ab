"""Everybody who may ask. A new kind of caller is one line here and, where groups name it, one in ``expected.py``."""

from __future__ import annotations

import copy
import datetime as dt
import enum
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.utils import timezone
from rest_framework.test import APIClient

from clusters.models import Cluster, OperatorCluster
from tenants import scope
from tenants.keys import key_mint, key_revoke
from tenants.models import ApiKey, KeyScope, PlatformRole, Project, Role, ServiceAccount, Tenant, User
from tests.access.world import World
from tests.factories import make_user


class Side(enum.Enum):
    """Where a caller stands."""

    NORD = "a member of Nord, whose rows are asked for, or one of its keys"
    OTHER = "of another tenant"
    PLATFORM = "a person of the platform, member of no tenant"
    NOBODY = "nobody that is known"


def _key(tenant: Tenant, role: str) -> str:
    with scope.tenant(tenant.id):
        return key_mint(name=f"a key of role {role}", key_scope=KeyScope.MANAGEMENT, role=role)[1]


def _revoked(world: World) -> str:
    with scope.tenant(world.nord.id):
        key, text = key_mint(name="revoked", key_scope=KeyScope.MANAGEMENT, role=Role.OWNER)
        key_revoke(key=key)
    return text


def _expired(world: World) -> str:
    with scope.tenant(world.nord.id):
        key, text = key_mint(name="expired", key_scope=KeyScope.MANAGEMENT, role=Role.OWNER)
        ApiKey.objects.filter(id=key.id).update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    return text


def _of_service_account(world: World) -> str:
    with scope.tenant(world.nord.id):
        account = ServiceAccount.objects.get()
        return key_mint(name="of a robot", key_scope=KeyScope.MANAGEMENT, service_account=account)[1]


def _inference(world: World) -> str:
    with scope.tenant(world.nord.id):
        project = Project.objects.get(slug="default")
        return key_mint(name="for models", key_scope=KeyScope.INFERENCE, project=project)[1]


def _operator_of(name: str, *clusters: str) -> User:
    person = make_user(f"operator-{name}@example.org", platform_role=PlatformRole.OPERATOR)
    for cluster in Cluster.objects.filter(name__in=clusters):
        OperatorCluster.objects.create(user=person, cluster=cluster)
    return person


#: Callers of the REST API by bearer token: name -> (side, how its token is had).
BY_TOKEN: Final[dict[str, tuple[Side, Callable[[World], str]]]] = {
    **{
        role.value: (Side.NORD, lambda world, role=role: _key(world.nord, role))
        for role in (Role.OWNER, Role.ADMIN, Role.DEVELOPER, Role.BILLING, Role.VIEWER)
    },
    "service account": (Side.NORD, _of_service_account),  # a developer
    "stranger": (Side.OTHER, lambda world: _key(world.other, Role.OWNER)),
    "revoked key": (Side.NOBODY, _revoked),
    "expired key": (Side.NOBODY, _expired),
    "inference key": (Side.NOBODY, _inference),
}

#: People of the platform: name -> how they are made.
OF_THE_PLATFORM: Final[dict[str, Callable[[World], object]]] = {
    "operator": lambda world: make_user("operator@example.org", platform_role=PlatformRole.OPERATOR),
    "operator here": lambda world: _operator_of("here", world.ids["clusters"], world.ids["kubernetes"]),
    "operator elsewhere": lambda world: _operator_of("elsewhere", "fi-a"),
    "finance": lambda world: make_user("finance@example.org", platform_role=PlatformRole.FINANCE),
    "auditor": lambda world: make_user("auditor@example.org", platform_role=PlatformRole.AUDITOR),
    "superuser": lambda world: make_user("superuser@example.org", is_superuser=True, is_staff=True),
}

#: Members of tenants, who are in the world already.
MEMBERS: Final = {
    **dict.fromkeys(("owner", "admin", "developer", "billing", "viewer"), Side.NORD),
    "stranger": Side.OTHER,
}

API: Final[dict[str, Side]] = {
    **{name: side for name, (side, _) in BY_TOKEN.items()},
    "anonymous": Side.NOBODY,
    **dict.fromkeys(OF_THE_PLATFORM, Side.PLATFORM),
}
PAGES: Final[dict[str, Side]] = {
    **MEMBERS,
    "anonymous": Side.NOBODY,
    **dict.fromkeys(OF_THE_PLATFORM, Side.PLATFORM),
}


#: The middleware that finds out who is signed in, in this order; :func:`known` stands in for all three.
_FINDS_OUT: Final = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "portal.sessions.SessionMiddleware",
)
_CALLER: Final = "berth.caller"
_signed_in: dict[str, tuple[User, str, dict[str, Any]]] = {}


def quick_middleware() -> list[str]:
    """Give the middleware with what is the same at every request of a caller done once."""
    first, *others = _FINDS_OUT
    assert set(_FINDS_OUT) <= set(settings.MIDDLEWARE)
    return [
        f"{__name__}.known" if each == first else each for each in settings.MIDDLEWARE if each not in others
    ]


def known(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Take the caller's session and person, as they were found once, for those of the request."""

    def answer(request: HttpRequest) -> HttpResponse:
        request.user, request.session = AnonymousUser(), SessionStore()
        if name := request.META.get(_CALLER):
            user, key, kept = _signed_in[name]
            request.user, request.session = copy.copy(user), SessionStore(key)
            request.session._session_cache = copy.deepcopy(kept)
        return get_response(request)

    return answer


def once(authenticate: Callable[..., ApiKey]) -> Callable[..., ApiKey]:
    """Let a key be looked up once; one that is refused is refused anew each time."""
    found: dict[str, ApiKey] = {}

    def key(text: str, *, address: str = "") -> ApiKey:
        if text not in found:
            found[text] = authenticate(text, address=address)
        return copy.deepcopy(found[text])

    return key


class Callers:
    """Clients of every caller.

    :meth:`browser` goes all the way that a request goes. The others are for what is asked thousands of times: whose
    session or key it is, is found out once. A test has both answered alike.
    """

    def __init__(self, world: World) -> None:
        self._tokens: dict[str, str] = {}
        self._clients: dict[str, APIClient] = {}
        self._quick: dict[str, Client] = {"anonymous": Client()}
        self._browsers: dict[str, tuple[Client, SimpleCookie]] = {}
        for name, (_, token) in BY_TOKEN.items():
            self._tokens[name] = token(world)
            client = self._clients[name] = APIClient()
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {self._tokens[name]}")
        people = world.people | {name: make(world) for name, make in OF_THE_PLATFORM.items()}
        for name in PAGES:
            browser = Client()
            if name != "anonymous":
                browser.force_login(people[name])
                _signed_in[name] = people[name], browser.session.session_key, dict(browser.session.items())
                self._quick[name] = Client(**{_CALLER: name})
            self._browsers[name] = browser, copy.deepcopy(browser.cookies)
            if name in OF_THE_PLATFORM:
                self._clients[name] = APIClient(**{_CALLER: name})
        self._clients["anonymous"] = APIClient()
        with override_settings(MIDDLEWARE=quick_middleware()):
            for client in (*self._quick.values(), *(self._clients[name] for name in OF_THE_PLATFORM)):
                client.handler.load_middleware()

    def api(self, name: str) -> APIClient:
        return self._clients[name]

    def session_api(self, name: str) -> APIClient:
        """Give a client of the API for a person's browser."""
        client = APIClient()
        client.cookies = self.browser(name).cookies
        return client

    def token(self, name: str) -> str:
        return self._tokens[name]

    def quick(self, name: str) -> Client:
        """Give a browser that needs no cookies to be known by."""
        client = self._quick[name]
        client.cookies.clear()
        return client

    def browser(self, name: str) -> Client:
        """Give a browser in which they are signed in, whatever was done with it before."""
        browser, cookies = self._browsers[name]
        browser.cookies = copy.deepcopy(cookies)
        return browser
