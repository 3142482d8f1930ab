"""What the control plane itself counts in budgets: GPU time by endpoint, and requests that no gateway holds.

It is a lessee of the same windows as the gateways: what it granted itself is what it settled and what it reserved, so
that one check constraint bounds both. Everything is computed anew from allocations, claims and rollups each time, so
that a pass that was missed, or ran twice, changes nothing.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Final

from django.db.models import Q

from billing.budgets import lending
from billing.budgets.alerts import tell
from billing.budgets.counting import Gpus, GpuTime, counts, used_amounts
from billing.models import Budget, BudgetLease, BudgetWindow, GpuClaim
from billing.quantities import Held
from gateway import contract
from tenants import scope
from tenants.locks import Lock, held
from tenants.models import Tenant

log = logging.getLogger(__name__)

#: A window is settled for so long after its end: GPUs are seen to be released, and usage arrives, a little late.
SETTLED_AFTER: Final = dt.timedelta(days=7)
#: Windows are kept for so long after their end.
KEPT: Final = dt.timedelta(days=400)
_OURS: Final = "@berth/"  # no gateway has such a name
USAGE_LESSEE: Final = f"{_OURS}usage"
_ZERO: Final = Decimal(0)
_WINDOW_COLUMNS: Final = [
    "limit", "granted", "settled", "held", "excess", "recalls", "recalled_at", "alerted", "spent_at",
]  # fmt: skip


def lessee_of(endpoint_id: uuid.UUID) -> str:
    """Give the name under which an endpoint's GPU time stands in a window."""
    return f"{_OURS}{endpoint_id}"


def is_own(lessee: str) -> bool:
    """Say whether a lessee is the control plane, and no gateway."""
    return lessee.startswith(_OURS)


def endpoint_of(lessee: str) -> uuid.UUID | None:
    """Give the endpoint whose GPU time stands under a lessee's name; None where it is another's."""
    return uuid.UUID(lessee.removeprefix(_OURS)) if is_own(lessee) and lessee != USAGE_LESSEE else None


def budgets_settle_all(*, now: dt.datetime) -> int:
    """Settle what the control plane counts, of all tenants, and forget windows that are long over.

    Each tenant is a transaction of its own. Gives how many windows were settled; it ends early where somebody else is
    at it.
    """
    with scope.platform("find the budgets that the control plane counts"):
        BudgetWindow.objects.filter(end__lt=now - KEPT).delete()
        tenants = list(counted_here().order_by("tenant_id").values_list("tenant_id", flat=True).distinct())
    settled = 0
    for tenant_id in tenants:
        try:
            with scope.tenant(tenant_id), held(Lock.BUDGETS) as mine:
                if not mine:
                    break
                settled += len(budgets_settle(counted_here(), now=now))
        except Exception:
            log.exception("the budgets of tenant %s cannot be settled", tenant_id)
    return settled


def counted_here():
    """Give the budgets of the open scope that the control plane counts, and no gateway."""
    return Budget.objects.filter(
        Q(basis=Budget.Basis.GPU_TIME) | Q(policy=Budget.Policy.WARN), active=True
    ).order_by("id")


def budgets_settle(budgets: Iterable[Budget], *, now: dt.datetime) -> list[BudgetWindow]:
    """Settle and reserve for ``budgets`` of the open tenant; gives their windows that run, locked and saved."""
    budgets = list(budgets)
    if not budgets:
        return []
    tenant = Tenant.objects.get(id=scope.current_tenant_id())
    windows = _locked(budgets, tenant, now)
    leases: dict[uuid.UUID, dict[str, BudgetLease]] = defaultdict(dict)
    for lease in BudgetLease.objects.filter(window__in=windows):
        leases[lease.window_id][lease.lessee] = lease
    changed: list[BudgetLease] = []
    of_gpus = [window for window in windows if window.budget.basis == Budget.Basis.GPU_TIME]
    if of_gpus:
        time = GpuTime(tenant_id=tenant.id, currency=tenant.currency)
        spent = time.settled(((window.start, window.end) for window in of_gpus), now=now)
        claims = [Gpus.of(claim) for claim in GpuClaim.objects.order_by("endpoint_id")]
        for window in of_gpus:
            changed += _count_gpus(window, leases[window.id], time, spent, claims, now)
    for window in windows:
        if window.budget.basis == Budget.Basis.TOKENS:
            changed += _count_usage(window, leases[window.id], tenant, now)
    running = [window for window in windows if window.start <= now < window.end]
    for window in running:
        tell(window, now=now)
    BudgetWindow.objects.bulk_update(windows, _WINDOW_COLUMNS)
    _save(changed)
    return running


def _count_gpus(
    window: BudgetWindow,
    leases: dict[str, BudgetLease],
    time: GpuTime,
    spent: Sequence[Held],
    claims: Sequence[Gpus],
    now: dt.datetime,
) -> list[BudgetLease]:
    budget = window.budget
    settled: dict[uuid.UUID, list[Held]] = defaultdict(list)
    for piece in spent:
        if window.start <= piece.start < window.end and counts(budget, piece.project_id):
            settled[piece.endpoint_id].append(piece)
    reserved: dict[uuid.UUID, list[Held]] = {}
    if window.start <= now < window.end:
        for claim in claims:
            if counts(budget, claim.project_id):
                reserved[claim.endpoint_id] = time.ahead(claim, now, window.end)
    wanted = {
        lessee_of(endpoint_id): (
            time.amount(budget, settled.get(endpoint_id, ())),
            time.amount(budget, reserved.get(endpoint_id, ())),
        )
        for endpoint_id in settled.keys() | reserved.keys()
    }
    ours = set(filter(is_own, leases))
    gone = dict.fromkeys(ours - wanted.keys(), (_ZERO, _ZERO))
    return _keep(window, leases, wanted | gone, now)


def _count_usage(
    window: BudgetWindow, leases: dict[str, BudgetLease], tenant: Tenant, now: dt.datetime
) -> list[BudgetLease]:
    (total,) = used_amounts(window.budget, tenant.currency, [window.start, min(now, window.end)])
    by_gateways = sum((lease.settled for name, lease in leases.items() if name != USAGE_LESSEE), _ZERO)
    return _keep(window, leases, {USAGE_LESSEE: (max(_ZERO, total - by_gateways), _ZERO)}, now)


def _keep(
    window: BudgetWindow,
    leases: dict[str, BudgetLease],
    wanted: dict[str, tuple[Decimal, Decimal]],
    now: dt.datetime,
) -> list[BudgetLease]:
    changed = []
    for lessee, (settled, reserved) in sorted(wanted.items()):
        lease = leases.get(lessee)
        if lease is None:
            if not settled and not reserved:
                continue
            lease = leases[lessee] = BudgetLease(tenant_id=window.tenant_id, window=window, lessee=lessee)
        elif (lease.settled, lease.held) == (settled, reserved):
            continue
        lending.keep(window, lease, settled=settled, held=reserved)
        lease.reported_at = now
        changed.append(lease)
    return changed


def _locked(budgets: list[Budget], tenant: Tenant, now: dt.datetime) -> list[BudgetWindow]:
    """Give the windows to settle, in the order in which all lock them; those that are missing are made."""
    by_id = {budget.id: budget for budget in budgets}
    BudgetWindow.objects.bulk_create(
        [
            BudgetWindow(tenant_id=tenant.id, budget=budget, start=start, end=end, limit=budget.limit)
            for budget in budgets
            for start, end in _spans(budget, tenant, now)
        ],
        ignore_conflicts=True,
    )
    windows = list(
        BudgetWindow.objects.select_for_update(of=("self",))
        .filter(budget__in=by_id, end__gt=now - SETTLED_AFTER, start__lte=now)
        .order_by("budget_id", "start")
    )
    # Read under the locks: a limit that was changed while a window was made has not reached that window.
    by_id = Budget.objects.in_bulk(by_id)
    found = []
    for window in windows:
        if (budget := by_id.get(window.budget_id)) is None:
            continue
        window.budget = budget
        if window.end > now and window.limit != budget.limit:
            lending.limit_to(window, budget.limit, now=now)
        found.append(window)
    return found


def _spans(budget: Budget, tenant: Tenant, now: dt.datetime) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """Give the window that runs, and those before it that nobody may have made while nothing ran."""
    period = contract.BudgetPeriod(budget.period)
    start, end = contract.budget_window(period, tenant.time_zone, now)
    yield start, end
    earliest = max(budget.created_at, now - SETTLED_AFTER)
    while start > earliest:
        start, end = contract.budget_window(period, tenant.time_zone, start - dt.timedelta.resolution)
        yield start, end


def _save(leases: list[BudgetLease]) -> None:
    made = [lease for lease in leases if lease._state.adding]
    kept = [lease for lease in leases if not lease._state.adding]
    BudgetLease.objects.bulk_create(made)
    if kept:
        BudgetLease.objects.bulk_update(kept, ["granted", "settled", "held", "reported_at"])
