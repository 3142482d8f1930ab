"""A ledger of budgets in memory: the lending of the real one, without its rows."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal

from billing.budgets import lending
from gateway.contract import Budget, Grant, LeaseReport, budget_window


@dataclasses.dataclass
class FakeLease:
    """One gateway's lease of a window."""

    lessee: str
    reported_at: dt.datetime
    granted: Decimal = Decimal(0)
    settled: Decimal = Decimal(0)
    held: Decimal = Decimal(0)
    sequence: int = 0
    heard: int = 0
    silent: bool = False
    needed: Decimal = Decimal(0)
    asked_at: dt.datetime | None = None
    asked_sequence: int = 0
    awaits: int = 0
    round_at: dt.datetime | None = None
    last_round: bool = False
    news: bool = False
    offered: Decimal = Decimal(0)
    sure: int = 0


@dataclasses.dataclass
class FakeWindow:
    """One window of a budget."""

    budget: Budget
    start: dt.datetime
    limit: Decimal
    granted: Decimal = Decimal(0)
    settled: Decimal = Decimal(0)
    held: Decimal = Decimal(0)
    excess: Decimal = Decimal(0)
    recalls: int = 0
    recalled_at: dt.datetime | None = None
    questions: int = 0
    leases: dict[str, FakeLease] = dataclasses.field(default_factory=dict)


class FakeLedger:
    """Takes reports and gives grants. ``called`` names gateways that have to be told of something."""

    def __init__(self) -> None:
        self.budgets: dict[str, Budget] = {}
        self.windows: dict[tuple[str, dt.datetime], FakeWindow] = {}
        self.called: set[str] = set()
        self.reports: list[LeaseReport] = []

    def take(self, report: LeaseReport, *, now: dt.datetime) -> tuple[Grant, ...]:
        """Take a report and give what is granted at once."""
        self.reports.append(report)
        if report.begins:
            named = {(line.budget_id, line.window_start) for line in report.lines}
            for key, window in self.windows.items():
                lease = window.leases.get(report.gateway)
                if lease is not None and key not in named and lease.sequence < report.sequence:
                    lending.release(window, lease)
        grants = []
        for line in report.lines:
            window = self._window(line.budget_id, line.window_start)
            if window is None:
                continue
            lease = window.leases.setdefault(report.gateway, FakeLease(report.gateway, now))
            if not lending.hear(window, lease, line, sequence=report.sequence, now=now):
                continue
            self.called |= lending.decide(window, list(window.leases.values()), now=now)
            if (wanted := Decimal(line.wanted) - Decimal(line.needed)) > 0:
                lending.top_up(window, lease, wanted, unit=window.budget.unit, now=now)
            assert window.granted <= window.limit + window.excess
            assert window.granted == sum(each.granted for each in window.leases.values())
            grants.append(self._grant(window, lease))
            lending.told(lease)
        self.called.discard(report.gateway)
        return tuple(grants)

    def look(self, lessee: str, *, sequence: int, now: dt.datetime) -> tuple[Grant, ...]:
        """Give what a gateway has to be told."""
        grants = []
        for window in self.windows.values():
            lease = window.leases.get(lessee)
            if lease is None or lease.sequence > sequence:
                continue
            if lease.round_at is not None and now - lease.round_at >= lending.PATIENCE:
                self.called |= lending.decide(window, list(window.leases.values()), now=now)
            if lease.news or lending.is_recalled(window, lease):
                grants.append(self._grant(window, lease))
                lending.told(lease)
        self.called.discard(lessee)
        return tuple(grants)

    def limit(self, budget: Budget, *, now: dt.datetime) -> None:
        """Change a budget's limit."""
        self.budgets[budget.budget_id] = budget
        for window in self.windows.values():
            if window.budget.budget_id == budget.budget_id:
                window.budget = budget
                lending.limit_to(window, Decimal(budget.limit), now=now)
                self.called |= set(window.leases)

    def settled(self, budget_id: str) -> Decimal:
        """Sum what was settled of all windows of a budget."""
        return sum((w.settled for (b, _), w in self.windows.items() if b == budget_id), start=Decimal(0))

    def held(self, budget_id: str) -> Decimal:
        """Sum what is held of all windows of a budget."""
        return sum((w.held for (b, _), w in self.windows.items() if b == budget_id), start=Decimal(0))

    def granted(self, budget_id: str) -> Decimal:
        """Sum what is granted of all windows of a budget."""
        return sum((w.granted for (b, _), w in self.windows.items() if b == budget_id), start=Decimal(0))

    def _window(self, budget_id: str, start: dt.datetime) -> FakeWindow | None:
        budget = self.budgets.get(budget_id)
        if budget is None:
            return None
        assert budget_window(budget.period, budget.time_zone, start)[0] == start
        key = (budget_id, start)
        if key not in self.windows:
            self.windows[key] = FakeWindow(budget, start, Decimal(budget.limit))
        return self.windows[key]

    @staticmethod
    def _grant(window: FakeWindow, lease: FakeLease) -> Grant:
        silent = sum(
            (each.granted - each.settled - each.held for each in window.leases.values() if each.silent),
            start=Decimal(0),
        )
        return Grant(
            budget_id=window.budget.budget_id,
            window_start=window.start,
            granted=f"{lease.granted:f}",
            left=f"{max(Decimal(0), window.limit - window.granted):f}",
            settled=f"{window.settled:f}",
            held=f"{window.held:f}",
            silent=f"{silent:f}",
            recall=window.recalls if lending.is_recalled(window, lease) else 0,
            sure=lease.sure,
        )
