"""What must not drift apart: models and migrations, settings and their deployment checks."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.django_db
def test_every_change_of_a_model_has_its_migration():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_settings_name_nothing_of_the_gateway_but_its_contract():
    """What is named by a text is imported all the same, and no linter sees it."""
    texts = re.findall(r'"(gateway\.[\w.]+)"', (ROOT / "portal/settings/base.py").read_text())
    assert texts
    assert [text for text in texts if not text.startswith("gateway.contract.")] == []


def test_production_settings_pass_the_deployment_checks():
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "portal.settings.production",
        "DJANGO_SECRET_KEY": "k" * 30 + "0123456789abcdefghijklmnopqrstuvwxyz",
        "DATABASE_URL": "postgresql://berth_app:x@127.0.0.1:5432/berth",
        "BERTH_KEY_PEPPERS": f"1:{secrets.token_hex(32)}",
        "BERTH_SEALING_KEYS": f"1:{secrets.token_hex(32)}",
        "ALLOWED_HOSTS": "berth.example",
        "PORTAL_PUBLIC_URL": "https://berth.example",
    }
    checked = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("missing", ["DJANGO_SECRET_KEY", "BERTH_KEY_PEPPERS", "BERTH_SEALING_KEYS"])
def test_production_names_the_variable_that_is_missing(missing):
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "portal.settings.production",
        "DJANGO_SECRET_KEY": "x" * 60,
        "BERTH_KEY_PEPPERS": "1:" + "ab" * 32,
        "BERTH_SEALING_KEYS": "1:" + "cd" * 32,
        "DATABASE_URL": "postgresql://berth_app:x@127.0.0.1:5432/berth",
    }
    del environment[missing]
    checked = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert checked.returncode != 0
    assert missing in checked.stderr
