"""No package that is pinned is named by an advisory. Needs an index that tells advisories: else skipped, loudly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
#: Advisories that do not concern Berth, and why.
ACCEPTED: dict[str, str] = {}


@pytest.mark.timeout(600)
def test_no_advisory_names_what_is_pinned():
    command = [
        sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner", "off",
        "--format", "json", "-r", "requirements.lock",
    ]  # fmt: skip
    for advisory in ACCEPTED:
        command += ["--ignore-vuln", advisory]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        pytest.skip(f"NO ADVISORIES: the package index does not answer: {done.stderr[-300:]}")
    known = [package for package in packages if "skip_reason" not in package]
    if len(known) < len(packages) / 2:
        pytest.skip(f"NO ADVISORIES: the index tells them of {len(known)} of {len(packages)} packages only")
    assert [(each["name"], each["version"], each["vulns"]) for each in known if each["vulns"]] == []
