"""What must not be in production: each setting is refused by name with its remedy, by every process that starts."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db import connection

from portal import checks
from tests import databases

ROOT = Path(__file__).resolve().parent.parent.parent
MAILER = "django.core.mail.backends"


@pytest.fixture
def production(settings):
    """Settings as they should be."""
    settings.PRODUCTION = True
    settings.DEBUG = False
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = secrets.token_urlsafe(48), []
    settings.KEY_PEPPERS, settings.SEALING_KEYS = {1: secrets.token_bytes(32)}, {1: secrets.token_bytes(32)}
    settings.ALLOWED_HOSTS = ["berth.example"]
    settings.PORTAL_PUBLIC_URL = "https://berth.example"
    settings.GATEWAY_PUBLIC_URL = "https://gateway.berth.example"
    settings.CONTROL_PLANE_URL = ""
    settings.SECURE_SSL_REDIRECT, settings.TLS_ENDS_BEFORE = True, False
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    settings.OUTSIDE_ALLOW_LOOPBACK = False
    settings.EMAIL_BACKEND = f"{MAILER}.smtp.EmailBackend"
    return settings


def test_right_settings_are_taken(production):
    assert checks.settings_complaints() == []


SHARED = secrets.token_bytes(32)
WRONG = [
    ({"DEBUG": True}, "DEBUG"),
    ({"SECRET_KEY": "only-for-tests-" + "xyzab" * 12}, "DJANGO_SECRET_KEY"),
    ({"SECRET_KEY": "django-insecure-" + "0123456789" * 5}, "DJANGO_SECRET_KEY"),
    ({"SECRET_KEY": "a1B2c3D4" * 5}, "DJANGO_SECRET_KEY"),
    ({"SECRET_KEY": "x" * 80}, "DJANGO_SECRET_KEY"),
    ({"SECRET_KEY_FALLBACKS": ["changeme" * 10]}, "DJANGO_SECRET_KEY"),
    ({"KEY_PEPPERS": {1: secrets.token_bytes(32), 2: b"\xab" * 32}}, "Key 2 of BERTH_KEY_PEPPERS"),
    ({"SEALING_KEYS": {1: secrets.token_bytes(16)}}, "Key 1 of BERTH_SEALING_KEYS"),
    ({"KEY_PEPPERS": {1: SHARED}, "SEALING_KEYS": {3: SHARED}}, "BERTH_SEALING_KEYS"),
    ({"PORTAL_PUBLIC_URL": "http://berth.example"}, "PORTAL_PUBLIC_URL"),
    ({"PORTAL_PUBLIC_URL": ""}, "PORTAL_PUBLIC_URL"),
    ({"GATEWAY_PUBLIC_URL": "http://gateway.berth.example"}, "GATEWAY_PUBLIC_URL"),
    ({"CONTROL_PLANE_URL": "http://10.0.0.7:8000"}, "BERTH_CONTROL_PLANE_URL"),
    ({"SECURE_SSL_REDIRECT": False}, "SECURE_SSL_REDIRECT"),
    ({"SESSION_COOKIE_SECURE": False}, "SESSION_COOKIE_SECURE"),
    ({"ALLOWED_HOSTS": ["berth.example", "*"]}, "ALLOWED_HOSTS"),
    ({"ALLOWED_HOSTS": []}, "ALLOWED_HOSTS"),
    ({"OUTSIDE_ALLOW_LOOPBACK": True}, "OUTSIDE_ALLOW_LOOPBACK"),
    ({"EMAIL_BACKEND": f"{MAILER}.console.EmailBackend"}, "EMAIL_BACKEND"),
    ({"EMAIL_BACKEND": f"{MAILER}.filebased.EmailBackend"}, "EMAIL_BACKEND"),
]


@pytest.mark.parametrize(
    ("change", "named"), WRONG, ids=[f"{named}-{n}" for n, (_, named) in enumerate(WRONG)]
)
def test_a_wrong_setting_is_named_with_its_remedy(production, change, named):
    for name, value in change.items():
        setattr(production, name, value)
    (found,) = checks.settings_complaints()
    assert named in found.msg
    assert found.hint
    assert found.id.startswith("berth.")
    for secret in (production.SECRET_KEY, *(key.hex() for key in production.SEALING_KEYS.values())):
        assert not secret or secret not in str(found)


def test_a_proxy_that_turns_plain_http_away_may_stand_in(production):
    production.SECURE_SSL_REDIRECT, production.TLS_ENDS_BEFORE = False, True
    assert checks.settings_complaints() == []


def test_outside_production_nothing_is_demanded(settings):
    settings.DEBUG = True
    assert not settings.PRODUCTION
    assert checks.settings_complaints() == checks.role_complaints() == []
    checks.refuse_to_start()


@pytest.mark.django_db
def test_the_applications_role_is_taken(production):
    assert checks.role_complaints() == []


def test_a_role_that_stands_above_row_level_security_is_refused(production, monkeypatch):
    class Cursor:
        def __init__(self, row):
            self.row = row

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def execute(self, *_):
            return None

        def fetchone(self):
            return self.row

    for row, word in (
        (("postgres", True, True, 0), "superuser"),
        (("ops", False, True, 0), "BYPASSRLS"),
        (("berth_owner", False, False, 57), "owns 57 tables"),
    ):
        monkeypatch.setattr(checks, "connection", SimpleNamespace(cursor=lambda row=row: Cursor(row)))
        (found,) = checks.role_complaints()
        assert word in found.msg


def start(*command: str, database_url: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "portal.settings.production",
        "BERTH_DATA_DIR": os.environ["BERTH_DATA_DIR"],
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(48),
        "BERTH_KEY_PEPPERS": f"1:{secrets.token_hex(32)}",
        "BERTH_SEALING_KEYS": f"1:{secrets.token_hex(32)}",
        "DATABASE_URL": database_url,
        "CELERY_BROKER_URL": os.environ["CELERY_BROKER_URL"],
        "ALLOWED_HOSTS": "berth.example",
        "PORTAL_PUBLIC_URL": "https://berth.example",
    }
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment | changes, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def test_a_web_process_starts_as_the_applications_role_alone(committed_db):
    right = start("-c", "import portal.asgi", database_url=committed_db)
    assert right.returncode == 0, right.stderr
    owner = databases.owner_url(connection.settings_dict["NAME"])
    wrong = start("-c", "import portal.asgi", database_url=owner, OUTSIDE_ALLOW_LOOPBACK="1")
    assert wrong.returncode == 1
    assert "DATABASE_URL owns" in wrong.stderr
    assert "OUTSIDE_ALLOW_LOOPBACK" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "celery", "-A", "portal", "worker", "--concurrency", "1"),
        ("-m", "celery", "-A", "portal", "beat", "--schedule", "{folder}/beat", "--pidfile="),
        ("manage.py", "watch_clusters"),
    ],
    ids=["worker", "beat", "watch"],
)
def test_no_process_starts_with_what_must_not_be(committed_db, command, tmp_path):
    command = [word.format(folder=tmp_path) for word in command]
    done = start(*command, database_url=committed_db, PORTAL_PUBLIC_URL="http://berth.example")
    assert done.returncode != 0
    assert "PORTAL_PUBLIC_URL is http://berth.example" in done.stderr + done.stdout
