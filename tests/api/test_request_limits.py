"""What is refused before it is read, what every answer carries, and how often one caller may ask."""

from __future__ import annotations

import asyncio
import json
import threading

import httpx
import pytest
from django.core.cache import caches
from django.test import override_settings
from django.urls import reverse

from portal.api.error_types import ERROR_TYPES
from portal.middleware.guard import LARGEST_BODY, MIB, guarded, largest_body
from tenants import scope
from tenants.keys import key_mint
from tenants.models import KeyScope, Role
from tests.api.contract import API, assert_problem
from tests.api.test_authentication import with_header

PROJECTS = f"{API}/projects"


class Inner:
    """An application that reads all of a body and answers how much there was."""

    def __init__(self) -> None:
        self.read = 0

    async def __call__(self, scope, receive, send) -> None:
        more = True
        while more:
            message = await receive()
            self.read += len(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"public")]})
        await send({"type": "http.response.body", "body": b"%d" % self.read})


def ask(
    inner: Inner,
    path: str = PROJECTS,
    *,
    pieces=(b"",),
    headers=(),
    query: bytes = b"",
    scheme: str = "http",
) -> dict:
    """Send a body in pieces through the outermost layer; give status, headers, body and how many pieces it took."""
    left = list(pieces)
    told: dict = {"body": b"", "taken": 0}

    async def receive():
        told["taken"] += 1
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    async def send(message):
        if message["type"] == "http.response.start":
            told["status"], told["headers"] = message["status"], dict(message["headers"])
        else:
            told["body"] += message.get("body", b"")

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": query,
        "headers": list(headers), "scheme": scheme,
    }  # fmt: skip
    asyncio.run(guarded(inner)(scope, receive, send))
    return told


def refused(told: dict, code: str) -> None:
    body = json.loads(told["body"])
    assert (told["status"], body["code"], body["status"]) == (ERROR_TYPES[code].status, code, told["status"])
    assert body["type"] == f"/docs/errors#{code}"
    assert told["headers"][b"content-type"] == b"application/problem+json"


def test_a_body_whose_length_is_told_is_refused_before_any_of_it_is_read():
    inner = Inner()
    told = ask(inner, headers=[(b"content-length", b"%d" % (LARGEST_BODY + 1))], pieces=[b"x"] * 9)
    refused(told, "body-too-large")
    assert (inner.read, told["taken"]) == (0, 0)
    assert told["headers"][b"connection"] == b"close"


def test_a_body_without_a_length_is_read_up_to_the_limit_and_no_further():
    told = ask(Inner(), pieces=[b"x" * (MIB // 4)] * 100)
    refused(told, "body-too-large")
    assert told["taken"] == 5


def test_a_body_as_large_as_allowed_is_taken():
    assert ask(Inner(), pieces=[b"x" * (MIB // 4)] * 4)["body"] == b"%d" % MIB


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/api/gateway/v1/usage", 16 * MIB),
        ("/api/v1/models/m/tokenizer", 32 * MIB + 1),
        ("/api/v1/models/m/secret", MIB),
        ("/api/v1/projects/api/gateway/v1/", MIB),
        ("/t/acme/keys", MIB),
    ],
)
def test_bodies_are_larger_where_they_must_be(path, most):
    assert largest_body(path) == most


def test_addresses_and_headers_have_their_limits():
    refused(ask(Inner(), query=b"a=" + b"x" * 9000), "uri-too-long")
    refused(ask(Inner(), headers=[(b"x-%d" % n, b"1") for n in range(101)]), "headers-too-large")
    refused(ask(Inner(), headers=[(b"cookie", b"x" * 40_000)]), "headers-too-large")
    page = ask(Inner(), "/t/acme/", headers=[(b"cookie", b"x" * 40_000)])
    assert page["headers"][b"content-type"].startswith(b"text/plain")
    assert page["status"] == 431


@pytest.mark.parametrize("path", [PROJECTS, "/api/gateway/v1/usage"])
def test_a_program_that_asks_over_plain_http_is_refused_before_its_body_is_read(settings, path):
    proxy = [(b"x-forwarded-proto", b"https")]
    assert ask(Inner(), path)["status"] == 200
    settings.SECURE_SSL_REDIRECT = True
    inner = Inner()
    told = ask(inner, path, pieces=[b"x"] * 3)
    refused(told, "https-required")
    assert (inner.read, told["taken"], told["headers"][b"connection"]) == (0, 0, b"close")
    refused(ask(Inner(), path, headers=proxy), "https-required")  # no proxy is trusted
    assert ask(Inner(), path, scheme="https")["status"] == 200
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert ask(Inner(), path, headers=proxy)["status"] == 200
    refused(ask(Inner(), path, scheme="https", headers=[(proxy[0][0], b"http")]), "https-required")
    assert ask(Inner(), "/t/acme/keys")["status"] == 200  # pages are Django's to lead to https


def test_every_answer_carries_the_headers_and_only_static_files_are_kept():
    told = ask(Inner())["headers"]
    assert told[b"cache-control"] == b"no-store"
    assert told[b"x-frame-options"] == b"DENY"
    assert told[b"cross-origin-resource-policy"] == b"same-origin"
    assert told[b"content-security-policy"] == b"default-src 'none'; frame-ancestors 'none'"
    assert b"camera=()" in told[b"permissions-policy"]
    assert b"strict-transport-security" not in told
    assert b"clear-site-data" not in told
    assert ask(Inner(), "/accounts/logout/")["headers"][b"clear-site-data"] == b'"cache"'
    assert ask(Inner(), "/static/berth/css/berth.css")["headers"][b"cache-control"] == b"public"
    with override_settings(SECURE_HSTS_SECONDS=60, SECURE_HSTS_INCLUDE_SUBDOMAINS=True):
        assert ask(Inner())["headers"][b"strict-transport-security"] == b"max-age=60; includeSubDomains"


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/api/nothing", "/accounts/login/", "/docs/errors"])
async def test_the_application_answers_so(path):
    from portal.asgi import application

    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        answer = await client.get(path)
    for name in (
        "x-content-type-options",
        "content-security-policy",
        "permissions-policy",
        "referrer-policy",
    ):
        assert len(answer.headers.get_list(name)) == 1, name
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"


@pytest.fixture
def few(settings):
    caches["counts"].clear()
    settings.API_REQUESTS_PER_MINUTE = 3
    yield 3
    caches["counts"].clear()


@pytest.mark.django_db
def test_a_caller_that_asks_too_often_is_told_when_to_come_back(owner, stranger, few, monkeypatch):
    monkeypatch.setattr("tenants.api.rates.time.time", lambda: 1_800_000_010.0)
    left = [owner.get(PROJECTS)["RateLimit"] for _ in range(few)]
    assert left == [f'"default";r={number};t=51' for number in (2, 1, 0)]
    answer = owner.get(PROJECTS)
    problem = assert_problem(answer, 429, "throttled")
    assert (answer["Retry-After"], problem["retry_after"]) == ("51", 51)
    assert answer["RateLimit-Policy"] == '"default";q=3;w=60'
    assert stranger.get(PROJECTS).status_code == 200
    monkeypatch.setattr("tenants.api.rates.time.time", lambda: 1_800_000_070.0)
    assert owner.get(PROJECTS).status_code == 200


@pytest.mark.django_db
def test_a_key_from_elsewhere_is_counted_by_address(tenant, few):
    with scope.tenant(tenant.id):
        narrowed = {"networks": ["10.1.0.0/16"]}
        _, text = key_mint(name="ci", key_scope=KeyScope.MANAGEMENT, role=Role.OWNER, narrowed=narrowed)
    client = with_header(f"Bearer {text}")
    for _ in range(few):
        assert_problem(client.get(PROJECTS), 403, "forbidden")
    assert_problem(client.get(PROJECTS), 429, "throttled")


@pytest.mark.django_db
def test_who_has_no_key_is_counted_by_address(anonymous, few):
    for _ in range(few):
        assert_problem(anonymous.get(PROJECTS), 401, "not-authenticated")
    assert_problem(anonymous.get(PROJECTS), 429, "throttled")


@pytest.mark.django_db
def test_no_limit_means_no_limit(owner, settings):
    settings.API_REQUESTS_PER_MINUTE = 0
    assert not owner.get(PROJECTS).has_header("RateLimit")


def test_processes_count_together_in_redis(settings):
    """Each thread has a connection of its own, as each process has."""
    settings.CACHES = settings.CACHES | {
        "counts": {
            "BACKEND": "portal.cache.ForgivingRedisCache", "LOCATION": settings.CELERY_BROKER_URL,
            "KEY_PREFIX": "test-of-rates",
        }
    }  # fmt: skip
    from tenants.api.rates import count_request

    settings.API_REQUESTS_PER_MINUTE = 1000
    seen: list[int] = []

    def count() -> None:
        seen.extend(count_request("principal:x").left for _ in range(10))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) >= 79  # the turn of a minute may begin anew once


def test_while_redis_is_away_nothing_is_limited_and_nothing_fails(settings):
    settings.CACHES = settings.CACHES | {
        "counts": {"BACKEND": "portal.cache.ForgivingRedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    }
    from tenants.api.rates import count_request, refuse_too_many

    refuse_too_many(count_request("principal:x"))
    assert caches["counts"].get("history", []) == []
    assert caches["counts"].add("lock", True) is True


@pytest.mark.django_db
def test_a_form_or_script_of_another_origin_is_refused_as_its_door_answers(client):
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    page = strict.post(reverse("account_login"), {"login": "a@example.org", "password": "x"})
    assert page.status_code == 403
    assert page["Content-Type"].startswith("text/html")
    assert strict.post(f"{API}/nothing").status_code == 404
