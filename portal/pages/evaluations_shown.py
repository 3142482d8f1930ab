"""Evaluation sets and runs as pages show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from clusters.models import EvaluationRun, EvaluationSet, EvaluationVersion

_TONES: Final = {
    EvaluationRun.State.PASSED: "ok", EvaluationRun.State.FAILED: "danger", EvaluationRun.State.ERROR: "danger",
    EvaluationRun.State.WAIVED: "warn",
}  # fmt: skip
_ICONS: Final = {"ok": "check", "danger": "danger", "warn": "warn", "info": "info"}
KINDS: Final = {
    "contains": "Contains a text", "not_contains": "Does not contain a text", "equals": "Equals a text",
    "regex": "Matches a pattern", "json_schema": "JSON that fits a schema", "max_tokens": "No longer than",
    "similar": "Like the old revision's answer",
}  # fmt: skip


def demands(version: EvaluationVersion | EvaluationRun) -> str:
    """Say what has to be reached."""
    found = []
    if version.pass_percent is not None:
        found.append(f"{version.pass_percent.normalize():f} % of the weights")
    if version.most_drop is not None:
        found.append(f"at most {version.most_drop.normalize():f} points below the old revision")
    return " and ".join(found)


def sets_shown(sets: Iterable[EvaluationSet]) -> list[dict[str, Any]]:
    """Give sets with what their newest versions are; 1 query."""
    found = list(sets)
    versions = EvaluationVersion.objects.defer("sealed").filter(set__in=found)
    newest = {(version.set_id, version.number): version for version in versions}
    return [
        {
            "set": each,
            "version": (version := newest[each.id, each.version]),
            "demands": demands(version),
            "platform": each.tenant_id is None,
        }
        for each in found
    ]


def run_shown(run: EvaluationRun) -> dict[str, Any]:
    """Give a run with its badge and its score in words."""
    tone = _TONES.get(EvaluationRun.State(run.state), "info")
    asked = f"{len(run.results)} of {run.version.prompts} prompts"
    return {
        "run": run,
        "tone": tone,
        "icon": _ICONS[tone],
        "score": asked if run.state in EvaluationRun.ACTIVE else _percent(run.score),
        "before": _percent(run.score_before) if run.score_before is not None else "",
        "demands": demands(run),
        "active": run.state in EvaluationRun.ACTIVE,
        "acceptable": run.state in EvaluationRun.ACCEPTABLE and run.decided_at is None,
    }


def results_shown(run: EvaluationRun) -> list[dict[str, Any]]:
    """Give what came of each prompt, those that lost something first."""
    rows = []
    for number, result in enumerate(run.results, 1):
        before = result["before"] or [None] * len(result["checks"])
        checks = [
            {
                "label": KINDS.get(check["kind"], check["kind"]),
                "weight": check["weight"],
                "passed": check["passed"],
                "reason": check["reason"],
                "old": None if old is None else old["passed"],
            }
            for check, old in zip(result["checks"], before, strict=True)
        ]
        lost = any(check["passed"] is False for check in checks)
        rows.append({"number": number, "name": result["name"], "checks": checks, "lost": lost})
    return sorted(rows, key=lambda row: not row["lost"])


def _percent(score: Any) -> str:
    return "–" if score is None else f"{score.normalize():f} %"
