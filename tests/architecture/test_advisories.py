"""No package that requirements.lock pins is named by an advisory. Needs the index's advisories: skipped without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = "https://pypi.org/pypi/django/json"
#: Advisories that do not concern Berth, and why.
ACCEPTED: dict[str, str] = {}


def advisories_are_reachable() -> bool:
    try:
        return "vulnerabilities" in httpx.get(SOURCE, timeout=5).json()
    except (httpx.HTTPError, ValueError):
        return False


@pytest.mark.timeout(600)
def test_no_advisory_names_what_is_pinned():
    if not advisories_are_reachable():
        pytest.skip(f"NO ADVISORIES: {SOURCE} does not answer; run make audit where it does")
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--strict",
        "--require-hashes",
        "--disable-pip",
        "--progress-spinner",
    ]
    command += ["off", "-r", "requirements.lock"]
    for advisory in ACCEPTED:
        command += ["--ignore-vuln", advisory]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
