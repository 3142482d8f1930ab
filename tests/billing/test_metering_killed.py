"""Processes that take and count usage are killed at any moment: nothing is lost and nothing counted twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from billing.metering.reconciliation import reconcile
from billing.models import SequenceGap, UsageDay, UsageHour, UsageMinute, UsageSegment
from gateway.contract import UsageBatch
from tenants import scope
from tests.billing.usage import NOW, NUMBERS, roll_up_until, segment
from tests.databases import ROOT
from tests.factories import make_tenant

IDENTITY = "gw/a1"
BATCHES, SIZE = 150, 10


def worker(url: str, *words: str) -> subprocess.Popen[str]:
    """Start a worker on a database and wait until it begins."""
    environment = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "portal.settings.test"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.billing.metering_worker", *words],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=30)


@pytest.mark.parametrize("seed", [1, 2])
def test_counts_and_sums_are_exact_whenever_ingest_and_rollups_are_killed(
    committed_db, tmp_path: Path, seed: int
):
    rng = random.Random(seed)
    tenant = make_tenant()
    sent = [
        segment(tenant, number, gateway=IDENTITY, output_tokens=rng.randint(0, 1_000))
        for number in range(1, BATCHES * SIZE + 1)
    ]
    lines = [
        msgspec.json.encode(UsageBatch(gateway=IDENTITY, segments=tuple(sent[start : start + SIZE])))
        for start in range(0, len(sent), SIZE)
    ]
    file = tmp_path / "batches"
    file.write_bytes(b"\n".join(lines))
    killed_at_work = 0
    for _ in range(3):
        # Both begin anew from the start, as a gateway does that got no receipt.
        counting = worker(committed_db, "roll-up")
        ingesting = worker(committed_db, "ingest", str(file))
        time.sleep(rng.uniform(0, 0.3))
        killed_at_work += ingesting.poll() is None
        for process in rng.sample([ingesting, counting], 2):
            kill(process)
    assert killed_at_work
    last = worker(committed_db, "ingest", str(file))
    assert last.wait(120) == 0
    last.communicate()
    requests = 3 * len(sent)
    roll_up_until(tenant, requests)

    expected = {name: sum(getattr(each, name) for each in sent) for name in NUMBERS}
    with scope.tenant(tenant.id):
        assert UsageSegment.objects.count() == len(sent)
        for model in (UsageMinute, UsageHour, UsageDay):
            assert sums(model) == expected
    with scope.platform("test"):
        assert not SequenceGap.objects.exists()
        found = reconcile(day=NOW.date(), now=NOW)
    (gateway,) = found.gateways
    assert gateway.stored == gateway.counted == found.rated
    assert gateway.stored.requests == requests
    assert not found.is_bad


def sums(model) -> dict[str, int]:
    rows = list(model.objects.all())
    return {name: sum(getattr(row, name) for row in rows) for name in NUMBERS}
