"""kill -9 of a closing run at random points: run again, every number, posting and credit is there once."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal

import psutil
from django.db import connection

from billing.ledger import credit_posted, ledger_check
from billing.models import Credit, LedgerTransaction, Statement, StatementLine
from billing.statements import statement_run
from billing.statements.replay import statement_replay
from tenants import locks, scope
from tests.billing.prices import hold, label, price, utc
from tests.databases import ROOT
from tests.factories import default_project, make_tenant

TENANTS = 24
KILLS = 6
MONTH, NOW = utc("2026-05-01").date(), utc("2026-06-05")


def closing(url: str, stderr: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.billing.killed_run", MONTH.isoformat(), NOW.isoformat()],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "portal.settings.test"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def charged_tenants() -> None:
    """Make tenants that owe 10.00 for May, less a credit of 4.00."""
    price("gpu_hour", "1.00")
    for tenant in [make_tenant() for _ in range(TENANTS)]:
        project = default_project(tenant)
        hold(project, label(project, "chat"), "2026-05-10T00:00", "2026-05-10T10:00")
        with scope.tenant(tenant.id):
            credit = Credit.objects.create(
                amount=4, currency="EUR", reason="sorry", available_from=utc("2026-05-01")
            )
            credit_posted(credit=credit)


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


def until_closed(count: int, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        with scope.platform("test"):
            if Statement.objects.filter(state="final").count() >= count:
                return
        time.sleep(0.005)


def test_a_run_that_is_killed_closes_everything_once_when_it_is_run_again(committed_db):
    charged_tenants()
    chance = random.Random(7)
    numbers: list[str] = []
    for kill in range(KILLS):
        process = closing(committed_db)
        with process:
            begin(process)
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


@contextlib.contextmanager
def caught_closing(process: subprocess.Popen[str]) -> Iterator[list[psutil.Process]]:
    """Let a run come to where it closes its first chunks, and give the processes that wait there."""
    with locks.held(locks.Lock.USAGE_ROLLUPS, wait=True), connection.cursor() as cursor:
        begin(process)
        waiting = 0
        while waiting < 2 and process.poll() is None:
            time.sleep(0.02)
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            waiting = cursor.fetchone()[0]
        children = psutil.Process(process.pid).children()
        yield [child for child in children if "--multiprocessing-fork" in child.cmdline()]


def test_a_run_that_loses_a_process_says_so_and_can_be_run_again(committed_db):
    charged_tenants()
    with closing(committed_db, stderr=subprocess.PIPE) as process:
        with caught_closing(process) as computing:
            computing[0].kill()
            psutil.wait_procs(computing[:1], timeout=30)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "ProcessLost: a process was killed" in told
    assert statement_run(month=MONTH, now=NOW, close=True).closed >= 1
    with scope.platform("test"):
        numbers = Statement.objects.filter(state="final").order_by("number").values_list("number", flat=True)
        assert list(numbers) == [f"2026-05-{number:06d}" for number in range(1, TENANTS + 1)]
        assert ledger_check() == []


def test_the_processes_of_a_run_end_with_it(committed_db):
    charged_tenants()
    with closing(committed_db) as process, caught_closing(process) as computing:
        process.kill()
        assert len(computing) == 2
        assert psutil.wait_procs(computing, timeout=30)[1] == []
