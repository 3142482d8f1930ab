"""From a re-plan of the fleet to moves worth proposing: what each saves, costs and risks, and in what order they go."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from clusters.endpoints.advisor.fleet import GPUS, Fleet, Place, Subject
from clusters.models import AdviceMove, AdvicePolicy
from clusters.planning.placement.nodes import nodes_for
from clusters.planning.plans import price_text
from clusters.planning.problem import Pool, Precision

_PLACES: Final = Decimal("0.000001")
_HOUR_S: Final = 3600
_DAY_H: Final = 24

WOULD_SWAP: Final = "a better place has no room before others leave it, and they cannot go first"


@dataclasses.dataclass(kw_only=True)
class Draft:
    """A change of one endpoint that may be proposed."""

    kind: str
    subject: Subject
    after: Place
    cost_before: Decimal
    cost_after: Decimal
    rollout_cost: Decimal = Decimal(0)
    load_s: float = 0.0
    step: int = 0
    makes_room: bool = False

    @property
    def saving(self) -> Decimal:
        """Money per hour that it saves; nothing is compared for one that waits."""
        return Decimal(0) if self.kind == AdviceMove.Kind.PLACE else self.cost_before - self.cost_after

    @property
    def in_place(self) -> bool:
        """Whether only replicas come or go, and engines that run stay."""
        current = self.subject.current
        same = (
            current is not None and dataclasses.replace(current, replicas=self.after.replicas) == self.after
        )
        return same and self.kind == AdviceMove.Kind.REPLAN

    @property
    def payback_h(self) -> float | None:
        """Hours until it has earned what its rollout costs; None where it never does."""
        return float(self.rollout_cost / self.saving) if self.saving > 0 else None

    def is_worth_it(self, policy: AdvicePolicy) -> bool:
        """Say whether it saves enough, soon enough, to be worth the change."""
        if self.saving <= 0 or self.saving < policy.least_saving_per_hour:
            return False
        if self.saving * 100 < policy.least_saving_percent * self.cost_before:
            return False
        return self.payback_h is not None and self.payback_h <= policy.payback_days * _DAY_H


def draft(subject: Subject, after: Place, fleet: Fleet, *, kind: str = AdviceMove.Kind.MOVE) -> Draft:
    """Price the change of one endpoint to ``after``.

    While the new engines load, both are held; then the old ones drain.
    """
    pools = fleet.pools[subject.endpoint.tenant.currency]
    tuning = fleet.tunings[subject.endpoint.slo_class.name]
    cost_before = subject.current.cost(pools) if subject.current else Decimal(0)
    cost_after = after.cost(pools)
    if subject.current is None:
        return Draft(
            kind=AdviceMove.Kind.PLACE, subject=subject, after=after, cost_before=cost_before,
            cost_after=cost_after,
        )  # fmt: skip
    found = Draft(kind=kind, subject=subject, after=after, cost_before=cost_before, cost_after=cost_after)
    if not found.in_place:
        found.load_s = subject.load_s(after, tuning)
        side_by_side = cost_after * Decimal(found.load_s) + cost_before * Decimal(tuning.drain_s)
        found.rollout_cost = (side_by_side / _HOUR_S).quantize(_PLACES)
    return found


def worth_proposing(
    drafts: Sequence[Draft], fleet: Fleet, policy: AdvicePolicy
) -> tuple[list[Draft], Counter[str]]:
    """Keep what is worth it, in an order in which each finds room; give it, and why others were left out."""
    left_out: Counter[str] = Counter()
    wanted = {each.after.pool for each in drafts if each.kind == AdviceMove.Kind.PLACE}
    kept = []
    for each in drafts:
        each.makes_room = (
            each.kind == AdviceMove.Kind.MOVE
            and not each.is_worth_it(policy)
            and each.subject.current is not None
            and each.subject.current.pool in wanted
        )
        if each.kind == AdviceMove.Kind.PLACE or each.makes_room or each.is_worth_it(policy):
            kept.append(each)
        else:
            left_out["it would save too little for a change"] += 1
    ordered = _ordered(kept, fleet)
    left_out[WOULD_SWAP] += len(kept) - len(ordered)
    return [each for each in ordered if _is_of_use(each, ordered)], +left_out


def _is_of_use(each: Draft, ordered: Sequence[Draft]) -> bool:
    if each.kind == AdviceMove.Kind.PLACE:
        return each.step > 1  # what fits now is placed without being asked
    current = each.subject.current
    return not each.makes_room or any(
        other.kind == AdviceMove.Kind.PLACE
        and other.step > each.step
        and current is not None
        and other.after.pool == current.pool
        for other in ordered
    )


def _ordered(drafts: Sequence[Draft], fleet: Fleet) -> list[Draft]:
    stock, pending, ordered, step = _Stock(fleet), list(drafts), list[Draft](), 1
    pending.sort(
        key=lambda each: (
            each.kind != AdviceMove.Kind.PLACE,  # who waits takes what is free before anybody else moves
            each.subject.endpoint.slo_class.priority if each.kind == AdviceMove.Kind.PLACE else 0,
            -each.saving,
            str(each.subject.endpoint.id),
        )
    )
    while pending:
        now = [each for each in pending if stock.take(each)]
        if not now:
            break
        for each in now:
            each.step = step
            stock.leave(each)
        ordered += now
        pending = [each for each in pending if not each.step]
        step += 1
    return ordered


class _Stock:
    """Free GPUs and quotas as moves take and leave them."""

    def __init__(self, fleet: Fleet) -> None:
        self._pools: dict[str, Pool] = {}
        for pools in fleet.pools.values():
            self._pools |= pools
        self._free = {pool.id: list(pool.free) for pool in self._pools.values()}
        self._left = {tenant: dict(left) for tenant, left in fleet.quota_left.items()}

    def take(self, each: Draft) -> bool:
        """Take what a change needs beside what runs; say whether there was room and quota."""
        after = each.after
        if not self._allowed(each):
            return False
        if each.in_place:
            return True  # it is only worth it with fewer replicas
        pool, free = self._pools[after.pool], self._free[after.pool]
        nodes = nodes_for(free, after.gpus_per_replica, after.replicas, gpus_per_node=pool.gpus_per_node)
        if nodes is None:
            return False
        self._add(after, nodes, -1)
        for resource, change in self._quota_change(each).items():
            self._left.get(each.subject.endpoint.tenant_id, {})[resource] -= change
        return True

    def leave(self, each: Draft) -> None:
        """Give back what a change leaves."""
        if each.subject.current is not None and not each.in_place:
            self._add(each.subject.current, each.subject.nodes, 1)

    def _allowed(self, each: Draft) -> bool:
        left = self._left.get(each.subject.endpoint.tenant_id, {})
        return all(change <= 0 or change <= left[name] for name, change in self._quota_change(each).items())

    def _quota_change(self, each: Draft) -> dict[str, int]:
        """Give by how much more is held of each limited resource once the change is over."""
        change: Counter[str] = Counter()
        for place, sign in ((each.after, 1), (each.subject.current, -1)):
            if place is not None:
                change[GPUS] += sign * place.gpus
                change[f"{GPUS}:{place.gpu}"] += sign * place.gpus
        left = self._left.get(each.subject.endpoint.tenant_id, {})
        return {name: amount for name, amount in change.items() if name in left}

    def _add(self, place: Place, nodes: Sequence[Sequence[int]], sign: int) -> None:
        free = self._free[place.pool]
        for replica in nodes:
            for node in replica:
                free[node] += sign * place.gpus_per_replica // len(replica)


def risks(each: Draft, waiting: int) -> list[str]:
    """Say what can go wrong with a change, or be noticed of it."""
    if each.kind == AdviceMove.Kind.PLACE or each.subject.current is None:
        return ["It fits once the moves before it have left their GPUs."]
    endpoint, order = each.subject.endpoint, each.subject.order
    before, after, currency = each.subject.current, each.after, endpoint.tenant.currency
    found = []
    if each.saving <= 0:
        what = f"{waiting} endpoint{'' if waiting == 1 else 's'} waiting"
        found.append(f"Costs {price_text(-each.saving)} {currency} more per hour, to make room for {what}.")
    if after.replicas == 1 and not each.in_place:
        found.append("One replica: should its new engine fail, nothing else serves.")
    if order.slo.is_latency_bound and not each.in_place:
        found.append(f"Class {order.slo.name}: answers are slower until its caches are warm.")
    if before.gpu != after.gpu:
        found.append(f"Another GPU type: speed on {after.gpu} is as planned, not as measured here.")
    if before.region != after.region:
        found.append(
            f"Crosses from {before.region} to {after.region}, within residency {endpoint.residency}."
        )
    if before.precision != after.precision:
        quality = order.model.quality.get(Precision(after.precision))
        note = f": {quality.note}" if quality else ""
        found.append(f"Answers may change: weights in {after.precision} instead of {before.precision}{note}")
    if each.kind == AdviceMove.Kind.REPLAN:
        found.append("Its order takes over the load that was measured.")
    if each.step > 1:
        found.append("It takes GPUs that other moves leave first.")
    return found


def figures(
    subjects: Sequence[Subject], ordered: Sequence[Draft], pools: Mapping[str, Pool]
) -> dict[str, Any]:
    """Sum what the subjects cost now, and after what is proposed; money as decimal strings."""
    now = sum((each.current.cost(pools) for each in subjects if each.current), Decimal(0))
    saving = sum((each.saving for each in ordered), Decimal(0))
    return {
        "endpoints": len(subjects),
        "cost_now": price_text(now),
        "cost_after": price_text(now - saving),
        "saving": price_text(saving),
        "moves": len(ordered),
    }
