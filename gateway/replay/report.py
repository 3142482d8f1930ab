"""What came of a replay: the figures of each target, and everything that is needed to do it again."""

from __future__ import annotations

import datetime as dt
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.contract.replays import REPLAY_SCHEMA
from gateway.replay.arrivals import Run
from gateway.replay.client import Measured, Target
from gateway.replay.quantiles import counted, quantile

PERCENTS: Final = (50, 95, 99)

#: The replay kept up if 99 of 100 times it was late by less than this, or than this share of a median first token.
KEPT_UP_MS: Final = 10.0
KEPT_UP_SHARE: Final = 0.1


class ReportError(Exception):
    """A file that is no report of a replay; the message says what is wrong."""


class Goals(msgspec.Struct, frozen=True, kw_only=True):
    """What a good answer keeps, in milliseconds: as a class's targets."""

    ttft_ms: float | None = None
    itl_ms: float | None = None


def make_report(
    runs: Iterable[tuple[float, Run]], *, goals: Goals, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Sum up runs, each with the speed that it had; ``about`` is how they came about."""
    return {
        "schema": REPLAY_SCHEMA,
        **about,
        "goals": msgspec.to_builtins(goals),
        "targets": [{"speed": speed, **summarize(run, goals)} for speed, run in runs],
    }


def read_report(data: bytes, name: str) -> dict[str, Any]:
    """Read what ``--out`` or ``--json`` wrote.

    Raises:
        ReportError: it is something else.
    """
    try:
        report = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{name} is no JSON: {error}") from None
    schema = report.get("schema") if isinstance(report, dict) else None
    if schema != REPLAY_SCHEMA:
        raise ReportError(
            f"{name} is no report of a replay with the schema {REPLAY_SCHEMA}; it has {schema!r}."
        )
    return dict(report)


def summarize(run: Run, goals: Goals) -> dict[str, Any]:
    """Sum up one target. Latencies and tokens are of requests that came to their end.

    ``ttft`` and ``answer`` run from the sending, ``ttft_due`` and ``answer_due`` from the moment at which the trace
    had the request: those a client feels who does not wait for others, and they hold the replay's own lateness.
    ``itl`` is over tokens: where pieces of an answer hold several, each gap counts for as many, evenly. ``tpot`` is
    each request's mean.
    """
    target, measured, seconds = run.target, run.measured, run.seconds
    good = [each for each in measured if not each.failure]
    tokens = {
        name: sum(getattr(each, name) for each in good)
        for name in ("input_tokens", "cached_tokens", "output_tokens")
    }
    figures: dict[str, Any] = {
        "target": target.name,
        "url": target.url,
        "model": target.model,
        "gpus": target.gpus,
        "server": run.server,
        "began_at": dt.datetime.fromtimestamp(run.began, dt.UTC).isoformat(timespec="milliseconds"),
        "requests": len(measured),
        "requests_by_minute": _by_minute(measured),
        "completed": len(good),
        "failed": len(measured) - len(good),
        "failed_percent": _share(len(measured) - len(good), len(measured)),
        "failures": dict(Counter(each.failure for each in measured if each.failure).most_common()),
        "seconds": round(seconds, 3),
        "requests_per_s": _rate(len(good), seconds),
        "mean_in_flight": _rate(sum(each.total_s or 0.0 for each in good), seconds),
        "most_in_flight": run.most_in_flight,
        **tokens,
        **_lengths(good),
        "input_tokens_per_s": _rate(tokens["input_tokens"], seconds),
        "output_tokens_per_s": _rate(tokens["output_tokens"], seconds),
        "output_tokens_per_s_per_gpu": _per(_rate(tokens["output_tokens"], seconds), target.gpus),
        "tokens_per_s_per_gpu": _per(
            _rate(tokens["input_tokens"] + tokens["output_tokens"], seconds), target.gpus
        ),
    }
    gaps = [pair for each in good for pair in token_gaps_ms(each)]
    figures["tokens_per_piece"] = round(sum(weight for _, weight in gaps) / len(gaps), 3) if gaps else None
    figures |= _times(good, gaps)
    figures |= _goodput(measured, goals, seconds)
    figures |= _money(target, tokens, seconds)
    figures |= _own(run, figures["ttft_p50_ms"])
    figures["answers"] = [_row(each) for each in measured]
    return figures


def token_gaps_ms(measured: Measured) -> list[tuple[float, float]]:
    """Give a request's times between tokens in milliseconds, each with how many tokens it counts for."""
    gaps = measured.gaps_s
    if not gaps:
        return []
    each = max(1.0, (measured.output_tokens - 1) / len(gaps))
    return [(gap * 1000 / each, each) for gap in gaps]


def tpot_ms(measured: Measured) -> float | None:
    """Give a request's mean time between tokens; None where there was one token or none."""
    gaps = measured.gaps_s
    return sum(gaps) * 1000 / max(len(gaps), measured.output_tokens - 1) if gaps else None


def _by_minute(measured: Sequence[Measured]) -> list[int]:
    counts = Counter(int(each.at_s // 60) for each in measured)
    return [counts[minute] for minute in range(max(counts, default=-1) + 1)]


def _lengths(good: Sequence[Measured]) -> dict[str, float | None]:
    """Mean lengths and their spread: the standard deviation over the mean."""
    figures: dict[str, float | None] = {}
    for name in ("input", "output"):
        lengths = [getattr(each, f"{name}_tokens") for each in good]
        mean = statistics.fmean(lengths) if lengths else None
        figures[f"mean_{name}_tokens"] = _rounded(mean)
        figures[f"{name}_cv"] = _rounded(statistics.pstdev(lengths) / mean) if mean else None
    return figures


def _times(good: Sequence[Measured], gaps: Sequence[tuple[float, float]]) -> dict[str, float | None]:
    kinds: dict[str, list[tuple[float, float]]] = {
        "ttft": [(each.ttft_s * 1000, 1) for each in good if each.ttft_s is not None],
        "ttft_due": [((each.late_s + each.ttft_s) * 1000, 1) for each in good if each.ttft_s is not None],
        "itl": list(gaps),
        "tpot": [(mean, 1) for each in good if (mean := tpot_ms(each)) is not None],
        "answer": [(each.total_s * 1000, 1) for each in good if each.total_s is not None],
        "answer_due": [((each.late_s + each.total_s) * 1000, 1) for each in good if each.total_s is not None],
    }
    figures: dict[str, float | None] = {}
    for name, values in kinds.items():
        weight = sum(each for _, each in values)
        figures[f"{name}_mean_ms"] = (
            round(sum(value * each for value, each in values) / weight, 3) if weight else None
        )
        for percent in PERCENTS:
            figures[f"{name}_p{percent}_ms"] = _rounded(quantile(values, percent))
    return figures


def is_good(measured: Measured, goals: Goals) -> bool:
    """Tell whether a request was answered within the goals, from when it was due."""
    if measured.failure or measured.ttft_s is None:
        return False
    if goals.ttft_ms is not None and (measured.late_s + measured.ttft_s) * 1000 > goals.ttft_ms:
        return False
    mean = tpot_ms(measured)
    return goals.itl_ms is None or mean is None or mean <= goals.itl_ms


def _goodput(measured: Sequence[Measured], goals: Goals, seconds: float) -> dict[str, float | None]:
    if goals.ttft_ms is None and goals.itl_ms is None:
        return {"goodput_percent": None, "goodput_requests_per_s": None}
    good = sum(is_good(each, goals) for each in measured)
    return {
        "goodput_percent": _share(good, len(measured)),
        "goodput_requests_per_s": _rate(good, seconds),
    }


def _money(target: Target, tokens: Mapping[str, int], seconds: float) -> dict[str, float | None]:
    """Cost at the prices of tokens, and at the price of the GPUs while they served."""
    used = None
    if target.input_price is not None and target.output_price is not None:
        cached_price = target.input_price if target.cached_price is None else target.cached_price
        used = (
            (tokens["input_tokens"] - tokens["cached_tokens"]) * target.input_price
            + tokens["cached_tokens"] * cached_price
            + tokens["output_tokens"] * target.output_price
        ) / 1e6
    held = None
    if target.gpu_price is not None and target.gpus is not None:
        held = target.gpu_price * target.gpus * seconds / 3600
    every = tokens["input_tokens"] + tokens["output_tokens"]
    figures = {}
    for name, amount in (("cost", used), ("gpu_cost", held)):
        figures[name] = None if amount is None else round(amount, 9)
        figures[f"{name}_per_million_tokens"] = _per_million(amount, every)
        figures[f"{name}_per_million_output_tokens"] = _per_million(amount, tokens["output_tokens"])
    return figures


def _own(run: Run, ttft_ms: float | None) -> dict[str, Any]:
    """How late the replay itself was, and whether that is small beside what was measured."""
    late = _rounded(quantile([(each.late_s * 1000, 1) for each in run.measured], 99))
    behind = _rounded(quantile([(each * 1000, 1) for each in run.behind_s], 99))
    allowed = max(KEPT_UP_MS, KEPT_UP_SHARE * (ttft_ms or 0.0))
    return {
        "sent_late_p99_ms": late,
        "heard_late_p99_ms": behind,
        "kept_up": max(late or 0.0, behind or 0.0) <= allowed,
    }


def _row(measured: Measured) -> dict[str, Any]:
    """One request, as far as comparing needs it. ``itl`` counts tokens by bucket of the time before them."""
    row: dict[str, Any] = {
        "at_s": round(measured.at_s, 4),
        "late_ms": round(measured.late_s * 1000, 3),
        "ttft_ms": _rounded(None if measured.ttft_s is None else measured.ttft_s * 1000),
        "total_ms": _rounded(None if measured.total_s is None else measured.total_s * 1000),
        "tpot_ms": _rounded(tpot_ms(measured)),
        "input_tokens": measured.input_tokens,
        "output_tokens": measured.output_tokens,
        "cached_tokens": measured.cached_tokens,
    }
    if measured.failure:
        row["failure"] = measured.failure
    if gaps := token_gaps_ms(measured):
        row["itl"] = [[name, round(count, 3)] for name, count in counted(gaps).items()]
    return row


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _rate(amount: float, seconds: float) -> float | None:
    return round(amount / seconds, 3) if seconds > 0 else None


def _per(amount: float | None, count: float | None) -> float | None:
    return round(amount / count, 3) if amount is not None and count else None


def _per_million(amount: float | None, tokens: int) -> float | None:
    return round(amount / tokens * 1e6, 6) if amount is not None and tokens else None


def _share(part: int, whole: int) -> float | None:
    return round(part / whole * 100, 3) if whole else None
