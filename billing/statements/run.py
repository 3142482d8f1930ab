"""Runs over all tenants: drafts while a month runs, its grace, and the close. Each chunk of tenants is one transaction.

A run that is killed leaves whole chunks behind it, never a part of one: run again, it finds what is final and goes on.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import logging
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from django.db import InterfaceError, OperationalError, connection

from billing.models import BillingAccount, LateChange, Statement
from billing.statements import closing
from billing.statements.accounts import accounts_of
from billing.statements.cases import Case, State, cases
from billing.statements.computing import Computed, compute
from billing.statements.document import Heading, document, sha256
from billing.statements.shared import Shares
from billing.statements.storage import Draft, write_drafts
from tenants import locks, processes, scope

log = logging.getLogger(__name__)

#: Tenants of one transaction: enough to make queries few, few enough to lose little when a run is killed.
CHUNK: Final = 250
#: A process of its own takes as long to start as some chunks take to compute: it is worth it for so many.
WORTH_A_PROCESS: Final = 4


@dataclasses.dataclass(kw_only=True)
class Run:
    """What a run did, in statements.

    ``waiting`` could not be closed yet, ``parked`` may not be; why ``failed`` could not be computed, the log says.
    """

    drafted: int = 0
    closed: int = 0
    parked: int = 0
    waiting: int = 0
    failed: int = 0

    def add(self, other: Run) -> None:
        self.drafted += other.drafted
        self.closed += other.closed
        self.parked += other.parked
        self.waiting += other.waiting
        self.failed += other.failed


def statement_run(
    *,
    month: dt.date,
    now: dt.datetime,
    close: bool = False,
    tenant_ids: Collection[uuid.UUID] | None = None,
    computed_before: dt.datetime | None = None,
    workers: int = 1,
) -> Run:
    """Compute the statements of the month that holds the day ``month``, of all tenants or of some.

    Those whose month is over go into grace. With ``close`` those whose grace is over are closed: numbered, sealed and
    posted. ``computed_before`` leaves alone what was computed since and cannot be closed. Up to ``workers``
    chunks are computed at once, in processes of their own where there are enough of them.

    Raises:
        ProcessLost: one of those was killed. What is closed stays closed; run again.
    """
    run = Run()
    if close:
        # A statement is closed by another transaction than the one that made its row: by the row the database holds
        # changes of GPU time and a close apart.
        missing = [case for case in _cases(month, now, tenant_ids) if case.kept is None and case.due(now)]
        run.add(_in_chunks(missing, now, close=False, workers=workers))
        run.drafted = run.failed = 0
    found = _cases(month, now, tenant_ids)
    wanted = [case for case in found if _wanted(case, now, close, computed_before)]
    run.add(_in_chunks(wanted, now, close=close, workers=workers))
    return run


def _cases(month: dt.date, now: dt.datetime, tenant_ids: Collection[uuid.UUID] | None) -> list[Case]:
    with scope.platform("find the statements of a month"):
        return cases(month=month, now=now, tenant_ids=tenant_ids)


def _wanted(case: Case, now: dt.datetime, close: bool, computed_before: dt.datetime | None) -> bool:
    kept = case.kept
    if kept is None or computed_before is None or kept.computed_at < computed_before:
        return True
    return (close and case.due(now)) or (case.over and kept.state == State.DRAFT)


def _in_chunks(found: Sequence[Case], now: dt.datetime, *, close: bool, workers: int) -> Run:
    with scope.platform("read which endpoints are shared"):
        shares = Shares(now)
    chunks = list(_chunks(found))
    run = Run()
    workers = min(workers, len(chunks) // WORTH_A_PROCESS)
    if workers < 2:
        for chunk in chunks:
            run.add(_isolated(chunk, shares, now, close=close))
        return run
    tasks = (_Task(chunk=chunk, shares=_shares_of(chunk, shares), now=now, close=close) for chunk in chunks)
    for done in processes.spread(_compute, tasks, workers=workers):
        run.add(done)
    return run


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Task:
    chunk: Sequence[Case]
    shares: Shares
    now: dt.datetime
    close: bool


def _compute(task: _Task) -> Run:
    return _isolated(task.chunk, task.shares, task.now, close=task.close)


def _shares_of(chunk: Sequence[Case], shares: Shares) -> Shares:
    first = chunk[0]
    with scope.platform("split the cost of shared endpoints"):
        _plan_plainly()
        return shares.only([case.tenant.id for case in chunk], first.currency, first.window)


def _isolated(chunk: Sequence[Case], shares: Shares, now: dt.datetime, *, close: bool) -> Run:
    """Compute a chunk; where that fails, each tenant by itself, so that one keeps nobody else's statement back."""
    try:
        return compute_chunk(chunk, shares, now=now, close=close)
    except (OperationalError, InterfaceError):
        raise  # of the database, not of the data
    except Exception:
        if len(chunk) == 1:
            tenant, month = chunk[0].tenant, chunk[0].window.month
            log.exception(
                "the statement of tenant %s of %s cannot be computed", tenant.slug, f"{month:%Y-%m}"
            )
            return Run(failed=1)
    run = Run()
    for case in chunk:
        run.add(_isolated([case], shares, now, close=close))
    return run


def _chunks(found: Sequence[Case]) -> Iterator[Sequence[Case]]:
    for _, alike in itertools.groupby(found, key=lambda case: (case.window, case.currency)):
        rest = list(alike)
        for first in range(0, len(rest), CHUNK):
            yield rest[first : first + CHUNK]


def compute_chunk(
    chunk: Sequence[Case], shares: Shares, *, now: dt.datetime, close: bool, look_back: bool = True
) -> Run:
    """Compute, store and, where it is time, close the statements of some tenants, in one transaction."""
    with scope.platform("compute statements of many tenants"):
        _plan_plainly()
        if close:
            # No page of usage is being counted while what is counted is read: the next one is late usage.
            locks.share(locks.Lock.USAGE_ROLLUPS)
        chunk = _locked(chunk)
        if not chunk:
            return Run()
        accounts = accounts_of([case.tenant.id for case in chunk])
        closable = [
            case
            for case in chunk
            if close and case.due(now) and case.first_open and case.kept and not _parked(accounts, case)
        ]
        if closable and not closing.caught_up(max(case.window.end for case in closable)):
            closable = []
        # Taken away before anything is read: what changes from here on is noted again.
        closing_ids = {case.tenant.id for case in closable}
        marks = _marks([case for case in chunk if case.tenant.id not in closing_ids])
        taken = closing.take_marks(closing_ids)
        computed = compute(chunk, shares, {**marks, **taken}, look_back=look_back)
        drafts = write_drafts([_draft(each) for each in computed], now)
        run = Run(drafted=len(drafts))
        ready = [draft for draft in drafts if draft.computed.case.tenant.id in closing_ids]
        closed, parked = closing.close(ready, accounts, taken, now=now)
        run.closed, run.parked = closed, parked
        run.drafted -= closed
        if close:
            run.parked += sum(_parked(accounts, case) for case in chunk)
            run.waiting = run.drafted - run.parked
        return run


def _plan_plainly() -> None:
    """Have no query compiled: of many tenants at once they look dear to the planner, and are over before that is."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL jit = off")


def _locked(chunk: Sequence[Case]) -> list[Case]:
    """Lock the rows that exist, and leave out what another transaction has closed or changed meanwhile."""
    kept = {case.kept.id: case for case in chunk if case.kept}
    rows = (
        Statement.objects.filter(id__in=list(kept))
        .order_by("tenant_id")  # as the database's notes of late changes lock them
        .select_for_update()
        .values_list("id", "state", "document_sha256", "currency")
    )
    changed = set()
    for statement_id, state, document_sha256, currency in rows:
        before = kept[statement_id].kept
        if before and (state, currency) != (before.state, before.currency):
            changed.add(statement_id)
        elif before and document_sha256 != before.document_sha256:
            kept[statement_id] = dataclasses.replace(
                kept[statement_id], kept=dataclasses.replace(before, document_sha256=document_sha256)
            )
    return [
        kept[case.kept.id] if case.kept else case
        for case in chunk
        if not (case.kept and case.kept.id in changed)
    ]


def _marks(found: Sequence[Case]) -> dict[uuid.UUID, list[tuple[dt.datetime, dt.datetime]]]:
    marks: defaultdict[uuid.UUID, list[tuple[dt.datetime, dt.datetime]]] = defaultdict(list)
    rows = LateChange.objects.filter(tenant__in=[case.tenant.id for case in found])
    for tenant_id, since, until in rows.order_by("since", "until").values_list("tenant_id", "since", "until"):
        marks[tenant_id].append((since, until))
    return marks


def _parked(accounts: dict[uuid.UUID, BillingAccount], case: Case) -> bool:
    account = accounts.get(case.tenant.id)
    return account is not None and account.state == BillingAccount.State.PARKED


def _draft(computed: Computed) -> Draft:
    case, composed = computed.case, computed.composed
    heading = Heading(
        tenant_id=case.tenant.id,
        tenant_name=case.tenant.name,
        month=case.window.month,
        time_zone=case.tenant.time_zone,
        period_start=case.window.start,
        period_end=case.window.end,
        currency=case.currency,
        charges=composed.charges,
        credits=composed.credits,
        total=composed.total,
    )
    settled = case.over and not (case.kept is not None and case.currency != case.tenant.currency
                                 and case.kept.state == State.DRAFT)  # fmt: skip
    return Draft(
        computed=computed,
        heading=heading,
        state=State.GRACE if settled else State.DRAFT,
        document_sha256=sha256(document(heading, composed.lines)),
        statement_id=case.kept.id if case.kept else None,
    )
