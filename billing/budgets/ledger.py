"""The ledger's rows: taking gateways' reports, and telling gateways what was granted, decided and recalled."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable
from decimal import Context, Decimal, DecimalException
from typing import NamedTuple
from zoneinfo import ZoneInfoNotFoundError

from django.db.models import F, Q, Sum

from billing.budgets import lending
from billing.budgets.alerts import tell
from billing.models import Budget, BudgetLease, BudgetWindow
from gateway import contract
from tenants import notices, scope
from tenants.errors import Invalid

CHANNEL = "berth_leases"
#: How far a gateway's clock may be ahead or behind where windows begin and end.
SKEW = dt.timedelta(minutes=10)
_EXACT = Context(prec=60)
_LEASE_COLUMNS = [
    "granted", "settled", "held", "sequence", "reported_at", "heard", "silent", "needed", "asked_at",
    "asked_sequence", "awaits", "round_at", "last_round", "news", "offered", "sure",
]  # fmt: skip
_WINDOW_COLUMNS = [
    "limit", "granted", "settled", "held", "excess", "recalls", "recalled_at", "questions", "alerted", "spent_at",
]  # fmt: skip


class Told(NamedTuple):
    """What a gateway is told. ``has_news``: it should be told now; ``is_waiting``: one of its questions is open."""

    grants: tuple[contract.Grant, ...]
    has_news: bool
    is_waiting: bool


def take(report: contract.LeaseReport, *, now: dt.datetime) -> tuple[contract.Grant, ...]:
    """Take a gateway's report: what it spent and gives back, what it asks. Gives what it is told of its lines.

    Lines of budgets that are gone, and of windows that cannot be, are left out of the answer.

    Raises:
        Invalid: a line is malformed.
    """
    lines = _readable(report.lines)
    with scope.platform(f"leases of gateway {report.gateway}"):
        if report.begins:
            lines = _with_forgotten(report, lines)
        windows = _locked(lines, now=now)
        leases = _leases(windows, lines, lessee=report.gateway, now=now)
        called: set[str] = set()
        answered = []
        for key, line in lines.items():
            if (window := windows.get(key)) is None:
                continue
            members = leases[window.id]
            lease = members[report.gateway]
            if not lending.hear(window, lease, line, sequence=report.sequence, now=now):
                continue
            if window.questions:
                called |= lending.decide(window, list(members.values()), now=now)
            wanted = Decimal(line.wanted) - Decimal(line.needed)
            if wanted > 0 and window.budget.active and window.end > now - SKEW:
                unit = contract.BudgetUnit(window.budget.unit)
                lending.top_up(window, lease, wanted, unit=unit, now=now)
            tell(window, now=now)
            answered.append((window, lease))
        grants = tuple(_grants(answered))
        for _, lease in answered:
            lending.told(lease)
        _save(windows.values(), [lease for members in leases.values() for lease in members.values()])
        for lessee in called - {report.gateway}:
            notices.announce(CHANNEL, lessee)
        return grants


def look(lessee: str, *, sequence: int, now: dt.datetime) -> Told:
    """Look whether a gateway, whose last report was ``sequence``, must be told of something."""
    with scope.platform(f"leases of gateway {lessee}"):
        mine = list(_open_leases(lessee).filter(sequence__lte=sequence))
        due = [
            lease.window_id
            for lease in mine
            if lease.news or (lease.round_at is not None and now - lease.round_at >= lending.PATIENCE)
        ]
        if due:
            # What is told is marked as told under the window's lock, so that nothing newer is marked with it.
            _judge(due, now=now)
            mine = list(_open_leases(lessee).filter(sequence__lte=sequence))
        heard = [lease for lease in mine if lease.news or lending.is_recalled(lease.window, lease)]
        grants = tuple(_grants([(lease.window, lease) for lease in heard]))
        if decided := [lease for lease in heard if lease.news]:
            for lease in decided:
                lending.told(lease)
            BudgetLease.objects.bulk_update(decided, ["news", "offered", "sure"])
        return Told(
            grants=grants,
            has_news=bool(heard),
            is_waiting=any(lease.asked_at is not None for lease in mine),
        )


def _open_leases(lessee: str):
    open_ = Q(granted__gt=F("settled")) | Q(news=True) | Q(asked_at__isnull=False)
    return BudgetLease.objects.filter(open_, lessee=lessee).select_related("window__budget")


def gateway_release(name: str, *, now: dt.datetime) -> int:
    """Write off what a gateway that is gone was granted and has not settled. Gives how many leases that were.

    ``name`` is a gateway's, or a gateway's with a slash and the instance of its data folder. If it does come back,
    what it spent meanwhile counts again.
    """
    whose = Q(lessee=name) if "/" in name else Q(lessee__startswith=f"{name}/")
    with scope.platform(f"write off the leases of gateway {name}"):
        found = BudgetLease.objects.filter(whose, granted__gt=F("settled"))
        windows = _lock(BudgetWindow.objects.filter(leases__in=found).values("id"))
        leases = list(BudgetLease.objects.filter(window__in=windows))
        released = 0
        called: set[str] = set()
        for window in windows:
            members = [lease for lease in leases if lease.window_id == window.id]
            for lease in members:
                if lease.lessee == name or ("/" not in name and lease.lessee.startswith(f"{name}/")):
                    released += lease.granted > lease.settled
                    lending.release(window, lease)
            if window.questions:
                called |= lending.decide(window, members, now=now)
        _save(windows, leases)
        for lessee in called:
            notices.announce(CHANNEL, lessee)
        return released


def _judge(window_ids: Iterable[uuid.UUID], *, now: dt.datetime) -> None:
    """Lock windows, and decide what waited for gateways that do not answer."""
    windows = _lock(window_ids)
    leases = list(BudgetLease.objects.filter(window__in=windows))
    called: set[str] = set()
    for window in windows:
        members = [lease for lease in leases if lease.window_id == window.id]
        called |= lending.decide(window, members, now=now)
    _save(windows, leases)
    for lessee in called:
        notices.announce(CHANNEL, lessee)


def _readable(lines: Iterable[contract.LeaseLine]) -> dict[tuple[uuid.UUID, dt.datetime], contract.LeaseLine]:
    found = {}
    try:
        for line in lines:
            for text in (line.granted, line.settled, line.held, line.wanted, line.needed):
                amount = Decimal(text)
                if not amount.is_finite() or amount < 0 or amount.adjusted() > 15:
                    raise ValueError(text)
            if line.window_start.tzinfo is None:
                raise ValueError(f"{line.window_start} has no time zone")
            found[uuid.UUID(line.budget_id), line.window_start] = line
    except (ValueError, DecimalException) as error:
        raise Invalid(f"A line of the report cannot be read: {error}") from error
    return dict(sorted(found.items()))


def _with_forgotten(report: contract.LeaseReport, lines: dict) -> dict:
    """Add lines for what an earlier process of the gateway left open: it is only settled."""
    left = BudgetLease.objects.filter(
        lessee=report.gateway, granted__gt=F("settled"), sequence__lt=report.sequence
    ).select_related("window")
    forgotten = {}
    for lease in left:
        key = (lease.window.budget_id, lease.window.start)
        if key not in lines:
            settled = _text(lease.settled)
            forgotten[key] = contract.LeaseLine(
                budget_id=str(key[0]), window_start=key[1], granted=settled, settled=settled, held="0"
            )
    return dict(sorted({**lines, **forgotten}.items()))


def _locked(lines: dict, *, now: dt.datetime) -> dict[tuple[uuid.UUID, dt.datetime], BudgetWindow]:
    """Give the windows of ``lines``, locked in the order that all take; those that are missing are made."""
    ids = {budget_id for budget_id, _ in lines}
    budgets = _budgets(ids)
    starts = {start for _, start in lines}
    known = set(
        BudgetWindow.objects.filter(budget__in=ids, start__in=starts).values_list("budget_id", "start")
    )
    missing = [
        window
        for budget_id, start in lines
        if (budget_id, start) not in known and (window := _new_window(budgets.get(budget_id), start, now))
    ]
    BudgetWindow.objects.bulk_create(missing, ignore_conflicts=True)
    windows = (
        BudgetWindow.objects.select_for_update(of=("self",))
        .filter(budget__in=ids, start__in=starts)
        .order_by("budget_id", "start")
    )
    windows = list(windows)
    if missing:
        # A limit that was changed while a window was made has not reached that window.
        budgets = _budgets(ids)
    found = {}
    for window in windows:
        if window.budget_id not in budgets:
            continue
        if missing and window.end > now and window.limit != budgets[window.budget_id].limit:
            lending.limit_to(window, budgets[window.budget_id].limit, now=now)
        if (key := (window.budget_id, window.start)) in lines:
            window.budget = budgets[window.budget_id]
            found[key] = window
    return found


def _budgets(ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Budget]:
    found = Budget.objects.filter(id__in=ids, basis=Budget.Basis.TOKENS).select_related("tenant")
    return {budget.id: budget for budget in found}


def _new_window(budget: Budget | None, start: dt.datetime, now: dt.datetime) -> BudgetWindow | None:
    if budget is None or start > now + SKEW:
        return None
    try:
        begin, end = contract.budget_window(
            contract.BudgetPeriod(budget.period), budget.tenant.time_zone, start
        )
    except (ZoneInfoNotFoundError, OverflowError):
        return None
    if begin != start:
        return None
    return BudgetWindow(tenant_id=budget.tenant_id, budget=budget, start=start, end=end, limit=budget.limit)


def _lock(window_ids) -> list[BudgetWindow]:
    return list(
        BudgetWindow.objects.select_for_update(of=("self",))
        .filter(id__in=window_ids)
        .select_related("budget")
        .order_by("budget_id", "start")
    )


def _leases(
    windows: dict, lines: dict, *, lessee: str, now: dt.datetime
) -> dict[uuid.UUID, dict[str, BudgetLease]]:
    """Give the lessee's leases by window, and everybody's where a question is open or comes up."""
    contested = [
        window.id
        for key, window in windows.items()
        if window.questions or (key in lines and Decimal(lines[key].needed) > 0)
    ]
    found: dict[uuid.UUID, dict[str, BudgetLease]] = defaultdict(dict)
    wanted = Q(lessee=lessee) | Q(window__in=contested)
    for lease in BudgetLease.objects.filter(
        wanted, window__in=[window.id for window in windows.values()]
    ).order_by("window_id", "lessee"):
        found[lease.window_id][lease.lessee] = lease
    made = [
        BudgetLease(tenant_id=window.tenant_id, window=window, lessee=lessee, reported_at=now)
        for window in windows.values()
        if lessee not in found[window.id]
    ]
    for lease in BudgetLease.objects.bulk_create(made):
        found[lease.window_id][lessee] = lease
    return found


def _save(windows: Iterable[BudgetWindow], leases: Iterable[BudgetLease]) -> None:
    if windows := list(windows):
        BudgetWindow.objects.bulk_update(windows, _WINDOW_COLUMNS)
    if leases := list(leases):
        BudgetLease.objects.bulk_update(leases, _LEASE_COLUMNS)


def _grants(answered: list[tuple[BudgetWindow, BudgetLease]]) -> Iterable[contract.Grant]:
    decided = [window.id for window, lease in answered if lease.sure]
    silent = {
        row["window"]: row["granted"] - row["settled"] - row["held"]
        for row in BudgetLease.objects.filter(window__in=decided, silent=True)
        .order_by()
        .values("window")
        .annotate(granted=Sum("granted"), settled=Sum("settled"), held=Sum("held"))
    } if decided else {}  # fmt: skip
    for window, lease in answered:
        yield contract.Grant(
            budget_id=str(window.budget_id),
            window_start=window.start,
            granted=_text(lease.granted),
            left=_text(max(Decimal(0), window.limit - window.granted)),
            settled=_text(window.settled),
            held=_text(window.held),
            silent=_text(silent.get(window.id, Decimal(0))),
            recall=window.recalls if lending.is_recalled(window, lease) else 0,
            sure=lease.sure,
        )


def _text(amount: Decimal) -> str:
    return f"{Decimal(amount).normalize(_EXACT):f}"
