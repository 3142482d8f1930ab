"""What of signing in is in the audit, and what production's cookies look like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from tenants import scope
from tenants.models import Membership, Role
from tests.factories import audit_entries, make_tenant, make_user

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a long enough secret"
PRODUCTION = {
    "DJANGO_SETTINGS_MODULE": "portal.settings.production",
    "DJANGO_SECRET_KEY": "k" * 30 + "0123456789abcdefghijklmnopqrstuvwxyz",
    "DATABASE_URL": "postgresql://berth_app:x@127.0.0.1:5432/berth",
    "BERTH_KEY_PEPPERS": "1:" + "ab" * 32,
    "BERTH_SEALING_KEYS": "1:" + "cd" * 32,
    "ALLOWED_HOSTS": "berth.example",
}
COOKIES = [
    f"{kind}_COOKIE_{part}" for kind in ("SESSION", "CSRF")
    for part in ("NAME", "SECURE", "HTTPONLY", "SAMESITE", "PATH", "DOMAIN")
]  # fmt: skip


@pytest.mark.django_db
def test_signing_in_failing_to_and_signing_out_are_told_to_the_tenant():
    tenant, ada = make_tenant("acme"), make_user("ada@acme.example")
    ada.set_password(PASSWORD)
    ada.save()
    with scope.tenant(tenant.id):
        Membership.objects.create(user=ada, role=Role.DEVELOPER)
    browser = Client(REMOTE_ADDR="198.51.100.7")
    for password in ("wrong", PASSWORD):
        browser.post(reverse("account_login"), {"login": ada.email, "password": password})
    browser.post(reverse("account_logout"))
    told = [entry for entry in audit_entries(tenant) if entry.action.startswith("sign-")]
    assert [entry.action for entry in told] == ["sign-in.failed", "sign-in", "sign-out"]
    assert {entry.address for entry in told} == {"198.51.100.7"}
    assert PASSWORD not in json.dumps([entry.facts for entry in told])


@pytest.mark.django_db
def test_cookies_of_production_are_bound_to_its_host_and_closed_to_scripts(settings):
    script = (
        "import json; from django.conf import settings;"
        f"print(json.dumps({{name: getattr(settings, name) for name in {COOKIES}}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={"PATH": os.environ["PATH"], **PRODUCTION},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    for name, value in json.loads(done.stdout).items():
        setattr(settings, name, value)
    ada = make_user("ada@acme.example")
    ada.set_password(PASSWORD)
    ada.save()
    browser = Client()
    browser.get(reverse("account_login"), secure=True)
    answer = browser.post(reverse("account_login"), {"login": ada.email, "password": PASSWORD}, secure=True)
    made = answer.cookies
    assert set(made) >= {"__Host-berth-session", "__Host-berth-csrf"}
    for cookie in made.values():
        assert cookie.key.startswith("__Host-") or not cookie.value
    for name in ("__Host-berth-session", "__Host-berth-csrf"):
        assert made[name]["secure"]
        assert made[name]["httponly"]
        assert made[name]["samesite"] == "Lax"
        assert made[name]["path"] == "/"
        assert not made[name]["domain"]
