"""The FOCUS project's own validator on what the command writes for it.

It knows the rules of FOCUS 1.0; what 1.1 and 1.2 added is held by ``checker``. Version 1.0.0 looks for five columns by
names that no FOCUS has had since 0.5, and takes Parquet's decimals for no numbers: hence ``--for-validator``.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command

from tests.billing.statements import Draft, Kind, every_kind
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
ENVIRONMENT = Path(settings.BASE_DIR) / ".venv-focus"
VERSION = f"python{sysconfig.get_python_version()}"


@pytest.fixture
def tenant(db):
    return make_tenant("acme", time_zone="Europe/Berlin")


def verdict(data: Path, report: Path) -> dict[str, int]:
    """Run the validator; give how many checks it made, and how many failed, broke or were skipped."""
    validator = ENVIRONMENT / "bin" / "focus-validator"
    assert validator.exists(), f"{validator} is missing: `make {ENVIRONMENT.name}/.installed` installs it."
    subprocess.run(
        [
            validator, "--data-file", data, "--validate-version", "1.0", "--output-type", "unittest",
            "--output-destination", report,
        ],
        cwd=ENVIRONMENT / "lib" / VERSION / "site-packages",  # it looks for its currencies from here
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        timeout=120,
    )  # fmt: skip
    assert report.exists(), "the validator gave no report"
    told = ET.parse(report).getroot()
    return {name: int(told.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}


def exported(folder: Path, name: str) -> Path:
    data = folder / name
    call_command(
        "focus_export", "--tenant", "acme", "--month", "2026-05", "--out", str(data), "--for-validator"
    )
    return data


@pytest.mark.parametrize("name", ["may.csv", "may.parquet"])
def test_validator_accepts_every_kind_of_line(tenant, tmp_path, name):
    every_kind(tenant, default_project(tenant))
    found = verdict(exported(tmp_path, name), tmp_path / "report.xml")
    assert found.pop("tests") > 100
    assert found == {"failures": 0, "errors": 0, "skipped": 0}


def test_validator_accepts_a_statement_of_one_line(tenant, tmp_path):
    draft = Draft(tenant, default_project(tenant))
    draft.put(Kind.TOKENS, "2", "1", "2")
    draft.write()
    found = verdict(exported(tmp_path, "may.csv"), tmp_path / "report.xml")
    assert found["failures"] == found["errors"] == 0


def test_validator_is_not_asleep(tenant, tmp_path):
    every_kind(tenant, default_project(tenant))
    data = exported(tmp_path, "may.csv")
    data.write_text(data.read_text().replace("Usage-Based", "Sometimes"))
    assert verdict(data, tmp_path / "report.xml")["failures"] == 1
