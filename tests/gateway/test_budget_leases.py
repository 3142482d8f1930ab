"""Leases under loss, reordering, restarts and silence: never overspent, and nobody refused for nothing."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.budgets.accounts import Account, Hold, Waiter
from gateway.budgets.book import LeaseBook
from gateway.budgets.statement import Statement
from gateway.contract import (
    Budget,
    BudgetPeriod,
    BudgetUnit,
    LeaseAnswer,
    LeaseReport,
    Owner,
    Snapshot,
)
from gateway.errors import ApiError
from tests.fakes.ledger import FakeLedger
from tests.gateway.world import KEY, key

START = dt.datetime(2026, 5, 4, 10, tzinfo=dt.UTC).timestamp()
CALLER = key(KEY, "k1")


def budget(limit: int, **more: object) -> Budget:
    made = Budget(
        budget_id="b1",
        tenant_id="t1",
        owner=Owner.TENANT,
        owner_id="t1",
        name="All",
        unit=BudgetUnit.TOKENS,
        limit=str(limit),
        period=BudgetPeriod.MONTH,
        time_zone="Europe/Berlin",
    )
    return msgspec.structs.replace(made, **more)


def snapshot(*budgets: Budget) -> Snapshot:
    return Snapshot.build(
        gateway="gw", region="eu", keys=(CALLER,), endpoints=(), classes=(), budgets=budgets
    )


@dataclasses.dataclass(eq=False)
class Request:
    """One request: what it may cost, what it holds, and the most that was used while it waited."""

    lessee: Gateway
    hold: Hold
    waiter: Waiter | None = None
    refusal: ApiError | None = None
    peak: int = 0


class Gateway:
    """A lease book that speaks with a ledger by hand."""

    def __init__(self, name: str, ledger: FakeLedger, clock: Clock, limit: int) -> None:
        self.name = name
        self.ledger = ledger
        self.clock = clock
        self.settled: dict[str, int] = {}  # what the usage log says
        self.used_everywhere: Callable[[], int] = self.used
        self.sequence = 0
        self.start(limit)

    def start(self, limit: int) -> None:
        self.book = LeaseBook(self.settled, now=self.clock.now, clock=self.clock.now)
        self.book.keep(snapshot(budget(limit)))
        self.begins = True
        self.open: list[Request] = []
        self.waiting: list[Request] = []

    @property
    def account(self) -> Account:
        (purse,) = self.book.purses(CALLER)
        return self.book.account(purse)

    def ask(self, amount: int) -> Request:
        request = Request(self, Hold(self.account, amount))
        if self.book.take((request.hold,)):
            self.open.append(request)
            return request
        self.waiting.append(request)

        def tell(refusal: ApiError | None) -> None:
            self.waiting.remove(request)
            request.refusal = refusal
            if refusal is None:
                self.open.append(request)
            else:
                request.peak = max(request.peak, self.used_everywhere())

        request.waiter = self.book.wait((request.hold,), tell)
        return request

    def finish(self, request: Request, actual: int) -> None:
        self.open.remove(request)
        self.book.settle(request.hold, actual)
        window = request.hold.account.key
        self.settled[window] = self.settled.get(window, 0) + actual

    def report(self) -> tuple[LeaseReport, list[Statement]]:
        self.sequence += 1
        statements = self.book.statements(self.sequence)
        lines = tuple(statement.line() for statement in statements)
        report = LeaseReport(gateway=self.name, sequence=self.sequence, lines=lines, begins=self.begins)
        return report, statements

    def exchange(self) -> None:
        report, _ = self.report()
        answer = self.ledger.take(report, now=self.clock.moment())
        self.begins = False
        self.book.heard(LeaseAnswer(grants=answer))

    def poll(self) -> None:
        answer = self.ledger.look(self.name, sequence=self.sequence, now=self.clock.moment())
        self.book.heard(LeaseAnswer(grants=answer))

    def used(self) -> int:
        return self.account.settled + self.account.held


class Clock:
    """Time by hand."""

    def __init__(self) -> None:
        self.seconds = START

    def now(self) -> float:
        return self.seconds

    def moment(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.seconds, dt.UTC)


class Leases(RuleBasedStateMachine):
    """Three gateways lend from one budget of 40 tokens, over a network that loses, repeats and delays."""

    LIMIT = 40
    lossy = True

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.ledger = FakeLedger()
        self.ledger.budgets["b1"] = budget(self.LIMIT)
        self.gateways = [Gateway(f"gw-{n}/1", self.ledger, self.clock, self.LIMIT) for n in range(3)]
        for gateway in self.gateways:
            gateway.used_everywhere = self.used
        self.late: list[LeaseReport] = []

    which = st.integers(0, 2)

    @rule(which=which, amount=st.integers(1, 12))
    def ask(self, which: int, amount: int) -> None:
        gateway = self.gateways[which]
        if gateway.account.never_fits(amount):
            assert self.used() + amount > self.LIMIT
            return
        request = gateway.ask(amount)
        request.peak = self.used()
        self.note()

    @rule(which=which, index=st.integers(0, 5), share=st.floats(0, 1))
    def finish(self, which: int, index: int, share: float) -> None:
        gateway = self.gateways[which]
        if gateway.open:
            request = gateway.open[index % len(gateway.open)]
            gateway.finish(request, int(request.hold.amount * share))
            self.note()

    @rule(which=which, index=st.integers(0, 5))
    def give_up(self, which: int, index: int) -> None:
        gateway = self.gateways[which]
        if gateway.waiting:
            request = gateway.waiting[index % len(gateway.waiting)]
            gateway.waiting.remove(request)
            assert request.waiter is not None
            request.waiter.tell = lambda refusal: None
            gateway.book.leave(request.waiter)
            self.note()

    @rule(which=which)
    def exchange(self, which: int) -> None:
        self.watching(self.gateways[which].exchange)

    @rule(which=which)
    def poll(self, which: int) -> None:
        self.watching(self.gateways[which].poll)

    @precondition(lambda self: self.lossy)
    @rule(which=which, arrives=st.sampled_from(["never", "now", "later"]))
    def lose(self, which: int, arrives: str) -> None:
        gateway = self.gateways[which]
        report, statements = gateway.report()
        if arrives == "now":
            self.ledger.take(report, now=self.clock.moment())
        elif arrives == "later":
            self.late.append(report)
        gateway.book.lost(statements)

    @precondition(lambda self: self.late)
    @rule()
    def arrive_late(self) -> None:
        self.ledger.take(self.late.pop(0), now=self.clock.moment())

    @precondition(lambda self: self.lossy)
    @rule(which=which)
    def lose_news(self, which: int) -> None:
        gateway = self.gateways[which]
        self.ledger.look(gateway.name, sequence=gateway.sequence, now=self.clock.moment())
        gateway.book.lost()

    @rule(which=which)
    def kill_and_restart(self, which: int) -> None:
        self.gateways[which].start(self.LIMIT)
        self.note()

    @rule(seconds=st.floats(0.01, 3.0))
    def pass_time(self, seconds: float) -> None:
        if not self.lossy:
            # Nobody is silent where all answer: what is asked is answered before a second has passed.
            for _ in range(12):
                for gateway in self.gateways:
                    self.watching(gateway.poll)
                    self.watching(gateway.exchange)
        self.clock.seconds += seconds

    def used(self) -> int:
        return sum(gateway.used() for gateway in self.gateways)

    def note(self) -> None:
        used = self.used()
        for gateway in self.gateways:
            for request in gateway.waiting:
                request.peak = max(request.peak, used)

    def watching(self, step) -> None:
        """Run a step, and look at every refusal that it brings."""
        before = [request for gateway in self.gateways for request in gateway.waiting]
        step()
        self.note()
        if not self.lossy:
            for request in before:
                if request.refusal is not None:
                    assert request.refusal.code == "budget_exceeded"
                    assert request.peak + request.hold.amount > self.LIMIT

    @invariant()
    def never_overspent(self) -> None:
        assert self.used() <= self.LIMIT

    @invariant()
    def leases_cover(self) -> None:
        for gateway in self.gateways:
            account = gateway.account
            assert account.granted >= account.settled + account.held
            assert account.held == sum(request.hold.amount for request in gateway.open)

    def teardown(self) -> None:
        """Once all answer, everybody who waits is answered, and what is left can be had by anyone."""
        for gateway in self.gateways:
            gateway.book.lost()
        for _ in range(60):
            for gateway in self.gateways:
                self.watching(gateway.exchange)
                self.watching(gateway.poll)
            self.clock.seconds += 0.05
        assert not any(gateway.waiting for gateway in self.gateways)
        left = self.LIMIT - self.used()
        if left:
            request = self.gateways[0].ask(left)
            for _ in range(30):
                for gateway in self.gateways:
                    gateway.exchange()
                    gateway.poll()
                self.clock.seconds += 0.05
            assert request in self.gateways[0].open, "what is left must be spendable"


class AnsweringLeases(Leases):
    """The same, where every message arrives: no refusal is false."""

    lossy = False


common = settings(
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLeases = Leases.TestCase
TestLeases.settings = common
TestAnsweringLeases = AnsweringLeases.TestCase
TestAnsweringLeases.settings = common
