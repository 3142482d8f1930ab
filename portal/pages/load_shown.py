"""Measured loads in people's words: the alert, the table beside the order, the correction, the re-plan."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from clusters.endpoints.load.learning import LOAD_FIELDS
from clusters.endpoints.load.measured import load_of
from clusters.models import Endpoint, LoadObservation
from clusters.planning.plans import PlanStatus
from clusters.planning.problem import LoadProfile
from portal.templatetags.berth import count, decimals, money, percent

#: How each number of a load is called and written.
WORDS: Final[dict[str, tuple[str, Callable[[Any], str]]]] = {
    "requests_per_second": ("Requests per second in a busy hour", lambda value: decimals(value, 3)),
    "burstiness": ("Busiest minute over the mean", lambda value: f"x {decimals(value, 1)}"),
    "input_tokens": ("Tokens in, mean", count),
    "input_cv": ("Spread of tokens in", decimals),
    "output_tokens": ("Tokens out, mean", count),
    "output_cv": ("Spread of tokens out", decimals),
    "prefix_share": ("Input that a cache held", lambda value: percent(value, 0)),
}


def load_alert(endpoint: Endpoint, currency: str, url: str) -> dict[str, str] | None:
    """Say that an endpoint's load differs from its order and what planning anew would come to; None where not."""
    observation = load_of(endpoint)
    if observation is None or observation.drifting_since is None:
        return None
    return {
        "title": "Measured load differs from the order",
        "text": f"{drift_text(observation)} {replan_text(observation.replan, currency)}".strip(),
        "url": url,
    }


def drift_text(observation: LoadObservation) -> str:
    """Say what differs, in a sentence."""
    parts = []
    for part in observation.drift:
        label, write = WORDS[part["name"]]
        parts.append(f"{label.lower()} {write(part['measured'])}, ordered {write(part['ordered'])}")
    return f"Since {observation.drifting_since:%Y-%m-%d %H:%M} UTC: {'; '.join(parts)}."


def replan_text(replan: dict[str, Any] | None, currency: str) -> str:
    """Say what planning anew comes to, in a sentence."""
    if replan is None:
        return ""
    if replan["status"] != PlanStatus.PLACED or replan["price_after"] is None:
        return f"It cannot be planned for that now: {replan['message']}."
    if not replan["changes"]:
        return "Planned for that it would run as it does now."
    difference = Decimal(replan["price_after"]) - Decimal(replan["price_now"])
    if difference < 0:
        return f"Planning anew saves {money(-difference, currency)} per hour."
    if difference > 0:
        return f"Planning anew costs {money(difference, currency)} more per hour and keeps the targets."
    return "Planning anew costs the same."


def load_rows(
    ordered: LoadProfile | Endpoint, measured: LoadProfile, outside: set[str]
) -> list[dict[str, Any]]:
    """Give the measured load beside the ordered one, number by number; ``outside`` are those that drift."""
    rows = []
    for name in LOAD_FIELDS:
        label, write = WORDS[name]
        before, after = getattr(ordered, name), getattr(measured, name)
        rows.append(
            {
                "label": label,
                "ordered": write(before),
                "measured": write(after),
                "outside": name in outside,
            }
        )
    return sorted(rows, key=lambda row: [words[0] for words in WORDS.values()].index(row["label"]))


def side_words(side: dict[str, Any] | None) -> str:
    """Write what a re-plan's document says of one side, in a line."""
    if not side:
        return "nothing"
    gpus = side["tp"] * side["pp"]
    return (
        f"{side['replicas']} x {gpus} {side['gpu']} in {side['pool']}, {side['precision']}, "
        f"batches of {side['max_batch_size']}"
    )
