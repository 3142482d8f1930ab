"""The gate for pipelines: whether a change, or what was measured of it, keeps SLO, cost and quality."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from django.conf import settings

from clusters.endpoints import placement
from clusters.endpoints.blueprint import SpecUnusable
from clusters.endpoints.evaluations.sets import sets_for
from clusters.endpoints.evaluations.traits import planned_changes
from clusters.endpoints.load.replanning import released
from clusters.endpoints.load.running import Running, keeps_targets
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.pricing import held_price
from clusters.models import Endpoint, EvaluationRun, Revision, SloClass
from clusters.planning.performance.queueing import Latencies
from clusters.planning.plans import Configuration, Plan
from tenants.errors import Invalid

#: By how much what runs may be exceeded, unless the pipeline says otherwise.
USUAL_COST_FACTOR: Final = Decimal("1.1")
#: Fewer requests tell nothing of a p95.
LEAST_REQUESTS: Final = 100
#: What a report may say of a million tokens, input and output, at prices of tokens or of GPUs.
_COSTS: Final = ("cost_per_million_tokens", "gpu_cost_per_million_tokens")
_MILLION: Final = Decimal(1_000_000)
_PLACES: Final = Decimal("0.0001")
_NOTHING_RUNS: Final = "Nothing runs that it could be compared with; a factor cannot be judged."


class Standing(enum.StrEnum):
    """How a criterion stands. Only kept and not judged let a pipeline pass."""

    KEPT = "kept"
    BROKEN = "broken"
    UNDECIDED = "undecided"  # it cannot be said yet, or not from what was given
    NOT_JUDGED = "not-judged"  # a rollout judges it later


@dataclasses.dataclass(frozen=True, kw_only=True)
class Criterion:
    """One of slo, cost and quality, by the plan, a report or an evaluation; ``figures`` are what it was judged by."""

    name: str
    source: str
    standing: Standing
    message: str
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gate:
    """What a pipeline is told."""

    criteria: Sequence[Criterion]

    @property
    def kept(self) -> bool:
        return not self.broken

    @property
    def broken(self) -> list[str]:
        """Names of the criteria that do not let the change pass, each once."""
        lost = (Standing.BROKEN, Standing.UNDECIDED)
        return list(dict.fromkeys(each.name for each in self.criteria if each.standing in lost))


def endpoint_gate(
    *,
    endpoint: Endpoint,
    terms: OrderTerms | None = None,
    report: Sequence[Mapping[str, Any]] = (),
    run: EvaluationRun | None = None,
    cost_factor: Decimal | None = None,
    latency_factor: float | None = None,
) -> Gate:
    """Judge a change of ``endpoint`` before it is made; nothing is written.

    ``terms`` are those of the order with the change, which the planner judges. ``report`` are the targets of a
    replay's report: the last is judged, and compared with the first where there are two. ``run`` is the evaluation that
    stands for the quality. Cost may be ``cost_factor`` times that of what runs (None: the usual factor, where there is
    anything to compare with), the p95s ``latency_factor`` times theirs (None: only the class's targets count).

    Raises:
        Invalid: there is nothing to judge, or the terms contradict each other.
    """
    if terms is None and not report and run is None:
        raise Invalid("Give a change, a report or an evaluation: there is nothing to judge.")
    found: list[Criterion] = []
    proposal = None if terms is None else _Proposal.of(endpoint, terms)
    if proposal is not None:
        found += _planned(proposal, cost_factor, latency_factor)
    if report:
        slo_class = terms.slo_class if terms is not None else endpoint.slo_class
        found += _measured(slo_class, report, cost_factor, latency_factor, endpoint.tenant.currency)
    if run is not None:
        found.append(_evaluated(run))
    elif proposal is not None:
        found += _to_evaluate(proposal)
    return Gate(criteria=found)


# By the plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Proposal:
    """A change and what the planner makes of it; the GPUs that are held count as free, for getting there is a rollout's
    to manage. ``current`` is what runs now."""

    endpoint: Endpoint
    terms: OrderTerms
    current: Revision | None
    market: Market
    plan: Plan

    @classmethod
    def of(cls, endpoint: Endpoint, terms: OrderTerms) -> _Proposal:
        current = placement.current_revision(endpoint)
        market = Market.read(tenant=endpoint.tenant, besides=endpoint)
        market = dataclasses.replace(market, pools=released(market.pools, current))
        return cls(endpoint=endpoint, terms=terms, current=current, market=market, plan=market.plan(terms))


def _planned(
    proposal: _Proposal, cost_factor: Decimal | None, latency_factor: float | None
) -> list[Criterion]:
    terms, market, chosen = proposal.terms, proposal.market, proposal.plan.configuration
    if chosen is None:
        return [Criterion(name="slo", source="plan", standing=Standing.BROKEN, message=proposal.plan.message)]
    expected = Running.of_plan(chosen, terms.model).under(terms.load, market.performance)
    now = _now(proposal)
    return [
        _planned_slo(terms.slo_class, expected, now, latency_factor),
        _planned_cost(proposal, chosen, now, cost_factor),
    ]


def _now(proposal: _Proposal) -> Latencies | None:
    """Predict what runs now under the load that the change is judged by."""
    if proposal.current is None:
        return None
    try:
        running = Running.of_revision(proposal.current, proposal.endpoint.model)
    except SpecUnusable:
        return None
    return running.under(proposal.terms.load, proposal.market.performance)


def _planned_slo(
    slo_class: SloClass, expected: Latencies, now: Latencies | None, latency_factor: float | None
) -> Criterion:
    pairs = [
        ("TTFT p95", "ttft_p95_ms", slo_class.ttft_p95_ms),
        ("ITL p95", "itl_p95_ms", slo_class.itl_p95_ms),
    ]
    figures: dict[str, Any] = {}
    wrong = [] if expected.stable else ["requests would pile up without end"]
    for title, name, target in pairs:
        value, before = getattr(expected, name), getattr(now, name) if now and now.stable else None
        figures |= {name: _number(value), f"{name}_now": _number(before), f"{name}_target": target}
        wrong += _slower(title, value, target, before, latency_factor)
    unknown = _NOTHING_RUNS if latency_factor is not None and now is None else ""
    kept = "The predicted p95s keep the class's targets."
    return _criterion("slo", "plan", wrong, kept, figures, unknown=unknown)


def _planned_cost(
    proposal: _Proposal, chosen: Configuration, now: Latencies | None, cost_factor: Decimal | None
) -> Criterion:
    terms, current = proposal.terms, proposal.current
    after = _per_million(chosen.price_per_hour, terms)
    # What runs costs less only because it does not carry the load: then it is no measure.
    carries = now is not None and keeps_targets(now, terms.slo_class)
    before = _per_million(held_price(current, proposal.market.pools), terms) if current and carries else None
    return _cost(
        after,
        before,
        terms.slo_class,
        cost_factor,
        source="plan",
        currency=proposal.endpoint.tenant.currency,
        incomparable=_NOTHING_RUNS if now is None else "",
    )


def _per_million(price_per_hour: Decimal, terms: OrderTerms) -> Decimal | None:
    """Give the price of a million tokens, input and output, at the load of the terms."""
    tokens = terms.requests_per_second * (terms.input_tokens + terms.output_tokens) * 3600
    return (price_per_hour * _MILLION / Decimal(str(tokens))).quantize(_PLACES) if tokens else None


# By a report


def _measured(
    slo_class: SloClass,
    report: Sequence[Mapping[str, Any]],
    cost_factor: Decimal | None,
    latency_factor: float | None,
    currency: str,
) -> list[Criterion]:
    judged, before = report[-1], report[0] if len(report) > 1 else None
    found = [_measured_slo(slo_class, judged, before, latency_factor)]
    name = next((name for name in _COSTS if judged.get(name) is not None), "")
    if name:
        after, old = _amount(judged[name]), _amount(before.get(name)) if before else None
        why = _incomparable(before) or ("" if old is not None else "The report does not say what that costs.")
        found.append(
            _cost(after, old, slo_class, cost_factor, source="report", currency=currency, incomparable=why)
        )
    elif cost_factor is not None:
        message = "The report has no cost per million tokens."
        found.append(Criterion(name="cost", source="report", standing=Standing.UNDECIDED, message=message))
    return found


def _measured_slo(
    slo_class: SloClass,
    judged: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    latency_factor: float | None,
) -> Criterion:
    requests, failed = judged["requests"], judged["failed"]
    figures: dict[str, Any] = {"requests": requests, "failed": failed}
    wrong: list[str] = []
    unmeasured: list[str] = []
    for title, name, target in (
        ("TTFT p95", "ttft_p95_ms", slo_class.ttft_p95_ms),
        ("ITL p95", "itl_p95_ms", slo_class.itl_p95_ms),
    ):
        value, old = judged.get(name), before.get(name) if before else None
        figures |= {name: value, f"{name}_now": old, f"{name}_target": target}
        if value is None and target is not None:
            wrong.append(f"{title} was not measured")
        elif value is not None:
            wrong += _slower(title, value, target, old, latency_factor)
        if value is None or old is None:
            unmeasured.append(title)
    most = (1 - slo_class.availability) * requests
    if failed > most:
        wrong.append(f"{failed} of {requests} requests failed, {most:.2f} may")
    why = _unsound(judged)
    if why:
        return Criterion(
            name="slo", source="report", standing=Standing.UNDECIDED, message=why, figures=figures
        )
    unknown = ""
    if latency_factor is not None:
        unknown = _incomparable(before)
        if not unknown and unmeasured:
            unknown = f"{' and '.join(unmeasured)} cannot be compared: not measured of both."
    kept = "The measured p95s keep the class's targets."
    return _criterion("slo", "report", wrong, kept, figures, unknown=unknown)


def _unsound(target: Mapping[str, Any]) -> str:
    """Say why what was measured of a target tells nothing, "" where it does."""
    if target["requests"] < LEAST_REQUESTS:
        return f"{target['requests']} requests tell too little; replay at least {LEAST_REQUESTS}."
    if not target.get("kept_up", True):
        return "The replay itself was too slow to measure this; run it on a faster machine."
    return ""


def _incomparable(before: Mapping[str, Any] | None) -> str:
    """Say why nothing can be held against what runs, "" where it was measured well enough."""
    if before is None:
        return (
            "The report has one target, and no factor can be judged by it; replay against what runs as well."
        )
    why = _unsound(before)
    return f"What runs was not measured well enough to compare with. {why}" if why else ""


def _amount(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(value)).quantize(_PLACES)


# Quality


def _evaluated(run: EvaluationRun) -> Criterion:
    standings = {
        EvaluationRun.State.PASSED: Standing.KEPT,
        EvaluationRun.State.WAIVED: Standing.KEPT,
        EvaluationRun.State.FAILED: Standing.BROKEN,
        EvaluationRun.State.ERROR: Standing.UNDECIDED,
    }
    standing = standings.get(EvaluationRun.State(run.state), Standing.UNDECIDED)
    message = run.message or f"{run.version}: {run.get_state_display().lower()} with {run.score} %."
    if run.state == EvaluationRun.State.WAIVED:
        message = f"{run.version}: waived by {run.decided_as}: {run.note}"
    elif run.state in EvaluationRun.ACTIVE:
        message = (
            f"{run.version} is under way: {len(run.results)} of {run.version.prompts} prompts were asked."
        )
    figures = {
        "score": _text(run.score), "score_now": _text(run.score_before), "pass_percent": _text(run.pass_percent),
        "most_drop": _text(run.most_drop),
    }  # fmt: skip
    return Criterion(name="quality", source="evaluation", standing=standing, message=message, figures=figures)


def _to_evaluate(proposal: _Proposal) -> list[Criterion]:
    """Say which sets a rollout of the change will ask; nothing where it asks none."""
    wants, terms = _wants(proposal), proposal.terms
    if not wants:
        return []
    names = [found.name for found in sets_for(proposal.endpoint, terms.model)]
    standing = Standing.NOT_JUDGED
    message = f"The change is {', '.join(wants)}: its rollout asks {', '.join(names)} before it gets traffic."
    if not names:
        message = f"The change is {', '.join(wants)}, and there is no evaluation set for it."
        standing = Standing.BROKEN if terms.slo_class.needs_evaluation else Standing.NOT_JUDGED
    return [Criterion(name="quality", source="plan", standing=standing, message=message)]


def _wants(proposal: _Proposal) -> list[str]:
    """Say what of the change wants an evaluation."""
    current, terms, chosen = proposal.current, proposal.terms, proposal.plan.configuration
    if current is None or chosen is None:
        return []
    return planned_changes(current, chosen, terms)


# What both judge by


def _slower(
    title: str, value: float, target: int | None, before: float | None, factor: float | None
) -> list[str]:
    found = []
    if target is not None and value > target:
        found.append(f"{title} is {value:.0f} ms, the target {target} ms")
    if factor is not None and before is not None and value > before * factor:
        found.append(
            f"{title} is {value:.0f} ms, what runs has {before:.0f} ms, and {factor:g} times that may be"
        )
    return found


def _cost(
    after: Decimal | None,
    before: Decimal | None,
    slo_class: SloClass,
    asked_factor: Decimal | None,
    *,
    source: str,
    currency: str,
    incomparable: str,
) -> Criterion:
    factor = USUAL_COST_FACTOR if asked_factor is None else asked_factor
    target = slo_class.cost_target if currency == settings.CURRENCY else None
    figures = {
        "per_million_tokens": _text(after), "per_million_tokens_now": _text(before), "cost_target": _text(target),
        "currency": currency,
    }  # fmt: skip
    if after is None:
        message = "Without load no cost per million tokens can be said."
        return Criterion(
            name="cost", source=source, standing=Standing.UNDECIDED, message=message, figures=figures
        )
    wrong = []
    if target is not None and after > target:
        wrong.append(
            f"a million tokens cost {after} {currency}, the class's target is {target.normalize():f}"
        )
    if before is not None and after > before * factor:
        wrong.append(
            f"a million tokens cost {after} {currency}, with what runs {before}, and {factor:f} times that may be"
        )
    unknown = incomparable if asked_factor is not None else ""
    kept = f"A million tokens cost {after} {currency}."
    return _criterion("cost", source, wrong, kept, figures, unknown=unknown)


def _criterion(
    name: str, source: str, wrong: Sequence[str], kept: str, figures: Mapping[str, Any], *, unknown: str
) -> Criterion:
    """Judge by what is ``wrong``; where nothing is, by what stays ``unknown`` though it was asked for."""
    standing, message = Standing.KEPT, kept
    if wrong:
        told = "; ".join(wrong)
        standing, message = Standing.BROKEN, f"{told[0].upper()}{told[1:]}."
    elif unknown:
        standing, message = Standing.UNDECIDED, unknown
    return Criterion(name=name, source=source, standing=standing, message=message, figures=figures)


def _number(value: float | None) -> float | None:
    """Give a latency as JSON can say it."""
    return None if value is None or value == float("inf") else round(value, 3)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:f}"
