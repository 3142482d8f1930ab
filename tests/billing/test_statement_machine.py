"""Statements under any order of events: a machine that holds, uses late and early, changes prices, closes, corrects."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from billing.ledger import credit_posted, ledger_check
from billing.models import Commitment, Credit, LateChange, LedgerEntry, SharedPeriod, Statement, StatementLine
from billing.rating.rounding import round_amount
from billing.statements import account_park, account_unpark, closing, statement_document, statement_run
from billing.statements.due import close_due_months, draft_running_months
from billing.statements.replay import statement_replay
from tenants import scope
from tests.billing.prices import hold, label, price, utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
START = utc("2026-01-20")
hours = st.integers(min_value=1, max_value=40 * 24)
who = st.integers(min_value=0, max_value=1)


class Killed(BaseException):
    """What a killed process leaves: nothing of the transaction that was open."""


class Statements(RuleBasedStateMachine):
    """Two tenants in two zones; the first owns an endpoint that both use by the token."""

    def __init__(self) -> None:
        super().__init__()
        self.open = transaction.atomic()
        self.open.__enter__()
        self.now = START
        self.seen: dict[str, bytes] = {}
        self.prices: dict[str, list[tuple[dt.datetime, Decimal]]] = defaultdict(list)
        self.gpus: list[defaultdict[dt.datetime, int]] = [defaultdict(int), defaultdict(int)]
        self.tokens: list[defaultdict[dt.datetime, int]] = [defaultdict(int), defaultdict(int)]
        self.commitments: list[list[tuple[dt.datetime, dt.datetime, int, Decimal]]] = [[], []]
        self.zones = ["UTC", "America/New_York"]
        for kind, amount in (("gpu_hour", "3.33"), ("output_tokens", "1.57")):
            price(kind, amount)
            self.prices[kind].append((utc("2025-01-01"), Decimal(amount)))
        self.tenants = [make_tenant(time_zone=zone) for zone in self.zones]
        self.projects = [default_project(tenant) for tenant in self.tenants]
        self.endpoints = [label(project, "chat") for project in self.projects]
        self.house = label(self.projects[0], "house")
        with scope.platform("test"):
            SharedPeriod.objects.create(
                owner=self.tenants[0], endpoint_id=self.house, name="house", model="guide", slo_class="standard",
                started_at=utc("2025-01-01"),
            )  # fmt: skip
        hold(self.projects[0], self.house, "2026-01-20T00:00", None)

    @rule(tenant=who, back=hours, length=st.integers(min_value=1, max_value=60), gpus=st.integers(1, 3))
    def hold_gpus(self, tenant: int, back: int, length: int, gpus: int) -> None:
        """GPU time that is over by now, told now, however long ago it was."""
        start = self.now - back * HOUR
        end = min(self.now, start + length * HOUR)
        hold(self.projects[tenant], self.endpoints[tenant], _text(start), _text(end), gpus=gpus)
        while start < end:
            self.gpus[tenant][start] += gpus
            start += HOUR

    @rule(tenant=who, back=hours, tokens=st.integers(1, 9_999_999), shared=st.booleans())
    def use(self, tenant: int, back: int, tokens: int, shared: bool) -> None:
        at = self.now - back * HOUR
        endpoint_id = self.house if shared else self.endpoints[tenant]
        add_usage(self.projects[tenant], at=at, endpoint_id=endpoint_id, output_tokens=tokens)
        if shared:
            self.tokens[tenant][at] += tokens

    @rule(kind=st.sampled_from(["gpu_hour", "output_tokens"]), cents=st.integers(0, 900))
    def change_price(self, kind: str, cents: int) -> None:
        if self.prices[kind][-1][0] < self.now:
            amount = Decimal(cents) / 100
            price(kind, str(amount), self.now)
            self.prices[kind].append((self.now, amount))

    @rule(tenant=who, amount=st.integers(1, 300), days=st.none() | st.integers(1, 60))
    def grant(self, tenant: int, amount: int, days: int | None) -> None:
        with scope.tenant(self.tenants[tenant].id):
            credit = Credit.objects.create(
                amount=amount, currency="EUR", reason="sorry", available_from=self.now,
                expires_at=days and self.now + days * DAY,
            )  # fmt: skip
            credit_posted(credit=credit)

    @rule(tenant=who, gpus=st.integers(1, 2), cents=st.integers(0, 300), days=st.integers(1, 45))
    def commit(self, tenant: int, gpus: int, cents: int, days: int) -> None:
        start, end, rate = self.now, self.now + days * DAY, Decimal(cents) / 100
        with scope.tenant(self.tenants[tenant].id):
            Commitment.objects.create(
                name=str(uuid.uuid4()), gpu_type="h100_sxm", gpus=gpus, rate=rate, currency="EUR", starts_at=start,
                ends_at=end,
            )  # fmt: skip
        self.commitments[tenant].append((start, end, gpus, rate))

    @rule(days=st.integers(1, 25))
    def advance(self, days: int) -> None:
        self.now += days * DAY

    @rule()
    def draft(self) -> None:
        draft_running_months(now=self.now)

    @rule()
    def close(self) -> None:
        close_due_months(now=self.now)

    @rule(at=st.sampled_from(["write_finals", "post_all", "numbers"]))
    def kill(self, at: str) -> None:
        """Kill a run while it closes; whatever comes next finds what was there before."""

        def killed(*_: object, **__: object) -> None:
            raise Killed

        real = getattr(closing, at)
        setattr(closing, at, killed)
        try:
            with transaction.atomic():
                statement_run(month=self.now.date() - 35 * DAY, now=self.now, close=True)
        except Killed:
            pass
        finally:
            setattr(closing, at, real)

    @rule(tenant=who)
    def park(self, tenant: int) -> None:
        account_park(tenant=self.tenants[tenant], reason="disputed", now=self.now)

    @rule(tenant=who)
    def unpark(self, tenant: int) -> None:
        with scope.tenant(self.tenants[tenant].id):
            parked = closing.BillingAccount.objects.filter(state="parked").exists()
        if parked:
            account_unpark(tenant=self.tenants[tenant], now=self.now)

    @precondition(lambda self: self.now > START)
    @invariant()
    def what_is_final_stays_and_adds_up(self) -> None:
        with scope.platform("test"):
            numbers = defaultdict(list)
            for statement in Statement.objects.all():
                charged = [line.amount for line in statement.lines.all() if line.charged]
                assert statement.total == sum(charged) >= 0
                if statement.state == "final":
                    document = statement_document(statement)
                    assert self.seen.setdefault(statement.number, document) == document
                    numbers[statement.month].append(statement.number)
            for month, given in numbers.items():
                assert sorted(given) == [f"{month:%Y-%m}-{place:06d}" for place in range(1, len(given) + 1)]
            assert ledger_check() == []
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def teardown(self) -> None:
        try:
            self._end()
        finally:
            transaction.set_rollback(True)
            self.open.__exit__(None, None, None)

    def _end(self) -> None:
        """Close everything, and compare what was charged for each month with a rating of all that happened in it."""
        for place in range(2):
            self.unpark(place)
            self.hold_gpus(place, 2, 1, 1)
        self.now += 70 * DAY
        close_due_months(now=self.now)
        for place in range(2):
            self.unpark(place)
        close_due_months(now=self.now)
        self.what_is_final_stays_and_adds_up()
        with scope.platform("test"):
            for statement in Statement.objects.filter(state="final"):
                assert statement_replay(statement).problems == ()
            assert not LateChange.objects.exists()
            for place, tenant in enumerate(self.tenants):
                charged: defaultdict[dt.date, Decimal] = defaultdict(Decimal)
                lines = StatementLine.objects.filter(tenant=tenant, charged=True, statement__state="final")
                for line in lines.exclude(kind="credit"):
                    charged[line.service_month] += line.amount
                expected = self._rated(place)
                assert {month: sum_ for month, sum_ in charged.items() if sum_} == expected
            balances = LedgerEntry.objects.filter(account__kind="credit_balance")
            for tenant in self.tenants:
                assert sum(entry.amount for entry in balances.filter(tenant=tenant)) <= 0

    def _rated(self, place: int) -> dict[dt.date, Decimal]:
        """Rate hour by hour, without anything of the code that is tested but its one rounding."""
        zone = ZoneInfo(self.zones[place])
        sums: defaultdict[dt.date, Fraction] = defaultdict(Fraction)
        open_months = self._open_months(place)
        hour = min([START, *self.gpus[place], *self.tokens[place]])
        while hour < self.now:
            month = hour.astimezone(zone).date().replace(day=1)
            if month not in open_months:
                active = [each for each in self.commitments[place] if each[0] <= hour < each[1]]
                for _, _, gpus, rate in active:
                    sums[month] += gpus * Fraction(rate)
                beyond = max(0, self.gpus[place][hour] - sum(each[2] for each in active))
                sums[month] += beyond * self._price("gpu_hour", hour)
                sums[month] += self.tokens[place][hour] * self._price("output_tokens", hour) / 1_000_000
            hour += HOUR
        rounded = {month: round_amount(exact, 2) for month, exact in sums.items()}
        return {month: amount for month, amount in rounded.items() if amount}

    def _open_months(self, place: int) -> set[dt.date]:
        final = Statement.objects.filter(tenant=self.tenants[place], state="final")
        last = max(final.values_list("month", flat=True))
        return {
            month for days in range(200) if (month := (self.now - days * DAY).date().replace(day=1)) > last
        }

    def _price(self, kind: str, hour: dt.datetime) -> Fraction:
        return Fraction([amount for since, amount in self.prices[kind] if since <= hour][-1])


def _text(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M")


@pytest.mark.django_db
def test_any_order_of_events_charges_the_same_and_changes_nothing_final():
    run_state_machine_as_test(
        Statements,
        settings=settings(
            max_examples=5,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
