"""The gate of rate limits: all limits of a request are met, or nothing is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from gateway.contract import Owner, Snapshot
from gateway.demand import Demand
from gateway.gates import Permit
from gateway.limits import answers
from gateway.limits.book import Limit, LimitBook, Unit
from gateway.limits.charges import Charge, Verdict
from gateway.limits.local import LocalCounters
from gateway.limits.shared import SharedCounters
from gateway.replies import Usage

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class RateGate:
    """Lets requests in within the limits of their key, project, tenant and endpoint.

    With ``shared`` counters these decide while they can be asked. This process counts all that it lets through
    besides, and decides by its share alone while they cannot. ``refused`` is told of each refusal.
    """

    def __init__(
        self,
        shared: SharedCounters | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        refused: Callable[[Owner, Unit], None] = lambda owner, unit: None,
    ) -> None:
        self._shared = shared
        self._local = LocalCounters(clock)
        self._book = LimitBook()
        self._refused = refused

    @property
    def is_shared(self) -> bool:
        """Whether limits are counted together with other gateways now."""
        return self._shared is not None and self._shared.available

    def use(self, snapshot: Snapshot) -> None:
        """Take the limits of a new snapshot; what was counted stays."""
        self._book.use(snapshot)

    async def enter(self, demand: Demand) -> Permit:
        """Count one request, and the most tokens that it may use.

        Raises:
            ApiError: a limit has no room for it now, or never will (429).
        """
        limits = self._book.limits(demand.key, demand.endpoint)
        if not limits:
            return _FREE
        tokens = demand.most_tokens
        shared = self._shared
        if shared is None or not shared.available:
            return self._enter_alone(limits, tokens)
        if not shared.doubted:
            return await self._enter_shared(shared, limits, tokens)
        alone = self._enter_alone(limits, tokens)
        try:
            permit = await self._enter_shared(shared, limits, tokens, alone=alone)
        except BaseException:
            alone.withdraw()
            raise
        return permit

    def _enter_alone(self, limits: Sequence[Limit], tokens: int) -> _Permit:
        charges = self._charges(limits, tokens, shared=False)
        verdict = self._local.enter(charges)
        self._require(limits, charges, verdict)
        return _Permit(self._local, None, limits, charges, verdict, local_slot=verdict.slot)

    async def _enter_shared(
        self,
        shared: SharedCounters,
        limits: Sequence[Limit],
        tokens: int,
        *,
        alone: _Permit | None = None,
    ) -> _Permit:
        charges = self._charges(limits, tokens, shared=True)
        verdict = await shared.enter(charges)
        if verdict is None:
            return alone or self._enter_alone(limits, tokens)
        self._require(limits, charges, verdict)
        slot = self._local.note(charges) if alone is None else alone.local_slot
        return _Permit(self._local, shared, limits, charges, verdict, local_slot=slot)

    def _charges(self, limits: Sequence[Limit], tokens: int, *, shared: bool) -> list[Charge]:
        charges = []
        for limit in limits:
            cost = tokens if limit.unit is Unit.TOKENS else 1
            share = limit.here if shared else limit.alone
            if cost > share:
                self._refused(limit.owner, limit.unit)
                raise answers.too_large(limit, cost=cost, share=share)
            charges.append(Charge(limit.counter, share, cost))
        return charges

    def _require(self, limits: Sequence[Limit], charges: Sequence[Charge], verdict: Verdict) -> None:
        if verdict.refused >= 0:
            limit = limits[verdict.refused]
            self._refused(limit.owner, limit.unit)
            raise answers.exceeded(limits, charges, verdict)


class _Permit:
    """A request that was counted, here and, unless ``shared`` is None, in Redis."""

    __slots__ = ("_charges", "_limits", "_local", "_shared", "_verdict", "local_slot")

    def __init__(
        self,
        local: LocalCounters,
        shared: SharedCounters | None,
        limits: Sequence[Limit],
        charges: Sequence[Charge],
        verdict: Verdict,
        *,
        local_slot: int,
    ) -> None:
        self._local = local
        self._shared = shared
        self._limits = limits
        self._charges = charges
        self._verdict = verdict
        self.local_slot = local_slot

    @property
    def headers(self) -> Mapping[str, str]:
        return answers.headers(self._limits, self._charges, self._verdict)

    def settle(self, usage: Usage) -> Mapping[str, str]:
        used = usage.input_tokens + usage.output_tokens
        for limit, charge in zip(self._limits, self._charges, strict=True):
            if limit.unit is Unit.TOKENS and used != charge.cost:
                self._correct(charge, used - charge.cost)
        return _NONE

    def withdraw(self) -> None:
        for charge in self._charges:
            self._correct(charge, -charge.cost)

    def _correct(self, charge: Charge, amount: int) -> None:
        self._local.correct(self.local_slot, charge.counter, amount)
        if self._shared is not None:
            self._shared.correct(self._verdict.life, self._verdict.slot, charge.counter, amount)


class _Free:
    """The permit of a request that meets no limit."""

    headers = _NONE

    def settle(self, usage: Usage) -> Mapping[str, str]:
        return _NONE

    def withdraw(self) -> None:
        """Nothing was counted."""


_FREE: Final = _Free()
