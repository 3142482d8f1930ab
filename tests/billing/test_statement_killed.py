"""kill -9 of a closing run at random points: run again, every number, posting and credit is there once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from decimal import Decimal

from billing.ledger import credit_posted, ledger_check
from billing.models import Credit, LedgerTransaction, Statement, StatementLine
from billing.statements import statement_run
from billing.statements.replay import statement_replay
from tenants import scope
from tests.billing.prices import hold, label, price, utc
from tests.databases import ROOT
from tests.factories import default_project, make_tenant

TENANTS = 24
KILLS = 6
MONTH, NOW = utc("2026-05-01").date(), utc("2026-06-05")


def closing(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.billing.killed_run", MONTH.isoformat(), NOW.isoformat()],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "portal.settings.test"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def until_closed(count: int, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        with scope.platform("test"):
            if Statement.objects.filter(state="final").count() >= count:
                return
        time.sleep(0.005)


def test_a_run_that_is_killed_closes_everything_once_when_it_is_run_again(committed_db):
    price("gpu_hour", "1.00")
    tenants = [make_tenant() for _ in range(TENANTS)]
    for tenant in tenants:
        project = default_project(tenant)
        hold(project, label(project, "chat"), "2026-05-10T00:00", "2026-05-10T10:00")
        with scope.tenant(tenant.id):
            credit = Credit.objects.create(
                amount=4, currency="EUR", reason="sorry", available_from=utc("2026-05-01")
            )
            credit_posted(credit=credit)
    chance = random.Random(7)
    numbers: list[str] = []
    for kill in range(KILLS):
        process = closing(committed_db)
        with process:
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("go\n")
            process.stdin.flush()
            if kill % 2:  # as soon as it has closed some more
                until_closed(len(numbers) + 1, process)
            time.sleep(chance.uniform(0.0, 0.2))
            process.kill()
        with scope.platform("test"):
            finals = Statement.objects.filter(state="final").order_by("number")
            numbers = list(finals.values_list("number", flat=True))
            assert numbers == [f"2026-05-{number:06d}" for number in range(1, len(numbers) + 1)]
            assert ledger_check() == []
    statement_run(month=MONTH, now=NOW, close=True)
    with scope.platform("test"):
        finals = list(Statement.objects.filter(state="final").order_by("number"))
        assert [statement.number for statement in finals] == [
            f"2026-05-{number:06d}" for number in range(1, TENANTS + 1)
        ]
        assert {statement.total for statement in finals} == {Decimal(6)}
        assert LedgerTransaction.objects.filter(reference__startswith="statement:").count() == TENANTS
        credits = StatementLine.objects.filter(kind="credit", charged=True)
        assert [line.amount for line in credits] == [Decimal(-4)] * TENANTS
        assert ledger_check() == []
        assert all(statement_replay(statement).problems == () for statement in finals)
