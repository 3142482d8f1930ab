"""One look at one endpoint: decide, and carry the decision out within what quota, budget, policy and pool allow."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Callable
from typing import Final

from django.db import transaction

from billing.errors import OverBudget
from clusters.endpoints import placement
from clusters.endpoints.approvals.asking import is_held
from clusters.endpoints.approvals.figures import running
from clusters.endpoints.approvals.judging import NeedsApproval, judge
from clusters.endpoints.autoscaling import giving_way
from clusters.endpoints.autoscaling.anew import plan_anew
from clusters.endpoints.autoscaling.bounds import (
    DecidedBy,
    agreed_replicas,
    bounds_now,
    decided_by,
    policy_of,
)
from clusters.endpoints.autoscaling.deciding import Decision, Memory, Standing, decide
from clusters.endpoints.autoscaling.decisions import decision_write, write_scaling
from clusters.endpoints.autoscaling.handed_over import to_reserve
from clusters.endpoints.autoscaling.hearing import signals_of
from clusters.endpoints.autoscaling.making_room import make_room
from clusters.endpoints.autoscaling.setting import schedules_of
from clusters.endpoints.conditions import set_condition
from clusters.endpoints.history import record
from clusters.endpoints.planning import Market
from clusters.endpoints.rollouts.closing import rollout_of
from clusters.endpoints.states import BUDGET_SPENT, POLICY_REFUSED
from clusters.endpoints.wake import wake
from clusters.endpoints.wishes import for_update
from clusters.errors import PolicyRefused
from clusters.inventory.capacity import capacities
from clusters.models import (
    Cluster,
    Condition,
    Endpoint,
    EndpointScaling,
    Replica,
    Revision,
    ScalingDecision,
    Wanted,
)
from clusters.planning.placement.nodes import nodes_for
from clusters.planning.plans import Plan
from tenants import scope
from tenants.announcements import announce
from tenants.errors import BerthError, Conflict, OverQuota

#: Endpoints that cannot be scaled now are looked at again so much later.
AWAY_S: Final = 60.0
#: What changed while it was looked at is looked at again so much later.
CHANGED_S: Final = 1.0
NO_CAPACITY: Final = "NoCapacity"
_Outcome = ScalingDecision.Outcome


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why a decision cannot be carried out; ``reason`` is the condition's.

    ``kept``: there are free GPUs for one more replica, but they are kept for higher classes.
    """

    reason: str
    message: str
    kept: bool = False


def endpoint_autoscale(*, tenant_id: uuid.UUID, endpoint_id: uuid.UUID, now: dt.datetime) -> int | None:
    """Look at one endpoint and scale it where that is right; give its replicas after, None where nobody may."""
    with scope.tenant(tenant_id):
        look = _Look.at(endpoint_id, now)
        if look is None:
            return None
        if look.decision.replicas == look.revision.replicas:
            look.settle()
            return look.revision.replicas
        lacks = look.carry_out()
    # Of other tenants' endpoints in transactions of their own: nobody waits for two of them at once.
    if (
        lacks
        and look.presses
        and not make_room(look.endpoint, look.revision, gpus=lacks, now=now)
        and look.anew
    ):
        _place_anew(look, look.anew, now)
    return look.revision.replicas


@dataclasses.dataclass
class _Look:
    """What one look found; the tenant's scope is open."""

    endpoint: Endpoint
    scaling: EndpointScaling
    revision: Revision
    decision: Decision
    least: int  # its floor now
    until: dt.datetime | None  # when schedules change the bounds
    presses: bool  # whether others make room for it; not for what its cluster may never hand out
    now: dt.datetime
    anew: Plan | None = None  # by which it is placed anew if nobody makes room where it sleeps

    @classmethod
    def at(cls, endpoint_id: uuid.UUID, now: dt.datetime) -> _Look | None:
        scaling = (
            EndpointScaling.objects.select_related(
                "endpoint__tenant", "endpoint__project", "endpoint__slo_class", "endpoint__model"
            )
            .filter(endpoint=endpoint_id, enabled=True)
            .first()
        )
        if scaling is None:
            return None
        endpoint = scaling.endpoint
        revision = _scalable(endpoint)
        # What waits for a place or for approval is left to come to its end first.
        if (
            revision is None
            or endpoint.wanted != Wanted.RUNNING
            or revision.applied_at is None
            or is_held(endpoint)
        ):
            # What is paused is due again once it is ready.
            running_wanted = endpoint.wanted == Wanted.RUNNING
            write_scaling(scaling, {"due_at": now + dt.timedelta(seconds=AWAY_S) if running_wanted else None})
            return None
        schedules = schedules_of(endpoint)
        bounds = bounds_now(endpoint, scaling, revision, schedules, now=now)
        signals = signals_of(endpoint, scaling, now=now)
        memory = Memory(
            quiet_since=scaling.quiet_since,
            idle_since=scaling.idle_since,
            burnt=scaling.burnt,
            burnt_at=scaling.burnt_at,
        )
        by_berth = decided_by(scaling, revision) is DecidedBy.BERTH
        if by_berth:
            ready = Replica.objects.filter(revision=revision, gone_at=None, phase=Replica.Phase.READY)
            decision = decide(
                signals,
                Standing(
                    replicas=revision.replicas,
                    ready=ready.count(),
                    since=max(scaling.since, revision.created_at),
                ),
                policy_of(endpoint.slo_class, revision, bounds),
                memory,
                now=now,
            )
        else:
            decision = to_reserve(scaling, revision, memory)
        return cls(
            endpoint=endpoint,
            scaling=scaling,
            revision=revision,
            decision=decision,
            least=bounds.floor,
            until=bounds.until,
            presses=by_berth or (signals.wanted and not revision.replicas),
            now=now,
        )

    def settle(self) -> None:
        """Remember what was seen; nothing is written where nothing changed."""
        self._keep(wants=0)
        self._clear()

    def carry_out(self) -> int:
        """Bring it to what was decided, or as near as may be; give how many GPUs its pool lacks for it."""
        before, wish = self.revision.replicas, self.decision.replicas
        seen = self.endpoint.generation
        self.endpoint = for_update(self.endpoint, None)
        again = _scalable(self.endpoint)
        found = None if again is None else (again.id, again.replicas, self.endpoint.generation)
        if again is None or found != (self.revision.id, before, seen):
            # Somebody was faster, be it with other bounds alone: what they said holds.
            write_scaling(self.scaling, {"due_at": self.now + dt.timedelta(seconds=CHANGED_S)})
            return 0
        self.revision = again
        if wish < before:
            placement.resize(self.endpoint, again, wish)
            self._done(before, wish, str(self.decision.why), self.decision.reason)
            self._keep(wants=0, changed=True)
            self._clear()
            return 0
        fits, refusal = self._room(wish)
        for step in dict.fromkeys(each for each in (fits, before + 1) if before < each <= fits):
            error = self._try(step)
            if error is None:
                lacks = 0
                if fits == step < wish:
                    lacks, denied = self._lacks(step, wish)
                    refusal = denied or refusal
                reason = self.decision.reason
                if step < wish:
                    reason += (
                        f" {wish} would be right; {refusal.message if refusal else 'more is not allowed.'}"
                    )
                self._done(before, step, str(self.decision.why), reason)
                self._keep(wants=step + lacks if lacks else 0, changed=True)
                if step == wish:
                    self._clear()
                return lacks * again.gpus_per_replica
            refusal = error
        assert refusal is not None
        lacks = 0
        if refusal.reason == NO_CAPACITY:
            lacks, denied = self._lacks(before, wish)
            if lacks and not before and not refusal.kept and rollout_of(self.endpoint) is None:
                denied = self._plan_anew(refusal)
            refusal = denied or refusal
        self._refused(before, wish, refusal, wants=before + lacks if lacks else 0)
        return lacks * again.gpus_per_replica

    def _lacks(self, has: int, wish: int) -> tuple[int, Refusal | None]:
        """Say for how many replicas it lacks nothing but GPUs, and what else stands against even one."""
        for step in dict.fromkeys((wish, has + 1)):
            denied = self._asked(step, placement.keep_to_limits)
            if denied is None:
                return step - has, None
        return 0, denied

    def _room(self, wish: int) -> tuple[int, Refusal | None]:
        """Say how many replicas fit, and why no more: free GPUs, less what is kept for higher classes."""
        revision, before = self.revision, self.revision.replicas
        (capacity,) = capacities(lock=True, pool_ids=[revision.pool_id])
        for more in range(wish - before, 0, -1):
            found = nodes_for(
                capacity.free_per_node,
                revision.gpus_per_replica,
                more,
                gpus_per_node=capacity.pool.gpus_per_node,
            )
            if found is not None:
                break
        else:
            more = 0
        why, kept_back = f"{revision.pool} has {capacity.free} free GPUs.", False
        above = max(before, self.least)
        kept = giving_way.kept_for_higher(capacity.pool, self.endpoint, now=self.now)
        spare = max(0, capacity.free - kept) // revision.gpus_per_replica
        bounded = max(min(before + more, above), min(before + more, before + spare))
        if bounded < before + more:
            kept_back = bounded == before and revision.cluster.state == Cluster.State.ACTIVE
            more = bounded - before
            why = f"{revision.pool} keeps {kept} of {capacity.free} free GPUs for higher classes."
        if before + more >= wish:
            return wish, None
        return before + more, Refusal(NO_CAPACITY, why, kept=kept_back)

    def _plan_anew(self, refusal: Refusal) -> Refusal | None:
        try:
            self.anew = plan_anew(self.endpoint, self.revision)
        except NeedsApproval as error:
            text = f"{refusal.message} Elsewhere: {error} Pause and resume it to ask for approval."
            return Refusal("NeedsApproval", text)
        return None

    def _try(self, replicas: int) -> Refusal | None:
        return self._asked(replicas, _resize)

    def _asked(self, replicas: int, carry: Callable[[Endpoint, Revision, int], None]) -> Refusal | None:
        endpoint, revision = self.endpoint, self.revision
        try:
            with transaction.atomic():
                agreed = agreed_replicas(endpoint, revision)
                if replicas > agreed:
                    market = Market.read(tenant=endpoint.tenant, besides=endpoint)
                    judge(
                        endpoint,
                        running(endpoint, revision, market, replicas=replicas),
                        before=running(endpoint, revision, market, replicas=agreed),
                        granted=None,
                    )
                carry(endpoint, revision, replicas)
        except NeedsApproval as error:
            text = f"{error} Scale it by hand to ask for approval, or lower the ceiling."
            return Refusal("NeedsApproval", text)
        except (OverQuota, OverBudget, PolicyRefused, Conflict) as error:
            revision.refresh_from_db(fields=["replicas"])
            return Refusal(_REASONS.get(type(error), NO_CAPACITY), error.message)
        return None

    def _done(self, before: int, after: int, why: str, reason: str) -> None:
        decision_write(self.endpoint, self.revision, before, after, why=why, reason=reason, now=self.now)
        wake(self.endpoint)
        announce()

    def _refused(self, before: int, wish: int, refusal: Refusal, *, wants: int) -> None:
        held = f"{self.decision.reason} {wish} replicas would be right, but: {refusal.message}"
        news = set_condition(
            self.endpoint, Condition.Type.SCALING, Condition.Status.FALSE, refusal.reason, held
        )
        last = ScalingDecision.objects.filter(endpoint=self.endpoint).order_by("-id").first()
        told = last is not None and (last.outcome, last.before, last.after) == (
            _Outcome.REFUSED,
            before,
            wish,
        )
        if news and not told:
            decision_write(
                self.endpoint,
                self.revision,
                before,
                wish,
                why=str(self.decision.why),
                reason=held,
                now=self.now,
                outcome=_Outcome.REFUSED,
            )
        if news and not before:
            self._tell()
        self._keep(wants=wants)

    def _keep(self, *, wants: int | None = None, changed: bool = False) -> None:
        memory = self.decision.memory
        wait = self.decision.look_again_s
        due = None if wait is None else self.now + dt.timedelta(seconds=wait)
        if self.until is not None:
            due = self.until if due is None else min(due, self.until)
        values: dict[str, object] = dataclasses.asdict(memory)
        if wants is not None:
            values["wants"] = wants if self.presses else 0
        if changed:
            values |= {"since": self.now, "wanted_at": None}
        values["due_at"] = due
        write_scaling(self.scaling, values)

    def _clear(self) -> None:
        held = Condition.objects.filter(endpoint=self.endpoint, type=Condition.Type.SCALING).first()
        if held is not None and held.status != Condition.Status.TRUE:
            text = "It has as many replicas as are right."
            set_condition(self.endpoint, Condition.Type.SCALING, Condition.Status.TRUE, "WithinBounds", text)
            if not self.revision.replicas:
                self._tell()

    def _tell(self) -> None:
        """Have its state say whether it can be woken, and gateways know it."""
        wake(self.endpoint)
        announce()


def _resize(endpoint: Endpoint, revision: Revision, replicas: int) -> None:
    placement.resize(endpoint, revision, replicas)
    newest = placement.current_revision(endpoint)
    if newest is not None and newest.id != revision.id:  # budgets count a change once, by what is to serve
        placement.claim_for(endpoint, newest, refuse=False)


def _scalable(endpoint: Endpoint) -> Revision | None:
    """Give the revision whose replicas may be chosen now.

    A change that is under way is left to come to its end first, but for a revision before it that sleeps: what is new
    gets no request yet, and those that come have nobody else to answer them.
    """
    wanted = list(
        Revision.objects.select_related("cluster__region", "pool__cluster__region")
        .filter(endpoint=endpoint, retired_at=None)
        .order_by("-number")[:2]
    )
    rollout = rollout_of(endpoint)
    if rollout is not None:
        return next((each for each in wanted if each.id == rollout.before_id and not each.replicas), None)
    return wanted[0] if len(wanted) == 1 else None


def _place_anew(look: _Look, plan: Plan, now: dt.datetime) -> None:
    """Have what sleeps in a pool without room placed wherever there is, or wait for capacity as an order does."""
    with scope.tenant(look.endpoint.tenant_id):
        endpoint = for_update(look.endpoint, None)
        revision = placement.current_revision(endpoint)
        if revision is None or revision.id != look.revision.id or revision.replicas:
            return
        placement.retire_all(endpoint)
        reason = f"{look.decision.reason} {revision.pool} has no room: it is placed anew"
        chosen = plan.configuration
        if chosen is None:
            record(endpoint, "autoscaling", f"{reason}.")
        else:
            decision_write(
                endpoint,
                revision,
                0,
                chosen.replicas,
                why=str(look.decision.why),
                reason=f"{reason}, by its plan in {chosen.pool}.",
                now=now,
                price_after=chosen.price_per_hour,
            )
        EndpointScaling.objects.filter(id=look.scaling.id).update(since=now, wants=0, wanted_at=None)
        wake(endpoint)
        announce()


_REASONS: Final[dict[type[BerthError], str]] = {
    OverQuota: "OverQuota",
    OverBudget: BUDGET_SPENT,
    PolicyRefused: POLICY_REFUSED,
}
