"""docs/audit.md is right: its example hashes to what it says, and its script verifies a real export."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tenants.audit.canonical import FIELDS, JSON_FIELDS, canonical, entry_hash
from tests.api.conftest import client_of
from tests.factories import audit_entries, make_tenant
from tests.tenants.audit.test_api import text_of

PAGE = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()


def block(kind: str) -> str:
    return re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[1]


def run(path: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", block("python"), str(path)], capture_output=True, text=True, check=False
    )


def test_the_example_is_hashed_as_it_says():
    entry = json.loads(block("json"))
    texts = {name: json.dumps(entry[name]) for name in JSON_FIELDS if entry[name] is not None}
    fields = [texts.get(name, entry[name]) for name in FIELDS]
    assert canonical(fields).decode() == block("text").strip()
    assert entry_hash(fields) == entry["hash"]


@pytest.mark.django_db
def test_the_script_verifies_an_export_without_berth(tmp_path):
    tenant = make_tenant("acme", name='Größe "n"\t\\')
    audit_entries(tenant)
    lines = text_of(client_of(tenant).get("/api/v1/audit-entries:export")).splitlines(keepends=True)
    assert len(lines) > 3
    file = tmp_path / "audit.jsonl"
    file.write_text("".join(lines))
    assert run(file).stdout.startswith("whole, up to")
    file.write_text("".join(lines).replace("acme", "acne", 1))
    assert "changed:" in run(file).stderr
    file.write_text("".join(lines[:1] + lines[2:]))
    assert "something was taken out" in run(file).stderr
