"""One random month, told by statement, costs, budgets, reports and what-if: the same money everywhere."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.books import book_create
from billing.budgets.settling import budgets_settle
from billing.costs import cost_summary
from billing.gpu_time.hours import hours_compute
from billing.models import Budget, BudgetWindow, EndpointDay, EndpointLabel
from billing.quantities import HOUR, round_down
from billing.rating.periods import month_of
from billing.rating.rounding import round_amount
from billing.reports.keeping import day_make
from billing.sharing import shared_close, shared_open
from billing.statements import statement_draft
from billing.statements.lines import Kind
from billing.what_if import month_rerated
from tenants import scope
from tests.billing.prices import LONG_AGO, hold, label, price, utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
MAY = dt.date(2026, 5, 1)
NOW = utc("2026-06-02T12:00")


class _Month:
    """A tenant with endpoints of each kind, and a May of random prices, GPU time and usage."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        zone = self.random.choice(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])
        self.tenant, self.other = make_tenant(time_zone=zone), make_tenant()
        self.project, self.others = default_project(self.tenant), default_project(self.other)
        self.period = month_of(2026, 5, zone)
        self._prices()
        chat, sold = label(self.project, "chat"), label(self.project, "sold", slo_class="fast")
        elsewhere, theirs = label(self.project, "vllm"), label(self.others, "theirs")
        with scope.tenant(self.tenant.id):
            EndpointLabel.objects.filter(endpoint_id=elsewhere).update(external=True)
        for endpoint_id, owner, name in ((sold, self.tenant, "sold"), (theirs, self.other, "theirs")):
            self._sell(endpoint_id, owner, name)
        for endpoint_id in (chat, sold):
            for _ in range(self.random.randint(0, 4)):
                self._hold(endpoint_id)
        for endpoint_id in (chat, sold, elsewhere, theirs):
            for _ in range(self.random.randint(0, 6)):
                self._use(endpoint_id)

    def moment(self) -> dt.datetime:
        """Give some moment of the month or a day about it, by the second."""
        span = self.period.end - self.period.start + dt.timedelta(days=2)
        return self.period.start - dt.timedelta(days=1) + span * self.random.randrange(10**6) / 10**6

    def _prices(self) -> None:
        def some(kind: str, since: dt.datetime = LONG_AGO, **facts) -> None:
            places = 3 if kind == "class_factor" else self.random.randint(2, 8)
            price(kind, f"{Decimal(self.random.randint(1, 999_999)).scaleb(-places):f}", since, **facts)

        some("gpu_hour")
        some("class_factor", slo_class="fast")
        for kind in ("input_tokens", "output_tokens", "cached_tokens"):
            some(kind, model="guide")
        for kind, facts in (
            ("gpu_hour", {"region": "de-1"}), ("gpu_hour", {"gpu_type": "l4"}), ("class_factor", {"slo_class": "fast"}),
            ("input_tokens", {"region": "de-1"}), ("output_tokens", {"model": "guide", "region": "de-2"}),
            ("output_tokens", {"model": "guide", "slo_class": "fast"}), ("cached_tokens", {}),
            ("gpu_hour", {"tenant": self.tenant}), ("output_tokens", {"tenant": self.tenant}),
        ):  # fmt: skip
            if self.random.random() < 0.5:
                # Pages know idle time by the hour: prices of GPU time begin with one.
                since = self.moment()
                some(kind, round_down(since, HOUR) if kind == "gpu_hour" else since, **facts)

    def _sell(self, endpoint_id: uuid.UUID, owner, name: str) -> None:
        # Only what is sold can be used by another tenant.
        moments = sorted(self.moment() for _ in range(self.random.randint(owner != self.tenant, 3)))
        for place, moment in enumerate(moments):
            if place % 2:
                shared_close(endpoint_id=endpoint_id, ended_at=moment)
            else:
                shared_open(
                    owner_id=owner.id, endpoint_id=endpoint_id, name=name, model="guide", slo_class="fast",
                    started_at=moment,
                )  # fmt: skip

    def _hold(self, endpoint_id: uuid.UUID) -> None:
        start, end = sorted((self.moment(), self.moment()))
        chosen, region = self.random.choice, self.random.choice(["de-1", "de-2"])
        hold(
            self.project, endpoint_id, start.replace(tzinfo=None).isoformat(),
            end.replace(tzinfo=None).isoformat() if self.random.random() < 0.7 else None,
            gpus=self.random.randint(1, 8), cluster=region, region=region, gpu_type=chosen(["h100_sxm", "l4"]),
            price_factor=Decimal(chosen(["1", "1.25", "0.333"])),
        )  # fmt: skip

    def _use(self, endpoint_id: uuid.UUID) -> None:
        chosen = self.random.choice
        prompt = self.random.randint(0, 10**7)
        add_usage(
            self.project, at=self.moment(), endpoint_id=endpoint_id, requests=1, input_tokens=prompt,
            cached_tokens=self.random.randint(0, prompt), output_tokens=self.random.randint(0, 10**7),
            region=chosen(["de-1", "de-2"]), slo_class=chosen(["standard", "fast"]),
        )  # fmt: skip


def _exact(whole, names: tuple[str, str]) -> Fraction:
    """Give an exact amount of GPU time and tokens of costs, by the names of their sums."""
    time, tokens = names
    return sum(
        (
            Fraction(getattr(each.sums, time), 3600 * 10**16 * 10**18)
            + Fraction(getattr(each.sums, tokens), 10**22)
            for each in whole
        ),
        Fraction(0),
    )


def _budget(month: _Month, unit: str, basis: str) -> Budget:
    with scope.tenant(month.tenant.id):
        return Budget.objects.create(
            tenant=month.tenant, name=f"{unit} of {basis}", owner_kind="tenant", owner_id=month.tenant.id, unit=unit,
            currency="EUR" if unit == "money" else "", limit=10**9, period="month", basis=basis, policy="warn",
        )  # fmt: skip


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(min_value=0, max_value=10**9))
def test_all_tell_the_same_of_a_random_month(seed):
    with transaction.atomic(), scope.platform("a test"):
        _compare(_Month(seed))
        transaction.set_rollback(True)


def _compare(month: _Month) -> None:
    period, tenant = month.period, month.tenant
    hours_compute(now=NOW)
    with scope.tenant(tenant.id):
        statement = statement_draft(month=MAY, now=NOW)
        lines = list(statement.lines.all())
        costs = cost_summary(start=period.start, end=period.end, now=NOW)
    charged = _exact(costs.whole, ("charged_time", "charged_tokens"))
    gpu_time = [line for line in lines if line.kind in (Kind.GPU_TIME, Kind.IDLE_GPU_TIME)]
    hours = sum((line.quantity for line in gpu_time), Decimal(0))
    idle = sum((line.quantity for line in gpu_time if line.kind == Kind.IDLE_GPU_TIME), Decimal(0))

    # costs
    assert statement.total == round_amount(charged, 2)
    assert abs(hours - costs.total.gpu_hours) < Decimal("1e-6")
    if period.start.minute == 0:
        assert abs(idle - costs.total.idle_gpu_hours) < Decimal("1e-6")
    by_endpoint: defaultdict[str, Decimal] = defaultdict(Decimal)
    for line in lines:
        if line.charged:
            by_endpoint[str(line.endpoint_id)] += line.amount
    for group in costs.whole:
        # Each line is at most a cent off its exact amount.
        of_it = sum(1 for line in lines if line.charged and str(line.endpoint_id) == group.group[1])
        assert abs(by_endpoint.pop(group.group[1], 0) - group.cost.charged) <= of_it * Decimal("0.01")
    assert not any(by_endpoint.values())

    # budgets
    in_money = _budget(month, "money", "gpu_time")
    with scope.tenant(tenant.id):
        # In the month's last moment, when its window still runs, nothing of it is ahead.
        budgets_settle([in_money], now=period.end - dt.timedelta(microseconds=1))
        budgets_settle([in_money], now=NOW)
        settled = BudgetWindow.objects.get(budget=in_money, start=period.start).settled
    of_gpus = sum((Fraction(group.sums.charged_time) for group in costs.whole), Fraction(0))
    assert abs(Fraction(settled) - of_gpus / (3600 * 10**34)) < Fraction(1, 10**14)

    # reports: of UTC days
    if tenant.time_zone == "UTC":
        for number in range(31):
            day_make(day=MAY + dt.timedelta(days=number), now=NOW)
        rows = EndpointDay.objects.filter(tenant=tenant, day__gte=MAY, day__lt=MAY + dt.timedelta(days=31))
        assert abs(sum((row.amount for row in rows), Decimal(0)) - costs.total.allocation) < Decimal("1e-5")

    # what-if, by a book without prices
    book = book_create(name=f"as it is {uuid.uuid4()}")
    rerated = month_rerated(month=MAY, book=book, now=NOW, tenant_ids=[tenant.id])
    for row in rerated.tenants:
        assert (row.before, row.after) == (statement.total, statement.total)
