"""The running server against its own description: schemathesis with all checks, by every kind of caller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tenants.models import PlatformRole, Role
from tests.api.contract import API
from tests.api.running import ROOT, Seed, serving, sow

SEED = "20261127"
PHASES = "examples,fuzzing"
#: Examples of each operation: more for those who may do most, few for those who are mostly refused.
CALLERS = {
    Role.OWNER.value: 2,
    "superuser": 2,
    **{role.value: 1 for role in Role if role != Role.OWNER},
    **{role.value: 1 for role in PlatformRole if role},
    "inference": 1,
    "anonymous": 1,
}
#: Parameters of paths that are no ids, and what they may name.
NAMES = {
    "name": ["berth-docs-ngram", "standard", "de-a"],
    "code": ["eu-de-1"],
    "slug": ["acme"],
    "use": ["gateway"],
    "slo_class": ["standard"],
    "number": [1],
}
#: How often a path leads to something that is there, not to nothing.
THERE = 0.8
#: A body may be right in form and yet name what is not there (422) or an old version (412); a person who belongs to no
#: tenant is asked for which one (400).
ACCEPTED = ["2xx", "3xx", "400", "401", "403", "404", "409", "412", "422", "429"]
REFUSED = ["400", "401", "403", "404", "405", "406", "409", "412", "413", "415", "422", "429"]
EXCLUDED = {
    # Events are refused one by one, within an answer of 200.
    "POST /api/v1/usage-events": "negative_data_rejection",
}


def configuration(seed: Seed, who: str) -> str:
    """Give schemathesis's settings as TOML."""
    proof = seed.credentials(who)
    lines = [
        f"hooks = {json.dumps(str(ROOT / 'tests/api/schemathesis_hooks.py'))}",
        "[checks.positive_data_acceptance]",
        f"expected-statuses = {json.dumps(ACCEPTED)}",
        "[checks.negative_data_rejection]",
        f"expected-statuses = {json.dumps(REFUSED)}",
        *(["[auth.openapi]"] if proof else []),
        *(
            f"{scheme} = {{ {name} = {json.dumps(text)} }}"
            for scheme, told in proof.items()
            for name, text in told.items()
        ),
        "[parameters]",
        *(_drawn(name, name) for name in NAMES),
    ]
    for name, values in {**NAMES, **seed.ids}.items():
        lines += [f"[dictionaries.{_plain(name)}]", f"values = {json.dumps(values)}"]
    for path in seed.ids:
        lines += ["[[operations]]", f"include-path-regex = '^{API}/{path}/\\{{id\\}}'"]
        lines += ["[operations.parameters]", _drawn("id", path)]
    for name, check in EXCLUDED.items():
        lines += ["[[operations]]", f"include-name = {json.dumps(name)}"]
        lines += [f"[operations.checks.{check}]", "enabled = false"]
    return "\n".join(lines)


def _drawn(parameter: str, dictionary: str) -> str:
    return f'"path.{parameter}" = {{ dictionary = "{_plain(dictionary)}", probability = {THERE} }}'


def _plain(name: str) -> str:
    return name.replace("/", "-")


@pytest.mark.xdist_group("schemathesis")
@pytest.mark.timeout(900)
def test_every_caller_is_answered_as_described(committed_db, tmp_path):
    seed = sow()
    found: dict[str, str] = {}
    with serving(committed_db, tmp_path, API_REQUESTS_PER_MINUTE="0") as url:
        (tmp_path / "openapi.json").write_bytes(httpx.get(f"{url}{API}/openapi.json", timeout=60).content)
        for who, examples in CALLERS.items():
            if complaints := complaints_of(who, seed, url, examples=examples, folder=tmp_path):
                found[who] = complaints
        assert httpx.get(f"{url}/healthz", timeout=30).is_success
    assert not found, "\n".join(f"===== {who}\n{text}" for who, text in found.items())
    assert "Traceback" not in (tmp_path / "web.log").read_text()


def complaints_of(who: str, seed: Seed, url: str, *, examples: int, folder: Path) -> str:
    """Let schemathesis ask as ``who`` and give what it says, empty where it finds nothing wrong."""
    (folder / f"{who}.toml").write_text(configuration(seed, who))
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", f"{who}.toml", "run", "openapi.json",
        "--url", url, "--phases", PHASES, "--max-examples", str(examples), "--seed", SEED,
        "--continue-on-failure", "--no-shrink", "--no-color", "--request-timeout", "60", "--warnings", "off",
        "--report", "json", "--report-json-path", f"{who}.json",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=600,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stdout[-20_000:] + done.stderr[-2_000:]
