"""The lease book: who may spend what here, who waits, and what the ledger must be told."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gateway.budgets import refusals
from gateway.budgets.accounts import Account, Hold, Purse, Waiter, read_charge_key
from gateway.budgets.statement import Statement, state
from gateway.contract import MOST_LINES, RECALL_S, Budget, Grant, Key, LeaseAnswer, Owner, Snapshot, to_units
from gateway.errors import ApiError

#: How long before a window begins its first slice is asked for.
_AHEAD_S: Final = 30.0


class LeaseBook:
    """All accounts of one gateway. ``settled`` is what earlier processes settled, by charge key, from the meter.

    ``urge`` is called when the ledger should be asked at once, ``remind`` when soon is enough. ``now`` gives seconds
    since the epoch, by which windows begin and end; ``clock`` is monotonic.
    """

    def __init__(
        self,
        settled: Mapping[str, int],
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = now
        self.clock = clock
        self.urge: Callable[[], None] = lambda: None
        self.remind: Callable[[], None] = lambda: None
        self._recovered: dict[str, dict[str, int]] = defaultdict(dict)
        for key, units in settled.items():
            self._recovered[read_charge_key(key)[0]][key] = units
        self._purses: dict[str, Purse] = {}
        self._by_owner: dict[tuple[Owner, str], list[Purse]] = {}
        self._of_key: dict[str, tuple[Purse, ...]] = {}
        self._accounts: dict[tuple[str, float], Account] = {}
        self._touched: set[Account] = set()
        self._cooling: set[Account] = set()  # spent from lately, so that their slices shrink
        self._waiters = 0
        self._next_look = 0.0  # when windows that begin must be looked for

    # Who pays

    def keep(self, snapshot: Snapshot) -> None:
        """Take over the budgets of a new snapshot."""
        names = {(Owner.KEY, key_id): key.name for key in snapshot.keys for key_id in key.line}
        names |= {(Owner.PROJECT, project.project_id): project.name for project in snapshot.projects}
        names |= {(Owner.TENANT, tenant.tenant_id): tenant.name for tenant in snapshot.tenants}
        self._by_owner = {}
        self._of_key = {}
        present = set()
        for budget in snapshot.budgets:
            present.add(budget.budget_id)
            owner = (budget.owner, budget.owner_id)
            purse = self._define(budget, names.get(owner, budget.owner_id))
            self._by_owner.setdefault(owner, []).append(purse)
        for budget_id, purse in self._purses.items():
            purse.gone = purse.gone or budget_id not in present
        for account in self._accounts.values():
            if account.purse.gone:
                self._touched.add(account)
        self._next_look = 0.0
        self.remind()

    def _define(self, budget: Budget, owner_name: str) -> Purse:
        purse = self._purses.get(budget.budget_id)
        if purse is None or purse.unit is not budget.unit:
            purse = self._purses[budget.budget_id] = Purse(budget, owner_name)
            for key, units in self._recovered.pop(budget.budget_id, {}).items():
                _, start, end = read_charge_key(key)
                self._open(Account(purse, start, end, settled=units))
            return purse
        before = purse.budget
        purse.define(budget, owner_name)
        if (before.period, before.time_zone) != (budget.period, budget.time_zone):
            purse.account = None
        return purse

    def purses(self, key: Key) -> tuple[Purse, ...]:
        """Give the budgets that requests of ``key`` are paid from: its own, its project's, its tenant's."""
        found = self._of_key.get(key.key_id)
        if found is None:
            owners = [(Owner.KEY, key_id) for key_id in key.line]
            owners += [(Owner.PROJECT, key.project_id), (Owner.TENANT, key.tenant_id)]
            found = tuple(purse for owner in owners for purse in self._by_owner.get(owner, ()))
            self._of_key[key.key_id] = found
        return found

    def account(self, purse: Purse) -> Account:
        """Give the account of the window that runs now."""
        account, now = purse.account, self.now()
        if account is None or now >= account.end_s:
            if account is not None:
                self._touched.add(account)
            account = purse.account = self._of_window(purse, now)
        return account

    def _of_window(self, purse: Purse, moment: float) -> Account:
        start, end = purse.window(moment)
        account = self._accounts.get((purse.budget.budget_id, start.timestamp()))
        return account or self._open(Account(purse, start, end))

    def _open(self, account: Account) -> Account:
        account.low = account.purse.first // 2
        self._accounts[account.purse.budget.budget_id, account.start.timestamp()] = account
        self._touched.add(account)
        return account

    # Holding and settling

    def take(self, holds: Iterable[Hold]) -> bool:
        """Hold all of ``holds``, or nothing where a lease does not cover one of them."""
        for account, amount in holds:
            if not (account.open or self._opens(account)):
                return False
            if account.granted - account.settled - account.held < amount:
                return False
        self._hold(holds)
        return True

    def _opens(self, account: Account) -> bool:
        account.open = not account.queue and self.clock() >= account.frozen_until
        return account.open

    def _hold(self, holds: Iterable[Hold]) -> None:
        for account, amount in holds:
            account.held += amount
            account.entered += amount
            self._touched.add(account)
            if (
                account.granted - account.settled - account.held < account.low
                and not account.asked
                and self.clock() >= account.pause_until
            ):
                account.asked = True
                self.remind()

    def settle(self, hold: Hold, actual: int) -> None:
        """Put what was spent in the place of what was held; an engine that gave too much is paid for, too."""
        account = hold.account
        account.held -= hold.amount
        account.settled += actual
        account.granted = max(account.granted, account.settled + account.held)
        self._touched.add(account)
        if not account.queue:
            return
        if self.clock() < account.frozen_until:
            self.urge()
        else:
            self._let_in([account])

    # Waiting

    def wait(self, holds: tuple[Hold, ...], tell: Callable[[ApiError | None], None]) -> Waiter:
        """Queue a request at all its accounts; ``tell`` hears how it ends. The caller may :meth:`leave` before."""
        self._waiters += 1
        waiter = Waiter(self._waiters, holds, tell)
        for account, amount in holds:
            account.queue[waiter.number] = waiter
            account.waiting += amount
            account.open = False
            self._touched.add(account)
        self.urge()
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Take a waiter that gave up out of its queues."""
        if not waiter.done:
            self._dismiss(waiter, None)
            self._let_in([account for account, _ in waiter.holds])

    def _dismiss(self, waiter: Waiter, refusal: ApiError | None) -> None:
        for account, amount in waiter.holds:
            if account.queue.pop(waiter.number, None) is not None:
                account.waiting -= amount
            self._opens(account)
        waiter.done = True
        waiter.tell(refusal)

    def _let_in(self, accounts: list[Account]) -> None:
        """Let in whom the leases cover now; nobody overtakes another who waits for the same budget."""
        while accounts:
            account = accounts.pop()
            while account.queue:
                waiter = next(iter(account.queue.values()))
                if not self._is_next(waiter):
                    break
                waiter.taken = True
                self._hold(waiter.holds)
                self._dismiss(waiter, None)
                accounts.extend(other for other, _ in waiter.holds if other is not account)

    @staticmethod
    def _is_next(waiter: Waiter) -> bool:
        return all(
            next(iter(account.queue)) == waiter.number and account.spare >= amount
            for account, amount in waiter.holds
        )

    def _refuse(self, account: Account, sure: int) -> None:
        """Refuse those who waited when the report ``sure`` was made and whom the lease does not cover."""
        promised = 0  # to those whom another account keeps waiting
        for waiter in list(account.queue.values()):
            if waiter.done:
                continue
            if waiter.asked == 0 or waiter.asked > sure:
                break
            amount = next(hold.amount for hold in waiter.holds if hold.account is account)
            if amount > account.spare - promised:
                self._dismiss(waiter, refusals.exceeded(account, amount))
                self._let_in([other for other, _ in waiter.holds])
            else:
                promised += amount

    # What the ledger is told, and says

    def statements(self, sequence: int) -> list[Statement]:
        """Give what the report ``sequence`` says, those that others wait for first; what goes back is gone."""
        self._look_ahead()
        self._touched |= self._cooling
        self._cooling.clear()
        now, clock = self.now(), self.clock()
        accounts = sorted(self._touched, key=_urgency)[:MOST_LINES]
        found = []
        for account in accounts:
            self._touched.discard(account)
            self._opens(account)
            statement = state(account, now=now, clock=clock)
            for waiter in account.queue.values():
                waiter.asked = waiter.asked or sequence
            if statement.says_anything:
                account.told = (account.granted, account.settled, account.held)
                found.append(statement)
            if account.rate or account.entered:
                self._cooling.add(account)
            if now >= account.end_s and not account.held and not account.queue:
                self._forget(account)
        return found

    @property
    def is_busy(self) -> bool:
        """Whether something was spent lately, or is still to be told."""
        return bool(self._touched or self._cooling)

    def lost(self, statements: Iterable[Statement] = ()) -> None:
        """Say ``statements`` and what requests wait for again: nobody knows whether an answer was lost."""
        for account in {*(each.account for each in statements), *self._waited_for()}:
            account.told = None
            account.asked = False
            self._accounts.setdefault((account.purse.budget.budget_id, account.start.timestamp()), account)
            self._touched.add(account)

    def _waited_for(self) -> list[Account]:
        return [account for account in self._accounts.values() if account.queue]

    def heard(self, answer: LeaseAnswer) -> None:
        """Take over what the ledger granted, decided and recalled."""
        changed: list[tuple[Account, Grant]] = []
        for grant in answer.grants:
            account = self._accounts.get((grant.budget_id, grant.window_start.timestamp()))
            if account is None or account.told is None:
                continue
            more = self._take_over(account, grant)
            if more or grant.sure:
                changed.append((account, grant))
            if grant.recall > account.recall:
                account.recall = grant.recall
                account.frozen_until = self.clock() + RECALL_S
                account.open = False
                self._touched.add(account)
                self.urge()
        self._let_in([account for account, _ in changed])
        for account, grant in changed:
            if grant.sure:
                self._refuse(account, grant.sure)
            if account.queue:
                # They came after what is decided hereby was asked.
                self._touched.add(account)
                self.urge()

    def _take_over(self, account: Account, grant: Grant) -> bool:
        """Take over figures. Says whether there is more to spend."""
        unit, told = account.purse.unit, account.told
        assert told is not None
        granted = to_units(grant.granted, unit)
        account.granted = max(account.granted, granted)
        account.elsewhere = max(0, to_units(grant.settled, unit) - told[1])
        account.elsewhere_held = max(0, to_units(grant.held, unit) - told[2])
        account.silent = to_units(grant.silent, unit)
        if account.asked:
            account.asked = False
            # Where little is left, asking for more again and again would not bring it.
            account.pause_until = self.clock() + (0.0 if granted > told[0] else 1.0)
        account.told = (granted, told[1], told[2])
        return granted > told[0]

    def give_back(self) -> None:
        """Make ready for the last report: nothing unspent stays here."""
        for account in self._accounts.values():
            account.frozen_until = float("inf")
            self._touched.add(account)

    def _look_ahead(self) -> None:
        """Open accounts of windows that run or begin soon, so that their first request finds a slice."""
        now = self.now()
        if now < self._next_look:
            return
        ends = []
        for purse in self._purses.values():
            if not purse.gone and purse.usable:
                account = self.account(purse)
                ends.append(account.end_s)
                if account.end_s - now <= _AHEAD_S:
                    self._of_window(purse, account.end_s)
        # Those that end within the time are looked at again when they have ended.
        later = [end if end - now <= _AHEAD_S else end - _AHEAD_S for end in ends]
        self._next_look = min(later, default=float("inf"))

    def _forget(self, account: Account) -> None:
        purse = account.purse
        self._accounts.pop((purse.budget.budget_id, account.start.timestamp()), None)
        self._cooling.discard(account)
        if purse.account is account:
            purse.account = None
        if purse.gone and not any(other.purse is purse for other in self._accounts.values()):
            self._purses.pop(purse.budget.budget_id, None)


def _urgency(account: Account) -> int:
    if account.queue:
        return 0
    if account.frozen_until:
        return 1
    return 2 if account.asked else 3
