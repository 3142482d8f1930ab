"""How a rollout reads on pages: how far it is, both revisions' numbers side by side, what can be decided."""

from __future__ import annotations

from typing import Any, Final

from clusters.endpoints.rollouts.outage import length
from clusters.endpoints.rollouts.policy import RolloutPolicy
from clusters.models import Endpoint, Rollout, RolloutWay
from portal.templatetags.berth import count, decimals, ms

Phase = Rollout.Phase

_TONES: Final = {
    Phase.WAITING: "warn", Phase.STARTING: "info", Phase.EVALUATING: "info", Phase.CANARY: "info",
    Phase.PROMOTED: "ok", Phase.ROLLED_BACK: "danger", Phase.FAILED: "danger", Phase.CANCELLED: "",
}  # fmt: skip
_NAMES: Final = {
    "ttft_p95_ms": "First token, p95",
    "itl_p95_ms": "Between tokens, p95",
    "errors_percent": "Failed requests",
    "cost_per_million_tokens": "Cost per million output tokens, full batches",
}
_FINDINGS: Final = {
    "kept": ("ok", "As good"), "worse": ("danger", "Worse"), "too-few": ("", "Too few to tell"),
    "not-judged": ("", "Not judged"),
}  # fmt: skip


def rollout_shown(rollout: Rollout, currency: str) -> dict[str, Any]:
    """Give a rollout as its card and its page show it."""
    policy = RolloutPolicy.from_document(rollout.policy)
    undone = rollout.phase in Rollout.UNDONE
    return {
        "rollout": rollout,
        "tone": _TONES[Phase(rollout.phase)],
        "active": rollout.is_active,
        "title": _title(rollout),
        "facts": _facts(rollout, policy),
        "steps": _steps(rollout, policy),
        "rows": _rows(rollout, currency),
        "requests": _requests(rollout, policy),
        "may_promote": rollout.phase == Phase.CANARY,
        "may_roll_back": rollout.is_active,
        "may_retry": undone,
        "may_dismiss": undone and rollout.dismissed_at is None,
    }


def rollout_card(endpoint: Endpoint, currency: str) -> dict[str, Any] | None:
    """Give the newest rollout of an endpoint while it is under way, or undone and not dismissed; else None."""
    newest = (
        Rollout.objects.filter(endpoint=endpoint).select_related("revision", "before").order_by("-id").first()
    )
    if newest is None or not (
        newest.is_active or (newest.phase in Rollout.UNDONE and not newest.dismissed_at)
    ):
        return None
    return rollout_shown(newest, currency)


def _title(rollout: Rollout) -> str:
    new = f"revision {rollout.revision.number}" if rollout.revision else "a new revision"
    return f"From revision {rollout.before.number} to {new}"


def _facts(rollout: Rollout, policy: RolloutPolicy) -> list[dict[str, str]]:
    facts = [{"label": "Way", "value": str(rollout.get_way_display())}]
    if rollout.phase == Phase.CANARY:
        facts.append({"label": "New revision gets", "value": f"{rollout.weight} % of the requests"})
    if rollout.way == RolloutWay.REPLACE:
        facts.append({"label": "Window", "value": policy.window})
        if rollout.outage_s is not None:
            told = f"about {length(rollout.outage_s)}, from {rollout.outage_from}"
            facts.append({"label": "Expected outage", "value": told})
    if rollout.lent:
        facts.append({"label": "Replicas let go for it", "value": str(rollout.lent)})
    facts.append({"label": "Asked for by", "value": rollout.started_by})
    if rollout.ended_at is not None:
        facts.append({"label": "Ended by", "value": rollout.ended_by or "Berth"})
    return facts


def _steps(rollout: Rollout, policy: RolloutPolicy) -> list[dict[str, Any]]:
    if rollout.way == RolloutWay.REPLACE or not policy.steps:
        return []
    done = rollout.phase == Phase.PROMOTED
    reached = rollout.step if rollout.step_since else -1
    return [
        {
            "weight": weight,
            "state": "done" if done or number < reached else "now" if number == reached else "to come",
        }
        for number, weight in enumerate(policy.steps)
    ]


def _rows(rollout: Rollout, currency: str) -> list[dict[str, str]]:
    rows = []
    for each in rollout.verdict.get("criteria", []):
        tone, finding = _FINDINGS[each["finding"]]
        rows.append(
            {
                "name": _NAMES[each["name"]],
                "old": _number(each["name"], each["old"], currency),
                "new": _number(each["name"], each["new"], currency),
                "limit": _number(each["name"], each["limit"], currency),
                "tone": tone,
                "finding": finding,
            }
        )
    return rows


def _requests(rollout: Rollout, policy: RolloutPolicy) -> str:
    if not rollout.verdict:
        return ""
    return (
        f"{count(rollout.verdict['new_requests'])} requests of the new revision and "
        f"{count(rollout.verdict['old_requests'])} of the old one in this step; {count(policy.requests)} of either "
        "are enough to tell."
    )


def _number(name: str, value: float | None, currency: str) -> str:
    if value is None:
        return "none yet"
    if name.endswith("_ms"):
        return str(ms(value))
    if name == "errors_percent":
        return f"{decimals(value)} %"
    return f"{value:.4g} {currency}"
