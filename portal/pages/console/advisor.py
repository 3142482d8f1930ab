"""The advisor: plan the fleet anew, see what moving would save, and have it done."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from django.core.paginator import Paginator
from django.db.models import Case, Count, IntegerField, Q, Value, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from clusters.endpoints.advisor.moves import moves_accept, moves_dismiss
from clusters.endpoints.advisor.runs import advice_run_start
from clusters.models import AdviceMove, AdvicePolicy, AdviceRun
from portal.pages.base import ConsolePage
from portal.templatetags.berth import duration, money
from tenants.audit import audit
from tenants.errors import Invalid, NotFound
from tenants.roles import PlatformAction

PAGE_SIZE: Final = 100
RUNS_SHOWN: Final = 15
EVERY_S: Final = 3

_RUN_STATES: Final = {
    AdviceRun.State.WAITING: "waiting",
    AdviceRun.State.RUNNING: "updating",
    AdviceRun.State.FINISHED: "completed",
    AdviceRun.State.FAILED: "failed",
}
_MOVE_STATES: Final = {
    AdviceMove.State.PROPOSED: "pending",
    AdviceMove.State.ACCEPTED: "waiting",
    AdviceMove.State.APPLYING: "updating",
    AdviceMove.State.APPLIED: "completed",
    AdviceMove.State.REFUSED: "refused",
    AdviceMove.State.DISMISSED: "cancelled",
    AdviceMove.State.OUTDATED: "stale",
}
#: What may still be decided upon comes first, then what is under way.
_RANK: Final = {
    AdviceMove.State.PROPOSED: 0,
    AdviceMove.State.ACCEPTED: 1,
    AdviceMove.State.APPLYING: 1,
}


class Advisor(ConsolePage):
    """The newest run, or an earlier one, with its moves and what became of them."""

    action = PlatformAction.VIEW_FLEET
    reason = "show what the advisor proposes for endpoints of all tenants"

    def get(self, request: HttpRequest, id: Any = None) -> HttpResponse:
        newest = AdviceRun.objects.first()
        under_way = newest if newest and newest.is_under_way else None
        run = find_run(id) if id else _newest_result()
        policy = AdvicePolicy.current()
        context: dict[str, Any] = {
            "run": run,
            "is_newest": run is not None and run == _newest_result(),
            "under_way": under_way,
            "failed": newest if newest and newest.state == AdviceRun.State.FAILED else None,
            "policy": policy,
            "policy_words": policy_words(policy),
            "runs": _history(),
            "every_s": EVERY_S,
            "state_url": f"{reverse('console:advisor-state')}?seen={_seen()}",
            "polls": under_way is not None or AdviceMove.objects.under_way().exists(),
        }
        if id:
            context["breadcrumbs"] = [advisor_crumb(), {"label": f"{run.created_at:%Y-%m-%d %H:%M} UTC"}]
        if run is not None:
            context |= _moves(request, run) | {
                "totals": [_total(each) for each in run.totals],
                "kept": sorted(run.kept.items(), key=lambda item: (-item[1], item[0])),
                "kept_count": sum(run.kept.values()),
            }
        return self.render("console/advisor.html", context)


class AdvisorState(ConsolePage):
    """Tells a page that looks whether anything changed since it was shown."""

    action = PlatformAction.VIEW_FLEET
    reason = "see whether the advisor's moves go on"

    def get(self, request: HttpRequest) -> HttpResponse:
        if request.GET.get("seen") == _seen():
            return HttpResponse(status=204)
        if AdviceMove.objects.open().exists() and not _finished_meanwhile(request.GET.get("seen", "")):
            # Somebody may be choosing moves right now: the page must not change under their hands.
            return self.render("console/advisor_changed.html")
        return HttpResponse(headers={"HX-Refresh": "true"})


class AdvisorRun(ConsolePage):
    """Starts a run."""

    action = PlatformAction.MANAGE_FLEET
    reason = "have the fleet of all tenants planned anew"
    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        run = advice_run_start(actor=self.actor)
        audit(request.user, "advice.run", run=str(run.id))
        return redirect("console:advisor")


class AdvisorDecide(ConsolePage):
    """Applies or dismisses moves of a run: those that were chosen, or all that are proposed."""

    action = PlatformAction.MANAGE_FLEET
    reason = "decide on moves of endpoints of all tenants"
    http_method_names = ["post"]

    def post(self, request: HttpRequest, id: Any) -> HttpResponse:
        run = find_run(id)
        decision = request.POST.get("decision", "")
        if decision == "apply-all":
            chosen = list(run.moves.open())
        else:
            numbers = [
                int(each) for each in request.POST.getlist("move") if each.isdecimal() and len(each) < 9
            ]
            chosen = list(run.moves.filter(number__in=numbers))
        if not chosen:
            raise Invalid("No move was chosen. Tick those that are meant, then decide.")
        count = f"{len(chosen)} move{'' if len(chosen) == 1 else 's'}"
        if decision == "dismiss":
            moves_dismiss(run=run, moves=chosen, actor=self.actor)
            self.say(f"{count} dismissed.")
        elif decision in ("apply", "apply-all"):
            moves_accept(run=run, moves=chosen, actor=self.actor)
            self.say(f"{count} accepted. Each is checked again when its turn comes.")
        else:
            raise Invalid("Choose to apply or to dismiss.")
        action = "advice.dismiss" if decision == "dismiss" else "advice.apply"
        audit(request.user, action, run=str(run.id), moves=[move.number for move in chosen])
        return redirect("console:advisor")


def find_run(id: Any) -> AdviceRun:
    """Find a run.

    Raises:
        NotFound: there is none.
    """
    run = AdviceRun.objects.filter(id=id).first()
    if run is None:
        raise NotFound("There is no such run.")
    return run


def advisor_crumb() -> dict[str, str]:
    """Give the page's place in the breadcrumbs."""
    return {"label": "Advisor", "url": reverse("console:advisor")}


def policy_words(policy: AdvicePolicy) -> str:
    """Say in one sentence what may be applied without being asked."""
    if not policy.automatic:
        return "Nothing is applied unasked."
    days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    when = ", ".join(days[day] for day in policy.days) if policy.days else "every day"
    return (
        f"Up to {policy.moves_per_day} moves a day that save {money(policy.automatic_saving_per_hour)} per hour or "
        f"more are applied unasked, {when} from {policy.from_hour}:00 to {policy.until_hour}:00 UTC."
    )


def _newest_result() -> AdviceRun | None:
    return AdviceRun.objects.filter(state=AdviceRun.State.FINISHED).first()


def _history() -> list[dict[str, Any]]:
    rows = AdviceRun.objects.annotate(
        applied=Count("moves", filter=Q(moves__state=AdviceMove.State.APPLIED)), proposed=Count("moves")
    )
    return [
        {
            "run": run,
            "state": _RUN_STATES[AdviceRun.State(run.state)],
            "took": duration(run.seconds),
            "savings": [money(each["saving"], each["currency"]) for each in run.totals],
        }
        for run in rows[:RUNS_SHOWN]
    ]


def _moves(request: HttpRequest, run: AdviceRun) -> dict[str, Any]:
    rank = Case(
        *(When(state=state, then=Value(rank)) for state, rank in _RANK.items()),
        default=Value(2),
        output_field=IntegerField(),
    )
    rows = run.moves.select_related("endpoint__tenant").order_by(rank, "step", "-saving", "number")
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    proposed = run.moves.open().count()
    return {
        "moves": [_move(each) for each in page],
        "proposed": proposed,
        "dismissable": run.moves.filter(
            state__in=[AdviceMove.State.PROPOSED, AdviceMove.State.ACCEPTED]
        ).exists(),
        "page_note": f"{page.paginator.count} moves, page {page.number} of {page.paginator.num_pages}",
        "newer_url": f"?page={page.number - 1}" if page.has_previous() else "",
        "older_url": f"?page={page.number + 1}" if page.has_next() else "",
    }


def _move(move: AdviceMove) -> dict[str, Any]:
    return {
        "move": move,
        "state": _MOVE_STATES[AdviceMove.State(move.state)],
        "choosable": move.state in (AdviceMove.State.PROPOSED, AdviceMove.State.ACCEPTED),
        "before": _place(move.before),
        "after": _place(move.after),
        "payback": duration(move.payback_h * 3600) if move.payback_h is not None else "",
    }


def _place(shape: Mapping[str, Any] | None) -> dict[str, str] | None:
    if shape is None:
        return None
    pipeline = f" x PP {shape['pp']}" if shape["pp"] > 1 else ""
    return {
        "pool": shape["pool"],
        "region": shape["region"],
        # Kept together: the narrowest columns of the table.
        "shape": f"{shape['replicas']} x {shape['tp'] * shape['pp']} {shape['gpu']}".replace(" ", "\xa0"),
        "detail": f"{shape['precision']}, TP {shape['tp']}{pipeline}",
    }


def _total(total: Mapping[str, Any]) -> dict[str, Any]:
    currency = total["currency"]
    distance = total.get("distance")
    proven = "No placement was looked for."
    if distance is not None:
        more = f"more than {money(distance, currency)} per hour " if Decimal(distance) else ""
        proven = f"No placement is {more}better than the solver's, which took {total['seconds']:.1f} s."
    return {
        "currency": currency,
        "now": money(total["cost_now"], currency),
        "after": money(total["cost_after"], currency),
        "saving": money(total["saving"], currency),
        "endpoints": total["endpoints"],
        "moves": total["moves"],
        "proven": proven,
    }


def _seen() -> str:
    """Digest what a page that waits looks for, led by the newest run's state."""
    run = AdviceRun.objects.first()
    states = AdviceMove.objects.filter(run=_newest_result()).values_list("number", "state", "state_reason")
    digest = hashlib.blake2s(repr(sorted(states)).encode(), digest_size=8).hexdigest()
    return f"{run.state if run else ''}-{digest}"


def _finished_meanwhile(seen: str) -> bool:
    return seen.split("-")[0] in (AdviceRun.State.WAITING, AdviceRun.State.RUNNING)
