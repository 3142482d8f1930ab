"""The operators' rules for the advisor: setting them, and what they let happen without being asked."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from clusters.endpoints.advisor.moves import moves_accept, moves_advance
from clusters.endpoints.advisor.runs import advice_run_start, advice_runs_revive
from clusters.models import AdviceMove, AdvicePolicy, AdviceRun
from tenants import scope
from tenants.audit import audit
from tenants.errors import Conflict, Invalid
from tenants.locks import claimed
from tenants.validation import clean

ACTOR: Final = "advisor, by the operators' policy"

#: What operators set.
FIELDS: Final = (
    "least_saving_percent", "least_saving_per_hour", "payback_days", "cool_down_hours", "concurrent_moves",
    "solve_limit_s", "automatic", "replan_drift", "days", "from_hour", "until_hour", "automatic_saving_per_hour",
    "moves_per_day", "run_every_hours",
)  # fmt: skip

_DAY: Final = dt.timedelta(hours=24)


@transaction.atomic
def policy_set(**values: Any) -> AdvicePolicy:
    """Change what is given of the policy.

    Raises:
        Invalid: there is no such rule, or a value is out of bounds.
    """
    unknown = sorted(set(values) - set(FIELDS))
    if unknown:
        raise Invalid(
            f"There is no rule {', '.join(unknown)}.",
            errors={name: [f"Choose from {', '.join(FIELDS)}."] for name in unknown},
        )
    policy = AdvicePolicy.objects.select_for_update().first() or AdvicePolicy()
    for name, value in values.items():
        setattr(policy, name, value)
    policy.days = sorted(set(policy.days))
    clean(policy, identified_by="automatic")
    policy.save()
    if not policy.automatic:
        with scope.platform("take back what nobody asked for"):
            AdviceMove.objects.filter(state=AdviceMove.State.ACCEPTED, begun_unasked=True).update(
                state=AdviceMove.State.PROPOSED, begun_unasked=False, decided_by="", state_reason=""
            )
    return policy


def advice_keep(now: dt.datetime | None = None) -> int:
    """Do what is due: wake runs, carry moves on, and what the policy lets happen; return how many moves changed."""
    now = now or timezone.now()
    with claimed("advice:keep") as mine:
        if not mine:
            return 0
        advice_runs_revive()
        _act_unasked(now)
        return moves_advance(now)


def _act_unasked(now: dt.datetime) -> None:
    with scope.platform("what the advisor may do unasked"):
        policy = AdvicePolicy.current()
        if not policy.automatic or not policy.is_open(now):
            return
        last = AdviceRun.objects.filter(automatic=True).order_by("-id").first()
        newest = AdviceRun.objects.filter(state=AdviceRun.State.FINISHED).order_by("-id").first()
        chosen = _eligible(newest, policy, now) if newest else []
    if newest and chosen:
        moves_accept(run=newest, moves=chosen, actor=ACTOR, unasked=True)
        audit(None, "advice.apply", run=str(newest.id), moves=[move.number for move in chosen])
    if last is None or now - last.created_at >= dt.timedelta(hours=policy.run_every_hours):
        try:
            run = advice_run_start(actor=ACTOR, automatic=True)
        except Conflict:
            return  # somebody else asked for one a moment ago
        audit(None, "advice.run", run=str(run.id))


def _eligible(run: AdviceRun, policy: AdvicePolicy, now: dt.datetime) -> list[AdviceMove]:
    """Give the moves of a run that the policy lets begin: the most saving first, so many in a day."""
    if run.finished_at is None or now - run.finished_at > dt.timedelta(hours=policy.run_every_hours):
        return []  # too old to act upon
    begun = AdviceMove.objects.filter(begun_unasked=True)
    left = (
        policy.moves_per_day
        - begun.filter(Q(begun_at__gte=now - _DAY) | Q(state=AdviceMove.State.ACCEPTED)).count()
    )
    kinds = [AdviceMove.Kind.MOVE, *([AdviceMove.Kind.REPLAN] if policy.replan_drift else [])]
    rows = run.moves.open().filter(kind__in=kinds, saving__gte=policy.automatic_saving_per_hour, saving__gt=0)
    busy = AdviceMove.objects.under_way().values("endpoint_id")
    found = [
        move
        for move in rows.exclude(endpoint_id__in=busy).order_by("step", "-saving", "number")
        # How answers are computed changes only when a person decides so.
        if move.before and move.before["precision"] == move.after["precision"]
    ]
    return found[: max(0, left)]
