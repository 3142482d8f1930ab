"""An estate, a tenant, and the commands that export and apply."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants.models import Tenant
from tests.estate import Estate, make_estate
from tests.factories import make_tenant

CHAT = """\
apiVersion: berth/v1
kind: Endpoint
metadata: {name: chat, tenant: acme, project: default}
spec:
  model: berth-docs-ngram
  slo_class: standard
  residency: zone:EU
  requests_per_second: 1
  input_tokens: 100
  output_tokens: 50
"""


@pytest.fixture
def estate(db) -> Estate:
    return make_estate()


@pytest.fixture
def acme(estate) -> Tenant:
    return make_tenant("acme", gpus=8)


@pytest.fixture
def apply(tmp_path, monkeypatch) -> Callable[..., str]:
    """Apply texts as files by the command, with its options, and give what it told."""

    monkeypatch.chdir(tmp_path)

    def applied(*texts: str, **options) -> str:
        files = []
        for number, text in enumerate(texts, start=1):
            Path(f"{number}.yaml").write_text(text)
            files.append(f"{number}.yaml")
        out = io.StringIO()
        call_command("apply", *files, stdout=out, **options)
        return out.getvalue()

    return applied


def export(**options) -> str:
    """Export by the command."""
    out = io.StringIO()
    call_command("export", stdout=out, **options)
    return out.getvalue()


def writes(work: Callable[[], object]) -> list[str]:
    """Give the statements by which ``work`` writes to the database."""
    with CaptureQueriesContext(connection) as seen:
        work()
    verbs = ("INSERT", "UPDATE", "DELETE")
    return [each["sql"] for each in seen.captured_queries if each["sql"].lstrip().upper().startswith(verbs)]
