"""The portal as a process over a database of its own, with people of every role and one row of most kinds."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from rest_framework.test import APIClient

from billing.models import Price
from clusters.models import AdviceRun
from tenants import scope
from tenants.keys import key_mint
from tenants.members import member_add
from tenants.models import KeyScope, PlatformRole, Project, Role, Tenant, User
from tenants.webhooks.events import EVENT_TYPES
from tests.api.contract import API
from tests.billing.statements import every_kind
from tests.estate import MODEL, Estate, make_estate
from tests.factories import make_tenant, make_user, management_key

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 120.0


def session_of(user: User) -> str:
    """Sign a person in and give the session's key."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "allauth.account.auth_backends.AuthenticationBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return session.session_key


@contextlib.contextmanager
def serving(database_url: str, folder: Path, **environment: str) -> Iterator[str]:
    """Run the portal as its Procfile does and give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "uvicorn", "portal.asgi:application", "--host", "127.0.0.1", "--port", str(port),
        "--log-level", "warning", "--no-access-log", "--lifespan", "off", "--no-server-header",
    ]  # fmt: skip
    surroundings = os.environ | {
        "DJANGO_SETTINGS_MODULE": "portal.settings.test",
        "DATABASE_URL": database_url,
    }
    log = folder / "web.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=ROOT, env=surroundings | environment, stdout=sink, stderr=sink
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/healthz", timeout=5).is_success
    return False


@dataclasses.dataclass
class Seed:
    """What the database holds. ``ids`` maps the first part of a path to ids that stand after it."""

    tenant: Tenant
    estate: Estate
    people: dict[str, User]
    ids: dict[str, list[str]]

    def credentials(self, who: str) -> dict[str, dict[str, str]]:
        """Give what a caller proves itself by: the session of a person of the platform, or a key of the tenant."""
        if who == "anonymous":
            return {}
        if who in self.people:
            session = {"api_key": session_of(self.people[who])}
            return {"operatorSession": session, "portalSession": session}
        if who == "inference":
            with scope.tenant(self.tenant.id):
                project = Project.objects.get(slug="default")
                text = key_mint(name="calls models", key_scope=KeyScope.INFERENCE, project=project)[1]
        else:
            text = management_key(self.tenant, who)
        return {"managementKey": {"bearer": text}}


def sow() -> Seed:
    """Make a tenant with something of everything, and an operator, an accountant and an auditor of the platform."""
    estate = make_estate()
    tenant = make_tenant("acme", gpus=8)
    people = {
        role.value: make_user(f"{role.value}@berth.example", platform_role=role)
        for role in PlatformRole
        if role
    }
    people["superuser"] = make_user("root@berth.example", is_superuser=True)
    with scope.tenant(tenant.id):
        statement = every_kind(tenant, Project.objects.get(slug="default"))
        commitment = statement.lines.exclude(commitment_id=None).first().commitment_id
        member = member_add(email="ada@example.org", role=Role.VIEWER, granter_role=Role.OWNER)
    with scope.platform("sow for a test"):
        run = AdviceRun.objects.create()
        listed = Price.objects.filter(book=None).first()
    owner, superuser = APIClient(), APIClient()
    owner.credentials(HTTP_AUTHORIZATION=f"Bearer {management_key(tenant)}")
    superuser.force_login(people["superuser"])

    def made(client: APIClient, path: str, body: dict) -> str:
        answer = client.post(f"{API}/{path}", body)
        assert answer.status_code == 201, (path, answer.content)
        return answer.json()["id"]

    order = {"project": "default", "model": MODEL, "slo_class": "standard", "residency": "zone:EU"}
    endpoints = [made(owner, "endpoints", order | {"name": name}) for name in ("chat", "search")]
    rule = {"targets": [{"endpoint_id": endpoints[0], "weight": 1}]}
    key = {"scope": "inference", "project": "default"}
    budget = {"name": "All", "unit": "money", "limit": "1000", "period": "month"}
    hook = {"name": "ours", "url": "https://127.0.0.1:9/berth", "event_types": list(EVENT_TYPES)[:1]}
    price = {"kind": "gpu_hour", "amount": "3", "currency": tenant.currency, "gpu_type": "l4"}
    budget_id = made(owner, "budgets", budget)
    book = made(superuser, "price-books", {"name": "Trial"})
    ids = {
        "endpoints": endpoints,
        "projects": [made(owner, "projects", {"slug": "search", "name": "Search"})],
        "routes": [made(owner, "routes", {"name": "smart", "project": "default", "rules": [rule]})],
        "keys": [made(owner, "keys", key | {"name": f"app {number}"}) for number in range(3)],
        "members": [str(member.id)],
        "invitations": [made(owner, "invitations", {"email": "bea@example.org", "role": "viewer"})],
        "budgets": [budget_id],
        "tenant-budgets": [budget_id],
        "webhooks": [made(owner, "webhooks", hook)],
        "statements": [str(statement.id)],
        "tenant-statements": [str(statement.id)],
        "commitments": [str(commitment)],
        "credits": [made(superuser, "tenants/acme/credits", {"amount": "10", "reason": "Goodwill"})],
        "price-books": [book],
        "price-books/prices": [made(superuser, f"price-books/{book}/prices", price)],
        "list-prices": [str(listed.id)],
        "prices": [str(listed.id)],
        "advice-runs": [str(run.id)],
    }
    return Seed(tenant=tenant, estate=estate, people=people, ids=ids)
